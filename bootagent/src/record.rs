//! Run records: what the next BootAgent must know of a process of ours.
//!
//! One small file per process in /run, written before exec. A record of
//! another boot says nothing: its processes are gone.

use std::path::{Path, PathBuf};

use bootagent_core::restart::{Last, Manner, Record};
use bootagent_core::time::Uptime;
use bootagent_kit::fs::{FsError, read_limited};
use serde::{Deserialize, Serialize};

use crate::process::Identity;

const MAX_BYTES: u64 = 64 * 1024;

/// What is on disk about one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The boot this was written in.
    pub boot_id: String,
    /// Who it is, once it was forked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Abnormal ends in a row that count.
    #[serde(default)]
    pub anomalies: u32,
    /// What was last known.
    #[serde(default)]
    pub last: LastKnown,
    /// The version that was started.
    #[serde(default)]
    pub version: String,
    /// OOM kills its group counted before this run.
    #[serde(default)]
    pub oom_kills: u64,
    /// Refused forks its group had counted when that was last told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_forks: Option<u64>,
}

/// [`Last`] as it is written; moments are nanoseconds since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastKnown {
    /// Never started in this boot, or stopped on purpose.
    #[default]
    Idle,
    /// Forked, perhaps not yet executed.
    Starting,
    /// Running since then.
    Running(u64),
    /// Being stopped to be what is wanted.
    Stopping,
    /// Ended normally at that moment.
    EndedNormally(u64),
    /// Ended abnormally at that moment.
    EndedAbnormally(u64),
    /// Ended by a limit at that moment.
    EndedByLimit(u64),
    /// A oneshot that ended normally.
    Done,
    /// Given up.
    Fatal,
}

impl From<Last> for LastKnown {
    fn from(last: Last) -> Self {
        match last {
            Last::Idle => Self::Idle,
            Last::Starting => Self::Starting,
            Last::Running { started_at } => Self::Running(started_at.as_nanos()),
            Last::Ended {
                at,
                manner: Manner::Normal,
            } => Self::EndedNormally(at.as_nanos()),
            Last::Ended {
                at,
                manner: Manner::Abnormal,
            } => Self::EndedAbnormally(at.as_nanos()),
            Last::Ended {
                at,
                manner: Manner::Limit,
            } => Self::EndedByLimit(at.as_nanos()),
            Last::Stopping => Self::Stopping,
            Last::Done => Self::Done,
            Last::Fatal => Self::Fatal,
        }
    }
}

impl From<LastKnown> for Last {
    fn from(last: LastKnown) -> Self {
        let ended = |at, manner| Self::Ended {
            at: Uptime::from_nanos(at),
            manner,
        };
        match last {
            LastKnown::Idle => Self::Idle,
            LastKnown::Starting => Self::Starting,
            LastKnown::Running(at) => Self::Running {
                started_at: Uptime::from_nanos(at),
            },
            LastKnown::EndedNormally(at) => ended(at, Manner::Normal),
            LastKnown::EndedAbnormally(at) => ended(at, Manner::Abnormal),
            LastKnown::EndedByLimit(at) => ended(at, Manner::Limit),
            LastKnown::Stopping => Self::Stopping,
            LastKnown::Done => Self::Done,
            LastKnown::Fatal => Self::Fatal,
        }
    }
}

impl RunRecord {
    /// A record of `record` in this boot.
    pub fn new(boot_id: &str, identity: Option<Identity>, record: Record, version: &str) -> Self {
        Self {
            boot_id: boot_id.to_owned(),
            identity,
            anomalies: record.anomalies,
            last: record.last.into(),
            version: version.to_owned(),
            oom_kills: 0,
            refused_forks: None,
        }
    }

    /// The same with what its group had counted: OOM kills before this run, and
    /// refused forks that are told.
    pub fn counting_from(mut self, oom_kills: u64, refused_forks: u64) -> Self {
        self.oom_kills = oom_kills;
        self.refused_forks = Some(refused_forks);
        self
    }

    /// The part the restart policy knows.
    pub fn to_core(&self) -> Record {
        Record {
            anomalies: self.anomalies,
            last: self.last.into(),
        }
    }

    /// Writes it so that a reader sees the old or the new one, whole. /run is
    /// memory and a record of another boot is void, so nothing is synced.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(), FsError> {
        let path = path(folder, name);
        let temporary = folder.join(format!(".{name}.new"));
        let bytes = serde_json::to_vec(self).expect("keys are strings");
        std::fs::write(&temporary, bytes)
            .map_err(|source| FsError::new("writing", &temporary, source))?;
        std::fs::rename(&temporary, &path)
            .map_err(|source| FsError::new("renaming to", &path, source))
    }

    /// Reads the record `name` of this boot. A damaged one counts as missing:
    /// what it meant is then found by its cgroup.
    pub fn read(folder: &Path, name: &str, boot_id: &str) -> Option<Self> {
        let bytes = read_limited(&path(folder, name), MAX_BYTES).ok()?;
        let record: Self = serde_json::from_slice(&bytes).ok()?;
        (record.boot_id == boot_id).then_some(record)
    }

    /// Forgets the record `name`.
    pub fn remove(folder: &Path, name: &str) {
        let _ = std::fs::remove_file(path(folder, name));
    }
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_in_its_own_boot_only() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let last = Last::Ended {
            at: Uptime::from_secs(7),
            manner: Manner::Limit,
        };
        let core = Record { anomalies: 2, last };
        RunRecord::new("boot", None, core, "1")
            .write(folder.path(), "a")
            .expect("written");
        let read = RunRecord::read(folder.path(), "a", "boot").expect("there");
        assert_eq!(read.to_core(), core);
        assert_eq!(RunRecord::read(folder.path(), "a", "another boot"), None);
        std::fs::write(folder.path().join("a.json"), "{").expect("written");
        assert_eq!(RunRecord::read(folder.path(), "a", "boot"), None);
    }
}
