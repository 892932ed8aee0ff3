//! Jobs with their outcomes, and events: the only truth about them.
//!
//! One file of records, one per line, each with its CRC: appended and synced
//! before the first side effect of a job, read back at the start. What was
//! acknowledged is dropped when the file is written anew. While it cannot be
//! written, no job is taken, and everything else goes on in memory. `thread`
//! runs it on a thread of its own, so that a slow disk never holds up
//! supervision.
//!
//! The rule: an id has one outcome. A job offered again is answered from here.

use std::collections::VecDeque;
use std::mem::{Discriminant, discriminant};
use std::path::Path;

use bootagent_kit::clock;
use bootagent_protocol::{Event, Job, JobResult};
use serde_json::Value;

mod bounds;
mod file;
mod replay;
pub mod tail;
pub mod thread;
mod unsent;

use file::{File, Record};

pub use file::{Inspection, JournalError, inspect};
pub use unsent::Unsent;

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
    /// Of the job as it was offered; empty when only its outcome is left.
    digest: String,
    /// Its length in the file.
    bytes: usize,
    state: EntryState,
}

#[derive(Debug, Clone)]
struct WaitingEvent {
    event: Event,
    /// Its length in the file.
    bytes: usize,
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
    /// It is none of ours: it cannot be one (1001, 1002), or its id belongs to
    /// another job (1004). This is its result.
    Refused(JobResult),
}

/// The journal, open.
#[derive(Debug)]
pub struct Journal {
    file: File,
    entries: Vec<Entry>,
    events: VecDeque<WaitingEvent>,
    /// Results that are about an offer, not about a job of ours (1004): sent
    /// once, because an id has one outcome.
    refusals: Vec<JobResult>,
    boot_id: String,
    next_seq: u64,
    /// Why the file lacks what is in memory, while it does.
    trouble: Option<String>,
    /// Why jobs are not taken, while it is so.
    refusing: Option<Discriminant<JournalError>>,
}

impl Journal {
    /// Opens (or begins) the journal in `folder`. What is damaged is set aside;
    /// the returned text says so. One that cannot be written is read, and goes
    /// on in memory: see [`Journal::trouble`].
    pub fn open(folder: &Path, boot_id: &str) -> Result<(Self, Option<String>), JournalError> {
        let opened = File::open(folder)?;
        let mut journal = Self {
            file: opened.file,
            entries: Vec::new(),
            events: VecDeque::new(),
            refusals: Vec::new(),
            boot_id: boot_id.to_owned(),
            next_seq: 1,
            trouble: None,
            refusing: None,
        };
        for record in opened.records {
            journal.replay(record);
        }
        journal.forget_surplus();
        if opened.damage.is_some() {
            // What was lost may hold numbers a server has seen.
            journal.skip_numbers();
        }
        journal.mend();
        Ok((journal, opened.damage))
    }

    /// Why the journal cannot be written, while that is so. What it says is in
    /// memory and sent all the same; a crash would lose it.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Writes the file anew where it lacks what is in memory.
    pub fn mend(&mut self) {
        if self.file.is_sound() {
            return;
        }
        match self.rewrite() {
            Ok(()) if self.trouble.take().is_some() => {
                self.refusing = None;
                log::info!("{} is written again", self.file.path().display());
            }
            Ok(()) => {}
            Err(error) => self.trouble = Some(format!("{:#}", anyhow::Error::from(error))),
        }
    }

    fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        self.mend();
        let appended = self.file.append(record);
        if let (Err(error), None) = (&appended, &self.trouble) {
            let cause = std::error::Error::source(error);
            let cause = cause.map_or(String::new(), |cause| format!(": {cause}"));
            self.trouble = Some(format!("{error}{cause}"));
        }
        appended
    }

    /// Makes sure that no number is given twice where some may be unknown to
    /// the file: a second event of one number is no news to a server. No boot
    /// has had more events than milliseconds.
    fn skip_numbers(&mut self) {
        let floor = u64::try_from(clock::boottime().as_millis()).unwrap_or(u64::MAX);
        self.next_seq = self.next_seq.max(floor);
    }

    /// Whether jobs were taken until now, or not for another reason: they are
    /// offered again with every answer.
    pub fn is_news(&mut self, error: &JournalError) -> bool {
        let why = discriminant(error);
        self.refusing.replace(why) != Some(why)
    }

    /// Takes a job before its first side effect.
    pub fn offer(&mut self, value: &Value, job: &Job, server: &str) -> Result<Offer, JournalError> {
        let digest = hex(&Job::digest(value));
        if let Some(known) = self.known(&job.id, &digest) {
            return Ok(known);
        }
        let record = Record::Job {
            id: job.id.clone(),
            digest: digest.clone(),
            job: Box::new(job.clone()),
            server: server.to_owned(),
        };
        let bytes = file::length(&record);
        self.check_room(bytes)?;
        self.append(&record)?;
        self.refusing = None;
        let taken = TakenJob {
            job: job.clone(),
            server: server.to_owned(),
            steps: Vec::new(),
        };
        let state = EntryState::Taken(Box::new(taken.clone()));
        self.entries.push(Entry {
            id: job.id.clone(),
            digest,
            bytes,
            state,
        });
        Ok(Offer::Taken(Box::new(taken)))
    }

    /// Answers a job that is refused before it began (1001, 1002).
    pub fn refuse(&mut self, value: &Value, result: JobResult) -> Result<Offer, JournalError> {
        let digest = hex(&Job::digest(value));
        if let Some(known) = self.known(&result.id, &digest) {
            return Ok(known);
        }
        let record = Record::Outcome {
            digest: digest.clone(),
            result: result.clone(),
        };
        self.check_room(file::length(&record))?;
        self.append(&record)?;
        self.refusing = None;
        self.set_outcome(digest, result.clone());
        Ok(Offer::Refused(result))
    }

    /// What is known of an offered id; its outcome becomes unsent again.
    fn known(&mut self, id: &str, digest: &str) -> Option<Offer> {
        let entry = self.entries.iter_mut().find(|entry| entry.id == id)?;
        if entry.digest.is_empty() {
            digest.clone_into(&mut entry.digest);
        }
        if entry.digest != digest {
            let code = bootagent_protocol::ErrorCode::ID_REUSED;
            let message = format!("job {id} is already known with another body");
            let refusal = JobResult::new(id, code, &message);
            self.refusals.push(refusal.clone());
            self.refusals.truncate(unsent::RESULTS_PER_STATUS);
            return Some(Offer::Refused(refusal));
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
        self.append(&Record::Step {
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
        self.append(&record)?;
        self.rewrite_when_large();
        Ok(())
    }

    /// Adds an event and gives it the next number of this boot. What cannot be
    /// written is kept in memory all the same.
    pub fn event(&mut self, mut event: Event) -> Result<(), JournalError> {
        event.fit();
        event.boot_id = Some(self.boot_id.clone());
        event.seq = self.next_seq;
        let mut record = Record::Event(event);
        let appended = self.append(&record);
        if appended.is_err() {
            // After a crash the next BootAgent counts on from what is written,
            // so what is not written gets a number from beyond that.
            self.skip_numbers();
            if let Record::Event(event) = &mut record {
                event.seq = self.next_seq;
            }
        }
        self.replay(record);
        self.rewrite_when_large();
        appended
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
        let newest = self.events.iter().rev().take(count);
        newest.map(|waiting| waiting.event.clone()).collect()
    }

    fn state_mut(&mut self, id: &str) -> Option<&mut EntryState> {
        self.entries
            .iter_mut()
            .find(|entry| entry.id == id)
            .map(|entry| &mut entry.state)
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bootagent_protocol::Checksum(*bytes).hex()
}

#[cfg(test)]
mod tests;
