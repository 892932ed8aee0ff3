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
    /// Of the first round of a trace that was triggered by a loss or that a ticket waits for.
    Snapshot,
    /// Of the first round of another.
    First,
    /// Of a later round of a trace that was triggered or that a ticket waits for.
    Urgent,
    /// To where the target answers.
    Target,
    /// To the hops before it.
    Hop,
}

/// How many of them there are.
const CLASSES: usize = 6;

/// Which class is looked at first, one send after the other. What is last in one row is first in another:
/// nobody waits for ever.
const TURNS: [[Class; CLASSES]; 8] = {
    use Class::{First, Hop, Ping, Snapshot, Target, Urgent};
    const BEGINS: [Class; CLASSES] = [Snapshot, First, Ping, Urgent, Target, Hop];
    const GOES_ON: [Class; CLASSES] = [Ping, Urgent, Snapshot, Target, First, Hop];
    const HOPS: [Class; CLASSES] = [Hop, Target, Urgent, First, Snapshot, Ping];
    [
        BEGINS, GOES_ON, BEGINS, BEGINS, GOES_ON, BEGINS, BEGINS, HOPS,
    ]
};

/// In so many of them first rounds come before all that runs already, in the others what notices trouble is first.
const TURNS_OF_BEGINS: u64 = 5;

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
    waiting: [VecDeque<Key>; CLASSES],
    turn: usize,
    begins: Vec<Moment>,
    /// How many are in their first round, for each class.
    first_rounds: [u64; CLASSES],
}

impl Pace {
    /// A budget in probes per second, at least one.
    #[must_use]
    pub fn new(budget: u32, now: Moment) -> Self {
        Self {
            gap: gap(budget),
            credit: 0,
            credited: now,
            alarms: BinaryHeap::new(),
            waiting: Default::default(),
            turn: 0,
            begins: Vec::new(),
            first_rounds: [0; CLASSES],
        }
    }

    /// Changes the budget; who waits keeps his place.
    pub fn allow(&mut self, budget: u32) {
        self.gap = gap(budget);
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

    /// One begins whose first round is of this class; `began` says when that is over.
    pub fn begins(&mut self, class: Class) {
        self.first_rounds[class as usize] += 1;
    }

    /// A first round of this class is over, or whoever was in it.
    pub fn began(&mut self, class: Class) {
        let count = &mut self.first_rounds[class as usize];
        *count = count.saturating_sub(1);
    }

    /// How long each further probe of a first round takes, since all that are in theirs are to have one meanwhile.
    #[must_use]
    pub fn wait_to_begin(&self, class: Class) -> Duration {
        let snapshots = self.first_rounds[Class::Snapshot as usize];
        let all = match class {
            Class::Snapshot => snapshots,
            Class::First => snapshots + self.first_rounds[Class::First as usize],
            Class::Ping | Class::Urgent | Class::Target | Class::Hop => return Duration::ZERO,
        };
        let goes_on = [Class::Ping, Class::Urgent, Class::Target, Class::Hop];
        let is_alone = |it: Class| self.waiting[it as usize].is_empty();
        let turns = match goes_on.into_iter().all(is_alone) {
            true => TURNS.len() as u64,
            false => TURNS_OF_BEGINS,
        };
        Duration::from_nanos(all.saturating_mul(self.gap) * TURNS.len() as u64 / turns)
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

fn gap(budget: u32) -> u64 {
    1_000_000_000 / u64::from(budget.max(1))
}

#[cfg(test)]
mod tests;
