//! A new version of a child under watch: is it good, or is the former one
//! wanted back?
//!
//! The machine beside [`crate::restart`] that sees the same reports. It starts
//! and stops nothing; it only says how the trial ended. The one rule: an end
//! that somebody ordered is never held against the version.

use alloc::vec::Vec;
use core::time::Duration;

use crate::restart::{Kind, Report, Wanted};
use crate::time::Uptime;

/// What a trial is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The child's machine reported this, and this is wanted by now.
    Reported(Report, Wanted),
    /// [`Watch::deadline`] may have passed.
    Tick,
}

/// What came of the trial so far, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The version came up for the first time; the window begins.
    CameUp,
    /// It is good. Nothing follows.
    Passed,
    /// It did not come up, or ended unasked within its window. Nothing
    /// follows.
    Failed,
}

/// What is found of a child whose trial is taken up again after a restart of
/// BootAgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It counts as up.
    Up,
    /// It is being started, or stopped to be started.
    Coming,
    /// It is not wanted running.
    Stopped,
    /// It has ended unasked.
    Ended,
}

/// How the version under watch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// On its way up, for the first time or because somebody restarted it.
    Coming,
    /// It counts as up.
    Up,
    /// Somebody stopped it.
    Stopped,
    /// The trial is over.
    Over,
}

/// One trial.
///
/// 1. The window begins when the version counts as up for the first time.
/// 2. The first end that nobody ordered, up or not, has failed it.
/// 3. A stop and a restart in the window are planned; the window goes on, and
///    what was restarted must come up before it has passed.
/// 4. A oneshot that ends well has shown all there is to see.
/// 5. Stopped before it was ever up: nothing speaks against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    kind: Kind,
    window: Duration,
    ends_at: Option<Uptime>,
    stage: Stage,
}

impl Watch {
    /// The trial of a version that is about to be started.
    pub const fn new(kind: Kind, window: Duration) -> Self {
        Self {
            kind,
            window,
            ends_at: None,
            stage: Stage::Coming,
        }
    }

    /// A trial that was begun before BootAgent restarted: the version had been
    /// up already. Its window begins anew, since nobody knows what was seen.
    pub fn resume(kind: Kind, window: Duration, found: Found, now: Uptime) -> (Self, Vec<Effect>) {
        let mut watch = Self::new(kind, window);
        watch.ends_at = Some(now + window);
        let mut effects = Vec::new();
        watch.stage = match found {
            Found::Up => Stage::Up,
            Found::Coming => Stage::Coming,
            Found::Stopped => Stage::Stopped,
            Found::Ended => watch.over(Effect::Failed, &mut effects),
        };
        watch.pass_when_due(now, &mut effects);
        (watch, effects)
    }

    /// Decides what follows from `event` at `now`. Times must not go back.
    pub fn handle(&mut self, event: Event, now: Uptime) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.stage == Stage::Over {
            return effects;
        }
        if let Event::Reported(report, wanted) = event {
            self.stage = self.reported(report, wanted, now, &mut effects);
        }
        self.pass_when_due(now, &mut effects);
        effects
    }

    /// When the window ends, unless something has to come before.
    pub fn deadline(&self) -> Option<Uptime> {
        match self.stage {
            Stage::Up | Stage::Stopped => self.ends_at,
            Stage::Coming | Stage::Over => None,
        }
    }

    fn reported(
        &mut self,
        report: Report,
        wanted: Wanted,
        now: Uptime,
        effects: &mut Vec<Effect>,
    ) -> Stage {
        match report {
            Report::Up => {
                if self.ends_at.is_none() {
                    self.ends_at = Some(now + self.window);
                    effects.push(Effect::CameUp);
                }
                Stage::Up
            }
            Report::NormalEnd { .. } if self.kind == Kind::Oneshot => {
                self.over(Effect::Passed, effects)
            }
            // What was killed and does not go keeps the new one from starting.
            Report::NormalEnd { .. }
            | Report::AbnormalEnd { .. }
            | Report::Fatal { .. }
            | Report::Stuck => self.over(Effect::Failed, effects),
            Report::Stopped(_) => match (wanted, self.ends_at) {
                (Wanted::Running, _) => Stage::Coming,
                (Wanted::Stopped, Some(_)) => Stage::Stopped,
                (Wanted::Stopped, None) => self.over(Effect::Passed, effects),
            },
            Report::Recovered => self.stage,
        }
    }

    fn pass_when_due(&mut self, now: Uptime, effects: &mut Vec<Effect>) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.stage = self.over(Effect::Passed, effects);
        }
    }

    fn over(&self, how: Effect, effects: &mut Vec<Effect>) -> Stage {
        effects.push(how);
        Stage::Over
    }
}
