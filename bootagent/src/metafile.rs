//! Identity and intent of this host, in one file.
//!
//! Its absence means first start. A damaged one is replaced by its previous
//! copy and reported; it never leads to a new identity.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bootagent_kit::fs::{FsError, previous_path, read_limited};
use bootagent_protocol::{AgentName, Limits};
use serde::{Deserialize, Serialize};

/// The format this version writes; a higher one is not read.
pub const FORMAT: u32 = 1;
/// A larger file is not ours.
const MAX_BYTES: u64 = 4 << 20;

/// What the metafile holds. Contains a secret: never printed.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Metafile {
    /// Version of this file's shape.
    pub format: u32,
    /// The host's identity, a UUID.
    pub agentsn: String,
    /// Whether a server has answered a status with this identity.
    pub confirmed: bool,
    /// The host's secret for its servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Servers tried before the compiled-in ones.
    #[serde(default)]
    pub svrlist: String,
    /// Seconds between two statuses.
    pub step: u64,
    /// Tags the server gave.
    #[serde(default)]
    pub tags: String,
    /// What is wanted of each child.
    #[serde(default)]
    pub children: BTreeMap<AgentName, ChildIntent>,
}

/// What is wanted of one child; it outlives its package's upgrades.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChildIntent {
    /// Whether it shall run.
    pub wanted_running: bool,
    /// Environment of the last job that gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envs: Option<BTreeMap<String, String>>,
    /// Limits of the last job that gave some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// Where the metafile came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// There was none: this is a first start.
    FirstStart,
    /// The file itself.
    File,
    /// The previous copy; the text says what was wrong with the file.
    Previous(String),
}

/// Why there is no metafile to start with.
#[derive(Debug, thiserror::Error)]
pub enum MetafileError {
    /// Neither the file nor its previous copy can be used.
    #[error(
        "{} cannot be used ({damage}), and neither can its previous copy ({previous}); \
         restore one of them from a backup, or remove both to enrol this host as a new one",
        path.display()
    )]
    Damaged {
        /// The metafile.
        path: PathBuf,
        /// What is wrong with it.
        damage: String,
        /// What is wrong with its previous copy.
        previous: String,
    },
    /// Written by a later version.
    #[error(
        "{} has format {format}, this version reads up to {FORMAT}: install the BootAgent \
         that wrote it",
        path.display()
    )]
    Newer {
        /// The metafile.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The file system said no.
    #[error("the metafile cannot be read")]
    Read(#[source] FsError),
}

impl Metafile {
    /// A new host's metafile.
    pub fn first(agentsn: String, svrlist: String, step: u64) -> Self {
        Self {
            format: FORMAT,
            agentsn,
            confirmed: false,
            token: None,
            svrlist,
            step,
            tags: String::new(),
            children: BTreeMap::new(),
        }
    }

    /// Reads the metafile; `None` on a first start.
    pub fn load(path: &Path) -> Result<(Option<Self>, Origin), MetafileError> {
        let damage = match read(path)? {
            Found::Metafile(metafile) => return Ok((Some(*metafile), Origin::File)),
            Found::Nothing => None,
            Found::Damage(damage) => Some(damage),
        };
        match (read(&previous_path(path))?, damage) {
            (Found::Nothing, None) => Ok((None, Origin::FirstStart)),
            (Found::Metafile(metafile), damage) => {
                let damage = damage.unwrap_or_else(|| "it is missing".into());
                Ok((Some(*metafile), Origin::Previous(damage)))
            }
            (previous, damage) => Err(MetafileError::Damaged {
                path: path.to_path_buf(),
                damage: damage.unwrap_or_else(|| "it is missing".into()),
                previous: match previous {
                    Found::Damage(damage) => damage,
                    _ => "there is none".into(),
                },
            }),
        }
    }

    /// The file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("keys are strings");
        bytes.push(b'\n');
        bytes
    }
}

enum Found {
    Nothing,
    Metafile(Box<Metafile>),
    Damage(String),
}

fn read(path: &Path) -> Result<Found, MetafileError> {
    let bytes = match read_limited(path, MAX_BYTES) {
        Err(error) if error.is_not_found() => return Ok(Found::Nothing),
        other => other.map_err(MetafileError::Read)?,
    };
    if bytes.is_empty() {
        return Ok(Found::Damage("it is empty".into()));
    }
    #[derive(Deserialize)]
    struct Shape {
        format: u32,
    }
    // The format first: a later one may lack keys this version needs.
    match serde_json::from_slice::<Shape>(&bytes) {
        Ok(Shape { format }) if format > FORMAT => {
            return Err(MetafileError::Newer {
                path: path.to_path_buf(),
                format,
            });
        }
        _ => {}
    }
    match serde_json::from_slice::<Metafile>(&bytes) {
        Ok(metafile) if uuid::Uuid::parse_str(&metafile.agentsn).is_ok() => {
            Ok(Found::Metafile(Box::new(metafile)))
        }
        Ok(_) => Ok(Found::Damage("agentsn: a UUID is expected".into())),
        Err(error) => Ok(Found::Damage(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use bootagent_kit::fs::write_atomic_keeping;

    use super::*;

    fn sample() -> Metafile {
        Metafile::first(uuid::Uuid::new_v4().to_string(), "a:1,b".into(), 600)
    }

    #[test]
    fn no_file_is_a_first_start_and_a_written_one_reads_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metafile.json");
        assert!(matches!(
            Metafile::load(&path),
            Ok((None, Origin::FirstStart))
        ));
        let metafile = sample();
        write_atomic_keeping(&path, &metafile.to_bytes(), 0o600).expect("written");
        let (read, origin) = Metafile::load(&path).expect("readable");
        assert_eq!(origin, Origin::File);
        assert!(read == Some(metafile));
    }

    #[test]
    fn every_cut_of_the_file_falls_back_to_the_previous_copy() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metafile.json");
        let metafile = sample();
        write_atomic_keeping(&path, &metafile.to_bytes(), 0o600).expect("written");
        write_atomic_keeping(&path, &metafile.to_bytes(), 0o600).expect("written");
        let whole = metafile.to_bytes();
        for length in 0..whole.len() - 2 {
            std::fs::write(&path, &whole[..length]).expect("writable");
            let (read, origin) = Metafile::load(&path).expect("the previous copy");
            assert_eq!(read.map(|m| m.agentsn), Some(metafile.agentsn.clone()));
            assert!(matches!(origin, Origin::Previous(_)));
        }
        std::fs::remove_file(&path).expect("removable");
        assert!(matches!(
            Metafile::load(&path),
            Ok((Some(_), Origin::Previous(_)))
        ));
    }

    #[test]
    fn damage_without_a_copy_and_a_newer_format_are_errors_that_say_what_to_do() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metafile.json");
        std::fs::write(&path, b"{").expect("writable");
        let error = Metafile::load(&path).err().expect("refused").to_string();
        assert!(
            error.contains("restore") && error.contains("metafile.json"),
            "{error}"
        );
        std::fs::write(&path, br#"{"format":2,"who":"knows"}"#).expect("writable");
        let error = Metafile::load(&path).err().expect("refused").to_string();
        assert!(
            error.contains("format 2") && error.contains("install"),
            "{error}"
        );
    }
}
