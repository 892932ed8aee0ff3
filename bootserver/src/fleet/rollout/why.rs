//! What a target waits for.

use serde::Serialize;
use utoipa::ToSchema;

use super::plan::Plan;
use super::stand::{Gate, Pause, Phase, Stand};
use super::step::gate;
use super::tally::Counts;
use super::target::TargetState;
use super::window::Opening;

/// The word for a host the package has no file for.
pub const NO_FILE: &str = "no-file";

/// A target that may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Where it stands.
    pub state: TargetState,
    /// Its stage.
    pub stage: usize,
    /// Since when its host is not there, if it is not.
    pub offline_since: Option<i64>,
    /// Who else has its host, if somebody has.
    pub busy_with: Option<&'a Rival>,
    /// Why nothing was ordered so far, in one word.
    pub reason: Option<&'a str>,
    /// How many hosts `parallel` is a part of.
    pub hosts: u64,
}

/// Who has a host that somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rival {
    /// A rollout, by id.
    Rollout(String),
    /// An assignment, by id.
    Assignment(String),
}

/// What a target waits for. Times are unix milliseconds, stages count from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// The targets are still being written down.
    Freezing,
    /// A second user must confirm the rollout.
    Unconfirmed,
    /// The rollout is paused.
    Paused {
        /// By whom or what.
        by: Pause,
    },
    /// It will not be ordered any more.
    Stopping,
    /// The window is closed.
    Window {
        /// When it opens, if it ever does.
        opens: Option<i64>,
    },
    /// Too few hosts of the released stages have succeeded.
    StageGate {
        /// The stage the gate is behind.
        stage: usize,
        /// How many of it have succeeded.
        succeeded: u64,
        /// How many must.
        needed: u64,
    },
    /// The released stages must stay good for a while.
    Soak {
        /// When that is over.
        until: i64,
    },
    /// Its host is late or offline.
    Offline {
        /// Since when.
        since: i64,
    },
    /// An older rollout has its host.
    OtherRollout {
        /// That rollout.
        id: String,
    },
    /// An assignment has ordered something of its host.
    Assignment {
        /// That assignment.
        id: String,
    },
    /// The package has no file for its host.
    NoFile,
    /// As many hosts as allowed are under way.
    Parallel {
        /// How many are.
        under_way: u64,
        /// How many may be.
        most: u64,
    },
    /// It is among the next.
    Next,
    /// Its host gets the order with its next status.
    NextStatus,
    /// Its host has the order and has not answered yet.
    Result,
    /// It failed, and an assignment tries it again.
    BackOff {
        /// When.
        until: i64,
    },
    /// An assignment has tried it often enough, or its job was withdrawn; `retry` tries it
    /// again.
    Retry {
        /// How often it was tried.
        attempts: i64,
    },
    /// An assignment finds it with its next look at all hosts.
    NextLook,
    /// Its host has the order, and is offline.
    Silent {
        /// Since when.
        since: i64,
    },
}

/// What a target waits for, if it has not ended: the first of these that holds.
/// 1. under way: its host;
/// 2. the rollout as a whole does not go on;
/// 3. its stage is not released;
/// 4. its host is offline, or somebody else's, or there is no file for it;
/// 5. there is no place.
pub fn why(
    plan: &Plan,
    stand: &Stand,
    counts: &Counts,
    target: Target<'_>,
    now: i64,
) -> Option<Why> {
    match target.state {
        TargetState::Waiting => Some(why_waiting(plan, stand, counts, target, now)),
        TargetState::Ordered => Some(match target.offline_since {
            Some(since) => Why::Offline { since },
            None => Why::NextStatus,
        }),
        TargetState::Running => Some(match target.offline_since {
            Some(since) => Why::Silent { since },
            None => Why::Result,
        }),
        TargetState::Succeeded
        | TargetState::Failed
        | TargetState::TimedOut
        | TargetState::RolledBack
        | TargetState::CrashLooped
        | TargetState::Lost
        | TargetState::Expired
        | TargetState::Cancelled
        | TargetState::Skipped => None,
    }
}

fn why_waiting(plan: &Plan, stand: &Stand, counts: &Counts, target: Target<'_>, now: i64) -> Why {
    match stand.phase {
        Phase::Freezing => return Why::Freezing,
        Phase::Unconfirmed => return Why::Unconfirmed,
        Phase::Paused(by) => return Why::Paused { by },
        Phase::Stopping(_) | Phase::Ended(_) => return Why::Stopping,
        Phase::Running => {}
    }
    if let Some(Opening::Closed { opens }) = plan.window().map(|window| window.at(now)) {
        return Why::Window { opens };
    }
    if target.stage > stand.stage {
        let stage = stand.stage;
        if let Gate::Held(since) = stand.gate {
            let until = since.saturating_add(plan.soak(stage));
            return Why::Soak { until };
        }
        let (succeeded, needed, _) = gate(plan, &counts.stage(stage), stage);
        return Why::StageGate {
            stage,
            succeeded,
            needed,
        };
    }
    if let Some(since) = target.offline_since {
        return Why::Offline { since };
    }
    match target.busy_with {
        Some(Rival::Rollout(id)) => return Why::OtherRollout { id: id.clone() },
        Some(Rival::Assignment(id)) => return Why::Assignment { id: id.clone() },
        None => {}
    }
    if target.reason == Some(NO_FILE) {
        return Why::NoFile;
    }
    let (under_way, most) = (
        counts.total().under_way(),
        plan.terms().parallel.of(target.hosts),
    );
    match under_way < most {
        true => Why::Next,
        false => Why::Parallel { under_way, most },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rollout::stand::End;
    use serde_json::json;

    fn plan(terms: serde_json::Value) -> Plan {
        serde_json::from_value(terms).expect("a plan")
    }

    const WAITING: Target<'_> = Target {
        state: TargetState::Waiting,
        stage: 0,
        offline_since: None,
        busy_with: None,
        reason: None,
        hosts: 10,
    };

    #[test]
    fn every_target_that_has_not_ended_says_what_it_waits_for() {
        let plan = plan(json!({
            "parallel": 1, "stages": [{"upto": 2, "soak": 60}, {"upto": "all"}],
        }));
        let running = Stand {
            phase: Phase::Running,
            ..Stand::new(&plan, 0)
        };
        let mut counts = Counts::default();
        counts.add(0, TargetState::Succeeded, 1);
        counts.add(0, TargetState::Waiting, 1);
        counts.add(1, TargetState::Waiting, 8);
        let check = |stand: &Stand, counts: &Counts, target| why(&plan, stand, counts, target, 5);
        let phase = |phase| {
            let stand = Stand {
                phase,
                ..running.clone()
            };
            check(&stand, &counts, WAITING)
        };
        assert_eq!(phase(Phase::Freezing), Some(Why::Freezing));
        assert_eq!(phase(Phase::Unconfirmed), Some(Why::Unconfirmed));
        let by = Pause::GateMissed;
        assert_eq!(phase(Phase::Paused(by)), Some(Why::Paused { by }));
        assert_eq!(phase(Phase::Stopping(End::Aborted)), Some(Why::Stopping));

        assert_eq!(check(&running, &counts, WAITING), Some(Why::Next));
        let offline = Target {
            offline_since: Some(3),
            ..WAITING
        };
        assert_eq!(
            check(&running, &counts, offline),
            Some(Why::Offline { since: 3 })
        );
        let id = || "other".to_owned();
        for (rival, expected) in [
            (Rival::Rollout(id()), Why::OtherRollout { id: id() }),
            (Rival::Assignment(id()), Why::Assignment { id: id() }),
        ] {
            let busy = Target {
                busy_with: Some(&rival),
                state: WAITING.state,
                stage: WAITING.stage,
                offline_since: None,
                reason: None,
                hosts: WAITING.hosts,
            };
            let found = why(&plan, &running, &counts, busy, 5);
            assert_eq!(found, Some(expected));
        }
        let fileless = Target {
            reason: Some(NO_FILE),
            ..WAITING
        };
        assert_eq!(check(&running, &counts, fileless), Some(Why::NoFile));
        let later = Target {
            stage: 1,
            ..WAITING
        };
        let (stage, succeeded, needed) = (0, 1, 2);
        let gate = Why::StageGate {
            stage,
            succeeded,
            needed,
        };
        assert_eq!(check(&running, &counts, later), Some(gate));
        let held = Stand {
            gate: Gate::Held(4),
            ..running.clone()
        };
        assert_eq!(
            check(&held, &counts, later),
            Some(Why::Soak { until: 60_004 })
        );

        let of = |state| Target { state, ..WAITING };
        assert_eq!(
            check(&running, &counts, of(TargetState::Ordered)),
            Some(Why::NextStatus)
        );
        assert_eq!(
            check(&running, &counts, of(TargetState::Running)),
            Some(Why::Result)
        );
        let silent = Target {
            state: TargetState::Running,
            ..offline
        };
        assert_eq!(
            check(&running, &counts, silent),
            Some(Why::Silent { since: 3 })
        );
        assert_eq!(check(&running, &counts, of(TargetState::Lost)), None);

        counts.add(0, TargetState::Running, 1);
        let (under_way, most) = (1, 1);
        let full = Some(Why::Parallel { under_way, most });
        assert_eq!(check(&running, &counts, WAITING), full);
    }

    #[test]
    fn outside_of_the_window_that_is_what_they_wait_for() {
        let plan = plan(json!({
            "window": {"zone": "UTC", "from": "01:00", "until": "02:00"},
        }));
        let running = Stand {
            phase: Phase::Running,
            ..Stand::new(&plan, 0)
        };
        let found = why(&plan, &running, &Counts::default(), WAITING, 0);
        let opens = Some(3_600_000);
        assert_eq!(found, Some(Why::Window { opens }));
        let text = serde_json::to_value(found).expect("JSON");
        assert_eq!(text, json!({"why": "window", "opens": 3_600_000}));
    }
}
