//! Processes the programs under test started.
//!
//! The one rule: a process is named by pid and start time, and only such a
//! one is ever signalled.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A process, told from every other that has or had its pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// When it started, in ticks since boot.
    pub start_ticks: u64,
}

impl Process {
    /// The process that has this pid now; a zombie counts as none.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything: count from its end.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let start_ticks = fields.get(19)?.parse().ok()?;
        (*fields.first()? != "Z").then_some(Self { pid, start_ticks })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Signals it, unless it is gone.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Its arguments.
    pub fn arguments(&self) -> Vec<String> {
        let bytes = std::fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let words = bytes.split(|byte| *byte == 0).filter(|w| !w.is_empty());
        words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    }
}

/// Every process that has `word` as one of its arguments.
pub fn with_argument(word: &str) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::of)
        .filter(|process| process.arguments().iter().any(|argument| argument == word))
        .collect()
}

/// The processes of the run records in `folder`.
pub fn recorded(folder: &Path) -> Vec<Process> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let record = std::fs::read(entry.path()).ok()?;
            let record: Value = serde_json::from_slice(&record).ok()?;
            let identity = &record["identity"];
            let process = Process {
                pid: i32::try_from(identity["pid"].as_i64()?).ok()?,
                start_ticks: identity["start_ticks"].as_u64()?,
            };
            process.is_alive().then_some(process)
        })
        .collect()
}
