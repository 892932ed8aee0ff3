//! A database that fails: what a caller is told, and when a call is given up.
//!
//! The one rule: nobody waits for ever.

use std::time::Duration;

/// What a failed call means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The database cannot work now: full, locked, gone. Later may be better.
    Unavailable,
    /// The database refused this very data. Later is no better.
    Rejected,
}

/// A database that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct StoreError {
    /// What was tried, such as `storing a batch of statuses`.
    pub step: &'static str,
    /// Whether it is worth trying again.
    pub failure: Failure,
    /// What the database said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Shorthand for every call of the trait.
pub type Result<T> = std::result::Result<T, StoreError>;

/// How long a call may take whose caller has no deadline of its own. A database
/// behind a cut cable says nothing, and the kernel gives it up only after a
/// quarter of an hour. Longer than what the databases themselves allow.
const WITHIN: Duration = Duration::from_secs(35);

/// A call that ends, also when the database never answers. What it wrote may
/// still be committed.
pub async fn within<T>(step: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(WITHIN, call).await {
        Ok(done) => done,
        Err(_) => Err(StoreError {
            step,
            failure: Failure::Unavailable,
            source: format!("no answer within {} s", WITHIN.as_secs()).into(),
        }),
    }
}
