//! Rollouts and targets as operators see them.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::unix_millis;
use crate::fleet::rollout::plan::{Limit, Terms};
use crate::fleet::rollout::stand::{End, Gate, Pause, Phase, Stand};
use crate::fleet::rollout::tally::Tally;
use crate::fleet::rollout::target::TargetState;
use crate::fleet::rollout::why::{Target, Why, why};
use crate::store::rollout::{RolloutRow, TargetRow, Way};

/// One rollout.
#[derive(Debug, Serialize, ToSchema)]
pub struct RolloutView {
    /// Its id.
    id: String,
    /// What people call it.
    name: String,
    /// What is done.
    action: String,
    /// The agent it concerns; a host has one rollout at a time for each.
    agent: String,
    /// The version it brings.
    version: Option<String>,
    /// `freezing` while the targets are written down, `unconfirmed`, `running`, `paused`,
    /// `stopping` while what is under way ends, or `ended`.
    phase: &'static str,
    /// Why it is paused: `operator`, `gate_missed` or `restored`; or how it ends: `done`,
    /// `fail_count`, `fail_rate`, `aborted` or `expired`.
    reason: Option<&'static str>,
    /// The stage whose hosts are released, from 0.
    stage: usize,
    /// Since when enough of that stage have succeeded, in unix milliseconds.
    gate_held: Option<i64>,
    /// What its next waiting target waits for.
    waits_for: Option<Why>,
    /// How many targets there are; so far, while they are written down.
    targets: i64,
    /// How many targets are in each state.
    counts: BTreeMap<&'static str, u64>,
    /// How many count as failures.
    failures: u64,
    /// The same by stage.
    stages: Vec<StageView>,
    /// How it goes on.
    plan: Terms,
    /// The rollout it comes after.
    follows: Option<String>,
    /// Whether its targets go where they should have gone, or back.
    way: Option<Way>,
    /// Who ordered it.
    author: String,
    /// Up with each change of what it is doing; also the ETag.
    revision: i64,
    /// When it was ordered, in unix milliseconds.
    created: i64,
    /// When what has not begun does not begin any more, in unix milliseconds.
    expires: i64,
    /// When it ended, in unix milliseconds.
    ended: Option<i64>,
}

/// One stage.
#[derive(Debug, Serialize, ToSchema)]
pub struct StageView {
    /// How many targets it has.
    targets: u64,
    /// How many of them are in each state.
    counts: BTreeMap<&'static str, u64>,
}

impl From<RolloutRow> for RolloutView {
    fn from(row: RolloutRow) -> Self {
        let total = row.counts.total();
        let stages = (0..row.plan.stages()).map(|stage| row.counts.stage(stage));
        let stages = stages.map(|tally| StageView {
            targets: tally.all(),
            counts: counts(&tally),
        });
        let Stand { phase, gate, .. } = row.stand;
        Self {
            stages: stages.collect(),
            waits_for: next_waits_for(&row),
            failures: row.plan.failures(&total),
            counts: counts(&total),
            id: row.id,
            name: row.name,
            action: row.action,
            agent: row.agent,
            version: row.version,
            phase: phase.word(),
            reason: reason(phase),
            stage: row.stand.stage,
            gate_held: match gate {
                Gate::Held(since) => Some(since),
                Gate::Closed | Gate::Waived => None,
            },
            targets: row.targets,
            plan: row.plan.into(),
            way: row.follows.as_ref().map(|follows| follows.way),
            follows: row.follows.map(|follows| follows.id),
            author: row.author_name,
            revision: row.revision,
            created: row.created,
            expires: row.stand.expires,
            ended: row.ended,
        }
    }
}

pub(super) fn reason(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Freezing | Phase::Unconfirmed | Phase::Running => None,
        Phase::Paused(Pause::Operator) => Some("operator"),
        Phase::Paused(Pause::GateMissed) => Some("gate_missed"),
        Phase::Paused(Pause::Restored) => Some("restored"),
        Phase::Paused(Pause::FailCount) => Some("fail_count"),
        Phase::Paused(Pause::FailRate) => Some("fail_rate"),
        Phase::Stopping(end) | Phase::Ended(end) => Some(match end {
            End::Done => "done",
            End::Stopped(Limit::FailCount) => "fail_count",
            End::Stopped(Limit::FailRate) => "fail_rate",
            End::Aborted => "aborted",
            End::Expired => "expired",
        }),
    }
}

pub(super) fn counts(tally: &Tally) -> BTreeMap<&'static str, u64> {
    let states = TargetState::ALL.into_iter();
    let states = states.map(|state| (state.word(), tally.of(state)));
    states.filter(|(_, targets)| *targets > 0).collect()
}

/// What the first target waits for that waits at all, as if its host were there.
pub(super) fn next_waits_for(row: &RolloutRow) -> Option<Why> {
    let stage_with = |state: TargetState| {
        let mut stages = 0..row.plan.stages();
        let stage = stages.find(|stage| row.counts.stage(*stage).of(state) > 0)?;
        let target = Target {
            state,
            stage,
            offline_since: None,
            busy_with: None,
            reason: None,
            hosts: hosts_of(row),
        };
        why(&row.plan, &row.stand, &row.counts, target, unix_millis())
    };
    let open = [
        TargetState::Waiting,
        TargetState::Ordered,
        TargetState::Running,
    ];
    open.into_iter().find_map(stage_with)
}

/// How many hosts `parallel` is a part of.
pub(super) fn hosts_of(row: &RolloutRow) -> u64 {
    let hosts = u64::try_from(row.hosts).unwrap_or_default();
    hosts.max(row.counts.total().open())
}

/// One target.
#[derive(Debug, Serialize, ToSchema)]
pub struct TargetView {
    /// Its place in the rollout, from 0.
    place: i64,
    /// Its stage, from 0.
    stage: usize,
    /// The host.
    agentsn: String,
    /// Its name; null when the host was forgotten.
    hostname: Option<String>,
    /// Where it stands.
    state: TargetState,
    /// Since when, in unix milliseconds.
    since: Option<i64>,
    /// What it waits for, if it has not ended.
    waits_for: Option<Why>,
    /// The version it shall get; empty for a removal.
    version: Option<String>,
    /// The version it had when it was ordered.
    before: Option<String>,
    /// Its job.
    job: Option<String>,
    /// How that ended.
    errcode: Option<u16>,
    /// The same for a person.
    message: Option<String>,
    /// Why nothing was ordered, or nothing is known: `stopped`, `expired`, `superseded`,
    /// `no-file`, `host-gone` or `given-up`.
    reason: Option<String>,
}

impl TargetView {
    /// A target of this rollout.
    pub fn new(rollout: &RolloutRow, stage_ends: &[u64], row: TargetRow) -> Self {
        let place = u64::try_from(row.place).unwrap_or_default();
        let stage = stage_ends.partition_point(|end| *end <= place);
        let target = Target {
            state: row.state,
            stage,
            offline_since: row.offline_since,
            busy_with: row.busy_with.as_ref(),
            reason: row.reason.as_deref(),
            hosts: hosts_of(rollout),
        };
        let RolloutRow {
            plan,
            stand,
            counts,
            ..
        } = rollout;
        Self {
            waits_for: why(plan, stand, counts, target, unix_millis()),
            place: row.place,
            stage,
            agentsn: row.agentsn,
            hostname: row.hostname,
            state: row.state,
            since: row.since,
            version: row.version.or_else(|| rollout.version.clone()),
            before: row.before,
            job: row.job,
            errcode: row.errcode.map(|code| code.0),
            message: row.message,
            reason: row.reason,
        }
    }
}
