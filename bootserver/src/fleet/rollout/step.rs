//! What happens next in a rollout, from how it stands, its counts and the time.
//!
//! The one rule: nothing is handed out once a limit is exceeded, outside of the
//! window, beyond the released stages, or to more hosts at once than allowed. What
//! is under way then still ends, and may fail on top of the limit.

use super::plan::{Plan, percent_of};
use super::stand::{End, Gate, Pause, Phase, Stand};
use super::tally::{Counts, Tally};
use super::target::TargetState;
use super::window::Opening;

/// How long after a rollout expired its silent hosts are waited for, in
/// milliseconds. Their jobs stay open, and what they say later is still taken.
pub const GIVE_UP_MILLIS: i64 = 86_400_000;

/// What is to be done, in this order, and how the rollout then stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How it stands from now on.
    pub stand: Stand,
    /// Ordered targets that become waiting again.
    pub recall: Recall,
    /// Whether those under way are waited for.
    pub patience: Patience,
    /// What becomes of all that wait.
    pub waiting: Waiting,
    /// Who is ordered.
    pub hand_out: Option<HandOut>,
}

/// Which jobs are taken back that were not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recall {
    /// None.
    None,
    /// Those of hosts that went offline: others shall have their place.
    OfOffline,
    /// All.
    All,
}

/// Whether targets under way are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// They are.
    Wait,
    /// They were for long enough.
    GiveUp,
}

/// What becomes of targets that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// They go on waiting.
    Stay,
    /// They are skipped.
    Skip,
    /// They expire.
    Expire,
}

/// Who is ordered: waiting targets of the released stages whose host is online
/// and free, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandOut {
    /// At most so many.
    pub most: u64,
    /// The last stage that is released.
    pub stage: usize,
    /// When their jobs expire, in unix milliseconds.
    pub begin_before: i64,
}

/// The next step. It says the same to whoever asks with the same.
pub fn step(plan: &Plan, stand: &Stand, counts: &Counts, now: i64) -> Step {
    let total = counts.total();
    let mut next = stand.clone();
    next.phase = limited(plan, stand, &total, now);
    if next.phase == Phase::Running {
        advance(plan, &mut next, counts, Course::Once, now);
    }
    if let Phase::Stopping(end) = next.phase
        && total.open() == 0
    {
        next.phase = Phase::Ended(end);
    }
    let (recall, waiting, hand_out) = match next.phase {
        Phase::Freezing | Phase::Unconfirmed | Phase::Ended(_) => {
            (Recall::None, Waiting::Stay, None)
        }
        Phase::Paused(_) => (Recall::All, Waiting::Stay, None),
        Phase::Stopping(End::Expired) => (Recall::All, Waiting::Expire, None),
        Phase::Stopping(_) => (Recall::All, Waiting::Skip, None),
        Phase::Running => match begin_before(plan, next.expires, now) {
            None => (Recall::All, Waiting::Stay, None),
            Some(begin_before) => {
                let hand_out = hand_out(plan, &next, counts, total.all(), begin_before);
                (Recall::OfOffline, Waiting::Stay, hand_out)
            }
        },
    };
    let patience = match now.saturating_sub(next.expires) < GIVE_UP_MILLIS {
        true => Patience::Wait,
        false => Patience::GiveUp,
    };
    Step {
        stand: next,
        recall,
        patience,
        waiting,
        hand_out,
    }
}

/// The phase after the limits and the end of its time were looked at.
fn limited(plan: &Plan, stand: &Stand, total: &Tally, now: i64) -> Phase {
    match stand.phase {
        // What shows only after the end says what kind of end it was: nothing is left to
        // stop, and whoever looks shall not read that all went well.
        Phase::Ended(End::Done) => match plan.exceeded(total, total.all()) {
            Some(limit) => Phase::Ended(End::Stopped(limit)),
            None => stand.phase,
        },
        Phase::Freezing | Phase::Stopping(_) | Phase::Ended(_) => stand.phase,
        Phase::Unconfirmed | Phase::Running | Phase::Paused(_) => {
            let is_over = now >= stand.expires;
            // One that only waits for who is under way goes through.
            let is_through =
                stand.phase == Phase::Running && total.open() == total.of(TargetState::Running);
            match plan.exceeded(total, total.all()) {
                Some(limit) => Phase::Stopping(End::Stopped(limit)),
                None if is_over && !is_through => Phase::Stopping(End::Expired),
                None => stand.phase,
            }
        }
    }
}

/// What a stage's hosts say about its gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// The stage has no host.
    Empty,
    /// Too few have succeeded so far.
    Open,
    /// Enough have.
    Enough,
    /// So many have failed that there cannot be enough any more.
    Missed,
}

/// Whether there is an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// It ends with its targets.
    Once,
    /// More targets may come at any time.
    Standing,
}

/// Goes through the gates that are open. The last stage with hosts left has none,
/// and is over when all its targets ended; one that stands has no end.
pub(super) fn advance(plan: &Plan, next: &mut Stand, counts: &Counts, course: Course, now: i64) {
    loop {
        let (_, later) = counts.split_after(next.stage);
        let is_last = match course {
            Course::Once => next.stage + 1 >= plan.stages() || later.open() == 0,
            Course::Standing if next.stage + 1 >= plan.stages() => return,
            Course::Standing => false,
        };
        let proof = match is_last {
            true if counts.total().open() == 0 => Proof::Enough,
            true => Proof::Open,
            false => proof(plan, &counts.stage(next.stage), next.stage),
        };
        let proof = match (proof, course) {
            // Its hosts may still come.
            (Proof::Empty, Course::Standing) => Proof::Open,
            (proof, _) => proof,
        };
        match (proof, next.gate) {
            (Proof::Empty, _) | (_, Gate::Waived) if !is_last => {}
            (Proof::Missed, _) => {
                next.phase = Phase::Paused(Pause::GateMissed);
                next.gate = Gate::Closed;
                return;
            }
            (Proof::Open | Proof::Empty, _) => {
                next.gate = Gate::Closed;
                return;
            }
            (Proof::Enough, gate) => {
                let since = match gate {
                    Gate::Held(since) => since,
                    Gate::Closed | Gate::Waived => now,
                };
                next.gate = Gate::Held(since);
                if now.saturating_sub(since) < plan.soak(next.stage) {
                    return;
                }
                if is_last {
                    next.phase = Phase::Ended(End::Done);
                    return;
                }
            }
        }
        next.stage += 1;
        next.gate = Gate::Closed;
    }
}

/// Looks at a stage before the last:
/// 1. hosts that ended without a success or a failure prove nothing and are left out;
/// 2. of the others enough must succeed, and at least one.
fn proof(plan: &Plan, tally: &Tally, stage: usize) -> Proof {
    if tally.all() == 0 {
        return Proof::Empty;
    }
    let (succeeded, needed, possible) = gate(plan, tally, stage);
    if succeeded >= needed {
        Proof::Enough
    } else if possible < needed {
        Proof::Missed
    } else {
        Proof::Open
    }
}

/// How many of a stage have succeeded, how many must, and how many can.
pub(super) fn gate(plan: &Plan, tally: &Tally, stage: usize) -> (u64, u64, u64) {
    let succeeded = tally.of(TargetState::Succeeded);
    let possible = tally.open() + succeeded;
    let needed = percent_of(possible + plan.failures(tally), plan.success(stage)).max(1);
    (succeeded, needed, possible)
}

/// Until when something may begin, if it may now.
pub(super) fn begin_before(plan: &Plan, expires: i64, now: i64) -> Option<i64> {
    match plan.window().map(|window| window.at(now)) {
        None => Some(expires),
        Some(Opening::Open { until }) => Some(until.min(expires)),
        Some(Opening::Closed { .. }) => None,
    }
}

/// Who is ordered where `parallel` is a part of so many hosts.
pub(super) fn hand_out(
    plan: &Plan,
    stand: &Stand,
    counts: &Counts,
    hosts: u64,
    begin_before: i64,
) -> Option<HandOut> {
    let total = counts.total();
    let (released, _) = counts.split_after(stand.stage);
    let parallel = plan.terms().parallel.of(hosts);
    let places = parallel.saturating_sub(total.under_way());
    let most = places.min(released.of(TargetState::Waiting));
    (most > 0).then_some(HandOut {
        most,
        stage: stand.stage,
        begin_before,
    })
}
