//! Rollouts and their targets, as the store takes and gives them.

use bootagent_protocol::{Action, ErrorCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::scope::Scope;
use crate::fleet::rollout::goods::Goods;
use crate::fleet::rollout::plan::Plan;
use crate::fleet::rollout::stand::{Refusal, Stand};
use crate::fleet::rollout::tally::Counts;
use crate::fleet::rollout::target::TargetState;
use crate::fleet::rollout::why::Rival;

use super::page::{Count, Limit};

/// Most hosts of a rollout that names them one by one.
pub const MAX_NAMED: usize = 10_000;

/// Which hosts are targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetSet {
    /// These, by agentsn, in this order; at most [`MAX_NAMED`].
    Hosts(Vec<String>),
    /// Those that fit all of this, in the order of their agentsns.
    Query {
        /// Hosts with these tags; empty for any.
        selector: String,
        /// Hosts in the group of this id.
        group: Option<String>,
        /// Hosts whose name is so, `*` being any text and `?` any character.
        hostname: Option<String>,
    },
    /// Targets of another rollout, in their order.
    Former {
        /// Its number.
        rollout: i64,
        /// Those that ended so.
        states: Vec<TargetState>,
        /// Whether each goes back to the version it had.
        way: Way,
    },
}

/// Where targets of a former rollout go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Where they should have gone.
    Again,
    /// To the version they had, where that is another one than this.
    Back,
}

/// How many hosts of one kind a set has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemCount {
    /// Their operating system.
    pub os: String,
    /// Their architecture.
    pub arch: String,
    /// The version each shall get in particular; empty for its removal.
    pub version: Option<String>,
    /// How many.
    pub hosts: i64,
}

/// A host of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostOfSet {
    /// The host.
    pub agentsn: String,
    /// Its name.
    pub hostname: String,
    /// Its operating system.
    pub os: String,
    /// Its architecture.
    pub arch: String,
}

/// A rollout to be stored.
#[derive(Debug, Clone)]
pub struct NewRollout {
    /// Its id, a UUID that sorts by time.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What to do.
    pub action: Action,
    /// The agent it concerns; a host has one rollout at a time for each.
    pub agent: String,
    /// The version it brings.
    pub version: Option<String>,
    /// What targets get.
    pub goods: Goods,
    /// The targets.
    pub set: TargetSet,
    /// How it goes on.
    pub plan: Plan,
    /// Whose rollout it is: who cannot confirm it.
    pub author: String,
    /// The rollout it comes after.
    pub follows: Option<Follows>,
    /// The revision that one must have, if somebody has looked at it.
    pub seen: Option<i64>,
    /// When it was ordered.
    pub created: i64,
}

/// The rollout another one comes after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follows {
    /// Its id.
    pub id: String,
    /// Where the targets go.
    pub way: Way,
}

/// What storing a rollout found.
#[derive(Debug, Clone, PartialEq)]
pub enum RolloutInserted {
    /// It is stored.
    Done(Box<RolloutRow>),
    /// A package was deleted in the meantime; nothing is stored.
    PackageGone,
    /// These hosts are unknown; nothing is stored.
    UnknownHosts(Vec<String>),
    /// The rollout it comes after was changed or forgotten meanwhile; nothing is stored.
    Stale,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutRow {
    /// Counts up; of two, the lower one is the older.
    pub number: i64,
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What to do, as on the wire.
    pub action: String,
    /// The agent it concerns.
    pub agent: String,
    /// The version it brings.
    pub version: Option<String>,
    /// How it goes on.
    pub plan: Plan,
    /// How it stands.
    pub stand: Stand,
    /// How many targets there are so far.
    pub targets: i64,
    /// How many hosts it is for: its targets, or those of its assignment.
    pub hosts: i64,
    /// How many stand where.
    pub counts: Counts,
    /// Up with each change of what it is doing.
    pub revision: i64,
    /// Whose it is.
    pub author: String,
    /// What they were called.
    pub author_name: String,
    /// The rollout it comes after.
    pub follows: Option<Follows>,
    /// The assignment it is for.
    pub assignment: Option<String>,
    /// When it was ordered.
    pub created: i64,
    /// When it ended.
    pub ended: Option<i64>,
}

/// Which rollouts, newest first.
#[derive(Debug, Clone, Default)]
pub struct RolloutQuery {
    /// Only those at work, or only those that ended.
    pub phase: Option<RolloutPhase>,
    /// After this id.
    pub after: Option<String>,
    /// Only those over hosts of this scope alone.
    pub scope: Scope,
    /// At most so many.
    pub limit: Limit,
}

/// Whether a rollout is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolloutPhase {
    /// It is.
    Active,
    /// It has ended.
    Ended,
}

/// Which targets of a rollout, in their order.
#[derive(Debug, Clone)]
pub struct TargetQuery {
    /// The rollout, by number.
    pub rollout: i64,
    /// Only in this state.
    pub state: Option<TargetState>,
    /// After this place.
    pub after: Option<i64>,
    /// Only hosts of this scope.
    pub scope: Scope,
    /// Whether the total is wanted.
    pub count: Count,
    /// At most so many.
    pub limit: Limit,
}

/// One target.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetRow {
    /// Its place, from 0.
    pub place: i64,
    /// The host.
    pub agentsn: String,
    /// Its name; none when it was forgotten.
    pub hostname: Option<String>,
    /// Where it stands.
    pub state: TargetState,
    /// The version it shall get in particular; empty for a removal.
    pub version: Option<String>,
    /// Its job.
    pub job: Option<String>,
    /// The version it had when it was ordered.
    pub before: Option<String>,
    /// Since when it stands there.
    pub since: Option<i64>,
    /// How its job ended.
    pub errcode: Option<ErrorCode>,
    /// Its job's message.
    pub message: Option<String>,
    /// Why nothing was ordered, in one word.
    pub reason: Option<String>,
    /// Since when its host is not there, if it is not.
    pub offline_since: Option<i64>,
    /// Who else has its host.
    pub busy_with: Option<Rival>,
    /// The version its host says it has.
    pub has: Option<String>,
    /// How often it was tried; in an assignment, since it was last right for long.
    pub attempts: i64,
}

/// What an operator says to a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// A user agrees.
    Confirm {
        /// Who, as [`NewRollout::author`] says it.
        by: String,
    },
    /// Hand out nothing for now.
    Pause,
    /// Go on.
    Resume,
    /// Hand out nothing any more.
    Abort,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Ordered {
    /// So it stands now.
    Done(Box<RolloutRow>),
    /// There is no such rollout.
    Unknown,
    /// Somebody has changed it meanwhile.
    Stale,
    /// It cannot be done.
    Refused(Refusal),
}

/// What a turn of a rollout did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turned {
    /// Targets that were written down.
    pub frozen: usize,
    /// Targets that stand elsewhere now.
    pub moved: usize,
    /// Of them, those whose hosts have orders now.
    pub ordered: usize,
    /// Whether another turn has something to do at once.
    pub is_more: bool,
}
