//! What of the journal goes with a status, and what its acknowledgement does.
//!
//! A status has a bound in bytes that a server insists on. What does not fit
//! goes with a later one, so all sizes are those of the text on the wire.

use bootagent_protocol::{Event, JobResult};

use super::file::{JournalError, Record};
use super::{EntryState, Journal};

/// Events sent with one status.
const EVENTS_PER_STATUS: usize = 100;
/// Results sent with one status.
pub(super) const RESULTS_PER_STATUS: usize = 50;
/// Bytes of results, and of events, sent with one status: a quarter of what a
/// server takes for each. The first goes whatever its size.
const BYTES_PER_STATUS: usize = 256 * 1024;

/// What one status carries, and what its acknowledgement names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unsent {
    /// Results nobody acknowledged.
    pub results: Vec<JobResult>,
    /// Events nobody acknowledged, oldest first.
    pub events: Vec<Event>,
    /// Ids of jobs taken and not finished.
    pub accepted: Vec<String>,
}

impl Journal {
    /// What the next status carries.
    pub fn unsent(&self) -> Unsent {
        let finished = self.entries.iter().filter_map(|entry| match &entry.state {
            EntryState::Finished {
                result,
                is_acknowledged: false,
            } => Some((result, entry.bytes)),
            _ => None,
        });
        let refused = self.refusals.iter().map(|refusal| (refusal, 512));
        let results = fitting(finished.chain(refused).take(RESULTS_PER_STATUS));
        let waiting = self.events.iter().take(EVENTS_PER_STATUS);
        let mut events: Vec<Event> = fitting(waiting.map(|it| (&it.event, it.bytes)));
        for event in &mut events {
            // The status names its own boot once.
            event.boot_id.take_if(|boot_id| *boot_id == self.boot_id);
        }
        let accepted = self
            .unfinished()
            .map(|taken| taken.job.id.clone())
            .collect();
        Unsent {
            results,
            events,
            accepted,
        }
    }

    /// Whether a result or an event waits for a server.
    pub fn has_unsent(&self) -> bool {
        let waits = |entry: &super::Entry| {
            matches!(
                entry.state,
                EntryState::Finished {
                    is_acknowledged: false,
                    ..
                }
            )
        };
        !self.events.is_empty() || !self.refusals.is_empty() || self.entries.iter().any(waits)
    }

    /// Drops what a server acknowledged.
    pub fn acknowledge(&mut self, sent: &Unsent) -> Result<(), JournalError> {
        if sent.results.is_empty() && sent.events.is_empty() {
            return Ok(());
        }
        // A refusal (1004) bears the id of a job whose own result may have come
        // since, and was not sent.
        let is_outcome = |sent: &&JobResult| {
            self.entries.iter().any(|entry| {
                matches!(&entry.state, EntryState::Finished { result, .. } if result == *sent)
            })
        };
        let results: Vec<_> = sent
            .results
            .iter()
            .filter(is_outcome)
            .map(|result| result.id.clone())
            .collect();
        let boot = |event: &Event| {
            event
                .boot_id
                .clone()
                .unwrap_or_else(|| self.boot_id.clone())
        };
        let events: Vec<_> = sent
            .events
            .iter()
            .map(|event| (boot(event), event.seq))
            .collect();
        self.refusals
            .retain(|refusal| !sent.results.contains(refusal));
        self.drop_acknowledged(&results, &events);
        self.forget_surplus();
        self.append(&Record::Acknowledged { results, events })?;
        self.rewrite_when_large();
        Ok(())
    }

    pub(super) fn drop_acknowledged(&mut self, results: &[String], events: &[(String, u64)]) {
        for entry in &mut self.entries {
            if let EntryState::Finished {
                is_acknowledged, ..
            } = &mut entry.state
                && results.contains(&entry.id)
            {
                *is_acknowledged = true;
            }
        }
        self.events.retain(|waiting| {
            let event = &waiting.event;
            let boot = event.boot_id.as_deref().unwrap_or_default();
            !events.iter().any(|(b, seq)| b == boot && *seq == event.seq)
        });
    }
}

/// The first ones that fit together.
fn fitting<'a, T: Clone + 'a>(sized: impl Iterator<Item = (&'a T, usize)>) -> Vec<T> {
    let mut bytes = 0;
    let fits = |&(_, size): &(&T, usize)| {
        let is_first = bytes == 0;
        bytes += size;
        is_first || bytes <= BYTES_PER_STATUS
    };
    sized
        .take_while(fits)
        .map(|(value, _)| value.clone())
        .collect()
}
