//! Where reports are kept: by date, for weeks, whether or not there is a platform.
//!
//! `reports/YYYY-MM-DD/` in the state directory holds append-only files of reports (`segment`), each
//! with an index once it is complete. A batch of reports costs one sync. What is accepted is written
//! down before its caller hears of it and is carried from file to file until it ends, so that the next
//! start finds what a crash interrupted by looking into one file.
//!
//! While the disk is full nothing is accepted; what ends is kept in memory, so far as there is room,
//! and written once it can be.
//!
//! The one rule: an id that was accepted ends in one report.

mod caps;
mod frame;
mod marks;
mod open;
pub mod query;
pub mod reader;
mod room;
mod segment;
pub mod summary;
mod tail;
pub mod thread;
pub mod upload;

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::path::PathBuf;

use bootagent_kit::date::Date;
use bootagent_kit::fs::FsError;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::report::Report;
use frame::{Frame, Kind, MAX_BODY};
use query::{Page, Query};
use reader::Reader;
use segment::{Entry, Segment};
use summary::Summary;
use tail::{Open, Tail};

/// Most reports that are kept in memory while the disk takes none.
const MAX_UNWRITTEN: usize = 256;

/// How large the archive may become.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Size from which on a new file is begun: what goes at once when a cap is reached.
    pub segment_bytes: u64,
    /// Cap of all files together, in bytes.
    pub max_bytes: u64,
    /// Days reports are kept at most.
    pub max_days: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 2 * 1024 * 1024,
            max_bytes: 512 * 1024 * 1024,
            max_days: 90,
        }
    }
}

/// Why the archive could not do something.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file operation failed.
    #[error("the archive cannot go on")]
    File(#[from] FsError),
    /// Another mtr-prober has it open.
    #[error("{} is in use; stop the other mtr-prober", .0.display())]
    Locked(PathBuf),
    /// A report is larger than any may be.
    #[error("a report of {0} bytes does not fit, {MAX_BODY} are allowed; ask for a smaller count")]
    TooLarge(usize),
}

/// What is to be written.
#[derive(Debug, Clone, Copy)]
pub enum Write<'a> {
    /// A measurement was accepted: its report so far.
    Accepted(&'a Report),
    /// It ended.
    Ended(&'a Report),
}

/// What became of an id.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// It ended in this.
    Report(Box<Report>),
    /// It was accepted and has not ended.
    Open,
    /// It ended, and its report was removed, dropped or is too old.
    Gone,
    /// It ended, and the disk has damaged its report.
    Damaged,
    /// Nobody knows it.
    Unknown,
}

/// How the archive is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Reports that can be read.
    pub reports: u64,
    /// Of them, those the platform does not have.
    pub pending: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Batches that were synced since the start.
    pub syncs: u64,
    /// Reports that wait in memory for room on the disk.
    pub unwritten: u64,
    /// Why they do.
    pub trouble: Option<String>,
    /// What was lost and dropped since the archive was made.
    #[serde(flatten)]
    pub kept: Kept,
}

/// What outlives a restart besides the files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Reports dropped by a cap that the platform did not have.
    pub dropped: u64,
    /// Reports dropped by a cap that it had.
    pub dropped_uploaded: u64,
    /// Bytes cut off a torn end.
    pub torn_bytes: u64,
    /// Reports and places that the disk has damaged.
    pub damaged: u64,
    /// Reports that ended while the disk was full and found no room in memory.
    pub lost: u64,
    /// Of days before this one even the ids are forgotten, unix seconds.
    pub horizon: i64,
}

/// The open archive; locked until it is dropped.
#[derive(Debug)]
pub struct Archive {
    directory: PathBuf,
    options: Options,
    /// Complete files, oldest first.
    segments: Vec<Segment>,
    tail: Tail,
    open: Open,
    /// The newest ids there are, a few.
    newest: BTreeSet<Uuid>,
    unwritten: VecDeque<Report>,
    kept: Kept,
    syncs: u64,
    trouble: Option<String>,
    lock: File,
}

/// Where a report lies, and whether it was removed there.
struct Place<'a> {
    segment: &'a Segment,
    entry: Entry,
    is_removed: bool,
}

impl Drop for Archive {
    fn drop(&mut self) {
        // Closing would do, were it not for children: one that another thread
        // has just forked shares the lock until its exec.
        let _ = self.lock.unlock();
    }
}

impl Archive {
    /// Writes a batch with one sync; all of it survives a power cut when this returns. On an error
    /// nothing was accepted, and what ended waits in memory.
    pub fn commit(&mut self, batch: &[Write<'_>], now_ms: i64) -> Result<(), ArchiveError> {
        let today = Date::of_unix(now_ms.div_euclid(1000));
        self.roll(today);
        let mut written = self.write(batch);
        if let Err(ArchiveError::File(error)) = &written
            && error.is_no_space()
            && self.make_room()
        {
            written = self.write(batch);
        }
        match written {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    log::info!("reports are written again");
                }
                self.enforce_caps(today);
                Ok(())
            }
            Err(error) => {
                let said = format!("{:#}", chain(&error));
                if self.trouble.as_ref() != Some(&said) {
                    log::error!("reports wait in memory: {said}");
                }
                self.trouble = Some(said);
                for it in batch {
                    if let Write::Ended(report) = it {
                        self.put_off(report);
                    }
                }
                Err(error)
            }
        }
    }

    /// Writes what waits in memory, if something does; whether nothing does any more.
    pub fn mend(&mut self, now_ms: i64) -> bool {
        self.unwritten.is_empty() || self.commit(&[], now_ms).is_ok()
    }

    /// Other caps from now on.
    pub fn cap(&mut self, options: Options, now_ms: i64) {
        self.options = options;
        self.enforce_caps(Date::of_unix(now_ms.div_euclid(1000)));
    }

    /// What became of an id.
    pub fn lookup(&self, id: &Uuid) -> Result<Lookup, ArchiveError> {
        if let Some(report) = self.unwritten.iter().find(|it| it.id == *id) {
            return Ok(Lookup::Report(Box::new(report.clone())));
        }
        let Some(place) = self.place(id)? else {
            return Ok(match self.open.contains_key(id) {
                true => Lookup::Open,
                false if self.is_gone(id)? => Lookup::Gone,
                false => Lookup::Unknown,
            });
        };
        if place.is_removed {
            return Ok(Lookup::Gone);
        }
        let json = place.segment.report(&place.entry)?;
        let report = json.and_then(|json| serde_json::from_slice(&json).ok());
        Ok(report.map_or(Lookup::Damaged, Lookup::Report))
    }

    /// The reports that match, newest first.
    pub fn query(&self, query: &Query) -> Result<Page, ArchiveError> {
        self.reader().query(query)
    }

    /// What is in the archive now, to be read on another thread: a long query holds up no writes.
    #[must_use]
    pub fn reader(&self) -> Reader {
        let kept = |it: &&Entry| !self.tail.marks.removed.contains(&it.summary.id);
        let newest = self
            .tail
            .entries
            .iter()
            .filter(kept)
            .map(|it| it.summary.clone());
        Reader {
            segments: self
                .segments
                .iter()
                .filter(|it| !it.is_gone)
                .cloned()
                .collect(),
            newest: newest
                .chain(self.unwritten.iter().map(Summary::of))
                .collect(),
        }
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        let held = || self.segments.iter().filter(|it| !it.is_gone);
        Status {
            reports: held().map(|it| it.count).sum::<u64>() + self.tail.segment.count,
            pending: held().map(|it| it.pending).sum::<u64>() + self.tail.segment.pending,
            bytes: self.bytes(),
            syncs: self.syncs,
            unwritten: self.unwritten.len() as u64,
            trouble: self.trouble.clone(),
            kept: self.kept.clone(),
        }
    }

    fn write(&mut self, batch: &[Write<'_>]) -> Result<(), ArchiveError> {
        let mut bytes = Vec::new();
        let mut entries = Vec::new();
        let mut opened: Vec<(Uuid, Vec<u8>)> = Vec::new();
        for report in self.unwritten.iter() {
            append(report, &mut bytes, &mut entries)?;
        }
        for it in batch {
            match it {
                Write::Accepted(report) => {
                    let body = json(report)?;
                    let _ = tail::accepted(&body).append_to(&mut bytes);
                    opened.push((report.id, body));
                }
                Write::Ended(report) => append(report, &mut bytes, &mut entries)?,
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.tail.write(&bytes, &entries)?;
        self.syncs += 1;
        self.unwritten.clear();
        self.open.extend(opened);
        for entry in &entries {
            self.open.remove(&entry.summary.id);
            self.note_newest(entry.summary.id);
        }
        Ok(())
    }

    /// Keeps a report in memory until the disk takes it.
    fn put_off(&mut self, report: &Report) {
        if self.unwritten.len() >= MAX_UNWRITTEN {
            self.unwritten.pop_front();
            self.kept.lost += 1;
        }
        self.unwritten.push_back(report.clone());
    }

    /// Begins a new file when the day is another or the file is full. Where that cannot be, the old
    /// one is written on.
    fn roll(&mut self, today: Date) {
        let is_full = self.tail.is_full(self.options.segment_bytes);
        // A clock that was set back does not go back to a former day.
        if !is_full && today <= self.tail.segment.day {
            return;
        }
        let day = today.max(self.tail.segment.day);
        let number = self.tail.segment.number + 1;
        match Tail::create(&self.directory, number, day, &self.open) {
            Ok(fresh) => {
                let former = std::mem::replace(&mut self.tail, fresh);
                if let Err(error) = self.complete(former) {
                    log::warn!("an index is made at the next start: {:#}", chain(&error));
                }
            }
            Err(error) => log::warn!("no new file for reports: {:#}", chain(&error.into())),
        }
    }

    /// Seals a file that is not written to any more. Without a report it goes.
    fn complete(&mut self, former: Tail) -> Result<(), ArchiveError> {
        let Tail {
            mut segment,
            entries,
            ..
        } = former;
        if entries.is_empty() {
            segment.remove_reports()?;
            // The day may have had nothing else.
            let _ = std::fs::remove_dir(&segment.folder);
            return Ok(());
        }
        let sealed = segment.seal(&entries);
        segment.bytes = segment.measure();
        self.segments.push(segment);
        Ok(sealed?)
    }

    fn note_newest(&mut self, id: Uuid) {
        self.newest.insert(id);
        if self.newest.len() > upload::FIRST {
            self.newest.pop_first();
        }
    }

    /// Where a report lies.
    fn place(&self, id: &Uuid) -> Result<Option<Place<'_>>, ArchiveError> {
        if let Some(entry) = self.tail.entry(id) {
            return Ok(Some(Place {
                segment: &self.tail.segment,
                entry: entry.clone(),
                is_removed: self.tail.marks.removed.contains(id),
            }));
        }
        let Some((index, entry)) = self.find(id)? else {
            return Ok(None);
        };
        let segment = &self.segments[index];
        let is_removed = segment.marks()?.removed.contains(id);
        Ok(Some(Place {
            segment,
            entry,
            is_removed,
        }))
    }

    /// Where it lies among the complete files.
    fn find(&self, id: &Uuid) -> Result<Option<(usize, Entry)>, ArchiveError> {
        for (index, segment) in self.segments.iter().enumerate().rev() {
            if segment.is_gone || !segment.may_hold(id) {
                continue;
            }
            let entry = segment
                .entries()?
                .into_iter()
                .find(|it| it.summary.id == *id);
            if let Some(entry) = entry {
                return Ok(Some((index, entry)));
            }
        }
        Ok(None)
    }

    /// The JSON of a report that is there and whole.
    fn json(&self, id: &Uuid) -> Result<Option<Vec<u8>>, ArchiveError> {
        match self.place(id)? {
            Some(place) if !place.is_removed => Ok(place.segment.report(&place.entry)?),
            _ => Ok(None),
        }
    }

    fn is_gone(&self, id: &Uuid) -> Result<bool, ArchiveError> {
        for segment in self
            .segments
            .iter()
            .filter(|it| it.is_gone && it.may_hold(id))
        {
            if segment.gone_ids()?.contains(id) {
                return Ok(true);
            }
        }
        let seconds = (id.as_u128() >> 80) / 1000;
        Ok(id.get_version_num() == 7 && seconds < u128::try_from(self.kept.horizon).unwrap_or(0))
    }
}

fn append(
    report: &Report,
    bytes: &mut Vec<u8>,
    entries: &mut Vec<Entry>,
) -> Result<(), ArchiveError> {
    let summary = Summary::of(report);
    let head = serde_json::to_vec(&summary).expect("a summary is always JSON");
    let body = match json(report) {
        // It must end in something, and must not keep others from it.
        Err(ArchiveError::TooLarge(length)) => json(&Report {
            parts: Vec::new(),
            timeline: Vec::new(),
            problem: Some(format!(
                "the report of {length} bytes was too large to be kept"
            )),
            ..report.clone()
        })?,
        fitting => fitting?,
    };
    let frame = Frame {
        kind: Kind::Report,
        head: &head,
        body: &body,
    };
    let at = bytes.len() as u64;
    frame
        .append_to(bytes)
        .ok_or(ArchiveError::TooLarge(head.len()))?;
    entries.push(Entry {
        summary,
        at,
        length: u32::try_from(frame.stored()).expect("bounded by the frame"),
    });
    Ok(())
}

fn json(report: &Report) -> Result<Vec<u8>, ArchiveError> {
    let json = serde_json::to_vec(report).expect("a report is always JSON");
    match json.len() > MAX_BODY {
        true => Err(ArchiveError::TooLarge(json.len())),
        false => Ok(json),
    }
}

/// An error with its causes, for a line of the log.
fn chain(error: &ArchiveError) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        said += &format!(": {error}");
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests;
