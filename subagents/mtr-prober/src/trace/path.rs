//! Where the path ends, as far as is known, and how far a round therefore goes.
//!
//! The one rule: a path that changed is found again, and nothing beyond its end is asked meanwhile but `GAP` hops.

use super::{GAP, Heard, Trace};
use crate::packet::{Kind, MAX_HOPS};

/// Where the path ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Not known.
    Open,
    /// The target answers at this hop, in this round for the last time.
    Target { hop: u8, round: u32 },
    /// A router said at this hop that it goes no farther.
    Refused { hop: u8, round: u32 },
}

impl Trace {
    /// How far this round goes.
    pub(super) fn limit(&self) -> u8 {
        let limit = match self.end {
            End::Open => self.gap_end(),
            End::Target { hop, .. } | End::Refused { hop, .. } => hop + 1,
        };
        limit.min(self.count())
    }

    /// How many hops there may be.
    pub(super) fn count(&self) -> u8 {
        let count = self.plan.last_ttl.saturating_sub(self.plan.first_ttl) + 1;
        count.min(MAX_HOPS)
    }

    /// `GAP` hops beyond the last that answered, not counting those left out of this round.
    fn gap_end(&self) -> u8 {
        let beyond = self.known..self.next_hop;
        let left_out = beyond.filter(|hop| self.taken & (1 << hop) == 0).count();
        let left_out = u8::try_from(left_out).unwrap_or(MAX_HOPS);
        self.known.saturating_add(GAP).saturating_add(left_out)
    }

    /// What an answer tells about where the path ends:
    ///
    /// 1. The target's is the end, unless it is known to be nearer.
    /// 2. A router's "no farther" is the end of a path that is open or was thought to be longer without
    ///    a target.
    /// 3. A router at or beyond the end, in a round not before the one that showed the end, opens it.
    pub(super) fn learn(&mut self, heard: &Heard, round: u32) {
        let hop = heard.sequence.hop();
        let ends = match self.end {
            End::Open => None,
            End::Target { hop, round } | End::Refused { hop, round } => Some((hop, round)),
        };
        match heard.kind {
            _ if self.is_by_target(heard) => {
                let nearer = matches!(self.end, End::Target { hop: end, .. } if end < hop);
                if !nearer {
                    self.end = End::Target { hop, round };
                    self.target_hop = Some(hop);
                }
            }
            Kind::Unreachable(_) => match self.end {
                End::Open => self.end = End::Refused { hop, round },
                End::Refused { hop: end, .. } if hop <= end => {
                    self.end = End::Refused { hop, round };
                }
                End::Refused { .. } | End::Target { .. } => {}
            },
            Kind::TimeExceeded | Kind::Reply => {
                if ends.is_some_and(|(end, since)| hop >= end && round >= since) {
                    self.open(hop);
                }
                self.known = self.known.max(hop + 1);
            }
        }
    }

    /// Whether it was the target that answered: echo replies are its own, from whichever address it sends them.
    pub(super) fn is_by_target(&self, heard: &Heard) -> bool {
        heard.from == self.plan.target || heard.kind == Kind::Reply
    }

    pub(super) fn open(&mut self, hop: u8) {
        self.end = End::Open;
        self.known = self.known.max(hop + 1);
    }
}
