//! Packages: what they are, and putting them on the host.
//!
//! [`signature`] tells whose a file is, [`Kind::of`] looks at it, [`inspect`]
//! and [`check`] at its header, [`bundle`] unpacks and switches, [`installer`]
//! tells the host's package manager what to do. Nothing here starts, stops or
//! waits for a process: the supervisor does that. The one rule: what runs is undisturbed until the new
//! version is complete and is what the job ordered.

pub mod archive;
pub mod bundle;
mod header;
pub mod installer;
mod run;
pub mod signature;
mod unpack;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use bootagent_protocol::ErrorCode;

pub use bundle::{Bundles, Expected, Removal, Unpacked};
pub use header::{Header, check, check_not_older, inspect};
pub use installer::{Downgrade, Verdict};
pub use run::{Command, Exit, Output, Run};

use crate::download::Failure;

/// The first bytes of each kind.
const RPM_MAGIC: &[u8] = &[0xed, 0xab, 0xee, 0xdb];
const DEB_MAGIC: &[u8] = b"!<arch>\ndebian-binary";
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 0x08];
/// Where a package manager's programs are.
const PROGRAM_FOLDERS: [&str; 4] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// The kinds of packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For rpm.
    Rpm,
    /// For dpkg.
    Deb,
    /// A `.tar.gz` with an `agent.json` at its top.
    Bundle,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rpm => "rpm",
            Self::Deb => "deb",
            Self::Bundle => "bundle",
        })
    }
}

impl Kind {
    /// The kind of the file at `path`, by its first bytes: its name may lie.
    ///
    /// # Errors
    /// 3005 for a file that is none of them, saying what it looks like.
    pub fn of(path: &Path) -> Result<Self, Failure> {
        let mut start = Vec::new();
        File::open(path)
            .and_then(|file| file.take(DEB_MAGIC.len() as u64).read_to_end(&mut start))
            .map_err(|error| Failure::file("read", path, error))?;
        if start.starts_with(RPM_MAGIC) {
            Ok(Self::Rpm)
        } else if start.starts_with(DEB_MAGIC) {
            Ok(Self::Deb)
        } else if start.starts_with(GZIP_MAGIC) {
            Ok(Self::Bundle)
        } else {
            // Not its text: a job may name any file of this host.
            let look = match start.first() {
                None => "is empty".to_owned(),
                Some(b'<') => "looks like a web page".to_owned(),
                Some(byte) => format!("begins with the byte {byte:#04x}"),
            };
            Err(Failure::new(
                ErrorCode::PACKAGE_KIND_UNSUPPORTED,
                format!(
                    "the file is no rpm, no deb and no .tar.gz, it {look}; check the job's url"
                ),
            ))
        }
    }

    /// Whether this host can install it under the prefix `root`.
    ///
    /// # Errors
    /// 3005 with the reason: rpm and deb need the prefix `/`, root's rights
    /// and the program.
    pub fn check_supported(self, root: &Path) -> Result<(), Failure> {
        let program = match self {
            Self::Rpm => "rpm",
            Self::Deb => "dpkg",
            Self::Bundle => return Ok(()),
        };
        let found = PROGRAM_FOLDERS
            .iter()
            .any(|folder| Path::new(folder).join(program).exists());
        let reason = if root != Path::new("/") {
            format!("BootAgent's root is {}, not /", root.display())
        } else if !nix::unistd::geteuid().is_root() {
            "BootAgent does not run as root".to_owned()
        } else if !found {
            format!("there is no program {program}")
        } else {
            return Ok(());
        };
        Err(Failure::new(
            ErrorCode::PACKAGE_KIND_UNSUPPORTED,
            format!("a {self} cannot be installed on this host: {reason}; order a bundle"),
        ))
    }
}
