//! Whether a new BootAgent has taken over, as the watcher of its upgrade
//! decides it.
//!
//! The watcher is told what it sees and says what it does: nothing, ask a
//! server, tell the new one to try at once, or put the old one back. What
//! counts as success (a status that was answered) ends the watcher itself and
//! is no event here. The one rule: a server in trouble condemns nobody. That
//! the new one reaches no server counts only if the old one can, at that time.

use core::time::Duration;

use crate::time::Uptime;

/// How patient the watcher is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long the new one may take until its first answered status.
    pub confirm: Duration,
    /// How long it may be gone or silent.
    pub alive: Duration,
    /// How many times it may be started anew.
    pub starts: u32,
}

/// How far the upgrade is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The package manager works; the old one runs, usually.
    Installing,
    /// The new one was executed.
    Executed,
}

/// What is seen of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// This process answers.
    Answers(i32),
    /// It is there and does not answer.
    Silent,
    /// Nobody is there.
    Gone,
    /// Nobody is there, because somebody stopped it.
    Stopped,
}

/// What the old program was told when it asked the servers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// A status was answered.
    Answered,
    /// A server is there and did not answer one: busy, broken, unwilling.
    Refused,
    /// Nobody is there.
    Nobody,
}

/// What the watcher is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It looked.
    Looked(Phase, Daemon),
    /// It asked the servers, as [`Effect::Ask`] said.
    Asked(Reach),
    /// Its deadline has come.
    Tick,
}

/// What the watcher does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Ask the servers as the old program; [`Event::Asked`] follows.
    Ask,
    /// Tell the new one to call its servers at once.
    Hurry,
    /// Put the old one back. It is the last effect.
    RollBack(Cause),
}

/// Why the old one is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It ended again and again, or did not come up.
    Crashes,
    /// It does not answer.
    Hangs,
    /// It reaches no server, and the old one does.
    NoServer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Installing,
    /// Its first answered status is awaited until then. The second time it has
    /// been told to hurry, because a server was there.
    Awaiting {
        until: Uptime,
        hurried: Hurried,
    },
    Asking {
        hurried: Hurried,
    },
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hurried {
    No,
    Yes,
}

/// The watcher's mind.
#[derive(Debug, Clone)]
pub struct Takeover {
    patience: Patience,
    state: State,
    /// Since when the daemon does not answer, and how it looked last.
    missed: Option<(Uptime, Cause)>,
    process: Option<i32>,
    starts: u32,
}

impl Takeover {
    /// Nothing was seen yet.
    pub const fn new(patience: Patience) -> Self {
        Self {
            patience,
            state: State::Installing,
            missed: None,
            process: None,
            starts: 0,
        }
    }

    /// Decides what follows from `event`.
    pub fn handle(&mut self, event: Event, now: Uptime) -> Option<Effect> {
        if self.state == State::Over {
            return None;
        }
        match event {
            Event::Looked(phase, daemon) => {
                if let (State::Installing, Phase::Executed) = (self.state, phase) {
                    self.state = self.awaiting(Hurried::No, now);
                }
                if self.see(daemon, now) > self.patience.starts {
                    return self.roll_back(Cause::Crashes);
                }
            }
            Event::Asked(reach) => return self.asked(reach, now),
            Event::Tick => {}
        }
        if let Some((since, cause)) = self.missed
            && since + self.patience.alive <= now
        {
            return self.roll_back(cause);
        }
        match self.state {
            State::Awaiting { until, hurried } if until <= now => {
                self.state = State::Asking { hurried };
                Some(Effect::Ask)
            }
            State::Awaiting { .. } | State::Installing | State::Asking { .. } | State::Over => None,
        }
    }

    /// When a tick is due.
    pub fn deadline(&self) -> Option<Uptime> {
        let missed = self.missed.map(|(since, _)| since + self.patience.alive);
        match self.state {
            State::Over => None,
            State::Installing | State::Asking { .. } => missed,
            State::Awaiting { until, .. } => Some(missed.map_or(until, |missed| missed.min(until))),
        }
    }

    /// Notes how the daemon looks; returns how many times it was started anew.
    fn see(&mut self, daemon: Daemon, now: Uptime) -> u32 {
        let cause = match daemon {
            Daemon::Answers(process) => {
                self.missed = None;
                // An exec in place is no start: the process stays the same.
                if self
                    .process
                    .replace(process)
                    .is_some_and(|former| former != process)
                {
                    self.starts += 1;
                }
                return self.starts;
            }
            Daemon::Silent => Cause::Hangs,
            Daemon::Gone => Cause::Crashes,
            Daemon::Stopped => {
                // Nobody is judged for it; all its time begins anew.
                (self.missed, self.process) = (None, None);
                if let State::Awaiting { .. } = self.state {
                    self.state = self.awaiting(Hurried::No, now);
                }
                return self.starts;
            }
        };
        let since = self.missed.map_or(now, |(since, _)| since);
        self.missed = Some((since, cause));
        self.starts
    }

    fn asked(&mut self, reach: Reach, now: Uptime) -> Option<Effect> {
        let State::Asking { hurried } = self.state else {
            return None;
        };
        match (reach, hurried) {
            (Reach::Answered, Hurried::Yes) => self.roll_back(Cause::NoServer),
            (Reach::Answered, Hurried::No) => {
                // It may be waiting after failures of a server that is back
                // only now: it gets a second time, from this moment.
                self.state = self.awaiting(Hurried::Yes, now);
                Some(Effect::Hurry)
            }
            (Reach::Refused | Reach::Nobody, _) => {
                self.state = self.awaiting(Hurried::No, now);
                None
            }
        }
    }

    fn awaiting(&self, hurried: Hurried, now: Uptime) -> State {
        State::Awaiting {
            until: now + self.patience.confirm,
            hurried,
        }
    }

    fn roll_back(&mut self, cause: Cause) -> Option<Effect> {
        self.state = State::Over;
        Some(Effect::RollBack(cause))
    }
}
