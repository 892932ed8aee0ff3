//! The files of the unified hierarchy.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootagent_protocol::Limits;

use super::{
    LimitError, PERIOD_MICROSECONDS, Usage, keyed, quota_microseconds, read, same_memory, write,
    write_and_read_back,
};

/// Makes the folder for all children and hands the controllers down to it.
pub(super) fn open(folder: &Path) -> io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let parent = folder.parent().unwrap_or(folder);
    // A parent that already hands them down, or a delegated one that must not
    // be written, is fine as long as the folder itself then offers them.
    for place in [parent, folder] {
        for controller in ["cpu", "memory", "pids"] {
            let _ = write(
                &place.join("cgroup.subtree_control"),
                &format!("+{controller}"),
            );
        }
    }
    let handed_down = read(&folder.join("cgroup.subtree_control"))?;
    let missing: Vec<_> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|wanted| !handed_down.split_whitespace().any(|found| found == *wanted))
        .collect();
    if missing.is_empty() {
        return Ok(folder.to_path_buf());
    }
    Err(io::Error::other(format!(
        "controllers {} are not handed down to it (cgroup.subtree_control says {handed_down:?})",
        missing.join(", ")
    )))
}

pub(super) fn make(folder: &Path) -> io::Result<PathBuf> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(folder.to_path_buf()),
    }
}

pub(super) fn limit(folder: &Path, limits: &Limits) -> Vec<LimitError> {
    let cpu = limits.cpu.map_or_else(
        || format!("max {PERIOD_MICROSECONDS}"),
        |cpu| format!("{} {PERIOD_MICROSECONDS}", quota_microseconds(cpu.0)),
    );
    let memory = limits.memory.map(|memory| memory.0);
    let memory_text = memory.map_or_else(|| "max".into(), |bytes| bytes.to_string());
    let pids = limits
        .pids
        .map_or_else(|| "max".into(), |pids| pids.to_string());
    let same = |wanted: &str| {
        let wanted = wanted.to_owned();
        move |found: &str| found == wanted
    };
    let same_bytes = move |found: &str| match memory {
        Some(wanted) => same_memory(wanted)(found),
        None => found == "max",
    };
    // The whole group goes together: half a program is worse than none.
    let _ = write(&folder.join("memory.oom.group"), "1");
    // Swap would let a child outgrow its limit; the file is absent without swap.
    let swap = if memory.is_some() { "0" } else { "max" };
    let _ = write(&folder.join("memory.swap.max"), swap);
    [
        write_and_read_back("CPU", &folder.join("cpu.max"), &cpu, same(&cpu)),
        write_and_read_back(
            "memory",
            &folder.join("memory.max"),
            &memory_text,
            same_bytes,
        ),
        write_and_read_back("pids", &folder.join("pids.max"), &pids, same(&pids)),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect()
}

pub(super) fn usage(folder: &Path) -> Usage {
    let cpu = read(&folder.join("cpu.stat")).unwrap_or_default();
    let microseconds = |key| keyed(&cpu, key).map(Duration::from_micros);
    Usage {
        memory: read(&folder.join("memory.current"))
            .ok()
            .and_then(|text| text.parse().ok()),
        cpu: microseconds("usage_usec"),
        throttled: microseconds("throttled_usec"),
        throttled_periods: keyed(&cpu, "nr_throttled"),
        oom_kills: oom_kills(folder),
        pids: read(&folder.join("pids.current"))
            .ok()
            .and_then(|text| text.parse().ok()),
        refused_forks: refused_forks(folder),
    }
}

pub(super) fn oom_kills(folder: &Path) -> Option<u64> {
    keyed(&read(&folder.join("memory.events")).ok()?, "oom_kill")
}

pub(super) fn refused_forks(folder: &Path) -> Option<u64> {
    keyed(&read(&folder.join("pids.events")).ok()?, "max")
}

/// cgroup.kill since 5.14; before, every process by its pid until none is new.
pub(super) fn kill(folder: &Path) {
    if write(&folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    super::version1::kill_listed(&folder.join("cgroup.procs"));
}
