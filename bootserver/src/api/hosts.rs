//! /api/v1/hosts: what the fleet is made of.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::host_query::HostParams;
use super::list::List;
use crate::access::scope::Scope;
use crate::app::App;
use crate::auth::{May, View};
use crate::extract::revision::etag;
use crate::extract::{Params, PathId};
use crate::openapi::{Allowed, BadQuery, Missing};
use crate::problem::Problem;
use crate::store::host::{HostDetail, HostSummary};

/// One host of the list.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostView {
    /// Its identity.
    agentsn: String,
    /// Its host name.
    hostname: String,
    /// `bootagent-VERSION-ARCH`.
    version: String,
    /// `ID VERSION_ID` of its os-release.
    os: String,
    /// Its architecture.
    arch: String,
    /// Its addresses.
    ip: Vec<String>,
    /// What operators call it; empty if they do not.
    display_name: String,
    /// Its tags.
    #[schema(example = "cmpt=DB,svc=ecs")]
    tags: String,
    /// When it first registered, in unix milliseconds.
    created: i64,
    /// When it last registered, in unix milliseconds.
    registered: i64,
    /// When it last pushed a status, in unix milliseconds.
    seen: Option<i64>,
    /// How it stands: `new` was never heard, `late` after its interval and 30 s,
    /// `offline` after three intervals.
    #[schema(example = "online")]
    state: &'static str,
    /// Since when, in unix milliseconds.
    since: i64,
}

/// One host in full.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostDetailView {
    /// The same as in the list.
    #[serde(flatten)]
    summary: HostView,
    /// /etc/machine-id.
    machine_id: Option<String>,
    /// The boot it runs in.
    boot_id: Option<String>,
    /// Seconds BootAgent ran when it last pushed.
    uptime: Option<i64>,
    /// The host's own clock then, in unix seconds.
    timestamp: Option<i64>,
    /// Seconds between two of its statuses.
    step: Option<u64>,
    /// Its sub-agents as it reported them.
    #[schema(value_type = Vec<crate::openapi::AgentReportSchema>)]
    agents: Vec<Value>,
    /// What BootAgent says of itself.
    notices: Vec<String>,
    /// When what it reports last changed, in unix milliseconds.
    changed: Option<i64>,
    /// Jobs without a result.
    open_jobs: i64,
    /// What operators wrote about it.
    notes: String,
    /// Where each of its tags is from: `enrolment`, `operator` or `host`.
    tag_origins: BTreeMap<String, String>,
    /// The groups it is in, by name; for who is restricted to some hosts, those groups
    /// alone that restrict them.
    groups: Vec<GroupOfHostView>,
    /// Up by one with each change by an operator; also the ETag.
    revision: i64,
}

/// A group a host is in.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupOfHostView {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
}

impl From<HostSummary> for HostView {
    fn from(host: HostSummary) -> Self {
        let reported = host.reported;
        Self {
            agentsn: host.agentsn,
            hostname: reported.hostname,
            version: reported.version,
            os: reported.os,
            arch: reported.arch,
            ip: reported.ip,
            display_name: host.display_name,
            tags: host.tags.to_string(),
            created: host.created,
            registered: host.registered,
            seen: host.seen,
            state: host.state.word(),
            since: host.since,
        }
    }
}

impl From<HostDetail> for HostDetailView {
    fn from(host: HostDetail) -> Self {
        let state = host.state.as_ref();
        let agents = state
            .map(|state| state.agents.as_slice())
            .unwrap_or_default();
        Self {
            machine_id: host.summary.reported.machine_id.clone(),
            boot_id: host.summary.reported.boot_id.clone(),
            uptime: state.map(|state| state.uptime),
            timestamp: state.map(|state| state.timestamp),
            step: state.map(|state| state.step),
            agents: agents
                .iter()
                .map(|agent| serde_json::json!(agent))
                .collect(),
            notices: state.map(|state| state.notices.clone()).unwrap_or_default(),
            changed: state.map(|state| state.changed),
            open_jobs: host.open_jobs,
            notes: host.notes,
            tag_origins: host.tag_origins,
            groups: host
                .groups
                .into_iter()
                .map(|group| GroupOfHostView {
                    id: group.id,
                    name: group.name,
                })
                .collect(),
            revision: host.summary.revision,
            summary: host.summary.into(),
        }
    }
}

/// Hosts, sorted by hostname unless told otherwise.
#[utoipa::path(
    operation_id = "list_hosts",
    get, path = "/api/v1/hosts", tag = "hosts", params(HostParams),
    responses((status = 200, description = "One page", body = List<HostView>), BadQuery, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn list(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    Params(params): Params<HostParams>,
) -> Result<Json<List<HostView>>, Problem> {
    let query = params.query(operator.scope)?;
    let page = app.store.hosts(&query).await?;
    Ok(Json(page.map(HostView::from).into()))
}

/// One host with its sub-agents; the ETag says which revision.
#[utoipa::path(
    operation_id = "get_host",
    get, path = "/api/v1/hosts/{agentsn}", tag = "hosts",
    params(("agentsn" = String, Path, description = "The host")),
    responses((status = 200, description = "The host", body = HostDetailView), Missing, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn get(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    PathId(agentsn): PathId,
) -> Result<Response, Problem> {
    found(&app, &agentsn, &operator.scope).await
}

/// A host as it is now, with its ETag.
pub(super) async fn found(app: &App, agentsn: &str, scope: &Scope) -> Result<Response, Problem> {
    let host = app.store.host(agentsn, scope).await?;
    let host = host.ok_or_else(|| Problem::not_found("host"))?;
    let etag = etag(host.summary.revision);
    Ok((etag, Json(HostDetailView::from(host))).into_response())
}
