//! /api/v1/sessions: where one is signed in, and ending that.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::list::{self, List};
use crate::app::App;
use crate::auth::{May, Operator, View};
use crate::extract::{Params, PathId};
use crate::openapi::{Allowed, BadQuery, Missing};
use crate::problem::Problem;
use crate::store::session::{SessionEnded, SessionRow};

/// One session.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionView {
    /// Its id.
    id: String,
    /// The user's id.
    user: String,
    /// When it began, in unix milliseconds.
    created: i64,
    /// When it was last used, to the minute, in unix milliseconds.
    seen: i64,
    /// When it ends, whatever happens, in unix milliseconds.
    expires: i64,
    /// From where it began.
    address: Option<String>,
    /// What the client said it is.
    client: String,
}

impl From<SessionRow> for SessionView {
    fn from(row: SessionRow) -> Self {
        let SessionRow {
            id,
            user,
            created,
            seen,
            expires,
            address,
            client,
        } = row;
        Self {
            id,
            user,
            created,
            seen,
            expires,
            address,
            client,
        }
    }
}

/// Whose sessions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionParams {
    /// Of this user, by id; one's own when left out. Others' are for admins.
    user: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Sessions of a user, newest first.
#[utoipa::path(
    operation_id = "list_sessions",
    get, path = "/api/v1/sessions", tag = "session", params(SessionParams),
    responses((status = 200, description = "One page", body = List<SessionView>), BadQuery, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn list(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    Params(params): Params<SessionParams>,
) -> Result<Json<List<SessionView>>, Problem> {
    let own = operator.user.as_deref().unwrap_or_default();
    let user = params.user.as_deref().unwrap_or(own);
    if user != own && !operator.is_full_admin() {
        return Err(Problem::forbidden("others' sessions are for admins"));
    }
    let after = list::id_cursor(params.cursor)?;
    let limit = list::limit(params.limit)?;
    let page = app.store.sessions(user, after, limit).await?;
    Ok(Json(page.map(SessionView::from).into()))
}

/// Ends a session: one of one's own, or as an admin any.
#[utoipa::path(
    operation_id = "end_session",
    delete, path = "/api/v1/sessions/{id}", tag = "session",
    params(("id" = String, Path, description = "The session's id")),
    responses((status = 204, description = "It does not hold any more"), Missing, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn end(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let user = whose(&operator);
    match app.store.end_session(&id, user, &operator.by).await? {
        SessionEnded::Done => {
            tracing::info!(id, "a session was ended");
            Ok(StatusCode::NO_CONTENT)
        }
        SessionEnded::Unknown => Err(Problem::not_found("session")),
    }
}

/// Whose things an operator may end: anybody's, or only those of this user.
pub(super) fn whose(operator: &Operator) -> Option<&str> {
    match operator.is_full_admin() {
        true => None,
        // A token without a maker that is no admin owns nothing.
        false => Some(operator.user.as_deref().unwrap_or_default()),
    }
}
