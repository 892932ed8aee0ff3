//! /api/v1/enrolment-tokens: what lets hosts register.

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
use crate::extract::revision::{IfMatch, etag};
use crate::extract::{JsonBody, Params, PathId};
use crate::fleet::tags::Tags;
use crate::openapi::{Allowed, BadBody, BadQuery, Conflicting, Missing, Precondition};
use crate::problem::Problem;
use crate::store::enrolment::{EnrolmentToken, NewEnrolmentToken, Revoked};
use crate::token::{Token, TokenKind};

/// Longest name of a token, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// Longest life of a token, in seconds: ten years.
const MAX_EXPIRES_IN: u64 = 10 * 366 * 86_400;
/// Most hosts one token may bring in.
const MAX_USES: u64 = 1_000_000_000;

/// A token to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CreateEnrolmentToken {
    /// What it is for.
    #[schema(max_length = 128, example = "rack 7")]
    name: String,
    /// Tags its hosts get.
    #[schema(example = "svc=ecs,cmpt=DB")]
    tags: String,
    /// How many hosts it may bring in; without it, any number.
    #[schema(minimum = 1)]
    uses: Option<u64>,
    /// Seconds from now until it does not hold any more; without it, never.
    #[schema(minimum = 1)]
    expires_in: Option<u64>,
}

/// A token without its text.
#[derive(Debug, Serialize, ToSchema)]
pub struct EnrolmentTokenView {
    /// Its id.
    id: String,
    /// What it is for.
    name: String,
    /// Tags its hosts get.
    tags: String,
    /// How many hosts it may bring in.
    uses: Option<i64>,
    /// How many it has brought in.
    used: i64,
    /// Until when it holds, in unix milliseconds.
    expires: Option<i64>,
    /// When it was made, in unix milliseconds.
    created: i64,
    /// When it was revoked, in unix milliseconds.
    revoked: Option<i64>,
    /// Up by one with every change; also the ETag.
    revision: i64,
}

/// A new token with its text, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewEnrolmentTokenView {
    /// The text for the hosts.
    token: String,
    /// The rest.
    #[serde(flatten)]
    view: EnrolmentTokenView,
}

impl From<EnrolmentToken> for EnrolmentTokenView {
    fn from(token: EnrolmentToken) -> Self {
        let revision = token.revision();
        let EnrolmentToken {
            id,
            name,
            tags,
            uses,
            used,
            expires,
            created,
            revoked,
        } = token;
        Self {
            id,
            name,
            tags,
            uses,
            used,
            expires,
            created,
            revoked,
            revision,
        }
    }
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Makes a token with which hosts register.
#[utoipa::path(
    operation_id = "create_enrolment_token",
    post, path = "/api/v1/enrolment-tokens", tag = "enrolment tokens",
    request_body = CreateEnrolmentToken,
    params(("idempotency-key" = Option<String>, Header, description = "1 to 128 printable characters: sent again with the same key and body within 24 h, it is answered as before and not done again")),
    responses(
        (status = 201, description = "Made; the token is shown this once", body = NewEnrolmentTokenView),
        BadBody, Conflicting, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn create(
    May { operator, .. }: May<OperateFleet>,
    State(app): State<App>,
    JsonBody(body): JsonBody<CreateEnrolmentToken>,
) -> Result<(StatusCode, Json<NewEnrolmentTokenView>), Problem> {
    let token = Token::generate(TokenKind::Enrolment);
    let stored = app
        .store
        .insert_enrolment_token(&checked(&body, &token)?, &operator.by)
        .await?;
    tracing::info!(id = %stored.id, name = %stored.name, "an enrolment token was made");
    let view = NewEnrolmentTokenView {
        token: token.expose().to_owned(),
        view: stored.into(),
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Enrolment tokens, newest first.
#[utoipa::path(
    operation_id = "list_enrolment_tokens",
    get, path = "/api/v1/enrolment-tokens", tag = "enrolment tokens", params(PageParams),
    responses(
        (status = 200, description = "One page", body = List<EnrolmentTokenView>), BadQuery, Allowed
    ),
    security(("operator" = ["viewer", "fleet"]))
)]
pub async fn list(
    _: May<ViewFleet>,
    State(app): State<App>,
    Params(params): Params<PageParams>,
) -> Result<Json<List<EnrolmentTokenView>>, Problem> {
    let after = list::id_cursor(params.cursor)?;
    let page = app
        .store
        .enrolment_tokens(after, list::limit(params.limit)?)
        .await?;
    Ok(Json(page.map(EnrolmentTokenView::from).into()))
}

/// One token; the ETag says which revision.
#[utoipa::path(
    operation_id = "get_enrolment_token",
    get, path = "/api/v1/enrolment-tokens/{id}", tag = "enrolment tokens",
    params(("id" = String, Path, description = "The token's id")),
    responses((status = 200, description = "The token", body = EnrolmentTokenView), Missing, Allowed),
    security(("operator" = ["viewer", "fleet"]))
)]
pub async fn get(
    _: May<ViewFleet>,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let token = app.store.enrolment_token_by_id(&id).await?;
    let token = token.ok_or_else(|| Problem::not_found("enrolment token"))?;
    Ok((
        etag(token.revision()),
        Json(EnrolmentTokenView::from(token)),
    )
        .into_response())
}

/// Revokes a token; hosts that came with it stay.
#[utoipa::path(
    operation_id = "revoke_enrolment_token",
    delete, path = "/api/v1/enrolment-tokens/{id}", tag = "enrolment tokens",
    params(
        ("id" = String, Path, description = "The token's id"),
        ("if-match" = Option<String>, Header, description = "The ETag of the revision that is revoked")
    ),
    responses(
        (status = 204, description = "It does not hold any more"), Missing, Precondition, Allowed
    ),
    security(("operator" = ["operator", "fleet"]))
)]
pub async fn revoke(
    May { operator, .. }: May<OperateFleet>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let revoked = app
        .store
        .revoke_enrolment_token(&id, revision, &operator.by);
    match revoked.await? {
        Revoked::Done => {
            tracing::info!(id, "an enrolment token was revoked");
            Ok(StatusCode::NO_CONTENT)
        }
        Revoked::Unknown => Err(Problem::not_found("enrolment token")),
        Revoked::Stale => Err(Problem::precondition_failed(
            "somebody has revoked the token meanwhile; look at it again",
        )),
    }
}

fn checked(body: &CreateEnrolmentToken, token: &Token) -> Result<NewEnrolmentToken, Problem> {
    if body.name.len() > MAX_NAME_BYTES || body.name.chars().any(char::is_control) {
        let detail = "name: at most 128 bytes without control characters are expected";
        return Err(Problem::invalid(detail));
    }
    let tags =
        Tags::parse(&body.tags).map_err(|error| Problem::invalid(&format!("tags: {error}")))?;
    let within = |field: &str, value: Option<u64>, max: u64| match value {
        None => Ok(None),
        Some(value) if (1..=max).contains(&value) => Ok(i64::try_from(value).ok()),
        Some(_) => Err(Problem::invalid(&format!(
            "{field}: 1 to {max} is expected"
        ))),
    };
    let uses = within("uses", body.uses, MAX_USES)?;
    let expires_in = within("expires_in", body.expires_in, MAX_EXPIRES_IN)?;
    let created = unix_millis();
    Ok(NewEnrolmentToken {
        id: Uuid::now_v7().to_string(),
        name: body.name.clone(),
        digest: token.digest(),
        tags,
        uses,
        expires: expires_in.map(|seconds| created + seconds * 1000),
        created,
    })
}
