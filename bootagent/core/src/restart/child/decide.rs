//! The transitions of a child's machine, one function per kind of event.
//!
//! The rule: every match over the stages is exhaustive; an event that does
//! not fit changes nothing and is handed back as [`Effect::Unexpected`].

use alloc::vec::Vec;
use core::time::Duration;

use crate::time::Uptime;

use super::super::event::{Effect, End, Event, Report, StoppedBy};
use super::super::patience::{Patience, Verdict};
use super::super::spec::Kind;
use super::super::stage::{Coming, Main, Order, Phase, Stage, Then, Wanted};
use super::Child;

/// How long after a kill everything must be gone. Then it is reported, and
/// killed again: on cgroup v1 a fork can outrun the loop that kills.
const KILL_AGAIN: Duration = Duration::from_secs(10);
/// How many things can be due at one moment: with times of zero, a child
/// counts as up, is condemned, asked and killed.
const MOST_AT_ONCE: usize = 8;

impl Child {
    /// Sees to it that it runs.
    pub(super) fn run(&mut self, effects: &mut Vec<Effect>) {
        match &mut self.stage {
            Stage::Idle | Stage::Done | Stage::Fatal | Stage::Waiting { .. } => self.start(effects),
            Stage::Leaving { then, .. } => *then = Then::Obey,
            Stage::Spawning { .. } | Stage::Starting { .. } | Stage::Up { .. } => {}
        }
    }

    /// Sees to it that it does not run.
    pub(super) fn stop(&mut self, now: Uptime, effects: &mut Vec<Effect>) {
        match &mut self.stage {
            Stage::Done | Stage::Fatal | Stage::Waiting { .. } => self.stage = Stage::Idle,
            Stage::Starting { started_at, .. } | Stage::Up { started_at, .. } => {
                let started_at = *started_at;
                self.ask(started_at, Then::Obey, now, effects);
            }
            Stage::Leaving { then, .. } => *then = Then::Obey,
            // A start that is out is stopped when it is answered.
            Stage::Idle | Stage::Spawning { .. } => {}
        }
    }

    /// Forgets the past, ends what runs, and starts it again.
    pub(super) fn run_anew(&mut self, now: Uptime, effects: &mut Vec<Effect>) {
        self.anomalies = 0;
        match &mut self.stage {
            Stage::Idle | Stage::Done | Stage::Fatal | Stage::Waiting { .. } => self.start(effects),
            Stage::Spawning { order } => *order = Order::Outdated,
            Stage::Starting { started_at, .. } | Stage::Up { started_at, .. } => {
                let started_at = *started_at;
                self.ask(started_at, Then::Obey, now, effects);
            }
            Stage::Leaving { then, .. } => *then = Then::Obey,
        }
    }

    /// Exec succeeded.
    pub(super) fn spawned(&mut self, now: Uptime, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::Spawning { order } => {
                if order == Order::Outdated || self.wanted == Wanted::Stopped {
                    self.ask(now, Then::Obey, now, effects);
                    return;
                }
                let coming = match self.spec.kind {
                    Kind::Simple => Coming::Alive {
                        up_at: now + self.spec.up_after,
                    },
                    Kind::Notify => Coming::Ready {
                        limit: Patience::new(self.spec.start_timeout, now),
                    },
                    Kind::Oneshot => {
                        self.stage = self.up(now, now);
                        effects.push(Effect::Report(Report::Up));
                        return;
                    }
                };
                self.stage = Stage::Starting {
                    started_at: now,
                    coming,
                };
            }
            Stage::Idle
            | Stage::Done
            | Stage::Fatal
            | Stage::Waiting { .. }
            | Stage::Starting { .. }
            | Stage::Up { .. }
            | Stage::Leaving { .. } => effects.push(Effect::Unexpected(Event::Spawned)),
        }
    }

    /// Exec failed; nothing of it runs.
    pub(super) fn spawn_failed(&mut self, now: Uptime, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::Spawning { order } => {
                let then = if order == Order::Outdated || self.wanted == Wanted::Stopped {
                    Then::Obey
                } else {
                    self.judge(End::SpawnFailed, now, now, effects)
                };
                self.settle(then, effects);
            }
            Stage::Idle
            | Stage::Done
            | Stage::Fatal
            | Stage::Waiting { .. }
            | Stage::Starting { .. }
            | Stage::Up { .. }
            | Stage::Leaving { .. } => effects.push(Effect::Unexpected(Event::SpawnFailed)),
        }
    }

    /// It says that it is ready. Only a `notify` child has to; the others may.
    pub(super) fn ready(&mut self, now: Uptime, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::Starting { started_at, coming } => match coming {
                Coming::Ready { .. } => {
                    self.stage = self.up(started_at, now);
                    effects.push(Effect::Report(Report::Up));
                }
                Coming::Alive { .. } => {}
            },
            // Said twice, or said while it is asked to stop.
            Stage::Up { .. } | Stage::Leaving { .. } => {}
            Stage::Idle
            | Stage::Done
            | Stage::Fatal
            | Stage::Waiting { .. }
            | Stage::Spawning { .. } => effects.push(Effect::Unexpected(Event::Ready)),
        }
    }

    /// It says that it is alive.
    pub(super) fn pinged(&mut self, now: Uptime, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::Up { started_at, .. } => self.stage = self.up(started_at, now),
            Stage::Starting { .. } | Stage::Leaving { .. } => {}
            Stage::Idle
            | Stage::Done
            | Stage::Fatal
            | Stage::Waiting { .. }
            | Stage::Spawning { .. } => effects.push(Effect::Unexpected(Event::WatchdogPing)),
        }
    }

    /// Its main process ended. What it left behind is killed: it would hold
    /// ports and files against the next run.
    pub(super) fn exited(&mut self, end: End, now: Uptime, effects: &mut Vec<Effect>) {
        match &mut self.stage {
            Stage::Starting { started_at, .. } | Stage::Up { started_at, .. } => {
                let started_at = *started_at;
                let then = self.judge(end, started_at, now, effects);
                self.kill(started_at, then, now, effects);
            }
            Stage::Leaving {
                main, then, phase, ..
            } => match main {
                Main::Alive => {
                    *main = Main::Ended;
                    // What it started was not asked yet, and has the time
                    // that is left.
                    if matches!(phase, Phase::Asked { .. }) {
                        effects.push(Effect::SendStopSignal);
                    }
                    if let Then::Await { since, .. } = then {
                        *since = now;
                    }
                }
                Main::Ended => effects.push(Effect::Unexpected(Event::Exited(end))),
            },
            Stage::Idle
            | Stage::Done
            | Stage::Fatal
            | Stage::Waiting { .. }
            | Stage::Spawning { .. } => effects.push(Effect::Unexpected(Event::Exited(end))),
        }
    }

    /// Nothing of it is left.
    pub(super) fn gone(&mut self, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::Leaving {
                main: Main::Ended,
                phase,
                then,
                ..
            } => {
                if then == Then::Obey {
                    effects.push(Effect::Report(Report::Stopped(match phase {
                        Phase::Asked { .. } => StoppedBy::Signal,
                        Phase::Killed { .. } | Phase::Stuck { .. } => StoppedBy::Kill,
                    })));
                }
                self.settle(then, effects);
            }
            // About an earlier run, or too early; believing it could put two
            // runs beside each other.
            Stage::Leaving {
                main: Main::Alive, ..
            }
            | Stage::Starting { .. }
            | Stage::Up { .. } => effects.push(Effect::Unexpected(Event::Gone)),
            // Said again.
            Stage::Idle
            | Stage::Done
            | Stage::Fatal
            | Stage::Waiting { .. }
            | Stage::Spawning { .. } => {}
        }
    }

    /// Gives the full time once more to a child that is to do something in it.
    pub(super) fn suspended(&mut self, now: Uptime) {
        let spec = self.spec;
        match &mut self.stage {
            Stage::Starting { coming, .. } => match coming {
                Coming::Ready { limit } => *limit = Patience::new(spec.start_timeout, now),
                Coming::Alive { .. } => {}
            },
            Stage::Up { started_at, .. } => {
                let started_at = *started_at;
                self.stage = self.up(started_at, now);
            }
            Stage::Leaving { phase, .. } => match phase {
                Phase::Asked { limit } => *limit = Patience::new(spec.stop_timeout, now),
                Phase::Killed { .. } | Phase::Stuck { .. } => {}
            },
            Stage::Idle
            | Stage::Done
            | Stage::Fatal
            | Stage::Waiting { .. }
            | Stage::Spawning { .. } => {}
        }
    }

    /// Does what is due at `now`; afterwards nothing is. The bound only cuts
    /// off what cannot be: a clock that stands at its end.
    pub(super) fn tick(&mut self, now: Uptime, effects: &mut Vec<Effect>) {
        for _ in 0..MOST_AT_ONCE {
            if self.deadline().is_none_or(|at| at > now) {
                break;
            }
            self.due(now, effects);
        }
    }

    /// Does the next thing that is due; moves the deadline.
    fn due(&mut self, now: Uptime, effects: &mut Vec<Effect>) {
        match self.stage {
            Stage::Idle | Stage::Done | Stage::Fatal | Stage::Spawning { .. } => {}
            Stage::Waiting { .. } => self.start(effects),
            Stage::Starting { started_at, coming } => match coming {
                Coming::Alive { .. } => {
                    self.stage = self.up(started_at, now);
                    effects.push(Effect::Report(Report::Up));
                }
                Coming::Ready { limit } => match limit.judge(now) {
                    Verdict::Waiting => {}
                    Verdict::Again(limit) => {
                        self.stage = Stage::Starting {
                            started_at,
                            coming: Coming::Ready { limit },
                        };
                    }
                    Verdict::Over => self.condemn(End::StartTimeout, started_at, now, effects),
                },
            },
            Stage::Up {
                started_at,
                watchdog,
            } => {
                if self.anomalies > 0 && now >= self.stable_at(started_at) {
                    self.anomalies = 0;
                    effects.push(Effect::Report(Report::Recovered));
                }
                match watchdog.map_or(Verdict::Waiting, |limit| limit.judge(now)) {
                    Verdict::Waiting => {}
                    Verdict::Again(limit) => {
                        self.stage = Stage::Up {
                            started_at,
                            watchdog: Some(limit),
                        };
                    }
                    Verdict::Over => self.condemn(End::Watchdog, started_at, now, effects),
                }
            }
            Stage::Leaving {
                started_at,
                main,
                phase,
                then,
            } => {
                let phase = self.escalate(phase, now, effects);
                self.stage = Stage::Leaving {
                    started_at,
                    main,
                    phase,
                    then,
                };
            }
        }
    }

    /// The next means, when the one before did not help in its time.
    fn escalate(&self, phase: Phase, now: Uptime, effects: &mut Vec<Effect>) -> Phase {
        match phase {
            Phase::Asked { limit } => match limit.judge(now) {
                Verdict::Waiting => phase,
                Verdict::Again(limit) => Phase::Asked { limit },
                Verdict::Over => {
                    effects.push(Effect::Kill);
                    Phase::Killed {
                        again_at: now + KILL_AGAIN,
                    }
                }
            },
            Phase::Killed { .. } | Phase::Stuck { .. } => {
                if matches!(phase, Phase::Killed { .. }) {
                    effects.push(Effect::Report(Report::Stuck));
                }
                effects.push(Effect::Kill);
                // From now on with the looks: nobody waits any more.
                Phase::Stuck {
                    again_at: now.on_grid_after(self.spec.policy.check(), Duration::ZERO),
                }
            }
        }
    }

    pub(super) fn start(&mut self, effects: &mut Vec<Effect>) {
        self.stage = Stage::Spawning {
            order: Order::Current,
        };
        effects.push(Effect::Start);
    }

    /// Ends a run that has failed without ending.
    fn condemn(&mut self, end: End, started_at: Uptime, now: Uptime, effects: &mut Vec<Effect>) {
        let then = self.judge(end, started_at, now, effects);
        self.ask(started_at, then, now, effects);
    }

    /// Asks a run to end.
    pub(super) fn ask(
        &mut self,
        started_at: Uptime,
        then: Then,
        now: Uptime,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::SendStopSignal);
        self.stage = Stage::Leaving {
            started_at,
            main: Main::Alive,
            phase: Phase::Asked {
                limit: Patience::new(self.spec.stop_timeout, now),
            },
            then,
        };
    }

    /// Kills what a run has left behind.
    pub(super) fn kill(
        &mut self,
        started_at: Uptime,
        then: Then,
        now: Uptime,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(Effect::Kill);
        self.stage = Stage::Leaving {
            started_at,
            main: Main::Ended,
            phase: Phase::Killed {
                again_at: now + KILL_AGAIN,
            },
            then,
        };
    }

    /// Up since `started_at`, and last heard of `now`.
    pub(super) fn up(&self, started_at: Uptime, now: Uptime) -> Stage {
        let watchdog = self.spec.watchdog.filter(|span| !span.is_zero());
        Stage::Up {
            started_at,
            watchdog: watchdog.map(|span| Patience::new(span, now)),
        }
    }
}
