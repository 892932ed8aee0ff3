//! One line per request.
//!
//! The one rule: what is logged is the path without its query, and no header,
//! so that no token gets here.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;

use crate::app::App;
use crate::budget::RouteClass;
use crate::caller::{Caller, Peer, Standing};
use crate::config::Scheme;
use crate::life::Phase;
use crate::request_id::{self, REQUEST_ID};

/// Longest path in the log, in characters.
const MAX_PATH: usize = 200;

/// Gives a request its id and its [`Caller`], and tells how it was answered.
pub async fn log<F: Future<Output = Response>>(
    app: &App,
    mut request: Request,
    within: impl FnOnce(Request) -> F,
) -> Response {
    let begun = Instant::now();
    let peer = request.extensions().get().copied().unwrap_or(Peer {
        address: None,
        scheme: Scheme::Http,
        standing: Standing::Anybody,
    });
    let caller = Caller::of(peer, request.headers(), &app.edge.trusted_proxies);
    request.extensions_mut().insert(caller);
    let id = request_id::of(request.headers());
    let method = request.method().clone();
    let path = shown(request.uri().path()).into_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let class = RouteClass::of(&path);

    let mut response = request_id::with(id.clone(), within(request)).await;

    let took = begun.elapsed();
    app.edge
        .metrics
        .answered(&method, route, class, &response, took);
    tell(&caller, &id, &method, &path, class, response.status(), took);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    if app.edge.life.phase() != Phase::Serving {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What an operator changed is told as `info`; what hosts do all day is not,
/// nor is a refusal for want of room, of which there are many at once.
fn tell(
    caller: &Caller,
    id: &HeaderValue,
    method: &Method,
    path: &str,
    class: RouteClass,
    status: StatusCode,
    took: Duration,
) {
    let request_id = id.to_str().unwrap_or_default();
    let address: &dyn Display = match (&caller.address, caller.standing) {
        (Some(address), _) => address,
        (None, Standing::LocalAdmin) => &"local",
        (None, Standing::Anybody) => &"-",
    };
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let status_code = status.as_u16();
    let is_operators = matches!(class, RouteClass::Operator | RouteClass::SignIn);
    let changes = is_operators && !method.is_safe();
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(request_id, %address, %method, path, status = status_code, millis, "failed");
    } else if changes {
        tracing::info!(request_id, %address, %method, path, status = status_code, millis, "answered");
    } else {
        tracing::debug!(request_id, %address, %method, path, status = status_code, millis, "answered");
    }
}

fn shown(path: &str) -> Cow<'_, str> {
    match path.char_indices().nth(MAX_PATH) {
        Some((end, _)) => Cow::from(format!("{}...", &path[..end])),
        None => Cow::from(path),
    }
}
