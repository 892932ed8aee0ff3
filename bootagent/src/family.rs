//! The processes of a child where no cgroup lists them, and what they use.
//!
//! A process belongs to a child when it was known to already, when its parent
//! does, when it is in the session of the main process, or, once it is an
//! orphan, when its environment names the child's notify socket. A program that
//! leaves its session, its parent and its environment behind between two looks
//! gets away: that is what cgroups are for. The one rule: nobody is taken for
//! a member by a number alone that another process may have by now.

use std::collections::BTreeSet;
use std::path::Path;

use bootagent_core::restart::Limit;
use bootagent_protocol::Limits;
use nix::sys::signal::Signal;

use crate::cgroup::Usage;
use crate::process::{Handle, Identity, Stat, stat};

/// One process, as it was at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its pid.
    pub pid: i32,
    /// What /proc says of it.
    pub stat: Stat,
}

/// What is known of one child's processes.
#[derive(Debug, Default)]
pub struct Family {
    main: Option<Identity>,
    others: Vec<Handle>,
    used: Usage,
    /// The limit for which it was killed.
    pub struck: Option<Limit>,
}

/// Every process of this machine.
pub fn look() -> Vec<Entry> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| {
        Some(Entry {
            pid,
            stat: stat(pid)?,
        })
    })
    .collect()
}

impl Family {
    /// That of a main process that begins, or is taken over.
    pub fn of(main: &Identity) -> Self {
        Self {
            main: Some(main.clone()),
            ..Self::default()
        }
    }

    /// Takes in who is there. `mark` is the path in the environment of all.
    pub fn update(&mut self, all: &[Entry], mark: &Path) {
        let Some(main) = &self.main else { return };
        let ours = i32::try_from(std::process::id()).unwrap_or_default();
        let is_orphan = |entry: &Entry| entry.stat.parent == ours || entry.stat.parent == 1;
        let is_marked = |entry: &Entry| is_orphan(entry) && is_marked(entry.pid, mark);
        let mut known: Vec<(i32, u64)> = vec![(main.pid, main.start_ticks)];
        let others = self.others.iter().map(Handle::identity);
        known.extend(others.map(|other| (other.pid, other.start_ticks)));
        let found = members(all, known[0], &known, is_marked);
        let clock = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
        let ticks = found.iter().map(|entry| entry.stat.cpu_ticks).sum::<u64>();
        let per_second = clock.ok().flatten().unwrap_or(100);
        let pages = found
            .iter()
            .map(|entry| entry.stat.resident_pages)
            .sum::<u64>();
        self.used = Usage {
            memory: Some(pages * page_bytes()),
            cpu: Some(std::time::Duration::from_secs_f64(
                ticks as f64 / per_second as f64,
            )),
            pids: Some(found.iter().map(|entry| entry.stat.threads).sum()),
            ..Usage::default()
        };
        let boot_id = main.boot_id.clone();
        self.others.retain(Handle::is_alive);
        for entry in found.iter().filter(|entry| entry.pid != main.pid) {
            if !self.others.iter().any(|other| is(other.identity(), entry)) {
                let identity = Identity {
                    pid: entry.pid,
                    start_ticks: entry.stat.start_ticks,
                    boot_id: boot_id.clone(),
                };
                self.others.extend(Handle::open(&identity, &boot_id));
            }
        }
    }

    /// What it used at the last look.
    pub fn used(&self) -> Usage {
        self.used
    }

    /// The limit it is over, if any. Pages that several processes share count
    /// more than once at a look; before a verdict they are counted well.
    pub fn is_over(&self, limits: &Limits) -> Option<Limit> {
        let over = exceeded(limits, &self.used)?;
        if over != Limit::Memory {
            return Some(over);
        }
        let main = self.main.as_ref().map(|main| main.pid);
        let others = self.others.iter().map(|other| other.identity().pid);
        let memory = main.into_iter().chain(others).map(own_bytes).sum();
        let used = Usage {
            memory: Some(memory),
            ..Usage::default()
        };
        exceeded(limits, &used)
    }

    /// Signals everybody but the main process.
    pub fn signal(&self, signal: Signal) {
        for other in &self.others {
            let _ = other.signal(signal);
        }
    }

    /// Whether nobody but perhaps the main process is left.
    pub fn is_gone(&self) -> bool {
        !self.others.iter().any(Handle::is_alive)
    }
}

fn is(identity: &Identity, entry: &Entry) -> bool {
    identity.pid == entry.pid && identity.start_ticks == entry.stat.start_ticks
}

/// Who of `all` belongs to the child of `main`. The session counts only while
/// the main process is there, ended or not: its number is then its own.
fn members(
    all: &[Entry],
    main: (i32, u64),
    known: &[(i32, u64)],
    is_marked: impl Fn(&Entry) -> bool,
) -> Vec<Entry> {
    let name = |entry: &Entry| (entry.pid, entry.stat.start_ticks);
    let has_main = all.iter().any(|entry| name(entry) == main);
    let mut found: BTreeSet<i32> = all
        .iter()
        .filter(|entry| {
            known.contains(&name(entry))
                || (has_main && entry.stat.session == main.0)
                || is_marked(entry)
        })
        .map(|entry| entry.pid)
        .collect();
    loop {
        let before = found.len();
        let born: Vec<i32> = all
            .iter()
            .filter(|entry| found.contains(&entry.stat.parent))
            .map(|entry| entry.pid)
            .collect();
        found.extend(born);
        if found.len() == before {
            break;
        }
    }
    let is_member = |entry: &&Entry| found.contains(&entry.pid) && entry.stat.state != b'Z';
    all.iter().filter(is_member).copied().collect()
}

/// The first limit that is exceeded. CPU is none of them: killing is no way
/// to slow a program down.
fn exceeded(limits: &Limits, used: &Usage) -> Option<Limit> {
    let is_over = |used: Option<u64>, most: Option<u64>| used.zip(most).is_some_and(|(u, m)| u > m);
    if is_over(used.memory, limits.memory.map(|memory| memory.0)) {
        return Some(Limit::Memory);
    }
    is_over(used.pids, limits.pids).then_some(Limit::Pids)
}

fn is_marked(pid: i32, mark: &Path) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let wanted = format!("NOTIFY_SOCKET={}", mark.display());
    environment
        .split(|byte| *byte == 0)
        .any(|pair| pair == wanted.as_bytes())
}

/// Bytes of memory by each process's share (Linux 4.14), or else those that no
/// file is behind.
fn own_bytes(pid: i32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let share = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = share.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    if let Some(kilobytes) = kilobytes {
        return kilobytes * 1024;
    }
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let mut pages = pages
        .split_whitespace()
        .map(|word| word.parse().unwrap_or(0));
    let (resident, shared) = (pages.nth(1).unwrap_or(0), pages.next().unwrap_or(0));
    u64::saturating_sub(resident, shared) * page_bytes()
}

fn page_bytes() -> u64 {
    let bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    bytes
        .ok()
        .flatten()
        .and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pid: i32, parent: i32, session: i32) -> Entry {
        let stat = Stat {
            state: b'S',
            parent,
            session,
            cpu_ticks: 0,
            threads: 1,
            start_ticks: 1000,
            resident_pages: 1,
        };
        Entry { pid, stat }
    }

    fn pids(all: &[Entry], known: &[(i32, u64)], marked: &[i32]) -> Vec<i32> {
        let is_marked = |entry: &Entry| marked.contains(&entry.pid);
        let found = members(all, (10, 1000), known, is_marked);
        found.iter().map(|entry| entry.pid).collect()
    }

    #[test]
    fn descendants_the_session_and_marked_orphans_belong_to_a_child() {
        let all = [
            entry(1, 0, 1),
            entry(10, 1, 10),
            entry(11, 10, 11),
            entry(12, 11, 11),
            entry(13, 1, 10),
            entry(14, 1, 14),
            entry(15, 14, 14),
            entry(16, 1, 16),
        ];
        let main = (10, 1000);
        assert_eq!(pids(&all, &[main], &[14]), [10, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn a_number_that_another_process_has_by_now_makes_nobody_a_member() {
        // The main process is gone and its pid leads somebody else's session.
        let mut other = entry(10, 1, 10);
        other.stat.start_ticks = 2000;
        let all = [
            other,
            entry(11, 10, 10),
            entry(12, 1, 12),
            entry(13, 12, 12),
        ];
        assert_eq!(pids(&all, &[(10, 1000), (12, 1000)], &[]), [12, 13]);
        assert_eq!(pids(&all[1..2], &[(10, 1000)], &[]), [0; 0]);
    }

    #[test]
    fn what_is_over_its_limit_is_named_and_cpu_never() {
        let limits: Limits =
            serde_json::from_str(r#"{"CPU":"1%","memory":"2M","pids":3}"#).expect("valid");
        let used = |memory, pids| Usage {
            memory: Some(memory),
            pids: Some(pids),
            cpu: Some(std::time::Duration::from_secs(1000)),
            ..Usage::default()
        };
        assert_eq!(exceeded(&limits, &used(2 << 20, 3)), None);
        assert_eq!(
            exceeded(&limits, &used((2 << 20) + 1, 4)),
            Some(Limit::Memory)
        );
        assert_eq!(exceeded(&limits, &used(0, 4)), Some(Limit::Pids));
        assert_eq!(
            exceeded(&Limits::default(), &used(u64::MAX, u64::MAX)),
            None
        );
    }

    #[test]
    fn a_process_finds_itself_and_its_memory() {
        let pid = i32::try_from(std::process::id()).expect("pids fit");
        let identity = Handle::of_child(pid, "boot")
            .expect("I exist")
            .identity()
            .clone();
        let mut family = Family::of(&identity);
        family.update(&look(), Path::new("/nowhere"));
        assert!(family.used().memory.is_some_and(|bytes| bytes > 1 << 20));
        assert!(family.used().pids.is_some_and(|pids| pids >= 1));
        assert!(own_bytes(pid) > 100_000);
    }
}
