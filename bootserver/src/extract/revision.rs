//! Editing what one has seen: a thing's revision goes out as its ETag and comes
//! back as If-Match, and a change to another one is refused (412).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};

use crate::app::App;
use crate::problem::Problem;

/// The revision a change is meant for; none when any will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IfMatch(pub Option<i64>);

/// The same where a change must say it: the text of people, who write at the
/// same time, and what is replaced whole. `*` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MustMatch(pub Option<i64>);

/// What no thing ever has, for an ETag that is not ours.
const NEVER: i64 = -1;

impl FromRequestParts<App> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let value = parts.headers.get(header::IF_MATCH);
        Ok(Self(value.and_then(|value| {
            revision(value.to_str().unwrap_or_default())
        })))
    }
}

impl FromRequestParts<App> for MustMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if !parts.headers.contains_key(header::IF_MATCH) {
            return Err(Problem::precondition_required());
        }
        let IfMatch(revision) = IfMatch::from_request_parts(parts, app).await?;
        Ok(Self(revision))
    }
}

/// The header that says which revision a reply shows.
pub fn etag(revision: i64) -> [(HeaderName, HeaderValue); 1] {
    let value = HeaderValue::from_str(&format!("\"{revision}\""))
        .expect("digits and quotes are allowed in a header");
    [(header::ETAG, value)]
}

fn revision(text: &str) -> Option<i64> {
    if text == "*" {
        return None;
    }
    let digits = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    Some(digits.and_then(|text| text.parse().ok()).unwrap_or(NEVER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_goes_out_and_comes_back() {
        let [(_, value)] = etag(7);
        assert_eq!(revision(value.to_str().expect("text")), Some(7));
        assert_eq!(revision("*"), None);
        for other in ["7", "W/\"7\"", "\"x\"", ""] {
            assert_eq!(revision(other), Some(NEVER), "{other:?}");
        }
    }
}
