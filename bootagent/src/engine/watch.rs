//! What children use, and the watch over those that no cgroup holds.
//!
//! Where there are no cgroups, the processes of a child with limits are looked
//! at every [`INTERVAL`], only while such a child runs, and killed when they
//! are over memory or pids. CPU is reported and not enforced: killing does not
//! slow a program down. The kernel's own limits are no help: RLIMIT_AS counts
//! what is merely mapped, RLIMIT_NPROC a whole user. The one rule: a verdict
//! comes from what is there at the look, never from how late the look is.

use std::time::Duration;

use bootagent_core::time::Uptime;
use bootagent_protocol::{AgentName, LimitsReport};

use super::child::Child;
use super::{Engine, now};
use crate::cgroup::{Group, Usage};
use crate::family;
use crate::host::Host;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

impl Child {
    /// How often the kernel's out-of-memory killer struck in this run.
    pub fn oom_kills(&self) -> u64 {
        let before = self.running.as_ref().map(|r| r.oom_kills_before);
        let now = self.group.as_ref().map(Group::oom_kills);
        now.unwrap_or(0).saturating_sub(before.unwrap_or(0))
    }

    /// Whether it has limits that only a watch can keep.
    fn is_watched(&self) -> bool {
        let limits = self.limits();
        let has_any = limits.memory.is_some() || limits.pids.is_some() || limits.cpu.is_some();
        self.group.is_none() && self.running.is_some() && has_any
    }

    /// Looks who belongs to it, where no cgroup tells.
    pub fn look(&mut self, host: &Host) {
        if self.group.is_none() {
            self.family.update(&family::look(), &self.notify_path(host));
        }
    }

    /// Its limits, by whom they are kept, and what it uses.
    pub(super) fn limits_report(&self, host: &Host) -> Option<LimitsReport> {
        let limits = self.limits();
        let (enforced_by, usage) = match &self.group {
            Some(group) => (host.cgroups.kind(), group.usage()),
            None if limits.is_empty() => return None,
            None if limits.memory.is_some() || limits.pids.is_some() => {
                ("watch", self.family_usage())
            }
            // Open files are limited without cgroups too; nothing else is.
            None if limits.files.is_some() => ("rlimit", self.family_usage()),
            None => ("none", self.family_usage()),
        };
        Some(LimitsReport {
            enforced_by: enforced_by.to_owned(),
            cpu: limits.cpu.map(|cpu| cpu.to_string()),
            memory: limits.memory.map(|memory| memory.to_string()),
            pids: limits.pids,
            files: limits.files,
            memory_used: usage.memory,
            pids_used: usage.pids,
            cpu_seconds: usage.cpu.map(|cpu| cpu.as_secs_f64()),
            throttled_seconds: usage.throttled.map(|throttled| throttled.as_secs_f64()),
            throttled_periods: usage.throttled_periods,
            oom_kills: usage.oom_kills,
            refused_forks: usage.refused_forks,
        })
    }

    fn family_usage(&self) -> Usage {
        match &self.running {
            Some(_) => self.family.used(),
            None => Usage::default(),
        }
    }
}

impl Engine {
    /// When the next look is due: never, while nobody needs one.
    pub(super) fn watch_deadline(&self) -> Option<Uptime> {
        let is_needed = self.children.values().any(Child::is_watched);
        is_needed.then(|| self.watched_at + INTERVAL)
    }

    /// Looks at children without cgroups; kills those over a limit.
    pub(super) fn watch(&mut self) {
        let now = now();
        if self.watch_deadline().is_none_or(|at| at > now) {
            return;
        }
        self.watched_at = now;
        let all = family::look();
        let watched = |child: &&mut Child| child.is_watched();
        for child in self.children.values_mut().filter(watched) {
            let mark = child.notify_path(&self.host);
            child.family.update(&all, &mark);
            let over = child.family.is_over(child.limits());
            if let Some(limit) = over
                && child.family.struck.is_none()
            {
                log::warn!("{}: over its {limit:?} limit, killed", child.name());
                child.family.struck = Some(limit);
                child.kill(&self.host);
            }
        }
    }

    /// Who belongs to the child of this main process is seen best while its
    /// zombie still holds its number.
    pub(super) fn look_before_reaping(&mut self, main: i32) {
        let is_it = |child: &&mut Child| {
            let running = child.running.as_ref();
            running.is_some_and(|running| running.handle.identity().pid == main)
        };
        if let Some(child) = self.children.values_mut().find(is_it) {
            child.look(&self.host);
        }
    }

    /// Tells every child whose last process has ended.
    pub(super) fn check_gone(&mut self) {
        let host = &self.host;
        let gone: Vec<AgentName> = self
            .children
            .iter_mut()
            .filter_map(|(name, child)| {
                let is_gone = child.awaits_gone && child.is_gone(host);
                is_gone.then(|| name.clone())
            })
            .collect();
        for name in gone {
            if let Some(child) = self.children.get_mut(&name) {
                child.awaits_gone = false;
            }
            self.tell(&name, bootagent_core::restart::Event::Gone);
        }
    }
}
