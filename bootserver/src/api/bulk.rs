//! POST /api/v1/hosts/bulk and /api/v1/groups/{id}/hosts/bulk: one change of all
//! hosts of a query.
//!
//! The query is that of the list, and the change says how many hosts it expects:
//! what an operator has seen is what is changed, or nothing is. The one rule: the
//! hosts are changed part by part, each part whole or not at all, and a change that
//! broke off can be sent again.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::host_query::HostParams;
use crate::app::App;
use crate::auth::{May, Operate, OperateFleet, Operator};
use crate::extract::{JsonBody, Params, PathId};
use crate::fleet::presence::Presence;
use crate::fleet::tags::{self, MAX_TAGS, Tags};
use crate::openapi::{Allowed, BadBody, Conflicting, Missing};
use crate::problem::Problem;
use crate::store::bulk::{BulkChange, BulkPart, MAX_PART, PartChanged};
use crate::store::host::HostQuery;
use crate::token::{Token, TokenKind};

/// Most hosts of one change: what fits in the time of one request.
const MAX_HOSTS: usize = 100_000;
/// Hosts that a refusal names.
const NAMED: usize = 20;

/// What becomes of the hosts of the query.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeHosts {
    /// `tag` (with `set` and `unset`), `revoke` or `delete`.
    #[schema(example = "tag")]
    action: String,
    /// How many hosts the query has; if it has others, nothing is changed (409).
    expected_hosts: u64,
    /// Tags they get; another value of the same key goes.
    #[schema(example = "svc=ecs")]
    set: Option<String>,
    /// Keys of tags they lose.
    #[serde(default)]
    #[schema(max_items = 64)]
    unset: Vec<String>,
}

/// Whether a group names the hosts of the query.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeMembers {
    /// `add` or `remove`: whether the group names them one by one.
    #[schema(example = "add")]
    action: String,
    /// How many hosts the query has; if it has others, nothing is changed (409).
    expected_hosts: u64,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangedHosts {
    /// Hosts of the query.
    hosts: usize,
    /// Those that were changed.
    changed: usize,
    /// Those that were so already, or left meanwhile.
    unchanged: usize,
    /// Those there was no time for: send it again.
    left: usize,
}

/// Changes all hosts of a query, part by part. The query is that of the list of
/// hosts, without `sort`, `total`, `cursor` and `limit`. Sent again, it changes those
/// that are left.
#[utoipa::path(
    operation_id = "change_hosts",
    post, path = "/api/v1/hosts/bulk", tag = "hosts", request_body = ChangeHosts,
    params(
        HostParams,
        ("idempotency-key" = Option<String>, Header, description = "1 to 128 printable characters: sent again with the same key, query and body within 24 h, it is answered as before and not done again")
    ),
    responses(
        (status = 200, description = "Changed, as far as there was time", body = ChangedHosts),
        BadBody, Conflicting, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn change_hosts(
    May { operator, .. }: May<Operate>,
    State(app): State<App>,
    Params(params): Params<HostParams>,
    JsonBody(body): JsonBody<ChangeHosts>,
) -> Result<Json<ChangedHosts>, Problem> {
    let change = change(&body)?;
    let query = params.filter(operator.scope.clone())?;
    run(&app, &operator, &query, body.expected_hosts, &change).await
}

/// Has a group name all hosts of a query one by one, or name them no longer. The
/// query is that of the list of hosts, without `sort`, `total`, `cursor` and `limit`.
#[utoipa::path(
    operation_id = "change_group_hosts",
    post, path = "/api/v1/groups/{id}/hosts/bulk", tag = "groups", request_body = ChangeMembers,
    params(
        ("id" = String, Path, description = "The group"),
        HostParams,
        ("idempotency-key" = Option<String>, Header, description = "1 to 128 printable characters: sent again with the same key, query and body within 24 h, it is answered as before and not done again")
    ),
    responses(
        (status = 200, description = "Changed, as far as there was time", body = ChangedHosts),
        BadBody, Missing, Conflicting, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn change_members(
    May { operator, .. }: May<OperateFleet>,
    State(app): State<App>,
    PathId(id): PathId,
    Params(params): Params<HostParams>,
    JsonBody(body): JsonBody<ChangeMembers>,
) -> Result<Json<ChangedHosts>, Problem> {
    if app.store.group(&id).await?.is_none() {
        return Err(Problem::not_found("group"));
    }
    let change = match body.action.as_str() {
        "add" => BulkChange::Name(id),
        "remove" => BulkChange::NameNot(id),
        _ => return Err(Problem::invalid("action: add or remove is expected")),
    };
    let query = params.filter(operator.scope.clone())?;
    run(&app, &operator, &query, body.expected_hosts, &change).await
}

fn change(body: &ChangeHosts) -> Result<BulkChange, Problem> {
    let is_tag = body.set.is_some() || !body.unset.is_empty();
    let to = match body.action.as_str() {
        "tag" => return tag(body),
        "revoke" => Presence::Revoked,
        "delete" => Presence::Deleted,
        _ => {
            return Err(Problem::invalid(
                "action: tag, revoke or delete is expected",
            ));
        }
    };
    match is_tag {
        true => Err(Problem::invalid("set and unset belong to the action tag")),
        false => Ok(BulkChange::TakeOut(to)),
    }
}

fn tag(body: &ChangeHosts) -> Result<BulkChange, Problem> {
    let set = Tags::parse(body.set.as_deref().unwrap_or_default())
        .map_err(|error| Problem::invalid(&format!("set: {error}")))?;
    if body.unset.len() > MAX_TAGS {
        return Err(Problem::invalid(&format!(
            "unset: at most {MAX_TAGS} keys are expected"
        )));
    }
    let keys = body.unset.iter().map(|text| tags::key(text));
    let unset: Vec<String> = keys
        .collect::<Result<_, _>>()
        .map_err(|error| Problem::invalid(&format!("unset: {error}")))?;
    if set.is_empty() && unset.is_empty() {
        return Err(Problem::invalid("set or unset: a tag is expected"));
    }
    if let Some(both) = unset.iter().find(|key| set.get(key).is_some()) {
        return Err(Problem::invalid(&format!("{both} is in set and in unset")));
    }
    Ok(BulkChange::Tag { set, unset })
}

async fn run(
    app: &App,
    operator: &Operator,
    query: &HostQuery,
    expected: u64,
    change: &BulkChange,
) -> Result<Json<ChangedHosts>, Problem> {
    let begun = Instant::now();
    let agentsns = app.store.agentsns(query, MAX_HOSTS).await?;
    let Some(agentsns) = agentsns else {
        return Err(Problem::invalid(&format!(
            "one change may have at most {MAX_HOSTS} hosts; narrow it"
        )));
    };
    let hosts = agentsns.len();
    if usize::try_from(expected) != Ok(hosts) {
        return Err(Problem::conflict(&format!(
            "{expected} hosts were expected and there are {hosts}; nothing was changed"
        )));
    }
    let (mut done, mut changed) = (0, 0);
    for agentsns in agentsns.chunks(MAX_PART) {
        if begun.elapsed() >= app.bounds.request_timeout {
            break;
        }
        changed += one_part(app, operator, change, agentsns)
            .await
            .map_err(|problem| problem.after(done, hosts))?;
        done += agentsns.len();
    }
    tracing::info!(
        hosts,
        changed,
        left = hosts - done,
        "many hosts were changed"
    );
    Ok(Json(ChangedHosts {
        hosts,
        changed,
        unchanged: done - changed,
        left: hosts - done,
    }))
}

async fn one_part(
    app: &App,
    operator: &Operator,
    change: &BulkChange,
    agentsns: &[String],
) -> Result<usize, Problem> {
    let nobodies = match change {
        BulkChange::TakeOut(_) => agentsns.len(),
        BulkChange::Tag { .. } | BulkChange::Name(_) | BulkChange::NameNot(_) => 0,
    };
    let nobody = || Token::generate(TokenKind::Host).digest();
    let part = BulkPart {
        agentsns: agentsns.to_vec(),
        nobodies: std::iter::repeat_with(nobody).take(nobodies).collect(),
    };
    let (scope, by) = (&operator.scope, &operator.by);
    let some = |mut agentsns: Vec<String>| {
        agentsns.truncate(NAMED);
        agentsns
    };
    match app.store.change_hosts(change, &part, scope, by).await? {
        PartChanged::Done(changed) => Ok(changed),
        PartChanged::LeavesScope(agentsns) => Err(Problem::invalid_list(
            "with these tags hosts would be outside of the hosts you are restricted to",
            some(agentsns),
        )),
        PartChanged::TooManyTags(agentsns) => Err(Problem::invalid_list(
            &format!("with these tags hosts would have more than {MAX_TAGS}"),
            some(agentsns),
        )),
        PartChanged::NoGroup => Err(Problem::not_found("group")),
    }
}
