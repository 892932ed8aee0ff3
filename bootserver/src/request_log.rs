//! One line per request, and the id by which it is found again.
//!
//! The one rule: what is logged is the path without its query, and no header,
//! so that no token gets here.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;

use crate::app::App;
use crate::budget::RouteClass;
use crate::caller::{Caller, Peer, Standing};
use crate::config::Scheme;
use crate::life::Phase;

/// Where a caller or a proxy says the id, and where the answer tells it.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id of another's making, in characters.
const MAX_ID: usize = 64;
/// Longest path in the log, in characters.
const MAX_PATH: usize = 200;

tokio::task_local! {
    static CURRENT: HeaderValue;
}

/// The id of the request that is being answered, if one is.
pub fn current_id() -> Option<String> {
    CURRENT
        .try_with(|id| id.to_str().unwrap_or_default().to_owned())
        .ok()
}

/// The future with the id of the request that is being answered, for a task of
/// its own.
pub fn with_current_id<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let id = CURRENT.try_with(Clone::clone).unwrap_or_else(|_| new_id());
    CURRENT.scope(id, future)
}

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
    let id = id(request.headers());
    let method = request.method().clone();
    let path = shown(request.uri().path()).into_owned();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let class = RouteClass::of(&path);

    let mut response = CURRENT.scope(id.clone(), within(request)).await;

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
    let address = match (caller.address, caller.standing) {
        (Some(address), _) => Cow::from(address.to_string()),
        (None, Standing::LocalAdmin) => Cow::from("local"),
        (None, Standing::Anybody) => Cow::from("-"),
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

/// The caller's own id if it is a short word, otherwise a new one.
fn id(headers: &HeaderMap) -> HeaderValue {
    let is_sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=MAX_ID).contains(&bytes.len())
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte))
    };
    headers
        .get(REQUEST_ID)
        .filter(is_sane)
        .cloned()
        .unwrap_or_else(new_id)
}

/// Of this process alone by its first half, of this request by its second.
fn new_id() -> HeaderValue {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| uuid::Uuid::new_v4().as_u64_pair().0);
    static REQUESTS: AtomicU64 = AtomicU64::new(1);
    let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
    let text = format!("{:016x}-{number}", *PROCESS);
    HeaderValue::try_from(text).expect("hexadecimal digits are a header's value")
}

fn shown(path: &str) -> Cow<'_, str> {
    match path.char_indices().nth(MAX_PATH) {
        Some((end, _)) => Cow::from(format!("{}...", &path[..end])),
        None => Cow::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_over_only_if_it_is_a_short_word() {
        let given = |text: &'static str| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(text))]);
            id(&headers) == text
        };
        assert!(given("abc-1.2_3"));
        assert!(!given(""));
        assert!(!given("two words"));
        assert!(!given("a\"b"));
        assert!(!given(
            "0123456789012345678901234567890123456789012345678901234567890123456789"
        ));
        assert_ne!(id(&HeaderMap::new()), id(&HeaderMap::new()));
    }
}
