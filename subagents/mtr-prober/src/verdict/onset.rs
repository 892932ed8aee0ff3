//! From which hop on packets are lost.
//!
//! Loss of the path shows at every hop behind its place, loss at one hop alone is that hop's own
//! limit of answers. So first hops that lose more than those behind them are set aside; of the rest
//! each place is weighed by how well "clean before, one loss from here on" explains all counts.
//!
//! The one rule: what is said to hold the onset holds it in at least 95 of 100 cases; where that
//! takes several hops, it says several.

use super::interval::{Tally, ln_beta};

/// Chance below which a hop is believed to lose more than those behind it.
const LIMITED: f64 = 0.002;
/// How much of the weight the named place must have.
const SURE: f64 = 0.95;
/// What is expected of the hops before the onset, as a beta distribution: paths are clean, one
/// percent on average, but not always quite.
const BEFORE: (f64, f64) = (0.5, 49.5);
/// And from the onset on: anything.
const BEHIND: (f64, f64) = (1.0, 1.0);

/// Which of these hops, in their order, only limit their own answers. The last, the target, is none
/// of them.
pub(super) fn limited(hops: &[Tally]) -> Vec<bool> {
    let is_limited = |index: usize, hop: &Tally| {
        let behind = &hops[index + 1..];
        let all = behind.iter().fold(Tally::default(), |sum, it| sum.and(*it));
        let mut compared = behind.iter().chain(std::iter::once(&all));
        hop.lost > 0 && compared.any(|it| it.sent > 0 && hop.chance_of_more_than(*it) < LIMITED)
    };
    hops.iter()
        .enumerate()
        .map(|(index, hop)| is_limited(index, hop))
        .collect()
}

/// The hops, by index, of which one is the first that the loss reaches: from, up to and including.
pub(super) fn onset(hops: &[Tally]) -> (usize, usize) {
    let sum = |part: &[Tally]| part.iter().fold(Tally::default(), |sum, it| sum.and(*it));
    let weigh = |onset: usize| {
        let (before, behind) = hops.split_at(onset);
        explained(sum(before), BEFORE) + explained(sum(behind), BEHIND)
    };
    let weights: Vec<f64> = (0..hops.len()).map(weigh).collect();
    let greatest = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = weights.iter().map(|it| (it - greatest).exp()).collect();
    let needed = SURE * weights.iter().sum::<f64>();
    // The shortest run of hops that has it, of two alike the heavier.
    for length in 1..weights.len() {
        let runs = weights.windows(length).map(|run| run.iter().sum::<f64>());
        let heaviest = runs
            .enumerate()
            .max_by(|left, right| left.1.total_cmp(&right.1));
        if let Some((from, weight)) = heaviest
            && weight >= needed
        {
            return (from, from + length - 1);
        }
    }
    (0, weights.len().saturating_sub(1))
}

/// The logarithm of how probable these counts are where shares are spread like that.
fn explained(tally: Tally, (lost, kept): (f64, f64)) -> f64 {
    let received = f64::from(tally.sent - tally.lost);
    ln_beta(lost + f64::from(tally.lost), kept + received) - ln_beta(lost, kept)
}
