//! Which process is which.
//!
//! A pid alone names nobody: pids are used again. A process is known by pid,
//! start time and boot; it is signalled through a pidfd where the kernel has
//! them (5.3), and by pid after a look at the start time where it has not.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::sys;

/// A process, told from every other that has or had its pid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id.
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of /proc/PID/stat).
    pub start_ticks: u64,
    /// The boot it started in.
    pub boot_id: String,
}

/// What /proc/PID/stat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// One letter: `Z` is a zombie.
    pub state: u8,
    /// The parent.
    pub parent: i32,
    /// The session, by the pid of who began it.
    pub session: i32,
    /// CPU time used, in clock ticks.
    pub cpu_ticks: u64,
    /// Its threads.
    pub threads: u64,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
    /// Pages in memory.
    pub resident_pages: u64,
}

impl Stat {
    /// Whether we are its parent: waitpid tells how it ends.
    fn is_child(&self) -> bool {
        u32::try_from(self.parent) == Ok(std::process::id())
    }
}

/// Reads /proc/PID/stat; `None` when there is no such process.
pub fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&text)
}

/// The command name stands in parentheses and may itself hold any byte, so
/// the fields are counted from the last `)`.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // As proc(5) counts them: the state is field 3.
    let field = |number: usize| fields.get(number - 3);
    let number = |at: usize| field(at)?.parse::<u64>().ok();
    Some(Stat {
        state: *field(3)?.as_bytes().first()?,
        parent: field(4)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        cpu_ticks: number(14)? + number(15)?,
        threads: number(20)?,
        start_ticks: number(22)?,
        resident_pages: number(24)?,
    })
}

/// A process we may signal.
#[derive(Debug)]
pub struct Handle {
    identity: Identity,
    pidfd: Option<OwnedFd>,
}

impl Handle {
    /// A handle of a process that exists now; `None` if it does not, or if
    /// another one has its pid.
    pub fn open(identity: &Identity, boot_id: &str) -> Option<Self> {
        if identity.boot_id != boot_id {
            return None;
        }
        // The pidfd first, the start time second: what the pidfd pinned is
        // then known to be what the record meant.
        let pidfd = sys::pidfd_open(identity.pid).ok();
        // A child of our own that has ended is still there to be reaped.
        let exists = stat(identity.pid).is_some_and(|stat| {
            stat.start_ticks == identity.start_ticks && (stat.state != b'Z' || stat.is_child())
        });
        exists.then(|| Self {
            identity: identity.clone(),
            pidfd,
        })
    }

    /// A handle of whoever has this pid now; `None` if nobody has.
    pub fn of(pid: i32, boot_id: &str) -> Option<Self> {
        let identity = Identity {
            pid,
            start_ticks: stat(pid)?.start_ticks,
            boot_id: boot_id.to_owned(),
        };
        Self::open(&identity, boot_id)
    }

    /// A handle of our own child, which keeps its pid until we reap it.
    pub fn of_child(pid: i32, boot_id: &str) -> io::Result<Self> {
        let stat = stat(pid).ok_or_else(|| io::Error::other(format!("process {pid} is gone")))?;
        let identity = Identity {
            pid,
            start_ticks: stat.start_ticks,
            boot_id: boot_id.to_owned(),
        };
        Ok(Self {
            identity,
            pidfd: sys::pidfd_open(pid).ok(),
        })
    }

    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The pidfd, readable once the process ended; `None` on old kernels.
    pub fn pidfd(&self) -> Option<impl AsFd + '_> {
        self.pidfd.as_ref()
    }

    /// Whether we are its parent, also as an earlier program of this process.
    pub fn is_child(&self) -> bool {
        stat(self.identity.pid).is_some_and(|stat| stat.is_child())
    }

    /// Whether it has not ended. A zombie has.
    pub fn is_alive(&self) -> bool {
        stat(self.identity.pid)
            .is_some_and(|stat| stat.start_ticks == self.identity.start_ticks && stat.state != b'Z')
    }

    /// Sends `signal`; a process that is gone already is no error.
    pub fn signal(&self, signal: Signal) -> nix::Result<()> {
        let sent = match &self.pidfd {
            Some(pidfd) => sys::pidfd_send_signal(pidfd.as_fd(), signal),
            None if !self.is_alive() => return Ok(()),
            None => kill(Pid::from_raw(self.identity.pid), signal),
        };
        match sent {
            Err(Errno::ESRCH) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_and_blanks_is_read_over() {
        let text = b"12 (a) b (c)) S 7 11 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 9";
        let parsed = parse_stat(text);
        assert_eq!(
            parsed,
            Some(Stat {
                state: b'S',
                parent: 7,
                session: 12,
                cpu_ticks: 5 + 6,
                threads: 1,
                start_ticks: 4242,
                resident_pages: 9,
            })
        );
        assert_eq!(parse_stat(b"12 (a"), None);
        assert_eq!(parse_stat(b"12 (a) S 7"), None);
    }

    #[test]
    fn a_pid_with_another_start_time_or_boot_is_nobody_of_ours() {
        let pid = i32::try_from(std::process::id()).expect("pids fit");
        let me = Handle::of_child(pid, "boot")
            .expect("I exist")
            .identity()
            .clone();
        assert!(Handle::open(&me, "boot").is_some());
        assert!(Handle::open(&me, "another boot").is_none());
        let other = Identity {
            start_ticks: me.start_ticks + 1,
            ..me
        };
        assert!(Handle::open(&other, "boot").is_none());
    }
}
