//! The transient systemd scope that holds the children on cgroup v2.
//!
//! Not below our own unit: with child groups there systemd 252 cannot start
//! the unit again after a kill -9 (`219/CGROUP`). A scope belongs to its
//! processes alone; its first one is the logger, which `systemd-run` becomes.

use std::path::{Path, PathBuf};

/// The scope's unit name.
pub const SCOPE: &str = "bootagent-agents.scope";

/// Whether children belong into a scope: cgroup v2 with systemd as init.
pub fn is_used() -> bool {
    Path::new("/run/systemd/system").is_dir()
        && Path::new("/sys/fs/cgroup/cgroup.controllers").is_file()
}

/// The folder of a scope that is there already, because a process is in it:
/// a logger joins it instead of asking systemd for a second one.
pub fn existing_folder() -> Option<PathBuf> {
    let folder = Path::new("/sys/fs/cgroup/system.slice").join(SCOPE);
    is_populated(&folder).then_some(folder)
}

/// Where the groups are without a scope.
pub fn top_folder(parent: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(parent)
}

/// Whether a process is in the group `folder` or below it.
pub fn is_populated(folder: &Path) -> bool {
    let events = std::fs::read_to_string(folder.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}

/// The words in front of the logger's argv that put it into a new scope.
/// `systemd-run --scope` asks systemd for the scope and then execs the logger,
/// so the pid stays.
pub fn run_in_scope() -> Vec<String> {
    let unit = format!("--unit={SCOPE}");
    [
        "systemd-run",
        "--scope",
        "--quiet",
        &unit,
        "-p",
        "Delegate=yes",
        "--",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The scope's folder, once `pid` is in it.
pub fn folder_of(pid: i32) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let inside = Path::new(path)
        .ancestors()
        .find(|path| path.ends_with(SCOPE))?;
    Some(Path::new("/sys/fs/cgroup").join(inside.strip_prefix("/").ok()?))
}
