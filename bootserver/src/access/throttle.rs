//! How often a password may be tried.
//!
//! Attempts are counted before the password is looked at, by name and by block
//! of addresses, in the database: many at once and many replicas get no more.
//! A count is one number, the time at which all attempts so far are paid for;
//! waiting pays. The wait has a bound, so nobody is locked out for good.

use std::net::IpAddr;

use sha2::{Digest, Sha256};

use crate::token::hex;

/// What one key may do: a few attempts at once, then one in a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Attempts at once.
    pub burst: i64,
    /// Milliseconds that pay for one attempt.
    pub every: i64,
}

/// Of one name: 2,880 guesses a day at most.
const OF_A_NAME: Rate = Rate {
    burst: 10,
    every: 30_000,
};
/// Of one block of addresses, behind which an office may sit.
const OF_A_BLOCK: Rate = Rate {
    burst: 30,
    every: 5_000,
};

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The key of the count.
    pub key: String,
    /// How much it may hold.
    pub rate: Rate,
}

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It may be made, and is paid for at this time.
    Allowed {
        /// Unix milliseconds.
        paid: i64,
    },
    /// Too many: after so long one more is allowed.
    Wait {
        /// Milliseconds, at least 1.
        millis: i64,
    },
}

/// Decides on one attempt; `paid` is when those before it are paid for.
pub fn attempt(rate: Rate, paid: Option<i64>, now: i64) -> Attempt {
    // A clock that was set back must not keep anybody out for long.
    let full = rate.burst * rate.every;
    let paid = paid.unwrap_or(now).clamp(now, now + full);
    let after = paid + rate.every;
    match after - now > full {
        true => Attempt::Wait {
            millis: after - now - full,
        },
        false => Attempt::Allowed { paid: after },
    }
}

/// The count of a name. It is hashed, because what is typed as a name may be a
/// password.
pub fn name_bucket(name: &str) -> Bucket {
    Bucket {
        key: format!("name {}", hex(&Sha256::digest(name.as_bytes()))),
        rate: OF_A_NAME,
    }
}

/// The counts an attempt falls into.
pub fn buckets(name: &str, address: Option<IpAddr>) -> Vec<Bucket> {
    let mut buckets = vec![name_bucket(name)];
    buckets.extend(address.map(|address| Bucket {
        key: format!("block {}", block(address)),
        rate: OF_A_BLOCK,
    }));
    // One order for all, so that two never wait for each other's.
    buckets.sort_by(|one, two| one.key.cmp(&two.key));
    buckets
}

/// What one customer of a provider has: /24 of IPv4, /56 of IPv6.
fn block(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => format!("{}/56", hex(&v6.octets()[..7])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        every: 10,
    };

    /// Times at which attempts are made, and whether each is allowed.
    fn check(attempts: &[(i64, bool)]) {
        let mut paid = None;
        for &(now, expected) in attempts {
            let made = attempt(RATE, paid, now);
            if let Attempt::Allowed { paid: after } = made {
                paid = Some(after);
            }
            let allowed = matches!(made, Attempt::Allowed { .. });
            assert_eq!(allowed, expected, "at {now}: {made:?}");
        }
    }

    #[test]
    fn some_at_once_then_one_in_a_while() {
        check(&[
            (100, true),
            (100, true),
            (100, true),
            (100, false),
            (109, false),
            (110, true),
            (110, false),
        ]);
    }

    #[test]
    fn an_attempt_that_was_refused_costs_nothing() {
        check(&[
            (0, true),
            (0, true),
            (0, true),
            (5, false),
            (9, false),
            (10, true),
        ]);
    }

    #[test]
    fn after_a_pause_all_is_paid() {
        check(&[
            (0, true),
            (0, true),
            (0, true),
            (30, true),
            (30, true),
            (30, true),
            (30, false),
        ]);
    }

    #[test]
    fn the_wait_is_never_longer_than_one_attempt_costs() {
        // Also when the clock was set back by a day.
        for paid in [130, 100_000_000] {
            match attempt(RATE, Some(paid), 100) {
                Attempt::Wait { millis } => assert!((1..=10).contains(&millis), "{millis}"),
                Attempt::Allowed { .. } => panic!("{paid} is not paid yet"),
            }
        }
    }

    #[test]
    fn neighbours_share_a_block_and_names_are_not_kept() {
        let keys = |name: &str, address: &str| -> Vec<String> {
            let address = address.parse().ok();
            let buckets = buckets(name, address).into_iter();
            buckets.map(|bucket| bucket.key).collect()
        };
        assert_eq!(keys("ann", "10.0.0.1"), keys("ann", "10.0.0.200"));
        assert_eq!(keys("ann", "10.0.0.1"), keys("ann", "::ffff:10.0.0.9"));
        assert_ne!(keys("ann", "10.0.0.1"), keys("ann", "10.0.1.1"));
        assert_eq!(
            keys("ann", "2001:db8:1:200::1"),
            keys("ann", "2001:db8:1:2ff::2")
        );
        assert_eq!(keys("ann", "").len(), 1);
        assert!(!keys("hunter2", "").join(" ").contains("hunter2"));
    }
}
