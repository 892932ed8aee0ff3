//! Programs the watcher runs itself, each to its end or its deadline: it has no
//! supervisor. The rule: what they print goes to a file, because what they leave
//! running may hold it open.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Watcher;
use crate::package::{self, Exit};

/// How long a program may take to say its version.
const VERSION_DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(100);
/// How much of what it prints is read.
const MAX_SAID_BYTES: u64 = 64 * 1024;

impl Watcher {
    /// Whether an operator has stopped the service. One that ends by itself is
    /// started again by systemd, and never inactive.
    pub(super) fn is_stopped(&self) -> bool {
        let words = ["systemctl", "is-active", "bootagent.service"];
        let asked = self.run(&package::Command::new(&words, VERSION_DEADLINE));
        asked.is_ok_and(|(_, said)| said.trim() == "inactive")
    }

    /// The version a program of BootAgent says it is; none when it says nothing.
    pub(super) fn version_of(&self, program: &Path) -> Option<String> {
        let words = [program.as_os_str(), OsStr::new("-V")];
        let said = self.run(&package::Command::new(&words, VERSION_DEADLINE));
        let Ok((Exit::Code(0), said)) = said else {
            return None;
        };
        let (version, _) = said.strip_prefix("bootagent ")?.split_once(' ')?;
        Some(version.to_owned())
    }

    /// Runs a program to its end or its deadline.
    pub(super) fn run(&self, command: &package::Command) -> anyhow::Result<(Exit, String)> {
        let (program, words) = command.argv.split_first().context("an empty command")?;
        let mut output = self.output()?;
        let mut child = Command::new(program)
            .args(words)
            .env_clear()
            .envs(command.envs.iter().cloned())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let end = Instant::now() + command.deadline;
        let exit = loop {
            match child.try_wait()? {
                Some(status) => {
                    let signal = status.signal().map(Exit::Signal);
                    break signal.unwrap_or(Exit::Code(status.code().unwrap_or(-1)));
                }
                None if Instant::now() >= end => {
                    child.kill()?;
                    child.wait()?;
                    break Exit::TimedOut;
                }
                None => std::thread::sleep(LOOK),
            }
        };
        output.rewind()?;
        let mut said = Vec::new();
        output.take(MAX_SAID_BYTES).read_to_end(&mut said)?;
        Ok((exit, String::from_utf8_lossy(&said).into_owned()))
    }

    /// A file without a name, in a folder nobody else writes into: in /tmp
    /// anybody could have made one of that name before.
    fn output(&self) -> anyhow::Result<File> {
        let path = self.paths.run().join("watcher.out");
        let mut options = File::options();
        options.create(true).truncate(true).read(true).write(true);
        let file = options.mode(0o600).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}
