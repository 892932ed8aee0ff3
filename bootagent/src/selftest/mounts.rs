//! Mounts: what a rename may cross, what is free, what may be executed.
//!
//! The one rule: two paths are on one mount when the kernel says so: equal
//! device numbers are not enough, because a bind mount of the same file
//! system refuses a rename too.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};

use super::folders::nearest_existing;
use super::{Check, Subject};
use crate::download::space;

/// Below this a download is refused (2004): it always leaves as much free.
const SCARCE_BYTES: u64 = 16 * 1024 * 1024;
/// Below this not even metafile and journal are safe.
const NO_BYTES: u64 = 1024 * 1024;
/// A package brings about as many files.
const SCARCE_INODES: u64 = 100;

/// What tells one mount from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mount {
    device: u64,
    /// The kernel's number of the mount; none before Linux 3.15.
    id: Option<u64>,
}

/// Whether files can be renamed from the temporary folder to where they
/// belong (document 002's "Invalid cross-device link").
pub(super) fn one_mount(subject: &Subject<'_>) -> Vec<Check> {
    let tmp = subject.paths.tmp();
    let metafile_folder = subject.paths.state();
    let targets = [
        ("the metafile", metafile_folder),
        ("cached packages", subject.paths.packages()),
    ];
    let mut checks = Vec::new();
    for (what, folder) in targets {
        match compare(&tmp, &folder) {
            Ok(None) => {}
            Ok(Some(difference)) => {
                let text = format!(
                    "{} and {what} are on two mounts ({difference}): a rename between them fails \
                     with \"Invalid cross-device link\"; put both on one, unmount one of them",
                    tmp.display()
                );
                checks.push(Check::fail("one mount", text));
            }
            Err((path, error)) => {
                let text = format!("{} cannot be looked at: {error}", path.display());
                checks.push(Check::warn("one mount", text));
            }
        }
    }
    if checks.is_empty() {
        let text = format!("{}, metafile and packages are on one", tmp.display());
        checks.push(Check::ok("one mount", text));
    }
    checks
}

/// Bytes and inodes where the daemon writes.
pub(super) fn space(subject: &Subject<'_>) -> Vec<Check> {
    let paths = &subject.paths;
    let mut seen = Vec::new();
    let mut checks = Vec::new();
    for folder in [paths.state(), paths.tmp(), paths.logs(), paths.run()] {
        let existing = nearest_existing(&folder);
        let device = mount_of(existing).map(|mount| mount.device).ok();
        if device.is_some() && seen.contains(&device) {
            continue;
        }
        seen.push(device);
        checks.push(match space::free(existing) {
            Ok(free) => judge_space(&folder, free),
            Err(failure) => Check::warn("space", failure.to_string()),
        });
    }
    checks
}

fn judge_space(folder: &Path, free: space::Free) -> Check {
    let inodes = free.inodes.map_or("inodes as needed".to_owned(), |left| {
        format!("{left} inodes")
    });
    let text = format!(
        "{} MiB and {inodes} are free in {}",
        free.bytes >> 20,
        folder.display()
    );
    let left = free.inodes.unwrap_or(u64::MAX);
    if free.bytes < NO_BYTES || left == 0 {
        Check::fail(
            "space",
            format!("{text}: metafile and journal cannot be written; free some"),
        )
    } else if free.bytes < SCARCE_BYTES || left < SCARCE_INODES {
        Check::warn(
            "space",
            format!("{text}: packages would be refused (2004); free some"),
        )
    } else {
        Check::ok("space", text)
    }
}

/// Whether sub-agents may be executed where they are installed.
pub(super) fn execution(subject: &Subject<'_>) -> Vec<Check> {
    let paths = &subject.paths;
    let folders = [paths.packaged_agents(), paths.bundles()];
    let forbids = |folder: &PathBuf| {
        let found = statvfs(nearest_existing(folder));
        found.is_ok_and(|found| found.flags().contains(FsFlags::ST_NOEXEC))
    };
    let warn = |folder: PathBuf| {
        let text = format!(
            "{} is on a mount with noexec: no sub-agent there can be started; remount it with exec",
            folder.display()
        );
        Check::warn("execution", text)
    };
    folders.into_iter().filter(forbids).map(warn).collect()
}

/// How the mounts of two paths differ, in words; `None` when they do not.
fn compare(a: &Path, b: &Path) -> Result<Option<String>, (PathBuf, io::Error)> {
    let (a, b) = (nearest_existing(a), nearest_existing(b));
    let of = |path: &Path| mount_of(path).map_err(|error| (path.to_path_buf(), error));
    let (first, second) = (of(a)?, of(b)?);
    if first == second {
        return Ok(None);
    }
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let name = |mount: Mount| mount.id.and_then(|id| describe(&table, id));
    let or_device = |mount: Mount| {
        let (major, minor) = (
            nix::sys::stat::major(mount.device),
            nix::sys::stat::minor(mount.device),
        );
        name(mount).unwrap_or_else(|| format!("device {major}:{minor}"))
    };
    Ok(Some(format!(
        "{} and {}",
        or_device(first),
        or_device(second)
    )))
}

fn mount_of(path: &Path) -> io::Result<Mount> {
    // O_PATH opens the name only: nothing is read, no device is woken.
    let mut options = std::fs::OpenOptions::new();
    let file = options
        .read(true)
        .custom_flags(nix::libc::O_PATH)
        .open(path)?;
    let info = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let text = std::fs::read_to_string(info).unwrap_or_default();
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    Ok(Mount {
        device: file.metadata()?.dev(),
        id,
    })
}

/// Mount point and kind of the mount `id`: `/var (ext4)`.
fn describe(table: &str, id: u64) -> Option<String> {
    let line = table
        .lines()
        .find(|line| line.split(' ').next() == Some(&id.to_string()))?;
    let point = line.split(' ').nth(4)?;
    let kind = line.split_once(" - ")?.1.split(' ').next()?;
    Some(format!("{point} ({kind})"))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_mount_is_described_by_its_line() {
        let table = "36 35 98:0 / / rw,noatime shared:1 - ext4 /dev/root rw\n\
                     37 36 0:5 /sub /var/tmp rw - tmpfs tmpfs rw\n";
        assert_eq!(describe(table, 37).as_deref(), Some("/var/tmp (tmpfs)"));
        assert_eq!(describe(table, 36).as_deref(), Some("/ (ext4)"));
        assert_eq!(describe(table, 3), None);
    }

    #[test]
    fn proc_is_another_mount_than_the_temporary_folder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let inside = folder.path().join("a/b");
        assert!(matches!(compare(folder.path(), &inside), Ok(None)));
        let difference = compare(&inside, Path::new("/proc")).expect("both can be looked at");
        let difference = difference.expect("two mounts");
        assert!(
            difference.contains("/proc (proc)") || difference.contains("device"),
            "{difference}"
        );
    }

    #[test]
    fn scarce_space_warns_and_none_fails() {
        let level =
            |bytes, inodes| judge_space(Path::new("/x"), space::Free { bytes, inodes }).level;
        assert_eq!(level(1 << 30, Some(10_000)), Level::Ok);
        assert_eq!(level(1 << 30, None), Level::Ok);
        assert_eq!(level((16 << 20) - 1, None), Level::Warn);
        assert_eq!(level(1 << 30, Some(99)), Level::Warn);
        assert_eq!(level(1 << 30, Some(0)), Level::Fail);
        assert_eq!(level(1000, None), Level::Fail);
    }
}
