//! Ends of processes. One loop reaps all: children, oneshots, the logger, and
//! orphans that came to us because we are a subreaper.

use bootagent_core::restart::{End, Event, Limit};
use bootagent_protocol::AgentName;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::Engine;
use crate::sys;

/// What a shell says of a command that was killed.
const BY_A_SHELL: u8 = 128 + 9;

/// How a process ended, as waitpid says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    /// By its number: a real-time signal has no name.
    Signal(i32),
    /// Not our child: nobody can say.
    Unknown,
}

impl Engine {
    /// Reaps everything that ended.
    pub(super) fn reap(&mut self) {
        while let Some(ended) = sys::ended_child() {
            let pid = Pid::from_raw(ended.pid);
            let exit = match ended.by_signal {
                true => Exit::Signal(ended.status),
                false => Exit::Code(ended.status),
            };
            self.before_reaping(pid);
            // Still a zombie until here, so its number belonged to nobody else.
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
            self.on_exit(pid.as_raw(), exit);
        }
    }

    /// What a oneshot without a cgroup leaves behind is killed by its process
    /// group, while the zombie still holds its number.
    fn before_reaping(&mut self, pid: Pid) {
        self.look_before_reaping(pid.as_raw());
        let mut oneshots = self.oneshots.values();
        if oneshots.any(|o| o.is_killed_by_session(pid.as_raw())) {
            let _ = killpg(pid, Signal::SIGKILL);
        }
    }

    /// A process that is not our child ended; its pidfd said so.
    pub(super) fn on_adopted_end(&mut self, pid: i32) {
        let adopted = |running: &super::child::Running| {
            running.handle.identity().pid == pid && !running.is_ours && !running.handle.is_alive()
        };
        let ended = self
            .children
            .values()
            .any(|c| c.running.as_ref().is_some_and(adopted));
        if ended || self.oneshots.values().any(|o| o.is_adopted(pid)) || self.logger.is_adopted(pid)
        {
            self.on_exit(pid, Exit::Unknown);
        }
    }

    /// Adopted processes on a kernel without pidfds: their end is looked for.
    pub(super) fn unwatched(&self) -> Vec<i32> {
        let children = self
            .children
            .values()
            .filter_map(|child| child.running.as_ref()?.unwatched());
        let oneshots = self.oneshots.values().filter_map(super::Oneshot::unwatched);
        let logger = self.logger.pid().filter(|_| self.logger.is_unwatched());
        children.chain(oneshots).chain(logger).collect()
    }

    fn on_exit(&mut self, pid: i32, exit: Exit) {
        let name = self.children.iter().find_map(|(name, child)| {
            let running = child.running.as_ref()?;
            (running.handle.identity().pid == pid).then(|| name.clone())
        });
        if let Some(name) = name {
            self.on_child_exit(&name, exit);
        } else if !self.on_oneshot_exit(pid, exit) && self.logger.pid() == Some(pid) {
            log::error!("the logger ended ({exit:?}); it is started again");
            self.logger.ended();
        }
    }

    fn on_child_exit(&mut self, name: &AgentName, exit: Exit) {
        // While the record still names the process: it says all that is counted.
        self.look_at_forks_of(name);
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        child.lost_to_memory = child.oom_kills();
        let end = match child.family.struck.take() {
            Some(limit) => End::Limit(limit),
            None => end_of(exit, child.lost_to_memory, &child.manifest.exit_codes),
        };
        child.awaits_gone = true;
        child.end_process();
        self.tell(name, Event::Exited(end));
    }
}

/// What an exit means when the out-of-memory killer struck so often in that
/// run. On cgroup v1 it takes a single process, perhaps a helper that nobody
/// missed: only an end as by SIGKILL is put down to it, also one that a shell
/// passes on, and one that nobody saw.
fn end_of(exit: Exit, oom_kills: u64, exit_codes: &[u8]) -> End {
    let is_normal = |code: &u8| exit_codes.contains(code);
    match exit {
        Exit::Code(code) => match u8::try_from(code).unwrap_or(u8::MAX) {
            code if is_normal(&code) => End::Normal(code),
            BY_A_SHELL if oom_kills > 0 => End::Limit(Limit::Memory),
            code => End::Code(code),
        },
        Exit::Signal(nix::libc::SIGKILL) | Exit::Unknown if oom_kills > 0 => {
            End::Limit(Limit::Memory)
        }
        Exit::Signal(signal) => End::Signal(signal),
        Exit::Unknown => End::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_as_by_the_killer_is_put_down_to_it() {
        let limit = End::Limit(Limit::Memory);
        for (exit, kills, end) in [
            (Exit::Signal(9), 1, limit),
            (Exit::Code(137), 1, limit),
            (Exit::Unknown, 1, limit),
            (Exit::Code(0), 1, End::Normal(0)),
            (Exit::Code(3), 1, End::Code(3)),
            (Exit::Signal(11), 1, End::Signal(11)),
            (Exit::Signal(9), 0, End::Signal(9)),
            (Exit::Code(137), 0, End::Code(137)),
            (Exit::Unknown, 0, End::Unknown),
        ] {
            assert_eq!(end_of(exit, kills, &[0]), end, "{exit:?}");
        }
    }
}
