//! One file of reports, with its index and its marks beside it.
//!
//! While it is written to (`tail`) the index is in memory; then it is sealed. When the archive is too
//! large the reports go and their ids stay, so that who asks for one is told that it is gone.
//!
//! The one rule: the index can always be made again from the file.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bootagent_kit::date::Date;
use bootagent_kit::fs::{self, FsError};
use uuid::Uuid;

use super::frame::{self, Frame, Kind};
use super::marks::{self, Marks};
use super::summary::Summary;

pub(super) const REPORTS: &str = "seg";
const INDEX: &str = "idx";
const MARKS: &str = "marks";
pub(super) const GONE: &str = "gone";
/// Largest file that is read at once: a segment, one batch beyond its bound included.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Where a report lies.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) summary: Summary,
    /// Its frame: from where on, and how long.
    pub(super) at: u64,
    pub(super) length: u32,
}

/// What is known of a file without reading it.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) folder: PathBuf,
    pub(super) number: u64,
    pub(super) day: Date,
    /// Of all its files.
    pub(super) bytes: u64,
    pub(super) count: u64,
    /// Reports the platform does not have.
    pub(super) pending: u64,
    /// The least id and the greatest.
    pub(super) ids: (Uuid, Uuid),
    /// Whether only the ids are left.
    pub(super) is_gone: bool,
}

impl Segment {
    pub(super) fn new(folder: PathBuf, number: u64, day: Date) -> Self {
        Self {
            folder,
            number,
            day,
            bytes: 0,
            count: 0,
            pending: 0,
            ids: (Uuid::max(), Uuid::nil()),
            is_gone: false,
        }
    }

    pub(super) fn path(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{:010}.{suffix}", self.number))
    }

    pub(super) fn marks_path(&self) -> PathBuf {
        self.path(MARKS)
    }

    pub(super) fn may_hold(&self, id: &Uuid) -> bool {
        (self.ids.0..=self.ids.1).contains(id)
    }

    /// Takes note of what is in it.
    pub(super) fn count_in(&mut self, entries: &[Entry], marks: &Marks) {
        self.count = entries.len() as u64;
        let ids = || entries.iter().map(|it| it.summary.id);
        self.pending = ids().filter(|id| marks.is_pending(id)).count() as u64;
        self.ids = ids().fold((Uuid::max(), Uuid::nil()), |(least, most), id| {
            (least.min(id), most.max(id))
        });
    }

    /// Writes the index of a file that is complete.
    pub(super) fn seal(&mut self, entries: &[Entry]) -> Result<(), FsError> {
        let mut bytes = Vec::new();
        for entry in entries {
            let head = serde_json::to_vec(&entry.summary).expect("a summary is always JSON");
            let mut body = entry.at.to_le_bytes().to_vec();
            body.extend(entry.length.to_le_bytes());
            let frame = Frame {
                kind: Kind::Index,
                head: &head,
                body: &body,
            };
            // It fitted when the report itself was written.
            let _ = frame.append_to(&mut bytes);
        }
        fs::write_atomic(&self.path(INDEX), &bytes, 0o640)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.path(INDEX).exists()
    }

    /// The index of a complete file; made again where it cannot be read.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, FsError> {
        let path = self.path(INDEX);
        match fs::read_limited(&path, MAX_BYTES) {
            Ok(bytes) => {
                let scan = frame::scan(&bytes);
                if scan.end == bytes.len() && scan.damaged == 0 {
                    let frames = scan.frames.iter();
                    return Ok(frames.filter_map(|(_, it)| entry_of_index(it)).collect());
                }
                log::warn!("{} is damaged and made again", path.display());
            }
            // Forgotten while somebody reads it; an index made again would stay for ever.
            Err(error) if !error.is_not_found() || self.path(GONE).exists() => return Err(error),
            Err(_) => {}
        }
        let entries = self.entries_of_reports()?;
        if let Err(error) = self.clone().seal(&entries) {
            log::warn!("the file has no index meanwhile: {error}");
        }
        Ok(entries)
    }

    /// What the file itself says is in it.
    fn entries_of_reports(&self) -> Result<Vec<Entry>, FsError> {
        let bytes = self.read()?;
        let scan = frame::scan(&bytes);
        Ok(scan
            .frames
            .iter()
            .filter_map(|(at, it)| entry_of_report(*at, it))
            .collect())
    }

    pub(super) fn read(&self) -> Result<Vec<u8>, FsError> {
        fs::read_limited(&self.path(REPORTS), MAX_BYTES)
    }

    pub(super) fn marks(&self) -> Result<Marks, FsError> {
        marks::read(&self.marks_path())
    }

    /// The JSON of a report; none when the disk has changed it.
    pub(super) fn report(&self, entry: &Entry) -> Result<Option<Vec<u8>>, FsError> {
        let path = self.path(REPORTS);
        let fail = |e| FsError::new("read", &path, e);
        let mut bytes = vec![0; entry.length as usize];
        let file = File::open(&path).map_err(fail)?;
        if let Err(error) = file.read_exact_at(&mut bytes, entry.at) {
            return match error.kind() {
                std::io::ErrorKind::UnexpectedEof => Ok(None),
                _ => Err(fail(error)),
            };
        }
        let frame = frame::decode(&bytes).filter(|it| it.kind == Kind::Report);
        Ok(frame.map(|it| it.body.to_vec()))
    }

    /// Bytes of its files.
    pub(super) fn measure(&self) -> u64 {
        let length = |suffix| std::fs::metadata(self.path(suffix)).map_or(0, |it| it.len());
        [REPORTS, INDEX, MARKS, GONE].into_iter().map(length).sum()
    }

    /// Lets the reports go and keeps the index, which needs no room on a full disk. What a crash leaves
    /// of it is done at the next start.
    pub(super) fn forget(&mut self) -> Result<(), FsError> {
        let (index, gone) = (self.path(INDEX), self.path(GONE));
        std::fs::rename(&index, &gone).map_err(|e| FsError::new("rename", &index, e))?;
        self.remove_reports()?;
        self.is_gone = true;
        self.pending = 0;
        self.bytes = self.measure();
        Ok(())
    }

    /// Removes what a forgotten file leaves.
    pub(super) fn remove_reports(&self) -> Result<(), FsError> {
        for suffix in [REPORTS, INDEX, MARKS] {
            remove(&self.path(suffix))?;
        }
        fs::sync_dir(&self.folder)
    }

    /// The ids of reports that are gone, as far as they can be read.
    pub(super) fn gone_ids(&self) -> Result<Vec<Uuid>, FsError> {
        let bytes = fs::read_limited(&self.path(GONE), MAX_BYTES)?;
        let frames = frame::scan(&bytes).frames;
        let entries = frames.iter().filter_map(|(_, it)| entry_of_index(it));
        Ok(entries.map(|it| it.summary.id).collect())
    }
}

pub(super) fn remove(path: &Path) -> Result<(), FsError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FsError::new("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Where a report lies, of its own frame.
pub(super) fn entry_of_report(at: usize, frame: &Frame<'_>) -> Option<Entry> {
    if frame.kind != Kind::Report {
        return None;
    }
    Some(Entry {
        summary: serde_json::from_slice(frame.head).ok()?,
        at: at as u64,
        length: u32::try_from(frame.stored()).ok()?,
    })
}

fn entry_of_index(frame: &Frame<'_>) -> Option<Entry> {
    let (at, length) = frame.body.split_at_checked(8)?;
    Some(Entry {
        summary: serde_json::from_slice(frame.head).ok()?,
        at: u64::from_le_bytes(at.try_into().ok()?),
        length: u32::from_le_bytes(length.try_into().ok()?),
    })
}
