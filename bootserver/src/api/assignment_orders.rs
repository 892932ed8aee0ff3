//! /api/v1/assignments/{id}/...: what operators say to an assignment that is there.

use axum::extract::State;
use axum::response::Response;

use super::assignment_view::AssignmentView;
use super::assignments::{done, found, renew_one, shown};
use super::rollouts::person;
use crate::app::App;
use crate::auth::{May, OperateFleet, Operator};
use crate::extract::PathId;
use crate::extract::revision::IfMatch;
use crate::openapi::{Allowed, Conflicting, Missing, Precondition};
use crate::problem::Problem;
use crate::store::assignment::AssignmentOrder;

/// Agrees to an assignment, as somebody else than who wants it so.
#[utoipa::path(
    operation_id = "confirm_assignment",
    post, path = "/api/v1/assignments/{id}/confirm", tag = "assignments",
    params(
        ("id" = String, Path, description = "The assignment"),
        ("if-match" = Option<String>, Header, description = "The ETag of what was seen")
    ),
    responses(
        (status = 200, description = "The assignment as it is now", body = AssignmentView),
        Missing, Conflicting, Precondition, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn confirm(
    May { operator, .. }: May<OperateFleet>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let by = person(&operator);
    tell(
        &app,
        &operator,
        &id,
        &AssignmentOrder::Confirm { by },
        revision,
    )
    .await
}

/// Pauses an assignment: what was not sent is taken back, and it keeps its hosts.
#[utoipa::path(
    operation_id = "pause_assignment",
    post, path = "/api/v1/assignments/{id}/pause", tag = "assignments",
    params(
        ("id" = String, Path, description = "The assignment"),
        ("if-match" = Option<String>, Header, description = "The ETag of what was seen")
    ),
    responses(
        (status = 200, description = "The assignment as it is now", body = AssignmentView),
        Missing, Conflicting, Precondition, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn pause(
    May { operator, .. }: May<OperateFleet>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    tell(&app, &operator, &id, &AssignmentOrder::Pause, revision).await
}

/// Goes on with an assignment that was paused or stopped, with fresh counts; also behind a
/// gate that cannot open any more.
#[utoipa::path(
    operation_id = "resume_assignment",
    post, path = "/api/v1/assignments/{id}/resume", tag = "assignments",
    params(
        ("id" = String, Path, description = "The assignment"),
        ("if-match" = Option<String>, Header, description = "The ETag of what was seen")
    ),
    responses(
        (status = 200, description = "The assignment as it is now", body = AssignmentView),
        Missing, Conflicting, Precondition, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn resume(
    May { operator, .. }: May<OperateFleet>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    tell(&app, &operator, &id, &AssignmentOrder::Resume, revision).await
}

/// Has hosts tried again at once that failed, as if for the first time, and goes on where a
/// limit was exceeded.
#[utoipa::path(
    operation_id = "retry_assignment",
    post, path = "/api/v1/assignments/{id}/retry", tag = "assignments",
    params(
        ("id" = String, Path, description = "The assignment"),
        ("if-match" = Option<String>, Header, description = "The ETag of what was seen")
    ),
    responses(
        (status = 200, description = "The assignment as it is now", body = AssignmentView),
        Missing, Conflicting, Precondition, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn retry(
    May { operator, .. }: May<OperateFleet>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    renew_one(&app, &found(&app, &id).await?).await?;
    tell(&app, &operator, &id, &AssignmentOrder::Retry, revision).await
}

async fn tell(
    app: &App,
    operator: &Operator,
    id: &str,
    order: &AssignmentOrder,
    revision: Option<i64>,
) -> Result<Response, Problem> {
    let told = app
        .store
        .order_assignment(id, order, revision, &operator.by)
        .await?;
    let row = done(told)?;
    let phase = row.rollout.stand.phase.word();
    tracing::info!(id, phase, "an assignment was told something");
    Ok(shown(row))
}
