//! GET /api/v1/job-results: what came of orders.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::events::{ArrivalParams, host_param};
use super::list::{self, List};
use crate::app::App;
use crate::auth::{May, View};
use crate::extract::Params;
use crate::openapi::{Allowed, BadQuery};
use crate::problem::Problem;
use crate::store::job::{ResultQuery, ResultRow};

/// One result.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobResultView {
    /// The job.
    id: String,
    /// The host.
    agentsn: String,
    /// What was to be done.
    action: String,
    /// The sub-agent.
    name: Option<String>,
    /// `host`, or `server` for a job that never reached its host.
    origin: String,
    /// When it arrived, in unix milliseconds.
    finished: i64,
    /// Whether the job had been given up as lost before.
    late: bool,
    /// How the job ended.
    errcode: u16,
    /// The same for a person.
    message: String,
    /// The result as its host sent it.
    #[schema(value_type = crate::openapi::JobResultSchema)]
    result: Value,
}

impl From<ResultRow> for JobResultView {
    fn from(row: ResultRow) -> Self {
        let ResultRow {
            id,
            agentsn,
            action,
            name,
            origin,
            finished,
            late,
            message,
            result,
            ..
        } = row;
        let errcode = row.errcode.0;
        Self {
            id,
            agentsn,
            action,
            name,
            origin,
            finished,
            late,
            errcode,
            message,
            result,
        }
    }
}

/// Results in order of arrival.
#[utoipa::path(
    operation_id = "list_job_results",
    get, path = "/api/v1/job-results", tag = "jobs", params(ArrivalParams),
    responses((status = 200, description = "One page", body = List<JobResultView>), BadQuery, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn list(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    Params(params): Params<ArrivalParams>,
) -> Result<Json<List<JobResultView>>, Problem> {
    let query = ResultQuery {
        agentsn: host_param(params.host.as_deref())?,
        since: params.since,
        scope: operator.scope,
        after: list::cursor(params.cursor.as_deref())?,
        limit: list::limit(params.limit)?,
    };
    let page = app.store.job_results(&query).await?;
    Ok(Json(page.map(JobResultView::from).into()))
}
