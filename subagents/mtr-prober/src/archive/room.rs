//! Letting files go when the archive is too large or too old, or the disk is full.
//!
//! The one rule: what goes is counted, and its ids stay known for a while.

use bootagent_kit::date::Date;

use super::caps::{self, Held};
use super::segment::{self, Segment};
use super::{Archive, chain};

/// Ids of reports that are gone are known this many times as long as reports are kept.
const GONE_FACTOR: i64 = 2;

impl Archive {
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|it| it.bytes).sum::<u64>() + self.tail.bytes()
    }

    fn held(&self) -> (Vec<usize>, Vec<Held>) {
        let held = self
            .segments
            .iter()
            .enumerate()
            .filter(|(_, it)| !it.is_gone);
        held.map(|(index, it)| {
            let held = Held {
                day: it.day,
                bytes: it.bytes,
                pending: it.pending,
            };
            (index, held)
        })
        .unzip()
    }

    pub(super) fn enforce_caps(&mut self, today: Date) {
        let oldest = today.plus_days(-self.options.max_days);
        let (indices, held) = self.held();
        let gone = caps::surplus(&held, self.bytes(), self.options.max_bytes, oldest);
        self.forget(gone.into_iter().map(|it| indices[it]).collect());
        self.forget_ids(today.plus_days(-self.options.max_days * GONE_FACTOR));
    }

    /// Lets the oldest file go that the platform has, for room on a full disk.
    pub(super) fn make_room(&mut self) -> bool {
        let (indices, held) = self.held();
        let uploaded = held.iter().position(|it| it.pending == 0);
        let gone = uploaded.map(|it| indices[it]);
        gone.is_some_and(|it| self.forget(vec![it]) > 0)
    }

    /// Lets files go, counted; how many did.
    fn forget(&mut self, indices: Vec<usize>) -> usize {
        let mut forgotten = 0;
        for index in indices {
            let segment = &mut self.segments[index];
            let (count, pending) = (segment.count, segment.pending);
            match segment.forget() {
                Ok(()) => {
                    forgotten += 1;
                    self.kept.dropped += pending;
                    self.kept.dropped_uploaded += count - pending;
                    let (day, number) = (segment.day, segment.number);
                    log::info!(
                        "{count} reports of {day} are dropped (file {number}), {pending} not uploaded"
                    );
                }
                Err(error) => log::warn!("reports stay: {:#}", chain(&error.into())),
            }
        }
        if forgotten > 0
            && let Err(error) = self.keep()
        {
            log::warn!(
                "what was dropped is not counted for ever: {:#}",
                chain(&error)
            );
        }
        forgotten
    }

    /// Forgets even the ids of days before `oldest`.
    fn forget_ids(&mut self, oldest: Date) {
        let is_over = |it: &Segment| it.is_gone && it.day < oldest;
        if !self.segments.iter().any(is_over) {
            return;
        }
        self.kept.horizon = self.kept.horizon.max(oldest.unix());
        let (over, left) = std::mem::take(&mut self.segments)
            .into_iter()
            .partition(is_over);
        self.segments = left;
        let over: Vec<Segment> = over;
        for segment in over {
            let _ = segment::remove(&segment.path(segment::GONE));
            let _ = std::fs::remove_dir(&segment.folder);
        }
        if let Err(error) = self.keep() {
            log::warn!("old ids are unknown from now on: {:#}", chain(&error));
        }
    }
}
