//! What [`super::Cgroups::open`] would find, without making anything.
//!
//! The one rule: nothing is written, also not to see whether it can be.

use std::path::Path;

use nix::unistd::{AccessFlags, eaccess};

use super::mounts;
use super::read;

/// The controllers limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Names hierarchy and controllers, or says why there will be no limits.
/// `parent` is the folder that would hold the children's groups.
pub fn probe(parent: &str) -> Result<String, String> {
    let mounts = mounts::read();
    if let Some(mount) = &mounts.version2_with_controllers {
        return version2(mount, parent);
    }
    if mounts.version1.is_empty() {
        return Err("no cgroup hierarchy is mounted; mount cgroup2 at /sys/fs/cgroup".into());
    }
    let lacking = lacking(|controller| mounts.version1.contains_key(controller));
    if !lacking.is_empty() {
        return Err(format!(
            "cgroup v1 without {lacking}; enable it when the kernel boots"
        ));
    }
    CONTROLLERS
        .iter()
        .try_for_each(|controller| is_writable(&mounts.version1[*controller]))?;
    Ok(format!("cgroup v1 with {}", CONTROLLERS.join(", ")))
}

fn version2(mount: &Path, parent: &str) -> Result<String, String> {
    let words = |path: &Path| read(path).unwrap_or_default();
    let has = |text: &str, wanted: &str| text.split_whitespace().any(|found| found == wanted);
    let offered = words(&mount.join("cgroup.controllers"));
    let lacking_here = lacking(|controller| has(&offered, controller));
    if !lacking_here.is_empty() {
        let shown = mount.display();
        return Err(format!(
            "cgroup v2 at {shown} without {lacking_here}; hand it down to this place"
        ));
    }
    let found = format!("cgroup v2 with {}", CONTROLLERS.join(", "));
    let below = words(&mount.join(parent).join("cgroup.subtree_control"));
    if lacking(|controller| has(&below, controller)).is_empty() {
        return Ok(found);
    }
    is_writable(mount)?;
    // A group that is not the kernel's root either has processes or hands
    // controllers down: in a container its root is such a group.
    let handed_down = words(&mount.join("cgroup.subtree_control"));
    let is_inner = mount.join("cgroup.type").exists();
    let has_processes = !words(&mount.join("cgroup.procs")).is_empty();
    let lacking = lacking(|controller| has(&handed_down, controller));
    if is_inner && has_processes && !lacking.is_empty() {
        return Err(format!(
            "{} holds processes itself and so cannot hand down {lacking}; move them into a group \
             below it, as systemd does",
            mount.display()
        ));
    }
    Ok(found)
}

fn lacking(has: impl Fn(&str) -> bool) -> String {
    let lacking: Vec<_> = CONTROLLERS
        .iter()
        .filter(|controller| !has(controller))
        .copied()
        .collect();
    lacking.join(", ")
}

fn is_writable(folder: &Path) -> Result<(), String> {
    eaccess(folder, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| {
        let shown = folder.display();
        format!(
            "{shown} is not writable ({}); run as root with cgroups mounted read-write",
            errno.desc()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_of_files_is_judged_as_the_kernel_would() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mount = folder.path();
        let write =
            |name: &str, text: &str| std::fs::write(mount.join(name), text).expect("writable");
        write("cgroup.controllers", "cpuset cpu memory\n");
        let error = version2(mount, "bootagent").expect_err("no pids");
        assert!(error.contains("without pids"), "{error}");
        write("cgroup.controllers", "cpuset cpu io memory pids\n");
        write("cgroup.subtree_control", "\n");
        write("cgroup.procs", "1\n");
        assert!(
            version2(mount, "bootagent").is_ok(),
            "the kernel's root may have both"
        );
        write("cgroup.type", "domain\n");
        let error = version2(mount, "bootagent").expect_err("a container's root");
        assert!(error.contains("holds processes itself"), "{error}");
        std::fs::create_dir(mount.join("bootagent")).expect("writable");
        write("bootagent/cgroup.subtree_control", "cpu memory pids\n");
        assert!(version2(mount, "bootagent").is_ok(), "made already");
    }

    #[test]
    fn this_machine_is_described_and_unchanged() {
        let name = "bootagent-probe-makes-nothing";
        match probe(name) {
            Ok(found) => assert!(found.contains("memory"), "{found}"),
            Err(reason) => assert!(reason.contains(';'), "no remedy in {reason:?}"),
        }
        for folder in [
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/cpu",
            "/sys/fs/cgroup/memory",
        ] {
            assert!(!Path::new(folder).join(name).exists());
        }
    }
}
