//! GET /api/v1/events: what happened on hosts.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::list::{self, List};
use crate::access::scope::Scope;
use crate::app::App;
use crate::auth::{May, View};
use crate::extract::Params;
use crate::openapi::{Allowed, BadQuery};
use crate::problem::Problem;
use crate::store::event::{EventQuery, EventRow};
use crate::wire;

/// One event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventView {
    /// Counts up in order of arrival.
    id: i64,
    /// The host.
    agentsn: String,
    /// The agent that noticed it.
    source: String,
    /// The boot it happened in.
    boot_id: String,
    /// Its number within source and boot.
    seq: i64,
    /// When it arrived here, in unix milliseconds.
    received: i64,
    /// The host's own clock, in unix seconds.
    timestamp: i64,
    /// What kind of thing happened.
    #[schema(example = "crash")]
    category: String,
    /// What it happened to.
    subject: String,
    /// The subject's version.
    version: Option<String>,
    /// What happened.
    message: String,
    /// The last lines the subject printed.
    tail: Vec<String>,
}

impl From<EventRow> for EventView {
    fn from(row: EventRow) -> Self {
        let EventRow {
            id,
            agentsn,
            source,
            boot_id,
            seq,
            received,
            ..
        } = row;
        let EventRow {
            timestamp,
            category,
            subject,
            version,
            message,
            tail,
            ..
        } = row;
        Self {
            id,
            agentsn,
            source,
            boot_id,
            seq,
            received,
            timestamp,
            category,
            subject,
            version,
            message,
            tail,
        }
    }
}

/// Which events or results.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ArrivalParams {
    /// Only of this host, by agentsn (indexed).
    pub host: Option<String>,
    /// Only received at this unix millisecond or later (indexed).
    pub since: Option<i64>,
    /// Whether `total` shall say how many rows there are.
    total: Option<bool>,
    /// `next` of the page before.
    pub cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
}

/// The agentsn of a query. A text that is none is a mistake, not an empty list.
pub fn host_param(host: Option<&str>) -> Result<Option<String>, Problem> {
    host.map(wire::agentsn)
        .transpose()
        .map_err(|_| Problem::malformed("host: an agentsn is expected"))
}

impl ArrivalParams {
    /// The query for events, restricted to a scope.
    pub fn events(self, scope: Scope) -> Result<EventQuery, Problem> {
        Ok(EventQuery {
            agentsn: host_param(self.host.as_deref())?,
            since: self.since,
            scope,
            after: list::cursor(self.cursor.as_deref())?,
            count: list::count(self.total),
            limit: list::limit(self.limit)?,
        })
    }
}

/// Events in order of arrival.
#[utoipa::path(
    operation_id = "list_events",
    get, path = "/api/v1/events", tag = "events", params(ArrivalParams),
    responses((status = 200, description = "One page", body = List<EventView>), BadQuery, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn list(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    Params(params): Params<ArrivalParams>,
) -> Result<Json<List<EventView>>, Problem> {
    let query = params.events(operator.scope)?;
    let page = app.store.events(&query).await?;
    Ok(Json(page.map(EventView::from).into()))
}
