//! What is known about a child before it runs: its kind, its times and the
//! numbers of the policy.
//!
//! The rule: a [`Policy`] that exists has been validated.

use core::fmt;
use core::ops::RangeInclusive;
use core::time::Duration;

/// When a child counts as up, and whether it is meant to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Up when it has lived for [`Spec::up_after`].
    Simple,
    /// Up when it says so ([`super::Event::Ready`]).
    Notify,
    /// Up from exec on; done, and not restarted, once it ended normally.
    Oneshot,
}

/// How one child is run. Times of zero are allowed and mean "at once".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// When it counts as up.
    pub kind: Kind,
    /// When it is started again.
    pub policy: Policy,
    /// How long a [`Kind::Notify`] child may take to say that it is ready.
    pub start_timeout: Duration,
    /// How long a [`Kind::Simple`] child must live to count as up.
    pub up_after: Duration,
    /// How long it may take to stop before it is killed.
    pub stop_timeout: Duration,
    /// How long it may be silent once it is up; none or zero: for ever.
    pub watchdog: Option<Duration>,
}

impl Spec {
    /// The default of [`Spec::start_timeout`].
    pub const START_TIMEOUT: Duration = Duration::from_secs(60);
    /// The default of [`Spec::up_after`].
    pub const UP_AFTER: Duration = Duration::from_secs(5);
    /// The default of [`Spec::stop_timeout`].
    pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

    /// A child of this kind with the default times and no watchdog.
    pub const fn new(kind: Kind, policy: Policy) -> Self {
        Self {
            kind,
            policy,
            start_timeout: Self::START_TIMEOUT,
            up_after: Self::UP_AFTER,
            stop_timeout: Self::STOP_TIMEOUT,
            watchdog: None,
        }
    }
}

/// The four numbers of document 002, validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    check: Duration,
    holdoff: Duration,
    stable: Duration,
    max_anomalies: u32,
}

/// A number of the policy that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The key, as in the configuration's `[restart]`.
    pub key: &'static str,
    /// What it was, in milliseconds (`max_anomalies`: as it is).
    pub value: u128,
    /// What is expected there.
    pub expected: &'static str,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.key == "max_anomalies" {
            ""
        } else {
            " ms"
        };
        write!(
            formatter,
            "{} is {}{unit}, expected {}",
            self.key, self.value, self.expected
        )
    }
}

impl core::error::Error for PolicyError {}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Policy {
    /// A look every 60 s, 3 min of hold-off, stable after 15 min, and 3
    /// anomalies forgiven.
    pub const DEFAULT: Self = Self {
        check: Duration::from_secs(60),
        holdoff: Duration::from_secs(180),
        stable: Duration::from_secs(900),
        max_anomalies: 3,
    };

    /// A policy of these numbers.
    ///
    /// # Errors
    /// Names the first number that is out of its bounds.
    pub fn new(
        check: Duration,
        holdoff: Duration,
        stable: Duration,
        max_anomalies: u32,
    ) -> Result<Self, PolicyError> {
        within("check", check, SECOND..=HOUR, "1 s to 1 h")?;
        within("holdoff", holdoff, Duration::ZERO..=DAY, "0 s to 1 d")?;
        within("stable", stable, SECOND..=DAY * 7, "1 s to 7 d")?;
        if max_anomalies > 1000 {
            return Err(PolicyError {
                key: "max_anomalies",
                value: max_anomalies.into(),
                expected: "0 to 1000",
            });
        }
        Ok(Self {
            check,
            holdoff,
            stable,
            max_anomalies,
        })
    }

    /// How far the looks are apart.
    pub const fn check(&self) -> Duration {
        self.check
    }

    /// How long after an abnormal end nothing is started.
    pub const fn holdoff(&self) -> Duration {
        self.holdoff
    }

    /// How long a run must be to be no anomaly.
    pub const fn stable(&self) -> Duration {
        self.stable
    }

    /// How many anomalies in a row are still tried again.
    pub const fn max_anomalies(&self) -> u32 {
        self.max_anomalies
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

fn within(
    key: &'static str,
    value: Duration,
    bounds: RangeInclusive<Duration>,
    expected: &'static str,
) -> Result<(), PolicyError> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(PolicyError {
        key,
        value: value.as_millis(),
        expected,
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn the_default_policy_is_document_002s_and_valid() {
        let default = Policy::DEFAULT;
        assert_eq!(
            Policy::new(
                Duration::from_secs(60),
                Duration::from_secs(3 * 60),
                Duration::from_secs(15 * 60),
                3
            ),
            Ok(default)
        );
    }

    #[test]
    fn each_number_out_of_bounds_is_named() {
        let [check, holdoff, stable] = [60, 180, 900].map(Duration::from_secs);
        for (policy, text) in [
            (
                Policy::new(Duration::ZERO, holdoff, stable, 3),
                "check is 0 ms, expected 1 s to 1 h",
            ),
            (
                Policy::new(check, DAY + SECOND, stable, 3),
                "holdoff is 86401000 ms, expected 0 s to 1 d",
            ),
            (
                Policy::new(check, holdoff, Duration::ZERO, 3),
                "stable is 0 ms, expected 1 s to 7 d",
            ),
            (
                Policy::new(check, holdoff, stable, 1001),
                "max_anomalies is 1001, expected 0 to 1000",
            ),
        ] {
            assert_eq!(policy.expect_err(text).to_string(), text);
        }
    }
}
