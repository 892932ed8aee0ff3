//! From where and when a request comes, for the audit and for counting
//! attempts to sign in.

use std::convert::Infallible;
use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::app::App;
use crate::caller::Caller;
use crate::clock::unix_millis;
use crate::config::Scheme;
use crate::request_id;
use crate::store::audit::{Actor, By};

/// Where a request comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Its address.
    pub ip: Option<IpAddr>,
    /// What was spoken.
    pub scheme: Scheme,
    /// The request's id.
    pub request: Option<String>,
    /// When it came, in unix milliseconds.
    pub at: i64,
}

impl Origin {
    /// The origin of a request.
    pub fn of(parts: &Parts) -> Self {
        let caller: Option<&Caller> = parts.extensions.get();
        Self {
            ip: caller.and_then(|caller| caller.address),
            scheme: caller.map_or(Scheme::Http, |caller| caller.scheme),
            request: request_id::current(),
            at: unix_millis(),
        }
    }

    /// The address as text.
    pub fn address(&self) -> Option<String> {
        self.ip.map(|ip| ip.to_canonical().to_string())
    }

    /// The same with who it is.
    pub fn by(&self, actor: Actor) -> By {
        By {
            actor,
            request: self.request.clone(),
            address: self.address(),
            at: self.at,
        }
    }
}

impl FromRequestParts<App> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}
