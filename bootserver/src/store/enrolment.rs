//! Enrolment tokens, as the store gives them.

use crate::token::TokenDigest;

/// An enrolment token without its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentToken {
    /// Its id, a UUID that sorts by time.
    pub id: String,
    /// The operators' name for it.
    pub name: String,
    /// Tags its hosts get, as text.
    pub tags: String,
    /// Hosts it may bring in; no bound when absent.
    pub uses: Option<i64>,
    /// Hosts it brought in.
    pub used: i64,
    /// Until when it holds.
    pub expires: Option<i64>,
    /// When it was made.
    pub created: i64,
    /// When it was revoked.
    pub revoked: Option<i64>,
}

impl EnrolmentToken {
    /// Counts changes by operators.
    pub fn revision(&self) -> i64 {
        revision(self.revoked)
    }
}

/// The revision of a token that was revoked at this time, if it was: nothing else
/// ever changes about one.
pub fn revision(revoked: Option<i64>) -> i64 {
    1 + i64::from(revoked.is_some())
}

/// A token to store.
#[derive(Debug, Clone)]
pub struct NewEnrolmentToken {
    /// Its id.
    pub id: String,
    /// The operators' name for it.
    pub name: String,
    /// SHA-256 of its text.
    pub digest: TokenDigest,
    /// Tags its hosts get.
    pub tags: crate::fleet::tags::Tags,
    /// Hosts it may bring in.
    pub uses: Option<i64>,
    /// Until when it holds.
    pub expires: Option<i64>,
    /// When it was made.
    pub created: i64,
}

/// What a revocation found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// The token does not hold any more.
    Done,
    /// There is no such token.
    Unknown,
    /// Somebody has revoked it meanwhile.
    Stale,
}
