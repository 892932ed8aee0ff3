//! One file of a spool: records one after another.
//!
//! The name is the number of the first record, twenty digits and `.seg`. A
//! record is its length and a CRC-32, four bytes each, little endian, and its
//! bytes. The CRC covers number, length and bytes, so that neither zeros nor
//! a block of an older file pass for a record.
//!
//! The one rule: a file is read up to its first damaged record and not beyond.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::fs::{self, FsError};

use super::{Entry, SpoolError};

/// Bytes before each record: length and CRC.
const HEADER_BYTES: usize = 8;
/// A length beyond this is damage, whatever the options say.
const MAX_LENGTH: u32 = 64 * 1024 * 1024;
const SUFFIX: &str = ".seg";

/// Bytes a record takes in a file.
pub(super) fn stored_bytes(length: usize) -> u64 {
    (HEADER_BYTES + length) as u64
}

/// One segment: the records `first..end`, of which those from
/// `readable_end` on are damaged.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    first: u64,
    end: u64,
    readable_end: u64,
    bytes: u64,
    /// Where a record begins, so that reading on needs no search.
    cursor: (u64, u64),
    /// Open while records are appended.
    file: Option<File>,
}

/// The segments of a directory, oldest first. The count of the last one is
/// unknown until it is healed.
pub(super) fn find(directory: &Path) -> Result<Vec<Segment>, SpoolError> {
    let fail = |e| FsError::new("list", directory, e);
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let Some(first) = first_of(&entry.file_name()) else {
            continue;
        };
        let bytes = entry.metadata().map_err(fail)?.len();
        segments.push(Segment::new(entry.path(), first, first, bytes));
    }
    segments.sort_by_key(|segment| segment.first);
    for index in 1..segments.len() {
        let next = segments[index].first;
        segments[index - 1].end = next;
        segments[index - 1].readable_end = next;
    }
    Ok(segments)
}

fn first_of(name: &OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(SUFFIX)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

impl Segment {
    fn new(path: PathBuf, first: u64, end: u64, bytes: u64) -> Self {
        Self {
            path,
            first,
            end,
            readable_end: end,
            bytes,
            cursor: (first, 0),
            file: None,
        }
    }

    /// Makes a new, empty segment whose first record will be `first`.
    pub(super) fn create(directory: &Path, first: u64) -> Result<Self, SpoolError> {
        let path = directory.join(format!("{first:020}{SUFFIX}"));
        let mut segment = Self::new(path, first, first, 0);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&segment.path)
            .map_err(|e| segment.fail("create", e))?;
        // A crash may have left the name with something in it.
        file.set_len(0).map_err(|e| segment.fail("truncate", e))?;
        segment.file = Some(file);
        fs::sync_dir(directory)?;
        Ok(segment)
    }

    /// Finds the end of the last segment and cuts off what is torn.
    pub(super) fn heal(&mut self) -> Result<(), SpoolError> {
        let mut whole = 0;
        let mut reader = self.reader(0)?;
        while let Some(bytes) = self.next(&mut reader, self.end)? {
            self.end += 1;
            whole += stored_bytes(bytes.len());
        }
        self.readable_end = self.end;
        let file = OpenOptions::new()
            .append(true)
            .open(&self.path)
            .map_err(|e| self.fail("open", e))?;
        if whole < self.bytes {
            let torn = self.bytes - whole;
            log::warn!("{torn} torn bytes cut off {}", self.path.display());
            file.set_len(whole).map_err(|e| self.fail("truncate", e))?;
            self.bytes = whole;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Appends a record and gives its number.
    pub(super) fn append(&mut self, record: &[u8]) -> Result<u64, SpoolError> {
        let number = self.end;
        let length = u32::try_from(record.len()).expect("the caller has checked the length");
        let mut stored = Vec::with_capacity(HEADER_BYTES + record.len());
        stored.extend_from_slice(&length.to_le_bytes());
        stored.extend_from_slice(&checksum(number, record).to_le_bytes());
        stored.extend_from_slice(record);
        let Some(file) = &mut self.file else {
            let closed = io::Error::other("the segment is sealed");
            return Err(self.fail("write", closed).into());
        };
        if let Err(error) = file.write_all(&stored) {
            // Half a record would hide all that follow it. Where even the cut
            // fails, nothing may follow: a new segment is begun.
            if file.set_len(self.bytes).is_err() {
                self.file = None;
            }
            return Err(self.fail("write", error).into());
        }
        self.bytes += stored.len() as u64;
        self.end += 1;
        self.readable_end = self.end;
        Ok(number)
    }

    /// Makes what was appended survive a power cut.
    pub(super) fn sync(&mut self) -> Result<(), SpoolError> {
        match &self.file {
            Some(file) => Ok(file.sync_data().map_err(|e| self.fail("sync", e))?),
            None => Ok(()),
        }
    }

    /// Reads at most `max` records from `number` on, up to the first damage.
    pub(super) fn read_from(&mut self, number: u64, max: usize) -> Result<Vec<Entry>, SpoolError> {
        let mut entries = Vec::new();
        if number >= self.readable_end {
            return Ok(entries);
        }
        if self.cursor.0 > number {
            self.cursor = (self.first, 0);
        }
        let (mut at, mut offset) = self.cursor;
        let mut reader = self.reader(offset)?;
        while at < self.readable_end && entries.len() < max {
            if at == number {
                self.cursor = (at, offset);
            }
            let Some(bytes) = self.next(&mut reader, at)? else {
                break;
            };
            offset += stored_bytes(bytes.len());
            if at >= number {
                entries.push(Entry { number: at, bytes });
            }
            at += 1;
        }
        Ok(entries)
    }

    /// From `number` on nothing of this segment is readable.
    pub(super) fn give_up_from(&mut self, number: u64) {
        self.readable_end = self.readable_end.min(number);
    }

    /// Deletes the file.
    pub(super) fn remove(&self) -> Result<(), SpoolError> {
        match std::fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.fail("remove", e).into()),
            _ => Ok(()),
        }
    }

    /// Whether records can be appended.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number after the last record.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The number after the last record that can be read.
    pub(super) fn readable_end(&self) -> u64 {
        self.readable_end
    }

    pub(super) fn count(&self) -> u64 {
        self.end - self.first
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn reader(&self, offset: u64) -> Result<BufReader<File>, SpoolError> {
        let mut file = File::open(&self.path).map_err(|e| self.fail("open", e))?;
        file.seek(SeekFrom::Start(offset))
            .map_err(|e| self.fail("read", e))?;
        Ok(BufReader::new(file))
    }

    /// The next record, or `None` at the end and at damage.
    fn next(&self, reader: &mut impl Read, number: u64) -> Result<Option<Vec<u8>>, SpoolError> {
        let mut header = [0; HEADER_BYTES];
        if !self.fill(reader, &mut header)? {
            return Ok(None);
        }
        let (length, stored) = header.split_at(4);
        let length = u32::from_le_bytes(length.try_into().expect("four of eight bytes"));
        let stored = u32::from_le_bytes(stored.try_into().expect("four of eight bytes"));
        // Damage must not make us allocate more than the file could hold.
        if length == 0 || length > MAX_LENGTH || u64::from(length) > self.bytes {
            return Ok(None);
        }
        let mut bytes = vec![0; length as usize];
        let whole = self.fill(reader, &mut bytes)? && checksum(number, &bytes) == stored;
        Ok(whole.then_some(bytes))
    }

    /// Fills `buffer`; false where the file ends before that.
    fn fill(&self, reader: &mut impl Read, buffer: &mut [u8]) -> Result<bool, SpoolError> {
        match reader.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(self.fail("read", e).into()),
        }
    }

    fn fail(&self, operation: &'static str, source: io::Error) -> FsError {
        FsError::new(operation, &self.path, source)
    }
}

fn checksum(number: u64, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&(record.len() as u64).to_le_bytes());
    hasher.update(record);
    hasher.finalize()
}
