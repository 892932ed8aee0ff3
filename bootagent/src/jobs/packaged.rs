//! rpm and deb: the host's package manager puts them in place, and back.
//!
//! The rule: after a run, and after a crash, the database is asked; neither an
//! exit code nor our memory is the truth.

use std::path::Path;
use std::time::{Duration, Instant};

use bootagent_protocol::{ErrorCode, truncate};
use sha2::{Digest, Sha256};

use super::Worker;
use crate::download::Failure;
use crate::engine::{JobRequest, OneshotEnd};
use crate::journal::TakenJob;
use crate::package::installer::{self, Downgrade, Verdict};
use crate::package::{self, Kind};

/// Pause between two tries while another package manager holds the lock.
const LOCK_PAUSE: Duration = Duration::from_secs(2);

/// Whether a package that is installed is installed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Only if it is not installed.
    WhenMissing,
    /// Also if it is.
    Always,
}

impl Worker {
    /// Installs the package of a job.
    pub(super) fn place_packaged(
        &self,
        taken: &TakenJob,
        kind: Kind,
        package: &Path,
        header: &package::Header,
    ) -> Result<(), Failure> {
        let downgrade = match taken.job.terms.downgrade {
            Some(true) => Downgrade::Allowed,
            Some(false) | None => Downgrade::Refused,
        };
        if taken.steps.iter().any(|step| step == "installer") {
            // An earlier BootAgent began it: its end is awaited, and then the
            // database knows better than any memory.
            if self.await_installer(taken) == OneshotEnd::TimedOut {
                return Err(Failure::new(
                    ErrorCode::INSTALLER_TIMED_OUT,
                    "the package manager was killed at its deadline",
                ));
            }
            if self.is_installed(kind, header)? {
                return Ok(());
            }
        } else {
            self.step(taken, "installer")?;
        }
        self.run_package_manager(taken, kind, package, header, downgrade)
    }

    /// Installs a kept package over a newer version.
    pub(super) fn put_package_back(
        &self,
        taken: &TakenJob,
        kind: Kind,
        package: &Path,
        again: Again,
    ) -> Result<(), Failure> {
        // An earlier BootAgent may have begun it.
        self.await_installer(taken);
        let query = |command: &package::Command| self.query(command);
        let header = package::inspect(package, kind, &query)?;
        if again == Again::WhenMissing && self.is_installed(kind, &header)? {
            return Ok(());
        }
        self.run_package_manager(taken, kind, package, &header, Downgrade::Allowed)
    }

    /// Whether the database has exactly this version.
    pub(super) fn is_installed(
        &self,
        kind: Kind,
        header: &package::Header,
    ) -> Result<bool, Failure> {
        let query = |command: &package::Command| self.query(command);
        let found = installer::installed(kind, &header.name, &query)?;
        Ok(found.is_some_and(|version| version == header.full_version()))
    }

    /// Waits for the package manager of this job, if it still runs.
    fn await_installer(&self, taken: &TakenJob) -> OneshotEnd {
        let limit = Duration::from_secs(self.config.jobs.installer_timeout);
        self.ask(|reply| JobRequest::Await {
            name: installer_record(&taken.job.id),
            limit,
            reply,
        })
    }

    fn run_package_manager(
        &self,
        taken: &TakenJob,
        kind: Kind,
        package: &Path,
        header: &package::Header,
        downgrade: Downgrade,
    ) -> Result<(), Failure> {
        let command = installer::install(kind, package, downgrade)
            .ok_or_else(|| Failure::new(ErrorCode::PACKAGE_KIND_UNSUPPORTED, "no installer"))?;
        self.run_until_unlocked(kind, &installer_record(&taken.job.id), command)?;
        if self.is_installed(kind, header)? {
            return Ok(());
        }
        Err(Failure::new(
            ErrorCode::INSTALLER_FAILED,
            format!(
                "{kind} said it was done, but its database has no {} {}",
                header.name,
                header.full_version()
            ),
        ))
    }

    /// Runs the package manager, again while another one holds its lock.
    pub(super) fn run_until_unlocked(
        &self,
        kind: Kind,
        record: &str,
        mut command: package::Command,
    ) -> Result<(), Failure> {
        let seconds = self.config.jobs.installer_timeout;
        command.deadline = command.deadline.min(Duration::from_secs(seconds));
        let give_up = Instant::now() + command.lock_wait.min(command.deadline);
        loop {
            let (exit, output) = self.run_installer(record, &command).map_err(|error| {
                Failure::new(
                    ErrorCode::INSTALLER_FAILED,
                    "the package manager was not started",
                )
                .because(error)
            })?;
            match installer::judge(kind, exit, truncate(&output, 64 * 1024)) {
                Verdict::Done => return Ok(()),
                Verdict::Failed(failure) => return Err(failure),
                Verdict::Locked(failure) if Instant::now() >= give_up => return Err(failure),
                Verdict::Locked(_) => std::thread::sleep(LOCK_PAUSE),
            }
        }
    }
}

/// Name of the run record and cgroup of a job's installer.
pub(super) fn installer_record(job: &str) -> String {
    let digest = Sha256::digest(job.as_bytes());
    let short: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("job.installer-{short}")
}
