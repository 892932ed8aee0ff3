//! /api/v1/session: signing in and out, and who one is. Other sessions are in
//! `sessions`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::scope_view::{self, HostSetView};
use crate::access::password::Password;
use crate::access::role::Role;
use crate::access::session::{LIFE_MILLIS, over_since};
use crate::access::throttle::{Attempt, buckets};
use crate::access::user_name::UserName;
use crate::app::App;
use crate::auth::cookie;
use crate::auth::{Origin, SignedIn};
use crate::extract::JsonBody;
use crate::openapi::{Allowed, BadBody, Busy, Conflicting, SignInRefused};
use crate::problem::Problem;
use crate::store::audit::{Actor, ActorKind};
use crate::store::session::{NewSession, SessionBegun};
use crate::store::user::{KnownUser, NewPassword, PasswordUse, UserChanged, UserState};
use crate::token::{Token, TokenKind};

/// Longest description of a client, in bytes.
const MAX_CLIENT_BYTES: usize = 200;

/// Who wants to be let in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The user's name.
    name: String,
    /// Their password.
    #[schema(format = Password)]
    password: String,
    /// How the session's token comes back.
    #[serde(default)]
    deliver: Deliver,
}

/// How a session's token comes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Deliver {
    /// In the reply, to be shown as a bearer token.
    #[default]
    Token,
    /// As a cookie that scripts of a page do not see.
    Cookie,
}

/// Who one is.
#[derive(Debug, Serialize, ToSchema)]
pub struct WhoAmI {
    /// `user`, `token` or `local`.
    kind: &'static str,
    /// The id of the user or token.
    id: String,
    /// Its name.
    name: String,
    /// What one may do.
    role: Role,
    /// The hosts one is restricted to: those in all of these sets.
    scope: Vec<HostSetView>,
    /// Whether nothing is allowed but choosing another password.
    must_change_password: bool,
    /// The session, if it is one.
    session: Option<String>,
}

/// A session that has begun.
#[derive(Serialize, ToSchema)]
pub struct SessionBegunView {
    /// The token, shown this once; absent when it came as a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The session's id.
    id: String,
    /// When it ends, whatever happens, in unix milliseconds; a night unused ends it too.
    expires: i64,
    /// Whether nothing is allowed but choosing another password.
    must_change_password: bool,
}

/// A new password of one's own.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The one that holds now.
    #[schema(format = Password)]
    current: String,
    /// The one that shall hold.
    #[schema(format = Password, min_length = 12)]
    new: String,
}

/// Begins a session.
#[utoipa::path(
    operation_id = "sign_in",
    post, path = "/api/v1/session", tag = "session", request_body = SignIn,
    responses(
        (status = 201, description = "It has begun", body = SessionBegunView),
        BadBody, SignInRefused, Busy
    ),
    security(())
)]
pub async fn sign_in(
    origin: Origin,
    headers: HeaderMap,
    State(app): State<App>,
    JsonBody(body): JsonBody<SignIn>,
) -> Result<Response, Problem> {
    let counts = buckets(&body.name.to_ascii_lowercase(), origin.ip);
    let now = origin.at;
    if let Attempt::Wait { millis } = app.store.count_attempt(&counts, now).await? {
        return Err(Problem::too_many_attempts(millis));
    }
    app.store.sweep_sessions(now, over_since(now)).await?;
    let known = known_user(&app, &body, &origin).await?;
    let user = known.user;
    let token = Token::generate(TokenKind::Session);
    let actor = Actor {
        kind: ActorKind::User,
        id: user.id.clone(),
        name: user.name.clone(),
    };
    let expires = now + LIFE_MILLIS;
    let session = NewSession {
        id: Uuid::now_v7().to_string(),
        digest: token.digest(),
        user: user.id.clone(),
        password: known.password,
        expires,
        client: client(&headers),
    };
    match app.store.begin_session(&session, &origin.by(actor)).await? {
        SessionBegun::Done => {}
        SessionBegun::Refused => return Err(wrong()),
    }
    app.store.refund_attempt(&counts).await?;
    tracing::info!(user = user.name, session = session.id, "a session began");
    let mut view = SessionBegunView {
        token: None,
        id: session.id,
        expires,
        must_change_password: user.password_use == PasswordUse::OneTime,
    };
    match body.deliver {
        Deliver::Token => {
            view.token = Some(token.expose().to_owned());
            Ok((StatusCode::CREATED, Json(view)).into_response())
        }
        Deliver::Cookie => {
            let cookie = cookie::set(&token, origin.scheme, LIFE_MILLIS / 1000);
            let cookie = HeaderValue::from_str(&cookie).map_err(|_| Problem::internal())?;
            let headers = [(header::SET_COOKIE, cookie)];
            Ok((StatusCode::CREATED, headers, Json(view)).into_response())
        }
    }
}

/// Who one is, and what one may do.
#[utoipa::path(
    operation_id = "get_session",
    get, path = "/api/v1/session", tag = "session",
    responses((status = 200, description = "Who one is", body = WhoAmI), Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn get(SignedIn(operator): SignedIn) -> Json<WhoAmI> {
    let must_change_password = operator.password_use == PasswordUse::OneTime;
    Json(WhoAmI {
        kind: operator.by.actor.kind.as_str(),
        scope: scope_view::view(&operator.scope),
        id: operator.by.actor.id,
        name: operator.by.actor.name,
        role: operator.role,
        must_change_password,
        session: operator.session,
    })
}

/// Ends the session.
#[utoipa::path(
    operation_id = "sign_out",
    delete, path = "/api/v1/session", tag = "session",
    responses((status = 204, description = "It does not hold any more; a token is none, and stays"), Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn sign_out(
    SignedIn(operator): SignedIn,
    State(app): State<App>,
) -> Result<Response, Problem> {
    if let Some(session) = &operator.session {
        app.store.end_session(session, None, &operator.by).await?;
        tracing::info!(session, "a session ended");
    }
    let headers = [(header::SET_COOKIE, HeaderValue::from_static(cookie::GONE))];
    Ok((StatusCode::NO_CONTENT, headers).into_response())
}

/// Chooses another password. One's other sessions end; tokens stay.
#[utoipa::path(
    operation_id = "change_password",
    put, path = "/api/v1/session/password", tag = "session", request_body = ChangePassword,
    responses((status = 204, description = "It holds from now on"), BadBody, SignInRefused, Conflicting, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn change_password(
    SignedIn(operator): SignedIn,
    origin: Origin,
    State(app): State<App>,
    JsonBody(body): JsonBody<ChangePassword>,
) -> Result<StatusCode, Problem> {
    let Some(session) = operator.session.clone() else {
        return Err(Problem::conflict(
            "this is no user's session; sign in first",
        ));
    };
    let name = operator.by.actor.name.clone();
    let counts = buckets(&name, origin.ip);
    if let Attempt::Wait { millis } = app.store.count_attempt(&counts, origin.at).await? {
        return Err(Problem::too_many_attempts(millis));
    }
    let new = Password::choose(&body.new, &name)
        .map_err(|error| Problem::invalid(&format!("new: {error}")))?;
    if body.new == body.current {
        return Err(Problem::invalid(
            "new: another password than the current one is expected",
        ));
    }
    let known = app.store.user_by_name(&name).await?;
    let right = match Password::typed(&body.current) {
        Some(current) => {
            app.passwords
                .check(current, known.map(|known| known.password))
                .await?
        }
        None => false,
    };
    if !right {
        return Err(Problem::invalid(
            "current: this is not the password that holds now",
        ));
    }
    app.store.refund_attempt(&counts).await?;
    let password = NewPassword {
        hash: app.passwords.hash(new).await?,
        password_use: PasswordUse::Lasting,
        keep_session: Some(session),
    };
    match app
        .store
        .set_password(&operator.by.actor.id, &password, &operator.by)
        .await?
    {
        UserChanged::Done(_) => Ok(StatusCode::NO_CONTENT),
        UserChanged::Unknown
        | UserChanged::Stale
        | UserChanged::LastAdmin
        | UserChanged::UnknownGroups(_) => Err(Problem::conflict("the user was deleted meanwhile")),
    }
}

/// The user, if name and password are right. Whatever is wrong, it takes as
/// long and says the same.
async fn known_user(app: &App, body: &SignIn, origin: &Origin) -> Result<KnownUser, Problem> {
    let known = match UserName::parse(&body.name) {
        Ok(name) => app.store.user_by_name(name.as_str()).await?,
        Err(_) => None,
    };
    let password = Password::typed(&body.password).ok_or_else(wrong)?;
    let kept = known.as_ref().map(|known| known.password.clone());
    let right = app.passwords.check(password, kept).await?;
    match known {
        Some(known) if right && known.user.state == UserState::Enabled => Ok(known),
        _ => {
            // What names nobody may be a password typed into the wrong field.
            let name = known.map_or_else(|| "nobody".into(), |known| known.user.name);
            tracing::warn!(name, address = origin.address(), "a sign-in was refused");
            Err(wrong())
        }
    }
}

fn wrong() -> Problem {
    Problem::unauthorized("the name or the password is wrong")
}

fn client(headers: &HeaderMap) -> String {
    let text = headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    bootagent_protocol::truncate(text, MAX_CLIENT_BYTES).to_owned()
}
