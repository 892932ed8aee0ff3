//! /api/v1/jobs: what hosts are ordered to do.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::events::host_param;
use super::job_order::{self, CreateJobs, JobPreview, prepare};
use super::list::{self, List};
use crate::access::scope::Scope;
use crate::app::App;
use crate::auth::{May, Operate, View};
use crate::clock::unix_millis;
use crate::extract::{JsonBody, Params, PathId};
use crate::fleet::job_state::JobState;
use crate::openapi::{Allowed, BadBody, BadQuery, Conflicting, Missing};
use crate::problem::Problem;
use crate::store::job::{Cancelled, JobPhase, JobQuery, JobRow, JobsInserted};
use crate::wire;

/// One job.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobView {
    /// Its id.
    id: String,
    /// The host.
    agentsn: String,
    /// What to do.
    action: String,
    /// The sub-agent.
    name: Option<String>,
    /// The version.
    version: Option<String>,
    /// The uploaded package.
    package: Option<String>,
    /// Where it stands.
    state: JobState,
    /// When it was ordered, in unix milliseconds.
    created: i64,
    /// When it must not begin any more, in unix milliseconds.
    expires: Option<i64>,
    /// When it was first handed out, in unix milliseconds.
    sent: Option<i64>,
    /// When its host first said that it has it, in unix milliseconds.
    accepted: Option<i64>,
    /// When its result came, in unix milliseconds.
    finished: Option<i64>,
    /// Whether that was after the job had been given up as lost.
    late: bool,
    /// Since when the host is offline that was given it and has not answered, in unix
    /// milliseconds.
    offline_since: Option<i64>,
    /// How it ended.
    errcode: Option<u16>,
    /// The same for a person.
    message: Option<String>,
    /// The order as its host gets it.
    #[schema(value_type = crate::openapi::JobSchema)]
    body: Value,
    /// The result as its host sent it.
    #[schema(value_type = Option<crate::openapi::JobResultSchema>)]
    result: Option<Value>,
}

impl From<JobRow> for JobView {
    fn from(row: JobRow) -> Self {
        let state = row.state();
        let body = wire::job_on_the_wire(&row.id, row.body);
        let JobRow {
            id,
            agentsn,
            action,
            name,
            version,
            package,
            created,
            expires,
            ..
        } = row;
        let JobRow {
            sent,
            accepted,
            finished,
            late,
            offline_since,
            errcode,
            message,
            result,
            ..
        } = row;
        Self {
            id,
            agentsn,
            action,
            name,
            version,
            package,
            state,
            created,
            expires,
            sent,
            accepted,
            finished,
            late,
            offline_since,
            message,
            body,
            result,
            errcode: errcode.map(|code| code.0),
        }
    }
}

/// The jobs of one order.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedJobs {
    /// One per host.
    jobs: Vec<CreatedJob>,
}

/// One job of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedJob {
    /// Its id.
    id: String,
    /// The host.
    agentsn: String,
    /// The uploaded package it gets.
    package: Option<String>,
}

/// Which jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobParams {
    /// Only of this host, by agentsn (indexed).
    host: Option<String>,
    /// `open` or `finished`.
    state: Option<String>,
    /// Whether `total` shall say how many rows there are.
    total: Option<bool>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

impl JobParams {
    /// The query, restricted to a scope.
    pub fn query(self, scope: Scope) -> Result<JobQuery, Problem> {
        let phase = match self.state.as_deref() {
            None => None,
            Some("open") => Some(JobPhase::Open),
            Some("finished") => Some(JobPhase::Finished),
            Some(_) => return Err(Problem::malformed("state: open or finished is expected")),
        };
        Ok(JobQuery {
            agentsn: host_param(self.host.as_deref())?,
            phase,
            scope,
            after: list::id_cursor(self.cursor)?,
            count: list::count(self.total),
            limit: list::limit(self.limit)?,
        })
    }
}

/// Orders something of many hosts: one job each, all or none.
#[utoipa::path(
    operation_id = "create_jobs",
    post, path = "/api/v1/jobs", tag = "jobs", request_body = CreateJobs,
    params(("idempotency-key" = Option<String>, Header, description = "1 to 128 printable characters: sent again with the same key and body within 24 h, it is answered as before and not done again")),
    responses(
        (status = 201, description = "Ordered", body = CreatedJobs),
        BadBody, Missing, Conflicting, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn create(
    May { operator, .. }: May<Operate>,
    State(app): State<App>,
    JsonBody(order): JsonBody<CreateJobs>,
) -> Result<(StatusCode, Json<CreatedJobs>), Problem> {
    let new = prepare(&app, &order, &operator.scope, unix_millis()).await?;
    let (scope, by) = (&operator.scope, &operator.by);
    match app.store.insert_jobs(&new, scope, by).await? {
        JobsInserted::Done => {}
        JobsInserted::UnknownHosts(agentsns) => return Err(Problem::unknown_hosts(agentsns)),
        JobsInserted::PackageGone => {
            return Err(Problem::conflict(
                "the package was deleted meanwhile; nothing was started",
            ));
        }
    }
    let jobs: Vec<CreatedJob> = new
        .groups
        .into_iter()
        .flat_map(|group| {
            let package = group.package;
            group
                .hosts
                .into_iter()
                .map(move |(id, agentsn)| CreatedJob {
                    id,
                    agentsn,
                    package: package.clone(),
                })
        })
        .collect();
    tracing::info!(
        action = new.action.as_str(),
        name = new.name,
        jobs = jobs.len(),
        "jobs were ordered"
    );
    Ok((StatusCode::CREATED, Json(CreatedJobs { jobs })))
}

/// Looks at an order without giving it: how many hosts it means, which file each of
/// them would get, and which have none.
#[utoipa::path(
    operation_id = "preview_jobs",
    post, path = "/api/v1/jobs/preview", tag = "jobs", request_body = CreateJobs,
    responses(
        (status = 200, description = "What it would do", body = JobPreview),
        BadBody, Missing, Conflicting, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn preview(
    May { operator, .. }: May<Operate>,
    State(app): State<App>,
    JsonBody(order): JsonBody<CreateJobs>,
) -> Result<Json<JobPreview>, Problem> {
    let seen = job_order::preview(&app, &order, &operator.scope, unix_millis()).await?;
    Ok(Json(seen))
}

/// Jobs, newest first.
#[utoipa::path(
    operation_id = "list_jobs",
    get, path = "/api/v1/jobs", tag = "jobs", params(JobParams),
    responses((status = 200, description = "One page", body = List<JobView>), BadQuery, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn list(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    Params(params): Params<JobParams>,
) -> Result<Json<List<JobView>>, Problem> {
    let query = params.query(operator.scope)?;
    let page = app.store.jobs(&query).await?;
    Ok(Json(page.map(JobView::from).into()))
}

/// One job with its result.
#[utoipa::path(
    operation_id = "get_job",
    get, path = "/api/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "The job")),
    responses((status = 200, description = "The job", body = JobView), Missing, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn get(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<JobView>, Problem> {
    found(&app, &id, &operator.scope).await.map(Json)
}

/// Withdraws a job: at once while its host has not been told, otherwise by a
/// `cancel` job, and then the host says whether it was in time.
#[utoipa::path(
    operation_id = "cancel_job",
    post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs",
    params(("id" = String, Path, description = "The job")),
    responses(
        (status = 200, description = "The job as it is now", body = JobView),
        Missing, Conflicting, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn cancel(
    May { operator, .. }: May<Operate>,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Json<JobView>, Problem> {
    let cancel_id = Uuid::now_v7().to_string();
    let (scope, by) = (&operator.scope, &operator.by);
    match app.store.cancel_job(&id, &cancel_id, scope, by).await? {
        Cancelled::AtOnce | Cancelled::Asked => {
            tracing::info!(id, "a job was cancelled");
            found(&app, &id, scope).await.map(Json)
        }
        Cancelled::Finished => Err(Problem::conflict("the job has its result already")),
        Cancelled::Unknown => Err(Problem::not_found("job")),
    }
}

async fn found(app: &App, id: &str, scope: &Scope) -> Result<JobView, Problem> {
    let job = app.store.job(id, scope).await?;
    job.map(JobView::from)
        .ok_or_else(|| Problem::not_found("job"))
}
