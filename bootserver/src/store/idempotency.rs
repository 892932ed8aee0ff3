//! Requests that are to be done once, as the store takes and gives them.

use std::time::Duration;

/// How long an answer is kept.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// A request under a key. All are digests: the store knows neither who it is
/// nor what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// Of what the caller showed.
    pub caller: String,
    /// Of the key.
    pub key: String,
    /// Of all that must be the same when it comes again.
    pub request: String,
}

/// An answer that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The revision it showed.
    pub etag: Option<String>,
    /// The body, sealed; none where there is nothing to seal it by.
    pub body: Option<Vec<u8>>,
}

/// What beginning a request found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Nobody came with this key: it is to be done now.
    New,
    /// It was begun and is not answered.
    Running,
    /// The key came with another request.
    Other,
    /// It was done.
    Answered(KeptAnswer),
}
