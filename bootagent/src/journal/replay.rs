//! Between records and what they mean: reading a journal back, and writing
//! down what of it is still needed.
//!
//! Any record may be missing, because damage hit it: what is left must never
//! make a job that ended run again.

use bootagent_protocol::{ErrorCode, JobResult};

use super::file::{JournalError, Record};
use super::{Entry, EntryState, Journal, TakenJob, WaitingEvent, file};

impl Journal {
    pub(super) fn replay(&mut self, record: Record) {
        let bytes = file::length(&record);
        match record {
            Record::Job { id, .. } if self.state_mut(&id).is_some() => {}
            Record::Job {
                id,
                digest,
                job,
                server,
            } => {
                let taken = TakenJob {
                    job: *job,
                    server,
                    steps: Vec::new(),
                };
                let state = EntryState::Taken(Box::new(taken));
                self.entries.push(Entry {
                    id,
                    digest,
                    bytes,
                    state,
                });
            }
            Record::Step { id, step } => {
                if let Some(EntryState::Taken(taken)) = self.state_mut(&id) {
                    taken.steps.push(step);
                }
            }
            Record::Outcome { digest, result } => self.set_outcome(digest, result),
            Record::Acknowledged { results, events } => {
                for id in &results {
                    self.outcome_was_lost(id);
                }
                self.drop_acknowledged(&results, &events);
            }
            Record::Event(event) => {
                if event.boot_id.as_deref() == Some(&self.boot_id) {
                    self.next_seq = self.next_seq.max(event.seq.saturating_add(1));
                }
                self.events.push_back(WaitingEvent { event, bytes });
                self.forget_old_events();
            }
            Record::Sequence { boot_id, next } if boot_id == self.boot_id => {
                self.next_seq = self.next_seq.max(next);
            }
            Record::Sequence { .. } => {}
        }
    }

    /// A server has the result of this job. If it has none here, it was lost
    /// with a damaged part of the file.
    fn outcome_was_lost(&mut self, id: &str) {
        if let Some(EntryState::Taken(_)) = self.state_mut(id) {
            let message = "it ended and a server knows how; the journal was damaged there";
            let result = JobResult::new(id, ErrorCode::NOT_PERSISTED, message);
            self.set_outcome(String::new(), result);
        }
    }

    /// `digest` counts only for a job that was refused before it was taken.
    pub(super) fn set_outcome(&mut self, digest: String, result: JobResult) {
        let id = result.id.clone();
        let record = Record::Outcome { digest, result };
        let bytes = file::length(&record);
        let Record::Outcome { digest, result } = record else {
            return;
        };
        let state = EntryState::Finished {
            result,
            is_acknowledged: false,
        };
        match self.entries.iter_mut().find(|entry| entry.id == id) {
            Some(known) => {
                known.state = state;
                known.bytes = bytes + known.digest.len();
            }
            None => self.entries.push(Entry {
                id,
                digest,
                bytes,
                state,
            }),
        }
    }

    pub(super) fn rewrite_when_large(&mut self) {
        if self.file.is_large() && self.rewrite().is_err() {
            // It is tried again, and said, with the next record.
            log::debug!("{} cannot be written anew", self.file.path().display());
        }
    }

    /// Puts a file of what is still needed in the place of the file.
    pub(super) fn rewrite(&mut self) -> Result<(), JournalError> {
        let records = self.records();
        self.file.rewrite(records.into_iter())
    }

    fn records(&self) -> Vec<Record> {
        let sequence = Record::Sequence {
            boot_id: self.boot_id.clone(),
            next: self.next_seq,
        };
        let mut records = vec![sequence];
        let mut acknowledged = Vec::new();
        for entry in &self.entries {
            match &entry.state {
                EntryState::Taken(taken) => {
                    records.push(Record::Job {
                        id: entry.id.clone(),
                        digest: entry.digest.clone(),
                        job: Box::new(taken.job.clone()),
                        server: taken.server.clone(),
                    });
                    let steps = taken.steps.iter();
                    records.extend(steps.map(|s| Record::Step {
                        id: entry.id.clone(),
                        step: s.clone(),
                    }));
                }
                EntryState::Finished {
                    result,
                    is_acknowledged,
                } => {
                    let (digest, result) = (entry.digest.clone(), result.clone());
                    records.push(Record::Outcome { digest, result });
                    if *is_acknowledged {
                        acknowledged.push(entry.id.clone());
                    }
                }
            }
        }
        records.push(Record::Acknowledged {
            results: acknowledged,
            events: Vec::new(),
        });
        let events = self.events.iter();
        records.extend(events.map(|waiting| Record::Event(waiting.event.clone())));
        records
    }
}
