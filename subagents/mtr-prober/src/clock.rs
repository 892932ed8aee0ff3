//! Both clocks, read together, so that a jump of the wall clock is seen.
//!
//! Kernel stamps are wall time and moments are not; a stamp is turned into a moment by how the two clocks
//! stand to each other now.
//!
//! The one rule: what was stamped around a jump has no time.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::moment::{Moment, Wall};
use crate::report::Instant;
use crate::sys;

/// Farther than this between two readings the wall clock was set and not steered.
const STEP: Duration = Duration::from_millis(1);

/// A steered clock goes wrong by so much of the time that passes; the kernel's bound is half of it.
const STEERED: u32 = 1_000;

/// The local zone is looked up again after this long.
const ZONE_AGE: Duration = Duration::from_secs(60);

/// The monotonic clock.
pub(crate) fn now() -> Moment {
    read(ClockId::CLOCK_MONOTONIC)
}

fn read(clock: ClockId) -> Moment {
    // Both clocks exist on every Linux and their ids are constants.
    let time = clock_gettime(clock).expect("the clocks are always readable");
    Moment::default() + Duration::from(time)
}

/// The present moment as a report has it.
#[must_use]
pub fn instant() -> Instant {
    let clock = Clock::new();
    clock.wall.instant(clock.looked)
}

/// How the wall clock stood when it was last looked at.
#[derive(Debug)]
pub(crate) struct Clock {
    wall: Wall,
    looked: Moment,
    zone_looked: Moment,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let (looked, ahead) = look();
        let mut clock = Self {
            wall: Wall { ahead, zone: 0 },
            looked,
            zone_looked: looked,
        };
        clock.wall.zone = sys::zone(clock.wall.second(looked));
        clock
    }

    pub(crate) fn wall(&self) -> Wall {
        self.wall
    }

    /// Looks again; tells by how many nanoseconds the wall clock jumped, if it did.
    pub(crate) fn look(&mut self) -> Option<i64> {
        let (looked, ahead) = look();
        let passed = looked.since(self.looked);
        let step = ahead - self.wall.ahead;
        self.wall.ahead = ahead;
        self.looked = looked;
        if looked.since(self.zone_looked) > ZONE_AGE {
            self.zone_looked = looked;
            self.wall.zone = sys::zone(self.wall.second(looked));
        }
        is_step(step, passed).then_some(step)
    }
}

/// Whether the wall clock was set: it went by so many nanoseconds more than what passed.
fn is_step(step: i64, passed: Duration) -> bool {
    Duration::from_nanos(step.unsigned_abs()) > STEP + passed / STEERED
}

/// The monotonic clock, and how far the wall clock is ahead of it.
fn look() -> (Moment, i64) {
    // Three times at most: that we are put aside between two readings is rare.
    let mut best: Option<(Duration, Moment, i64)> = None;
    for _ in 0..3 {
        let before = now();
        let wall = read(ClockId::CLOCK_REALTIME);
        let after = now();
        let width = after.since(before);
        let middle = Moment((before.0 + after.0) / 2);
        let ahead = nanos(wall) - nanos(middle);
        if best.is_none_or(|(narrowest, ..)| width < narrowest) {
            best = Some((width, middle, ahead));
        }
        if width < Duration::from_micros(20) {
            break;
        }
    }
    let (_, moment, ahead) = best.expect("it was looked once at least");
    (moment, ahead)
}

fn nanos(moment: Moment) -> i64 {
    i64::try_from(moment.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_steered_does_not_jump_and_one_that_is_set_does() {
        let hour = Duration::from_secs(3_600);
        // 500 millionths is as fast as the kernel steers.
        assert!(!is_step(1_800_000_000, hour));
        assert!(!is_step(-1_800_000_000, hour));
        assert!(is_step(5_000_000, Duration::from_millis(1)));
        assert!(is_step(-5_000_000, Duration::from_millis(1)));
        assert!(is_step(3_600_000_000_000, hour));
        let mut clock = Clock::new();
        assert_eq!(clock.look(), None);
    }
}
