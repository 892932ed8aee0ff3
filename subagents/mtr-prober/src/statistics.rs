//! What is kept of the answers of one responder: a few sums, not the answers.
//!
//! The names and the arithmetic are those of `mtr`, so that the tables agree.

use serde::{Deserialize, Serialize};

/// Round-trip times of the answers that had one. All times are microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// How many round trips are in here. An answer that came but whose time is not to be believed is not.
    pub timed: u32,
    /// The newest.
    pub last: u32,
    /// The shortest.
    pub best: u32,
    /// The longest.
    pub worst: u32,
    /// The arithmetic mean.
    pub mean: f64,
    /// The sum of squared distances from the mean.
    pub squares: f64,
    /// The mean distance of an answer from the one before it.
    pub jitter: f64,
    /// The greatest distance of an answer from the one before it.
    pub jitter_worst: u32,
}

impl Statistics {
    /// Takes one more round trip in.
    pub fn add(&mut self, micros: u32) {
        let value = f64::from(micros);
        if self.timed > 0 {
            let distance = self.last.abs_diff(micros);
            self.jitter += (f64::from(distance) - self.jitter) / f64::from(self.timed);
            self.jitter_worst = self.jitter_worst.max(distance);
        }
        self.best = if self.timed == 0 {
            micros
        } else {
            self.best.min(micros)
        };
        self.worst = self.worst.max(micros);
        self.last = micros;
        self.timed += 1;
        let before = value - self.mean;
        self.mean += before / f64::from(self.timed);
        self.squares += before * (value - self.mean);
    }

    /// The standard deviation of a sample (n - 1), as `mtr` has it; 0 below two.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        match self.timed {
            0 | 1 => 0.0,
            timed => (self.squares / f64::from(timed - 1)).max(0.0).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u32]) -> Statistics {
        let mut statistics = Statistics::default();
        values.iter().for_each(|&value| statistics.add(value));
        statistics
    }

    #[test]
    fn the_sums_are_those_of_the_textbook() {
        let statistics = of(&[100, 300, 200, 600]);
        assert_eq!(
            (statistics.last, statistics.best, statistics.worst),
            (600, 100, 600)
        );
        assert!((statistics.mean - 300.0).abs() < 1e-9);
        assert!((statistics.deviation() - 216.024_689_946_929).abs() < 1e-6);
        assert!((statistics.jitter - 700.0 / 3.0).abs() < 1e-9);
        assert_eq!(statistics.jitter_worst, 400);
    }

    #[test]
    fn one_answer_has_no_deviation() {
        assert_eq!(of(&[70]).deviation(), 0.0);
        assert_eq!(of(&[]).deviation(), 0.0);
    }
}
