//! Packages, made by `contrib/package.sh` and installed for real.
//!
//! The machines are throwaway Debian trees whose rpm database stands for
//! CentOS 7 (see `contrib/tree.sh`), so nothing is ever forced. What the
//! programs do once they run is tested elsewhere. The one rule: a scenario
//! that cannot run here says `SKIPPED` and why.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use e2e::tree::{First, Machine, obstacle, repository};

#[path = "packaging/agent.rs"]
mod agent;
#[path = "packaging/build.rs"]
mod build;
#[path = "packaging/job.rs"]
mod job;
#[path = "packaging/life.rs"]
mod life;
#[path = "packaging/no_systemd.rs"]
mod no_systemd;
#[path = "packaging/own_upgrade.rs"]
mod own_upgrade;
#[path = "packaging/server.rs"]
mod server;
#[path = "packaging/service.rs"]
mod service;
#[path = "packaging/short_name.rs"]
mod short_name;

/// The version that is installed first.
const OLD: &str = "1.2.1-1";
/// The version it is upgraded to.
const NEW: &str = "1.2.2-1";
/// The version of the sub-agent.
const AGENT: &str = "0.1.0-1";
/// The version it is upgraded to.
const NEW_AGENT: &str = "0.1.1-1";

/// Runs `contrib/package.sh`.
fn package_sh(arguments: &[&str]) -> Output {
    Command::new(repository().join("contrib/package.sh"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("package.sh can be run")
}

/// Packages as `package.sh` prints them: rpm, deb, bundle.
fn packages(name: &str, version: &str) -> Result<Vec<PathBuf>, String> {
    let output = package_sh(&[name, version, "all"]);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("package.sh {name} {version}: {said}"));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    Ok(printed.lines().map(PathBuf::from).collect())
}

/// The same of a program that is built, packaged as it is.
fn packages_of(name: &str, programs: &Path, version: &str) -> Vec<PathBuf> {
    let mut command = Command::new(repository().join("contrib/package.sh"));
    command.args([name, version, "all"]);
    let printed = succeed(command.env("BOOT_PROGRAMS", programs));
    printed.lines().map(PathBuf::from).collect()
}

/// All packages of this test run, made once.
struct Made {
    old: Vec<PathBuf>,
    new: Vec<PathBuf>,
    agent: Vec<PathBuf>,
    new_agent: Vec<PathBuf>,
}

fn make() -> Result<Made, String> {
    Ok(Made {
        new: packages("BootAgent", NEW)?,
        old: packages("BootAgent", OLD)?,
        agent: packages("flux-push", AGENT)?,
        new_agent: packages("flux-push", NEW_AGENT)?,
    })
}

/// A failure is kept too: building again would fail again, slowly.
#[track_caller]
fn made() -> &'static Made {
    static MADE: OnceLock<Result<Made, String>> = OnceLock::new();
    match MADE.get_or_init(make) {
        Ok(made) => made,
        Err(error) => panic!("{error}"),
    }
}

/// A machine with every package below /root, or None after saying why not.
fn machine(first: First) -> Option<Machine> {
    if let Some(reason) = obstacle() {
        println!("SKIPPED: {reason}");
        return None;
    }
    let machine = Machine::start(first).expect("a machine starts");
    let made = made();
    for package in made.old.iter().chain(&made.new).chain(&made.agent) {
        machine
            .put(package, &format!("/root/{}", file_name(package)))
            .expect("copied");
    }
    Some(machine)
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .expect("package.sh prints names")
}

/// Runs a script that must succeed.
#[track_caller]
fn run(machine: &Machine, script: &str) -> String {
    match machine.succeed(script) {
        Ok(output) => output,
        Err(error) => panic!("{error:#}"),
    }
}

/// Runs a program on this machine that must succeed.
#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("it can be run");
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a program is here; says aloud when it is not.
fn have(program: &str, package: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        println!("SKIPPED: {program} is missing; install the package {package}");
    }
    found
}
