//! What the platform is still to get, and in which order.
//!
//! Of the ten newest reports there are, those it does not have go first, newest first: they are of the
//! trouble that is now. Then the oldest. What came meanwhile is among the ten newest, so that no
//! state decides and a restart changes nothing.
//!
//! The one rule: what was acknowledged is never handed out again.

use uuid::Uuid;

use super::marks::{self, Mark};
use super::{Archive, ArchiveError};

/// So many of the newest go first.
pub(super) const FIRST: usize = 10;

/// A report on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// By which it is acknowledged, and known to the platform.
    pub id: Uuid,
    /// Its JSON.
    pub json: Vec<u8>,
}

impl Archive {
    /// At most `limit` reports that were not acknowledged, in the order in which they are to go.
    pub fn uploads(&mut self, limit: usize) -> Result<Vec<Upload>, ArchiveError> {
        let mut chosen: Vec<Uuid> = Vec::new();
        for id in self.newest.clone().into_iter().rev() {
            if chosen.len() < limit && self.is_pending(&id)? {
                chosen.push(id);
            }
        }
        let numbers: Vec<usize> = (0..self.segments.len()).collect();
        for index in numbers {
            let segment = &self.segments[index];
            if chosen.len() >= limit || segment.pending == 0 {
                continue;
            }
            let marks = segment.marks()?;
            let ids = segment.entries()?.into_iter().map(|it| it.summary.id);
            let pending = ids.filter(|id| marks.is_pending(id) && !chosen.contains(id));
            let pending: Vec<Uuid> = pending.take(limit - chosen.len()).collect();
            chosen.extend(pending);
        }
        let ids = self.tail.entries.iter().map(|it| it.summary.id);
        let pending = ids.filter(|id| self.tail.marks.is_pending(id) && !chosen.contains(id));
        let pending: Vec<Uuid> = pending.take(limit - chosen.len().min(limit)).collect();
        chosen.extend(pending);

        let mut uploads = Vec::new();
        for id in chosen {
            match self.json(&id)? {
                Some(json) => uploads.push(Upload { id, json }),
                // What the disk has lost must not stand in the way of what it has: it counts as sent.
                None => {
                    self.kept.damaged += 1;
                    self.mark(&[id], Mark::Uploaded)?;
                    self.keep()?;
                }
            }
        }
        Ok(uploads)
    }

    /// The platform has these. They are never handed out again once this returns, and may be dropped
    /// before others.
    pub fn acknowledge(&mut self, ids: &[Uuid]) -> Result<(), ArchiveError> {
        self.mark(ids, Mark::Uploaded)
    }

    /// Removes a report; whether there was one.
    pub fn remove(&mut self, id: &Uuid) -> Result<bool, ArchiveError> {
        if self.json(id)?.is_none() {
            return Ok(false);
        }
        self.mark(&[*id], Mark::Removed)?;
        self.newest.remove(id);
        Ok(true)
    }

    fn is_pending(&self, id: &Uuid) -> Result<bool, ArchiveError> {
        if self.tail.entry(id).is_some() {
            return Ok(self.tail.marks.is_pending(id));
        }
        match self.find(id)? {
            Some((index, _)) => Ok(self.segments[index].marks()?.is_pending(id)),
            None => Ok(false),
        }
    }

    fn mark(&mut self, ids: &[Uuid], mark: Mark) -> Result<(), ArchiveError> {
        let here = |id: &&Uuid| self.tail.entry(id).is_some();
        let (in_tail, elsewhere): (Vec<&Uuid>, Vec<&Uuid>) = ids.iter().partition(here);
        if !in_tail.is_empty() {
            let ids: Vec<Uuid> = in_tail.into_iter().copied().collect();
            marks::add(&self.tail.segment.marks_path(), mark, &ids)?;
            let marked = match mark {
                Mark::Uploaded => &mut self.tail.marks.uploaded,
                Mark::Removed => &mut self.tail.marks.removed,
            };
            marked.extend(ids);
            self.tail
                .segment
                .count_in(&self.tail.entries, &self.tail.marks);
        }
        for index in 0..self.segments.len() {
            let segment = &self.segments[index];
            let mut held: Vec<Uuid> = elsewhere
                .iter()
                .filter(|id| !segment.is_gone && segment.may_hold(id))
                .map(|id| **id)
                .collect();
            if held.is_empty() {
                continue;
            }
            let entries = segment.entries()?;
            held.retain(|id| entries.iter().any(|it| it.summary.id == *id));
            if held.is_empty() {
                continue;
            }
            marks::add(&segment.marks_path(), mark, &held)?;
            let marks = segment.marks()?;
            let segment = &mut self.segments[index];
            segment.count_in(&entries, &marks);
            segment.bytes = segment.measure();
        }
        Ok(())
    }
}
