//! What this machine does to its own measurements.
//!
//! The one rule: a fault marks exactly the measurements that ran when it happened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bootagent_kit::fs;

use crate::report::Fault;

/// Run later than this after it was due, the engine was starved. Answers have the kernel's stamps and do not
/// mind; probes were sent late.
pub(super) const STARVED: Duration = Duration::from_millis(50);

/// Rounds farther apart than ordered by more than this share were stretched.
const STRETCHED: f64 = 1.1;

/// Files of the kernel are short.
const MAX_FILE: u64 = 64 * 1024;

/// The doubts about one measurement.
#[derive(Debug, Clone, Default)]
pub(super) struct Doubts {
    /// Counters of the machine when it began.
    pub(super) dropped_before: u64,
    pub(super) throttled_before: Duration,
    pub(super) unsent: u64,
    pub(super) reason: String,
    pub(super) starved: Duration,
    pub(super) step: i64,
}

impl Doubts {
    /// As a report has them. `dropped` and `throttled` are the machine's counters now, the intervals are
    /// milliseconds.
    pub(super) fn faults(
        &self,
        dropped: u64,
        throttled: Duration,
        ordered: u64,
        interval: Option<u64>,
    ) -> Vec<Fault> {
        let mut faults = Vec::new();
        if dropped > self.dropped_before {
            faults.push(Fault::SocketOverflow {
                dropped: dropped - self.dropped_before,
            });
        }
        if self.unsent > 0 {
            faults.push(Fault::Unsent {
                probes: self.unsent,
                reason: self.reason.clone(),
            });
        }
        if !self.starved.is_zero() {
            faults.push(Fault::Starved {
                longest_ms: millis(self.starved),
            });
        }
        let throttled = throttled.saturating_sub(self.throttled_before);
        if throttled >= Duration::from_millis(1) {
            faults.push(Fault::Throttled {
                throttled_ms: millis(throttled),
            });
        }
        if self.step != 0 {
            faults.push(Fault::ClockStep {
                step_ms: self.step / 1_000_000,
            });
        }
        if let Some(interval_ms) = interval
            && interval_ms as f64 > ordered as f64 * STRETCHED
        {
            faults.push(Fault::Stretched { interval_ms });
        }
        faults
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where the kernel tells how long our control group was throttled.
#[derive(Debug)]
pub(super) struct Quota {
    file: Option<PathBuf>,
}

impl Quota {
    /// Finds the file; there may be none.
    pub(super) fn find() -> Self {
        let text = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
        let file = candidates(&text).into_iter().find(|path| path.exists());
        Self { file }
    }

    /// For how long the group was throttled in all; zero where it has no quota.
    pub(super) fn throttled(&self) -> Duration {
        let text = self.file.as_deref().and_then(read);
        text.as_deref().and_then(throttled).unwrap_or_default()
    }
}

fn read(path: &Path) -> Option<String> {
    String::from_utf8(fs::read_limited(path, MAX_FILE).ok()?).ok()
}

/// Where `cpu.stat` may be, for what /proc/self/cgroup says: version 1's controller first, since version 2
/// has the group without its controllers where both are there.
fn candidates(text: &str) -> Vec<PathBuf> {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.splitn(3, ':').collect())
        .collect();
    let mut found = Vec::new();
    for line in &lines {
        if let [_, controllers, path] = line[..]
            && controllers.split(',').any(|name| name == "cpu")
        {
            for mount in [controllers, "cpu"] {
                found.push(PathBuf::from(format!(
                    "/sys/fs/cgroup/{mount}{path}/cpu.stat"
                )));
            }
        }
    }
    for line in &lines {
        if let ["0", "", path] = line[..] {
            for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
                found.push(PathBuf::from(format!("{mount}{path}/cpu.stat")));
            }
        }
    }
    found
}

/// Version 2 counts microseconds, version 1 nanoseconds.
fn throttled(text: &str) -> Option<Duration> {
    let of = |key: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let (_, value) = lines.find(|(name, _)| *name == key)?;
        value.trim().parse().ok()
    };
    of("throttled_usec")
        .map(Duration::from_micros)
        .or_else(|| of("throttled_time").map(Duration::from_nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quota_of_either_version_is_found_and_read() {
        let v2 = "0::/system.slice/x.service\n";
        let first = PathBuf::from("/sys/fs/cgroup/system.slice/x.service/cpu.stat");
        assert_eq!(candidates(v2)[0], first);
        let v1 = "4:cpu,cpuacct:/agents/x\n3:cpuset:/\n0::/y\n";
        let first = PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/agents/x/cpu.stat");
        assert_eq!(candidates(v1)[0], first);
        assert_eq!(candidates("nonsense\n::\n"), Vec::<PathBuf>::new());
        let stat = "usage_usec 1\nnr_throttled 3\nthrottled_usec 2500\n";
        assert_eq!(throttled(stat), Some(Duration::from_micros(2_500)));
        let stat = "nr_periods 0\nthrottled_time 7000000\n";
        assert_eq!(throttled(stat), Some(Duration::from_millis(7)));
        assert_eq!(throttled("usage_usec 1\n"), None);
    }

    #[test]
    fn only_what_happened_since_the_begin_is_a_fault() {
        let doubts = Doubts {
            dropped_before: 5,
            throttled_before: Duration::from_secs(1),
            ..Doubts::default()
        };
        assert_eq!(
            doubts.faults(5, Duration::from_secs(1), 1_000, Some(1_005)),
            []
        );
        let faults = doubts.faults(7, Duration::from_millis(1_250), 1_000, Some(1_500));
        let expected = [
            Fault::SocketOverflow { dropped: 2 },
            Fault::Throttled { throttled_ms: 250 },
            Fault::Stretched { interval_ms: 1_500 },
        ];
        assert_eq!(faults, expected);
    }
}
