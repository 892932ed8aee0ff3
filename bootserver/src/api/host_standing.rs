//! /api/v1/hosts/{agentsn}/...: how a host stands, and taking it out.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::host_edit::stale;
use super::list::{self, List};
use crate::app::App;
use crate::auth::{May, Operate, Operator, View, ViewFleet};
use crate::extract::revision::IfMatch;
use crate::extract::{Params, PathId};
use crate::fleet::presence::Presence;
use crate::openapi::{Allowed, BadQuery, Missing, Precondition};
use crate::problem::Problem;
use crate::store::host::{HostChange, HostChangeQuery, Removal, Removed, RotationOrdered};
use crate::token::{Token, TokenKind};

/// How many hosts are in each state.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct HostCounts {
    /// Registered, and not heard of since.
    new: i64,
    /// Heard within their interval.
    online: i64,
    /// A push is overdue.
    late: i64,
    /// Not heard for three intervals.
    offline: i64,
    /// Without a secret, by an operator's order.
    revoked: i64,
    /// Deleted; their history stays.
    deleted: i64,
}

/// Something that became of a host.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostChangeView {
    /// When, in unix milliseconds.
    at: i64,
    /// The state from then on.
    #[schema(example = "offline")]
    state: String,
    /// Why, when there is more to say.
    detail: String,
}

impl From<HostChange> for HostChangeView {
    fn from(change: HostChange) -> Self {
        Self {
            at: change.at,
            state: change.state,
            detail: change.detail,
        }
    }
}

/// Which part of the history.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChangeParams {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// How many hosts there are, by state.
#[utoipa::path(
    operation_id = "count_hosts",
    get, path = "/api/v1/host-counts", tag = "hosts",
    responses((status = 200, description = "The counters", body = HostCounts), Allowed),
    security(("operator" = ["viewer", "fleet"]))
)]
pub async fn counts(
    _: May<ViewFleet>,
    State(app): State<App>,
) -> Result<Json<HostCounts>, Problem> {
    let mut counts = HostCounts::default();
    for (state, hosts) in app.store.host_counts().await? {
        let counter = match state {
            Presence::New => &mut counts.new,
            Presence::Online => &mut counts.online,
            Presence::Late => &mut counts.late,
            Presence::Offline => &mut counts.offline,
            Presence::Revoked => &mut counts.revoked,
            Presence::Deleted => &mut counts.deleted,
        };
        *counter = hosts;
    }
    Ok(Json(counts))
}

/// What became of a host, newest first; also of one that was deleted.
#[utoipa::path(
    operation_id = "list_host_changes",
    get, path = "/api/v1/hosts/{agentsn}/changes", tag = "hosts",
    params(("agentsn" = String, Path, description = "The host"), ChangeParams),
    responses(
        (status = 200, description = "One page", body = List<HostChangeView>),
        BadQuery, Missing, Allowed
    ),
    security(("operator" = ["viewer"]))
)]
pub async fn changes(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    PathId(agentsn): PathId,
    Params(params): Params<ChangeParams>,
) -> Result<Json<List<HostChangeView>>, Problem> {
    let query = HostChangeQuery {
        agentsn,
        scope: operator.scope,
        before: list::cursor(params.cursor.as_deref())?,
        limit: list::limit(params.limit)?,
    };
    let page = app.store.host_changes(&query).await?;
    // Each host has at least the entry of its registration.
    if page.items.is_empty() && query.before.is_none() {
        return Err(Problem::not_found("host"));
    }
    Ok(Json(page.map(HostChangeView::from).into()))
}

/// Takes a host's secret away. It is refused at once, its open jobs end with
/// 1006, and it cannot enrol again until it is deleted.
#[utoipa::path(
    operation_id = "revoke_host",
    post, path = "/api/v1/hosts/{agentsn}/revoke", tag = "hosts",
    params(
        ("agentsn" = String, Path, description = "The host"),
        ("if-match" = Option<String>, Header, description = "The ETag of the revision that is revoked")
    ),
    responses((status = 204, description = "It is revoked"), Missing, Precondition, Allowed),
    security(("operator" = ["operator"]))
)]
pub async fn revoke(
    May { operator, .. }: May<Operate>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(agentsn): PathId,
) -> Result<StatusCode, Problem> {
    remove(&app, agentsn, Presence::Revoked, revision, &operator).await
}

/// Deletes a host. Its secret is refused at once, its open jobs end with 1006,
/// its tags go; its results, events and changes stay. It may enrol again, as a
/// new host of the same identity.
#[utoipa::path(
    operation_id = "delete_host",
    delete, path = "/api/v1/hosts/{agentsn}", tag = "hosts",
    params(
        ("agentsn" = String, Path, description = "The host"),
        ("if-match" = Option<String>, Header, description = "The ETag of the revision that is deleted")
    ),
    responses((status = 204, description = "It is deleted"), Missing, Precondition, Allowed),
    security(("operator" = ["operator"]))
)]
pub async fn delete(
    May { operator, .. }: May<Operate>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(agentsn): PathId,
) -> Result<StatusCode, Problem> {
    remove(&app, agentsn, Presence::Deleted, revision, &operator).await
}

/// Has a host's secret replaced with its next status. The old one holds until
/// the new one is used.
#[utoipa::path(
    operation_id = "rotate_host_secret",
    post, path = "/api/v1/hosts/{agentsn}/rotate-secret", tag = "hosts",
    params(("agentsn" = String, Path, description = "The host")),
    responses((status = 202, description = "Ordered"), Missing, Allowed),
    security(("operator" = ["operator"]))
)]
pub async fn rotate_secret(
    May { operator, .. }: May<Operate>,
    State(app): State<App>,
    PathId(agentsn): PathId,
) -> Result<StatusCode, Problem> {
    let (scope, by) = (&operator.scope, &operator.by);
    match app.store.order_rotation(&agentsn, scope, by).await? {
        RotationOrdered::Done => {
            tracing::info!(agentsn, "a new secret was ordered for a host");
            Ok(StatusCode::ACCEPTED)
        }
        RotationOrdered::Unknown => Err(Problem::not_found("host")),
    }
}

async fn remove(
    app: &App,
    agentsn: String,
    to: Presence,
    revision: Option<i64>,
    operator: &Operator,
) -> Result<StatusCode, Problem> {
    let removal = Removal {
        agentsn,
        to,
        nobody: Token::generate(TokenKind::Host).digest(),
        revision,
    };
    let (scope, by) = (&operator.scope, &operator.by);
    match app.store.remove_host(&removal, scope, by).await? {
        Removed::Done => {
            let agentsn = removal.agentsn;
            tracing::info!(agentsn, state = to.word(), "a host was taken out");
            Ok(StatusCode::NO_CONTENT)
        }
        Removed::Unknown => Err(Problem::not_found("host")),
        Removed::Stale => Err(stale()),
    }
}
