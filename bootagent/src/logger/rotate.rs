//! One log file, rotated by size and count: `x.log`, `x.log.1`, `x.log.2`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// A log that never grows past its bounds. A full disk loses what does not
/// fit, says so once there is room, and never stops the reader.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    file: Option<File>,
    bytes: u64,
    lost: u64,
}

impl RotatingFile {
    pub(super) fn new(path: PathBuf, max_bytes: u64, keep: u32) -> Self {
        Self {
            path,
            max_bytes,
            keep,
            file: None,
            bytes: 0,
            lost: 0,
        }
    }

    pub(super) fn write(&mut self, mut content: &[u8]) {
        if self.lost > 0 && !content.is_empty() {
            let notice = format!("\n[{} bytes lost: the disk was full]\n", self.lost);
            if self.append(notice.as_bytes()) {
                self.lost = 0;
            }
        }
        while !content.is_empty() {
            if self.bytes >= self.max_bytes {
                self.rotate();
            }
            let room =
                usize::try_from(self.max_bytes.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
            let (now, later) = content.split_at(content.len().min(room.max(1)));
            if !self.append(now) {
                self.lost += content.len() as u64;
                return;
            }
            content = later;
        }
    }

    fn append(&mut self, content: &[u8]) -> bool {
        if self.file.is_none() {
            let opened = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o640)
                .open(&self.path);
            let Ok(file) = opened else { return false };
            self.bytes = file.metadata().map_or(0, |metadata| metadata.len());
            self.file = Some(file);
        }
        let written = self
            .file
            .as_mut()
            .is_some_and(|file| file.write_all(content).is_ok());
        if written {
            self.bytes += content.len() as u64;
        } else {
            // Opened anew next time: the folder may have been replaced.
            self.file = None;
        }
        written
    }

    fn rotate(&mut self) {
        self.file = None;
        self.bytes = 0;
        let old = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.keep).rev() {
            let _ = std::fs::rename(old(number), old(number + 1));
        }
        // Where renaming fails, cutting keeps the bound.
        if std::fs::rename(&self.path, old(1)).is_err()
            && let Ok(file) = OpenOptions::new().write(true).open(&self.path)
        {
            let _ = file.set_len(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_count_are_bounds_and_the_newest_bytes_are_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("x.log");
        let mut log = RotatingFile::new(path.clone(), 10, 2);
        for letter in b'a'..=b'z' {
            log.write(&[letter; 5]);
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("there");
        assert_eq!(read("x.log"), "yyyyyzzzzz");
        assert_eq!(read("x.log.1"), "wwwwwxxxxx");
        assert_eq!(read("x.log.2"), "uuuuuvvvvv");
        assert_eq!(
            std::fs::read_dir(folder.path()).expect("readable").count(),
            3
        );
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_writing_goes_on_later() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let logs = folder.path().join("logs");
        let mut log = RotatingFile::new(logs.join("x.log"), 1000, 2);
        log.write(b"nowhere");
        std::fs::create_dir(&logs).expect("made");
        log.write(b"here");
        let text = std::fs::read_to_string(logs.join("x.log")).expect("there");
        assert_eq!(text, "\n[7 bytes lost: the disk was full]\nhere");
    }
}
