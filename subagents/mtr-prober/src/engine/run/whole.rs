//! Whether the kernel may send probes in pieces.
//!
//! The one rule: while a measurement has probes that some line is too narrow for, it may.

use super::{Live, Run};
use crate::packet::Family;
use crate::socket::Split;

/// Bytes of an IPv4 packet that every line carries in one piece.
const WHOLE: u16 = 576;

impl Live {
    /// Whether there are lines that its probes do not fit through in one piece.
    pub(super) fn is_large(&self) -> bool {
        Family::of(self.spec.plan.target) == Family::V4 && self.spec.size > WHOLE
    }
}

impl Run {
    /// While all probes are small none is split, which spares the kernel to number each.
    pub(super) fn split_or_not(&mut self) {
        let split = match self.large {
            0 => Split::Never,
            _ => Split::WhereNeeded,
        };
        for lane in &mut self.lanes {
            lane.split(split);
        }
    }
}
