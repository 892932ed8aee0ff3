//! Ends of processes. One loop reaps all: children, oneshots, the logger, and
//! orphans that came to us because we are a subreaper.

use bootagent_core::restart::{End, Event, Limit};
use bootagent_protocol::AgentName;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::Engine;
use crate::sys;

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

    /// Without a cgroup the process group is all there is: what is left of it
    /// is killed while the zombie still holds its number.
    fn before_reaping(&self, pid: Pid) {
        let mut children = self.children.values();
        let is_grouped_by_session = children.any(|child| {
            child.group.is_none()
                && child
                    .running
                    .as_ref()
                    .is_some_and(|r| r.handle.identity().pid == pid.as_raw())
        });
        let mut oneshots = self.oneshots.values();
        if is_grouped_by_session || oneshots.any(|o| o.is_killed_by_session(pid.as_raw())) {
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
        let Some(child) = self.children.get_mut(name) else {
            return;
        };
        let end = match exit {
            _ if child.ran_out_of_memory() => End::Limit(Limit::Memory),
            Exit::Code(code) => {
                let code = u8::try_from(code).unwrap_or(u8::MAX);
                match child.manifest.exit_codes.contains(&code) {
                    true => End::Normal(code),
                    false => End::Code(code),
                }
            }
            Exit::Signal(signal) => End::Signal(signal),
            Exit::Unknown => End::Unknown,
        };
        child.awaits_gone = true;
        child.end_process();
        self.tell(name, Event::Exited(end));
    }

    /// Tells every child whose last process has ended.
    pub(super) fn check_gone(&mut self) {
        let gone: Vec<AgentName> = self
            .children
            .iter()
            .filter(|(_, child)| child.awaits_gone && child.is_gone())
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(child) = self.children.get_mut(&name) {
                child.awaits_gone = false;
            }
            self.tell(&name, Event::Gone);
        }
    }
}
