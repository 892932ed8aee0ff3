//! From which hop on round trips are longer than they were, or than they can be.

use serde::Serialize;

use super::Place;
use crate::report::{Hop, Part};
use crate::statistics::Statistics;

/// A round trip is long when it is longer than it should be by more than this many microseconds,
const SLACK: f64 = 10_000.0;
/// and by more than this share of what it should be.
const SLACK_SHARE: f64 = 0.3;
/// Fewer round trips than this say nothing.
const FEWEST: u32 = 5;
/// A hop has its part in it when it has at least this share of what the target has.
const PART: f64 = 0.5;

/// What a round trip is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// The mean of the path before the trouble.
    Baseline,
    /// The shortest of the same measurement: what varies is a queue, not a distance.
    Best,
}

/// Round trips are longer from a hop on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Latency {
    /// The last hop that is not.
    pub after: Place,
    /// The first that is.
    pub by: Place,
    /// By how much at the target, microseconds.
    pub excess: f64,
    /// The interval of that at 95 %.
    pub interval: (f64, f64),
    /// What it should be, microseconds.
    pub reference: f64,
    /// What that is.
    pub against: Against,
}

/// Own round trips of the target and, hop by hop, how far they are above the reference; none where
/// they are as they should be or nothing can be said.
pub(super) fn latency(part: &Part, baseline: Option<&Part>) -> Option<Latency> {
    let against = match baseline {
        Some(_) => Against::Baseline,
        None => Against::Best,
    };
    let target = part.hops.last().filter(|_| part.reached)?;
    let reference = reference(target, baseline)?;
    let excess = target.statistics.mean - reference;
    let error = 1.96 * target.statistics.deviation() / f64::from(target.statistics.timed).sqrt();
    let interval = (excess - error, excess + error);
    if interval.0 <= SLACK.max(reference * SLACK_SHARE) {
        return None;
    }
    let mut by = Place::of(target);
    let mut after = Place::HERE;
    for hop in part.hops.iter().rev().skip(1) {
        // A hop with nothing to compare says nothing: neither on this side nor on that.
        let Some(reference) = self::reference(hop, baseline) else {
            continue;
        };
        if hop.statistics.mean - reference < PART * excess {
            after = Place::of(hop);
            break;
        }
        by = Place::of(hop);
    }
    Some(Latency {
        after,
        by,
        excess,
        interval,
        reference,
        against,
    })
}

fn reference(hop: &Hop, baseline: Option<&Part>) -> Option<f64> {
    let known = |it: &&Statistics| it.timed >= FEWEST;
    Some(&hop.statistics).filter(known)?;
    let Some(baseline) = baseline else {
        return Some(f64::from(hop.statistics.best));
    };
    // The same hop only if the same router answered: another path has other distances.
    let before = baseline.hops.iter().find(|before| before.ttl == hop.ttl)?;
    let same = before.responders.first()?.address == hop.responders.first()?.address;
    Some(&before.statistics)
        .filter(|_| same)
        .filter(known)
        .map(|it| it.mean)
}
