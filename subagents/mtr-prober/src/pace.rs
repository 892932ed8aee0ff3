//! When which trace may send: one budget for everything that leaves.
//!
//! A trace that is due waits here for its turn. Whoever has waited longest in its class is next, and within
//! the budget nobody waits at all. Above it, intervals stretch, those of hops before those of targets.
//!
//! The one rule: in no millisecond more leaves than the budget allows, however much is due.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::moment::Moment;

/// What may be saved up of the budget while nothing is sent.
const SAVED: Duration = Duration::from_millis(5);

/// Begins within this long are spread out.
const SPREAD: Duration = Duration::from_secs(1);

/// So much of an interval begins are spread over.
const MOST: f64 = 0.6;

/// The golden section: multiples of it are spread evenly over the unit, however many they are.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// How urgent a probe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Of the mesh: what notices trouble comes before what looks into it.
    Ping,
    /// Of a trace that was triggered by a loss or that a ticket waits for.
    Urgent,
    /// Of a trace's first round.
    First,
    /// To where the target answers.
    Target,
    /// To the hops before it.
    Hop,
}

/// Which class is looked at first, one send after the other. What is last in one row is first in another:
/// nobody waits for ever.
const TURNS: [[Class; 5]; 8] = {
    use Class::{First, Hop, Ping, Target, Urgent};
    const USUAL: [Class; 5] = [Ping, Urgent, First, Target, Hop];
    const TARGETS: [Class; 5] = [Ping, Urgent, Target, First, Hop];
    const HOPS: [Class; 5] = [Hop, Target, First, Urgent, Ping];
    [USUAL, USUAL, TARGETS, USUAL, TARGETS, USUAL, USUAL, HOPS]
};

/// Who waits: an identifier and which of its users.
pub type Key = (u16, u64);

/// Budget, alarms and queues.
#[derive(Debug)]
pub struct Pace {
    /// Nanoseconds from one probe to the next.
    gap: u64,
    /// Nanoseconds of budget there are.
    credit: u64,
    credited: Moment,
    alarms: BinaryHeap<Reverse<(Moment, Key)>>,
    waiting: [VecDeque<Key>; 5],
    turn: usize,
    begins: Vec<Moment>,
}

impl Pace {
    /// A budget in probes per second, at least one.
    #[must_use]
    pub fn new(budget: u32, now: Moment) -> Self {
        Self {
            gap: 1_000_000_000 / u64::from(budget.max(1)),
            credit: 0,
            credited: now,
            alarms: BinaryHeap::new(),
            waiting: Default::default(),
            turn: 0,
            begins: Vec::new(),
        }
    }

    /// How long after now a new trace begins: not at all while few begin, else spread over most of its interval, so
    /// that the first router sees no burst and all are soon over.
    pub fn phase(&mut self, now: Moment, interval: Duration) -> Duration {
        self.begins.retain(|begin| now.since(*begin) < SPREAD);
        let earlier = u32::try_from(self.begins.len()).unwrap_or(u32::MAX);
        if earlier < 4096 {
            self.begins.push(now);
        }
        if earlier < 4 {
            return Duration::ZERO;
        }
        let share = (f64::from(earlier) * GOLDEN).fract();
        let reach = f64::from(earlier.min(64)) / 64.0;
        interval.min(SPREAD).mul_f64(share * reach * MOST)
    }

    /// Wants `key` looked at then.
    pub fn alarm(&mut self, key: Key, at: Moment) {
        self.alarms.push(Reverse((at, key)));
    }

    /// Who wanted to be looked at by now.
    pub fn ring(&mut self, now: Moment) -> Option<(Key, Moment)> {
        let Reverse((at, _)) = self.alarms.peek()?;
        if *at > now {
            return None;
        }
        self.alarms.pop().map(|Reverse((at, key))| (key, at))
    }

    /// Puts `key` in line.
    pub fn wait(&mut self, key: Key, class: Class) {
        self.waiting[class as usize].push_back(key);
    }

    /// Who may send a probe now. Say `spent` if it does.
    pub fn next(&mut self, now: Moment) -> Option<Key> {
        self.earn(now);
        if self.credit < self.gap {
            return None;
        }
        let turn = TURNS[self.turn % TURNS.len()];
        let class = turn
            .into_iter()
            .find(|class| !self.waiting[*class as usize].is_empty())?;
        self.waiting[class as usize].pop_front()
    }

    /// A probe was sent.
    pub fn spent(&mut self) {
        self.credit = self.credit.saturating_sub(self.gap);
        self.turn = self.turn.wrapping_add(1);
    }

    /// When there will be something to do; `None` while nothing is due.
    #[must_use]
    pub fn deadline(&self, now: Moment) -> Option<Moment> {
        let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
        if self.waiting.iter().all(VecDeque::is_empty) {
            return alarm;
        }
        let missing = Duration::from_nanos(self.gap.saturating_sub(self.credit));
        let earned = (self.credited + missing).max(now);
        Some(alarm.map_or(earned, |alarm| alarm.min(earned)))
    }

    fn earn(&mut self, now: Moment) {
        let passed = u64::try_from(now.since(self.credited).as_nanos()).unwrap_or(u64::MAX);
        // One probe at least can always be saved for, be the budget ever so small.
        let most = u64::try_from(SAVED.as_nanos())
            .unwrap_or(u64::MAX)
            .max(self.gap);
        self.credit = self.credit.saturating_add(passed).min(most);
        self.credited = self.credited.max(now);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn at(micros: u64) -> Moment {
        Moment(micros * 1_000)
    }

    #[test]
    fn no_more_leaves_than_the_budget_allows() {
        let mut pace = Pace::new(2_000, at(0));
        (0..10_000).for_each(|id| pace.wait((id, 0), Class::Hop));
        let mut sent = Vec::new();
        for micros in (0..1_000_000).step_by(500) {
            while pace.next(at(micros)).is_some() {
                pace.spent();
                sent.push(micros);
            }
        }
        assert!((1_990..=2_010).contains(&sent.len()), "{}", sent.len());
        let burst = sent.windows(12).find(|window| window[11] - window[0] < 500);
        assert_eq!(burst, None);
    }

    #[test]
    fn above_the_budget_targets_come_before_hops_and_hops_still_come() {
        let mut pace = Pace::new(1_000, at(0));
        let mut sent = BTreeMap::new();
        for micros in (0..1_000_000).step_by(1_000) {
            for (id, class) in [(0, Class::Hop), (1, Class::Target), (2, Class::Urgent)] {
                pace.wait((id, 0), class);
            }
            while let Some((id, _)) = pace.next(at(micros)) {
                pace.spent();
                *sent.entry(id).or_insert(0) += 1;
            }
        }
        let [hops, targets, urgent] = [0, 1, 2].map(|id| sent.get(&id).copied().unwrap_or(0));
        assert!(urgent > 800 && hops > 80, "{sent:?}");
        assert_eq!(
            targets, 0,
            "as many urgent ones as the budget allows came first"
        );
    }

    #[test]
    fn alarms_ring_in_order_and_the_deadline_is_the_next() {
        let mut pace = Pace::new(1_000, at(0));
        for (id, micros) in [(1, 50), (2, 20), (3, 90)] {
            pace.alarm((id, 7), at(micros));
        }
        assert_eq!(pace.deadline(at(0)), Some(at(20)));
        assert_eq!(pace.ring(at(10)), None);
        assert_eq!(pace.ring(at(60)).unwrap().0, (2, 7));
        assert_eq!(pace.ring(at(60)).unwrap().0, (1, 7));
        assert_eq!(pace.deadline(at(60)), Some(at(90)));
    }

    #[test]
    fn one_begins_at_once_and_many_are_spread() {
        let mut pace = Pace::new(1_000, at(0));
        let second = Duration::from_secs(1);
        let phases: Vec<_> = (0..500).map(|_| pace.phase(at(0), second)).collect();
        assert_eq!(phases[..4], [Duration::ZERO; 4]);
        let mut tenths = [0; 6];
        for phase in &phases {
            tenths[usize::try_from(phase.as_millis() / 100).unwrap()] += 1;
        }
        assert!(
            tenths.iter().all(|&count| (65..=125).contains(&count)),
            "{tenths:?}"
        );
    }
}
