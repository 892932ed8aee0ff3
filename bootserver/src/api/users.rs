//! /api/v1/users: the people who operate.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::list::{self, List};
use super::scope_view::{self, HostSetView};
use crate::access::password::Password;
use crate::access::role::Role;
use crate::access::user_name::UserName;
use crate::app::App;
use crate::auth::{Administer, May};
use crate::extract::revision::{IfMatch, etag};
use crate::extract::{JsonBody, Params, PathId};
use crate::openapi::{Allowed, BadBody, BadQuery, Conflicting, Missing, Precondition};
use crate::problem::Problem;
use crate::store::user::{
    NewPassword, NewUser, PasswordUse, UserChange, UserChanged, UserInserted, UserRow, UserState,
};

/// Longest display name, in bytes.
const MAX_DISPLAY_NAME_BYTES: usize = 128;

/// One user.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserView {
    /// Its id.
    id: String,
    /// What they sign in with.
    name: String,
    /// What others call them.
    display_name: String,
    /// What they may do.
    role: Role,
    /// The hosts they are restricted to: those in all of these sets.
    scope: Vec<HostSetView>,
    /// Whether they may not sign in.
    disabled: bool,
    /// Whether their password is a one-time one.
    must_change_password: bool,
    /// When they were made, in unix milliseconds.
    created: i64,
    /// When they last signed in, in unix milliseconds.
    signed_in: Option<i64>,
    /// Up by one with every change; also the ETag.
    revision: i64,
}

/// A user with a one-time password, which is shown this once.
#[derive(Serialize, ToSchema)]
pub struct UserWithPassword {
    /// To sign in once and choose another.
    one_time_password: String,
    /// The user.
    #[serde(flatten)]
    user: UserView,
}

impl From<UserRow> for UserView {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            display_name: row.display_name,
            role: row.role,
            scope: scope_view::view(&row.scope),
            disabled: row.state == UserState::Disabled,
            must_change_password: row.password_use == PasswordUse::OneTime,
            created: row.created,
            signed_in: row.signed_in,
            revision: row.revision,
        }
    }
}

/// A user to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// What they sign in with; capitals become small.
    #[schema(min_length = 1, max_length = 64, example = "ann")]
    name: String,
    /// What others call them.
    #[serde(default)]
    #[schema(max_length = 128)]
    display_name: String,
    /// What they may do.
    role: Role,
    /// The hosts they are restricted to: those in all of these sets.
    #[serde(default)]
    scope: Vec<HostSetView>,
}

/// What shall be otherwise; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// What others call them.
    #[schema(max_length = 128)]
    display_name: Option<String>,
    /// What they may do.
    role: Option<Role>,
    /// The hosts they are restricted to; [] is all hosts.
    scope: Option<Vec<HostSetView>>,
    /// Whether they may not sign in; it ends their sessions.
    disabled: Option<bool>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UserParams {
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Makes a user with a one-time password.
#[utoipa::path(
    operation_id = "create_user",
    post, path = "/api/v1/users", tag = "users", request_body = CreateUser,
    params(("idempotency-key" = Option<String>, Header, description = "1 to 128 printable characters: sent again with the same key and body within 24 h, it is answered as before and not done again")),
    responses(
        (status = 201, description = "Made; the password is shown this once", body = UserWithPassword),
        BadBody, Conflicting, Allowed
    ),
    security(("operator" = ["admin", "fleet"]))
)]
pub async fn create(
    May { operator, .. }: May<Administer>,
    State(app): State<App>,
    JsonBody(body): JsonBody<CreateUser>,
) -> Result<Response, Problem> {
    let name =
        UserName::parse(&body.name).map_err(|error| Problem::invalid(&format!("name: {error}")))?;
    let scope = scope_view::scope(&body.scope)?;
    let display_name = display_name(&body.display_name)?;
    let password = Password::one_time();
    let new = NewUser {
        id: Uuid::now_v7().to_string(),
        name,
        display_name,
        role: body.role,
        scope,
        password: app.passwords.hash(password.clone()).await?,
    };
    match app.store.insert_user(&new, &operator.by).await? {
        UserInserted::Done(user) => {
            tracing::info!(id = user.id, name = user.name, "a user was made");
            Ok((StatusCode::CREATED, with_password(user, &password)).into_response())
        }
        UserInserted::UnknownGroups(ids) => Err(scope_view::unknown_groups(ids)),
        UserInserted::NameTaken => Err(Problem::conflict("another user has this name")),
    }
}

/// Users by name.
#[utoipa::path(
    operation_id = "list_users",
    get, path = "/api/v1/users", tag = "users", params(UserParams),
    responses((status = 200, description = "One page", body = List<UserView>), BadQuery, Allowed),
    security(("operator" = ["admin", "fleet"]))
)]
pub async fn list(
    _: May<Administer>,
    State(app): State<App>,
    Params(params): Params<UserParams>,
) -> Result<Json<List<UserView>>, Problem> {
    let page = app
        .store
        .users(params.cursor, list::limit(params.limit)?)
        .await?;
    Ok(Json(page.map(UserView::from).into()))
}

/// One user; the ETag says which revision.
#[utoipa::path(
    operation_id = "get_user",
    get, path = "/api/v1/users/{id}", tag = "users",
    params(("id" = String, Path, description = "The user's id")),
    responses((status = 200, description = "The user", body = UserView), Missing, Allowed),
    security(("operator" = ["admin", "fleet"]))
)]
pub async fn get(
    _: May<Administer>,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    match app.store.user(&id).await? {
        Some(user) => Ok(shown(user)),
        None => Err(Problem::not_found("user")),
    }
}

/// Changes a user.
#[utoipa::path(
    operation_id = "change_user",
    patch, path = "/api/v1/users/{id}", tag = "users", request_body = ChangeUser,
    params(
        ("id" = String, Path, description = "The user's id"),
        ("if-match" = Option<String>, Header, description = "The ETag of the revision that is changed")
    ),
    responses(
        (status = 200, description = "The user as it is now", body = UserView),
        BadBody, Missing, Conflicting, Precondition, Allowed
    ),
    security(("operator" = ["admin", "fleet"]))
)]
pub async fn change(
    May { operator, .. }: May<Administer>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
    JsonBody(body): JsonBody<ChangeUser>,
) -> Result<Response, Problem> {
    let scope = body.scope.as_deref().map(scope_view::scope);
    let change = UserChange {
        display_name: body.display_name.as_deref().map(display_name).transpose()?,
        role: body.role,
        scope: scope.transpose()?,
        state: body.disabled.map(|disabled| match disabled {
            true => UserState::Disabled,
            false => UserState::Enabled,
        }),
    };
    let found = app
        .store
        .change_user(&id, &change, revision, &operator.by)
        .await?;
    let user = done(found)?;
    tracing::info!(id, name = user.name, "a user was changed");
    Ok(shown(user))
}

/// Deletes a user. Their sessions end, and the tokens they made are revoked.
#[utoipa::path(
    operation_id = "delete_user",
    delete, path = "/api/v1/users/{id}", tag = "users",
    params(
        ("id" = String, Path, description = "The user's id"),
        ("if-match" = Option<String>, Header, description = "The ETag of the revision that is deleted")
    ),
    responses(
        (status = 204, description = "They are gone"), Missing, Conflicting, Precondition, Allowed
    ),
    security(("operator" = ["admin", "fleet"]))
)]
pub async fn delete(
    May { operator, .. }: May<Administer>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    let user = done(app.store.delete_user(&id, revision, &operator.by).await?)?;
    tracing::info!(id, name = user.name, "a user was deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a user a one-time password. Their sessions end; tokens stay.
#[utoipa::path(
    operation_id = "reset_password",
    post, path = "/api/v1/users/{id}/reset-password", tag = "users",
    params(("id" = String, Path, description = "The user's id")),
    responses(
        (status = 200, description = "Done; the password is shown this once", body = UserWithPassword),
        Missing, Allowed
    ),
    security(("operator" = ["admin", "fleet"]))
)]
pub async fn reset_password(
    May { operator, .. }: May<Administer>,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let password = Password::one_time();
    let new = NewPassword {
        hash: app.passwords.hash(password.clone()).await?,
        password_use: PasswordUse::OneTime,
        keep_session: None,
    };
    let user = done(app.store.set_password(&id, &new, &operator.by).await?)?;
    tracing::info!(id, name = user.name, "a user got a one-time password");
    Ok(with_password(user, &password))
}

fn done(found: UserChanged) -> Result<UserRow, Problem> {
    match found {
        UserChanged::Done(user) => Ok(user),
        UserChanged::Unknown => Err(Problem::not_found("user")),
        UserChanged::Stale => Err(Problem::precondition_failed(
            "somebody else changed the user meanwhile; look at it again",
        )),
        UserChanged::UnknownGroups(ids) => Err(scope_view::unknown_groups(ids)),
        UserChanged::LastAdmin => Err(Problem::conflict(
            "nobody would be left to manage users; make another admin first",
        )),
    }
}

fn shown(user: UserRow) -> Response {
    (etag(user.revision), Json(UserView::from(user))).into_response()
}

fn with_password(user: UserRow, password: &Password) -> Response {
    let etag = etag(user.revision);
    let view = UserWithPassword {
        one_time_password: password.expose().to_owned(),
        user: user.into(),
    };
    (etag, Json(view)).into_response()
}

fn display_name(text: &str) -> Result<String, Problem> {
    if text.len() > MAX_DISPLAY_NAME_BYTES || text.chars().any(char::is_control) {
        let detail = "display_name: at most 128 bytes without control characters are expected";
        return Err(Problem::invalid(detail));
    }
    Ok(text.to_owned())
}
