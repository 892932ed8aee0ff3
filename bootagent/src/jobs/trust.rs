//! Whether a package may be installed here at all: signed by whom the host
//! trusts, and not older than what is in place.
//!
//! The one rule: a signature is verified on the file that is installed, in a
//! folder only root can write, after the last byte of it was written.

use std::path::PathBuf;

use bootagent_protocol::AgentName;

use super::Worker;
use crate::download::Failure;
use crate::journal::TakenJob;
use crate::package::{self, Bundles, Header, Kind};

impl Worker {
    /// The package on disk, whole, and signed where signatures are wanted.
    pub(super) fn obtain(&self, taken: &TakenJob, name: &AgentName) -> Result<PathBuf, Failure> {
        let (keys, signature) = (self.config.trusted_keys(), signature(taken));
        // What could never be installed is not fetched.
        keys.expect(signature)?;
        let package = self.obtain_unverified(taken, name)?;
        keys.verify(&package, signature, name)?;
        Ok(package)
    }

    /// What only the package's header tells: that its version is the signed
    /// one, and not older than what is in place, unless the job says
    /// `downgrade`. rpm and dpkg see to the latter themselves.
    pub(super) fn check_version(
        &self,
        taken: &TakenJob,
        kind: Kind,
        header: &Header,
    ) -> Result<(), Failure> {
        let terms = &taken.job.terms;
        let keys = self.config.trusted_keys();
        keys.check_version(signature(taken), header)?;
        if kind != Kind::Bundle || terms.downgrade == Some(true) {
            return Ok(());
        }
        let name = terms.name.as_ref();
        let current = name.and_then(|name| self.bundles().current(name));
        match current.map(|folder| Bundles::manifest(&folder)) {
            Some(Ok(current)) => package::check_not_older(header, current.version.as_str()),
            // A manifest that cannot be read is no version to protect.
            Some(Err(_)) | None => Ok(()),
        }
    }
}

fn signature(taken: &TakenJob) -> Option<&str> {
    taken.job.terms.signature.as_deref()
}
