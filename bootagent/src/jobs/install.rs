//! install and upgrade: fetch, verify, put in place, check, start.
//!
//! What runs is undisturbed until the new version is complete, is what the
//! job ordered, and has passed its own check.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bootagent_kit::servers::{Server, ServerList};
use bootagent_protocol::{AgentName, Checksum, ErrorCode, Manifest, truncate};
use sha2::{Digest, Sha256};

use super::{Success, Worker, name, settled_result};
use crate::download::{self, Control, Failure, Request};
use crate::engine::waiter::Settled;
use crate::engine::{JobRequest, OneshotEnd};
use crate::journal::TakenJob;
use crate::package::installer::{self, Downgrade, Verdict};
use crate::package::{self, Bundles, Expected, Kind};

/// Pause between two tries while another package manager holds the lock.
const LOCK_PAUSE: Duration = Duration::from_secs(2);

/// A package that is in place, and where its manifest is.
struct Placed {
    manifest: Manifest,
    folder: PathBuf,
}

impl Worker {
    pub(super) fn install(&self, taken: &TakenJob) -> Result<Success, Failure> {
        let (name, terms) = (name(taken)?, &taken.job.terms);
        if name.as_str().eq_ignore_ascii_case("bootagent") {
            return Err(Failure::new(
                ErrorCode::PACKAGE_KIND_UNSUPPORTED,
                "BootAgent does not upgrade itself by a job yet: install its package by hand",
            ));
        }
        let expected = Expected {
            name: name.clone(),
            version: terms.version.clone(),
        };
        let package = self.obtain(taken, &name)?;
        let query = |command: &package::Command| self.query(command);
        let kind = Kind::of(&package)?;
        kind.check_supported(self.paths.root())?;
        let header = package::inspect(&package, kind, &query)?;
        package::check(&header, &expected)?;
        self.check_version(taken, kind, &header)?;
        let placed = match kind {
            Kind::Bundle => self.place_bundle(taken, &package, &expected)?,
            Kind::Rpm | Kind::Deb => {
                self.place_packaged(taken, kind, &package, &header)?;
                let folder = self.paths.packaged_agents().join(name.as_str());
                let manifest = Bundles::manifest(&folder)?;
                self.check(&manifest, &folder, terms.envs.as_ref())?;
                Placed { manifest, folder }
            }
        };
        log::info!(
            "{name} {}: in place at {}",
            placed.manifest.version,
            placed.folder.display()
        );
        self.keep(&name, &package);
        let settled = self
            .ask(|reply| JobRequest::Installed {
                name: name.clone(),
                envs: terms.envs.clone(),
                limits: terms.limits.clone(),
                reply,
            })
            .map_err(|why| Failure::new(ErrorCode::MANIFEST_INVALID, why))?;
        if kind == Kind::Bundle
            && let Err(failure) = self.bundles().prune(&name)
        {
            log::warn!("{name}: old versions are left: {}", failure.describe());
        }
        let version = placed.manifest.version.to_string();
        let mut success = match settled {
            Settled::Stopped => Success::new("success: installed, and not wanted running"),
            settled => settled_result(&name, settled)?,
        };
        success.running = Some(version);
        Ok(success)
    }

    /// The package on disk, with the checksum of the job: fetched, or found
    /// where an interrupted run of this job left it.
    pub(super) fn obtain_unverified(
        &self,
        taken: &TakenJob,
        name: &AgentName,
    ) -> Result<PathBuf, Failure> {
        let kept = self.paths.packages().join(format!("{name}.new"));
        let fetched = taken
            .steps
            .iter()
            .rev()
            .find_map(|step| step.strip_prefix("fetched "));
        if let Some(sum) = fetched {
            // It may be kept already: then only the answer was missing.
            let places = [kept.clone(), self.kept(name)];
            let is_it = |place: &PathBuf| checksum_of(place).is_some_and(|s| s.hex() == sum);
            if let Some(place) = places.into_iter().find(is_it) {
                return Ok(place);
            }
        }
        let downloaded = self.fetch(taken)?;
        std::fs::rename(&downloaded.path, &kept)
            .map_err(|error| Failure::file("rename", &downloaded.path, error))?;
        self.step(taken, &format!("fetched {}", downloaded.checksum.hex()))?;
        Ok(kept)
    }

    fn fetch(&self, taken: &TakenJob) -> Result<download::Downloaded, Failure> {
        let terms = &taken.job.terms;
        let (servers, token) = self.ask(|reply| JobRequest::Access { reply });
        let own: Vec<Server> = servers.iter().cloned().collect();
        let base = ServerList::parse(&taken.server)
            .ok()
            .and_then(|list| list.iter().next().cloned());
        let config = &self.config.download;
        let directory = self.paths.tmp();
        let request = Request {
            url: terms.url.as_deref().unwrap_or_default(),
            base: base.as_ref(),
            own_servers: &own,
            token: token.as_ref(),
            checksum: terms.checksum,
            directory: &directory,
            ca_file: self.config.ca_file.as_deref(),
        };
        let limits = download::Limits {
            max_bytes: config.max_bytes,
            deadline: Duration::from_secs(config.timeout),
            stall: Duration::from_secs(config.stall_timeout),
            rate: std::num::NonZeroU64::new(config.rate),
            ..download::Limits::default()
        };
        download::fetch(&request, &limits, &|_| Control::Continue)
    }

    pub(super) fn bundles(&self) -> Bundles {
        Bundles::new(&self.paths.bundles(), package::archive::Bounds::default())
    }

    fn place_bundle(
        &self,
        taken: &TakenJob,
        package: &Path,
        expected: &Expected,
    ) -> Result<Placed, Failure> {
        let bundles = self.bundles();
        let unpacked = bundles.unpack(package, expected)?;
        let envs = taken.job.terms.envs.as_ref();
        if let Err(failure) = self.check(&unpacked.manifest, &unpacked.folder, envs) {
            // Nothing will ever switch to it.
            if let Err(error) = bundles.prune(&expected.name) {
                log::warn!("{} is left: {error}", unpacked.folder.display());
            }
            return Err(failure);
        }
        self.step(taken, "switching")?;
        bundles.switch(&expected.name, &unpacked.folder)?;
        Ok(Placed {
            manifest: unpacked.manifest,
            folder: unpacked.folder,
        })
    }

    fn place_packaged(
        &self,
        taken: &TakenJob,
        kind: Kind,
        package: &Path,
        header: &package::Header,
    ) -> Result<(), Failure> {
        let query = |command: &package::Command| self.query(command);
        let is_installed = || -> Result<bool, Failure> {
            let found = installer::installed(kind, &header.name, &query)?;
            Ok(found.is_some_and(|version| version == header.full_version()))
        };
        let record = installer_record(&taken.job.id);
        if taken.steps.iter().any(|step| step == "installer") {
            // An earlier BootAgent began it: its end is awaited, and then the
            // database knows better than any memory.
            let limit = Duration::from_secs(self.config.jobs.installer_timeout);
            let end = self.ask(|reply| JobRequest::Await {
                name: record.clone(),
                limit,
                reply,
            });
            if end == OneshotEnd::TimedOut {
                return Err(Failure::new(
                    ErrorCode::INSTALLER_TIMED_OUT,
                    "the package manager was killed at its deadline",
                ));
            }
            if is_installed()? {
                return Ok(());
            }
        } else {
            self.step(taken, "installer")?;
        }
        let downgrade = match taken.job.terms.downgrade {
            Some(true) => Downgrade::Allowed,
            Some(false) | None => Downgrade::Refused,
        };
        let command = installer::install(kind, package, downgrade)
            .ok_or_else(|| Failure::new(ErrorCode::PACKAGE_KIND_UNSUPPORTED, "no installer"))?;
        self.run_until_unlocked(kind, &record, command)?;
        if is_installed()? {
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
        let give_up = Instant::now() + command.lock_wait;
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

    /// Where the package that is in place is kept.
    fn kept(&self, name: &AgentName) -> PathBuf {
        self.paths.packages().join(format!("{name}.current"))
    }

    /// Keeps the package that is in place, and the one before it.
    fn keep(&self, name: &AgentName, package: &Path) {
        let current = self.kept(name);
        let previous = self.paths.packages().join(format!("{name}.previous"));
        let same = checksum_of(&current).is_some_and(|sum| checksum_of(package) == Some(sum));
        if !same {
            let _ = std::fs::rename(&current, &previous);
        }
        if let Err(error) = std::fs::rename(package, &current) {
            log::warn!("{name}: its package is not kept: {error}");
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

fn checksum_of(path: &Path) -> Option<Checksum> {
    let mut file = std::fs::File::open(path).ok()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match std::io::Read::read(&mut file, &mut buffer).ok()? {
            0 => return Some(Checksum(hash.finalize().into())),
            count => hash.update(&buffer[..count]),
        }
    }
}
