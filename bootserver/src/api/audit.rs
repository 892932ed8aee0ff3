//! GET /api/v1/audit: who did what.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::list::{self, List};
use crate::app::App;
use crate::auth::{Administer, May};
use crate::extract::Params;
use crate::openapi::{Allowed, BadQuery};
use crate::problem::Problem;
use crate::store::audit::{AuditQuery, AuditRow};

/// One change.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditView {
    /// Its number; later changes have higher ones.
    id: i64,
    /// When, in unix milliseconds.
    at: i64,
    /// `user`, `token`, or `local` for somebody on the server's own machine.
    actor_kind: &'static str,
    /// The id of the user or token.
    actor: String,
    /// What it was called then.
    actor_name: String,
    /// What was done.
    #[schema(example = "host.set-tags")]
    action: String,
    /// To what kind of thing.
    #[schema(example = "host")]
    kind: String,
    /// To which, by id.
    target: String,
    /// What was before and is now, in brief.
    #[schema(value_type = Object)]
    detail: Value,
    /// The request's id.
    request: Option<String>,
    /// From which address.
    address: Option<String>,
}

impl From<AuditRow> for AuditView {
    fn from(row: AuditRow) -> Self {
        let by = row.by;
        Self {
            id: row.id,
            at: by.at,
            actor_kind: by.actor.kind.as_str(),
            actor: by.actor.id,
            actor_name: by.actor.name,
            action: row.action,
            kind: row.kind,
            target: row.target,
            detail: row.detail,
            request: by.request,
            address: by.address,
        }
    }
}

/// Which changes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditParams {
    /// Only by this user or token, by id (indexed).
    actor: Option<String>,
    /// Only what was done to this thing, by id (indexed).
    target: Option<String>,
    /// Only this action (indexed).
    #[param(example = "job.create")]
    action: Option<String>,
    /// Only at this unix millisecond or later (indexed).
    since: Option<i64>,
    /// Only before this unix millisecond (indexed).
    until: Option<i64>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

impl AuditParams {
    /// The query.
    pub fn query(self) -> Result<AuditQuery, Problem> {
        Ok(AuditQuery {
            actor: self.actor,
            target: self.target,
            action: self.action,
            since: self.since,
            until: self.until,
            after: list::cursor(self.cursor.as_deref())?,
            limit: list::limit(self.limit)?,
        })
    }
}

/// Changes, newest first.
#[utoipa::path(
    operation_id = "list_audit",
    get, path = "/api/v1/audit", tag = "audit", params(AuditParams),
    responses((status = 200, description = "One page", body = List<AuditView>), BadQuery, Allowed),
    security(("operator" = ["admin", "fleet"]))
)]
pub async fn list(
    _: May<Administer>,
    State(app): State<App>,
    Params(params): Params<AuditParams>,
) -> Result<Json<List<AuditView>>, Problem> {
    let query = params.query()?;
    let page = app.store.audit(&query).await?;
    Ok(Json(page.map(AuditView::from).into()))
}
