//! The configuration of the mesh, and the file with its group's key.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use bootagent_kit::date::Date;
use bootagent_kit::fs;
use serde::Deserialize;

use crate::mesh::message::{self, GroupKey};

/// Keys of the group at once, while it is changed.
const MAX_KEYS: usize = 4;

/// The mesh.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mesh {
    /// The list of peers; without it none is pinged.
    pub peers_file: Option<PathBuf>,
    /// A file with the group's key, which only its owner may read; several, one a line, while it is changed.
    pub key_file: Option<PathBuf>,
    /// Most events that are raised in an hour.
    pub events_per_hour: usize,
    /// When nothing is raised.
    pub maintenance: Vec<Maintenance>,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            peers_file: None,
            key_file: None,
            events_per_hour: 60,
            maintenance: Vec::new(),
        }
    }
}

/// A time in which nothing is raised.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// From then on,
    pub from: Minute,
    /// up to then.
    pub to: Minute,
    /// Of which peer, by its name or address; of all when absent.
    pub peer: Option<String>,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// No file.
    #[error("the key of `mesh.key_file` cannot be read")]
    Read(#[from] fs::FsError),
    /// Others may read it.
    #[error("others may read {}; `chmod 600` it, and make a new key", .0.display())]
    Open(PathBuf),
    /// No key, or one that could be guessed.
    #[error("{} holds no key: {reason}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: message::KeyError,
    },
}

impl Mesh {
    /// The group's keys: the first seals, all open. None without a file.
    pub fn keys(&self) -> Result<Vec<GroupKey>, KeyFileError> {
        let Some(path) = &self.key_file else {
            return Ok(Vec::new());
        };
        let bytes = fs::read_limited(path, 4_096)?;
        let mode = std::fs::metadata(path).map(|it| it.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o077 != 0) {
            return Err(KeyFileError::Open(path.clone()));
        }
        let lines = bytes.split(|it| *it == b'\n').map(<[u8]>::trim_ascii);
        let mut lines: Vec<&[u8]> = lines.filter(|it| !it.is_empty()).take(MAX_KEYS).collect();
        if lines.is_empty() {
            lines.push(b"");
        }
        let keys = lines.into_iter().map(GroupKey::new);
        keys.collect::<Result<_, _>>()
            .map_err(|reason| KeyFileError::Unfit {
                path: path.clone(),
                reason,
            })
    }
}

/// A minute in UTC, `2026-12-01T22:00Z`, as its first unix second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Minute(pub i64);

impl TryFrom<String> for Minute {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = |text: &str, most: i64| -> Option<i64> {
            let is_plain = text.len() == 2 && text.bytes().all(|it| it.is_ascii_digit());
            let number = text.parse().ok()?;
            (is_plain && number <= most).then_some(number)
        };
        let parts = || {
            let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
            let date: Date = date.parse().ok()?;
            let (hour, minute) = time.split_once(':')?;
            Some(date.unix() + number(hour, 23)? * 3_600 + number(minute, 59)? * 60)
        };
        parts().map(Self).ok_or_else(|| {
            format!("{text:?} is no minute in UTC, write it as \"2026-12-01T22:00Z\"")
        })
    }
}
