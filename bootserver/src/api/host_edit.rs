//! PATCH /api/v1/hosts/{agentsn} and PUT .../tags: what operators say of a host.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::hosts::{self, HostDetailView};
use crate::app::App;
use crate::auth::{May, Operate};
use crate::extract::revision::{IfMatch, MustMatch};
use crate::extract::{JsonBody, PathId};
use crate::fleet::tags::Tags;
use crate::openapi::{Allowed, BadBody, Missing, Precondition, Seen};
use crate::problem::Problem;
use crate::store::host::{HostEdit, HostEdited, TagsSet};

/// Longest display name, in bytes.
const MAX_DISPLAY_NAME_BYTES: usize = 128;
/// Longest notes, in bytes.
const MAX_NOTES_BYTES: usize = 16_384;

/// What changes about a host; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EditHost {
    /// What it is called; empty for its host name alone.
    #[schema(max_length = 128)]
    display_name: Option<String>,
    /// What there is to know.
    #[schema(max_length = 16384)]
    notes: Option<String>,
}

/// The tags a host shall have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetTags {
    /// All of them; others go.
    #[schema(example = "svc=ecs,cmpt=DB")]
    tags: String,
}

/// Changes what operators call a host and write about it.
#[utoipa::path(
    operation_id = "edit_host",
    patch, path = "/api/v1/hosts/{agentsn}", tag = "hosts", request_body = EditHost,
    params(
        ("agentsn" = String, Path, description = "The host"),
        ("if-match" = String, Header, description = "The ETag of the revision that is changed, or *")
    ),
    responses(
        (status = 200, description = "The host as it is now", body = HostDetailView),
        BadBody, Missing, Seen, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn edit(
    May { operator, .. }: May<Operate>,
    MustMatch(revision): MustMatch,
    State(app): State<App>,
    PathId(agentsn): PathId,
    JsonBody(body): JsonBody<EditHost>,
) -> Result<Response, Problem> {
    let edit = checked(body)?;
    let (scope, by) = (&operator.scope, &operator.by);
    let found = app.store.edit_host(&agentsn, &edit, revision, scope, by);
    match found.await? {
        HostEdited::Done => {
            tracing::info!(agentsn, "a host was edited");
            hosts::found(&app, &agentsn, scope).await
        }
        HostEdited::Unknown => Err(Problem::not_found("host")),
        HostEdited::Stale => Err(stale()),
    }
}

/// Gives a host these tags and no others.
#[utoipa::path(
    operation_id = "set_host_tags",
    put, path = "/api/v1/hosts/{agentsn}/tags", tag = "hosts", request_body = SetTags,
    params(
        ("agentsn" = String, Path, description = "The host"),
        ("if-match" = Option<String>, Header, description = "The ETag of the revision that is changed")
    ),
    responses(
        (status = 200, description = "The host as it is now", body = HostDetailView),
        BadBody, Missing, Precondition, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn set_tags(
    May { operator, .. }: May<Operate>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(agentsn): PathId,
    JsonBody(body): JsonBody<SetTags>,
) -> Result<Response, Problem> {
    let tags =
        Tags::parse(&body.tags).map_err(|error| Problem::invalid(&format!("tags: {error}")))?;
    let (scope, by) = (&operator.scope, &operator.by);
    let found = app.store.set_tags(&agentsn, &tags, revision, scope, by);
    match found.await? {
        TagsSet::Done => {
            tracing::info!(agentsn, tags = body.tags, "a host's tags were set");
            hosts::found(&app, &agentsn, scope).await
        }
        TagsSet::Unknown => Err(Problem::not_found("host")),
        TagsSet::Stale => Err(stale()),
        TagsSet::LeavesScope => Err(Problem::invalid(
            "tags: with these the host would be outside of the hosts you are restricted to",
        )),
    }
}

fn checked(body: EditHost) -> Result<HostEdit, Problem> {
    let is_name =
        |name: &String| name.len() <= MAX_DISPLAY_NAME_BYTES && !name.chars().any(char::is_control);
    if !body.display_name.as_ref().is_none_or(is_name) {
        return Err(Problem::invalid(&format!(
            "display_name: at most {MAX_DISPLAY_NAME_BYTES} bytes without control characters are expected"
        )));
    }
    let is_text = |notes: &String| notes.len() <= MAX_NOTES_BYTES;
    if !body.notes.as_ref().is_none_or(is_text) {
        return Err(Problem::invalid(&format!(
            "notes: at most {MAX_NOTES_BYTES} bytes are expected"
        )));
    }
    Ok(HostEdit {
        display_name: body.display_name,
        notes: body.notes,
    })
}

/// 412: the host is not as the caller saw it.
pub(super) fn stale() -> Problem {
    Problem::precondition_failed("somebody has changed the host meanwhile; look at it again")
}
