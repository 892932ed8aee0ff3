//! install and upgrade: fetch, verify, put in place, check, start.
//!
//! What runs is undisturbed until the new version is complete, is what the job
//! ordered, and has passed its own check; rpm and deb can be checked only in
//! place, and are put back when they do not pass.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bootagent_kit::servers::{Server, ServerList};
use bootagent_protocol::{AgentName, ErrorCode, Manifest};

use super::keep::checksum_of;
use super::trial::Start;
use super::upgrade::{Back, Before, Place, Progress};
use super::{Outcome, Worker, name, own};
use crate::download::{self, Control, Failure, Request};
use crate::engine::JobRequest;
use crate::journal::TakenJob;
use crate::package::{self, Bundles, Expected, Kind};

impl Worker {
    pub(super) fn install(&self, taken: &TakenJob) -> Result<Outcome, Failure> {
        let name = name(taken)?;
        if own::is_own(&name) {
            return self.upgrade_self(taken);
        }
        let result = self.install_agent(taken, &name);
        if result.is_err() {
            self.discard(&name);
        }
        result
    }

    fn install_agent(&self, taken: &TakenJob, name: &AgentName) -> Result<Outcome, Failure> {
        let progress = Progress::of(&taken.steps);
        if let (Some(Some(before)), Some(back)) = (&progress.before, &progress.back) {
            return Ok(self.go_on_back(taken, name, before, back));
        }
        if let (Some(before), Some(tried)) = (&progress.before, &progress.up) {
            return self.try_out(taken, name, before.as_ref(), tried, Start::Resumed);
        }
        if let (Some(before), Some(folder)) = (&progress.before, &progress.switching)
            && let Some(version) = self.switch_again(name, folder)?
        {
            return self.try_out(taken, name, before.as_ref(), &version, Start::Now);
        }
        let expected = Expected {
            name: name.clone(),
            version: taken.job.terms.version.clone(),
        };
        let package = self.obtain(taken, name)?;
        let query = |command: &package::Command| self.query(command);
        let kind = Kind::of(&package)?;
        kind.check_supported(self.paths.root())?;
        let header = package::inspect(&package, kind, &query)?;
        package::check(&header, &expected)?;
        self.check_version(taken, kind, &header)?;
        let before = match progress.before {
            Some(before) => before,
            None => self.note_before(taken, kind)?,
        };
        let before = before.as_ref();
        let placed = match kind {
            Kind::Bundle => self.place_bundle(taken, &package, &expected, before),
            Kind::Rpm | Kind::Deb => self
                .place_packaged(taken, kind, &package, &header)
                .and_then(|()| {
                    let folder = self.paths.packaged_agents().join(name.as_str());
                    let manifest = Bundles::manifest(&folder)?;
                    self.check_as_it_will_run(taken, &manifest, &folder, before)?;
                    Ok(manifest.version.to_string())
                }),
        };
        let version = match placed {
            Ok(version) => version,
            Err(failure) => return self.undo(taken, name, before, (kind, &header), failure),
        };
        log::info!("{name} {version}: in place");
        self.try_out(taken, name, before, &version, Start::Now)
    }

    /// Nothing of it was started. A bundle is not in place yet; an rpm or deb
    /// may be, wholly or half, and what was there before is put back.
    fn undo(
        &self,
        taken: &TakenJob,
        name: &AgentName,
        before: Option<&Before>,
        (kind, header): (Kind, &package::Header),
        failure: Failure,
    ) -> Result<Outcome, Failure> {
        let unchanged = kind == Kind::Bundle || failure.code == ErrorCode::PACKAGE_MANAGER_LOCKED;
        let Some(before) = before.filter(|_| !unchanged) else {
            return Err(failure);
        };
        match &before.place {
            // The package manager refused and has changed nothing.
            Place::Package(Some(sum))
                if failure.code != ErrorCode::INSTALLER_TIMED_OUT
                    && self.is_kept_installed(name, sum) =>
            {
                Err(failure)
            }
            Place::Package(Some(_)) => {
                let back = Back {
                    code: failure.code,
                    cause: failure.describe(),
                    tried: header.full_version(),
                    was_started: false,
                };
                Ok(self.go_back(taken, name, before, back))
            }
            Place::Package(None) if self.is_installed(kind, header).unwrap_or(true) => {
                let mut failure = failure;
                failure.message.push_str(&format!(
                    " (it has replaced {}, of which no package is here to put back, and which runs on)",
                    before.version
                ));
                Err(failure)
            }
            Place::Package(None) | Place::Bundle(_) => Err(failure),
        }
    }

    /// The package on disk, with the checksum of the job: fetched, or found
    /// where an interrupted run of this job left it.
    pub(super) fn obtain_unverified(
        &self,
        taken: &TakenJob,
        name: &AgentName,
    ) -> Result<PathBuf, Failure> {
        let kept = self.arriving(name);
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

    /// Switches to the folder an interrupted run of this job was about to
    /// switch to; returns its version, none where the folder is not whole. It
    /// was verified and checked then; unpacked again it would push the version
    /// before out of its place.
    fn switch_again(&self, name: &AgentName, folder: &str) -> Result<Option<String>, Failure> {
        let folder = self.paths.bundles().join(name.as_str()).join(folder);
        let Ok(manifest) = Bundles::manifest(&folder) else {
            return Ok(None);
        };
        self.bundles().switch(name, &folder)?;
        Ok(Some(manifest.version.to_string()))
    }

    /// Unpacks, checks and switches; returns the version.
    fn place_bundle(
        &self,
        taken: &TakenJob,
        package: &Path,
        expected: &Expected,
        before: Option<&Before>,
    ) -> Result<String, Failure> {
        let (bundles, name) = (self.bundles(), &expected.name);
        let unpacked = bundles.unpack(package, expected)?;
        let (manifest, folder) = (&unpacked.manifest, &unpacked.folder);
        if let Err(failure) = self.check_as_it_will_run(taken, manifest, folder, before) {
            // Nothing will ever switch to it.
            if let Err(error) = bundles.prune(name) {
                log::warn!("{} is left: {error}", folder.display());
            }
            return Err(failure);
        }
        let last = folder.file_name().unwrap_or_default().to_string_lossy();
        self.step(taken, &format!("switching {last}"))?;
        bundles.switch(name, folder)?;
        Ok(manifest.version.to_string())
    }

    /// The version's own check, with the environment it will run in: the
    /// job's, or else that of an earlier job.
    fn check_as_it_will_run(
        &self,
        taken: &TakenJob,
        manifest: &Manifest,
        folder: &Path,
        before: Option<&Before>,
    ) -> Result<(), Failure> {
        let former = before.and_then(|before| before.given().envs);
        let envs = taken.job.terms.envs.as_ref().or(former.as_ref());
        self.check(manifest, folder, envs)
    }
}
