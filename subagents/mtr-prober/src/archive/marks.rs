//! What became of single reports of a file: uploaded, or removed by order.
//!
//! A small file beside it, 21 bytes a mark: a letter, the id, a CRC-32. Reports themselves are never
//! rewritten.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bootagent_kit::fs::{self, FsError};
use uuid::Uuid;

/// Bytes of a mark.
const BYTES: usize = 21;
/// Largest file of marks; there is at most one of each kind for a report.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Uploaded,
    Removed,
}

/// The marks of one file.
#[derive(Debug, Default, Clone)]
pub(super) struct Marks {
    pub(super) uploaded: HashSet<Uuid>,
    pub(super) removed: HashSet<Uuid>,
}

impl Marks {
    /// Whether the platform is still to get it.
    pub(super) fn is_pending(&self, id: &Uuid) -> bool {
        !self.uploaded.contains(id) && !self.removed.contains(id)
    }
}

/// Reads marks; none where there is no file. A torn end is none, and is written over.
pub(super) fn read(path: &Path) -> Result<Marks, FsError> {
    let bytes = match fs::read_limited(path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut marks = Marks::default();
    for mark in bytes.chunks_exact(BYTES) {
        let sum = crc32fast::hash(&mark[..17]).to_le_bytes();
        let (Ok(id), true) = (Uuid::from_slice(&mark[1..17]), sum == mark[17..]) else {
            continue;
        };
        match mark[0] {
            b'u' => drop(marks.uploaded.insert(id)),
            b'r' => drop(marks.removed.insert(id)),
            _ => {}
        }
    }
    Ok(marks)
}

/// Adds marks; they survive a power cut when this returns.
pub(super) fn add(path: &Path, mark: Mark, ids: &[Uuid]) -> Result<(), FsError> {
    let fail = |operation| move |e| FsError::new(operation, path, e);
    let is_new = !path.exists();
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .map_err(fail("open"))?;
    let length = file.metadata().map_err(fail("open"))?.len();
    // Marks lie on a grid, so that a torn one spoils no other.
    let whole = length - length % BYTES as u64;
    if whole < length {
        file.set_len(whole).map_err(fail("truncate"))?;
    }
    let mut bytes = Vec::with_capacity(ids.len() * BYTES);
    for id in ids {
        let from = bytes.len();
        bytes.push(match mark {
            Mark::Uploaded => b'u',
            Mark::Removed => b'r',
        });
        bytes.extend(id.as_bytes());
        let sum = crc32fast::hash(&bytes[from..]);
        bytes.extend(sum.to_le_bytes());
    }
    let written = file.write_all(&bytes).and_then(|()| file.sync_data());
    if let Err(error) = written {
        let _ = file.set_len(whole);
        return Err(FsError::new("append to", path, error));
    }
    if is_new {
        fs::sync_dir(fs::parent_of(path))?;
    }
    Ok(())
}
