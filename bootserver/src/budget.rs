//! How much of the server each kind of request may take, so that hosts, who are
//! many and come all at once, cannot starve operators, who are few.
//!
//! A class has places (requests at once) and a rate. Who finds no place waits
//! its turn for a moment, so that a fleet that comes back is worked off in
//! order. The one rule: a request is judged by its route, never by its
//! address, because a whole site of hosts may share one.

mod bucket;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::app::App;
use crate::problem::Problem;
use bucket::Bucket;

/// How long a request waits for a place. Hosts have deadlines of their own, and
/// a busy server says so before they pass.
const WAIT: Duration = Duration::from_secs(5);

/// What a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteClass {
    /// A host registers.
    Enrol,
    /// A host says how it is.
    Status,
    /// A host fetches a package.
    Download,
    /// What operators and their programs call.
    Operator,
    /// Every row of a list in one answer: long work, so few at once.
    Export,
    /// An operator listens to what changes, for as long as they want.
    Stream,
    /// Signing in: the one thing of operators that strangers can call, so it
    /// must not take the places of those who are in.
    SignIn,
    /// Probes, and what is nowhere: answered without work.
    Other,
}

impl RouteClass {
    /// By path alone.
    pub fn of(path: &str) -> Self {
        match path {
            "/agent/register" => Self::Enrol,
            _ if path.starts_with("/agent/") => Self::Status,
            _ if path.starts_with("/packages/") => Self::Download,
            "/api/v1/session" => Self::SignIn,
            _ if path.starts_with("/api/v1/exports/") => Self::Export,
            "/metrics" => Self::Operator,
            "/api/v1/stream" => Self::Stream,
            _ if path.starts_with("/api/") => Self::Operator,
            _ => Self::Other,
        }
    }

    /// As metrics say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enrol => "enrol",
            Self::Status => "status",
            Self::Download => "download",
            Self::Operator => "operator",
            Self::Export => "export",
            Self::SignIn => "sign_in",
            Self::Stream => "stream",
            Self::Other => "other",
        }
    }
}

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// More per second than the class has.
    Rate,
    /// No place became free in time.
    Places,
}

impl Rejection {
    /// As metrics say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Places => "places",
        }
    }
}

/// What one class has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Requests at once.
    pub at_once: usize,
    /// Requests per second; twice as many may come in the first.
    pub per_second: u32,
}

/// What every class has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shares {
    /// Registrations.
    pub enrol: Share,
    /// Statuses and whatever else hosts say.
    pub status: Share,
    /// Packages; a place is taken until the last byte is sent.
    pub download: Share,
    /// Operators.
    pub operator: Share,
    /// Exports; a place is taken until the last row is sent, or nobody takes more.
    pub export: Share,
    /// Those who want to be one.
    pub sign_in: Share,
    /// Who follows what changes; a place is taken until the stream ends.
    pub stream: Share,
    /// Streams one user or token may have at once.
    pub streams_per_operator: usize,
}

impl Default for Shares {
    fn default() -> Self {
        let share = |at_once, per_second| Share {
            at_once,
            per_second,
        };
        Self {
            // Each is a commit of its own.
            enrol: share(32, 1000),
            // Twice what one batch takes: one is written while the next comes in.
            status: share(2000, 20_000),
            download: share(256, 1000),
            operator: share(128, 1000),
            // Half of SQLite's readers, so that lists have the others.
            export: share(2, 100),
            sign_in: share(16, 100),
            stream: share(1000, 100),
            // Some screens with some windows each.
            streams_per_operator: 30,
        }
    }
}

impl Shares {
    /// Names what cannot be.
    pub fn check(&self) -> anyhow::Result<()> {
        for (name, share) in [
            ("enrol", self.enrol),
            ("status", self.status),
            ("download", self.download),
            ("operator", self.operator),
            ("export", self.export),
            ("sign_in", self.sign_in),
            ("stream", self.stream),
        ] {
            anyhow::ensure!(
                (1..=1_000_000).contains(&share.at_once)
                    && (1..=1_000_000).contains(&share.per_second),
                "budget.{name}: at_once and per_second are 1 to 1000000"
            );
        }
        anyhow::ensure!(
            (1..=1_000_000).contains(&self.streams_per_operator),
            "budget.streams_per_operator: 1 to 1000000 is expected"
        );
        Ok(())
    }
}

/// One class at work.
#[derive(Debug)]
struct Class {
    places: Arc<Semaphore>,
    bucket: Mutex<Bucket>,
}

impl Class {
    fn new(share: Share) -> Self {
        Self {
            places: Arc::new(Semaphore::new(share.at_once)),
            bucket: Mutex::new(Bucket::new(share.per_second, Instant::now())),
        }
    }

    async fn enter(&self, wait: Duration) -> Result<OwnedSemaphorePermit, Rejection> {
        let in_rate = {
            let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(Instant::now())
        };
        if !in_rate {
            return Err(Rejection::Rate);
        }
        let places = self.places.clone();
        match timeout(wait, places.acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(Rejection::Places),
        }
    }
}

/// All classes at work.
#[derive(Debug)]
pub struct Budgets {
    enrol: Class,
    status: Class,
    download: Class,
    operator: Class,
    export: Class,
    sign_in: Class,
    stream: Class,
    /// Streams one user or token may have at once.
    pub streams_per_operator: usize,
}

impl Budgets {
    /// With nothing taken yet.
    pub fn new(shares: Shares) -> Self {
        Self {
            enrol: Class::new(shares.enrol),
            status: Class::new(shares.status),
            download: Class::new(shares.download),
            operator: Class::new(shares.operator),
            export: Class::new(shares.export),
            sign_in: Class::new(shares.sign_in),
            stream: Class::new(shares.stream),
            streams_per_operator: shares.streams_per_operator,
        }
    }

    fn class(&self, class: RouteClass) -> Option<&Class> {
        match class {
            RouteClass::Enrol => Some(&self.enrol),
            RouteClass::Status => Some(&self.status),
            RouteClass::Download => Some(&self.download),
            RouteClass::Operator => Some(&self.operator),
            RouteClass::Export => Some(&self.export),
            RouteClass::SignIn => Some(&self.sign_in),
            RouteClass::Stream => Some(&self.stream),
            RouteClass::Other => None,
        }
    }
}

/// The place a request takes, for work that goes on behind its answer or after its
/// connection.
#[derive(Debug, Clone)]
pub struct Place(
    #[expect(dead_code, reason = "kept until it is dropped")] Arc<OwnedSemaphorePermit>,
);

/// Lets a request in when its class has room for it.
pub async fn admit<F: Future<Output = Response>>(
    app: &App,
    mut request: Request,
    within: impl FnOnce(Request) -> F,
) -> Response {
    let class = RouteClass::of(request.uri().path());
    let Some(budget) = app.edge.budgets.class(class) else {
        return within(request).await;
    };
    // These may take their places for long: who finds none waits better at home.
    let wait = match class {
        RouteClass::Download | RouteClass::Stream => Duration::ZERO,
        _ => WAIT,
    };
    match budget.enter(wait).await {
        Ok(place) => match class {
            RouteClass::Download | RouteClass::Stream => until_sent(within(request).await, place),
            RouteClass::Operator | RouteClass::Export => {
                let place = Place(Arc::new(place));
                request.extensions_mut().insert(place.clone());
                let response = within(request).await;
                drop(place);
                response
            }
            _ => {
                let response = within(request).await;
                drop(place);
                response
            }
        },
        Err(rejection) => {
            app.edge.metrics.rejected(class, rejection);
            let chance = getrandom::u32().unwrap_or_default();
            match (class, rejection) {
                (RouteClass::Download | RouteClass::Stream, _) | (_, Rejection::Rate) => {
                    Problem::too_many(chance)
                }
                (_, Rejection::Places) => Problem::busy(chance),
            }
            .into_response()
        }
    }
}

/// Keeps the place until the body was sent or given up.
fn until_sent(response: Response, place: OwnedSemaphorePermit) -> Response {
    response.map(|body| {
        Body::new(Held {
            body,
            _place: place,
        })
    })
}

/// A body that keeps a place; everything else is as it was, its length too.
struct Held {
    body: Body,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(at_once: usize, per_second: u32) -> Class {
        Class::new(Share {
            at_once,
            per_second,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_waits_its_turn_and_not_for_ever() {
        let class = share(1, 1000);
        let place = class.enter(WAIT).await.expect("the only place");
        assert_eq!(class.enter(WAIT).await.err(), Some(Rejection::Places));
        let (second, ()) = tokio::join!(class.enter(WAIT), async {
            tokio::time::sleep(WAIT / 2).await;
            drop(place);
        });
        drop(second.expect("the place that became free"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_class_that_is_full_leaves_the_others_their_places() {
        let budgets = Budgets::new(Shares {
            status: Share {
                at_once: 1,
                per_second: 1,
            },
            ..Shares::default()
        });
        let enter = async |class| {
            let class = budgets.class(class).expect("a class with a budget");
            class.enter(Duration::ZERO).await
        };
        let held = enter(RouteClass::Status).await.expect("the only place");
        assert!(enter(RouteClass::Status).await.is_err());
        drop(
            enter(RouteClass::Operator)
                .await
                .expect("a place of its own"),
        );
        drop(enter(RouteClass::Enrol).await.expect("a place of its own"));
        drop(held);
        // Two came in this second: the rate is used up, though there is room.
        assert_eq!(enter(RouteClass::Status).await.err(), Some(Rejection::Rate));
    }

    #[test]
    fn each_route_has_its_class() {
        for (path, class) in [
            ("/agent/register", "enrol"),
            ("/agent/status", "status"),
            ("/agent/task/pull", "status"),
            ("/packages/a/b", "download"),
            ("/api/v1/packages", "operator"),
            ("/api/v1/exports/hosts", "export"),
            ("/api/v1/session", "sign_in"),
            ("/metrics", "operator"),
            ("/api/v1/stream", "stream"),
            ("/healthz", "other"),
            ("/nowhere", "other"),
        ] {
            assert_eq!(RouteClass::of(path).as_str(), class);
        }
    }
}
