//! The file that is written to.
//!
//! The one rule: a batch is in it as a whole, synced once, or not at all.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bootagent_kit::date::Date;
use bootagent_kit::fs::{self, FsError};
use uuid::Uuid;

use super::frame::{self, Frame, Kind};
use super::marks::Marks;
use super::segment::{Entry, REPORTS, Segment, entry_of_report};

/// Measurements that were accepted and have not ended: what their report is so far, as JSON.
pub(super) type Open = BTreeMap<Uuid, Vec<u8>>;

#[derive(Debug)]
pub(super) struct Tail {
    pub(super) segment: Segment,
    pub(super) entries: Vec<Entry>,
    pub(super) marks: Marks,
    file: File,
    /// What is whole of it; the next batch is written there.
    bytes: u64,
    /// What it began with.
    carried: u64,
}

/// What was found when a tail was opened.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) open: Open,
    /// Bytes cut off its end.
    pub(super) torn: u64,
    /// Places within it that are damaged.
    pub(super) damaged: u64,
}

impl Tail {
    /// Begins a file. What is still open is in it from its first moment, so that nobody needs to look
    /// into an older one.
    pub(super) fn create(
        directory: &Path,
        number: u64,
        day: Date,
        open: &Open,
    ) -> Result<Self, FsError> {
        let folder = directory.join(day.to_string());
        fs::ensure_dir(&folder, 0o750)?;
        let segment = Segment::new(folder, number, day);
        let mut bytes = Vec::new();
        for body in open.values() {
            let _ = accepted(body).append_to(&mut bytes);
        }
        let file = fs::write_atomic_open(&segment.path(REPORTS), &bytes, 0o640)?;
        Ok(Self {
            segment,
            entries: Vec::new(),
            marks: Marks::default(),
            file,
            bytes: bytes.len() as u64,
            carried: bytes.len() as u64,
        })
    }

    /// Opens the one a former process wrote to, its torn end cut off.
    pub(super) fn open(mut segment: Segment) -> Result<(Self, Found), FsError> {
        let path = segment.path(REPORTS);
        let fail = |operation| {
            let path = path.clone();
            move |e| FsError::new(operation, &path, e)
        };
        let bytes = segment.read()?;
        let scan = frame::scan(&bytes);
        let mut found = Found {
            torn: (bytes.len() - scan.end) as u64,
            damaged: scan.damaged,
            ..Found::default()
        };
        let mut entries = Vec::new();
        for (at, frame) in &scan.frames {
            if let Some(entry) = entry_of_report(*at, frame) {
                found.open.remove(&entry.summary.id);
                entries.push(entry);
            } else if let Some(id) = id_of(frame) {
                found.open.insert(id, frame.body.to_vec());
            }
        }
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(fail("open"))?;
        if found.torn > 0 {
            file.set_len(scan.end as u64).map_err(fail("truncate"))?;
        }
        let marks = segment.marks()?;
        segment.count_in(&entries, &marks);
        let tail = Self {
            segment,
            entries,
            marks,
            file,
            bytes: scan.end as u64,
            carried: 0,
        };
        Ok((tail, found))
    }

    /// Writes a batch and syncs it. On an error the file is as it was.
    pub(super) fn write(&mut self, batch: &[u8], entries: &[Entry]) -> Result<(), FsError> {
        let written = self.file.write_all_at(batch, self.bytes);
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // Where even this fails the next batch is written over it, and what is left is cut off at
            // the next start.
            let _ = self.file.set_len(self.bytes);
            return Err(FsError::new("write to", &self.segment.path(REPORTS), error));
        }
        for entry in entries {
            self.entries.push(Entry {
                at: self.bytes + entry.at,
                ..entry.clone()
            });
        }
        self.bytes += batch.len() as u64;
        if !entries.is_empty() {
            self.segment.count_in(&self.entries, &self.marks);
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is time for the next one; what was carried over would fill that one too.
    pub(super) fn is_full(&self, bytes: u64) -> bool {
        self.segment.count > 0 && self.bytes - self.carried.min(self.bytes) >= bytes
    }

    pub(super) fn entry(&self, id: &Uuid) -> Option<&Entry> {
        self.entries.iter().rfind(|it| it.summary.id == *id)
    }
}

/// A frame that says that a measurement was accepted.
pub(super) fn accepted(body: &[u8]) -> Frame<'_> {
    Frame {
        kind: Kind::Accepted,
        head: b"",
        body,
    }
}

fn id_of(frame: &Frame<'_>) -> Option<Uuid> {
    #[derive(serde::Deserialize)]
    struct Id {
        id: Uuid,
    }
    serde_json::from_slice::<Id>(frame.body)
        .ok()
        .map(|it| it.id)
}
