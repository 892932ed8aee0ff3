//! Jobs with their outcomes, and events: the only truth about them.
//!
//! One file of records, one per line, each with its CRC: appended and synced
//! before the first side effect of a job, read back at the start. What was
//! acknowledged is dropped when the file is written anew. `thread` runs it on
//! a thread of its own, so that a slow disk never holds up supervision.
//!
//! The rule: an id has one outcome. A job offered again is answered from here.

use std::collections::VecDeque;
use std::path::Path;

use bootagent_kit::clock;
use bootagent_protocol::{Event, Job, JobResult};
use serde_json::Value;

mod file;
pub mod tail;
pub mod thread;

use file::{File, Record};

pub use file::{Inspection, JournalError, inspect};

/// Finished jobs kept to answer a second offer.
const FINISHED_JOBS_KEPT: usize = 1000;
/// Events kept while no server takes them; the oldest go first, and the gap
/// in `seq` shows it.
const EVENTS_KEPT: usize = 1000;
/// Events sent with one status, so that it stays below its size limit.
const EVENTS_PER_STATUS: usize = 100;
/// Bytes of events sent with one status; the first goes whatever its size.
const EVENT_BYTES_PER_STATUS: usize = 256 * 1024;
/// Results sent with one status; together with the events below its limit.
const RESULTS_PER_STATUS: usize = 50;

/// A job that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct TakenJob {
    /// The job.
    pub job: Job,
    /// Base URL of the server that gave it; relative urls are below it.
    pub server: String,
    /// How far it came before a crash, in the worker's words; empty at first.
    pub steps: Vec<String>,
}

#[derive(Debug, Clone)]
struct Entry {
    id: String,
    digest: String,
    state: EntryState,
}

#[derive(Debug, Clone)]
enum EntryState {
    Taken(Box<TakenJob>),
    Finished {
        result: JobResult,
        is_acknowledged: bool,
    },
}

/// What became of an offered job.
#[derive(Debug, Clone, PartialEq)]
pub enum Offer {
    /// It is new and now journalled.
    Taken(Box<TakenJob>),
    /// It is known; its outcome, if there is one, will be sent again.
    Known,
    /// Its id belongs to another job.
    Reused,
}

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

/// The journal, open.
#[derive(Debug)]
pub struct Journal {
    file: File,
    entries: Vec<Entry>,
    events: VecDeque<Event>,
    /// Results that are about an offer, not about a job of ours (1004): sent
    /// once, because an id has one outcome.
    refusals: Vec<JobResult>,
    boot_id: String,
    next_seq: u64,
}

impl Journal {
    /// Opens (or begins) the journal in `folder`. A torn or damaged end is cut
    /// off and set aside; the returned text says so.
    pub fn open(folder: &Path, boot_id: &str) -> Result<(Self, Option<String>), JournalError> {
        let (file, records, damage) = File::open(folder)?;
        let mut journal = Self {
            file,
            entries: Vec::new(),
            events: VecDeque::new(),
            refusals: Vec::new(),
            boot_id: boot_id.to_owned(),
            next_seq: 1,
        };
        for record in records {
            journal.replay(record);
        }
        journal.forget_surplus();
        if damage.is_some() {
            // What was lost may hold numbers a server has seen, and a second
            // event of one number is no news to it. No boot has had more
            // events than milliseconds.
            let floor = u64::try_from(clock::boottime().as_millis()).unwrap_or(u64::MAX);
            journal.next_seq = journal.next_seq.max(floor);
        }
        Ok((journal, damage))
    }

    fn replay(&mut self, record: Record) {
        match record {
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
                self.entries.push(Entry { id, digest, state });
            }
            Record::Step { id, step } => {
                if let Some(EntryState::Taken(taken)) = self.state_mut(&id) {
                    taken.steps.push(step);
                }
            }
            Record::Outcome { digest, result } => self.set_outcome(digest, result),
            Record::Acknowledged { results, events } => self.drop_acknowledged(&results, &events),
            Record::Event(event) => {
                if event.boot_id.as_deref() == Some(&self.boot_id) {
                    self.next_seq = self.next_seq.max(event.seq + 1);
                }
                self.events.push_back(event);
            }
            Record::Sequence { boot_id, next } if boot_id == self.boot_id => {
                self.next_seq = self.next_seq.max(next);
            }
            Record::Sequence { .. } => {}
        }
    }

    /// Takes a job before its first side effect.
    pub fn offer(&mut self, value: &Value, job: &Job, server: &str) -> Result<Offer, JournalError> {
        let digest = hex(&Job::digest(value));
        if let Some(known) = self.known(&job.id, &digest) {
            return Ok(known);
        }
        let taken = TakenJob {
            job: job.clone(),
            server: server.to_owned(),
            steps: Vec::new(),
        };
        self.file.append(&Record::Job {
            id: job.id.clone(),
            digest: digest.clone(),
            job: Box::new(job.clone()),
            server: server.to_owned(),
        })?;
        let state = EntryState::Taken(Box::new(taken.clone()));
        self.entries.push(Entry {
            id: job.id.clone(),
            digest,
            state,
        });
        Ok(Offer::Taken(Box::new(taken)))
    }

    /// Answers a job that is refused before it began (1001, 1002).
    pub fn refuse(&mut self, value: &Value, result: JobResult) -> Result<(), JournalError> {
        let digest = hex(&Job::digest(value));
        if self.known(&result.id, &digest).is_some() {
            return Ok(());
        }
        self.file.append(&Record::Outcome {
            digest: digest.clone(),
            result: result.clone(),
        })?;
        self.set_outcome(digest, result);
        Ok(())
    }

    /// What is known of an offered id; its outcome becomes unsent again.
    fn known(&mut self, id: &str, digest: &str) -> Option<Offer> {
        let entry = self.entries.iter_mut().find(|entry| entry.id == id)?;
        if entry.digest != digest {
            let code = bootagent_protocol::ErrorCode::ID_REUSED;
            let message = format!("job {id} is already known with another body");
            self.refusals.push(JobResult::new(id, code, &message));
            self.refusals.truncate(RESULTS_PER_STATUS);
            return Some(Offer::Reused);
        }
        if let EntryState::Finished {
            is_acknowledged, ..
        } = &mut entry.state
        {
            *is_acknowledged = false;
        }
        Some(Offer::Known)
    }

    /// Notes that a job begins. False if it has its outcome already, because it
    /// was withdrawn while it waited.
    pub fn begin(&mut self, id: &str) -> Result<bool, JournalError> {
        match self.state_mut(id) {
            Some(EntryState::Taken(taken)) if taken.steps.is_empty() => {}
            Some(EntryState::Taken(_)) => return Ok(true),
            Some(EntryState::Finished { .. }) | None => return Ok(false),
        }
        self.step(id, "begun").map(|()| true)
    }

    /// Notes how far a job came, so that a crash can be picked up there.
    pub fn step(&mut self, id: &str, step: &str) -> Result<(), JournalError> {
        self.file.append(&Record::Step {
            id: id.to_owned(),
            step: step.to_owned(),
        })?;
        if let Some(EntryState::Taken(taken)) = self.state_mut(id) {
            taken.steps.push(step.to_owned());
        }
        Ok(())
    }

    /// Notes a job's one outcome. A second one is ignored. What cannot be
    /// written (a full disk) is sent all the same.
    pub fn finish(&mut self, result: JobResult) -> Result<(), JournalError> {
        let Some(EntryState::Taken(_)) = self.state_mut(&result.id) else {
            return Ok(());
        };
        let record = Record::Outcome {
            digest: String::new(),
            result: result.clone(),
        };
        self.set_outcome(String::new(), result);
        self.file.append(&record)?;
        self.rewrite_when_large()
    }

    /// Adds an event and gives it the next number of this boot. What cannot be
    /// written is kept in memory all the same.
    pub fn event(&mut self, mut event: Event) -> Result<(), JournalError> {
        event.fit();
        event.seq = self.next_seq;
        event.boot_id = Some(self.boot_id.clone());
        self.next_seq += 1;
        self.events.push_back(event.clone());
        while self.events.len() > EVENTS_KEPT {
            self.events.pop_front();
        }
        self.file.append(&Record::Event(event))?;
        self.rewrite_when_large()
    }

    /// What the next status carries.
    pub fn unsent(&self) -> Unsent {
        let finished = self.entries.iter().filter_map(|entry| match &entry.state {
            EntryState::Finished {
                result,
                is_acknowledged: false,
            } => Some(result),
            _ => None,
        });
        let results = finished
            .chain(&self.refusals)
            .take(RESULTS_PER_STATUS)
            .cloned()
            .collect();
        let mut bytes = 0;
        let fits = |event: &&Event| {
            let tail: usize = event.tail.iter().map(String::len).sum();
            let is_first = bytes == 0;
            bytes += event.message.len() + tail + 512;
            is_first || bytes <= EVENT_BYTES_PER_STATUS
        };
        let waiting = self.events.iter().take(EVENTS_PER_STATUS);
        let mut events: Vec<_> = waiting.take_while(fits).cloned().collect();
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
        self.file
            .append(&Record::Acknowledged { results, events })?;
        self.rewrite_when_large()
    }

    /// Jobs that were taken and have no outcome, in the order they were taken.
    pub fn unfinished(&self) -> impl Iterator<Item = &TakenJob> {
        self.entries.iter().filter_map(|entry| match &entry.state {
            EntryState::Taken(taken) => Some(taken.as_ref()),
            EntryState::Finished { .. } => None,
        })
    }

    /// The newest jobs for `bootctl jobs`: id, action and what came of it.
    pub fn recent(&self, count: usize) -> Vec<(String, Option<JobResult>)> {
        let newest = self.entries.iter().rev().take(count);
        newest
            .map(|entry| match &entry.state {
                EntryState::Finished { result, .. } => (entry.id.clone(), Some(result.clone())),
                EntryState::Taken(_) => (entry.id.clone(), None),
            })
            .collect()
    }

    /// Events that wait for a server, for `bootctl events`.
    pub fn waiting_events(&self, count: usize) -> Vec<Event> {
        self.events.iter().rev().take(count).cloned().collect()
    }

    fn state_mut(&mut self, id: &str) -> Option<&mut EntryState> {
        self.entries
            .iter_mut()
            .find(|entry| entry.id == id)
            .map(|entry| &mut entry.state)
    }

    /// `digest` counts only for a job that was refused before it was taken.
    fn set_outcome(&mut self, digest: String, result: JobResult) {
        let id = result.id.clone();
        let state = EntryState::Finished {
            result,
            is_acknowledged: false,
        };
        match self.state_mut(&id) {
            Some(known) => *known = state,
            None => self.entries.push(Entry { id, digest, state }),
        }
    }

    fn drop_acknowledged(&mut self, results: &[String], events: &[(String, u64)]) {
        for entry in &mut self.entries {
            if let EntryState::Finished {
                is_acknowledged, ..
            } = &mut entry.state
                && results.contains(&entry.id)
            {
                *is_acknowledged = true;
            }
        }
        self.events.retain(|event| {
            let boot = event.boot_id.as_deref().unwrap_or_default();
            !events.iter().any(|(b, seq)| b == boot && *seq == event.seq)
        });
    }

    fn forget_surplus(&mut self) {
        while self.events.len() > EVENTS_KEPT {
            self.events.pop_front();
        }
        let is_done = |entry: &Entry| {
            matches!(
                entry.state,
                EntryState::Finished {
                    is_acknowledged: true,
                    ..
                }
            )
        };
        let mut surplus = self.entries.len().saturating_sub(FINISHED_JOBS_KEPT);
        self.entries.retain(|entry| {
            let forget = surplus > 0 && is_done(entry);
            surplus -= usize::from(forget);
            !forget
        });
    }

    fn rewrite_when_large(&mut self) -> Result<(), JournalError> {
        if !self.file.is_large() {
            return Ok(());
        }
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
        records.extend(self.events.iter().cloned().map(Record::Event));
        self.file.rewrite(&records)
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bootagent_protocol::Checksum(*bytes).hex()
}

#[cfg(test)]
mod tests;
