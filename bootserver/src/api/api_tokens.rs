//! /api/v1/api-tokens: what programs show. One makes and revokes one's own; an
//! admin sees and revokes all.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::list::{self, List};
use super::scope_view::{self, HostSetView};
use super::sessions::whose;
use crate::access::role::Role;
use crate::app::App;
use crate::auth::{May, Operator, View};
use crate::extract::revision::{IfMatch, etag};
use crate::extract::{JsonBody, Params, PathId};
use crate::openapi::{Allowed, BadBody, BadQuery, Conflicting, Missing, Precondition};
use crate::problem::Problem;
use crate::store::api_token::{ApiTokenInserted, ApiTokenQuery, ApiTokenRow, NewApiToken};
use crate::store::enrolment::Revoked;
use crate::token::{Token, TokenKind};

/// Longest name of a token, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// Longest life of a token, in seconds: ten years.
const MAX_EXPIRES_IN: u64 = 10 * 366 * 86_400;

/// A token to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiToken {
    /// What it is for.
    #[schema(min_length = 1, max_length = 128, example = "backup job")]
    name: String,
    /// What it may do: no more than its maker.
    role: Role,
    /// The hosts it is restricted to, those in all of these sets, besides its
    /// maker's scope.
    #[serde(default)]
    scope: Vec<HostSetView>,
    /// Seconds from now until it does not hold any more; without it, never.
    #[schema(minimum = 1)]
    expires_in: Option<u64>,
}

/// A token without its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiTokenView {
    /// Its id.
    id: String,
    /// What it is for.
    name: String,
    /// The most it may do.
    role: Role,
    /// The hosts it is restricted to, besides its maker's scope.
    scope: Vec<HostSetView>,
    /// The user who made it; null for the one of the first start.
    maker: Option<String>,
    /// When it was made, in unix milliseconds.
    created: i64,
    /// Until when it holds, in unix milliseconds.
    expires: Option<i64>,
    /// When it was last used, to the minute, in unix milliseconds.
    used: Option<i64>,
    /// When it was revoked, in unix milliseconds.
    revoked: Option<i64>,
    /// Up by one with every change; also the ETag.
    revision: i64,
}

/// A new token with its text, which is shown this once.
#[derive(Serialize, ToSchema)]
pub struct NewApiTokenView {
    /// The text for the program.
    token: String,
    /// The rest.
    #[serde(flatten)]
    view: ApiTokenView,
}

impl From<ApiTokenRow> for ApiTokenView {
    fn from(row: ApiTokenRow) -> Self {
        Self {
            revision: row.revision(),
            id: row.id,
            name: row.name,
            role: row.role,
            scope: scope_view::view(&row.scope),
            maker: row.maker,
            created: row.created,
            expires: row.expires,
            used: row.used,
            revoked: row.revoked,
        }
    }
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ApiTokenParams {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Makes a token for a program.
#[utoipa::path(
    operation_id = "create_api_token",
    post, path = "/api/v1/api-tokens", tag = "API tokens", request_body = CreateApiToken,
    params(("idempotency-key" = Option<String>, Header, description = "1 to 128 printable characters: sent again with the same key and body within 24 h, it is answered as before and not done again")),
    responses(
        (status = 201, description = "Made; the token is shown this once", body = NewApiTokenView),
        BadBody, Conflicting, Allowed
    ),
    security(("operator" = ["viewer"]))
)]
pub async fn create(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    JsonBody(body): JsonBody<CreateApiToken>,
) -> Result<(StatusCode, Json<NewApiTokenView>), Problem> {
    let token = Token::generate(TokenKind::Api);
    let new = checked(&body, &token, &operator)?;
    let stored = match app.store.insert_api_token(&new, &operator.by).await? {
        ApiTokenInserted::Done(stored) => stored,
        ApiTokenInserted::UnknownGroups(ids) => return Err(scope_view::unknown_groups(ids)),
    };
    tracing::info!(id = %stored.id, name = %stored.name, "an API token was made");
    let view = NewApiTokenView {
        token: token.expose().to_owned(),
        view: stored.into(),
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// One's own tokens, as an admin all, newest first.
#[utoipa::path(
    operation_id = "list_api_tokens",
    get, path = "/api/v1/api-tokens", tag = "API tokens", params(ApiTokenParams),
    responses((status = 200, description = "One page", body = List<ApiTokenView>), BadQuery, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn list(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    Params(params): Params<ApiTokenParams>,
) -> Result<Json<List<ApiTokenView>>, Problem> {
    let query = ApiTokenQuery {
        maker: whose(&operator).map(str::to_owned),
        after: list::id_cursor(params.cursor)?,
        limit: list::limit(params.limit)?,
    };
    let page = app.store.api_tokens(&query).await?;
    Ok(Json(page.map(ApiTokenView::from).into()))
}

/// A token: one of one's own, or as an admin any; the ETag says which revision.
#[utoipa::path(
    operation_id = "get_api_token",
    get, path = "/api/v1/api-tokens/{id}", tag = "API tokens",
    params(("id" = String, Path, description = "The token's id")),
    responses((status = 200, description = "The token", body = ApiTokenView), Missing, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn get(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let token = app.store.api_token(&id, whose(&operator)).await?;
    let token = token.ok_or_else(|| Problem::not_found("API token"))?;
    Ok((etag(token.revision()), Json(ApiTokenView::from(token))).into_response())
}

/// Revokes a token: one of one's own, or as an admin any.
#[utoipa::path(
    operation_id = "revoke_api_token",
    delete, path = "/api/v1/api-tokens/{id}", tag = "API tokens",
    params(
        ("id" = String, Path, description = "The token's id"),
        ("if-match" = Option<String>, Header, description = "The ETag of the revision that is revoked")
    ),
    responses(
        (status = 204, description = "It does not hold any more"), Missing, Precondition, Allowed
    ),
    security(("operator" = ["viewer"]))
)]
pub async fn revoke(
    May { operator, .. }: May<View>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let maker = whose(&operator);
    let revoked = app
        .store
        .revoke_api_token(&id, maker, revision, &operator.by);
    match revoked.await? {
        Revoked::Done => {
            tracing::info!(id, "an API token was revoked");
            Ok(StatusCode::NO_CONTENT)
        }
        Revoked::Unknown => Err(Problem::not_found("API token")),
        Revoked::Stale => Err(Problem::precondition_failed(
            "somebody has revoked the token meanwhile; look at it again",
        )),
    }
}

/// A token may no more and not longer than what it is made with.
fn checked(
    body: &CreateApiToken,
    token: &Token,
    operator: &Operator,
) -> Result<NewApiToken, Problem> {
    let control = body.name.chars().any(char::is_control);
    if body.name.is_empty() || body.name.len() > MAX_NAME_BYTES || control {
        let detail = "name: 1 to 128 bytes without control characters are expected";
        return Err(Problem::invalid(detail));
    }
    if body.role > operator.role {
        return Err(Problem::forbidden(&format!(
            "role: a token may no more than its maker, who is {}",
            operator.role.as_str()
        )));
    }
    let expires = match body.expires_in {
        None => operator.expires,
        Some(seconds) if (1..=MAX_EXPIRES_IN).contains(&seconds) => {
            let asked = i64::try_from(seconds)
                .ok()
                .map(|seconds| operator.by.at + seconds * 1000);
            match operator.expires {
                Some(end) => asked.map(|asked| asked.min(end)),
                None => asked,
            }
        }
        Some(_) => {
            let detail = format!("expires_in: 1 to {MAX_EXPIRES_IN} is expected");
            return Err(Problem::invalid(&detail));
        }
    };
    // What the caller is restricted to now holds for the token too: a token's
    // own scope is not its maker's.
    let scope = operator.scope.clone().and(scope_view::scope(&body.scope)?);
    Ok(NewApiToken {
        id: Uuid::now_v7().to_string(),
        name: body.name.clone(),
        digest: token.digest(),
        role: body.role,
        scope,
        maker: operator.user.clone(),
        expires,
    })
}
