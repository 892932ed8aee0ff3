//! Putting the old version back: its package, else its saved program; then
//! the daemon.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bootagent_kit::fs::{read_limited, write_atomic};

use super::Watcher;
use crate::control::Request;
use crate::package::{self, Downgrade, Exit, Verdict, installer};
use crate::takeover::{Kind, Upgrade};

/// Largest program, in bytes.
const MAX_PROGRAM_BYTES: u64 = 256 << 20;
/// How long a program may take to say its version.
const VERSION_DEADLINE: Duration = Duration::from_secs(20);
/// How long systemd may take to restart the daemon.
const RESTART_DEADLINE: Duration = Duration::from_secs(120);
/// How long the old version may take to answer after that.
const BACK_DEADLINE: Duration = Duration::from_secs(60);
/// Between two tries while another package manager holds the lock.
const LOCK_PAUSE: Duration = Duration::from_secs(5);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(100);

impl Watcher {
    /// Puts files and daemon back. An error is tried again: systemd starts the
    /// watcher anew.
    pub(super) fn go_back(&self, upgrade: &Upgrade) -> anyhow::Result<()> {
        let remedy = self.restore(upgrade)?;
        log::info!("{remedy}");
        // Before the daemon is: it makes the job's result of it.
        self.takeover.went_back(upgrade, &remedy)?;
        self.bring_back(upgrade);
        Ok(())
    }

    fn restore(&self, upgrade: &Upgrade) -> anyhow::Result<String> {
        if let Some(package) = &upgrade.package {
            match self.reinstall(upgrade, package) {
                Ok(()) if says_version(&upgrade.program, &upgrade.from) => {
                    return Ok(format!(
                        "the package of {} is installed again",
                        upgrade.from
                    ));
                }
                Ok(()) => log::error!("{} is of another version", upgrade.program.display()),
                Err(error) => log::error!("{}: {error:#}", package.display()),
            }
        }
        let saved = self.paths.saved_program();
        let program = read_limited(&saved, MAX_PROGRAM_BYTES)?;
        write_atomic(&upgrade.program, &program, 0o755)?;
        ensure!(
            says_version(&upgrade.program, &upgrade.from),
            "{} is not the program of {}",
            saved.display(),
            upgrade.from
        );
        Ok(format!(
            "the saved program of {} is back; the package manager still has {}",
            upgrade.from, upgrade.to
        ))
    }

    fn reinstall(&self, upgrade: &Upgrade, package: &Path) -> anyhow::Result<()> {
        let kind = match upgrade.kind {
            Kind::Rpm => package::Kind::Rpm,
            Kind::Deb => package::Kind::Deb,
        };
        let command = installer::install(kind, package, Downgrade::Allowed)
            .context("there is no package manager for it")?;
        let give_up = Instant::now() + command.lock_wait;
        loop {
            let (exit, said) = run(&command)?;
            match installer::judge(kind, exit, &said) {
                Verdict::Done => return Ok(()),
                Verdict::Locked(_) if Instant::now() < give_up => std::thread::sleep(LOCK_PAUSE),
                Verdict::Locked(failure) | Verdict::Failed(failure) => bail!(failure.describe()),
            }
        }
    }

    /// Has the daemon execute the old program again.
    pub(super) fn bring_back(&self, upgrade: &Upgrade) {
        // One that lives changes in place, and its children stay its own.
        if !self.is_back(upgrade) {
            let _ = self.order(&Request::Reexec);
            if !self.comes_back(upgrade, BACK_DEADLINE / 4) {
                match super::has_systemd() {
                    true => self.restart(),
                    // Whatever started it has had its time, if there is something.
                    false => start(upgrade),
                }
                self.comes_back(upgrade, BACK_DEADLINE);
            }
        }
        if let Err(error) = self.takeover.settle() {
            log::error!("{:#}", anyhow::Error::from(error));
        }
        log::info!("{} is back", upgrade.from);
    }

    fn comes_back(&self, upgrade: &Upgrade, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if self.is_back(upgrade) {
                return true;
            }
            std::thread::sleep(LOOK);
        }
        false
    }

    fn restart(&self) {
        let words = ["systemctl", "restart", "bootagent.service"];
        let restart = package::Command::new(&words, RESTART_DEADLINE);
        match run(&restart) {
            Ok((Exit::Code(0), _)) => {}
            Ok((exit, said)) => log::error!("systemctl restart bootagent: {exit:?} {said}"),
            Err(error) => log::error!("systemctl restart bootagent: {error:#}"),
        }
    }
}

/// Starts the old version as the one before was started. There is at most one
/// daemon, whoever starts another.
fn start(upgrade: &Upgrade) {
    let started = Command::new(&upgrade.program)
        .args(&upgrade.arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    match started {
        Ok(daemon) => log::info!("started {} as {}", upgrade.program.display(), daemon.id()),
        Err(error) => log::error!("starting {}: {error}", upgrade.program.display()),
    }
}

/// Whether an operator has stopped the service. One that ends by itself is
/// started again by systemd, and never inactive.
pub(super) fn is_stopped() -> bool {
    let words = ["systemctl", "is-active", "bootagent.service"];
    let asked = run(&package::Command::new(&words, VERSION_DEADLINE));
    asked.is_ok_and(|(_, said)| said.trim() == "inactive")
}

fn says_version(program: &Path, version: &str) -> bool {
    let words = [program.as_os_str(), OsStr::new("-V")];
    let said = run(&package::Command::new(&words, VERSION_DEADLINE));
    let wanted = format!("bootagent {version} ");
    matches!(said, Ok((Exit::Code(0), said)) if said.starts_with(&wanted))
}

/// Runs a program to its end or its deadline. Its output goes to a file: what
/// it leaves running may hold it open.
fn run(command: &package::Command) -> anyhow::Result<(Exit, String)> {
    use std::os::unix::process::ExitStatusExt;
    let (program, words) = command.argv.split_first().context("an empty command")?;
    let path = std::env::temp_dir().join(format!(".bootagent-watcher-{}", std::process::id()));
    let mut output = File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
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
    output.take(64 * 1024).read_to_end(&mut said)?;
    Ok((exit, String::from_utf8_lossy(&said).into_owned()))
}
