//! `bootctl doctor`: hands over to `bootagent --doctor`.
//!
//! The checks need the daemon's own TLS, resolver and configuration. Where
//! they run in its program, they find what it would find, and bootctl stays
//! small.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

use crate::args::Args;

/// Where packages put the daemon.
const INSTALLED: &str = "/usr/sbin/bootagent";

/// Becomes the doctor.
pub(crate) fn run(args: &Args, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let program = program()?;
    let mut command = Command::new(&program);
    command.arg("--doctor").arg(&args.root);
    if args.as_json {
        command.arg("--json");
    }
    if let Some(config) = config {
        command.arg("-c").arg(config);
    }
    Err(command.exec()).with_context(|| format!("running {}", program.display()))
}

/// The daemon's program: beside this one, or where packages put it.
fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join("bootagent")));
    let mut places = beside.into_iter().chain([PathBuf::from(INSTALLED)]);
    match places.find(|place| place.is_file()) {
        Some(place) => Ok(place),
        None => bail!("there is no {INSTALLED}: install the package bootagent again"),
    }
}
