//! Who calls: an operator by an API token, a host by its secret.
//!
//! Each is an extractor, so that a handler that names one cannot be reached
//! without it.

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use crate::app::App;
use crate::problem::Problem;
use crate::store::host::SecretStanding;
use crate::token::Token;

/// An operator with a valid API token.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The token's id.
    pub token: String,
}

/// A host with its own secret.
#[derive(Debug, Clone)]
pub struct Host {
    /// Which one.
    pub agentsn: String,
}

/// Anybody who may read packages.
#[derive(Debug, Clone)]
pub enum Reader {
    /// A host fetches what it shall install.
    Host(Host),
    /// An operator looks at it.
    Operator(Operator),
}

impl FromRequestParts<App> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = bearer(parts)?;
        operator(app, &token)
            .await?
            .ok_or_else(|| Problem::unauthorized("the API token is unknown or revoked"))
    }
}

impl FromRequestParts<App> for Host {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let token = bearer(parts)?;
        host(app, &token).await?.ok_or_else(|| {
            Problem::unauthorized("the token is no host's secret; register with an enrolment token")
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
    Ok(id.map(|token| Operator { token }))
}

/// A secret that is used for the first time becomes the host's only one.
pub async fn host(app: &App, token: &Token) -> Result<Option<Host>, Problem> {
    let digest = token.digest();
    let Some(owner) = app.store.secret_owner(&digest).await? else {
        return Ok(None);
    };
    if owner.standing == SecretStanding::New {
        app.store.promote_secret(&digest).await?;
    }
    Ok(Some(Host {
        agentsn: owner.agentsn,
    }))
}
