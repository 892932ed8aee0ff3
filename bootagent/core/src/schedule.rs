//! When BootAgent calls its server, and with what: a registration or a status.
//!
//! At most one call is out at a time; which server gets it is decided in
//! [`crate::failover`]. The rules, in the order in which they win:
//!
//! 1. While a call is out nothing is due; its outcome always comes, because
//!    every request has a deadline.
//! 2. A start of BootAgent is followed by a call within [`Timing::first_within`].
//! 3. A registration that was accepted is followed at once by a status.
//! 4. A failed round backs off: 30 s, doubled each time, at most a step and a
//!    third or 30 min, and of that a random part (full jitter, after the cap: a
//!    cap applied last would bring a whole fleet back in one second).
//! 5. A server that says when (`Retry-After`) is obeyed, between 1 s and 1 d,
//!    and up to a quarter later, so that those it told the same spread out.
//! 6. A refused secret (401) is tried again slowly, after 30 to 60 min.
//! 7. Urgent news go at once, but not within [`Timing::gap`] of the call
//!    before, and never against 4 to 6: they wait with the rest.
//! 8. The reply's `next` counts once, between 1 s and 1 h.
//! 9. Otherwise a host has its turn once per step, at a phase that is a hash
//!    of its identity, on the grid of the uptime. A fleet that was cut off
//!    falls back into its phases with the first success.
//!
//! The one rule: no deadline lies in the past once a tick was handled.

use core::time::Duration;

use crate::time::{Uptime, nanos};

mod event;

pub use event::{Call, Enrolment, Event, Standing, Timing, Why};

/// The first backoff, before jitter.
pub const BACKOFF_BASE: Duration = Duration::from_secs(30);
/// The largest backoff, before jitter, of any step. It is a step and a third where
/// that is shorter: after any outage everybody is back within one and a half, and
/// a server that is away is asked at most half as often again as one that is there.
pub const BACKOFF_CAP: Duration = Duration::from_secs(30 * 60);
/// The bounds of `Retry-After`. A longer one would lose a host to a typing
/// error in somebody's proxy.
pub const RETRY_AFTER: (Duration, Duration) = (SECOND, Duration::from_secs(24 * 3600));
/// The bounds of the reply's `next`.
pub const NEXT: (Duration, Duration) = (SECOND, Duration::from_secs(3600));
/// The bounds of the wait after a 401.
pub const UNAUTHORIZED: (Duration, Duration) =
    (Duration::from_secs(30 * 60), Duration::from_secs(3600));

const SECOND: Duration = Duration::from_secs(1);

/// When to call, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    timing: Timing,
    identity: u64,
    need: Call,
    failures: u32,
    renewals: u32,
    called_at: Option<Uptime>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting { at: Uptime, why: Why },
    Calling { news: News },
}

/// Whether something urgent came up that the call that is out may not carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    None,
    Urgent,
}

impl Schedule {
    /// A schedule for a BootAgent that starts `now`. `random` is any number,
    /// another one each time.
    pub fn new(
        agentsn: &str,
        timing: Timing,
        standing: Standing,
        now: Uptime,
        random: u32,
    ) -> Self {
        Self {
            timing,
            identity: fnv1a(agentsn.as_bytes()),
            need: match standing {
                Standing::Unregistered => Call::Register,
                Standing::Registered => Call::Status,
            },
            failures: 0,
            renewals: 0,
            called_at: None,
            state: State::Waiting {
                at: now + part_of(timing.first_within, random),
                why: Why::First,
            },
        }
    }

    /// Another identity, from a registration's reply: another phase.
    pub fn rename(&mut self, agentsn: &str) {
        self.identity = fnv1a(agentsn.as_bytes());
    }

    /// Decides what follows from `event`; when it is a call, it is out from
    /// now on and its outcome must be handed in. An outcome that no call is
    /// waiting for changes nothing.
    pub fn handle(&mut self, event: Event, now: Uptime, random: u32) -> Option<Call> {
        match event {
            Event::Tick => {}
            Event::Urgent => self.urgent(now),
            Event::Step(step) => {
                self.timing.step = step;
                if let State::Waiting { why: Why::Turn, .. } = self.state {
                    self.wait_for_turn(now);
                }
            }
            Event::Changed => {
                self.failures = 0;
                match self.state {
                    State::Waiting {
                        why: Why::Failure | Why::RetryAfter | Why::Unauthorized,
                        ..
                    } => self.wait(now + part_of(self.timing.first_within, random), Why::First),
                    State::Waiting {
                        why: Why::First | Why::Turn | Why::Next | Why::News | Why::Status,
                        ..
                    }
                    | State::Calling { .. } => {}
                }
            }
            Event::Registered
            | Event::Answered { .. }
            | Event::RegisterAgain
            | Event::Failed
            | Event::RetryAfter(_)
            | Event::Unauthorized(_) => {
                if let State::Calling { news } = self.state {
                    self.outcome(event, news, now, random);
                }
            }
        }
        match self.state {
            State::Waiting { at, .. } if at <= now => {
                self.called_at = Some(now);
                self.state = State::Calling { news: News::None };
                Some(self.need)
            }
            State::Waiting { .. } | State::Calling { .. } => None,
        }
    }

    /// When [`Event::Tick`] is due; none while a call is out.
    pub const fn deadline(&self) -> Option<Uptime> {
        match self.state {
            State::Waiting { at, .. } => Some(at),
            State::Calling { .. } => None,
        }
    }

    /// What it is waiting for; none while a call is out.
    pub const fn why(&self) -> Option<Why> {
        match self.state {
            State::Waiting { why, .. } => Some(why),
            State::Calling { .. } => None,
        }
    }

    /// What the next call is, or the one that is out.
    pub const fn call(&self) -> Call {
        self.need
    }

    /// Rounds that failed in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    fn outcome(&mut self, event: Event, news: News, now: Uptime, random: u32) {
        match event {
            Event::Registered => {
                // Failures go on counting: only a status proves the way.
                self.need = Call::Status;
                self.wait(now, Why::Status);
            }
            Event::Answered { next } => {
                self.need = Call::Status;
                self.failures = 0;
                self.renewals = 0;
                match next {
                    Some(next) => self.wait(now + clamp(next, NEXT), Why::Next),
                    None => self.wait_for_turn(now),
                }
                if news == News::Urgent {
                    self.urgent(now);
                }
            }
            Event::RegisterAgain => {
                self.need = Call::Register;
                self.failures = 0;
                // Once is an order; again and again is a server in trouble.
                let delay = match self.renewals {
                    0 => part_of(self.timing.first_within, random),
                    renewals => backoff(renewals, self.timing.step, random),
                };
                self.renewals = self.renewals.saturating_add(1);
                self.wait(now + delay, Why::First);
            }
            Event::Failed => self.back_off(now, random),
            Event::RetryAfter(delay) => {
                let delay = clamp(delay, RETRY_AFTER);
                let later = delay.saturating_add(part_of(delay / 4, random));
                self.wait(now + later.min(RETRY_AFTER.1), Why::RetryAfter);
            }
            Event::Unauthorized(enrolment) => match (self.need, enrolment) {
                (Call::Status, Enrolment::Present) => {
                    self.need = Call::Register;
                    self.back_off(now, random);
                }
                (Call::Status, Enrolment::Absent) | (Call::Register, _) => {
                    let (least, most) = UNAUTHORIZED;
                    let delay = least + part_of(most.saturating_sub(least), random);
                    self.wait(now + delay, Why::Unauthorized);
                }
            },
            Event::Tick | Event::Urgent | Event::Step(_) | Event::Changed => {}
        }
    }

    fn urgent(&mut self, now: Uptime) {
        match self.state {
            State::Calling { .. } => self.state = State::Calling { news: News::Urgent },
            State::Waiting {
                at,
                why: Why::First | Why::Turn | Why::Next | Why::News,
            } if self.need == Call::Status => {
                let free_at = self
                    .called_at
                    .map_or(now, |called| called + self.timing.gap);
                let soon = free_at.max(now);
                if soon < at {
                    self.wait(soon, Why::News);
                }
            }
            // A registration carries no news; a failing or overloaded server
            // is not asked more often for having more to say.
            State::Waiting { .. } => {}
        }
    }

    fn back_off(&mut self, now: Uptime, random: u32) {
        self.failures = self.failures.saturating_add(1);
        let delay = backoff(self.failures, self.timing.step, random);
        self.wait(now + delay, Why::Failure);
    }

    fn wait_for_turn(&mut self, now: Uptime) {
        let step = self.timing.step.max(SECOND);
        self.wait(
            now.on_grid_after(step, phase(self.identity, step)),
            Why::Turn,
        );
    }

    fn wait(&mut self, at: Uptime, why: Why) {
        self.state = State::Waiting { at, why };
    }
}

/// How long to wait after this many failures in a row: a random part of
/// [`BACKOFF_BASE`] doubled each time, up to a step and a third and up to
/// [`BACKOFF_CAP`]; 1 s at least.
pub fn backoff(failures: u32, step: Duration, random: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let cap = step.saturating_add(step / 3);
    let cap = cap.clamp(BACKOFF_BASE, BACKOFF_CAP);
    let most = BACKOFF_BASE.saturating_mul(1 << doublings).min(cap);
    part_of(most, random).max(SECOND)
}

/// The place of an identity within each step, in whole milliseconds.
fn phase(identity: u64, step: Duration) -> Duration {
    let step = u64::try_from(step.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(identity % step)
}

/// `random / 2^32` of a duration; never zero of something.
fn part_of(most: Duration, random: u32) -> Duration {
    let share = u128::from(nanos(most)) * (u128::from(random) + 1);
    Duration::from_nanos(u64::try_from(share.div_ceil(1 << 32)).unwrap_or(u64::MAX))
}

fn clamp(value: Duration, (least, most): (Duration, Duration)) -> Duration {
    value.clamp(least, most)
}

/// FNV-1a, 64 bit. Kept here so that no library's update moves a fleet's
/// phases.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
