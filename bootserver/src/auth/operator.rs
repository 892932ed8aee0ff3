//! Operators: who it is by a token or a session's cookie, and whether they may
//! do what a route needs.
//!
//! A handler for operators takes [`May`] with what it needs; there is no other
//! way to get at the [`Operator`], except [`SignedIn`] for what concerns nobody
//! but the caller.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::origin::Origin;
use super::{bearer, cookie};
use crate::access::role::Role;
use crate::access::scope::Scope;
use crate::access::session::{self, Standing};
use crate::app::App;
use crate::caller::{self, Caller};
use crate::problem::{Problem, chain};
use crate::store::audit::{Actor, ActorKind, By};
use crate::store::user::PasswordUse;
use crate::token::{Token, TokenKind};

/// Somebody who operates: a user in a session, a program with a token, or root
/// of this machine.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Who it is, and from where, for the audit.
    pub by: By,
    /// What they may do.
    pub role: Role,
    /// The hosts they may see.
    pub scope: Scope,
    /// The user: of the session, or who made the token.
    pub user: Option<String>,
    /// The session, if it is one.
    pub session: Option<String>,
    /// What the password of the session was good for.
    pub password_use: PasswordUse,
    /// When the token ends: no token made with it lasts longer. A session bounds
    /// nothing, for its user can always begin another.
    pub expires: Option<i64>,
}

impl Operator {
    /// Whether they may manage users.
    pub fn is_full_admin(&self) -> bool {
        self.role == Role::Admin && self.scope.is_fleet()
    }
}

/// What a route needs. The route's document says the same, as the security
/// requirement `("operator" = ["viewer"])`, with `"fleet"` where a scope
/// excludes; a test calls every route and compares.
pub trait Need: Send + Sync + 'static {
    /// The least role.
    const ROLE: Role;
    /// Which hosts it concerns.
    const REACH: Reach;
}

/// Which hosts a route concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Those of the caller's scope: its handler passes the scope on to the store.
    Scope,
    /// All of them, so that whoever has a scope may not.
    Fleet,
}

/// Reads what the scope holds: `["viewer"]`.
#[derive(Debug)]
pub enum View {}
/// Reads what belongs to no host: `["viewer", "fleet"]`.
#[derive(Debug)]
pub enum ViewFleet {}
/// Changes hosts of the scope: `["operator"]`.
#[derive(Debug)]
pub enum Operate {}
/// Changes what all hosts share: `["operator", "fleet"]`.
#[derive(Debug)]
pub enum OperateFleet {}
/// Manages users and reads what they did: `["admin", "fleet"]`.
#[derive(Debug)]
pub enum Administer {}

macro_rules! need {
    ($($need:ident: $role:ident, $reach:ident;)*) => {
        $(impl Need for $need {
            const ROLE: Role = Role::$role;
            const REACH: Reach = Reach::$reach;
        })*
    };
}

need! {
    View: Viewer, Scope;
    ViewFleet: Viewer, Fleet;
    Operate: Operator, Scope;
    OperateFleet: Operator, Fleet;
    Administer: Admin, Fleet;
}

/// An operator who may do what the route needs.
#[derive(Debug)]
pub struct May<N> {
    /// Who it is.
    pub operator: Operator,
    need: PhantomData<N>,
}

/// An operator, also one who must choose another password first: for who one
/// is, signing out, and the password itself.
#[derive(Debug)]
pub struct SignedIn(pub Operator);

impl<N: Need> FromRequestParts<App> for May<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let operator = required(parts, app).await?;
        allowed(&operator, N::ROLE, N::REACH)?;
        Ok(Self {
            operator,
            need: PhantomData,
        })
    }
}

/// The token or session a request shows; none from local root.
#[derive(Debug)]
pub struct Shown(pub Option<Token>);

impl FromRequestParts<App> for Shown {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        match is_local_admin(parts) {
            true => Ok(Self(None)),
            false => shown(parts).map(|token| Self(Some(token))),
        }
    }
}

impl FromRequestParts<App> for SignedIn {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        required(parts, app).await.map(Self)
    }
}

/// Whether the Unix socket vouches for who asks. Who shows a token means it.
fn is_local_admin(parts: &Parts) -> bool {
    let caller = parts.extensions.get::<Caller>();
    caller.is_some_and(|caller| caller.standing == caller::Standing::LocalAdmin)
        && !parts
            .headers
            .contains_key(axum::http::header::AUTHORIZATION)
}

async fn required(parts: &Parts, app: &App) -> Result<Operator, Problem> {
    operator(parts, app).await?.ok_or_else(|| {
        Problem::unauthorized("the token or session is unknown, revoked or over; sign in again")
    })
}

/// The operator a request comes from. A token in a header counts before a
/// cookie, which browsers send by themselves.
pub(crate) async fn operator(parts: &Parts, app: &App) -> Result<Option<Operator>, Problem> {
    let origin = Origin::of(parts);
    if is_local_admin(parts) {
        return Ok(Some(Operator {
            by: By {
                request: origin.request,
                ..By::local(origin.at)
            },
            role: Role::Admin,
            scope: Scope::fleet(),
            user: None,
            session: None,
            password_use: PasswordUse::Lasting,
            expires: None,
        }));
    }
    let token = shown(parts)?;
    match token.kind() {
        Some(TokenKind::Session) => of_session(app, &token, &origin).await,
        Some(TokenKind::Api) => of_token(app, &token, &origin).await,
        Some(TokenKind::Host | TokenKind::Enrolment) | None => Ok(None),
    }
}

fn shown(parts: &Parts) -> Result<Token, Problem> {
    let has_header = parts
        .headers
        .contains_key(axum::http::header::AUTHORIZATION);
    match cookie::token(&parts.headers) {
        Some(token) if !has_header => {
            cookie::refuse_forged(parts)?;
            Ok(token)
        }
        _ => bearer(parts),
    }
}

async fn of_session(
    app: &App,
    token: &Token,
    origin: &Origin,
) -> Result<Option<Operator>, Problem> {
    let Some(owner) = app.store.session_owner(&token.digest()).await? else {
        return Ok(None);
    };
    let session = owner.session;
    match session::session(session.expires, session.seen, origin.at) {
        Standing::Over => return Ok(None),
        Standing::Holds => {}
        Standing::Used => {
            if let Err(error) = app.store.touch_session(&session.id, origin.at).await {
                tracing::warn!(
                    error = chain(&error),
                    "that a session is in use is not noted"
                );
            }
        }
    }
    let user = owner.user;
    let actor = Actor {
        kind: ActorKind::User,
        id: user.id.clone(),
        name: user.name,
    };
    Ok(Some(Operator {
        by: origin.by(actor),
        role: user.role,
        scope: user.scope,
        user: Some(user.id),
        session: Some(session.id),
        password_use: user.password_use,
        expires: None,
    }))
}

async fn of_token(app: &App, token: &Token, origin: &Origin) -> Result<Option<Operator>, Problem> {
    let Some(owner) = app.store.token_owner(&token.digest()).await? else {
        return Ok(None);
    };
    let (role, scope, token) = (owner.role(), owner.scope(), owner.token);
    match session::token(token.expires, token.used, origin.at) {
        Standing::Over => return Ok(None),
        Standing::Holds => {}
        Standing::Used => {
            if let Err(error) = app.store.touch_api_token(&token.id, origin.at).await {
                tracing::warn!(error = chain(&error), "that a token is in use is not noted");
            }
        }
    }
    let actor = Actor {
        kind: ActorKind::Token,
        id: token.id,
        name: token.name,
    };
    Ok(Some(Operator {
        by: origin.by(actor),
        role,
        scope,
        user: token.maker,
        session: None,
        password_use: PasswordUse::Lasting,
        expires: token.expires,
    }))
}

/// Whether they may do what needs this.
pub(crate) fn allowed(operator: &Operator, role: Role, reach: Reach) -> Result<(), Problem> {
    if operator.password_use == PasswordUse::OneTime {
        return Err(Problem::forbidden(
            "this password is for one time; choose another by PUT /api/v1/session/password",
        ));
    }
    if operator.role < role {
        return Err(Problem::forbidden(&format!(
            "this needs the role {}, and yours is {}",
            role.as_str(),
            operator.role.as_str()
        )));
    }
    match reach {
        Reach::Fleet if !operator.scope.is_fleet() => Err(Problem::forbidden(
            "this concerns all hosts, and you are restricted to some",
        )),
        Reach::Fleet | Reach::Scope => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::scope::HostSet;

    fn operator(role: Role, selector: Option<&str>) -> Operator {
        let set = selector.map(|text| HostSet::tags(text).expect("a selector"));
        Operator {
            by: By::local(0),
            role,
            scope: Scope::of(set).expect("one set"),
            user: None,
            session: None,
            password_use: PasswordUse::Lasting,
            expires: None,
        }
    }

    #[test]
    fn a_role_allows_what_the_ones_below_it_do_and_no_more() {
        let roles = [Role::Viewer, Role::Operator, Role::Admin];
        for has in roles {
            for needed in roles {
                let done = allowed(&operator(has, None), needed, Reach::Fleet);
                assert_eq!(done.is_ok(), has >= needed, "{has:?} for {needed:?}");
            }
        }
    }

    #[test]
    fn a_scope_excludes_from_what_concerns_all_hosts() {
        let scoped = operator(Role::Admin, Some("svc=ecs"));
        assert!(allowed(&scoped, Role::Viewer, Reach::Scope).is_ok());
        assert!(allowed(&scoped, Role::Viewer, Reach::Fleet).is_err());
    }

    #[test]
    fn a_one_time_password_allows_nothing() {
        let mut fresh = operator(Role::Admin, None);
        fresh.password_use = PasswordUse::OneTime;
        assert!(allowed(&fresh, Role::Viewer, Reach::Scope).is_err());
    }
}
