//! The id by which a request is found again: in its answer, in the log, in problems
//! and in the audit.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// Where a caller or a proxy says the id, and where the answer tells it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id of another's making, in characters.
const MAX_ID: usize = 64;

tokio::task_local! {
    static CURRENT: HeaderValue;
}

/// The id of the request that is being answered, if one is.
pub fn current() -> Option<String> {
    CURRENT
        .try_with(|id| id.to_str().unwrap_or_default().to_owned())
        .ok()
}

/// The future with the id of the request that is being answered, for a task of
/// its own.
pub fn with_current<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let id = CURRENT.try_with(Clone::clone).unwrap_or_else(|_| new_id());
    CURRENT.scope(id, future)
}

/// The future with this id.
pub fn with<T>(id: HeaderValue, future: impl Future<Output = T>) -> impl Future<Output = T> {
    CURRENT.scope(id, future)
}

/// The caller's own id if it is a short word, otherwise a new one.
pub fn of(headers: &HeaderMap) -> HeaderValue {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_over_only_if_it_is_a_short_word() {
        let given = |text: &'static str| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(text))]);
            of(&headers) == text
        };
        assert!(given("abc-1.2_3"));
        assert!(!given(""));
        assert!(!given("two words"));
        assert!(!given("a\"b"));
        assert!(!given(
            "0123456789012345678901234567890123456789012345678901234567890123456789"
        ));
        assert_ne!(of(&HeaderMap::new()), of(&HeaderMap::new()));
    }
}
