//! One change of many hosts, part by part.

use crate::fleet::presence::Presence;
use crate::fleet::tags::Tags;
use crate::token::TokenDigest;

/// Hosts of one transaction: others wait no longer for it than for a batch of
/// statuses.
pub const MAX_PART: usize = 250;

/// What becomes of hosts.
#[derive(Debug, Clone)]
pub enum BulkChange {
    /// They get tags, and lose others by key.
    Tag {
        /// Tags they get; another value of the same key goes.
        set: Tags,
        /// Keys of tags they lose.
        unset: Vec<String>,
    },
    /// They are taken out of the fleet: [`Presence::Revoked`] or [`Presence::Deleted`].
    TakeOut(Presence),
    /// The group of this id names them from now on.
    Name(String),
    /// The group of this id names them no longer.
    NameNot(String),
}

/// Some of the hosts, at most [`MAX_PART`].
#[derive(Debug, Clone, Default)]
pub struct BulkPart {
    /// The hosts.
    pub agentsns: Vec<String>,
    /// For each, what stands in for the secret of one that is taken out: of a token
    /// that nobody was given.
    pub nobodies: Vec<TokenDigest>,
}

/// What came of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartChanged {
    /// So many are otherwise now. The rest were so already, or are not there any more.
    Done(usize),
    /// These would not be in the scope any more; nothing was changed.
    LeavesScope(Vec<String>),
    /// These would have too many tags; nothing was changed.
    TooManyTags(Vec<String>),
    /// There is no such group.
    NoGroup,
}
