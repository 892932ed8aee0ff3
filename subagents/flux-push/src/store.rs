//! Where points are kept: one append-only file per UTC day.
//!
//! A line is the CRC-32 of its JSON, eight hex digits, a blank, and the JSON
//! of one point. Files rather than a queue, because points are read again by
//! hour for weeks; lines rather than a database, because each is complete
//! after one write and one sync, and `tail` shows them. After a power cut the
//! last line may be torn: it is cut off at the next start.
//!
//! The one rule: numbers only rise, across files, restarts and clock steps.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bootagent_kit::date::Date;
use bootagent_kit::fs::{self, FsError};

use crate::series::Point;

/// The directory below the state directory.
const DIRECTORY: &str = "points";
/// How a day's file is called: its date and this.
const SUFFIX: &str = ".points";
/// File that is locked while the store is open.
const LOCK_FILE: &str = "lock";
/// What is read of the end of a file to find its last point, in bytes.
const TAIL_BYTES: u64 = 64 * 1024;

/// Why the store cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("the points cannot be kept")]
    File(#[from] FsError),
    /// Another flux-push has it open.
    #[error("{} is in use; stop the other flux-push", .0.display())]
    Locked(PathBuf),
}

/// The open store; locked until it is dropped.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    keep_days: usize,
    last: Option<Point>,
    day: Option<Day>,
    lock: File,
}

impl Drop for Store {
    fn drop(&mut self) {
        // Closing would do, were it not for children: one that another thread
        // has just forked shares the lock until its exec.
        let _ = self.lock.unlock();
    }
}

/// The file that is appended to.
#[derive(Debug)]
struct Day {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Store {
    /// Opens the store below `state`, which must exist or be creatable, and
    /// finds its last point.
    pub fn open(state: &Path, keep_days: u32) -> Result<Self, StoreError> {
        let directory = state.join(DIRECTORY);
        fs::ensure_dir(&directory, 0o750)?;
        let lock = lock(&directory)?;
        let mut last: Option<Point> = None;
        for path in files(&directory)? {
            let found = tail(&path)?.last;
            // Not the newest file: a clock step may have gone back a day.
            if found.as_ref().map(|p| p.number) > last.as_ref().map(|p| p.number) {
                last = found;
            }
        }
        Ok(Self {
            directory,
            keep_days: keep_days as usize,
            last,
            day: None,
            lock,
        })
    }

    /// The point with the highest number.
    pub fn last(&self) -> Option<&Point> {
        self.last.as_ref()
    }

    /// Appends a point; it survives a power cut when this returns. On an
    /// error, a full disk for instance, the store is as it was.
    pub fn append(&mut self, point: Point) -> Result<(), StoreError> {
        let path = self.directory.join(file_name(point.wall_ms / 1000));
        let mut day = match self.day.take().filter(|day| day.path == path) {
            Some(day) => day,
            None => self.open_day(path)?,
        };
        let line = line_of(&point);
        let written = day.file.write_all(line.as_bytes());
        if let Err(error) = written.and_then(|()| day.file.sync_data()) {
            // Half a line would spoil the next one. Where even the cut fails,
            // opening the file again makes it: `self.day` stays empty.
            if day.file.set_len(day.bytes).is_ok() {
                self.day = Some(day);
            }
            return Err(FsError::new("append to", &self.directory, error).into());
        }
        day.bytes += line.len() as u64;
        self.day = Some(day);
        self.last = Some(point);
        Ok(())
    }

    /// Opens a day's file for appending, its torn end cut off. A new one
    /// makes the oldest go.
    fn open_day(&self, path: PathBuf) -> Result<Day, StoreError> {
        let is_new = !path.exists();
        let fail = |operation| {
            let path = path.clone();
            move |e| FsError::new(operation, &path, e)
        };
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&path)
            .map_err(fail("open"))?;
        let mut bytes = file.metadata().map_err(fail("open"))?.len();
        let end = tail(&path)?.end;
        if end < bytes {
            log::warn!("{} torn bytes cut off {}", bytes - end, path.display());
            file.set_len(end).map_err(fail("truncate"))?;
            bytes = end;
        }
        if is_new {
            fs::sync_dir(&self.directory)?;
            self.forget_oldest();
        }
        Ok(Day { path, file, bytes })
    }

    /// Removes the oldest files beyond the days that are kept.
    fn forget_oldest(&self) {
        let files = match files(&self.directory) {
            Ok(files) => files,
            Err(error) => return log::warn!("old points stay: {error}"),
        };
        let surplus = files.len().saturating_sub(self.keep_days);
        for path in &files[..surplus] {
            match std::fs::remove_file(path) {
                Ok(()) => log::info!("{} has served its time", path.display()),
                Err(error) => log::warn!("{} stays: {error}", path.display()),
            }
        }
    }
}

/// The files of all days, oldest first.
fn files(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let fail = |e| FsError::new("list", directory, e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.ends_with(SUFFIX)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// What the end of a file tells.
#[derive(Debug, Default, PartialEq)]
struct Tail {
    /// The last whole point.
    last: Option<Point>,
    /// Where it ends: what follows is torn.
    end: u64,
}

fn tail(path: &Path) -> Result<Tail, StoreError> {
    let fail = |e| FsError::new("read", path, e);
    let mut file = File::open(path).map_err(fail)?;
    let bytes = file.metadata().map_err(fail)?.len();
    let from = bytes.saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from)).map_err(fail)?;
    let mut reader = BufReader::new(io::Read::take(file, TAIL_BYTES));
    // In a window without any whole point there is nothing to cut to.
    let mut tail = Tail {
        last: None,
        end: if from == 0 { 0 } else { bytes },
    };
    let mut offset = from;
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line).map_err(fail)?;
        if count == 0 {
            return Ok(tail);
        }
        offset += count as u64;
        if let Some(point) = point_of(&line) {
            tail = Tail {
                last: Some(point),
                end: offset,
            };
        }
    }
}

fn line_of(point: &Point) -> String {
    let json = serde_json::to_string(point).expect("numbers and text are always JSON");
    format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()))
}

/// The point of a whole line; `None` for any other.
fn point_of(line: &[u8]) -> Option<Point> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (sum, json) = text.split_once(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    if crc32fast::hash(json.as_bytes()) != sum {
        return None;
    }
    serde_json::from_str(json).ok()
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let lock = fs::try_lock(&directory.join(LOCK_FILE), 0o640)?;
    lock.ok_or_else(|| StoreError::Locked(directory.to_owned()))
}

/// `2024-07-10.points` for a moment in seconds since 1970 UTC.
fn file_name(unix_seconds: u64) -> String {
    format!("{}{SUFFIX}", Date::of_unix(unix_seconds.cast_signed()))
}

#[cfg(test)]
#[path = "store/tests.rs"]
mod tests;
