//! The files of the one-hierarchy-per-controller kind (CentOS 7, old Debian).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootagent_protocol::Limits;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::mounts::Mounts;
use super::{
    LimitError, PERIOD_MICROSECONDS, Usage, keyed, quota_microseconds, read, same_memory, write,
    write_and_read_back,
};

/// Rounds of listing and killing: a group that forks faster than this is
/// frozen first, so two rounds are enough where there is a freezer.
const KILL_ROUNDS: usize = 16;

/// One folder per controller. Never empty.
#[derive(Debug, Clone)]
pub struct Hierarchies {
    folders: BTreeMap<String, PathBuf>,
}

pub(super) fn open(mounts: &Mounts, parent: &str) -> Result<Hierarchies, String> {
    let mut folders = BTreeMap::new();
    let mut reasons = Vec::new();
    for (controller, mount) in &mounts.version1 {
        let folder = mount.join(parent);
        match std::fs::create_dir_all(&folder) {
            Ok(()) => drop(folders.insert(controller.clone(), folder)),
            Err(error) => reasons.push(format!("{}: {error}", folder.display())),
        }
    }
    match (folders.is_empty(), reasons.is_empty()) {
        (false, _) => Ok(Hierarchies { folders }),
        (true, true) => Err("no cgroup hierarchy with controllers is mounted".into()),
        // One says as much as all.
        (true, false) => Err(format!("cgroup v1: {}", reasons[0])),
    }
}

impl Hierarchies {
    /// The group `name` below these folders, made where it is missing.
    pub(super) fn make(&self, name: &str) -> io::Result<Self> {
        let mut folders = BTreeMap::new();
        for (controller, folder) in &self.folders {
            let folder = folder.join(name);
            std::fs::create_dir_all(&folder)?;
            folders.insert(controller.clone(), folder);
        }
        let group = Self { folders };
        // A BootAgent that was killed in the midst of a kill left it frozen:
        // whatever was put into it would stand still for ever.
        group.set_freezer("THAWED");
        Ok(group)
    }

    fn set_freezer(&self, state: &str) {
        if let Some(folder) = self.folders.get("freezer") {
            let _ = write(&folder.join("freezer.state"), state);
        }
    }

    /// A folder whose `cgroup.procs` lists every process.
    pub(super) fn process_folder(&self) -> &Path {
        self.folders
            .values()
            .next()
            .expect("at least one hierarchy")
    }

    pub(super) fn attach(&self, pid: i32) -> io::Result<()> {
        let text = pid.to_string();
        self.folders
            .values()
            .try_for_each(|folder| write(&folder.join("cgroup.procs"), &text))
    }

    pub(super) fn limit(&self, limits: &Limits) -> Vec<LimitError> {
        let results = [
            self.limit_cpu(limits),
            self.limit_memory(limits),
            self.limit_pids(limits),
        ];
        results.into_iter().filter_map(Result::err).collect()
    }

    fn limit_cpu(&self, limits: &Limits) -> Result<(), LimitError> {
        let Some(folder) = self.folders.get("cpu") else {
            return absent("CPU", limits.cpu.is_some());
        };
        let period = PERIOD_MICROSECONDS.to_string();
        let same_period = |found: &str| found == period;
        let period_file = folder.join("cpu.cfs_period_us");
        write_and_read_back("CPU", &period_file, &period, same_period)?;
        let quota = limits
            .cpu
            .map_or_else(|| "-1".into(), |cpu| quota_microseconds(cpu.0).to_string());
        let same_quota = |found: &str| found == quota;
        write_and_read_back("CPU", &folder.join("cpu.cfs_quota_us"), &quota, same_quota)
    }

    fn limit_memory(&self, limits: &Limits) -> Result<(), LimitError> {
        let Some(folder) = self.folders.get("memory") else {
            return absent("memory", limits.memory.is_some());
        };
        let plain = folder.join("memory.limit_in_bytes");
        // Memory plus swap may never be below memory: it is lifted first and
        // lowered last. It is absent where swap is not accounted.
        let with_swap = folder.join("memory.memsw.limit_in_bytes");
        let has_swap = with_swap.exists();
        if has_swap {
            let _ = write(&with_swap, "-1");
        }
        let Some(memory) = limits.memory else {
            // "Unlimited" reads back as a huge number that differs by kernel.
            let unlimited = |found: &str| found.parse::<u64>().is_ok_and(|n| n > 1 << 60);
            return write_and_read_back("memory", &plain, "-1", unlimited);
        };
        let text = memory.0.to_string();
        write_and_read_back("memory", &plain, &text, same_memory(memory.0))?;
        if has_swap {
            write_and_read_back("memory", &with_swap, &text, same_memory(memory.0))?;
        }
        Ok(())
    }

    fn limit_pids(&self, limits: &Limits) -> Result<(), LimitError> {
        let Some(folder) = self.folders.get("pids") else {
            return absent("pids", limits.pids.is_some());
        };
        let text = limits
            .pids
            .map_or_else(|| "max".into(), |pids| pids.to_string());
        let same = |found: &str| found == text;
        write_and_read_back("pids", &folder.join("pids.max"), &text, same)
    }

    pub(super) fn usage(&self) -> Usage {
        let number = |controller: &str, file: &str| -> Option<u64> {
            read(&self.folders.get(controller)?.join(file))
                .ok()?
                .parse()
                .ok()
        };
        let key = |controller: &str, file: &str, key: &str| -> Option<u64> {
            keyed(&read(&self.folders.get(controller)?.join(file)).ok()?, key)
        };
        Usage {
            memory: number("memory", "memory.usage_in_bytes"),
            cpu: number("cpuacct", "cpuacct.usage").map(Duration::from_nanos),
            throttled: key("cpu", "cpu.stat", "throttled_time").map(Duration::from_nanos),
            throttled_periods: key("cpu", "cpu.stat", "nr_throttled"),
            oom_kills: self.oom_kills(),
            pids: number("pids", "pids.current"),
            refused_forks: self.refused_forks(),
        }
    }

    /// A count the kernel has since 4.13.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        let text = read(&self.folders.get("memory")?.join("memory.oom_control")).ok()?;
        keyed(&text, "oom_kill")
    }

    /// A count the kernel has since 4.8.
    pub(super) fn refused_forks(&self) -> Option<u64> {
        let text = read(&self.folders.get("pids")?.join("pids.events")).ok()?;
        keyed(&text, "max")
    }

    pub(super) fn kill(&self) {
        // Frozen processes cannot fork away while the list is read.
        self.set_freezer("FROZEN");
        kill_listed(&self.process_folder().join("cgroup.procs"));
        self.set_freezer("THAWED");
    }

    pub(super) fn remove(&self) {
        for folder in self.folders.values() {
            // A folder with processes stays and is found again at the next try.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// A missing controller is an error only for a limit somebody wants.
fn absent(limit: &'static str, is_wanted: bool) -> Result<(), LimitError> {
    if is_wanted {
        Err(LimitError::NoController { limit })
    } else {
        Ok(())
    }
}

/// Kills every process a `cgroup.procs` lists, again while new ones appear.
pub(super) fn kill_listed(procs: &Path) {
    let mut killed = Vec::new();
    for _ in 0..KILL_ROUNDS {
        let text = read(procs).unwrap_or_default();
        let fresh: Vec<i32> = text
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter(|pid| !killed.contains(pid))
            .collect();
        if fresh.is_empty() {
            return;
        }
        for pid in fresh {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            killed.push(pid);
        }
    }
}
