//! POST /agent/status: a host says how it is and gets its orders.

use axum::Json;
use axum::extract::State;
use bootagent_protocol::{StatusReply, StatusRequest};

use crate::app::App;
use crate::auth::Host;
use crate::clock::unix_millis;
use crate::extract::HostBody;
use crate::fleet::handout::More;
use crate::ingest::Refused;
use crate::openapi::{BadBody, Guarded, StatusReplySchema, StatusRequestSchema};
use crate::problem::Problem;
use crate::wire;

/// Seconds until a host comes back for orders that did not fit one reply.
const NEXT_SECONDS: u64 = 10;

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
    host: Host,
    State(app): State<App>,
    HostBody(request): HostBody<StatusRequest>,
) -> Result<Json<StatusReply>, Problem> {
    let invalid = |error: wire::WireError| Problem::invalid(&error.to_string());
    if wire::agentsn(&request.agentsn).map_err(invalid)? != host.agentsn {
        return Err(Problem::unauthorized(
            "the secret belongs to another agentsn",
        ));
    }
    let agentsn = host.agentsn.clone();
    let record = wire::status_record(host.agentsn, request, unix_millis()).map_err(invalid)?;
    let outcome = app
        .ingest
        .submit(record)
        .await
        .map_err(|refused| match refused {
            Refused::Later => {
                Problem::unavailable("too many statuses are waiting; try again later")
            }
            Refused::Never => Problem::internal(),
        })?;
    for job in &outcome.ignored_results {
        tracing::info!(
            agentsn,
            job,
            "a result was ignored: not this host's job, or not its first"
        );
    }
    let jobs = outcome
        .jobs
        .into_iter()
        .map(|(id, body)| wire::job_on_the_wire(&id, body));
    Ok(Json(StatusReply {
        status: 0,
        jobs: jobs.collect(),
        next: (outcome.more == More::Waiting).then_some(NEXT_SECONDS),
        ..StatusReply::default()
    }))
}
