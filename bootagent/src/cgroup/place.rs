//! In which groups a process is, and going there.
//!
//! A program that was started in a group of its own, to be limited and killed
//! with it, leaves that group so when it has to outlive it. The rule: it goes
//! where another process is, or, where that cannot be reached from here, to the
//! top of what is mounted; never to a place that is made up.

use std::io;
use std::path::{Component, Path, PathBuf};

/// Moves this process beside `pid`, in every hierarchy in which they are apart.
/// Goes on after an error: each hierarchy that is left is one less.
pub fn follow(pid: i32) -> io::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let ours = std::fs::read_to_string("/proc/self/cgroup")?;
    let theirs = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let own_pid = std::process::id().to_string();
    let mut outcome = Ok(());
    for folder in folders_apart(&mounts, &ours, &theirs) {
        let moved = super::write(&folder.join("cgroup.procs"), &own_pid);
        outcome = outcome.and(moved);
    }
    outcome
}

/// The folders of the groups of `theirs` that are not among `ours`, both as in
/// /proc/PID/cgroup.
fn folders_apart(mounts: &str, ours: &str, theirs: &str) -> Vec<PathBuf> {
    let apart = theirs
        .lines()
        .filter(|line| !ours.lines().any(|own| own == *line));
    apart
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            mounts
                .lines()
                .find_map(|mount| folder(mount, controllers, path))
        })
        .collect()
}

/// Where `path` of the hierarchy with these controllers is, if this line of
/// mountinfo is about it. In a container a part of it may be all that is mounted.
fn folder(mount: &str, controllers: &str, path: &str) -> Option<PathBuf> {
    let (place, source) = mount.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut source = source.split(' ');
    let (kind, options) = (source.next()?, source.nth(1)?);
    let is_it = match controllers {
        "" => kind == "cgroup2",
        _ => {
            let has = |wanted: &str| options.split(',').any(|option| option == wanted);
            kind == "cgroup" && controllers.split(',').all(has)
        }
    };
    // Who was put here from outside (`docker exec`) is at `/..`.
    let is_within = |below: &&Path| !below.components().any(|part| part == Component::ParentDir);
    let below = Path::new(path).strip_prefix(root).ok();
    let below = below.filter(is_within).unwrap_or(Path::new(""));
    is_it.then(|| Path::new(point).join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_of_groups_one_is_not_in_are_found_in_both_versions() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
                      31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      33 30 0:29 /box /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpuacct,cpu\n\
                      35 30 0:31 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
                      34 30 0:30 /box /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let ours = "9:pids:/box/bootagent/job\n8:freezer:/bootagent/job\n4:cpu,cpuacct:/box/bootagent/job\n\
                    1:name=systemd:/here\n0::/bootagent/job\n";
        let theirs = "9:pids:/box\n8:freezer:/../else\n4:cpu,cpuacct:/box/daemon\n1:name=systemd:/here\n0::/a:b\n";
        let found = folders_apart(mounts, ours, theirs);
        let wanted = [
            "/sys/fs/cgroup/pids",
            "/sys/fs/cgroup/freezer",
            "/sys/fs/cgroup/cpu,cpuacct/daemon",
            "/sys/fs/cgroup/unified/a:b",
        ];
        assert_eq!(found, wanted.map(PathBuf::from));
        assert!(folders_apart(mounts, theirs, theirs).is_empty());
    }
}
