//! How much a journal keeps, in memory and on disk.
//!
//! Events are dropped, the oldest first, and the gap in their numbers shows
//! it. A result never is before a server has it: no new job is taken instead.

use super::file::JournalError;
use super::{Entry, EntryState, Journal};

/// Jobs that a server may have open here, and that are kept once they are
/// done, to answer a second offer.
const JOBS_KEPT: usize = 1000;
/// Their bytes in the file.
const JOB_BYTES_KEPT: usize = 8 << 20;
/// Events kept while no server takes them.
const EVENTS_KEPT: usize = 1000;
/// Their bytes in the file. The newest one stays whatever its size.
const EVENT_BYTES_KEPT: usize = 4 << 20;

impl Entry {
    /// A server has its result, so nobody waits for it.
    fn is_done(&self) -> bool {
        matches!(
            self.state,
            EntryState::Finished {
                is_acknowledged: true,
                ..
            }
        )
    }
}

impl Journal {
    /// Whether a job of `bytes` may be taken.
    pub(super) fn check_room(&self, bytes: usize) -> Result<(), JournalError> {
        let open = self.entries.iter().filter(|entry| !entry.is_done());
        let (jobs, taken) = open.fold((0, 0), |(jobs, sum), entry| (jobs + 1, sum + entry.bytes));
        if jobs >= JOBS_KEPT || taken + bytes > JOB_BYTES_KEPT {
            return Err(JournalError::Full { jobs, bytes: taken });
        }
        Ok(())
    }

    /// Forgets the oldest jobs whose results a server has, and the oldest
    /// events.
    pub(super) fn forget_surplus(&mut self) {
        self.forget_old_events();
        let mut count = self.entries.len();
        let mut bytes: usize = self.entries.iter().map(|entry| entry.bytes).sum();
        self.entries.retain(|entry| {
            let forget = entry.is_done() && (count > JOBS_KEPT || bytes > JOB_BYTES_KEPT);
            if forget {
                count -= 1;
                bytes -= entry.bytes;
            }
            !forget
        });
    }

    pub(super) fn forget_old_events(&mut self) {
        let mut bytes: usize = self.events.iter().map(|waiting| waiting.bytes).sum();
        while self.events.len() > EVENTS_KEPT || (bytes > EVENT_BYTES_KEPT && self.events.len() > 1)
        {
            let oldest = self.events.pop_front();
            bytes -= oldest.map_or(0, |waiting| waiting.bytes);
        }
    }
}
