//! How long things took: a histogram whose buckets grow with the value.
//!
//! 64 buckets per power of two, so a quantile is at most 1.6 % too high,
//! whatever its size. HdrHistogram's idea without its crate, of which we would
//! use a twentieth.

use std::time::Duration;

use serde::Serialize;

/// Buckets per power of two.
const FINE: u64 = 64;
/// Enough for any count of microseconds.
const BUCKETS: usize = (FINE as usize) * (64 - FINE.ilog2() as usize + 1);

/// Counts of durations, in microseconds.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

/// What a histogram says, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            largest: 0,
        }
    }

    pub(crate) fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
        self.largest = self.largest.max(micros);
    }

    pub(crate) fn quantiles(&self) -> Quantiles {
        let at = |share: f64| self.quantile(share).as_secs_f64() * 1000.0;
        Quantiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
        }
    }

    /// The least value that this share of all values does not exceed.
    fn quantile(&self, share: f64) -> Duration {
        let wanted = (share * self.total as f64).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_micros(last_of(index).min(self.largest));
            }
        }
        Duration::ZERO
    }
}

/// Below `FINE` a bucket per value, above it `FINE` per power of two.
fn bucket(value: u64) -> usize {
    let power = value.max(1).ilog2();
    let shift = power.saturating_sub(FINE.ilog2());
    let index = u64::from(shift) * FINE + (value >> shift);
    usize::try_from(index).expect("there are few buckets")
}

/// The largest value of a bucket.
fn last_of(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * FINE {
        return index;
    }
    let shift = index / FINE - 1;
    let first = index - shift * FINE;
    ((u128::from(first + 1) << shift) - 1)
        .try_into()
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn every_value_is_in_a_bucket_that_ends_at_most_a_64th_above_it() {
        let mut random = Random::new(1);
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let any = (0..10_000).map(|_| random.next() >> random.below(64));
        for value in edges.chain(any).chain([u64::MAX]) {
            let index = bucket(value);
            assert!(index < BUCKETS, "{value}");
            let last = last_of(index);
            assert!(last >= value, "{value}: {last}");
            assert!(last - value <= value / FINE, "{value}: {last}");
            assert_eq!(bucket(last), index, "{value}");
        }
    }

    #[test]
    fn quantiles_of_a_thousand_even_values_are_where_they_belong() {
        let mut histogram = Histogram::new();
        for millis in 1..=1000 {
            histogram.add(Duration::from_millis(millis));
        }
        let found = histogram.quantiles();
        for (found, exact) in [
            (found.p50, 500.0),
            (found.p90, 900.0),
            (found.p99, 990.0),
            (found.p999, 999.0),
        ] {
            assert!(found >= exact && found <= exact * 1.02, "{found} {exact}");
        }
        assert!((found.max - 1000.0).abs() < f64::EPSILON);
        assert_eq!(Histogram::new().quantiles(), Quantiles::default());
    }
}
