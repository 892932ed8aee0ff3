//! The log file: appended to, rotated by size and count.
//!
//! Several processes may log to one file. Each line is one `write` in append
//! mode, so lines do not mix, and a process notices by the file's identity
//! that another one, or `logrotate`, has moved it away.
//!
//! The one rule: an error here is counted, never passed on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::clock::Stamp;
use crate::fs::FsError;

/// When a log file is moved away, and how many former ones are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Size in bytes from which on a new file is begun.
    pub max_bytes: u64,
    /// Former files kept, as `NAME.1` (the youngest) to `NAME.N`.
    pub keep: u32,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            max_bytes: 10 * 1024 * 1024,
            keep: 5,
        }
    }
}

/// An open log file.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    lost: u64,
}

impl LogFile {
    /// Opens `path` for appending, mode 0640 when it is new.
    pub(crate) fn open(path: &Path, rotation: Rotation) -> Result<Self, FsError> {
        Ok(Self {
            path: path.to_owned(),
            rotation,
            file: open(path).map_err(|e| FsError::new("open", path, e))?,
            lost: 0,
        })
    }

    /// Appends one line. What cannot be written is counted and told later.
    pub(crate) fn append(&mut self, line: &str) {
        if self.try_append(line).is_err() {
            self.lost = self.lost.saturating_add(1);
        }
    }

    fn try_append(&mut self, line: &str) -> io::Result<()> {
        self.follow_path()?;
        if self.lost > 0 {
            let lost = self.lost;
            let notice = format!(
                "{} [WARN] {lost} lines lost (log/file.rs:L{})\n",
                Stamp::now(),
                line!()
            );
            self.file.write_all(notice.as_bytes())?;
            self.lost = 0;
        }
        self.file.write_all(line.as_bytes())
    }

    /// Makes `self.file` the file that is at the path now, begun anew where
    /// the old one is full or gone.
    fn follow_path(&mut self) -> io::Result<()> {
        let at_path = match std::fs::metadata(&self.path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let ours = self.file.metadata()?;
        match at_path {
            Some(m) if (m.dev(), m.ino()) != (ours.dev(), ours.ino()) => {
                self.file = open(&self.path)?;
            }
            // A character device such as /dev/null or /dev/full has no size.
            Some(m) if m.is_file() && m.len() >= self.rotation.max_bytes => self.rotate()?,
            Some(_) => {}
            None => self.file = open(&self.path)?,
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        // Another process may be at it: then this line still goes to the old
        // file and the next one finds the new file.
        if self.file.try_lock().is_err() {
            return Ok(());
        }
        // Or it was just done with it: then the path is a fresh file already.
        let ours = self.file.metadata()?;
        let is_ours = std::fs::metadata(&self.path)
            .is_ok_and(|m| (m.dev(), m.ino()) == (ours.dev(), ours.ino()));
        let moved = match is_ours {
            true => shift(&self.path, self.rotation.keep),
            false => Ok(()),
        };
        let fresh = moved.and_then(|()| open(&self.path));
        // Nothing to be done about a lock that cannot be released; it goes
        // with the file.
        let _ = self.file.unlock();
        self.file = fresh?;
        Ok(())
    }
}

/// `NAME` becomes `NAME.1`, that one `NAME.2`, and the last one goes.
fn shift(path: &Path, keep: u32) -> io::Result<()> {
    if keep == 0 {
        return std::fs::remove_file(path);
    }
    for number in (1..keep).rev() {
        match std::fs::rename(numbered(path, number), numbered(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, numbered(path, 1))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        // A FIFO without a reader would otherwise hold us here for ever.
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn log_file(path: &Path, max_bytes: u64, keep: u32) -> LogFile {
        LogFile::open(path, Rotation { max_bytes, keep }).expect("opened")
    }

    #[test]
    fn a_full_file_is_moved_away_and_the_oldest_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let mut file = log_file(&path, 4, 2);
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            file.append(line);
        }
        assert_eq!(read(&path), "four\n");
        assert_eq!(read(&numbered(&path, 1)), "three\n");
        assert_eq!(read(&numbered(&path, 2)), "two\n");
        assert!(!numbered(&path, 3).exists());
    }

    #[test]
    fn an_old_log_is_appended_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        std::fs::write(&path, "before\n").expect("written");
        log_file(&path, 1000, 2).append("after\n");
        assert_eq!(read(&path), "before\nafter\n");
    }

    #[test]
    fn a_file_moved_or_removed_by_others_is_begun_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let mut file = log_file(&path, 1000, 2);
        file.append("one\n");
        std::fs::rename(&path, dir.path().join("moved")).expect("moved");
        file.append("two\n");
        assert_eq!(read(&path), "two\n");
        std::fs::remove_file(&path).expect("removed");
        file.append("three\n");
        assert_eq!(read(&path), "three\n");
        assert_eq!(read(&dir.path().join("moved")), "one\n");
    }

    #[test]
    fn two_writers_share_a_file_and_lose_nothing_while_it_rotates() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        let writer = |who: &'static str| {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut file = log_file(&path, 2_000, 50);
                for number in 0..1_000 {
                    file.append(&format!("{who} {number}\n"));
                }
                file.lost
            })
        };
        let writers = [writer("a"), writer("b")];
        let lost = writers.map(|w| w.join().expect("joined"));
        assert_eq!(lost, [0, 0]);
        let mut lines = 0;
        for entry in std::fs::read_dir(dir.path()).expect("readable") {
            let text = read(&entry.expect("an entry").path());
            lines += text.lines().count();
        }
        assert_eq!(lines, 2_000);
    }

    #[test]
    fn a_full_disk_costs_lines_and_says_how_many() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.log");
        // /dev/full answers every write with ENOSPC.
        std::os::unix::fs::symlink("/dev/full", &path).expect("linked");
        let mut file = log_file(&path, 1000, 2);
        file.append("one\n");
        file.append("two\n");
        assert_eq!(file.lost, 2);
        std::fs::remove_file(&path).expect("removed");
        file.append("three\n");
        let text = read(&path);
        assert!(
            text.contains("2 lines lost") && text.ends_with("three\n"),
            "{text}"
        );
    }
}
