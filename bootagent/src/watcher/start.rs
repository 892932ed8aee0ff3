//! Starting the watcher where no systemd does it.
//!
//! The supervisor runs programs of jobs in a group of their own and kills what
//! is overdue with it. The watcher, and a daemon it may have to start, must be
//! no part of that: they belong where the daemon is.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use nix::unistd::getppid;

use crate::cgroup::place;

/// Starts `program`, the saved one, as the watcher, beside the daemon that has
/// started this process, and does not wait for it.
pub fn start(program: &Path) -> anyhow::Result<()> {
    // It watches from where it is otherwise.
    if let Err(error) = place::follow(getppid().as_raw()) {
        eprintln!("the watcher stays in the group of a job: {error}");
    }
    Command::new(program)
        .arg("--watcher")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map(drop)
        .with_context(|| format!("starting {}", program.display()))
}
