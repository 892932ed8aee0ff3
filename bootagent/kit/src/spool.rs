//! A queue on disk for what must reach the platform later.
//!
//! Records are appended to segment files and taken off in order once they
//! are acknowledged; what that means is the caller's business. The queue has
//! a cap in bytes: beyond it the oldest segment goes, and how many records
//! went is counted and kept. After a crash every record that was synced is
//! there, whole, and in order; one that was not yet synced may be missing,
//! and one that was acknowledged may come again.
//!
//! The one rule: a record is handed out exactly as it was pushed, or counted
//! as dropped; never cut, never changed, never out of order.

mod segment;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fs::{self, FsError};
use segment::Segment;

/// File that holds how far the queue is acknowledged.
const STATE_FILE: &str = "state.json";
/// File that is locked while a spool is open.
const LOCK_FILE: &str = "lock";
/// Largest state file, in bytes.
const MAX_STATE_BYTES: u64 = 4096;
/// Most bytes [`Spool::peek`] hands out at once, one record always.
const MAX_PEEK_BYTES: u64 = 1024 * 1024;

/// How large a spool may become.
#[derive(Debug, Clone, Copy)]
pub struct SpoolOptions {
    /// Cap of all segments together, in bytes.
    pub max_bytes: u64,
    /// Size from which on a new segment is begun, in bytes: what goes at once
    /// when the cap is reached.
    pub segment_bytes: u64,
    /// Largest record, in bytes.
    pub max_record_bytes: u32,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            max_bytes: 16 * 1024 * 1024,
            segment_bytes: 1024 * 1024,
            max_record_bytes: 256 * 1024,
        }
    }
}

/// Why a spool operation failed.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file operation failed.
    #[error("the spool cannot go on")]
    File(#[from] FsError),
    /// Another process, or another part of this one, has it open.
    #[error("the spool {} is open elsewhere; stop the other process", .0.display())]
    Locked(PathBuf),
    /// The record is empty or larger than the options allow.
    #[error("a record of {bytes} bytes does not fit, 1 to {max} are allowed")]
    Record {
        /// Its size.
        bytes: usize,
        /// The largest allowed.
        max: u32,
    },
}

/// One record on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the order of all records ever pushed, from 1. A gap
    /// between two entries is what was dropped there.
    pub number: u64,
    /// What was pushed.
    pub bytes: Vec<u8>,
}

/// What outlives a restart besides the segments.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    /// The number of the first record not acknowledged.
    head: u64,
    /// Records dropped since the spool was made.
    dropped: u64,
    /// Segments with a damaged record, by their first: where it is.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    damage: BTreeMap<u64, u64>,
}

/// An open spool; its directory is locked until it is dropped.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    options: SpoolOptions,
    /// Oldest first; the last one is written to. Never empty.
    segments: Vec<Segment>,
    state: State,
    lock: File,
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Closing would do, were it not for children: one that another thread
        // has just forked shares the lock until its exec.
        let _ = self.lock.unlock();
    }
}

impl Spool {
    /// Opens the spool in `directory`, which is made if it is missing. A
    /// torn end, left by a crash, is cut off.
    pub fn open(directory: &Path, options: SpoolOptions) -> Result<Self, SpoolError> {
        fs::ensure_dir(directory, 0o700)?;
        let lock = lock(directory)?;
        let state = read_state(&directory.join(STATE_FILE))?;
        let mut segments = segment::find(directory)?;
        if let Some(last) = segments.last_mut() {
            last.heal()?;
        }
        let mut spool = Self {
            directory: directory.to_owned(),
            options,
            segments,
            state,
            lock,
        };
        spool.settle()?;
        Ok(spool)
    }

    /// Appends a record and gives its number. It survives a crash of the
    /// program at once, and a power cut after [`Spool::sync`].
    ///
    /// On an error, a full disk for instance, the spool is as it was.
    pub fn push(&mut self, record: &[u8]) -> Result<u64, SpoolError> {
        let max = self.options.max_record_bytes;
        if record.is_empty() || record.len() > max as usize {
            let bytes = record.len();
            return Err(SpoolError::Record { bytes, max });
        }
        let needed = segment::stored_bytes(record.len());
        let is_full = self.tail().bytes() + needed > self.options.segment_bytes;
        if (is_full && self.tail().count() > 0) || !self.tail().is_open() {
            self.begin_segment()?;
        }
        self.make_room(needed)?;
        self.tail().append(record)
    }

    /// Makes every pushed record survive a power cut.
    pub fn sync(&mut self) -> Result<(), SpoolError> {
        self.tail().sync()?;
        Ok(())
    }

    /// The oldest records not acknowledged, at most `max_records` of them and
    /// about a megabyte. They stay until [`Spool::ack`].
    ///
    /// A record that the disk has lost is counted as dropped and skipped,
    /// with all that follow it in its segment.
    pub fn peek(&mut self, max_records: usize) -> Result<Vec<Entry>, SpoolError> {
        let mut entries = Vec::new();
        let mut left = MAX_PEEK_BYTES;
        for index in 0..self.segments.len() {
            if entries.len() >= max_records {
                break;
            }
            let from = self.state.head;
            let mut next = self.segments[index].first().max(from);
            for entry in self.segments[index].read_from(next, max_records - entries.len())? {
                let size = entry.bytes.len() as u64;
                if size > left && !entries.is_empty() {
                    return Ok(entries);
                }
                left = left.saturating_sub(size);
                next = entry.number + 1;
                entries.push(entry);
            }
            if entries.len() >= max_records {
                break;
            }
            let lost = self.segments[index].readable_end().saturating_sub(next);
            if lost > 0 {
                let name = self.segments[index].path().display();
                log::warn!("{lost} records of {name} cannot be read any more, dropped");
                // Counted once, also over a restart: from now on the segment
                // ends before them.
                self.state.dropped += lost;
                self.state.damage.insert(self.segments[index].first(), next);
                self.segments[index].give_up_from(next);
                self.write_state()?;
            }
        }
        Ok(entries)
    }

    /// Takes every record up to and including `number` off the queue.
    ///
    /// The new head is on disk when this returns. A number beyond the last
    /// record acknowledges what there is.
    pub fn ack(&mut self, number: u64) -> Result<(), SpoolError> {
        let head = number.saturating_add(1).min(self.tail().end());
        if head <= self.state.head {
            return Ok(());
        }
        self.state.head = head;
        self.write_state()?;
        self.remove_acknowledged()
    }

    /// How many records wait.
    pub fn len(&self) -> u64 {
        let count = |segment: &Segment| {
            let first = segment.first().max(self.state.head);
            segment.readable_end().saturating_sub(first)
        };
        self.segments.iter().map(count).sum()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of all segments on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(Segment::bytes).sum()
    }

    /// How many records were dropped, since the spool was made: beyond the
    /// cap, or lost by the disk.
    pub fn dropped(&self) -> u64 {
        self.state.dropped
    }

    fn tail(&mut self) -> &mut Segment {
        self.segments
            .last_mut()
            .expect("open leaves one segment and nothing removes the last")
    }

    /// Brings state and segments together after an open.
    fn settle(&mut self) -> Result<(), SpoolError> {
        let end = self.segments.last().map_or(1, Segment::end);
        // Numbers never go back, not even when the segments were removed by
        // hand: the platform knows records by them.
        let next = end.max(self.state.head).max(1);
        if next > end || self.segments.is_empty() {
            let fresh = Segment::create(&self.directory, next)?;
            self.segments.push(fresh);
        }
        for segment in &mut self.segments {
            if let Some(&from) = self.state.damage.get(&segment.first()) {
                segment.give_up_from(from);
            }
        }
        self.state.head = self.state.head.max(1);
        let mut gap = 0;
        let mut reached = self.state.head;
        for segment in &self.segments {
            gap += segment.first().saturating_sub(reached);
            reached = reached.max(segment.end());
        }
        if gap > 0 {
            log::warn!(
                "{gap} records are missing from {}, dropped",
                self.directory.display()
            );
            self.state.dropped += gap;
            self.state.head = self.state.head.max(self.segments[0].first());
            self.write_state()?;
        }
        self.remove_acknowledged()
    }

    fn begin_segment(&mut self) -> Result<(), SpoolError> {
        // What is sealed is never synced again.
        self.tail().sync()?;
        let next = self.tail().end();
        let fresh = Segment::create(&self.directory, next)?;
        // An empty one has the name of its successor and is replaced by it.
        if self.tail().count() == 0 {
            self.segments.pop();
        }
        self.segments.push(fresh);
        Ok(())
    }

    /// Drops the oldest segments until `needed` more bytes are below the cap.
    fn make_room(&mut self, needed: u64) -> Result<(), SpoolError> {
        while self.bytes() + needed > self.options.max_bytes {
            if self.segments.len() == 1 {
                if self.tail().count() == 0 {
                    return Ok(());
                }
                self.begin_segment()?;
            }
            let oldest = &self.segments[0];
            let lost = oldest
                .readable_end()
                .saturating_sub(oldest.first().max(self.state.head));
            let head = oldest.end().max(self.state.head);
            // The count first: after a crash between the two the records are
            // below the head and go, counted once.
            self.state.dropped += lost;
            self.state.head = head;
            self.write_state()?;
            self.remove_acknowledged()?;
        }
        Ok(())
    }

    fn remove_acknowledged(&mut self) -> Result<(), SpoolError> {
        while self.segments.len() > 1 && self.segments[0].end() <= self.state.head {
            self.segments[0].remove()?;
            let gone = self.segments.remove(0);
            // Written with the next state; until then it names nothing.
            self.state.damage.remove(&gone.first());
        }
        Ok(())
    }

    fn write_state(&self) -> Result<(), SpoolError> {
        let json = serde_json::to_vec(&self.state).expect("two numbers are always JSON");
        fs::write_atomic(&self.directory.join(STATE_FILE), &json, 0o600)?;
        Ok(())
    }
}

fn lock(directory: &Path) -> Result<File, SpoolError> {
    let lock = fs::try_lock(&directory.join(LOCK_FILE), 0o600)?;
    lock.ok_or_else(|| SpoolError::Locked(directory.to_owned()))
}

/// A state that is missing or unreadable costs repetition, not records: all
/// that is there is handed out again.
fn read_state(path: &Path) -> Result<State, SpoolError> {
    match fs::read_limited(path, MAX_STATE_BYTES) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            log::warn!("{} is damaged, records may repeat: {error}", path.display());
            State::default()
        })),
        Err(error) if error.is_not_found() => Ok(State::default()),
        Err(error) if error.source.kind() == io::ErrorKind::FileTooLarge => Ok(State::default()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
