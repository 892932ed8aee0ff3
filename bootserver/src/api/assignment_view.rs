//! Assignments and their hosts as operators see them.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::rollout_view::{counts, hosts_of, next_waits_for, reason};
use crate::clock::unix_millis;
use crate::fleet::assignment::{Next, Tried, next};
use crate::fleet::package_choice::HostSystem;
use crate::fleet::rollout::goods::Goods;
use crate::fleet::rollout::plan::Terms;
use crate::fleet::rollout::stand::{Pause, Phase};
use crate::fleet::rollout::target::TargetState;
use crate::fleet::rollout::why::{Target, Why, why};
use crate::store::assignment::{AssignmentRow, FitCount, HostStand};
use crate::store::rollout::{RolloutRow, TargetRow};

/// One assignment.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssignmentView {
    /// Its id.
    id: String,
    /// What people call it.
    name: String,
    /// The group whose hosts it means, by id.
    group: String,
    /// That group's name.
    group_name: String,
    /// The sub-agent they shall have.
    agent: String,
    /// In which version.
    version: String,
    /// Seconds that version is watched.
    watch: Option<u64>,
    /// Of several assignments of an agent that mean a host, the highest has it, of equal ones
    /// the oldest.
    priority: i64,
    /// `unconfirmed`, `running`, `paused` by somebody, or `stopped` by itself.
    state: &'static str,
    /// Why it is paused or stopped: `operator`, `restored`, `fail_count`, `fail_rate` or
    /// `gate_missed`.
    reason: Option<&'static str>,
    /// Where it was asked for those of a host: whether it has that host.
    wins: Option<bool>,
    /// How many hosts the group has, when all were last looked at.
    hosts: Option<i64>,
    /// How many of them had the version.
    right: Option<i64>,
    /// How many of them another assignment has.
    taken: Option<i64>,
    /// When that was, in unix milliseconds.
    looked: Option<i64>,
    /// The stage whose hosts are released, from 0.
    stage: usize,
    /// What its next waiting host waits for.
    waits_for: Option<Why>,
    /// How many hosts it had to do with are in each state.
    counts: BTreeMap<&'static str, u64>,
    /// How it goes on.
    plan: Terms,
    /// Who made it.
    author: String,
    /// Up with each change of it and of what it is doing; also the ETag.
    pub revision: i64,
    /// When it was made, in unix milliseconds.
    created: i64,
    /// When it was last changed, in unix milliseconds.
    changed: i64,
}

impl From<AssignmentRow> for AssignmentView {
    fn from(row: AssignmentRow) -> Self {
        let phase = row.rollout.stand.phase;
        Self {
            state: match phase {
                Phase::Paused(Pause::FailCount | Pause::FailRate | Pause::GateMissed) => "stopped",
                other => other.word(),
            },
            reason: reason(phase),
            wins: None,
            hosts: row.census.map(|census| census.hosts),
            right: row.census.map(|census| census.right),
            taken: row.census.map(|census| census.taken),
            looked: row.census.map(|census| census.at),
            stage: row.rollout.stand.stage,
            waits_for: next_waits_for(&row.rollout),
            counts: counts(&row.rollout.counts.total()),
            id: row.id,
            name: row.name,
            group: row.group,
            group_name: row.group_name,
            agent: row.agent,
            version: row.version,
            watch: row.watch,
            priority: row.priority,
            plan: row.rollout.plan.into(),
            author: row.author,
            revision: row.revision,
            created: row.created,
            changed: row.changed,
        }
    }
}

impl AssignmentView {
    /// One of those that mean a host, which has it or does not.
    pub fn of_host(row: AssignmentRow, wins: bool) -> Self {
        Self {
            wins: Some(wins),
            ..row.into()
        }
    }
}

/// A host an assignment had to do with.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssignedHostView {
    /// The host.
    agentsn: String,
    /// Its name; null when the host was forgotten.
    hostname: Option<String>,
    /// Where it stands.
    state: TargetState,
    /// Since when, in unix milliseconds.
    since: Option<i64>,
    /// The version it says it has.
    has: Option<String>,
    /// How often it was tried since it was last right for a day.
    attempts: i64,
    /// What it waits for; null where it has the version or is not the assignment's any more.
    waits_for: Option<Why>,
    /// The version it had when it was last ordered.
    before: Option<String>,
    /// Its last job.
    job: Option<String>,
    /// How that ended.
    errcode: Option<u16>,
    /// The same for a person.
    message: Option<String>,
    /// Why nothing was ordered, or nothing is known: `no-file`, `right`, `other-assignment`,
    /// `left-group`, `host-gone` or `given-up`.
    reason: Option<String>,
}

impl AssignedHostView {
    /// A host of this assignment.
    pub fn new(assignment: &AssignmentRow, stage_ends: &[u64], row: TargetRow) -> Self {
        Self {
            waits_for: waits_for(assignment, stage_ends, &row),
            agentsn: row.agentsn,
            hostname: row.hostname,
            state: row.state,
            since: row.since,
            has: row.has,
            attempts: row.attempts,
            before: row.before,
            job: row.job,
            errcode: row.errcode.map(|code| code.0),
            message: row.message,
            reason: row.reason,
        }
    }
}

fn waits_for(assignment: &AssignmentRow, stage_ends: &[u64], row: &TargetRow) -> Option<Why> {
    let now = unix_millis();
    if row.state.is_open() {
        let place = u64::try_from(row.place).unwrap_or_default();
        let RolloutRow {
            plan,
            stand,
            counts,
            ..
        } = &assignment.rollout;
        let target = Target {
            state: row.state,
            stage: stage_ends.partition_point(|end| *end <= place),
            offline_since: row.offline_since,
            busy_with: row.busy_with.as_ref(),
            reason: row.reason.as_deref(),
            hosts: hosts_of(&assignment.rollout),
        };
        return why(plan, stand, counts, target, now);
    }
    if row.state == TargetState::Skipped || row.has.as_deref() == Some(&assignment.version) {
        return None;
    }
    let tried = Tried {
        state: row.state,
        attempts: row.attempts,
        since: row.since.unwrap_or_default(),
    };
    match next(tried, now) {
        Next::UnderWay => None,
        Next::Now(_) => Some(Why::NextLook),
        Next::At(until) => Some(Why::BackOff { until }),
        Next::Never => Some(Why::Retry {
            attempts: row.attempts,
        }),
    }
}

/// What an assignment would mean; each host is counted once, for the first that holds.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct AssignmentPreview {
    /// Hosts of the group.
    hosts: i64,
    /// Another assignment has them, which comes first.
    taken: i64,
    /// They have the version.
    right: i64,
    /// They were never heard, so nobody knows what they have.
    unheard: i64,
    /// A rollout at work has them, and is waited for.
    busy: i64,
    /// The package has no file for them; they wait until there is one.
    without_file: i64,
    /// They are ordered the version, within the limits.
    targets: i64,
}

impl AssignmentPreview {
    /// Puts counts together.
    pub fn of(goods: &Goods, counts: &[FitCount]) -> Self {
        let mut preview = Self::default();
        for count in counts {
            preview.hosts += count.hosts;
            let system = HostSystem {
                os: &count.os,
                arch: &count.arch,
            };
            let place = match count.stand {
                HostStand::Taken => &mut preview.taken,
                HostStand::Right => &mut preview.right,
                HostStand::Unheard => &mut preview.unheard,
                HostStand::Busy => &mut preview.busy,
                HostStand::Target if goods.pick(None, system).is_none() => {
                    &mut preview.without_file
                }
                HostStand::Target => &mut preview.targets,
            };
            *place += count.hosts;
        }
        preview
    }
}
