//! Which cgroup hierarchies are mounted where.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The mounted hierarchies.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    /// The unified hierarchy, if it has controllers (in hybrid mode it has none).
    pub(super) version2_with_controllers: Option<PathBuf>,
    /// Mount point per version-1 controller.
    pub(super) version1: BTreeMap<String, PathBuf>,
}

pub(super) fn read() -> Mounts {
    let text = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut mounts = parse(&text);
    // Controllers bound to version 1 are not offered by version 2.
    mounts.version2_with_controllers = mounts.version2_with_controllers.filter(|mount| {
        let offered = std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        offered
            .split_whitespace()
            .any(|controller| controller == "memory" || controller == "cpu")
    });
    mounts
}

fn parse(text: &str) -> Mounts {
    let mut mounts = Mounts::default();
    for line in text.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(point), Some(kind), Some(options)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        match kind {
            "cgroup2" => mounts.version2_with_controllers = Some(PathBuf::from(point)),
            "cgroup" => {
                for controller in ["cpu", "memory", "pids", "freezer", "cpuacct"] {
                    if options.split(',').any(|option| option == controller) {
                        mounts
                            .version1
                            .insert(controller.to_owned(), PathBuf::from(point));
                    }
                }
            }
            _ => {}
        }
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joint_and_hybrid_mounts_are_told_apart() {
        let mounts = parse(
            "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n\
             cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n\
             cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n\
             cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n",
        );
        assert_eq!(
            mounts.version2_with_controllers,
            Some("/sys/fs/cgroup/unified".into())
        );
        assert_eq!(
            mounts.version1["cpu"],
            PathBuf::from("/sys/fs/cgroup/cpu,cpuacct")
        );
        assert_eq!(mounts.version1["cpuacct"], mounts.version1["cpu"]);
        assert!(!mounts.version1.contains_key("systemd"));
    }
}
