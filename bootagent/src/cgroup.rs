//! One cgroup per child: limits, usage, and every process of it.
//!
//! Both hierarchies are spoken by writing files: `version2` and `version1`
//! know the names of the files, this module what they mean. Every limit is
//! read back, because a kernel may accept a write and enforce nothing.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootagent_protocol::Limits;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

mod mounts;
pub mod place;
pub mod probe;
pub mod scope;
mod version1;
mod version2;

/// Where this host's cgroups for children are.
#[derive(Debug, Clone)]
pub enum Cgroups {
    /// The unified hierarchy: the folder that holds a group per child.
    Version2(PathBuf),
    /// One hierarchy per controller: the folder of each that holds a group
    /// per child.
    Version1(version1::Hierarchies),
    /// None can be used; the text says why.
    Unavailable(String),
}

/// One child's group.
#[derive(Debug, Clone)]
pub enum Group {
    /// Its one folder.
    Version2(PathBuf),
    /// Its folder in each hierarchy.
    Version1(version1::Hierarchies),
}

/// A limit the kernel did not take.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The file could not be written or read.
    #[error("limit {limit}: {}", path.display())]
    Io {
        /// `CPU`, `memory` or `pids`.
        limit: &'static str,
        /// The control file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel says something else than what was written.
    #[error("limit {limit}: {} says {found:?} after {wanted:?} was written", path.display())]
    NotTaken {
        /// `CPU`, `memory` or `pids`.
        limit: &'static str,
        /// The control file.
        path: PathBuf,
        /// What was written.
        wanted: String,
        /// What it says.
        found: String,
    },
    /// This host has no such controller.
    #[error("limit {limit}: the kernel offers no {limit} controller here")]
    NoController {
        /// `CPU`, `memory` or `pids`.
        limit: &'static str,
    },
}

/// What a group used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Bytes in use.
    pub memory: Option<u64>,
    /// CPU time used.
    pub cpu: Option<Duration>,
    /// Time spent waiting for quota.
    pub throttled: Option<Duration>,
    /// Periods of 100 ms in which it had to wait.
    pub throttled_periods: Option<u64>,
    /// Processes the out-of-memory killer took.
    pub oom_kills: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Processes and threads that were refused at the limit.
    pub refused_forks: Option<u64>,
}

impl Cgroups {
    /// Finds the hierarchy of this host and makes the folder `parent` in it,
    /// below which each child has its group.
    pub fn open(parent: &str) -> Self {
        let mounts = mounts::read();
        if let Some(mount) = &mounts.version2_with_controllers {
            return match version2::open(&mount.join(parent)) {
                Ok(folder) => Self::Version2(folder),
                Err(error) => {
                    Self::Unavailable(format!("cgroup v2 at {}: {error}", mount.display()))
                }
            };
        }
        match version1::open(&mounts, parent) {
            Ok(hierarchies) => Self::Version1(hierarchies),
            Err(error) => Self::Unavailable(error),
        }
    }

    /// The hierarchy below a delegated folder, such as a systemd scope's.
    pub fn open_version2_at(folder: &Path) -> Self {
        match version2::open(folder) {
            Ok(folder) => Self::Version2(folder),
            Err(error) => Self::Unavailable(format!("cgroup v2 at {}: {error}", folder.display())),
        }
    }

    /// `cgroup2`, `cgroup1` or `none`, as the status names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Version2(_) => "cgroup2",
            Self::Version1(_) => "cgroup1",
            Self::Unavailable(_) => "none",
        }
    }

    /// Makes (or finds) the group `name`; `None` where cgroups are unavailable.
    pub fn group(&self, name: &str) -> io::Result<Option<Group>> {
        match self {
            Self::Version2(folder) => version2::make(&folder.join(name))
                .map(Group::Version2)
                .map(Some),
            Self::Version1(hierarchies) => hierarchies.make(name).map(Group::Version1).map(Some),
            Self::Unavailable(_) => Ok(None),
        }
    }

    /// Names of the groups that exist, for tidying after a restart.
    pub fn names(&self) -> Vec<String> {
        let folder = match self {
            Self::Version2(folder) => folder.as_path(),
            Self::Version1(hierarchies) => hierarchies.process_folder(),
            Self::Unavailable(_) => return Vec::new(),
        };
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Removes the parent folder itself, if nothing is left in it.
    pub fn remove_if_empty(&self) {
        match self {
            Self::Version2(folder) => drop(std::fs::remove_dir(folder)),
            Self::Version1(hierarchies) => hierarchies.remove(),
            Self::Unavailable(_) => {}
        }
    }
}

impl Group {
    /// Moves a process in; its later children are born there.
    pub fn attach(&self, pid: i32) -> io::Result<()> {
        match self {
            Self::Version2(folder) => write(&folder.join("cgroup.procs"), &pid.to_string()),
            Self::Version1(hierarchies) => hierarchies.attach(pid),
        }
    }

    /// Writes every limit, also the absent ones as "no limit", and reads each
    /// back. Goes on after a failure: one refused limit must not lift others.
    pub fn limit(&self, limits: &Limits) -> Vec<LimitError> {
        match self {
            Self::Version2(folder) => version2::limit(folder, limits),
            Self::Version1(hierarchies) => hierarchies.limit(limits),
        }
    }

    /// What was used.
    pub fn usage(&self) -> Usage {
        match self {
            Self::Version2(folder) => version2::usage(folder),
            Self::Version1(hierarchies) => hierarchies.usage(),
        }
    }

    /// Processes the out-of-memory killer took since it was made.
    pub fn oom_kills(&self) -> u64 {
        let counted = match self {
            Self::Version2(folder) => version2::oom_kills(folder),
            Self::Version1(hierarchies) => hierarchies.oom_kills(),
        };
        counted.unwrap_or(0)
    }

    /// Processes and threads that were refused at its limit since it was made.
    pub fn refused_forks(&self) -> u64 {
        let counted = match self {
            Self::Version2(folder) => version2::refused_forks(folder),
            Self::Version1(hierarchies) => hierarchies.refused_forks(),
        };
        counted.unwrap_or(0)
    }

    /// Every process in it.
    pub fn processes(&self) -> Vec<i32> {
        let folder = match self {
            Self::Version2(folder) => folder.as_path(),
            Self::Version1(hierarchies) => hierarchies.process_folder(),
        };
        let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Whether no process that still runs is left. A zombie has ended and only
    /// waits for its parent, so it does not count.
    pub fn is_empty(&self) -> bool {
        let runs = |pid: &i32| crate::process::stat(*pid).is_some_and(|stat| stat.state != b'Z');
        !self.processes().iter().any(runs)
    }

    /// Sends `signal` once to every process that is in it now.
    pub fn signal(&self, signal: Signal) {
        let pinned: Vec<_> = self
            .processes()
            .into_iter()
            .map(|pid| (pid, crate::sys::pidfd_open(pid).ok()))
            .collect();
        // A number that is still listed was not used again before it was
        // pinned: what the pidfd holds is in the group.
        let listed = self.processes();
        for (pid, pidfd) in pinned.iter().filter(|(pid, _)| listed.contains(pid)) {
            let _ = match pidfd {
                Some(pidfd) => crate::sys::pidfd_send_signal(pidfd.as_fd(), signal),
                None => nix::sys::signal::kill(Pid::from_raw(*pid), signal),
            };
        }
    }

    /// Kills every process in it.
    pub fn kill(&self) {
        match self {
            Self::Version2(folder) => version2::kill(folder),
            Self::Version1(hierarchies) => hierarchies.kill(),
        }
    }

    /// Removes it; fails while a process is left.
    pub fn remove(&self) -> io::Result<()> {
        match self {
            Self::Version2(folder) => ignore_missing(std::fs::remove_dir(folder)),
            Self::Version1(hierarchies) => {
                hierarchies.remove();
                Ok(())
            }
        }
    }
}

/// Microseconds of CPU in each period of [`PERIOD_MICROSECONDS`].
fn quota_microseconds(percent: u32) -> u64 {
    u64::from(percent) * PERIOD_MICROSECONDS / 100
}

/// The kernel's default period; shorter ones cost more, longer ones stutter.
const PERIOD_MICROSECONDS: u64 = 100_000;

fn write(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())
}

fn read(path: &Path) -> io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Writes `wanted` and checks that the file then says the same.
fn write_and_read_back(
    limit: &'static str,
    path: &Path,
    wanted: &str,
    is_same: impl Fn(&str) -> bool,
) -> Result<(), LimitError> {
    let io_error = |source| LimitError::Io {
        limit,
        path: path.to_path_buf(),
        source,
    };
    write(path, wanted).map_err(io_error)?;
    let found = read(path).map_err(io_error)?;
    if is_same(&found) {
        return Ok(());
    }
    Err(LimitError::NotTaken {
        limit,
        path: path.to_path_buf(),
        wanted: wanted.to_owned(),
        found,
    })
}

/// Memory limits are rounded down to whole pages, of 64 KiB at most.
fn same_memory(wanted: u64) -> impl Fn(&str) -> bool {
    move |found| {
        found
            .parse::<u64>()
            .is_ok_and(|found| found <= wanted && wanted - found < 65_536)
    }
}

/// Value of `key` in a file of `key value` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = text
        .lines()
        .find(|line| line.split_whitespace().next() == Some(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests;
