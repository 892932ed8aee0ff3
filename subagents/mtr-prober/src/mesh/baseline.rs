//! How a peer is when nothing is wrong: how much it loses and how long it takes.
//!
//! Both are forgotten over about two hours, so that a new normal becomes normal. Only pings of the
//! plain rate count: those of a burst were sent because something was lost.
//!
//! The one rule: what is not known well is taken to be worse than it looks.

/// Pings after which a baseline has forgotten half of what was.
const MEMORY: f32 = 7200.0;
/// Pings of which nothing is known, all taken to be no better than the estimate.
const UNKNOWN: f32 = 50.0;
/// Round trips without which latency cannot be told from what is normal.
const FEWEST: u32 = 60;
/// Classes of round trips for each doubling, and how many classes there are: 64 µs to 8 s.
const PER_OCTAVE: usize = 8;
const CLASSES: usize = 17 * PER_OCTAVE;
const LEAST_MICROS: f32 = 64.0;

/// What is remembered of a peer's pings.
#[derive(Debug, Clone)]
pub struct Baseline {
    sent: f32,
    lost: f32,
    classes: [u16; CLASSES],
    timed: u32,
}

impl Default for Baseline {
    fn default() -> Self {
        Self {
            sent: 0.0,
            lost: 0.0,
            classes: [0; CLASSES],
            timed: 0,
        }
    }
}

impl Baseline {
    /// One more answer, with its round trip in microseconds where that is known.
    pub fn answered(&mut self, micros: Option<u32>) {
        self.forget();
        self.sent += 1.0;
        let Some(micros) = micros else {
            return;
        };
        self.classes[class(micros)] += 1;
        self.timed += 1;
        if self.timed as f32 >= 2.0 * MEMORY {
            self.classes.iter_mut().for_each(|it| *it /= 2);
            self.timed = self.classes.iter().map(|it| u32::from(*it)).sum();
        }
    }

    /// One more loss.
    pub fn lost(&mut self) {
        self.forget();
        self.sent += 1.0;
        self.lost += 1.0;
    }

    /// The share that is lost normally, at most.
    #[must_use]
    pub fn loss(&self) -> f64 {
        let lost = self.lost + 0.5;
        f64::from((lost + lost.sqrt()) / (self.sent + UNKNOWN)).min(1.0)
    }

    /// What 95 of 100 round trips are below, in microseconds; none before there are enough of them.
    #[must_use]
    pub fn usual(&self) -> Option<u32> {
        if self.timed < FEWEST {
            return None;
        }
        let mut above = self.timed / 20;
        let index = self.classes.iter().rposition(|it| {
            let count = u32::from(*it);
            let found = count > above;
            above = above.saturating_sub(count);
            found
        });
        index.map(upper_end)
    }

    fn forget(&mut self) {
        let kept = 1.0 - std::f32::consts::LN_2 / MEMORY;
        self.sent *= kept;
        self.lost *= kept;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "cut to what there is before"
)]
fn class(micros: u32) -> usize {
    let octaves = (micros as f32 / LEAST_MICROS).max(1.0).log2();
    ((octaves * PER_OCTAVE as f32) as usize).min(CLASSES - 1)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "below nine seconds"
)]
fn upper_end(class: usize) -> u32 {
    (LEAST_MICROS * ((class + 1) as f32 / PER_OCTAVE as f32).exp2()) as u32
}

/// How many of so many pings may be lost before that is more than normal: it happens by chance with
/// at most this probability.
#[must_use]
pub fn bearable(pings: u32, loss: f64, chance: f64) -> u32 {
    (0..pings)
        .find(|&lost| more_than(lost, pings, loss) <= chance)
        .unwrap_or(pings)
}

/// The probability that more than `lost` of so many are lost.
#[must_use]
pub fn more_than(lost: u32, pings: u32, loss: f64) -> f64 {
    if loss >= 1.0 {
        return f64::from(u8::from(lost < pings));
    }
    let mut term = (1.0 - loss).powi(pings.cast_signed());
    let mut at_most = term;
    for number in 1..=lost.min(pings) {
        term *= f64::from(pings - number + 1) / f64::from(number) * loss / (1.0 - loss);
        at_most += term;
    }
    (1.0 - at_most).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_round_trip_is_that_of_ninety_five_in_a_hundred() {
        let mut baseline = Baseline::default();
        for number in 0..1000 {
            assert_eq!(baseline.usual().is_some(), number >= FEWEST);
            baseline.answered(Some(if number % 25 == 0 { 90_000 } else { 20_000 }));
        }
        let usual = baseline.usual().expect("known");
        assert!((20_000..22_500).contains(&usual), "{usual}");
    }

    #[test]
    fn a_new_normal_becomes_normal() {
        let mut baseline = Baseline::default();
        for number in 0..60_000 {
            match number {
                0..20_000 => baseline.answered(Some(20_000)),
                number if number % 50 == 0 => baseline.lost(),
                _ => baseline.answered(Some(80_000)),
            }
        }
        assert!(
            (0.018..0.026).contains(&baseline.loss()),
            "{}",
            baseline.loss()
        );
        let usual = baseline.usual().expect("known");
        assert!((80_000..90_000).contains(&usual), "{usual}");
    }

    #[test]
    fn what_is_not_known_is_not_taken_to_be_good() {
        let mut baseline = Baseline::default();
        assert!(baseline.loss() > 0.02);
        (0..7200).for_each(|_| baseline.answered(None));
        assert!(baseline.loss() < 0.0003);
    }

    #[test]
    fn chances_are_those_of_the_textbook() {
        assert!((more_than(2, 20, 0.2) - 0.793_9).abs() < 1e-4);
        assert!((more_than(0, 10, 0.1) - 0.651_3).abs() < 1e-4);
        assert_eq!(more_than(20, 20, 0.5), 0.0);
        assert_eq!(more_than(19, 20, 1.0), 1.0);
        assert_eq!(bearable(30, 0.000_2, 0.1), 0);
        assert_eq!(bearable(30, 0.1, 0.1), 5);
    }
}
