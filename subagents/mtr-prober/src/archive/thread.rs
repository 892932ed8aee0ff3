//! The archive on a thread of its own, so that no disk holds up a measurement.
//!
//! What came while a batch was synced is the next batch: five hundred reports that end at once cost
//! one or two syncs. Who asks something of the archive waits his turn; who looks through all of it does so on
//! another thread, one after the other, and nothing waits for him.
//!
//! The one rule: each write is answered once, after it is on disk or cannot be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use bootagent_kit::clock;

use super::query::{Page, Query};
use super::reader::Reader;
use super::{Archive, ArchiveError, Write, chain};
use crate::report::Report;

/// Most writes of one batch.
const MAX_BATCH: usize = 512;
/// While so many wait, a stalled disk for instance, nothing more is accepted.
const MAX_WAITING: usize = 4096;
/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is called once a write is on disk, or with the reason why it is not.
pub type Done = Box<dyn FnOnce(Result<(), String>) + Send>;

/// What is called with what a query found.
pub type Found = Box<dyn FnOnce(Result<Page, ArchiveError>) + Send>;

enum Command {
    Write(Box<Report>, Kind, Done),
    Ask(Box<dyn FnOnce(&mut Archive) + Send>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Accepted,
    Ended,
}

/// The way to the archive's threads, which end with the last of these.
#[derive(Clone)]
pub struct Keeper {
    sender: Sender<Command>,
    queries: Sender<(Query, Found)>,
    waiting: Arc<AtomicUsize>,
}

/// The disk does not keep up: accept it later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{MAX_WAITING} writes wait for the disk of the archive; try again later, and look at the disk"
)]
pub struct Busy;

impl Keeper {
    /// Starts the threads, and gives the one that writes.
    pub fn start(archive: Archive) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, receiver) = mpsc::channel();
        let (queries, asked) = mpsc::channel();
        let writer = sender.clone();
        bootagent_kit::thread::spawn("queries", move || look(&writer, &asked))?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let keeper = Self {
            sender,
            queries,
            waiting: Arc::clone(&waiting),
        };
        let run = move || run(archive, &receiver, &waiting);
        Ok((keeper, bootagent_kit::thread::spawn("archive", run)?))
    }

    /// Writes down that a measurement is accepted; its caller may hear of it when `done` is called
    /// with `Ok`.
    pub fn accept(&self, report: Report, done: Done) -> Result<(), Busy> {
        if self.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            return Err(Busy);
        }
        self.send(report, Kind::Accepted, done);
        Ok(())
    }

    /// Keeps the report of one that ended. It is never refused: there are no more of these than were
    /// accepted.
    pub fn end(&self, report: Report, done: Done) {
        self.send(report, Kind::Ended, done);
    }

    /// Asks something; what was written before is in the answer.
    pub fn ask(&self, question: impl FnOnce(&mut Archive) + Send + 'static) {
        // Fails only once the thread is gone, and with it the process.
        let _ = self.sender.send(Command::Ask(Box::new(question)));
    }

    /// Looks for reports; what was written before is among them.
    pub fn query(&self, query: Query, found: Found) {
        // Fails only once the thread is gone, and with it the process.
        let _ = self.queries.send((query, found));
    }

    fn send(&self, report: Report, kind: Kind, done: Done) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self
            .sender
            .send(Command::Write(Box::new(report), kind, done));
    }
}

/// Answers queries. What there is to look through is asked for when it is a query's turn: it is held once.
fn look(writer: &Sender<Command>, asked: &Receiver<(Query, Found)>) {
    while let Ok((query, found)) = asked.recv() {
        let (sender, reader) = mpsc::channel::<Reader>();
        let give = Box::new(move |archive: &mut Archive| drop(sender.send(archive.reader())));
        let _ = writer.send(Command::Ask(give));
        match reader.recv() {
            Ok(reader) => found(reader.query(&query)),
            Err(_) => return,
        }
    }
}

fn run(mut archive: Archive, receiver: &Receiver<Command>, waiting: &AtomicUsize) {
    let now_ms = || {
        i64::try_from(clock::unix_seconds())
            .unwrap_or(0)
            .saturating_mul(1000)
    };
    loop {
        let first = match archive.unwritten.is_empty() {
            true => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => receiver.recv_timeout(RETRY),
        };
        let mut next = match first {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => {
                archive.mend(now_ms());
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let mut batch: Vec<(Box<Report>, Kind, Done)> = Vec::new();
        let mut question = None;
        while let Some(command) = next {
            match command {
                Command::Write(report, kind, done) => batch.push((report, kind, done)),
                Command::Ask(ask) => question = Some(ask),
            }
            let full = batch.len() >= MAX_BATCH || question.is_some();
            next = if full { None } else { receiver.try_recv().ok() };
        }
        if !batch.is_empty() {
            commit(&mut archive, batch, waiting, now_ms());
        }
        if let Some(question) = question {
            question(&mut archive);
        }
    }
}

fn commit(
    archive: &mut Archive,
    batch: Vec<(Box<Report>, Kind, Done)>,
    waiting: &AtomicUsize,
    now_ms: i64,
) {
    let writes: Vec<Write<'_>> = batch
        .iter()
        .map(|(report, kind, _)| match kind {
            Kind::Accepted => Write::Accepted(report),
            Kind::Ended => Write::Ended(report),
        })
        .collect();
    let committed = archive
        .commit(&writes, now_ms)
        .map_err(|error| chain(&error));
    waiting.fetch_sub(batch.len(), Ordering::Relaxed);
    for (_, _, done) in batch {
        done(committed.clone());
    }
}
