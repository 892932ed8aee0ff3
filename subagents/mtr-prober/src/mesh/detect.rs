//! Whether a peer's pings show trouble, from one outcome to the next.
//!
//! A ping a second is too slow to catch what lasts ten. So the first loss, or the first round trip
//! that is long, makes pings quick for five seconds: ten in the first, then five a second. Trouble is:
//!
//! 1. At least three of the last twenty pings are lost, and so many that this peer, with its own
//!    baseline, would lose them by chance less than once in twenty days.
//! 2. Or the median of the last ten round trips is above what is usual by 10 ms or 30 %, whichever is more.
//!
//! Pings stay quick meanwhile. It is over after thirty seconds, or a quarter of the time it lasted,
//! in which no more was lost than normally and the median was back below half of that.
//!
//! The one rule: a peer that never answered shows nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::baseline::{Baseline, bearable, more_than};
use crate::moment::Moment;

/// From one ping to the next when all is well.
pub const PLAIN: Duration = Duration::from_secs(1);
/// And when something may not be.
const QUICK: Duration = Duration::from_millis(200);
/// And at the very first: what lasts ten seconds leaves no time to lose.
const QUICKEST: Duration = Duration::from_millis(100);
/// How long pings are quick after a loss, and how long quickest after the first.
const BURST: Duration = Duration::from_secs(5);
const BURST_BEGIN: Duration = Duration::from_secs(1);
/// Pings that are looked back at, and round trips.
const WINDOW: u32 = 20;
const MEDIAN_OF: usize = 10;
/// Fewest losses that are trouble.
const FEWEST: u32 = 3;
/// False alarms a day that a peer's baseline may give by chance.
const FALSE_A_DAY: f64 = 0.05;
const PLAIN_A_DAY: f64 = 86_400.0;
/// Pings of one burst, and how many times as many as plain ones there are in it.
const PINGS_OF_BURST: f64 = 30.0;
const QUICK_TO_PLAIN: f64 = 5.0;
/// How long it must be well to be over, at least and at most, and pings that takes at least.
const WELL: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
const WELL_PINGS: u32 = 20;
/// Of more pings than these the share counts.
const WELL_COUNTED: u32 = 200;
/// The chance with which what is normal is lost while it is to be well.
const WELL_CHANCE: f64 = 0.1;
/// Trouble that lasts longer than this begins to be normal.
const NORMAL_AFTER: Duration = Duration::from_secs(600);
/// A round trip is long by at least so much, in microseconds, and by this share of the usual one.
const LONG: u32 = 10_000;
const LONG_SHARE: f64 = 0.3;
/// How long an answer is waited for, at least and at most.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(1));
/// Plain pings after which the bounds are worked out anew.
const REFRESH: u32 = 60;

/// What became of a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered in time, after so many microseconds where that is known.
    Answered(Option<u32>),
    /// Not answered within [`Detector::patience`].
    Lost,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "trouble")]
pub enum Trouble {
    /// Pings are lost.
    Loss {
        /// Of the last ones, so many,
        lost: u32,
        /// of so many.
        of: u32,
        /// The share that is lost normally, at most.
        normal: f64,
    },
    /// Answers come late.
    Latency {
        /// The median of the last round trips, microseconds.
        median: u32,
        /// What 95 of 100 are below normally, microseconds.
        usual: u32,
    },
}

/// What one outcome changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Trouble began.
    Began(Trouble),
    /// It is over.
    Ended {
        /// For how long it lasted, the thirty good seconds not counted.
        lasted: Duration,
    },
}

/// What is known of one peer.
#[derive(Debug, Clone)]
pub struct Detector {
    baseline: Baseline,
    has_answered: bool,
    /// The last pings, the newest in the lowest bit; a loss is a one.
    recent: u32,
    seen: u32,
    /// The last round trips, the newest last.
    times: [u32; MEDIAN_OF],
    timed: usize,
    burst: Option<Burst>,
    state: State,
    /// Losses that are trouble, and round trips that are long: of the baseline.
    threshold: u32,
    usual: Option<u32>,
    plain: u32,
}

#[derive(Debug, Clone, Copy)]
struct Burst {
    began: Moment,
    until: Moment,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Well,
    Troubled {
        began: Moment,
        /// Since when it has been well, and what was sent and lost since.
        well_from: Moment,
        sent: u32,
        lost: u32,
    },
}

impl Default for Detector {
    fn default() -> Self {
        let mut detector = Self {
            baseline: Baseline::default(),
            has_answered: false,
            recent: 0,
            seen: 0,
            times: [0; MEDIAN_OF],
            timed: 0,
            burst: None,
            state: State::Well,
            threshold: WINDOW,
            usual: None,
            plain: 0,
        };
        detector.refresh();
        detector
    }
}

impl Detector {
    /// How long after one ping the next is due.
    #[must_use]
    pub fn interval(&self, now: Moment) -> Duration {
        let until = match self.state {
            State::Troubled { began, .. } => began + NORMAL_AFTER,
            State::Well => Moment::default(),
        };
        match self.burst {
            Some(burst) if now < burst.began + BURST_BEGIN => QUICKEST,
            Some(burst) if now < burst.until.max(until) => QUICK,
            Some(_) | None => PLAIN,
        }
    }

    /// How long an answer is waited for. What comes later is lost for us, as it is for whoever talks
    /// to the peer.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let usual = Duration::from_micros(u64::from(self.usual.unwrap_or(u32::MAX)));
        (usual * 3).clamp(PATIENCE.0, PATIENCE.1)
    }

    /// Whether it is in trouble.
    #[must_use]
    pub fn is_troubled(&self) -> bool {
        matches!(self.state, State::Troubled { .. })
    }

    /// Since when it is in trouble.
    #[must_use]
    pub fn troubled_since(&self) -> Option<Moment> {
        match self.state {
            State::Troubled { began, .. } => Some(began),
            State::Well => None,
        }
    }

    /// For how long it has been well, if it is in trouble.
    #[must_use]
    pub fn well(&self, now: Moment) -> Option<Duration> {
        match self.state {
            State::Troubled { well_from, .. } => Some(now.since(well_from)),
            State::Well => None,
        }
    }

    /// Whether its last ping was lost, though it answers normally.
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.has_answered && self.recent & 1 == 1
    }

    /// Whether it ever answered.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// How it is when nothing is wrong.
    #[must_use]
    pub fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// Takes in what became of a ping. Outcomes come in the order of their pings.
    pub fn heard(&mut self, outcome: Outcome, now: Moment) -> Option<Change> {
        self.has_answered |= matches!(outcome, Outcome::Answered(_));
        if !self.has_answered {
            return None;
        }
        self.learn(outcome, now);
        let is_lost = outcome == Outcome::Lost;
        self.recent = self.recent << 1 | u32::from(is_lost);
        self.seen = (self.seen + 1).min(WINDOW);
        if let Outcome::Answered(Some(micros)) = outcome {
            self.times.rotate_left(1);
            self.times[MEDIAN_OF - 1] = micros;
            self.timed = (self.timed + 1).min(MEDIAN_OF);
        }
        let is_long = match outcome {
            Outcome::Answered(Some(micros)) => self.bound(1.0).is_some_and(|it| micros > it),
            Outcome::Answered(None) | Outcome::Lost => false,
        };
        if is_lost || is_long {
            self.hasten(now);
        }
        match self.state {
            State::Well => self.begin(now),
            State::Troubled { .. } => self.end(is_lost, now),
        }
    }

    fn begin(&mut self, now: Moment) -> Option<Change> {
        let trouble = self.trouble()?;
        self.state = State::Troubled {
            began: now,
            well_from: now,
            sent: 0,
            lost: 0,
        };
        Some(Change::Began(trouble))
    }

    fn end(&mut self, is_lost: bool, now: Moment) -> Option<Change> {
        let normal = self.baseline.loss();
        let is_late = self
            .median()
            .zip(self.bound(0.5))
            .is_some_and(|(it, bound)| it > bound);
        let State::Troubled {
            began,
            well_from,
            sent,
            lost,
        } = &mut self.state
        else {
            return None;
        };
        *sent += 1;
        *lost += u32::from(is_lost);
        let pings = (*sent).clamp(WELL_PINGS, WELL_COUNTED);
        let counted = u64::from(*lost) * u64::from(pings) / u64::from((*sent).max(pings));
        if is_late || counted > u64::from(bearable(pings, normal, WELL_CHANCE)) {
            (*well_from, *sent, *lost) = (now, 0, 0);
        }
        let lasted = well_from.since(*began);
        let enough = (lasted / 4).clamp(WELL.0, WELL.1);
        if *sent < WELL_PINGS || now.since(*well_from) < enough {
            return None;
        }
        self.state = State::Well;
        // What was lost in it is not the beginning of the next one.
        self.recent = 0;
        Some(Change::Ended { lasted })
    }

    /// What is wrong now, if something is.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        let lost = (self.recent & ((1 << WINDOW) - 1)).count_ones();
        if lost >= self.threshold {
            return Some(Trouble::Loss {
                lost,
                of: self.seen,
                normal: self.baseline.loss(),
            });
        }
        let (median, usual) = self.median().zip(self.usual)?;
        (median > self.bound(1.0)?).then_some(Trouble::Latency { median, usual })
    }

    /// What a round trip is long from: the usual one and this part of the slack.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast of a float is bounded"
    )]
    fn bound(&self, part: f64) -> Option<u32> {
        let usual = self.usual?;
        let slack = f64::from(LONG).max(f64::from(usual) * LONG_SHARE) * part;
        Some(usual.saturating_add(slack as u32))
    }

    fn median(&self) -> Option<u32> {
        if self.timed < MEDIAN_OF {
            return None;
        }
        let mut sorted = self.times;
        sorted.sort_unstable();
        Some(sorted[MEDIAN_OF / 2])
    }

    fn hasten(&mut self, now: Moment) {
        let began = match self.burst {
            Some(burst) if now < burst.until => burst.began,
            Some(_) | None => now,
        };
        self.burst = Some(Burst {
            began,
            until: now + BURST,
        });
    }

    /// Plain pings make the baseline; while there is trouble they do not, until it is normal.
    fn learn(&mut self, outcome: Outcome, now: Moment) {
        let is_plain = self.burst.is_none_or(|burst| now >= burst.until);
        let counts = match self.state {
            State::Well => is_plain,
            // Then all count: pings after a loss are as good a sample as any.
            State::Troubled { began, .. } => now.since(began) > NORMAL_AFTER,
        };
        if !counts {
            return;
        }
        match outcome {
            Outcome::Answered(micros) => self.baseline.answered(micros),
            Outcome::Lost => self.baseline.lost(),
        }
        self.plain += 1;
        // Round trips that nobody knows make it later than the first refresh that enough are known.
        let is_known = self.usual.is_none() && self.baseline.usual().is_some();
        if self.plain >= REFRESH || is_known {
            self.plain = 0;
            self.refresh();
        }
    }

    fn refresh(&mut self) {
        let normal = self.baseline.loss();
        // Each loss of a day can be the first of a window, those in the bursts after losses too.
        let in_burst = 1.0 - (1.0 - normal).powf(PINGS_OF_BURST);
        let chances = PLAIN_A_DAY * normal * (1.0 + QUICK_TO_PLAIN * in_burst);
        let is_rare =
            |lost: &u32| chances * more_than(*lost - 2, WINDOW - 1, normal) <= FALSE_A_DAY;
        // Where even all of them would be nothing unusual, loss shows nothing.
        self.threshold = (FEWEST..=WINDOW).find(is_rare).unwrap_or(WINDOW + 1);
        self.usual = self.baseline.usual();
    }
}

#[cfg(test)]
mod tests;
