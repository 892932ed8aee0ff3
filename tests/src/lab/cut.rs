//! What a power cut may leave on a disk, put together from a record of it.
//!
//! QEMU notes each write and flush of a disk in the format of dm-log-writes.
//! A disk keeps what was flushed; of what was written after the last flush it
//! may keep any part. Killing QEMU alone would lose less than that: what the
//! guest had handed over is kept by the machine the guest runs on.
//!
//! The one rule: a state made here is one that a real disk may have.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The first eight bytes of a record.
const MAGIC: u64 = 0x006a_7366_7773_6872;
/// Bit of an entry that is a flush: all before it lasts.
const FLUSH: u64 = 1;
/// Bit of an entry that lasts by itself.
const FORCED: u64 = 2;
/// Bit of an entry without data.
const DISCARD: u64 = 4;
/// Bytes of the disk an entry counts in; also what entries are padded to.
const SECTOR: u64 = 512;
/// What a disk writes as a whole; more may be torn.
const WHOLE: usize = 4096;

/// The writes of a disk, in the order in which it took them.
pub struct WriteLog {
    file: File,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where in the record it begins, in bytes.
    begins: u64,
    /// Where on the disk, in bytes.
    place: u64,
    bytes: u64,
    flags: u64,
}

impl WriteLog {
    /// Reads what was noted.
    ///
    /// # Errors
    /// When it is no such record.
    pub fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        let head = numbers(&mut file, 0).context("the head of the record")?;
        ensure!(
            head[0] == MAGIC,
            "{} is no record of writes",
            path.display()
        );
        let length = file.metadata()?.len();
        let (mut entries, mut at) = (Vec::new(), SECTOR);
        // The head counts what QEMU had begun to note too. An entry it was killed in is a hole, or the end.
        for _ in 0..head[2] {
            if at + SECTOR > length {
                break;
            }
            let [sector, sectors, flags, _] = numbers(&mut file, at)?;
            if (sectors, flags) == (0, 0) {
                break;
            }
            let bytes = if flags & DISCARD == 0 {
                sectors * SECTOR
            } else {
                0
            };
            let entry = Entry {
                begins: at,
                place: sector * SECTOR,
                bytes,
                flags,
            };
            at += SECTOR + bytes;
            if at > length {
                break;
            }
            entries.push(entry);
        }
        Ok(Self { file, entries })
    }

    /// How many writes and flushes there were.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// How long the record was when entry `index` had been noted: what was
    /// known to last when it was that long, lasts.
    pub fn length_after(&self, index: usize) -> u64 {
        let entry = &self.entries[index];
        entry.begins + SECTOR + entry.bytes
    }

    /// The first entry that was not noted yet when the record was so long.
    pub fn index_at(&self, length: u64) -> usize {
        self.entries.partition_point(|entry| entry.begins < length)
    }

    /// Makes `disk`, as it was at first, what a power cut after entry `index`
    /// may leave. `keeps` is asked for each part of what was written after the
    /// last flush.
    ///
    /// # Errors
    /// When the record or the disk cannot be read or written.
    pub fn cut(
        &mut self,
        disk: &Path,
        index: usize,
        mut keeps: impl FnMut() -> bool,
    ) -> Result<()> {
        let taken = self.entries[..=index].to_vec();
        let flush = taken.iter().rposition(|entry| entry.flags & FLUSH != 0);
        let mut disk = File::options().write(true).open(disk)?;
        for (at, entry) in taken.iter().enumerate() {
            let lasts = flush.is_some_and(|flush| at <= flush) || entry.flags & FORCED != 0;
            if entry.bytes == 0 {
                continue;
            }
            self.file.seek(SeekFrom::Start(entry.begins + SECTOR))?;
            let mut bytes = vec![0; usize::try_from(entry.bytes)?];
            self.file.read_exact(&mut bytes)?;
            disk.seek(SeekFrom::Start(entry.place))?;
            for part in bytes.chunks(WHOLE) {
                if lasts || keeps() {
                    disk.write_all(part)?;
                } else {
                    disk.seek(SeekFrom::Current(i64::try_from(part.len())?))?;
                }
            }
        }
        Ok(())
    }
}

/// The four numbers at `at`.
fn numbers(file: &mut File, at: u64) -> Result<[u64; 4]> {
    let mut bytes = [0; 32];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    let mut numbers = [0; 4];
    for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    }
    Ok(numbers)
}

/// Makes an empty disk of the given size.
///
/// # Errors
/// With what mke2fs said.
pub fn make_disk(path: &Path, megabytes: u32) -> Result<()> {
    run(Command::new("mke2fs")
        .args(["-q", "-t", "ext4"])
        .arg(path)
        .arg(format!("{megabytes}M")))
}

/// Does what a kernel does first with the disk after a power cut, and copies
/// everything from it into `folder`.
///
/// # Errors
/// When its file system is damaged beyond that.
pub fn unpack(disk: &Path, folder: &Path) -> Result<()> {
    // The journal is replayed; 1 means that something was set right.
    let checked = Command::new("e2fsck")
        .arg("-fp")
        .arg(disk)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&checked.stdout);
    ensure!(
        checked.status.code().is_some_and(|code| code <= 1),
        "the file system is damaged: {said}"
    );
    run(Command::new("debugfs")
        .arg("-R")
        .arg(format!("rdump / {}", folder.display()))
        .arg(disk))
}

/// A copy of a small disk.
///
/// # Errors
/// When there is no room.
pub fn copy_disk(disk: &Path, to: PathBuf) -> Result<PathBuf> {
    run(Command::new("cp").arg("--sparse=always").args([disk, &to]))?;
    Ok(to)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record whose head counts `counted` entries; each is a sector of data.
    fn record(counted: u64, entries: &[Option<u64>], cut_off: u64) -> WriteLog {
        let mut bytes = vec![0; usize::try_from(SECTOR).expect("small")];
        let numbers = |numbers: [u64; 4]| {
            let mut sector: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            sector.resize(usize::try_from(SECTOR).expect("small"), 0);
            sector
        };
        bytes[..32].copy_from_slice(&numbers([MAGIC, 1, counted, SECTOR])[..32]);
        for entry in entries {
            bytes.extend(numbers(entry.map_or([0; 4], |place| [place, 1, 0, 0])));
            bytes.extend(numbers([7; 4]));
        }
        bytes.truncate(bytes.len() - usize::try_from(cut_off).expect("small"));
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), bytes).expect("a record");
        WriteLog::read(file.path()).expect("a record")
    }

    #[test]
    fn an_entry_qemu_was_killed_in_was_never_noted() {
        assert_eq!(record(2, &[Some(8), Some(16)], 0).count(), 2);
        // The end is missing: of the data, of the entry, all of it.
        assert_eq!(record(2, &[Some(8), Some(16)], 100).count(), 1);
        assert_eq!(record(2, &[Some(8), Some(16)], SECTOR + 100).count(), 1);
        assert_eq!(record(3, &[Some(8), Some(16)], 0).count(), 2);
        // A hole: a later entry was written before it.
        assert_eq!(record(3, &[Some(8), None, Some(16)], 0).count(), 1);
    }
}
