//! The last lines a child printed, for the event that reports its end.

use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
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
    let length = std::fs::metadata(&place.log).map_or(0, |metadata| metadata.len());
    let mut former = place.log.clone().into_os_string();
    former.push(".1");
    // A shorter one is another one: it was rotated since.
    let is_rotated = mark > length;
    let (mut bytes, is_whole) = match end_of(&place.log, if is_rotated { 0 } else { mark }) {
        // Rotated a moment ago, the log holds next to nothing.
        (bytes, true) if (bytes.len() as u64) < TAIL_BYTES && (is_rotated || mark == 0) => {
            let (former, is_whole) = end_of(Path::new(&former), mark);
            ([former, bytes].concat(), is_whole)
        }
        end => end,
    };
    if !is_whole {
        // The first line is cut somewhere in its middle. Of a line that is
        // longer than all that is looked at, the end is shown.
        let first = bytes.iter().position(|byte| *byte == b'\n');
        let first = first.filter(|at| at + 1 < bytes.len());
        bytes.drain(..first.map_or(0, |at| at + 1));
    }
    let text = String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}");
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(MAX_TAIL_LINES);
    let shown = lines[first..].iter().enumerate().map(|(number, line)| {
        match number == 0 && lines.len() == 1 {
            true => end(line, LINE_BYTES),
            false => truncate(line, LINE_BYTES),
        }
    });
    shown.map(str::to_owned).collect()
}

/// The end of what a file holds after its first `from` bytes, and whether it
/// is all of that.
fn end_of(path: &Path, from: u64) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        let start = length.saturating_sub(TAIL_BYTES).max(from);
        file.seek(SeekFrom::Start(start))?;
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(start == from)
    });
    (bytes, read.unwrap_or(true))
}

/// At most `max` bytes from the end of a text.
fn end(text: &str, max: usize) -> &str {
    let from = text.len().saturating_sub(max);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at));
    &text[from.unwrap_or(0)..]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn last_lines(text: &[u8], former: Option<&[u8]>) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("a.log");
        std::fs::write(&log, text).expect("writable");
        if let Some(former) = former {
            std::fs::write(folder.path().join("a.log.1"), former).expect("writable");
        }
        read(&OutputPlace {
            log,
            fifo: folder.path().join("none"),
        })
    }

    #[test]
    fn the_last_lines_are_there_whatever_their_length() {
        assert_eq!(last_lines(b"one\ntwo\n", None), ["one", "two"]);
        let endless = [b"before\n".as_slice(), &[b'x'; 20_000], b" the end"].concat();
        let lines = last_lines(&endless, None);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with("x the end") && lines[0].len() <= LINE_BYTES);
        let odd = [
            b"\xff\xfe\0 \n".as_slice(),
            &"é".repeat(10_000).into_bytes(),
        ]
        .concat();
        let lines = last_lines(&odd, None);
        assert!(lines[0].chars().all(|c| c == 'é'), "{lines:?}");
    }

    #[test]
    fn a_log_that_was_just_rotated_does_not_hide_what_was_said_before() {
        let former = "former\n".repeat(30);
        let lines = last_lines(b"new\n", Some(former.as_bytes()));
        assert_eq!(lines.len(), MAX_TAIL_LINES);
        assert_eq!(lines.last().map(String::as_str), Some("new"));
        assert_eq!(lines[0], "former");
    }
}
