//! `Idempotency-Key`: a request that makes something is done once, however often
//! it is sent.
//!
//! What was answered with success is kept for a day and answered again; what was
//! refused changed nothing and may be tried again. The one rule: once begun, a
//! request goes on to its end although its caller is gone, for whoever sends a
//! key does so because connections break. It keeps its place until then, and the
//! server does not end before it.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use crate::access::role::Role;
use crate::app::App;
use crate::auth::operator::{self, Administer, Need, Operate, OperateFleet, Operator, Reach, View};
use crate::auth::{bearer, cookie};
use crate::budget::Place;
use crate::clock::unix_millis;
use crate::extract;
use crate::problem::{Problem, chain};
use crate::request_id;
use crate::seal::Seal;
use crate::store::idempotency::{Begun, KeptAnswer, Once};
use crate::token::{Token, hex};

/// What the caller names a request by.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest key, in characters.
const MAX_KEY: usize = 128;
/// Largest answer that is kept, in bytes: that to the largest order.
const MAX_ANSWER: usize = 4 << 20;
/// How often is tried to keep an answer when the database is away, and for how long.
const AGAIN_FIRST: Duration = Duration::from_millis(500);
const AGAIN_MOST: Duration = Duration::from_secs(5);
const AGAIN_UNTIL: Duration = Duration::from_secs(3600);

/// A route that makes something, or changes many things, and takes a key.
struct Creating {
    /// As in its document; an id stands for what is between two slashes.
    path: &'static str,
    /// What its handler needs, so that nobody else's key is written.
    needs: (Role, Reach),
    /// Whether what it answers is secret, a new token or password.
    is_secret: bool,
}

const fn creating<N: Need>(path: &'static str, is_secret: bool) -> Creating {
    Creating {
        path,
        needs: (N::ROLE, N::REACH),
        is_secret,
    }
}

/// All of them. An uploaded package takes no key: there is one place for it.
const CREATING: [Creating; 11] = [
    creating::<View>("/api/v1/api-tokens", true),
    creating::<OperateFleet>("/api/v1/enrolment-tokens", true),
    creating::<OperateFleet>("/api/v1/groups", false),
    creating::<OperateFleet>("/api/v1/groups/{id}/hosts/bulk", false),
    creating::<Operate>("/api/v1/hosts/bulk", false),
    creating::<Operate>("/api/v1/jobs", false),
    creating::<OperateFleet>("/api/v1/assignments", false),
    creating::<Operate>("/api/v1/rollouts", false),
    creating::<Operate>("/api/v1/rollouts/{id}/retry", false),
    creating::<Operate>("/api/v1/rollouts/{id}/revert", false),
    creating::<Administer>("/api/v1/users", true),
];

impl Creating {
    fn is_at(&self, path: &str) -> bool {
        match self.path.split_once("{id}") {
            None => self.path == path,
            Some((before, after)) => {
                let id = path.strip_prefix(before);
                let id = id.and_then(|rest| rest.strip_suffix(after));
                id.is_some_and(|id| !id.contains('/'))
            }
        }
    }
}

/// Does a request with a key once.
pub async fn once(app: &App, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let route = CREATING.iter().find(|route| route.is_at(path));
    let (Some(route), &Method::POST) = (route, request.method()) else {
        return next.run(request).await;
    };
    if !request.headers().contains_key(&KEY) {
        return next.run(request).await;
    }
    let place = request.extensions().get::<Place>().cloned();
    let piece = app.work.begin();
    let app = app.clone();
    let task = tokio::spawn(request_id::with_current(async move {
        let answer = answer(&app, route, request, next).await;
        drop((place, piece));
        answer.unwrap_or_else(IntoResponse::into_response)
    }));
    task.await
        .unwrap_or_else(|_| Problem::internal().into_response())
}

async fn answer(
    app: &App,
    route: &Creating,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (role, reach) = route.needs;
    let operator = operator::operator(&parts, app).await.ok().flatten();
    let operator = operator.filter(|operator| operator::allowed(operator, role, reach).is_ok());
    let Some(operator) = operator else {
        // The handler says why not.
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let key = key(&parts.headers)?.to_owned();
    let credential = bearer(&parts)
        .ok()
        .or_else(|| cookie::token(&parts.headers));
    let credential = credential.as_ref().map_or("", Token::expose);
    let bytes = extract::read(&parts.headers, body, app.bounds.request_timeout).await?;
    let once = Once {
        caller: digest(&[b"caller", credential.as_bytes()]),
        key: digest(&[b"key", key.as_bytes()]),
        request: request_digest(&parts.uri, &operator, &bytes),
    };
    // Local root shows nothing, and a key alone may be guessed.
    let seal = match route.is_secret && credential.is_empty() {
        true => None,
        false => Some(Seal::of(&["idempotency", &key, credential])),
    };
    match app.store.begin_once(&once, unix_millis()).await? {
        Begun::New => {}
        Begun::Running => {
            return Err(Problem::conflict(
                "a request with this Idempotency-Key is not answered yet, or never was because \
                 the server ended; look whether it was done before you use another key",
            ));
        }
        Begun::Other => {
            return Err(Problem::invalid(
                "Idempotency-Key: it came with another request before; use a new one",
            ));
        }
        Begun::Answered(answer) => return replayed(&answer, seal.as_ref()),
    }
    let response = next
        .run(Request::from_parts(parts, Body::from(bytes)))
        .await;
    Ok(kept(app, once, seal.as_ref(), response).await)
}

/// Keeps an answer that says that something was made.
async fn kept(app: &App, once: Once, seal: Option<&Seal>, response: Response) -> Response {
    if !response.status().is_success() {
        note(app, once, None).await;
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, MAX_ANSWER).await else {
        tracing::error!("an answer is larger than is kept");
        return Problem::internal().into_response();
    };
    let etag = parts.headers.get(header::ETAG);
    let etag = etag.and_then(|value| value.to_str().ok());
    let answer = KeptAnswer {
        status: parts.status.as_u16(),
        etag: etag.map(str::to_owned),
        body: seal.map(|seal| seal.seal(&bytes)),
    };
    note(app, once, Some(answer)).await;
    Response::from_parts(parts, Body::from(bytes))
}

/// Notes how it ended. When the database is away in this moment, the caller need
/// not wait until it is back.
async fn note(app: &App, once: Once, answer: Option<KeptAnswer>) {
    let Err(error) = app.store.end_once(&once, answer.as_ref()).await else {
        return;
    };
    let error = chain(&error);
    tracing::warn!(error, "how a request with a key was answered is kept later");
    let (store, piece) = (app.store.clone(), app.work.begin());
    tokio::spawn(request_id::with_current(async move {
        let begun = Instant::now();
        let mut pause = AGAIN_FIRST;
        loop {
            sleep(pause).await;
            match store.end_once(&once, answer.as_ref()).await {
                Ok(()) => break,
                Err(error) if begun.elapsed() > AGAIN_UNTIL => {
                    let error = chain(&error);
                    tracing::error!(error, "how a request with a key was answered is not kept");
                    break;
                }
                Err(_) => pause = (pause * 2).min(AGAIN_MOST),
            }
        }
        drop(piece);
    }));
}

fn replayed(answer: &KeptAnswer, seal: Option<&Seal>) -> Result<Response, Problem> {
    let (Some(body), Some(seal)) = (&answer.body, seal) else {
        return Err(Problem::conflict(&format!(
            "a request with this Idempotency-Key was done and answered with {}; the answer held a \
             secret, which is kept for nobody on the Unix socket: look what was made, and make \
             another with a new key",
            answer.status
        )));
    };
    let bytes = seal.open(body).ok_or_else(|| {
        tracing::error!("an answer that was kept does not open");
        Problem::internal()
    })?;
    let status = StatusCode::from_u16(answer.status).map_err(|_| Problem::internal())?;
    let mut response = (status, bytes).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    if let Some(etag) = &answer.etag
        && let Ok(etag) = HeaderValue::from_str(etag)
    {
        headers.insert(header::ETAG, etag);
    }
    Ok(response)
}

fn key(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut given = headers.get_all(&KEY).iter();
    let first = given.next().and_then(|value| value.to_str().ok());
    let is_one = given.next().is_none();
    first
        .filter(|key| is_one && (1..=MAX_KEY).contains(&key.len()))
        .filter(|key| key.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or_else(|| {
            Problem::malformed(&format!(
                "Idempotency-Key: one of 1 to {MAX_KEY} printable characters is expected"
            ))
        })
}

/// Of what must be the same when it comes again; also of what the caller may do:
/// who may less by now is not told what was answered to them before.
fn request_digest(uri: &Uri, operator: &Operator, body: &[u8]) -> String {
    // The query, too: a change of many hosts says there of which.
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let scope = operator.scope.to_texts().join("\n");
    let role = operator.role.as_str();
    digest(&[path.as_bytes(), role.as_bytes(), scope.as_bytes(), body])
}

fn digest(parts: &[&[u8]]) -> String {
    let mut sum = Sha256::new();
    for part in parts {
        sum.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        sum.update(part);
    }
    hex(&sum.finalize())
}
