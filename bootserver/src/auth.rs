//! Who calls: an operator by an API token, a host by its secret.
//!
//! Each is an extractor, so that a handler that names one cannot be reached
//! without it. A handler for operators names what it needs as well, `May<View>`
//! for one; there is no other way to get at the [`Operator`].

use std::marker::PhantomData;

pub mod cache;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use crate::access::role::Role;
use crate::access::scope::Scope;
use crate::app::App;
use crate::clock::unix_millis;
use crate::fleet::secret;
use crate::problem::Problem;
use crate::store::host::SecretStanding;
use crate::token::{Token, TokenDigest};

/// An operator with a valid API token.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The token's id.
    pub token: String,
    /// What they may do.
    pub role: Role,
    /// The hosts they may see.
    pub scope: Scope,
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

/// A host with its own secret.
#[derive(Debug, Clone)]
pub struct Host {
    /// Which one.
    pub agentsn: String,
}

/// A host that pushes a status. Its secret may have been taken away a moment
/// ago: what it writes names the secret's number, and the store looks.
#[derive(Debug)]
pub struct Pusher {
    /// Which one.
    pub agentsn: String,
    /// The secret's number, as far as this replica knows.
    pub number: i64,
    /// The secret's SHA-256.
    pub secret: TokenDigest,
}

/// Anybody who may read packages.
#[derive(Debug)]
pub enum Reader {
    /// A host fetches what it shall install.
    Host(Host),
    /// An operator looks at it.
    Operator(Operator),
}

impl<N: Need> FromRequestParts<App> for May<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = bearer(parts)?;
        let operator = operator(app, &token)
            .await?
            .ok_or_else(|| Problem::unauthorized("the API token is unknown or revoked"))?;
        allowed(&operator, N::ROLE, N::REACH)?;
        Ok(Self {
            operator,
            need: PhantomData,
        })
    }
}

impl FromRequestParts<App> for Host {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = bearer(parts)?;
        host(app, &token).await?.ok_or_else(no_secret)
    }
}

impl FromRequestParts<App> for Pusher {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let secret = bearer(parts)?.digest();
        let (agentsn, number) = owner(app, &secret, Trust::Remembered)
            .await?
            .ok_or_else(no_secret)?;
        Ok(Self {
            agentsn,
            number,
            secret,
        })
    }
}

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = bearer(parts)?;
        if let Some(host) = host(app, &token).await? {
            return Ok(Self::Host(host));
        }
        match operator(app, &token).await? {
            Some(operator) => Ok(Self::Operator(operator)),
            None => Err(Problem::unauthorized(
                "a host's secret or an API token is expected",
            )),
        }
    }
}

/// The token of a request, whatever it is for.
pub fn bearer(parts: &Parts) -> Result<Token, Problem> {
    parts
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(Token::from_bearer)
        .ok_or_else(|| Problem::unauthorized("the header Authorization: Bearer TOKEN is expected"))
}

async fn operator(app: &App, token: &Token) -> Result<Option<Operator>, Problem> {
    let id = app.store.api_token(&token.digest()).await?;
    Ok(id.map(|token| Operator {
        token,
        role: Role::Admin,
        scope: Scope::fleet(),
    }))
}

fn allowed(operator: &Operator, role: Role, reach: Reach) -> Result<(), Problem> {
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

/// The host a token is the secret of.
pub async fn host(app: &App, token: &Token) -> Result<Option<Host>, Problem> {
    let owner = owner(app, &token.digest(), Trust::Fresh).await?;
    Ok(owner.map(|(agentsn, _)| Host { agentsn }))
}

/// How old what this replica remembers of a secret may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// A few seconds: nobody looks again.
    Fresh,
    /// Any age: the write looks again.
    Remembered,
}

/// Whose secret it is, and its number. One that is used for the first time
/// becomes the host's only one.
async fn owner(
    app: &App,
    digest: &TokenDigest,
    trust: Trust,
) -> Result<Option<(String, i64)>, Problem> {
    if let Some(known) = app.secrets.get(digest)
        && (known.is_fresh || trust == Trust::Remembered)
    {
        return Ok(Some((known.agentsn.to_string(), known.number)));
    }
    let Some(owner) = app.store.secret_owner(digest).await? else {
        app.secrets.forget(digest);
        return Ok(None);
    };
    let number = match owner.standing {
        SecretStanding::Current => Some(owner.number),
        SecretStanding::New => {
            let rotate_due = secret::rotate_due(unix_millis(), random());
            app.store.promote_secret(digest, rotate_due).await?
        }
    };
    if let Some(number) = number {
        app.secrets.put(digest, &owner.agentsn, number);
    }
    Ok(number.map(|number| (owner.agentsn, number)))
}

/// A number to spread what would come all at once.
pub fn random() -> u32 {
    getrandom::u32().expect("the kernel gives random bytes once it has booted")
}

fn no_secret() -> Problem {
    Problem::unauthorized("the token is no host's secret; register with an enrolment token")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::scope::HostSet;

    fn operator(role: Role, selector: Option<&str>) -> Operator {
        let set = selector.map(|text| HostSet::tags(text).expect("a selector"));
        let scope = Scope::of(set).expect("one set");
        Operator {
            token: String::new(),
            role,
            scope,
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
}
