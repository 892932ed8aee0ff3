//! How far an upgrade of BootAgent itself is, on disk: what the old program,
//! the new one and the watcher tell each other over crashes and reboots.
//!
//! The folder holds one file, and its name is the standing. Success and going
//! back are claimed by renaming the same file, so that one of them wins. The
//! rule: what is on disk is said before it is done.

use std::io;
use std::path::{Path, PathBuf};

use bootagent_kit::fs::{FsError, ensure_dir, read_limited, sync_dir, write_atomic};
use serde::{Deserialize, Serialize};

/// Largest such file, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

const OPEN: &str = "window.json";
const CONFIRMED: &str = "confirmed.json";
const GOING_BACK: &str = "going-back.json";
const WENT_BACK: &str = "went-back.json";

/// One upgrade.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// The job that ordered it.
    pub job: String,
    /// The version that ran before.
    pub from: String,
    /// The version it is to be.
    pub to: String,
    /// How far it is.
    pub phase: Phase,
    /// The program's path, where the package puts it.
    pub program: PathBuf,
    /// What it was started with, where no systemd knows.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// And in which folder: arguments may name files by relative paths.
    #[serde(default = "root")]
    pub directory: PathBuf,
    /// `rpm` or `deb`.
    pub kind: Kind,
    /// The package of `from`, if it is here.
    #[serde(default)]
    pub package: Option<PathBuf>,
    /// The configuration both read, by an absolute path.
    pub config: PathBuf,
    /// Why the old one is put back.
    #[serde(default)]
    pub cause: Option<String>,
    /// How it was put back.
    #[serde(default)]
    pub remedy: Option<String>,
}

/// How far the new one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The package manager works.
    Installing,
    /// The new program is executed, or about to be.
    Executed,
}

/// The kinds of packages BootAgent itself has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// For rpm.
    Rpm,
    /// For dpkg.
    Deb,
}

/// Where an upgrade stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is under way.
    Open(Upgrade),
    /// The new one has reported to a server.
    Confirmed(Upgrade),
    /// The old one is being put back.
    GoingBack(Upgrade),
    /// The old one is back.
    WentBack(Upgrade),
}

impl Standing {
    /// What it is about.
    pub fn upgrade(&self) -> &Upgrade {
        match self {
            Self::Open(upgrade)
            | Self::Confirmed(upgrade)
            | Self::GoingBack(upgrade)
            | Self::WentBack(upgrade) => upgrade,
        }
    }
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Takeover {
    folder: PathBuf,
}

impl Takeover {
    /// That of a host.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
        }
    }

    /// Where the last upgrade stands. A file that cannot be read says nothing.
    pub fn standing(&self) -> Option<Standing> {
        let read = |name: &str| -> Option<Upgrade> {
            let bytes = read_limited(&self.folder.join(name), MAX_BYTES).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        // Later standings first: a crash may leave an earlier one beside them.
        None.or_else(|| read(WENT_BACK).map(Standing::WentBack))
            .or_else(|| read(GOING_BACK).map(Standing::GoingBack))
            .or_else(|| read(CONFIRMED).map(Standing::Confirmed))
            .or_else(|| read(OPEN).map(Standing::Open))
    }

    /// Whether a daemon of the old version has still to be brought back.
    pub fn is_going_back(&self) -> bool {
        self.folder.join(GOING_BACK).exists()
    }

    /// Begins. What earlier ones left goes.
    pub fn open(&self, upgrade: &Upgrade) -> Result<(), FsError> {
        ensure_dir(&self.folder, 0o700)?;
        for name in [WENT_BACK, GOING_BACK, CONFIRMED] {
            remove(&self.folder.join(name))?;
        }
        self.write(OPEN, upgrade)
    }

    /// Notes another phase. False when it is too late: the old one is being put
    /// back.
    pub fn advance(&self, upgrade: &Upgrade) -> Result<bool, FsError> {
        if !matches!(self.standing(), Some(Standing::Open(_))) {
            return Ok(false);
        }
        self.write(OPEN, upgrade).map(|()| true)
    }

    /// Nothing came of it, and nothing has to be watched.
    pub fn close(&self) -> Result<(), FsError> {
        remove(&self.folder.join(OPEN))?;
        sync_dir(&self.folder)
    }

    /// The new one has reported. False when it is too late.
    pub fn confirm(&self) -> Result<bool, FsError> {
        self.claim(CONFIRMED)
    }

    /// The old one is to be put back because of `cause`. False when it is too
    /// late.
    pub fn go_back(&self, upgrade: &Upgrade, cause: &str) -> Result<bool, FsError> {
        if !self.claim(GOING_BACK)? {
            return Ok(false);
        }
        let upgrade = Upgrade {
            cause: Some(cause.to_owned()),
            ..upgrade.clone()
        };
        self.write(GOING_BACK, &upgrade).map(|()| true)
    }

    /// The old one's files are back, in this way.
    pub fn went_back(&self, upgrade: &Upgrade, remedy: &str) -> Result<(), FsError> {
        let upgrade = Upgrade {
            remedy: Some(remedy.to_owned()),
            ..upgrade.clone()
        };
        self.write(WENT_BACK, &upgrade)
    }

    /// The old one runs again: nothing is left to do.
    pub fn settle(&self) -> Result<(), FsError> {
        remove(&self.folder.join(GOING_BACK))?;
        sync_dir(&self.folder)
    }

    fn write(&self, name: &str, upgrade: &Upgrade) -> Result<(), FsError> {
        let bytes = serde_json::to_vec_pretty(upgrade).expect("keys are strings");
        write_atomic(&self.folder.join(name), &bytes, 0o600)
    }

    fn claim(&self, name: &str) -> Result<bool, FsError> {
        if !matches!(self.standing(), Some(Standing::Open(_))) {
            return Ok(false);
        }
        let to = self.folder.join(name);
        match std::fs::rename(self.folder.join(OPEN), &to) {
            Ok(()) => sync_dir(&self.folder).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(FsError::new("renaming to", &to, error)),
        }
    }
}

fn root() -> PathBuf {
    PathBuf::from("/")
}

fn remove(path: &Path) -> Result<(), FsError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FsError::new("removing", path, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade() -> Upgrade {
        Upgrade {
            job: "7".into(),
            from: "1".into(),
            to: "2".into(),
            phase: Phase::Installing,
            program: "/usr/sbin/bootagent".into(),
            arguments: Vec::new(),
            directory: root(),
            kind: Kind::Rpm,
            package: None,
            config: "/etc/bootagent/bootagent.toml".into(),
            cause: None,
            remedy: None,
        }
    }

    #[test]
    fn success_and_going_back_exclude_each_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let takeover = Takeover::new(&folder.path().join("takeover"));
        assert_eq!(takeover.standing(), None);
        takeover.open(&upgrade()).expect("written");
        assert_eq!(takeover.standing(), Some(Standing::Open(upgrade())));
        assert!(takeover.confirm().expect("renamed"));
        assert!(!takeover.go_back(&upgrade(), "late").expect("looked"));
        assert_eq!(takeover.standing(), Some(Standing::Confirmed(upgrade())));

        takeover.open(&upgrade()).expect("written");
        assert!(takeover.go_back(&upgrade(), "crashes").expect("renamed"));
        assert!(!takeover.confirm().expect("looked"));
        let Some(Standing::GoingBack(going)) = takeover.standing() else {
            panic!("{:?}", takeover.standing());
        };
        assert_eq!(going.cause.as_deref(), Some("crashes"));
        takeover.went_back(&going, "by hand").expect("written");
        assert!(takeover.is_going_back());
        takeover.settle().expect("removed");
        assert!(!takeover.is_going_back());
        assert!(matches!(takeover.standing(), Some(Standing::WentBack(_))));
    }
}
