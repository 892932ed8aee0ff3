//! The file below the journal: `crc32 json` per line, appended and synced.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
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
    /// Appending failed. The record is not in the file.
    #[error("appending to {}", path.display())]
    Append {
        /// The journal's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No server has taken the results of the jobs before.
    #[error(
        "{jobs} jobs of {bytes} bytes have not ended or were not acknowledged yet; it is taken \
         when there are fewer"
    )]
    Full {
        /// How many.
        jobs: usize,
        /// And how large.
        bytes: usize,
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
    /// `None` once the file may lack what is in memory, or may end in half a
    /// line: then nothing is appended before it is written anew.
    file: Option<std::fs::File>,
    bytes: u64,
    bytes_after_rewrite: u64,
}

/// What was found when the file was opened.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) records: Vec<Record>,
    /// What could not be read, in words.
    pub(super) damage: Option<String>,
}

impl File {
    /// Reads the file. One that is damaged or cannot be written is not
    /// appended to until it was written anew.
    pub(super) fn open(folder: &Path) -> Result<Opened, JournalError> {
        fs::ensure_dir(folder, 0o700)?;
        let path = folder.join(FILE_NAME);
        let content = match fs::read_limited(&path, MAX_BYTES) {
            Err(error) if error.is_not_found() => Vec::new(),
            other => other?,
        };
        let parsed = parse(&content);
        let damage = (!parsed.damaged.is_empty()).then(|| set_aside(folder, &content, &parsed));
        let appended_to = || {
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(&path)
                .ok()?;
            fs::sync_dir(folder).ok()?;
            let end = file.seek(SeekFrom::End(0)).ok()?;
            (end == content.len() as u64).then_some(file)
        };
        let file = match damage {
            None => appended_to(),
            Some(_) => None,
        };
        let file = Self {
            path,
            file,
            bytes: content.len() as u64,
            // What is worth keeping of it is not known yet: a large one is
            // written anew soon, or it would grow from restart to restart.
            bytes_after_rewrite: 0,
        };
        Ok(Opened {
            file,
            records: parsed.records,
            damage,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it holds all that was appended, and can take more.
    pub(super) fn is_sound(&self) -> bool {
        self.file.is_some()
    }

    /// Appends and syncs. After a failure (a full disk) the file is cut back
    /// as well as it goes, and has to be written anew.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), JournalError> {
        let line = line(record);
        let file = self
            .file
            .as_mut()
            .ok_or_else(|| std::io::Error::other("not written anew yet"));
        let written = file.and_then(|file| {
            let written = file.write_all(&line).and_then(|()| file.sync_data());
            if written.is_err() {
                let _ = file.set_len(self.bytes).and_then(|()| file.sync_data());
            }
            written
        });
        if let Err(source) = written {
            self.file = None;
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

    /// Puts a file of these records in its place. What is appended next goes
    /// into the very file that was renamed: to open it again could fail, and
    /// then a file without a name would be appended to.
    pub(super) fn rewrite(
        &mut self,
        records: impl Iterator<Item = Record>,
    ) -> Result<(), JournalError> {
        let content: Vec<u8> = records.flat_map(|record| line(&record)).collect();
        // A failure may come before or after the rename.
        self.file = None;
        self.file = Some(fs::write_atomic_open(&self.path, &content, 0o600)?);
        self.bytes = content.len() as u64;
        self.bytes_after_rewrite = self.bytes;
        Ok(())
    }
}

/// What a journal's file holds, looked at without opening the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspection {
    /// Records that can be read.
    pub records: usize,
    /// Bytes that cannot.
    pub damaged_bytes: usize,
}

/// Looks at the journal in `folder` and changes nothing; `None` when there is
/// none.
pub fn inspect(folder: &Path) -> Result<Option<Inspection>, JournalError> {
    let content = match fs::read_limited(&folder.join(FILE_NAME), MAX_BYTES) {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    let parsed = parse(&content);
    Ok(Some(Inspection {
        records: parsed.records.len(),
        damaged_bytes: parsed.damaged.iter().map(ExactSizeIterator::len).sum(),
    }))
}

/// Bytes `record` takes in the file.
pub(super) fn length(record: &Record) -> usize {
    line(record).len()
}

fn line(record: &Record) -> Vec<u8> {
    let json = serde_json::to_string(record).expect("records have string keys only");
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes()
}

struct Parsed {
    records: Vec<Record>,
    /// Where what could not be read stands, in the order of the file.
    damaged: Vec<Range<usize>>,
}

/// The records that can be read. After a bad line the next good one counts:
/// each stands for itself.
fn parse(content: &[u8]) -> Parsed {
    let mut parsed = Parsed {
        records: Vec::new(),
        damaged: Vec::new(),
    };
    let mut at = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let end = at + line.len();
        match (parse_line(line), parsed.damaged.last_mut()) {
            (Some(record), _) => parsed.records.push(record),
            (None, Some(last)) if last.end == at => last.end = end,
            (None, _) => parsed.damaged.push(at..end),
        }
        at = end;
    }
    parsed
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
fn set_aside(folder: &Path, content: &[u8], parsed: &Parsed) -> String {
    let path = folder.join("journal.damaged");
    let bytes: Vec<u8> = parsed
        .damaged
        .iter()
        .flat_map(|range| &content[range.clone()])
        .copied()
        .collect();
    let kept = match fs::write_atomic(&path, &bytes, 0o600) {
        Ok(()) => format!("kept in {}", path.display()),
        Err(error) => format!("lost: {error}"),
    };
    let first = parsed.damaged.first().map_or(0, |range| range.start);
    format!(
        "{} bytes of the journal were damaged, from byte {first} on, and are {kept}; {} records \
         around them hold",
        bytes.len(),
        parsed.records.len()
    )
}
