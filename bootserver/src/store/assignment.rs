//! Assignments, as the store takes and gives them.

use serde::{Deserialize, Serialize};

use crate::fleet::rollout::goods::Goods;
use crate::fleet::rollout::plan::Plan;
use crate::fleet::rollout::stand::Refusal;

use super::page::Limit;
use super::rollout::RolloutRow;

/// What hosts shall have, and how they get it.
#[derive(Debug, Clone)]
pub struct Course {
    /// The version.
    pub version: String,
    /// Seconds it is watched.
    pub watch: Option<u64>,
    /// What targets get.
    pub goods: Goods,
    /// How it goes on.
    pub plan: Plan,
    /// Who wants it so, and cannot confirm it.
    pub author: String,
}

/// An assignment to be stored.
#[derive(Debug, Clone)]
pub struct NewAssignment {
    /// Its id, a UUID that sorts by time.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The group whose hosts it means.
    pub group: String,
    /// The agent.
    pub agent: String,
    /// Where another one means the same host, the higher has it.
    pub priority: i64,
    /// What hosts shall have.
    pub course: Course,
}

/// A change of an assignment; what is none stays.
#[derive(Debug, Clone, Default)]
pub struct AssignmentChange {
    /// What people call it.
    pub name: Option<String>,
    /// Which comes before which.
    pub priority: Option<i64>,
    /// What hosts shall have; with it all begins anew.
    pub course: Option<Course>,
}

/// What an operator says to an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignmentOrder {
    /// A user agrees.
    Confirm {
        /// Who.
        by: String,
    },
    /// Order nothing for now.
    Pause,
    /// Go on, with fresh counts.
    Resume,
    /// Forget how often hosts were tried, and go on where a limit was exceeded.
    Retry,
}

/// What came of storing or changing one.
#[derive(Debug, Clone, PartialEq)]
pub enum AssignmentStored {
    /// So it is now.
    Done(Box<AssignmentRow>),
    /// There is no such assignment.
    Unknown,
    /// Somebody has changed it meanwhile.
    Stale,
    /// There is no such group.
    UnknownGroup,
    /// A package was deleted in the meantime.
    PackageGone,
    /// There are as many as there may be.
    TooMany,
    /// It cannot be done.
    Refused(Refusal),
}

/// What came of deleting one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssignmentDeleted {
    /// It is gone; hosts keep what they have.
    Done,
    /// There is no such assignment.
    Unknown,
    /// Somebody has changed it meanwhile.
    Stale,
}

/// What a look at all hosts found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// When it was over, in unix milliseconds.
    pub at: i64,
    /// Hosts of the group.
    pub hosts: i64,
    /// Those that have the version.
    pub right: i64,
    /// Those that another assignment has.
    pub taken: i64,
}

/// How far a look at all hosts is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// The last host it was at.
    pub to: String,
    /// When it began.
    pub begun: i64,
    /// What it found so far.
    pub found: Census,
}

/// One assignment.
#[derive(Debug, Clone, PartialEq)]
pub struct AssignmentRow {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The group, by id.
    pub group: String,
    /// The group's name.
    pub group_name: String,
    /// The agent.
    pub agent: String,
    /// The version.
    pub version: String,
    /// Seconds it is watched.
    pub watch: Option<u64>,
    /// Which comes before which.
    pub priority: i64,
    /// Up with each change of it and of what it is doing.
    pub revision: i64,
    /// What its author was called.
    pub author: String,
    /// When it was made.
    pub created: i64,
    /// When it was last changed.
    pub changed: i64,
    /// How far the look at all hosts is, while there is one.
    pub sweep: Option<Sweep>,
    /// When the next part of it is.
    pub sweep_due: i64,
    /// What the last one found.
    pub census: Option<Census>,
    /// The rollout it goes on with.
    pub rollout: RolloutRow,
}

impl AssignmentRow {
    /// How many hosts it is for, as far as is known.
    pub fn hosts(&self) -> i64 {
        let sweep = self.sweep.as_ref().map_or(0, |sweep| sweep.found.hosts);
        self.census.map_or(sweep, |census| census.hosts)
    }
}

/// Which assignments, newest first.
#[derive(Debug, Clone, Default)]
pub struct AssignmentQuery {
    /// Of this agent.
    pub agent: Option<String>,
    /// Of these groups.
    pub groups: Option<Vec<String>>,
    /// After this id.
    pub after: Option<String>,
    /// At most so many.
    pub limit: Limit,
}

/// An assignment somebody thinks of.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its id, which says how old it is.
    pub id: String,
    /// The group.
    pub group: String,
    /// The agent.
    pub agent: String,
    /// The version.
    pub version: String,
    /// Which comes before which.
    pub priority: i64,
}

/// How hosts of a group stand to an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostStand {
    /// Another assignment has it.
    Taken,
    /// It has the version.
    Right,
    /// It was never heard.
    Unheard,
    /// A rollout has it.
    Busy,
    /// It would be a target.
    Target,
}

/// How many hosts of a group are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FitCount {
    /// Their operating system.
    pub os: String,
    /// Their architecture.
    pub arch: String,
    /// How they stand.
    pub stand: HostStand,
    /// How many.
    pub hosts: i64,
}
