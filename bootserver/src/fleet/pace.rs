//! When a host shall come back: the `next` of a status reply.

use super::handout::More;

/// Seconds until a host comes back for orders that did not fit one reply.
const MORE_SECONDS: u64 = 10;
/// The longest a host may be asked to wait, in seconds: the protocol's bound.
const MAX_SECONDS: u64 = 3600;
/// Of a slowed host's interval, the part by which it is spread, in percent.
const SPREAD_PERCENT: u64 = 10;

/// Seconds to the next status, if they are not the host's own step: who has more
/// orders waiting comes soon, whatever the load; then what [`slowed`] says.
pub fn next(more: More, slowed: Option<u64>) -> Option<u64> {
    match more {
        More::Waiting => Some(MORE_SECONDS),
        More::None => slowed,
    }
}

/// Seconds to the next status in a fleet of `online` hosts that would push more
/// often than `per_second` all together. Each host is slowed down to the same
/// interval and a random part, so that it depends on how many there are and not
/// on how busy this moment is.
pub fn slowed(
    step: u64,
    online: u64,
    per_second: u64,
    random: impl FnOnce() -> u32,
) -> Option<u64> {
    let needed = online / per_second.max(1);
    if needed <= step {
        return None;
    }
    let spread = needed * SPREAD_PERCENT / 100 * u64::from(random()) / u64::from(u32::MAX);
    Some((needed + spread).min(MAX_SECONDS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_that_fits_keeps_its_step() {
        assert_eq!(slowed(600, 1_000_000, 5_000, || 7), None);
        assert_eq!(slowed(600, 3_000_000, 5_000, || u32::MAX), None);
    }

    #[test]
    fn a_fleet_that_is_too_large_is_slowed_to_what_can_be_served() {
        assert_eq!(slowed(60, 1_000_000, 5_000, || 0), Some(200));
        assert_eq!(slowed(60, 1_000_000, 5_000, || u32::MAX), Some(220));
        assert_eq!(slowed(60, 1_000_000, 0, || 0), Some(3600));
    }

    #[test]
    fn orders_that_wait_bring_a_host_back_soon_whatever_the_load() {
        assert_eq!(next(More::Waiting, Some(200)), Some(10));
        assert_eq!(next(More::None, Some(200)), Some(200));
        assert_eq!(next(More::None, None), None);
    }
}
