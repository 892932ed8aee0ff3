//! Events, as the store gives them.

use super::page::{Count, Limit};
use crate::access::scope::Scope;

/// Which events, in order of arrival.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only of this host.
    pub agentsn: Option<String>,
    /// Only received at this time or later.
    pub since: Option<i64>,
    /// After this id.
    pub after: Option<i64>,
    /// Only hosts of this scope.
    pub scope: Scope,
    /// Whether the total is wanted.
    pub count: Count,
    /// At most so many.
    pub limit: Limit,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Counts up in order of arrival.
    pub id: i64,
    /// The host.
    pub agentsn: String,
    /// The agent that noticed it.
    pub source: String,
    /// The boot it happened in.
    pub boot_id: String,
    /// Its number within source and boot.
    pub seq: i64,
    /// When it arrived here.
    pub received: i64,
    /// The host's own clock, in seconds.
    pub timestamp: i64,
    /// What kind of thing happened.
    pub category: String,
    /// What it happened to.
    pub subject: String,
    /// The subject's version.
    pub version: Option<String>,
    /// What happened.
    pub message: String,
    /// The last lines the subject printed.
    pub tail: Vec<String>,
}
