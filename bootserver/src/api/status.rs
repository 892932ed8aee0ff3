//! POST /agent/status: a host says how it is and gets its orders.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use bootagent_protocol::{StatusReply, StatusRequest};

use crate::app::App;
use crate::auth::{Pusher, random};
use crate::clock::unix_millis;
use crate::extract::HostBody;
use crate::fleet::clone::Verdict;
use crate::fleet::{pace, presence, secret};
use crate::ingest::Refused;
use crate::openapi::{BadBody, Guarded, StatusReplySchema, StatusRequestSchema};
use crate::problem::{Problem, chain};
use crate::store::host::{Offer, Offered};
use crate::store::status::{Rotation, StatusOutcome};
use crate::token::{Token, TokenKind};
use crate::wire;

/// Statuses a second the whole fleet may push. A larger one is slowed down.
const MAX_PER_SECOND: u64 = 10_000;

/// Takes a status. Any 2xx acknowledges its results and events: they are
/// stored by then.
#[utoipa::path(
    operation_id = "push_status",
    post, path = "/agent/status", tag = "agent",
    request_body(content = StatusRequestSchema, content_type = "application/json"),
    responses((status = 200, description = "Stored", body = StatusReplySchema), BadBody, Guarded),
    security(("host" = []))
)]
pub async fn status(
    pusher: Pusher,
    State(app): State<App>,
    HostBody(request): HostBody<StatusRequest>,
) -> Result<Json<StatusReply>, Problem> {
    let invalid = |error: wire::WireError| Problem::invalid(&error.to_string());
    if wire::agentsn(&request.agentsn).map_err(invalid)? != pusher.agentsn {
        return Err(Problem::unauthorized(
            "the secret belongs to another agentsn",
        ));
    }
    let step = request.step;
    let online = app.fleet_size.load(Ordering::Relaxed);
    let slowed = pace::slowed(step, online, MAX_PER_SECOND, random);
    let arrival = wire::Arrival {
        agentsn: pusher.agentsn.clone(),
        number: pusher.number,
        every: presence::interval(step, slowed),
        now: unix_millis(),
    };
    let record = wire::status_record(arrival, request).map_err(invalid)?;
    let outcome = app.ingest.submit(record).await.map_err(later)?;
    let stored = match outcome {
        StatusOutcome::Stored(stored) => stored,
        StatusOutcome::SecretChanged => return Err(secret_changed(&app, &pusher).await?),
    };
    let agentsn = pusher.agentsn.as_str();
    for job in &stored.ignored_results {
        tracing::info!(
            agentsn,
            job,
            "a result was ignored: not this host's job, or not its first"
        );
    }
    let is_copy = stored.verdict == Verdict::Copy;
    if is_copy {
        tracing::warn!(
            agentsn,
            "two machines share this identity; one registers again"
        );
    }
    // A new secret for one of two that share the old one would lock the other out.
    let token = match stored.rotation {
        Rotation::Due if !is_copy => rotate(&app, &pusher).await,
        Rotation::Due | Rotation::None => None,
    };
    let jobs = stored
        .jobs
        .into_iter()
        .map(|(id, body)| wire::job_on_the_wire(&id, body));
    Ok(Json(StatusReply {
        status: 0,
        jobs: jobs.collect(),
        next: pace::next(stored.more, slowed),
        register: is_copy.then_some(true),
        token,
    }))
}

fn later(refused: Refused) -> Problem {
    match refused {
        Refused::Later => Problem::unavailable("too many statuses are waiting; try again later"),
        Refused::Never => Problem::internal(),
    }
}

/// What this replica remembered of the secret does not hold any more. If it
/// holds in another way, the host comes again.
async fn secret_changed(app: &App, pusher: &Pusher) -> Result<Problem, Problem> {
    app.secrets.forget(&pusher.secret);
    Ok(match app.store.secret_owner(&pusher.secret).await? {
        Some(_) => Problem::unavailable("the secret was replaced just now; try again"),
        None => Problem::unauthorized("the secret was revoked or replaced"),
    })
}

/// A new secret, if it could be stored. The status is acknowledged either way.
async fn rotate(app: &App, pusher: &Pusher) -> Option<String> {
    let token = Token::generate(TokenKind::Host);
    let now = unix_millis();
    let offer = Offer {
        agentsn: pusher.agentsn.clone(),
        number: pusher.number,
        secret: token.digest(),
        now,
        again: secret::offer_again(now),
    };
    match app.store.offer_secret(&offer).await {
        Ok(Offered::Done) => Some(token.expose().to_owned()),
        Ok(Offered::Changed) => None,
        Err(error) => {
            let (agentsn, error) = (&pusher.agentsn, chain(&error));
            tracing::warn!(agentsn, error, "a host got no new secret");
            None
        }
    }
}
