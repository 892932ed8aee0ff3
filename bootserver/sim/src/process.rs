//! What processes use: the server's, its database's, and our own.
//!
//! A process is measured with everything below it, because PostgreSQL's work
//! is done by children of the one that was started.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, bail};
use serde::Serialize;

/// CPU seconds and memory of some processes and everything below them.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_mb: f64,
    /// With shared pages divided among those who share them.
    pub(crate) pss_mb: f64,
}

struct Stat {
    parent: u32,
    /// In clock ticks, with that of children that ended.
    ticks: u64,
}

/// CPU seconds so far of `roots` and everything below them.
pub(crate) fn cpu_seconds(roots: &[u32]) -> anyhow::Result<f64> {
    let all = all();
    let mut ticks = 0;
    for pid in family(roots, &all)? {
        ticks += all[&pid].ticks;
    }
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .context("asking how long a clock tick is")?
        .context("nobody says how long a clock tick is")?;
    Ok(ticks as f64 / per_second as f64)
}

/// Memory of `roots` and everything below them, now; in MB of 10^6 bytes.
pub(crate) fn memory(roots: &[u32]) -> anyhow::Result<(f64, f64)> {
    let all = all();
    let (mut rss, mut pss) = (0, 0);
    for pid in family(roots, &all)? {
        // One that ended meanwhile holds nothing.
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        rss += kib(&rollup, "Rss:");
        pss += kib(&rollup, "Pss:");
    }
    Ok((rss as f64 * 1024.0 / 1e6, pss as f64 * 1024.0 / 1e6))
}

/// CPU seconds and resident memory of this program.
pub(crate) fn own() -> Usage {
    let me = std::process::id();
    let (rss_mb, pss_mb) = memory(&[me]).unwrap_or_default();
    Usage {
        cpu_seconds: cpu_seconds(&[me]).unwrap_or_default(),
        rss_mb,
        pss_mb,
    }
}

fn all() -> HashMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, stat(&text)?))
        })
        .collect()
}

/// The fields after the name, which may hold blanks and brackets itself.
fn stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    // utime, stime, cutime, cstime
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        ticks,
    })
}

fn family(roots: &[u32], all: &HashMap<u32, Stat>) -> anyhow::Result<Vec<u32>> {
    if let Some(gone) = roots.iter().find(|pid| !all.contains_key(pid)) {
        bail!("--pids: there is no process {gone}");
    }
    let is_ours = |pid: u32| {
        let mut at = pid;
        // A bound, because /proc is not read in one moment.
        for _ in 0..64 {
            if roots.contains(&at) {
                return true;
            }
            match all.get(&at) {
                Some(stat) if stat.parent != 0 => at = stat.parent,
                _ => return false,
            }
        }
        false
    };
    Ok(all.keys().copied().filter(|pid| is_ours(*pid)).collect())
}

fn kib(rollup: &str, key: &str) -> u64 {
    let line = rollup.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_with_what_it_started() {
        let mut child = std::process::Command::new("sh")
            .args([
                "-c",
                "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; read x",
            ])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("a shell");
        let me = std::process::id();
        let of_child =
            |all: &HashMap<u32, Stat>| family(&[me], all).map(|it| it.contains(&child.id()));
        assert!(of_child(&all()).expect("we are there"));
        let begun = std::time::Instant::now();
        while cpu_seconds(&[child.id()]).expect("it is there") < 0.05 {
            assert!(begun.elapsed().as_secs() < 60, "it used no CPU");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(cpu_seconds(&[me]).expect("we are there") >= 0.05);
        let (rss, pss) = memory(&[child.id()]).expect("it is there");
        assert!(rss > 0.1 && pss > 0.0 && pss <= rss, "{rss} {pss}");
        drop(child.stdin.take());
        child.wait().expect("it ends");
        assert!(cpu_seconds(&[child.id()]).is_err(), "it is gone");
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let text = "7 (a) b) S 3 7 7 0 -1 4194304 1 0 0 0 10 20 30 40 20 0 1 0 5 6 7";
        let stat = stat(text).expect("valid");
        assert_eq!((stat.parent, stat.ticks), (3, 100));
    }
}
