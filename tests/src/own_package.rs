//! Packages of BootAgent itself: those of `contrib/package.sh`, and bad ones,
//! which are good ones with another program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tree::repository;

/// A program that passes every test and then ends at once. It says the version
/// 9.9.9-1.
pub const CRASHES: &str =
    "#!/bin/sh\ncase $1 in -V) echo bootagent 9.9.9-1 x86_64; exit;; -T) exit;; esac\nexit 1\n";

/// The .deb of BootAgent in this version.
///
/// # Errors
/// When `contrib/package.sh` fails; what it said is in the error.
pub fn deb(version: &str) -> Result<PathBuf> {
    let made = Command::new(repository().join("contrib/package.sh"))
        .args(["BootAgent", version, "deb"])
        .stdin(Stdio::null())
        .output()
        .context("running contrib/package.sh")?;
    let said = String::from_utf8_lossy(&made.stderr);
    ensure!(made.status.success(), "contrib/package.sh failed: {said}");
    Ok(String::from_utf8(made.stdout)?.trim_end().into())
}

/// Unpacks the .deb `good`, which has the version `from`, into `stage` and
/// makes it one of version `to` whose program is `script`. The good program
/// lies beside it as `bootagent.real`.
///
/// # Errors
/// With what dpkg-deb said.
pub fn stage_bad(good: &Path, from: &str, to: &str, script: &str, stage: &Path) -> Result<()> {
    run(Command::new("dpkg-deb").arg("-R").args([good, stage]))?;
    let control = stage.join("DEBIAN/control");
    let text = fs::read_to_string(&control)?;
    fs::write(&control, text.replace(from, to))?;
    let program = stage.join("usr/sbin/bootagent");
    fs::rename(&program, stage.join("usr/sbin/bootagent.real"))?;
    fs::write(&program, script)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Packs what [`stage_bad`] has made.
///
/// # Errors
/// With what dpkg-deb said.
pub fn build_deb(stage: &Path, package: &Path) -> Result<()> {
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Zgzip", "--build"])
        .args([stage, package]))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}
