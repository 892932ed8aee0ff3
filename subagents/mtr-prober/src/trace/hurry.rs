//! The first round, where the budget is too small for all that begin.
//!
//! The one rule: each has its first round in time, however few probes of it there can be.

use std::time::Duration;

use super::hop::Hop;
use super::{End, Trace};
use crate::moment::Moment;

/// What a first round may take where the budget holds it up; hops are left out of it for that.
const FIRST_ROUND: Duration = Duration::from_millis(1_200);

/// Below this, it is not the budget that holds a first round up.
const FEW_MILLIS: Duration = Duration::from_millis(20);

impl Trace {
    /// Whether its next probe is one of its first round.
    #[must_use]
    pub fn is_in_first_round(&self) -> bool {
        self.rounds == 0 || (self.rounds == 1 && self.next_hop < self.limit())
    }

    /// Leaves hops out of the first round, so that it is over soon where each further probe of it waits so long for
    /// the budget:
    ///
    /// 1. Where no second one would have its turn in time, this one goes as far as there are hops: to the target.
    /// 2. Else it goes on by so many hops that those in time reach the last.
    /// 3. Where the budget is not what holds it up, nothing is left out, however late it is.
    pub fn hurry(&mut self, now: Moment, wait: Duration) {
        if wait < FEW_MILLIS || !self.is_in_first_round() || self.end != End::Open {
            return;
        }
        let last = self.count().saturating_sub(1);
        let left = FIRST_ROUND.saturating_sub(now.since(self.begin));
        let turns = u8::try_from(left.as_nanos() / wait.as_nanos()).unwrap_or(u8::MAX);
        let ahead = last.saturating_sub(self.next_hop);
        match turns {
            0 | 1 => self.skip_to(last),
            // The nearest hop is there for all that begin while there is some time.
            _ if self.rounds == 0 => {}
            _ => self.skip_to(self.next_hop + ahead / turns),
        }
    }

    fn skip_to(&mut self, hop: u8) {
        self.next_hop = self.next_hop.max(hop);
        if self.hops.len() < usize::from(hop) {
            self.hops.resize_with(usize::from(hop), Hop::default);
        }
    }
}
