//! /api/v1/hosts: what the fleet is made of.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::list::{self, List};
use crate::access::scope::Scope;
use crate::app::App;
use crate::auth::{May, Operate, View};
use crate::extract::{JsonBody, Params, PathId};
use crate::fleet::presence::Presence;
use crate::fleet::selector::Selector;
use crate::fleet::tags::Tags;
use crate::openapi::{Allowed, BadBody, BadQuery, Missing};
use crate::problem::Problem;
use crate::store::host::{
    Direction, HostDetail, HostQuery, HostSort, HostSummary, MIN_SEARCH_CHARS, SortKey, SortValue,
    TagsSet,
};

/// Most characters one may search for.
const MAX_SEARCH_CHARS: usize = 128;

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
            summary: host.summary.into(),
        }
    }
}

/// Which hosts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HostParams {
    /// Only hosts with such tags (indexed): `KEY=VALUE`, `KEY!=VALUE`,
    /// `KEY in (VALUE,VALUE)`, `KEY` and `!KEY`, all of which must hold.
    #[param(example = "svc=ecs,cmpt!=DB,region in (cn,eu)")]
    selector: Option<String>,
    /// Only hosts in the group of this id (indexed); an unknown one has none.
    group: Option<String>,
    /// Only host names that begin so (indexed).
    hostname: Option<String>,
    /// Only hosts in this state (indexed): `new`, `online`, `late`, `offline`,
    /// `revoked` or `deleted`. Without it, all but deleted ones.
    state: Option<String>,
    /// Only hosts with this in their host name, display name or addresses
    /// (indexed), or with this agentsn. Case of ASCII letters does not matter.
    #[param(min_length = 3, max_length = 128)]
    search: Option<String>,
    /// `hostname` (the default), `created` or `since`; with `-` before it, the
    /// largest first (all indexed).
    #[param(example = "-created")]
    sort: Option<String>,
    /// Whether `total` shall say how many rows there are.
    total: Option<bool>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// The tags a host shall have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetTags {
    /// All of them; others go.
    #[schema(example = "svc=ecs,cmpt=DB")]
    tags: String,
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
    let selector = Selector::parse(params.selector.as_deref().unwrap_or_default())
        .map_err(|error| Problem::malformed(&format!("selector: {error}")))?;
    let sort = sort(params.sort.as_deref())?;
    let after: Option<(SortValue, String)> = list::cursor(params.cursor.as_deref())?;
    if after
        .as_ref()
        .is_some_and(|(value, _)| !value.fits(sort.key))
    {
        return Err(list::bad_cursor());
    }
    let query = HostQuery {
        selector,
        group: params.group,
        hostname: params.hostname.filter(|prefix| !prefix.is_empty()),
        state: params.state.as_deref().map(state).transpose()?,
        scope: operator.scope,
        search: params.search.map(search).transpose()?,
        sort,
        after,
        count: list::count(params.total),
        limit: list::limit(params.limit)?,
    };
    let page = app.store.hosts(&query).await?;
    Ok(Json(page.map(HostView::from).into()))
}

/// One host with its sub-agents.
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
) -> Result<Json<HostDetailView>, Problem> {
    found(&app, &agentsn, &operator.scope).await.map(Json)
}

/// Gives a host these tags and no others.
#[utoipa::path(
    operation_id = "set_host_tags",
    put, path = "/api/v1/hosts/{agentsn}/tags", tag = "hosts", request_body = SetTags,
    params(("agentsn" = String, Path, description = "The host")),
    responses(
        (status = 200, description = "The host as it is now", body = HostDetailView),
        BadBody, Missing, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn set_tags(
    May { operator, .. }: May<Operate>,
    State(app): State<App>,
    PathId(agentsn): PathId,
    JsonBody(body): JsonBody<SetTags>,
) -> Result<Json<HostDetailView>, Problem> {
    let tags =
        Tags::parse(&body.tags).map_err(|error| Problem::invalid(&format!("tags: {error}")))?;
    let (scope, by) = (&operator.scope, &operator.by);
    match app.store.set_tags(&agentsn, &tags, scope, by).await? {
        TagsSet::Done => {
            tracing::info!(agentsn, tags = body.tags, "a host's tags were set");
            found(&app, &agentsn, scope).await.map(Json)
        }
        TagsSet::Unknown => Err(Problem::not_found("host")),
        TagsSet::LeavesScope => Err(Problem::invalid(
            "tags: with these the host would be outside of the hosts you are restricted to",
        )),
    }
}

fn state(word: &str) -> Result<Presence, Problem> {
    Presence::parse(word).ok_or_else(|| {
        let words = Presence::ALL.map(Presence::word).join(", ");
        Problem::malformed(&format!("state: one of {words} is expected"))
    })
}

/// A text one can search for.
fn search(text: String) -> Result<String, Problem> {
    let length = text.chars().count();
    match (MIN_SEARCH_CHARS..=MAX_SEARCH_CHARS).contains(&length)
        && !text.chars().any(char::is_control)
    {
        true => Ok(text),
        false => Err(Problem::malformed(&format!(
            "search: {MIN_SEARCH_CHARS} to {MAX_SEARCH_CHARS} characters are expected"
        ))),
    }
}

fn sort(text: Option<&str>) -> Result<HostSort, Problem> {
    let text = text.unwrap_or("hostname");
    let (direction, word) = match text.strip_prefix('-') {
        Some(word) => (Direction::Down, word),
        None => (Direction::Up, text),
    };
    let key = match word {
        "hostname" => SortKey::Hostname,
        "created" => SortKey::Created,
        "since" => SortKey::Since,
        _ => {
            return Err(Problem::malformed(
                "sort: hostname, created or since is expected, or one with - before it",
            ));
        }
    };
    Ok(HostSort { key, direction })
}

async fn found(app: &App, agentsn: &str, scope: &Scope) -> Result<HostDetailView, Problem> {
    let host = app.store.host(agentsn, scope).await?;
    host.map(HostDetailView::from)
        .ok_or_else(|| Problem::not_found("host"))
}
