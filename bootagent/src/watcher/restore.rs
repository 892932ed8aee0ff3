//! Putting the old version back: its package, else its saved program; then
//! the daemon.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bootagent_core::takeover::Daemon;
use bootagent_kit::fs::{read_limited, write_atomic};

use super::Watcher;
use super::holder::{self, Ended};
use crate::control::Request;
use crate::package::{self, Downgrade, Exit, Verdict, installer};
use crate::takeover::{Kind, Upgrade};

/// Largest program, in bytes.
const MAX_PROGRAM_BYTES: u64 = 256 << 20;
/// How long systemd may take to restart the daemon.
const RESTART_DEADLINE: Duration = Duration::from_secs(120);
/// How long the old version may take to answer after that. A slow machine is
/// given its time: what does not answer then is ended and started anew.
const BACK_DEADLINE: Duration = Duration::from_secs(180);
/// How long a daemon that answers may take to change in place: it tests what
/// it becomes, and itself.
const REEXEC_DEADLINE: Duration = Duration::from_secs(100);
/// How long whatever else starts the daemon may take.
const OTHERS_DEADLINE: Duration = Duration::from_secs(15);
/// Between two tries while another package manager holds the lock.
const LOCK_PAUSE: Duration = Duration::from_secs(5);
/// Between two looks at the daemon.
const LOOK: Duration = Duration::from_millis(100);

impl Watcher {
    /// Puts files and daemon back. An error is tried again.
    pub(super) fn go_back(&self, upgrade: &Upgrade) -> anyhow::Result<()> {
        let remedy = self.restore(upgrade)?;
        log::info!("{remedy}");
        // Before the daemon is: it makes the job's result of it.
        self.takeover.went_back(upgrade, &remedy)?;
        self.bring_back(upgrade)
    }

    fn restore(&self, upgrade: &Upgrade) -> anyhow::Result<String> {
        if let Some(package) = &upgrade.package {
            match self.reinstall(upgrade, package) {
                Ok(()) if self.is_old_again(upgrade) => {
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
            self.is_old_again(upgrade),
            "{} is not the program of {}",
            saved.display(),
            upgrade.from
        );
        Ok(format!(
            "the saved program of {} is back; the package manager still has {}",
            upgrade.from, upgrade.to
        ))
    }

    fn is_old_again(&self, upgrade: &Upgrade) -> bool {
        self.version_of(&upgrade.program).as_ref() == Some(&upgrade.from)
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
            let (exit, said) = self.run(&command)?;
            match installer::judge(kind, exit, &said) {
                Verdict::Done => return Ok(()),
                Verdict::Locked(_) if Instant::now() < give_up => std::thread::sleep(LOCK_PAUSE),
                Verdict::Locked(failure) | Verdict::Failed(failure) => bail!(failure.describe()),
            }
        }
    }

    /// Has the daemon execute the old program again. An error is tried again,
    /// until it runs or somebody has installed another one.
    pub(super) fn bring_back(&self, upgrade: &Upgrade) -> anyhow::Result<()> {
        if let Some(other) = self.version_of(&upgrade.program)
            && other != upgrade.from
        {
            // It is theirs: restarted until it is the old one, it would never run.
            log::warn!("{other} was installed meanwhile, and is left alone");
            return Ok(self.takeover.settle()?);
        }
        if !self.is_back(upgrade) && !self.changes_in_place(upgrade) {
            match super::has_systemd() {
                true => self.restart(),
                false => self.replace(upgrade)?,
            }
            ensure!(
                self.comes_back(upgrade, BACK_DEADLINE),
                "{} was put back and does not answer",
                upgrade.from
            );
        }
        self.takeover.settle()?;
        log::info!("{} is back", upgrade.from);
        Ok(())
    }

    /// One that lives changes in place, and its children stay its own. Whatever
    /// else starts it (another init) starts what was put back.
    fn changes_in_place(&self, upgrade: &Upgrade) -> bool {
        if let (Daemon::Answers(_), _) = self.look()
            && let Ok(said) = self.order_within(&Request::Reexec, REEXEC_DEADLINE)
        {
            log::info!("the daemon was told to change back: {said}");
        }
        self.comes_back(upgrade, OTHERS_DEADLINE)
    }

    /// Ends a daemon that lives and does not answer, and starts the old version
    /// if nothing else does.
    fn replace(&self, upgrade: &Upgrade) -> anyhow::Result<()> {
        let ended = holder::end(&self.paths)?;
        if ended == Ended::Nobody || !self.comes_back(upgrade, OTHERS_DEADLINE) {
            start(upgrade);
        }
        Ok(())
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
        match self.run(&restart) {
            Ok((Exit::Code(0), _)) => {}
            Ok((exit, said)) => log::error!("systemctl restart bootagent: {exit:?} {said}"),
            Err(error) => log::error!("systemctl restart bootagent: {error:#}"),
        }
    }
}

/// Starts the old version as the one before was started. There is at most one
/// daemon, whoever starts another.
fn start(upgrade: &Upgrade) {
    // Without its folder relative paths are lost, and the rest is not.
    let directory = match upgrade.directory.is_dir() {
        true => upgrade.directory.as_path(),
        false => Path::new("/"),
    };
    let started = Command::new(&upgrade.program)
        .args(&upgrade.arguments)
        .current_dir(directory)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::paths::Paths;
    use crate::takeover::{Phase, Takeover};

    #[test]
    fn a_version_somebody_installed_meanwhile_is_left_alone() {
        let root = tempfile::tempdir().expect("a folder");
        let paths = Paths::new(root.path());
        std::fs::create_dir_all(paths.run()).expect("made");
        let program = root.path().join("bootagent");
        // By a program of its own: one that is open for writing cannot be executed.
        let script = r#"printf '#!/bin/sh\necho bootagent 3.0-1 x86_64\n' >"$0" && chmod 755 "$0""#;
        let made = Command::new("sh")
            .args(["-c", script])
            .arg(&program)
            .status();
        assert!(made.expect("sh runs").success());
        let upgrade = Upgrade {
            job: "7".into(),
            from: "1.0-1".into(),
            to: "2.0-1".into(),
            phase: Phase::Executed,
            program,
            arguments: Vec::new(),
            directory: root.path().into(),
            kind: Kind::Deb,
            package: None,
            config: "/etc/bootagent/bootagent.toml".into(),
            cause: None,
            remedy: None,
        };
        let takeover = Takeover::new(&paths.takeover());
        takeover.open(&upgrade).expect("written");
        assert!(takeover.go_back(&upgrade, "crashes").expect("renamed"));
        takeover.went_back(&upgrade, "by hand").expect("written");
        let watcher = Watcher {
            paths,
            takeover,
            config: Config::default(),
        };
        let found = watcher.version_of(&upgrade.program);
        assert_eq!(found.as_deref(), Some("3.0-1"));
        watcher
            .bring_back(&upgrade)
            .expect("there is nothing to do");
        assert!(!watcher.takeover.is_going_back());
    }
}
