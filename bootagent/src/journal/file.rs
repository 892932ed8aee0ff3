//! The file below the journal: `crc32 json` per line, appended and synced.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bootagent_kit::fs::{self, FsError};
use bootagent_protocol::{Event, Job, JobResult};
use serde::{Deserialize, Serialize};

/// The one file, in the journal's folder.
const FILE_NAME: &str = "journal";
/// The file is written anew once it is this large and has doubled since.
const REWRITE_BYTES: u64 = 1 << 20;
/// A larger file is not ours to read.
const MAX_BYTES: u64 = 64 << 20;

/// Why the journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file or its folder.
    #[error("the journal cannot be kept")]
    File(#[from] FsError),
    /// Appending failed; the file is as it was before.
    #[error("appending to {}", path.display())]
    Append {
        /// The journal's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    Job {
        id: String,
        digest: String,
        job: Box<Job>,
        server: String,
    },
    Step {
        id: String,
        step: String,
    },
    Outcome {
        digest: String,
        result: JobResult,
    },
    Acknowledged {
        results: Vec<String>,
        events: Vec<(String, u64)>,
    },
    Event(Event),
    Sequence {
        boot_id: String,
        next: u64,
    },
}

#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    file: std::fs::File,
    bytes: u64,
    bytes_after_rewrite: u64,
}

impl File {
    pub(super) fn open(folder: &Path) -> Result<(Self, Vec<Record>, Option<String>), JournalError> {
        fs::ensure_dir(folder, 0o700)?;
        let path = folder.join(FILE_NAME);
        let content = match fs::read_limited(&path, MAX_BYTES) {
            Err(error) if error.is_not_found() => Vec::new(),
            other => other?,
        };
        let (records, good_bytes) = parse(&content);
        let damage = content.get(good_bytes..).filter(|rest| !rest.is_empty());
        let damage = damage.map(|rest| set_aside(folder, rest));
        let append = |source| JournalError::Append {
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(append)?;
        let bytes = good_bytes as u64;
        file.set_len(bytes).map_err(append)?;
        file.seek(SeekFrom::Start(bytes)).map_err(append)?;
        fs::sync_dir(folder)?;
        Ok((
            Self {
                path,
                file,
                bytes,
                bytes_after_rewrite: bytes,
            },
            records,
            damage,
        ))
    }

    /// Appends and syncs. After a failure (a full disk) the file is cut back,
    /// so that a torn line never stands before a good one.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        let line = line(record);
        let written = self
            .file
            .write_all(&line)
            .and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            let _ = self.file.set_len(self.bytes);
            let _ = self.file.seek(SeekFrom::Start(self.bytes));
            return Err(JournalError::Append {
                path: self.path.clone(),
                source,
            });
        }
        self.bytes += line.len() as u64;
        Ok(())
    }

    pub(super) fn is_large(&self) -> bool {
        self.bytes > REWRITE_BYTES && self.bytes > 2 * self.bytes_after_rewrite
    }

    pub(super) fn rewrite(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let content: Vec<u8> = records.iter().flat_map(line).collect();
        fs::write_atomic(&self.path, &content, 0o600)?;
        let append = |source| JournalError::Append {
            path: self.path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .write(true)
            .open(&self.path)
            .map_err(append)?;
        self.bytes = file.seek(SeekFrom::End(0)).map_err(append)?;
        self.bytes_after_rewrite = self.bytes;
        self.file = file;
        Ok(())
    }
}

/// What a journal's file holds, looked at without opening the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspection {
    /// Records that can be read.
    pub records: usize,
    /// Bytes after the last of them.
    pub damaged_bytes: usize,
}

/// Looks at the journal in `folder` and changes nothing; `None` when there is
/// none.
pub fn inspect(folder: &Path) -> Result<Option<Inspection>, JournalError> {
    let content = match fs::read_limited(&folder.join(FILE_NAME), MAX_BYTES) {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    let (records, good_bytes) = parse(&content);
    let damaged_bytes = content.len() - good_bytes;
    Ok(Some(Inspection {
        records: records.len(),
        damaged_bytes,
    }))
}

fn line(record: &Record) -> Vec<u8> {
    let json = serde_json::to_string(record).expect("records have string keys only");
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes()
}

/// The records up to the first bad line, and how many bytes they take.
fn parse(content: &[u8]) -> (Vec<Record>, usize) {
    let mut records = Vec::new();
    let mut good = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let Some(record) = parse_line(line) else {
            break;
        };
        records.push(record);
        good += line.len();
    }
    (records, good)
}

fn parse_line(line: &[u8]) -> Option<Record> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (crc, json) = text.split_once(' ')?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    if crc != crc32fast::hash(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

/// Keeps what cannot be read, for a person to look at.
fn set_aside(folder: &Path, rest: &[u8]) -> String {
    let path = folder.join("journal.damaged");
    let kept = match fs::write_atomic(&path, rest, 0o600) {
        Ok(()) => format!("kept in {}", path.display()),
        Err(error) => format!("lost: {error}"),
    };
    format!(
        "the last {} bytes of the journal were damaged and are {kept}",
        rest.len()
    )
}
