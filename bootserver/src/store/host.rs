//! Hosts, as the store takes and gives them.

use std::collections::BTreeMap;

use bootagent_protocol::AgentReport;
use serde::{Deserialize, Serialize};

use crate::access::scope::Scope;
use crate::fleet::presence::Presence;
use crate::fleet::selector::Selector;
use crate::fleet::tags::Tags;
use crate::token::TokenDigest;

use super::page::{Count, Limit};

/// Fewest characters one may search for: what the index is made of.
pub const MIN_SEARCH_CHARS: usize = 3;

/// Whose secret a digest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretOwner {
    /// The host.
    pub agentsn: String,
    /// Which of its secrets.
    pub standing: SecretStanding,
    /// The number of the one in force; each promotion is one more.
    pub number: i64,
}

/// A host has one secret, or two while a new one is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretStanding {
    /// The one in force.
    Current,
    /// A new one that was never used before.
    New,
}

/// A decided registration.
#[derive(Debug, Clone)]
pub struct Registration {
    /// The identity the host gets.
    pub agentsn: String,
    /// Whether the host is new.
    pub effect: RegistrationEffect,
    /// SHA-256 of its new secret.
    pub secret: TokenDigest,
    /// What it said of itself.
    pub reported: Reported,
    /// When.
    pub now: i64,
    /// When a first secret shall be replaced.
    pub rotate_due: i64,
}

/// What a registration does to the store.
#[derive(Debug, Clone)]
pub enum RegistrationEffect {
    /// A new host.
    Create {
        /// The enrolment token that pays for it with one use, if it has one.
        enrolment: Option<String>,
        /// Its first tags.
        tags: Tags,
        /// The host it was a copy of, which from now on is alone again.
        copy_of: Option<String>,
    },
    /// A deleted host comes back as a new one.
    Revive {
        /// The enrolment token that pays for it with one use.
        enrolment: String,
        /// Its first tags.
        tags: Tags,
    },
    /// A known host gets a new secret, and tags it had no value for.
    Renew {
        /// Tags of the enrolment token it came with.
        tags: Tags,
        /// What becomes of what was ordered of it before.
        orders: OpenOrders,
    },
}

/// What a renewal does to a host's open jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenOrders {
    /// It is the same host at work.
    Stay,
    /// It was brought in anew: they end.
    End,
}

/// A new secret for a host that is at work.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The host.
    pub agentsn: String,
    /// The number of the secret it has.
    pub number: i64,
    /// SHA-256 of the new one.
    pub secret: TokenDigest,
    /// When.
    pub now: i64,
    /// When to offer another one if this is not used.
    pub again: i64,
}

/// What came of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It holds, beside the one in force.
    Done,
    /// The host has another secret by now, or none, or was offered one just now.
    Changed,
}

/// What ordering a rotation found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationOrdered {
    /// The next status brings the host a new secret.
    Done,
    /// There is no such host in the fleet.
    Unknown,
}

/// A host is taken out of the fleet.
#[derive(Debug, Clone)]
pub struct Removal {
    /// The host.
    pub agentsn: String,
    /// How: [`Presence::Revoked`] or [`Presence::Deleted`].
    pub to: Presence,
    /// What stands in for its secret: of a token that nobody was given.
    pub nobody: TokenDigest,
    /// Only if this is still its revision.
    pub revision: Option<i64>,
}

/// What taking a host out found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is out now, or was.
    Done,
    /// There is no such host, or it was deleted.
    Unknown,
    /// Somebody has changed it meanwhile.
    Stale,
}

/// What a look at hosts that are due found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// Hosts that are in another state now.
    pub moved: usize,
    /// Whether more may be due.
    pub is_full: bool,
}

/// Which part of a host's history.
#[derive(Debug, Clone)]
pub struct HostChangeQuery {
    /// The host.
    pub agentsn: String,
    /// Only if the host is in this scope.
    pub scope: Scope,
    /// Only entries before this one.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: Limit,
}

/// One thing that became of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostChange {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: i64,
    /// The state from then on.
    pub state: String,
    /// Why, for a person.
    pub detail: String,
}

/// What a host says of itself when it registers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reported {
    /// The host name.
    pub hostname: String,
    /// `bootagent-VERSION-ARCH`.
    pub version: String,
    /// `ID VERSION_ID` of os-release.
    pub os: String,
    /// Machine architecture.
    pub arch: String,
    /// Addresses.
    pub ip: Vec<String>,
    /// /etc/machine-id.
    pub machine_id: Option<String>,
    /// The boot it runs in.
    pub boot_id: Option<String>,
}

/// What came of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// Stored; these are the host's tags now.
    Done(Tags),
    /// The facts the decision was made on have changed: decide again.
    Changed,
}

/// What a list of hosts is sorted by; where it is the same, by agentsn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortKey {
    /// The host name, by its bytes.
    #[default]
    Hostname,
    /// When it first registered.
    Created,
    /// Since when it stands as it does.
    Since,
}

/// Which end of a list comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Direction {
    /// The smallest.
    #[default]
    Up,
    /// The largest.
    Down,
}

/// The order of a list of hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostSort {
    /// By what.
    pub key: SortKey,
    /// From which end.
    pub direction: Direction,
}

/// Where a host stands in a list, as its cursor says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SortValue {
    /// A time.
    Time(i64),
    /// A name.
    Text(String),
}

impl SortValue {
    /// Whether a list that is sorted by this key can go on after it.
    pub fn fits(&self, key: SortKey) -> bool {
        match self {
            Self::Text(_) => key == SortKey::Hostname,
            Self::Time(_) => key != SortKey::Hostname,
        }
    }
}

/// What must hold of one sub-agent of a host; nothing asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentCondition {
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Its state, as it is spelled on the wire.
    pub state: Option<String>,
}

impl AgentCondition {
    /// Whether every host fits.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which hosts, in which order.
#[derive(Debug, Clone, Default)]
pub struct HostQuery {
    /// Only hosts with such tags.
    pub selector: Selector,
    /// Only hosts in this group.
    pub group: Option<String>,
    /// Only host names that begin so.
    pub hostname: Option<String>,
    /// Only hosts with this somewhere in their names or addresses, or with this
    /// agentsn; at least [`MIN_SEARCH_CHARS`] characters.
    pub search: Option<String>,
    /// Only hosts with such a sub-agent.
    pub agent: AgentCondition,
    /// Only hosts of this `ID VERSION_ID`.
    pub os: Option<String>,
    /// Only hosts of this architecture.
    pub arch: Option<String>,
    /// Only hosts with this BootAgent, as it calls itself.
    pub version: Option<String>,
    /// Only hosts with this very address.
    pub ip: Option<String>,
    /// Only hosts in this state; without it, all but deleted ones.
    pub state: Option<Presence>,
    /// The order.
    pub sort: HostSort,
    /// After this sort value and agentsn.
    pub after: Option<(SortValue, String)>,
    /// Whether the total is wanted.
    pub count: Count,
    /// Only hosts of this scope.
    pub scope: Scope,
    /// At most so many.
    pub limit: Limit,
    /// How far is looked in one way before another one is taken.
    pub reach: Reach,
}

/// How far is looked for hosts; what is found is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Hosts that are looked up at once, if one condition leaves no more.
    pub few: i64,
    /// Hosts of a list one goes through, for each row of a page.
    pub steps: i64,
    /// Hosts that are looked up where that was not far enough.
    pub many: i64,
}

impl Default for Reach {
    /// Measured with a million hosts: going on by one host in a list takes 6 to 10 µs,
    /// looking one up 2 to 8. With these, a page of 100 takes the same both ways where
    /// one host in a hundred fits.
    fn default() -> Self {
        Self {
            few: 10_000,
            steps: 100,
            many: 500_000,
        }
    }
}

/// One row of the list of hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSummary {
    /// Its identity.
    pub agentsn: String,
    /// What it says it is.
    pub reported: Reported,
    /// What operators call it; empty if they do not.
    pub display_name: String,
    /// Its tags.
    pub tags: Tags,
    /// Up by one with each change by an operator.
    pub revision: i64,
    /// When it first registered.
    pub created: i64,
    /// When it last registered.
    pub registered: i64,
    /// When it last pushed a status.
    pub seen: Option<i64>,
    /// How it stands.
    pub state: Presence,
    /// Since when.
    pub since: i64,
}

/// One host in full.
#[derive(Debug, Clone, PartialEq)]
pub struct HostDetail {
    /// The same as in the list.
    pub summary: HostSummary,
    /// What it last reported, if it ever did.
    pub state: Option<HostState>,
    /// Jobs without a result.
    pub open_jobs: i64,
    /// What operators wrote about it.
    pub notes: String,
    /// Where each of its tags is from: `enrolment`, `operator` or `host`.
    pub tag_origins: BTreeMap<String, String>,
    /// The groups it is in, by name, as far as one may know of them.
    pub groups: Vec<GroupOfHost>,
}

/// A group a host is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOfHost {
    /// The group.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What an operator changes about a host; what is none stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostEdit {
    /// What it is called.
    pub display_name: Option<String>,
    /// What there is to know.
    pub notes: Option<String>,
}

/// What editing a host found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostEdited {
    /// It is so.
    Done,
    /// There is no such host in the scope.
    Unknown,
    /// Somebody has changed it meanwhile.
    Stale,
}

/// What a host last reported.
#[derive(Debug, Clone, PartialEq)]
pub struct HostState {
    /// Its own clock, in seconds.
    pub timestamp: i64,
    /// Seconds BootAgent runs.
    pub uptime: i64,
    /// Seconds between two statuses.
    pub step: u64,
    /// Its sub-agents.
    pub agents: Vec<AgentReport>,
    /// What BootAgent says of itself.
    pub notices: Vec<String>,
    /// When its content last changed.
    pub changed: i64,
}

/// What setting tags found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagsSet {
    /// The host has them.
    Done,
    /// There is no such host in the scope.
    Unknown,
    /// With them it would not be in the scope any more.
    LeavesScope,
    /// Somebody has changed the host meanwhile.
    Stale,
}
