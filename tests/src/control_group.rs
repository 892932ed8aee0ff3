//! The cgroups of one BootAgent, read where the kernel shows them.
//!
//! The one rule: only groups below the name of that BootAgent are touched.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long the processes of a group may take to end.
const REMOVAL: Duration = Duration::from_secs(10);

/// The folders of BootAgent's group `name`, one per hierarchy.
pub fn folders(name: &str) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (_, point, kind) = (words.next()?, words.next()?, words.next()?);
        kind.starts_with("cgroup").then(|| Path::new(point))
    });
    points
        .map(|point| point.join(name))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// The folders of one child's group.
pub fn of_child(name: &str, child: &str) -> Vec<PathBuf> {
    let all = folders(name).into_iter().map(|folder| folder.join(child));
    all.filter(|folder| folder.is_dir()).collect()
}

/// What the first of `files` that exists says of a child's group.
pub fn value(name: &str, child: &str, files: &[&str]) -> Option<String> {
    of_child(name, child).iter().find_map(|folder| {
        files.iter().find_map(|file| {
            let text = std::fs::read_to_string(folder.join(file)).ok()?;
            Some(text.trim().to_owned())
        })
    })
}

/// Every process of a child's group.
pub fn processes(name: &str, child: &str) -> Vec<i32> {
    let mut pids: Vec<i32> = of_child(name, child).iter().flat_map(|f| pids(f)).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn pids(folder: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Kills what is in the groups below `name` and removes them.
pub fn remove(name: &str) {
    for folder in folders(name) {
        let children = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut groups: Vec<PathBuf> = children
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect();
        groups.push(folder);
        for group in groups {
            let begun = Instant::now();
            while group.exists() && begun.elapsed() < REMOVAL {
                for pid in pids(&group) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
                if std::fs::remove_dir(&group).is_err() {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            if group.exists() {
                // No panic: this runs while a failed test is taken down.
                eprintln!("{} could not be removed", group.display());
            }
        }
    }
}
