//! Processes that a child could not start at its limit of them. The kernel
//! counts them and ends nobody, so a program fails in its own odd way.
//!
//! The one rule: a burst is one event, however long it lasts and however often
//! somebody looks. It is looked before each status and at each end.

use std::time::Duration;

use bootagent_core::time::Uptime;
use bootagent_protocol::AgentName;

use super::{Engine, now};
use crate::cgroup::Group;
use crate::host::new_event;

/// Without a refusal for so long, the next one is news.
const QUIET: Duration = Duration::from_secs(600);

/// What was seen of one child's refusals.
#[derive(Debug, Default)]
pub struct Refusals {
    counted: u64,
    seen_at: Option<Uptime>,
}

impl Refusals {
    /// For a group that another BootAgent made, which has told so many.
    pub fn after(counted: u64) -> Self {
        Self {
            counted,
            seen_at: None,
        }
    }

    /// How many were counted when it was looked last.
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// How many there are to tell, now that the group has counted so many.
    pub fn look(&mut self, count: u64, now: Uptime) -> Option<u64> {
        // A group that was made anew counts from 0.
        let more = count.checked_sub(self.counted).unwrap_or(count);
        self.counted = count;
        if more == 0 {
            return None;
        }
        let before = self.seen_at.replace(now);
        before
            .is_none_or(|at| now.since(at) >= QUIET)
            .then_some(more)
    }
}

impl Engine {
    /// Looks at every child.
    pub(super) fn look_at_forks(&mut self) {
        let names: Vec<AgentName> = self.children.keys().cloned().collect();
        for name in names {
            self.look_at_forks_of(&name);
        }
    }

    /// Tells what one child could not start, if that is news.
    pub(super) fn look_at_forks_of(&mut self, name: &AgentName) {
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        let count = child.group.as_ref().map_or(0, Group::refused_forks);
        let before = child.refusals.counted();
        let more = child.refusals.look(count, now());
        if count != before {
            // The next BootAgent tells only what came after.
            child.persist(&self.host, child.machine.record());
        }
        let Some(more) = more else {
            return;
        };
        let limit = child.limits().pids;
        let limit = limit.map_or(String::new(), |limit| format!(" of {limit}"));
        let text = format!("{more} processes or threads could not be started at its limit{limit}");
        log::warn!("{name}: {text}");
        let mut event = new_event("forks", name.as_str(), text);
        event.version = Some(child.version().to_owned());
        let output = child.output_place(&self.host);
        self.host.store(event, Some(output));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_told_once_and_the_next_one_again() {
        let mut refusals = Refusals::after(7);
        for (second, count, told) in [
            (0, 7, None),
            (10, 9, Some(2)),
            (11, 9, None),
            (20, 500, None),
            // It goes on, however long.
            (600, 501, None),
            (1_199, 502, None),
            (1_900, 502, None),
            (1_901, 505, Some(3)),
            // A group that was made anew.
            (1_902, 1, None),
            (9_000, 0, None),
            (9_001, 4, Some(4)),
        ] {
            let looked = refusals.look(count, Uptime::from_secs(second));
            assert_eq!(looked, told, "{second} s");
        }
    }
}
