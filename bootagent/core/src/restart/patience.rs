//! Until when a child may take its time, and when that time is judged.
//!
//! The rule: a late tick of our own never condemns a child. When we look long
//! after the deadline, then we, or the whole machine, were not running; the
//! child probably was not either, or its message still waits to be read. So
//! the first late look gives the full time once more, and only the next
//! verdict counts, however late it comes.

use core::time::Duration;

use crate::time::Uptime;

/// A look that comes later than this after the deadline is late. A loop that
/// works wakes within milliseconds.
const LATE: Duration = Duration::from_secs(2);

/// A running allowance of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    at: Uptime,
    span: Duration,
    chance: Chance,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chance {
    First,
    Second,
}

/// What a look at an allowance says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is time left.
    Waiting,
    /// We were late ourselves: go on with this one.
    Again(Patience),
    /// The time is over.
    Over,
}

impl Patience {
    /// `span` from `now` on.
    pub(super) fn new(span: Duration, now: Uptime) -> Self {
        Self {
            at: now + span,
            span,
            chance: Chance::First,
        }
    }

    /// When it is over.
    pub(super) const fn at(self) -> Uptime {
        self.at
    }

    /// Whether it is over at `now`.
    pub(super) fn judge(self, now: Uptime) -> Verdict {
        if now < self.at {
            return Verdict::Waiting;
        }
        match self.chance {
            Chance::First if now.since(self.at) > LATE => Verdict::Again(Self {
                at: now + self.span,
                span: self.span,
                chance: Chance::Second,
            }),
            Chance::First | Chance::Second => Verdict::Over,
        }
    }
}
