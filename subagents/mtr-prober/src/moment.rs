//! A point on the monotonic clock, and the wall clock beside it.
//!
//! The one rule: everything is decided by moments; wall time is for showing.

use std::ops::Add;
use std::time::Duration;

use crate::report::Instant;

/// Nanoseconds on the monotonic clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// How long after `earlier` this is; zero when it is before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

/// A duration in nanoseconds; the most there can be where it is longer.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000_000);
    seconds.saturating_add(duration.subsec_nanos().into())
}

/// How the wall clock stands to the monotonic one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wall {
    /// Nanoseconds to add to a moment to get unix time.
    pub ahead: i64,
    /// Seconds the local zone is east of UTC.
    pub zone: i32,
}

impl Wall {
    /// The moment as a report has it.
    #[must_use]
    pub fn instant(self, moment: Moment) -> Instant {
        Instant {
            unix_ms: self.unix_nanos(moment).div_euclid(1_000_000),
            offset: self.zone,
        }
    }

    /// The unix second the moment is in.
    #[must_use]
    pub fn second(self, moment: Moment) -> i64 {
        self.unix_nanos(moment).div_euclid(1_000_000_000)
    }

    /// The moment of this unix time; that of the clock's beginning for times before it.
    #[must_use]
    pub fn moment(self, unix_nanos: i64) -> Moment {
        Moment(u64::try_from(unix_nanos.saturating_sub(self.ahead)).unwrap_or(0))
    }

    fn unix_nanos(self, moment: Moment) -> i64 {
        i64::try_from(moment.0)
            .unwrap_or(i64::MAX)
            .saturating_add(self.ahead)
    }
}
