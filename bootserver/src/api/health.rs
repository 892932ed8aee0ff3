//! GET /healthz and /readyz, for load balancers.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tokio::time::{Instant, timeout};
use utoipa::ToSchema;

use crate::app::App;
use crate::ingest::Writer;
use crate::life::Phase;
use crate::openapi::Busy;
use crate::problem::Problem;
use crate::store;

/// How long the database may take to answer: load balancers ask every few
/// seconds.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// How long an answer of the database holds: anybody may ask for it, and it takes
/// one of the few connections by which callers are looked up.
const READY_FOR: Duration = Duration::from_secs(1);

/// That all is well.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`
    #[schema(example = "ok")]
    pub status: &'static str,
}

/// Whether the process runs.
#[utoipa::path(
    get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "The process runs", body = Health), Busy)
)]
pub async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether the database answers, statuses are written, and the server is not
/// about to end.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, description = "Requests are served", body = Health), Busy)
)]
pub async fn readyz(State(app): State<App>) -> Result<Json<Health>, Problem> {
    if app.edge.life.phase() != Phase::Serving {
        return Err(Problem::unavailable("the server is about to end"));
    }
    match app.ingest.writer() {
        Writer::Well => {}
        Writer::Stuck => {
            let detail = "the database takes too long to store statuses";
            return Err(Problem::unavailable(detail));
        }
        Writer::Ended => return Err(Problem::unavailable("statuses are not stored any more")),
    }
    timeout(READY_WITHIN, ask(&app))
        .await
        .map_err(|_| Problem::unavailable("the database does not answer in time"))??;
    Ok(Json(Health { status: "ok" }))
}

async fn ask(app: &App) -> store::Result<()> {
    let mut answered = app.answered.lock().await;
    if answered.is_some_and(|at| at.elapsed() < READY_FOR) {
        return Ok(());
    }
    app.store.ping().await?;
    *answered = Some(Instant::now());
    Ok(())
}
