//! Somebody waits for what becomes of a child: a job, or `bootctl`.

use bootagent_core::restart::{Report, StoppedBy, Wanted};
use bootagent_core::time::Uptime;

use super::now;
use super::trial::{Moment, Trial};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// That it counts as up.
    Up,
    /// That it is stopped.
    Stopped,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is up.
    Up,
    /// It is up, and the text says which limits the kernel did not take.
    UpWithoutLimits(String),
    /// It is stopped.
    Stopped,
    /// It is stopped, and had to be killed.
    Killed,
    /// It did not come up; the text says why.
    Failed(String),
}

/// Why a child that outlived its kill is neither up nor stopped.
const STILL_THERE: &str = "was killed and is still there";

/// What is done once it settled.
pub type Then = Box<dyn FnOnce(Settled) + Send>;

/// Everybody who waits for one child.
#[derive(Default)]
pub struct Waiters {
    waiting: Vec<(Goal, Then)>,
    /// The trial of the version in place, over or not.
    trial: Option<Trial>,
    /// How its last run ended, if one ended unasked.
    last_end: Option<String>,
}

impl Waiters {
    /// One more.
    pub fn add(&mut self, goal: Goal, then: Then) {
        self.waiting.push((goal, then));
    }

    /// Tries a version out.
    pub fn try_out(&mut self, trial: Trial) {
        self.trial = Some(trial);
    }

    /// How the last run that ended unasked did so, since BootAgent runs.
    pub fn last_end(&self) -> Option<&str> {
        self.last_end.as_deref()
    }

    /// When [`Waiters::tick`] is due.
    pub fn deadline(&self) -> Option<Uptime> {
        self.trial.as_ref()?.deadline()
    }

    /// A trial's window may be over.
    pub fn tick(&mut self, now: Uptime, wanted: Wanted, limit_errors: &[String]) {
        if let Some(trial) = &mut self.trial {
            trial.tick(Moment {
                now,
                wanted,
                limit_errors,
            });
        }
    }

    /// Whoever waits for it to come up is told that it did not; `why` is in
    /// words.
    pub fn fail(&mut self, why: &str) {
        self.report(Report::Fatal { anomalies: 0 }, Wanted::Running, why, &[]);
    }

    /// Tells whom it concerns. `why` says why a run ended, in words; `wanted`
    /// is what is wanted by now.
    pub fn report(&mut self, report: Report, wanted: Wanted, why: &str, limit_errors: &[String]) {
        let settled = |goal: Goal| match (goal, report) {
            (Goal::Up, Report::Up) => Some(up(limit_errors)),
            // A oneshot was up before it could end: this is a service that
            // went before it was, however politely.
            (Goal::Up, Report::NormalEnd { .. }) => {
                Some(Settled::Failed(format!("was not up yet: {why}")))
            }
            (Goal::Up, Report::AbnormalEnd { .. } | Report::Fatal { .. }) => {
                Some(Settled::Failed(why.to_owned()))
            }
            // The kernel may keep it for ever.
            (_, Report::Stuck) => Some(Settled::Failed(STILL_THERE.into())),
            // Somebody else stopped it meanwhile: it will not come up, and a
            // job that went on waiting would hold up every other one.
            (Goal::Up, Report::Stopped(_)) if wanted == Wanted::Stopped => {
                Some(Settled::Failed("was stopped before it was up".into()))
            }
            (Goal::Up, Report::Recovered | Report::Stopped(_)) => None,
            (Goal::Stopped, Report::Stopped(StoppedBy::Signal)) => Some(Settled::Stopped),
            (Goal::Stopped, Report::Stopped(StoppedBy::Kill)) => Some(Settled::Killed),
            (Goal::Stopped, _) => None,
        };
        for (goal, then) in std::mem::take(&mut self.waiting) {
            match settled(goal) {
                Some(outcome) => then(outcome),
                None => self.waiting.push((goal, then)),
            }
        }
        if matches!(
            report,
            Report::NormalEnd { .. } | Report::AbnormalEnd { .. }
        ) {
            self.last_end = Some(why.to_owned());
        }
        if let Some(trial) = &mut self.trial {
            let at = Moment {
                now: now(),
                wanted,
                limit_errors,
            };
            trial.report(report, at, why);
        }
    }
}

/// What "up" means where limits were refused.
pub fn up(limit_errors: &[String]) -> Settled {
    match limit_errors {
        [] => Settled::Up,
        errors => Settled::UpWithoutLimits(errors.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use bootagent_core::restart::{Child, End, Event, Kind, Policy, Spec};
    use bootagent_core::time::Uptime;

    use super::*;

    #[test]
    fn a_child_that_outlives_its_kill_is_stuck_until_it_is_gone() {
        let spec = Spec::new(Kind::Oneshot, Policy::default());
        let mut child = Child::new(spec);
        let mut now = Uptime::from_secs(10);
        let mut handle = |event| {
            if event == Event::Tick {
                now = child.deadline().expect("something is due");
            }
            child.handle(event, now);
            child.is_stuck()
        };
        for event in [
            Event::Wanted(Wanted::Running),
            Event::Spawned,
            Event::Restart,
            // It is killed.
            Event::Tick,
        ] {
            assert!(!handle(event), "{event:?}");
        }
        // It is still there; a stop that comes now changes nothing in that.
        assert!(handle(Event::Tick));
        assert!(handle(Event::Wanted(Wanted::Stopped)));
        assert!(handle(Event::Exited(End::Signal(9))));
        assert!(!handle(Event::Gone));
    }

    fn told(goal: Goal, report: Report) -> Option<Settled> {
        let (reply, answer) = channel();
        let mut waiters = Waiters::default();
        waiters.add(goal, Box::new(move |settled| drop(reply.send(settled))));
        waiters.report(report, Wanted::Running, "why", &[]);
        answer.try_recv().ok()
    }

    #[test]
    fn whoever_waits_for_a_child_in_the_kernels_hands_is_told() {
        for goal in [Goal::Up, Goal::Stopped] {
            let settled = told(goal, Report::Stuck);
            assert_eq!(settled, Some(Settled::Failed(STILL_THERE.into())));
        }
    }

    #[test]
    fn a_service_that_ends_well_before_it_is_up_did_not_come_up() {
        let (end, ran) = (End::Normal(0), Duration::from_secs(1));
        let settled = told(Goal::Up, Report::NormalEnd { end, ran });
        assert_eq!(settled, Some(Settled::Failed("was not up yet: why".into())));
        assert_eq!(told(Goal::Up, Report::Up), Some(Settled::Up));
        assert_eq!(told(Goal::Stopped, Report::Up), None);
    }
}
