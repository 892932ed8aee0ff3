//! The machine of one child: events in, effects out.
//!
//! Nothing here reads a clock or touches a process. The one rule: between two
//! [`Effect::Start`] lies the proof that nothing of the first run is left.

use alloc::vec::Vec;
use core::time::Duration;

use crate::time::Uptime;

use super::event::{Change, Effect, End, Event};
use super::patience::Patience;
use super::record::{Found, Last, Record};
use super::spec::Spec;
use super::stage::{Coming, Detail, Manner, Phase, Stage, State, Then, Wanted};

mod decide;
mod policy;

/// One child: what is wanted of it, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    spec: Spec,
    wanted: Wanted,
    anomalies: u32,
    stage: Stage,
}

impl Child {
    /// A child that never ran and is not wanted running.
    pub const fn new(spec: Spec) -> Self {
        Self {
            spec,
            wanted: Wanted::Stopped,
            anomalies: 0,
            stage: Stage::Idle,
        }
    }

    /// A child that was there before BootAgent was: after a restart of
    /// BootAgent, with the `record` it kept, or after a reboot, with an empty
    /// one. What is wanted and not so is set right at once; a hold-off and a
    /// fatal stay what they were. What was `found` decides over the record:
    ///
    /// 1. A main process counts as up, because its READY=1 may have been
    ///    said while nobody listened; its watchdog starts anew.
    /// 2. Unless the record says that it was on its way out: then it goes, and
    ///    what was to follow follows.
    /// 3. Leftovers are killed before anything else happens.
    /// 4. A recorded run that is not there has ended by `unseen`, which is
    ///    [`End::Unknown`] unless something tells more; now, since nobody
    ///    knows when.
    pub fn adopt(
        spec: Spec,
        wanted: Wanted,
        record: Record,
        found: Found,
        unseen: End,
        now: Uptime,
    ) -> (Self, Vec<Effect>) {
        let mut child = Self::new(spec);
        child.wanted = wanted;
        child.anomalies = match wanted {
            Wanted::Running => record.anomalies,
            Wanted::Stopped => 0,
        };
        let mut effects = Vec::new();
        let then = match (wanted, record.last) {
            (Wanted::Stopped, _) | (_, Last::Idle | Last::Starting | Last::Stopping) => Then::Obey,
            (_, Last::Running { started_at }) => match found {
                Found::Main { .. } => Then::Obey,
                Found::Leftovers | Found::Nothing => {
                    child.judge(unseen, started_at, now, &mut effects)
                }
            },
            (_, Last::Ended { at, manner }) => Then::Await { since: at, manner },
            (_, Last::Done) => Then::Rest,
            (_, Last::Fatal) => Then::GiveUp,
        };
        match (found, record.last) {
            (Found::Main { started_at }, Last::Idle | Last::Starting | Last::Running { .. })
                if wanted == Wanted::Running =>
            {
                child.stage = child.up(started_at, now);
            }
            (Found::Main { started_at }, _) => child.ask(started_at, then, now, &mut effects),
            (Found::Leftovers, _) => child.kill(now, then, now, &mut effects),
            (Found::Nothing, _) => child.settle(then, &mut effects),
        }
        if child.record() != record {
            effects.insert(0, Effect::Persist(Change::Record(child.record())));
        }
        (child, effects)
    }

    /// Other times or another policy from the next decision on. What is
    /// already running against a deadline keeps it.
    pub const fn reconfigure(&mut self, spec: Spec) {
        self.spec = spec;
    }

    /// Decides what follows from `event` at `now`. Times must not go back.
    pub fn handle(&mut self, event: Event, now: Uptime) -> Vec<Effect> {
        let (wanted, record) = (self.wanted, self.record());
        let mut effects = Vec::new();
        match event {
            Event::Wanted(Wanted::Running) => {
                self.wanted = Wanted::Running;
                self.anomalies = 0;
                self.run(&mut effects);
            }
            Event::Wanted(Wanted::Stopped) => {
                self.wanted = Wanted::Stopped;
                self.anomalies = 0;
                self.stop(now, &mut effects);
            }
            Event::Restart => {
                self.wanted = Wanted::Running;
                self.run_anew(now, &mut effects);
            }
            Event::NewVersion | Event::NewConfig => match self.wanted {
                Wanted::Running => self.run_anew(now, &mut effects),
                Wanted::Stopped => self.anomalies = 0,
            },
            Event::Spawned => self.spawned(now, &mut effects),
            Event::SpawnFailed => self.spawn_failed(now, &mut effects),
            Event::Ready => self.ready(now, &mut effects),
            Event::WatchdogPing => self.pinged(now, &mut effects),
            Event::Exited(end) => self.exited(end, now, &mut effects),
            Event::Gone => self.gone(&mut effects),
            Event::Suspended => self.suspended(now),
            Event::Tick => self.tick(now, &mut effects),
        }
        // What must survive is kept before anything is done.
        if self.record() != record {
            effects.insert(0, Effect::Persist(Change::Record(self.record())));
        }
        if self.wanted != wanted {
            effects.insert(0, Effect::Persist(Change::Wanted(self.wanted)));
        }
        effects
    }

    /// When [`Event::Tick`] is due; none while nothing is pending.
    pub fn deadline(&self) -> Option<Uptime> {
        match self.stage {
            Stage::Idle | Stage::Done | Stage::Fatal | Stage::Spawning { .. } => None,
            Stage::Waiting { since, manner } => Some(self.start_at(since, manner)),
            Stage::Starting { coming, .. } => Some(match coming {
                Coming::Alive { up_at } => up_at,
                Coming::Ready { limit } => limit.at(),
            }),
            Stage::Up {
                started_at,
                watchdog,
            } => {
                let stable_at = (self.anomalies > 0).then(|| self.stable_at(started_at));
                let silent_at = watchdog.map(Patience::at);
                [stable_at, silent_at].into_iter().flatten().min()
            }
            Stage::Leaving { phase, .. } => Some(match phase {
                Phase::Asked { limit } => limit.at(),
                Phase::Killed { again_at } | Phase::Stuck { again_at } => again_at,
            }),
        }
    }

    /// What is wanted of it.
    pub const fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// What it is, in the words of the wire.
    pub const fn state(&self) -> State {
        match self.stage {
            Stage::Idle | Stage::Done | Stage::Spawning { .. } => State::Stoped,
            Stage::Fatal => State::Fatal,
            Stage::Waiting { manner, .. } => match manner {
                Manner::Limit => State::Killed,
                Manner::Normal | Manner::Abnormal => State::Stoped,
            },
            Stage::Starting { .. } | Stage::Up { .. } | Stage::Leaving { .. } => State::Running,
        }
    }

    /// What [`Child::state`] does not say.
    pub const fn detail(&self) -> Option<Detail> {
        match self.stage {
            Stage::Idle | Stage::Fatal | Stage::Up { .. } => None,
            Stage::Done => Some(Detail::Done),
            Stage::Waiting { manner, .. } => match manner {
                Manner::Normal => None,
                Manner::Abnormal | Manner::Limit => Some(Detail::HoldOff),
            },
            Stage::Spawning { .. } | Stage::Starting { .. } => Some(Detail::Starting),
            Stage::Leaving { .. } => Some(Detail::Stopping),
        }
    }

    /// How long until it is started again by itself.
    pub fn retry_in(&self, now: Uptime) -> Option<Duration> {
        match self.stage {
            Stage::Waiting { since, manner } => Some(self.start_at(since, manner).since(now)),
            Stage::Idle
            | Stage::Done
            | Stage::Fatal
            | Stage::Spawning { .. }
            | Stage::Starting { .. }
            | Stage::Up { .. }
            | Stage::Leaving { .. } => None,
        }
    }

    /// Anomalies in a row.
    pub const fn anomalies(&self) -> u32 {
        self.anomalies
    }

    /// Since when it runs.
    pub const fn started_at(&self) -> Option<Uptime> {
        match self.stage {
            Stage::Starting { started_at, .. }
            | Stage::Up { started_at, .. }
            | Stage::Leaving { started_at, .. } => Some(started_at),
            Stage::Idle
            | Stage::Done
            | Stage::Fatal
            | Stage::Waiting { .. }
            | Stage::Spawning { .. } => None,
        }
    }

    /// Whether it counts as up.
    pub const fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up { .. })
    }

    /// Whether it was killed and is still there: nothing is reported of it
    /// until it is gone.
    pub const fn is_stuck(&self) -> bool {
        matches!(
            self.stage,
            Stage::Leaving {
                phase: Phase::Stuck { .. },
                ..
            }
        )
    }

    /// What has to be kept of it; see [`Child::adopt`].
    pub const fn record(&self) -> Record {
        let last = match self.stage {
            Stage::Idle => Last::Idle,
            Stage::Done => Last::Done,
            Stage::Fatal => Last::Fatal,
            Stage::Waiting { since, manner } => Last::Ended { at: since, manner },
            Stage::Spawning { .. } => Last::Starting,
            Stage::Starting { started_at, .. } | Stage::Up { started_at, .. } => {
                Last::Running { started_at }
            }
            Stage::Leaving { then, .. } => match then {
                // Not `Running`: a planned end must not be taken for a crash.
                Then::Obey => Last::Stopping,
                Then::Await { since, manner } => Last::Ended { at: since, manner },
                Then::Rest => Last::Done,
                Then::GiveUp => Last::Fatal,
            },
        };
        Record {
            anomalies: self.anomalies,
            last,
        }
    }
}
