//! The last lines a child printed, for the event that reports its end.

use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bootagent_protocol::{MAX_TAIL_LINES, truncate};

use crate::sys;

/// Bytes of the log that are looked at.
const TAIL_BYTES: u64 = 8192;
/// Longest line kept.
const LINE_BYTES: usize = 400;
/// How long the logger may take to write down what is still in the FIFO.
const DRAIN: Duration = Duration::from_millis(300);

/// Where a child's output went.
#[derive(Debug, Clone)]
pub struct OutputPlace {
    /// Its log.
    pub log: PathBuf,
    /// The FIFO in front of the logger.
    pub fifo: PathBuf,
}

/// The last lines, once the logger has emptied the FIFO or had its time.
pub fn read(place: &OutputPlace) -> Vec<String> {
    read_after(place, 0)
}

/// The same of what was printed after the log had `mark` bytes.
pub fn read_after(place: &OutputPlace, mark: u64) -> Vec<String> {
    wait_until_drained(place);
    let Ok(mut file) = std::fs::File::open(&place.log) else {
        return Vec::new();
    };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    // A shorter one is another one: it was rotated since.
    let mark = if mark > length { 0 } else { mark };
    let start = length.saturating_sub(TAIL_BYTES).max(mark);
    let mut bytes = Vec::new();
    let read = file
        .seek(SeekFrom::Start(start))
        .and_then(|_| file.take(TAIL_BYTES).read_to_end(&mut bytes));
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}");
    let mut lines: Vec<&str> = text.lines().collect();
    if start > mark && !lines.is_empty() {
        // The first one is cut somewhere in its middle.
        lines.remove(0);
    }
    let first = lines.len().saturating_sub(MAX_TAIL_LINES);
    lines[first..]
        .iter()
        .map(|line| truncate(line, LINE_BYTES).to_owned())
        .collect()
}

fn wait_until_drained(place: &OutputPlace) {
    let mut options = std::fs::OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK);
    let Ok(fifo) = options.open(&place.fifo) else {
        return;
    };
    let deadline = Instant::now() + DRAIN;
    while sys::pending_bytes(fifo.as_fd()) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    // Taken from the FIFO is not yet written: one more beat for the write.
    std::thread::sleep(Duration::from_millis(2));
}
