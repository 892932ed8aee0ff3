//! When a host's secret is replaced.

/// How long a secret is used, in milliseconds: 30 days.
const MAX_AGE_MILLIS: i64 = 30 * 24 * 3600 * 1000;
/// How much sooner it may be replaced, so that a fleet that was enrolled in one
/// day does not rotate in one.
const SPREAD_MILLIS: i64 = MAX_AGE_MILLIS / 4;
/// When another one is offered if the last one was not used, in milliseconds: a
/// host has either lost the reply or is about to use it.
const AGAIN_MILLIS: i64 = 3600 * 1000;

/// When a secret that is first used at `now` shall be replaced.
pub fn rotate_due(now: i64, random: u32) -> i64 {
    let sooner = i64::from(random) * (SPREAD_MILLIS / 1000) / i64::from(u32::MAX) * 1000;
    now + MAX_AGE_MILLIS - sooner
}

/// When to offer another one, if the one offered at `now` is not used.
pub fn offer_again(now: i64) -> i64 {
    now + AGAIN_MILLIS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_one_day_are_replaced_over_a_quarter_of_their_age() {
        let days = |millis: i64| millis / (24 * 3600 * 1000);
        assert_eq!(days(rotate_due(0, 0)), 30);
        assert_eq!(days(rotate_due(0, u32::MAX)), 22);
        let middle = days(rotate_due(0, u32::MAX / 2));
        assert!((25..=27).contains(&middle), "{middle}");
    }
}
