//! Packages kept on the host: the one in place, the one before it, and the one
//! on its way. From them a version is put back.
//!
//! The rule: a package becomes the current one only when its version stays,
//! so until then the current one is that of the version before.

use std::path::{Path, PathBuf};

use bootagent_protocol::{AgentName, Checksum};
use sha2::{Digest, Sha256};

use super::{Worker, own};
use crate::journal::TakenJob;

impl Worker {
    /// Where the package of a job is until its version stays.
    pub(super) fn arriving(&self, name: &AgentName) -> PathBuf {
        self.paths.packages().join(format!("{name}.new"))
    }

    /// Where the package that is in place is kept.
    pub(super) fn kept(&self, name: &AgentName) -> PathBuf {
        self.paths.packages().join(format!("{name}.current"))
    }

    fn kept_before(&self, name: &AgentName) -> PathBuf {
        self.paths.packages().join(format!("{name}.previous"))
    }

    /// The kept package with this checksum.
    pub(super) fn kept_with(&self, name: &AgentName, sum: &str) -> Option<PathBuf> {
        let mut kept = self.all_kept(name).into_iter();
        kept.find(|path| checksum_of(path).is_some_and(|found| found.hex() == sum))
    }

    /// Packages a version may be put back from.
    pub(super) fn all_kept(&self, name: &AgentName) -> [PathBuf; 2] {
        [self.kept(name), self.kept_before(name)]
    }

    /// The version that arrived stays: keeps its package, and the one before.
    pub(super) fn keep(&self, name: &AgentName) {
        let (package, current) = (self.arriving(name), self.kept(name));
        let Some(sum) = checksum_of(&package) else {
            // Kept already, before a crash.
            return;
        };
        if checksum_of(&current) != Some(sum) {
            let _ = std::fs::rename(&current, self.kept_before(name));
        }
        if let Err(error) = std::fs::rename(&package, &current) {
            log::warn!("{name}: its package is not kept: {error}");
        }
    }

    /// Removes what arrived for jobs that are not taken up again: one whose
    /// journal was damaged, or whose end was noted just before a crash.
    pub(super) fn discard_others(&self, interrupted: &[TakenJob]) {
        let names: Vec<_> = interrupted.iter().map(name_of).collect();
        let entries = std::fs::read_dir(self.paths.packages());
        for entry in entries.into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            if let Some(name) = file.strip_suffix(".new")
                && !names.contains(&name)
                && std::fs::remove_file(entry.path()).is_ok()
            {
                log::info!("{} of no job is removed", entry.path().display());
            }
        }
    }

    /// The version that arrived does not stay.
    pub(super) fn discard(&self, name: &AgentName) {
        let _ = std::fs::remove_file(self.arriving(name));
    }
}

/// The name its package has here.
fn name_of(taken: &TakenJob) -> &str {
    match &taken.job.terms.name {
        Some(name) if own::is_own(name) => own::NAME,
        Some(name) => name.as_str(),
        None => "",
    }
}

/// The SHA-256 of a file, if it can be read.
pub(super) fn checksum_of(path: &Path) -> Option<Checksum> {
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
