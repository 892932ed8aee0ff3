//! Who calls: an operator by a token or a session, a host by its secret.
//!
//! Each is an extractor, so that a handler that names one cannot be reached
//! without it. What operators may do is in `operator`.

pub mod cache;
pub mod cookie;
pub mod operator;
pub mod origin;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use crate::access::role::Role;
use crate::app::App;
use crate::clock::unix_millis;
use crate::fleet::secret;
use crate::problem::Problem;
use crate::store::host::SecretStanding;
use crate::token::{Token, TokenDigest};
use operator::Reach;

pub use operator::{Administer, May, Operate, OperateFleet, Operator, SignedIn, View, ViewFleet};
pub use origin::Origin;

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
        if let Ok(token) = bearer(parts)
            && let Some(host) = host(app, &token).await?
        {
            return Ok(Self::Host(host));
        }
        match operator::operator(parts, app).await? {
            Some(operator) => {
                operator::allowed(&operator, Role::Viewer, Reach::Scope)?;
                Ok(Self::Operator(operator))
            }
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
