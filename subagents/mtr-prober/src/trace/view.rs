//! What a trace has found, as a report has it; also while it runs.
//!
//! The one rule: no row is shown beyond the target.

use super::hop::Hop;
use super::{End, Trace};
use crate::moment::Wall;
use crate::report::{Part, PartName, Second};

impl Trace {
    /// The measurement so far; `None` before the first probe left.
    #[must_use]
    pub fn part(&self, name: PartName, wall: Wall) -> Option<Part> {
        let began = self.first_sent?;
        let shown = self.shown();
        let ttls = self.plan.first_ttl..;
        let hops = self.hops.iter().take(usize::from(shown)).zip(ttls);
        Some(Part {
            name,
            started_at: wall.instant(began),
            ended_at: wall.instant(self.last_event.max(began)),
            rounds: self.rounds,
            reached: self.target_hop.is_some_and(|hop| hop + 1 == shown),
            hops: hops.map(|(hop, ttl)| hop.view(ttl)).collect(),
        })
    }

    /// Reads what handling a probe to this hop, or to the next, reads. The number means nothing.
    #[must_use]
    pub(crate) fn touch(&self, hop: Option<u8>) -> u64 {
        let flight = self.flights.front().map_or(0, |flight| flight.sent.0);
        let hop = hop.and_then(|hop| self.hops.get(usize::from(hop)));
        flight ^ self.round_began.0 ^ hop.map_or(0, Hop::touch)
    }

    /// Probes to the target and losses, second by second.
    #[must_use]
    pub fn timeline(&self) -> Vec<Second> {
        self.timeline.iter().copied().collect()
    }

    /// From one round's begin to the next, on average, in milliseconds; `None` below two rounds.
    #[must_use]
    pub fn mean_interval_ms(&self) -> Option<u64> {
        let between = self.rounds.checked_sub(1).filter(|&rounds| rounds > 0)?;
        let whole = self.round_began.since(self.first_sent?);
        u64::try_from((whole / between).as_millis()).ok()
    }

    /// How many hops are shown: up to the end where it is known; to where the target was, or beyond it as
    /// far as routers answered since; else all that were probed.
    fn shown(&self) -> u8 {
        let probed = u8::try_from(self.hops.len()).unwrap_or(u8::MAX);
        match (self.end, self.target_hop) {
            (End::Target { hop, .. } | End::Refused { hop, .. }, _) => hop + 1,
            (End::Open, Some(target)) => {
                let mut beyond = (target + 1..probed).rev();
                let routers = beyond.find(|&hop| self.hops[usize::from(hop)].has_router());
                routers.unwrap_or(target) + 1
            }
            (End::Open, None) => probed,
        }
        .min(probed)
    }
}
