//! The console: standard error, which may be a pipe nobody reads.
//!
//! The one rule: it never waits. What the other side does not take at once is
//! left out there, and the number of lines is told once it reads again; the
//! log file has them all.

use std::io::Write;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock::Stamp;

/// A pipe that can take anything at all takes this much at once.
const PIECE_BYTES: usize = 4096;

/// What was left out.
#[derive(Debug, Default)]
pub(super) struct Console {
    /// Lines.
    lost: u64,
    /// Whether the last one was cut in its middle.
    is_torn: bool,
}

impl Console {
    /// Shows one line, its line break included, if somebody takes it now.
    pub(super) fn show(&mut self, output: &mut (impl Write + AsFd), line: &str) {
        if self.lost > 0 {
            let torn = if self.is_torn { "\n" } else { "" };
            let lost = self.lost;
            let notice = format!("{torn}{} [WARN] {lost} lines not shown\n", Stamp::now());
            if !self.write(output, &notice) {
                self.lost += 1;
                return;
            }
            self.lost = 0;
        }
        if !self.write(output, line) {
            self.lost += 1;
        }
    }

    fn write(&mut self, output: &mut (impl Write + AsFd), text: &str) -> bool {
        self.is_torn &= self.lost > 0;
        for (index, piece) in text.as_bytes().chunks(PIECE_BYTES).enumerate() {
            if !is_ready(output) {
                self.is_torn |= index > 0;
                return false;
            }
            // A console that went away (EPIPE, EIO) is no reason to stop.
            let _ = output.write_all(piece);
        }
        true
    }
}

fn is_ready(output: &impl AsFd) -> bool {
    let mut output = [PollFd::new(output.as_fd(), PollFlags::POLLOUT)];
    matches!(poll(&mut output, PollTimeout::ZERO), Ok(1..))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn a_console_nobody_reads_costs_lines_and_no_time_and_says_so_later() {
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        let (mut reader, mut writer) = (File::from(reader), File::from(writer));
        let mut console = Console::default();
        // More than any pipe holds; it would wait here for ever.
        let line = format!("{}\n", "x".repeat(6000));
        for _ in 0..1000 {
            console.show(&mut writer, &line);
        }
        let lost = console.lost;
        assert!(lost > 900, "{lost}");
        let mut taken = vec![0; 1 << 20];
        let first = reader.read(&mut taken).expect("something");
        console.show(&mut writer, "here\n");
        assert_eq!(console.lost, 0);
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("text");
        let text = String::from_utf8_lossy(&taken[..first]).into_owned() + &rest;
        let told = format!(" [WARN] {lost} lines not shown");
        let last: Vec<&str> = text.lines().rev().take(2).collect();
        assert_eq!(last[0], "here");
        assert!(last[1].ends_with(&told), "{}", last[1]);
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        drop(reader);
        let mut console = Console::default();
        console.show(&mut File::from(writer), "nobody\n");
        assert_eq!(console.lost, 0);
    }
}
