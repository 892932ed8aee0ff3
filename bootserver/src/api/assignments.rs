//! /api/v1/assignments: which version of a sub-agent the hosts of a group shall have.
//!
//! They are for who may see every host: an assignment means hosts that are yet to come.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::assignment_draft::{ChangeAssignment, CreateAssignment};
use super::assignment_view::{AssignedHostView, AssignmentPreview, AssignmentView};
use super::job_order::goods::assigned;
use super::list::{self, List};
use crate::app::App;
use crate::auth::{May, OperateFleet, ViewFleet};
use crate::extract::revision::{IfMatch, MustMatch, etag};
use crate::extract::{JsonBody, Params, PathId};
use crate::fleet::assignment::{MAX_ASSIGNMENTS, precedence};
use crate::fleet::rollout::target::TargetState;
use crate::openapi::{Allowed, BadBody, BadQuery, Conflicting, Missing, Precondition, Seen};
use crate::problem::Problem;
use crate::store::assignment::{
    AssignmentDeleted, AssignmentQuery, AssignmentRow, AssignmentStored, Draft,
};
use crate::store::page::{Limit, MAX_LIMIT};
use crate::store::rollout::TargetQuery;

/// Which assignments.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AssignmentParams {
    /// Only of this agent.
    agent: Option<String>,
    /// Only those that mean this host, by agentsn; in the order in which they would have it.
    host: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Which hosts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AssignedHostParams {
    /// Only in this state, such as `waiting` or `failed` (indexed).
    state: Option<String>,
    /// Whether `total` shall say how many rows there are.
    total: Option<bool>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Assigns a version to the hosts of a group: who joins it, enrols again or has another
/// version is ordered it, within the limits of the plan.
#[utoipa::path(
    operation_id = "create_assignment",
    post, path = "/api/v1/assignments", tag = "assignments", request_body = CreateAssignment,
    params(("idempotency-key" = Option<String>, Header, description = "1 to 128 printable characters: sent again with the same key and body within 24 h, it is answered as before and not done again")),
    responses(
        (status = 201, description = "Assigned", body = AssignmentView),
        BadBody, Conflicting, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn create(
    May { operator, .. }: May<OperateFleet>,
    State(app): State<App>,
    JsonBody(body): JsonBody<CreateAssignment>,
) -> Result<Response, Problem> {
    let new = body.checked(&app, &operator).await?;
    let stored = app.store.insert_assignment(&new, &operator.by).await?;
    let row = done(stored)?;
    tracing::info!(id = row.id, name = row.name, "a version was assigned");
    Ok((StatusCode::CREATED, shown(row)).into_response())
}

/// Looks at an assignment without making it: how many hosts it would mean, and how they
/// stand.
#[utoipa::path(
    operation_id = "preview_assignment",
    post, path = "/api/v1/assignments/preview", tag = "assignments",
    request_body = CreateAssignment,
    responses(
        (status = 200, description = "What it would do", body = AssignmentPreview),
        BadBody, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn preview(
    May { operator, .. }: May<OperateFleet>,
    State(app): State<App>,
    JsonBody(body): JsonBody<CreateAssignment>,
) -> Result<Json<AssignmentPreview>, Problem> {
    let new = body.checked(&app, &operator).await?;
    if app.store.group(&new.group).await?.is_none() {
        return Err(unknown_group());
    }
    let draft = Draft {
        id: new.id,
        group: new.group,
        agent: new.agent,
        version: new.course.version,
        priority: new.priority,
    };
    let counts = app.store.fit_assignment(&draft).await?;
    Ok(Json(AssignmentPreview::of(&new.course.goods, &counts)))
}

/// Assignments, newest first.
#[utoipa::path(
    operation_id = "list_assignments",
    get, path = "/api/v1/assignments", tag = "assignments", params(AssignmentParams),
    responses(
        (status = 200, description = "One page", body = List<AssignmentView>), BadQuery, Allowed
    ),
    security(("operator" = ["viewer", "fleet"]))
)]
pub async fn list(
    May { operator, .. }: May<ViewFleet>,
    State(app): State<App>,
    Params(params): Params<AssignmentParams>,
) -> Result<Json<List<AssignmentView>>, Problem> {
    let mut query = AssignmentQuery {
        agent: params.agent,
        groups: None,
        after: list::id_cursor(params.cursor)?,
        limit: list::limit(params.limit)?,
    };
    let Some(host) = params.host else {
        let page = app.store.assignments(&query).await?;
        return Ok(Json(page.map(AssignmentView::from).into()));
    };
    let host = app.store.host(&host, &operator.scope).await?;
    let groups = host.map(|host| host.groups).unwrap_or_default();
    query.groups = Some(groups.into_iter().map(|group| group.id).collect());
    query.limit = Limit::new(MAX_LIMIT).expect("the largest limit is allowed");
    let mut page = app.store.assignments(&query).await?;
    page.items.sort_by(|one, other| {
        precedence(one.priority, &one.id).cmp(&precedence(other.priority, &other.id))
    });
    let mut agents = BTreeSet::new();
    let page = page.map(|row| {
        let wins = agents.insert(row.agent.clone());
        AssignmentView::of_host(row, wins)
    });
    Ok(Json(page.into()))
}

/// One assignment; the ETag says which revision.
#[utoipa::path(
    operation_id = "get_assignment",
    get, path = "/api/v1/assignments/{id}", tag = "assignments",
    params(("id" = String, Path, description = "The assignment")),
    responses(
        (status = 200, description = "The assignment", body = AssignmentView), Missing, Allowed
    ),
    security(("operator" = ["viewer", "fleet"]))
)]
pub async fn get(
    _: May<ViewFleet>,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    Ok(shown(found(&app, &id).await?))
}

/// The hosts an assignment had to do with, each with what it waits for. Who always had the
/// version is not among them.
#[utoipa::path(
    operation_id = "list_assignment_hosts",
    get, path = "/api/v1/assignments/{id}/hosts", tag = "assignments",
    params(("id" = String, Path, description = "The assignment"), AssignedHostParams),
    responses(
        (status = 200, description = "One page", body = List<AssignedHostView>),
        BadQuery, Missing, Allowed
    ),
    security(("operator" = ["viewer", "fleet"]))
)]
pub async fn hosts(
    May { operator, .. }: May<ViewFleet>,
    State(app): State<App>,
    PathId(id): PathId,
    Params(params): Params<AssignedHostParams>,
) -> Result<Json<List<AssignedHostView>>, Problem> {
    let assignment = found(&app, &id).await?;
    let state = params.state.as_deref().map(|word| {
        TargetState::parse(word).ok_or_else(|| {
            let words = TargetState::ALL.map(TargetState::word).join(", ");
            Problem::malformed(&format!("state: one of {words} is expected"))
        })
    });
    let query = TargetQuery {
        rollout: assignment.rollout.number,
        state: state.transpose()?,
        after: list::cursor(params.cursor.as_deref())?,
        scope: operator.scope,
        count: list::count(params.total),
        limit: list::limit(params.limit)?,
    };
    let targets = u64::try_from(assignment.rollout.targets).unwrap_or_default();
    let stage_ends = assignment.rollout.plan.stage_ends(targets);
    let page = app.store.rollout_targets(&query).await?;
    let page = page.map(|row| AssignedHostView::new(&assignment, &stage_ends, row));
    Ok(Json(page.into()))
}

/// Changes an assignment. Another version or plan begins anew, with fresh counts; what is
/// under way ends first.
#[utoipa::path(
    operation_id = "change_assignment",
    patch, path = "/api/v1/assignments/{id}", tag = "assignments",
    request_body = ChangeAssignment,
    params(
        ("id" = String, Path, description = "The assignment"),
        ("if-match" = String, Header, description = "The ETag of the revision that is changed, or *")
    ),
    responses(
        (status = 200, description = "The assignment as it is now", body = AssignmentView),
        BadBody, Missing, Conflicting, Seen, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn change(
    May { operator, .. }: May<OperateFleet>,
    MustMatch(revision): MustMatch,
    State(app): State<App>,
    PathId(id): PathId,
    JsonBody(body): JsonBody<ChangeAssignment>,
) -> Result<Response, Problem> {
    let known = found(&app, &id).await?;
    let change = body.checked(&app, &operator, known).await?;
    let stored = app
        .store
        .change_assignment(&id, &change, revision, &operator.by)
        .await?;
    tracing::info!(id, "an assignment was changed");
    Ok(shown(done(stored)?))
}

/// Deletes an assignment: nothing is ordered for it any more, and nothing is uninstalled.
#[utoipa::path(
    operation_id = "delete_assignment",
    delete, path = "/api/v1/assignments/{id}", tag = "assignments",
    params(
        ("id" = String, Path, description = "The assignment"),
        ("if-match" = Option<String>, Header, description = "The ETag of what was seen")
    ),
    responses((status = 204, description = "Gone"), Missing, Precondition, Allowed),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn delete(
    May { operator, .. }: May<OperateFleet>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let deleted = app
        .store
        .delete_assignment(&id, revision, &operator.by)
        .await?;
    match deleted {
        AssignmentDeleted::Done => {
            tracing::info!(id, "an assignment was deleted");
            Ok(StatusCode::NO_CONTENT)
        }
        AssignmentDeleted::Unknown => Err(Problem::not_found("assignment")),
        AssignmentDeleted::Stale => Err(stale()),
    }
}

/// Gives the assignments of a version the files it has now, one more than before. What is
/// not done is done with the next change.
pub(super) async fn renew(app: &App, agent: &str, version: &str) {
    if let Err(problem) = try_renew(app, agent, version).await {
        let error = format!("{problem:?}");
        tracing::warn!(
            agent,
            version,
            error,
            "assignments were not given a new file"
        );
    }
}

async fn try_renew(app: &App, agent: &str, version: &str) -> Result<(), Problem> {
    let query = AssignmentQuery {
        agent: Some(agent.to_owned()),
        limit: Limit::new(MAX_LIMIT).expect("the largest limit is allowed"),
        ..AssignmentQuery::default()
    };
    let rows = app.store.assignments(&query).await?.items;
    for row in rows.iter().filter(|row| row.version == version) {
        renew_one(app, row).await?;
    }
    Ok(())
}

/// Gives an assignment the files its version has now.
pub(super) async fn renew_one(app: &App, row: &AssignmentRow) -> Result<(), Problem> {
    let goods = assigned(app, &row.agent, &row.version, row.watch).await?;
    Ok(app
        .store
        .renew_assignment(row.rollout.number, &goods)
        .await?)
}

pub(super) async fn found(app: &App, id: &str) -> Result<AssignmentRow, Problem> {
    let row = app.store.assignment(id).await?;
    row.ok_or_else(|| Problem::not_found("assignment"))
}

pub(super) fn shown(row: AssignmentRow) -> Response {
    let view = AssignmentView::from(row);
    (etag(view.revision), Json(view)).into_response()
}

/// What was stored, or why not.
pub(super) fn done(stored: AssignmentStored) -> Result<AssignmentRow, Problem> {
    match stored {
        AssignmentStored::Done(row) => Ok(*row),
        AssignmentStored::Unknown => Err(Problem::not_found("assignment")),
        AssignmentStored::Stale => Err(stale()),
        AssignmentStored::UnknownGroup => Err(unknown_group()),
        AssignmentStored::PackageGone => Err(Problem::conflict(
            "the package was deleted meanwhile; nothing was changed",
        )),
        AssignmentStored::TooMany => Err(Problem::conflict(&format!(
            "there are {MAX_ASSIGNMENTS} assignments, which is the most; delete one first"
        ))),
        AssignmentStored::Refused(refusal) => Err(Problem::conflict(
            &refusal.to_string().replace("rollout", "assignment"),
        )),
    }
}

fn stale() -> Problem {
    Problem::precondition_failed("it was changed or is doing something else; read it again")
}

fn unknown_group() -> Problem {
    Problem::invalid("group: there is no such group")
}
