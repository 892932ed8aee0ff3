//! What a request is told that cannot be served (RFC 9457).
//!
//! The one rule: a detail says what was wrong and what would be right.

use serde::Serialize;

/// A problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Of the reply.
    pub status: u16,
    /// The same for every problem of this kind.
    pub title: &'static str,
    /// This one, and its remedy.
    pub detail: String,
    /// The parameter it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// Seconds after which to ask again.
    #[serde(skip)]
    pub retry_after: Option<u32>,
    /// What may be asked instead.
    #[serde(skip)]
    pub allow: Option<&'static str>,
}

impl Problem {
    /// A problem.
    #[must_use]
    pub fn new(status: u16, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            title,
            detail: detail.into(),
            parameter: None,
            retry_after: None,
            allow: None,
        }
    }

    /// A parameter that is missing, unknown or out of its range.
    #[must_use]
    pub fn parameter(name: &str, detail: impl Into<String>) -> Self {
        Self {
            parameter: Some(name.to_owned()),
            ..Self::new(400, "Bad parameter", detail)
        }
    }

    /// Nothing is wrong with the request but its time.
    #[must_use]
    pub fn later(seconds: u32, detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(seconds),
            ..Self::new(503, "Not now", detail)
        }
    }

    /// A method that is not for this path.
    #[must_use]
    pub fn method(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(405, "Method not allowed", format!("use {allow} here"))
        }
    }
}
