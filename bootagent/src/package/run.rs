//! The programs of the package manager, described but not run.
//!
//! The daemon's supervisor reaps every child of the process, so nothing here
//! may wait for one. The one rule: this module only says what to run; who runs
//! it hands in a [`Run`].

use std::ffi::{OsStr, OsString};
use std::io;
use std::time::Duration;

/// The whole environment of a package manager: its words must be English to
/// be understood, it must never ask, and the scriptlets of our own packages
/// must leave to the job what the job does.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ("LC_ALL", "C"),
    ("HOME", "/root"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("DPKG_COLORS", "never"),
    ("BOOTAGENT_JOB", "1"),
];

/// A program to run: stdin is /dev/null, the environment is exactly `envs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program, found in the PATH of `envs`, and its arguments.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub envs: Vec<(OsString, OsString)>,
    /// How long it may run before it is killed.
    pub deadline: Duration,
    /// How long to try again while another package manager holds the lock.
    pub lock_wait: Duration,
}

impl Command {
    /// A command with the environment of a package manager.
    pub fn new<Word: AsRef<OsStr>>(argv: &[Word], deadline: Duration) -> Self {
        Self {
            argv: argv
                .iter()
                .map(|word| word.as_ref().to_os_string())
                .collect(),
            envs: ENVIRONMENT
                .iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
            deadline,
            lock_wait: Duration::ZERO,
        }
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It was killed at its deadline.
    TimedOut,
}

/// What a short query printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// What it printed, at most what the runner keeps (64 KiB is plenty).
    pub stdout: Vec<u8>,
    /// What it complained about.
    pub stderr: Vec<u8>,
}

/// Who runs a short query and waits for it, at most its deadline.
pub trait Run {
    /// Runs `command`; an error means it could not be started.
    fn run(&self, command: &Command) -> io::Result<Output>;
}

impl<Function: Fn(&Command) -> io::Result<Output>> Run for Function {
    fn run(&self, command: &Command) -> io::Result<Output> {
        self(command)
    }
}
