//! Whether a host is there: online, late or offline.
//!
//! The rule: a host is late only by its own interval, and never for a time in
//! which the platform could not have heard it.

/// What a push may be late, in milliseconds.
const GRACE_MILLIS: i64 = 30_000;
/// How long nobody looks at a host that is online, at most, in milliseconds: its
/// next push may name a far shorter interval, and pushes leave the time of the
/// look as it is.
const LOOK_WITHIN_MILLIS: i64 = 900_000;
/// Intervals without a word after which a host is offline.
const OFFLINE_INTERVALS: i64 = 3;
/// Bounds of an interval, in seconds: what a host says of its step is a
/// stranger's number.
const INTERVAL_SECONDS: (u64, u64) = (1, 3600);
/// A gap in the platform's own sign of life from which on it counts as having
/// been away, in milliseconds: a shorter one is within the grace of every host.
const AWAY_MILLIS: i64 = GRACE_MILLIS;

/// How a host stands with the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Presence {
    /// Registered, and not heard of since.
    New,
    /// It pushes as it should.
    Online,
    /// A push is overdue.
    Late,
    /// It has missed several.
    Offline,
    /// An operator took its secret away.
    Revoked,
    /// An operator deleted it; its history stays.
    Deleted,
}

impl Presence {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::New,
        Self::Online,
        Self::Late,
        Self::Offline,
        Self::Revoked,
        Self::Deleted,
    ];

    /// The word, in the API and in the database.
    pub const fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Online => "online",
            Self::Late => "late",
            Self::Offline => "offline",
            Self::Revoked => "revoked",
            Self::Deleted => "deleted",
        }
    }

    /// Whether it is part of the fleet, and can be ordered something.
    pub const fn is_member(self) -> bool {
        !matches!(self, Self::Revoked | Self::Deleted)
    }

    /// What a word means.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }
}

/// Seconds a host may let pass between two pushes: its step, or what the last
/// reply asked for when that is more.
pub fn interval(step: u64, next: Option<u64>) -> u64 {
    let (least, most) = INTERVAL_SECONDS;
    step.max(next.unwrap_or_default()).clamp(least, most)
}

/// How a host stands at `now`, and when to look again. `seen` is its last push;
/// `back` is when the platform came back from having been away, so that each
/// host has one interval of its own to be heard again. All in milliseconds but
/// `interval`.
pub fn judge(seen: i64, interval: u64, back: i64, now: i64) -> (Presence, Option<i64>) {
    let contact = seen.max(back);
    let interval = i64::try_from(interval).unwrap_or(i64::MAX / 4000) * 1000;
    let late = contact + interval + GRACE_MILLIS;
    // For very short intervals, too, a host is late before it is offline.
    let offline = (contact + interval * OFFLINE_INTERVALS).max(late + GRACE_MILLIS);
    if now < late {
        (Presence::Online, Some(late.min(now + LOOK_WITHIN_MILLIS)))
    } else if now < offline {
        (Presence::Late, Some(offline))
    } else {
        (Presence::Offline, None)
    }
}

/// Whether the platform was away between its last sign of life and `now`. A
/// clock that was set forward looks the same, and shall.
pub fn was_away(alive: Option<i64>, now: i64) -> bool {
    alive.is_none_or(|alive| now.saturating_sub(alive) > AWAY_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seen: i64, interval: u64, back: i64, now: i64) -> (Presence, Option<i64>) {
        let (presence, due) = judge(seen * 1000, interval, back * 1000, now * 1000);
        (presence, due.map(|due| due / 1000))
    }

    #[test]
    fn a_host_is_late_after_one_interval_and_a_grace_and_offline_after_three() {
        assert_eq!(check(0, 600, 0, 629), (Presence::Online, Some(630)));
        assert_eq!(check(0, 600, 0, 630), (Presence::Late, Some(1800)));
        assert_eq!(check(0, 600, 0, 1799), (Presence::Late, Some(1800)));
        assert_eq!(check(0, 600, 0, 1800), (Presence::Offline, None));
    }

    #[test]
    fn a_host_with_a_long_interval_is_looked_at_before_it_can_be_late() {
        assert_eq!(check(0, 3600, 0, 10), (Presence::Online, Some(910)));
        assert_eq!(check(0, 3600, 0, 3000), (Presence::Online, Some(3630)));
    }

    #[test]
    fn a_short_interval_still_has_a_late_before_its_offline() {
        assert_eq!(check(0, 1, 0, 31), (Presence::Late, Some(61)));
        assert_eq!(check(0, 1, 0, 61), (Presence::Offline, None));
    }

    #[test]
    fn what_the_platform_slept_through_is_no_hosts_fault() {
        // Away from 100 to 10,000: each host has its interval from then on.
        assert_eq!(
            check(90, 600, 10_000, 10_600),
            (Presence::Online, Some(10_630))
        );
        assert_eq!(
            check(90, 600, 10_000, 10_630),
            (Presence::Late, Some(11_800))
        );
        assert!(was_away(Some(100_000), 10_000_000) && was_away(None, 0));
        assert!(!was_away(Some(100_000), 130_000));
    }

    #[test]
    fn an_interval_is_the_longer_of_step_and_next_within_bounds() {
        assert_eq!(interval(600, None), 600);
        assert_eq!(interval(600, Some(10)), 600);
        assert_eq!(interval(60, Some(900)), 900);
        assert_eq!((interval(0, None), interval(u64::MAX, None)), (1, 3600));
    }

    #[test]
    fn every_state_reads_back_from_its_word() {
        for state in Presence::ALL {
            assert_eq!(Presence::parse(state.word()), Some(state));
        }
        assert_eq!(Presence::parse("gone"), None);
    }
}
