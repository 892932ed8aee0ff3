//! What a trace shares with others: rows that one router answers.
//!
//! The one rule: a row of several responders, or behind several, is shared with nobody.

use std::net::IpAddr;

use super::Trace;

impl Trace {
    /// The one router that answered at this hop.
    #[must_use]
    pub fn responder(&self, hop: u8) -> Option<IpAddr> {
        let only = self.hops.get(usize::from(hop))?.only()?;
        let of_target = only == self.plan.target || self.target_hop == Some(hop);
        (!of_target).then_some(only)
    }

    /// The same with the one that answered before it, which is `None` at the first TTL; nothing where either is
    /// not known.
    #[must_use]
    pub fn place(&self, hop: u8) -> Option<(IpAddr, Option<IpAddr>)> {
        let responder = self.responder(hop)?;
        match hop.checked_sub(1) {
            None => (self.plan.first_ttl == 1).then_some((responder, None)),
            Some(before) => Some((responder, Some(self.responder(before)?))),
        }
    }

    /// Whether a probe to where the target answers was lost.
    #[must_use]
    pub fn has_lost_target(&self) -> bool {
        self.target_lost > 0
    }

    /// The row is shared from now on.
    pub fn begin_joint(&mut self, hop: u8) {
        if let Some(hop) = self.hops.get_mut(usize::from(hop)) {
            hop.begin_joint();
        }
    }

    /// It is not any more.
    pub fn end_joint(&mut self, hop: u8) {
        if let Some(hop) = self.hops.get_mut(usize::from(hop)) {
            hop.end_joint();
        }
    }

    /// What came of a probe of the group's: a round trip if it is known, or nothing.
    pub fn count_joint(&mut self, hop: u8, outcome: Option<Option<u32>>) {
        if let Some(hop) = self.hops.get_mut(usize::from(hop)) {
            hop.count_joint(outcome);
        }
    }
}
