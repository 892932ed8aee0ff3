//! Time as decisions see it: how long this machine has been up.
//!
//! No clock is read here; whoever calls brings `now`. The one rule: an age
//! counts suspended time, so the caller reads `CLOCK_BOOTTIME`, and wall time,
//! which steps, never decides anything.

use core::ops::{Add, Sub};
use core::time::Duration;

/// A moment of this boot, in nanoseconds of `CLOCK_BOOTTIME`. Arithmetic
/// saturates: a senseless configuration must not panic a supervisor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uptime(u64);

impl Uptime {
    /// The moment of booting.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds since boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From milliseconds since boot.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// From seconds since boot.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since boot, to be kept in a record of this boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long before `self` was `earlier`; zero when it was not.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The first moment of the grid `phase + n * step` that is not before
    /// `self`. The grid starts at boot and has no state, so everything that
    /// waits on the same step wakes together, also after a restart of ours.
    /// A zero step has a point everywhere.
    pub fn on_grid(self, step: Duration, phase: Duration) -> Self {
        let step = nanos(step).max(1);
        let phase = nanos(phase) % step;
        let over = self.0.saturating_sub(phase) % step;
        if self.0 <= phase {
            Self(phase)
        } else if over == 0 {
            self
        } else {
            Self(self.0.saturating_add(step - over))
        }
    }

    /// As [`Uptime::on_grid`], but strictly after `self`.
    pub fn on_grid_after(self, step: Duration, phase: Duration) -> Self {
        Self(self.0.saturating_add(1)).on_grid(step, phase)
    }
}

/// A duration in nanoseconds; 584 years at most.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Uptime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl Sub<Duration> for Uptime {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

impl Sub for Uptime {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Uptime::from_secs(1) - MINUTE, Uptime::ZERO);
        assert_eq!(Uptime::from_nanos(u64::MAX) + MINUTE, Uptime(u64::MAX));
        assert_eq!(Uptime::ZERO + Duration::MAX, Uptime(u64::MAX));
        assert_eq!(Uptime::ZERO - Uptime::from_secs(5), Duration::ZERO);
        assert_eq!(Uptime::from_secs(u64::MAX), Uptime(u64::MAX));
    }

    #[test]
    fn a_grid_point_is_its_own_next_but_not_the_one_after() {
        let point = Uptime::from_secs(120);
        assert_eq!(point.on_grid(MINUTE, Duration::ZERO), point);
        assert_eq!(
            point.on_grid_after(MINUTE, Duration::ZERO),
            Uptime::from_secs(180)
        );
        let between = Uptime::from_millis(120_001);
        assert_eq!(
            between.on_grid(MINUTE, Duration::ZERO),
            Uptime::from_secs(180)
        );
    }

    #[test]
    fn a_phase_shifts_the_grid_and_wraps_at_the_step() {
        let phase = Duration::from_secs(7);
        assert_eq!(
            Uptime::ZERO.on_grid(MINUTE, phase),
            Uptime::from_secs(7),
            "the first point is the phase"
        );
        assert_eq!(
            Uptime::from_secs(8).on_grid(MINUTE, phase + MINUTE),
            Uptime::from_secs(67)
        );
    }

    #[test]
    fn a_zero_step_and_the_end_of_time_do_not_panic() {
        let now = Uptime::from_secs(3);
        assert_eq!(now.on_grid(Duration::ZERO, MINUTE), now);
        assert_eq!(
            Uptime(u64::MAX).on_grid_after(MINUTE, Duration::ZERO),
            Uptime(u64::MAX)
        );
    }
}
