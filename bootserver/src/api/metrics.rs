//! GET /metrics, for Prometheus: with an API token on the API's own addresses,
//! without one on `metrics_listen`.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::app::App;
use crate::auth::{May, ViewFleet};
use crate::openapi::Allowed;
use crate::problem::Problem;

/// The text format of Prometheus.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the server counts.
#[utoipa::path(
    operation_id = "get_metrics",
    get, path = "/metrics", tag = "health",
    responses(
        (status = 200, description = "Metrics in the text format of Prometheus",
         body = String, content_type = "text/plain"),
        Allowed
    ),
    security(("operator" = ["viewer", "fleet"]))
)]
pub async fn metrics(_: May<ViewFleet>, State(app): State<App>) -> Result<Response, Problem> {
    text(&app)
}

/// The router of the address that serves nothing else.
pub fn open(app: App) -> Router {
    Router::new()
        .route("/metrics", get(async |State(app): State<App>| text(&app)))
        .fallback(async || Problem::not_found("path"))
        .with_state(app)
}

fn text(app: &App) -> Result<Response, Problem> {
    let text = app.edge.metrics.text().map_err(|_| Problem::internal())?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
