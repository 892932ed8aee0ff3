//! A new version on trial: core's watch of one child, and the job that waits
//! for its verdict.
//!
//! What is decided is in `bootagent_core::watch`; here it gets the child's
//! reports and its answers get their words. The one rule: the last thing a
//! job is told is a verdict, and it is always told one.

use std::sync::mpsc::Sender;

use bootagent_core::restart::{Report, Wanted};
use bootagent_core::time::Uptime;
use bootagent_core::watch::{Effect, Event, Watch};

use super::waiter::{Settled, up};

/// What a job is told of the version it installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// The package brought no manifest that can be used.
    Refused(String),
    /// It came up; the verdict follows.
    CameUp,
    /// The verdict: it stays, and is this.
    Passed(Settled),
    /// The verdict: it did not come up or did not stay up; the text says how
    /// it ended.
    Failed(String),
}

/// One child's trial.
pub struct Trial {
    watch: Watch,
    sightings: Sender<Sighting>,
}

impl Trial {
    /// A trial whose verdict goes to `sightings`.
    pub fn new(watch: Watch, sightings: Sender<Sighting>) -> Self {
        Self { watch, sightings }
    }

    /// When [`Trial::tick`] is due.
    pub fn deadline(&self) -> Option<Uptime> {
        self.watch.deadline()
    }

    /// The child reported something; `why` says an end in words.
    pub fn report(&mut self, report: Report, at: Moment<'_>, why: &str) {
        let event = Event::Reported(report, at.wanted);
        let effects = self.watch.handle(event, at.now);
        self.tell(&effects, at, why);
    }

    /// The window may be over.
    pub fn tick(&mut self, at: Moment<'_>) {
        let effects = self.watch.handle(Event::Tick, at.now);
        self.tell(&effects, at, "");
    }

    /// Hands on what was decided.
    pub fn tell(&self, effects: &[Effect], at: Moment<'_>, why: &str) {
        for effect in effects {
            let sighting = match effect {
                Effect::CameUp => Sighting::CameUp,
                Effect::Passed => Sighting::Passed(match at.wanted {
                    Wanted::Running => up(at.limit_errors),
                    Wanted::Stopped => Settled::Stopped,
                }),
                Effect::Failed => Sighting::Failed(why.to_owned()),
            };
            // The job that waits ends only with the process.
            let _ = self.sightings.send(sighting);
        }
    }
}

/// What is so of a child while its trial decides.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// Now.
    pub now: Uptime,
    /// What is wanted of it.
    pub wanted: Wanted,
    /// Limits the kernel did not take.
    pub limit_errors: &'a [String],
}
