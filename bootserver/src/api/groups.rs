//! /api/v1/groups: hosts that belong together.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::list::{self, List};
use crate::app::App;
use crate::auth::{May, OperateFleet, ViewFleet};
use crate::clock::unix_millis;
use crate::extract::revision::{IfMatch, MustMatch, etag};
use crate::extract::{JsonBody, Params, PathId};
use crate::fleet::group::{MAX_GROUPS, MAX_NAMED};
use crate::fleet::selector::Selector;
use crate::openapi::{Allowed, BadBody, BadQuery, Conflicting, Missing, Precondition, Seen};
use crate::problem::Problem;
use crate::store::group::{
    Group, GroupDeleted, GroupQuery, GroupStored, GroupTerms, Named, Naming,
};
use crate::wire;

/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// Longest description, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 4096;

/// A group of hosts. A host is in it when it is named, or selected, or in one of
/// its groups.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupView {
    /// Its id.
    id: String,
    /// Its name, which no other group has.
    #[schema(example = "databases")]
    name: String,
    /// What it is for.
    description: String,
    /// Hosts with such tags are in it.
    #[schema(example = "svc=ecs,cmpt!=DB,region in (cn,eu),gpu,!old")]
    selector: Option<String>,
    /// Ids of the groups directly in it.
    groups: Vec<String>,
    /// How many hosts it names one by one.
    named: i64,
    /// When it was made, in unix milliseconds.
    created: i64,
    /// Up by one with every change; also the ETag.
    version: i64,
}

impl From<Group> for GroupView {
    fn from(group: Group) -> Self {
        Self {
            id: group.id,
            name: group.name,
            description: group.description,
            selector: group.selector.map(|selector| selector.to_string()),
            groups: group.groups.into_iter().collect(),
            named: group.named,
            created: group.created,
            version: group.version,
        }
    }
}

/// What a group shall be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupBody {
    /// Its name, which no other group has.
    #[schema(min_length = 1, max_length = 128)]
    name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 4096)]
    description: String,
    /// Hosts with such tags are in it; without it, none are by their tags.
    selector: Option<String>,
    /// Ids of the groups directly in it.
    #[serde(default)]
    #[schema(max_items = 32)]
    groups: BTreeSet<String>,
}

/// Hosts a group names from now on, or no longer.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NamedHosts {
    /// Hosts to name, by agentsn.
    add: Vec<String>,
    /// Hosts to name no longer.
    remove: Vec<String>,
}

/// Which groups.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GroupParams {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Groups, sorted by name.
#[utoipa::path(
    operation_id = "list_groups",
    get, path = "/api/v1/groups", tag = "groups", params(GroupParams),
    responses((status = 200, description = "One page", body = List<GroupView>), BadQuery, Allowed),
    security(("operator" = ["viewer", "fleet"]))
)]
pub async fn list(
    _: May<ViewFleet>,
    State(app): State<App>,
    Params(params): Params<GroupParams>,
) -> Result<Json<List<GroupView>>, Problem> {
    let query = GroupQuery {
        after: list::cursor(params.cursor.as_deref())?,
        limit: list::limit(params.limit)?,
    };
    let page = app.store.groups(&query).await?;
    Ok(Json(page.map(GroupView::from).into()))
}

/// One group; the ETag says which version.
#[utoipa::path(
    operation_id = "get_group",
    get, path = "/api/v1/groups/{id}", tag = "groups",
    params(("id" = String, Path, description = "The group")),
    responses((status = 200, description = "The group", body = GroupView), Missing, Allowed),
    security(("operator" = ["viewer", "fleet"]))
)]
pub async fn get(
    _: May<ViewFleet>,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let group = app.store.group(&id).await?;
    let group = group.ok_or_else(|| Problem::not_found("group"))?;
    Ok(shown(group))
}

/// Makes a group.
#[utoipa::path(
    operation_id = "create_group",
    post, path = "/api/v1/groups", tag = "groups", request_body = GroupBody,
    params(("idempotency-key" = Option<String>, Header, description = "1 to 128 printable characters: sent again with the same key and body within 24 h, it is answered as before and not done again")),
    responses(
        (status = 201, description = "Made", body = GroupView), BadBody, Conflicting, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn create(
    May { operator, .. }: May<OperateFleet>,
    State(app): State<App>,
    JsonBody(body): JsonBody<GroupBody>,
) -> Result<Response, Problem> {
    let terms = terms(Uuid::now_v7().to_string(), body)?;
    let group = stored(app.store.insert_group(&terms, &operator.by).await?)?;
    tracing::info!(group = group.id, name = group.name, "a group was made");
    Ok((StatusCode::CREATED, shown(group)).into_response())
}

/// Changes a group. The hosts it names one by one stay.
#[utoipa::path(
    operation_id = "change_group",
    put, path = "/api/v1/groups/{id}", tag = "groups", request_body = GroupBody,
    params(
        ("id" = String, Path, description = "The group"),
        ("if-match" = String, Header, description = "The ETag of the version that is changed, or *")
    ),
    responses(
        (status = 200, description = "Changed", body = GroupView),
        BadBody, Missing, Conflicting, Seen, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn change(
    May { operator, .. }: May<OperateFleet>,
    MustMatch(version): MustMatch,
    State(app): State<App>,
    PathId(id): PathId,
    JsonBody(body): JsonBody<GroupBody>,
) -> Result<Response, Problem> {
    let terms = terms(id, body)?;
    let group = stored(
        app.store
            .update_group(&terms, version, &operator.by)
            .await?,
    )?;
    tracing::info!(group = group.id, name = group.name, "a group was changed");
    Ok(shown(group))
}

/// Names hosts of a group one by one, and names others no longer.
#[utoipa::path(
    operation_id = "name_group_hosts",
    post, path = "/api/v1/groups/{id}/hosts", tag = "groups", request_body = NamedHosts,
    params(("id" = String, Path, description = "The group")),
    responses(
        (status = 200, description = "The group as it is now", body = GroupView),
        BadBody, Missing, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn name_hosts(
    May { operator, .. }: May<OperateFleet>,
    State(app): State<App>,
    PathId(id): PathId,
    JsonBody(body): JsonBody<NamedHosts>,
) -> Result<Response, Problem> {
    if body.add.len() + body.remove.len() > MAX_NAMED {
        let detail = format!("one change may name at most {MAX_NAMED} hosts");
        return Err(Problem::invalid(&detail));
    }
    let agentsns = |texts: &[String]| {
        let all = texts.iter().map(|text| wire::agentsn(text));
        let all = all.collect::<Result<BTreeSet<_>, _>>();
        all.map(|all| all.into_iter().collect::<Vec<_>>())
            .map_err(|error| Problem::invalid(&error.to_string()))
    };
    let naming = Naming {
        id,
        add: agentsns(&body.add)?,
        remove: agentsns(&body.remove)?,
    };
    match app.store.name_hosts(&naming, &operator.by).await? {
        Named::Done(group) => {
            let (added, removed) = (naming.add.len(), naming.remove.len());
            tracing::info!(
                group = group.id,
                added,
                removed,
                "hosts of a group were named"
            );
            Ok(shown(group))
        }
        Named::Unknown => Err(Problem::not_found("group")),
        Named::UnknownHosts(agentsns) => Err(Problem::unknown_hosts(agentsns)),
    }
}

/// Deletes a group; its hosts stay. One that is in another group, or that somebody
/// is restricted to, stays, too.
#[utoipa::path(
    operation_id = "delete_group",
    delete, path = "/api/v1/groups/{id}", tag = "groups",
    params(
        ("id" = String, Path, description = "The group"),
        ("if-match" = Option<String>, Header, description = "The ETag of the version that is deleted")
    ),
    responses(
        (status = 204, description = "It is gone"), Missing, Conflicting, Precondition, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn delete(
    May { operator, .. }: May<OperateFleet>,
    IfMatch(version): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    match app.store.delete_group(&id, version, &operator.by).await? {
        GroupDeleted::Done => {
            tracing::info!(group = id, "a group was deleted");
            Ok(StatusCode::NO_CONTENT)
        }
        GroupDeleted::Changed => Err(changed()),
        GroupDeleted::Unknown => Err(Problem::not_found("group")),
        GroupDeleted::InUse(holders) => {
            let holders = holders.join(", ");
            let detail = format!("it is in other groups: {holders}; take it out of them first");
            Err(Problem::conflict(&detail))
        }
        GroupDeleted::Assigned(assignments) => Err(Problem::conflict(&format!(
            "assignments are for its hosts: {}; delete them first",
            assignments.join(", ")
        ))),
        GroupDeleted::IsScope { users, api_tokens } => {
            let users = users.iter().map(|name| format!("user {name}"));
            let api_tokens = api_tokens.iter().map(|name| format!("API token {name}"));
            let who: Vec<String> = users.chain(api_tokens).collect();
            Err(Problem::conflict(&format!(
                "it is the scope of {}; give them another one, or revoke them, first",
                who.join(", ")
            )))
        }
    }
}

fn shown(group: Group) -> Response {
    (etag(group.version), Json(GroupView::from(group))).into_response()
}

fn changed() -> Problem {
    Problem::precondition_failed("somebody has changed it meanwhile; read it again")
}

fn terms(id: String, body: GroupBody) -> Result<GroupTerms, Problem> {
    let name = body.name.trim();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(Problem::invalid(&format!(
            "name: 1 to {MAX_NAME_BYTES} bytes without control characters are expected"
        )));
    }
    if body.description.len() > MAX_DESCRIPTION_BYTES {
        return Err(Problem::invalid(&format!(
            "description: at most {MAX_DESCRIPTION_BYTES} bytes are expected"
        )));
    }
    let selector = body.selector.as_deref().map(Selector::parse).transpose();
    let selector = selector.map_err(|error| Problem::invalid(&format!("selector: {error}")))?;
    if selector.as_ref().is_some_and(Selector::is_empty) {
        return Err(Problem::invalid(
            "selector: an empty one would mean every host; leave it out for none",
        ));
    }
    let group_id = |text: &String| {
        let id = Uuid::try_parse(text);
        id.map(|id| id.hyphenated().to_string())
            .map_err(|_| Problem::invalid("groups: ids of groups are expected"))
    };
    Ok(GroupTerms {
        id,
        name: name.to_owned(),
        description: body.description,
        selector,
        groups: body.groups.iter().map(group_id).collect::<Result<_, _>>()?,
        now: unix_millis(),
    })
}

fn stored(stored: GroupStored) -> Result<Group, Problem> {
    match stored {
        GroupStored::Done(group) => Ok(group),
        GroupStored::Unknown => Err(Problem::not_found("group")),
        GroupStored::Changed => Err(changed()),
        GroupStored::NameTaken => Err(Problem::conflict("another group has this name")),
        GroupStored::UnknownGroups(ids) => Err(Problem::invalid_list(
            "groups: some of them do not exist",
            ids,
        )),
        GroupStored::Nesting(error) => Err(Problem::invalid(&format!("groups: {error}"))),
        GroupStored::TooMany => Err(Problem::conflict(&format!(
            "there are {MAX_GROUPS} groups, which is the most there may be"
        ))),
    }
}
