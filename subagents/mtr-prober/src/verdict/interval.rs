//! How sure a share is, and whether two shares differ: small numbers taken seriously.

use serde::{Deserialize, Serialize};

/// The quantile of the normal distribution for 95 %.
const Z: f64 = 1.959_964;

/// Probes and how many of them were lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Lost.
    pub lost: u32,
    /// Of so many.
    pub sent: u32,
}

impl Tally {
    /// The share that was lost, 0 to 1.
    #[must_use]
    pub fn share(self) -> f64 {
        f64::from(self.lost) / f64::from(self.sent.max(1))
    }

    /// Wilson's interval of the share at 95 %.
    #[must_use]
    pub fn interval(self) -> (f64, f64) {
        if self.sent == 0 {
            return (0.0, 1.0);
        }
        let (share, count) = (self.share(), f64::from(self.sent));
        let scale = 1.0 + Z * Z / count;
        let middle = (share + Z * Z / (2.0 * count)) / scale;
        let spread = share * (1.0 - share) / count + Z * Z / (4.0 * count * count);
        let half = Z / scale * spread.sqrt();
        // What is rounded off must not exclude the ends.
        let low = if self.lost == 0 { 0.0 } else { middle - half };
        let high = if self.lost == self.sent {
            1.0
        } else {
            middle + half
        };
        (low.max(0.0), high.min(1.0))
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            sent: self.sent + other.sent,
        }
    }

    /// Fisher's exact test: how probable it is that this lost at least so much more than `other`, were
    /// both alike. Exact also for ten packets, and of two differences it doubts rather the true one.
    #[must_use]
    pub fn chance_of_more_than(self, other: Self) -> f64 {
        let all = self.and(other);
        let total = ln_choose(all.sent, all.lost);
        let at_most = all.lost.min(self.sent);
        let at = |lost: u32| {
            let elsewhere = all.lost - lost;
            if elsewhere > other.sent {
                return 0.0;
            }
            (ln_choose(self.sent, lost) + ln_choose(other.sent, elsewhere) - total).exp()
        };
        (self.lost..=at_most).map(at).sum::<f64>().min(1.0)
    }
}

fn ln_choose(of: u32, some: u32) -> f64 {
    let factorial = |number: u32| ln_gamma(f64::from(number) + 1.0);
    factorial(of) - factorial(some) - factorial(of - some)
}

/// The logarithm of the beta function.
pub(super) fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// The logarithm of the gamma function above zero, by Stirling's series, which is good to ten
/// digits from eight on; below, by the recurrence.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 8.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse / 1260.0)) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lost: u32, sent: u32) -> Tally {
        Tally { lost, sent }
    }

    #[test]
    fn intervals_are_those_of_the_tables() {
        for (lost, sent, low, high) in [
            (1, 10, 0.018, 0.404),
            (0, 10, 0.0, 0.278),
            (10, 10, 0.722, 1.0),
            (5, 100, 0.022, 0.112),
            (0, 100, 0.0, 0.037),
            (0, 300, 0.0, 0.0126),
            (0, 0, 0.0, 1.0),
        ] {
            let (below, above) = tally(lost, sent).interval();
            assert!((below - low).abs() < 6e-4, "{lost} of {sent}: {below}");
            assert!((above - high).abs() < 6e-4, "{lost} of {sent}: {above}");
        }
    }

    #[test]
    fn two_shares_are_compared_exactly() {
        for (left, right, chance) in [
            (tally(1, 10), tally(0, 10), 0.5),
            (tally(5, 10), tally(0, 10), 0.016_254),
            (tally(10, 10), tally(0, 10), 5.4125e-6),
            (tally(3, 30), tally(3, 30), 0.664_626),
            (tally(0, 10), tally(5, 10), 1.0),
        ] {
            let found = left.chance_of_more_than(right);
            assert!(
                (found - chance).abs() < chance * 1e-3,
                "{left:?} {right:?}: {found}"
            );
        }
        // Large counts neither overflow nor take long.
        assert!(tally(60_000, 1_000_000).chance_of_more_than(tally(50_000, 1_000_000)) < 1e-9);
    }
}
