//! How many may begin: as many as the budget has first rounds for.
//!
//! The one rule: what is accepted has its first round within [`FIRST_ROUND`]; what could not is told to come later.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use crate::moment::Moment;
use crate::order::Order;

/// By then whoever was accepted has had his first round.
const FIRST_ROUND: Duration = Duration::from_secs(2);

/// Orders of the last [`FIRST_ROUND`], each target once: the others of a target share its run.
#[derive(Debug, Default)]
pub(super) struct Admission {
    recent: VecDeque<(Moment, u64)>,
    targets: HashSet<u64>,
}

impl Admission {
    /// Whether one more may begin under this budget of probes per second. Of those in two seconds first rounds are sure of
    /// five in eight (`pace`), and each needs one and a little more.
    pub(super) fn admits(&mut self, order: &Order, budget: u32, now: Moment) -> bool {
        while let Some((at, target)) = self.recent.front()
            && now.since(*at) >= FIRST_ROUND
        {
            self.targets.remove(target);
            self.recent.pop_front();
        }
        let mut hasher = DefaultHasher::new();
        (&order.asked, &order.source, order.size, order.interval).hash(&mut hasher);
        let target = hasher.finish();
        if self.targets.contains(&target) {
            return true;
        }
        let most = usize::try_from(budget / 4 * 3 + budget % 4 * 3 / 4).unwrap_or(usize::MAX);
        if self.recent.len() >= most {
            return false;
        }
        self.targets.insert(target);
        self.recent.push_back((now, target));
        true
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn order(target: &str) -> Order {
        Order::parse(&[("ip".into(), target.into())]).unwrap()
    }

    #[test]
    fn as_many_begin_as_have_their_first_round_in_time_and_each_target_counts_once() {
        let mut admission = Admission::default();
        let start = Moment(0);
        let mut ask =
            |last: u32, now| admission.admits(&order(&format!("192.0.2.{last}")), 10, now);
        assert_eq!((0..20).filter(|&last| ask(last, start)).count(), 7);
        assert!(ask(0, start), "it shares a run");
        let later = start + Duration::from_millis(1_999);
        assert!(!ask(30, later));
        assert!(ask(30, start + FIRST_ROUND));
    }
}
