//! What a child's machine is told, and what it answers.
//!
//! The rule: these are values. They carry no process id and no text; the
//! daemon knows which child it speaks of.

use core::fmt;
use core::time::Duration;

use super::record::Record;
use super::stage::{Manner, Wanted};

/// Something that happened to a child, or that somebody asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An operator (or a job) wants it so. Clears fatal and anomalies, and is
    /// obeyed at once, not at the next look.
    Wanted(Wanted),
    /// An operator (or a job) wants it to run anew.
    Restart,
    /// Another version was installed: clears fatal and anomalies; if running
    /// is wanted, it runs anew. Call [`super::Child::reconfigure`] before.
    NewVersion,
    /// Its configuration changed: as [`Event::NewVersion`].
    NewConfig,
    /// [`Effect::Start`] was done: exec succeeded.
    Spawned,
    /// [`Effect::Start`] could not be done; nothing of it runs. An abnormal
    /// end of a run of length zero.
    SpawnFailed,
    /// It said READY=1.
    Ready,
    /// It said WATCHDOG=1.
    WatchdogPing,
    /// Its main process ended. Must come before [`Event::Gone`].
    Exited(End),
    /// Its main process has ended and its cgroup is empty. Sent after each
    /// [`Event::Exited`], as soon as it is true; more than once does no harm.
    Gone,
    /// The machine was suspended: the child could do nothing meanwhile, so
    /// whatever time it was given begins anew. Sent before the next tick.
    Suspended,
    /// [`super::Child::deadline`] may have passed. Whatever has arrived
    /// before is delivered before, or a READY=1 in the queue comes too late.
    Tick,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// With an exit code that the manifest calls normal.
    Normal(u8),
    /// With another exit code.
    Code(u8),
    /// By a signal that nobody here sent.
    Signal(i32),
    /// By a limit.
    Limit(Limit),
    /// It missed its watchdog. Decided here; the daemon never sends it.
    Watchdog,
    /// It was not ready in time. Decided here; the daemon never sends it.
    StartTimeout,
    /// It could not be started. Decided here; the daemon never sends it.
    SpawnFailed,
    /// It ended and nobody could see how, because it was adopted and is not
    /// our child. Counts as abnormal: what is not known to have ended well
    /// has not, an operator is told, and a oneshot is tried again.
    Unknown,
}

/// Which limit ended a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Memory: the out-of-memory killer, or our own watch.
    Memory,
    /// CPU time.
    Cpu,
    /// Number of processes.
    Pids,
    /// Number of open files.
    Files,
}

impl End {
    /// Whether it was normal, abnormal, or by a limit (which is abnormal).
    pub const fn manner(self) -> Manner {
        match self {
            Self::Normal(_) => Manner::Normal,
            Self::Limit(_) => Manner::Limit,
            Self::Code(_)
            | Self::Signal(_)
            | Self::Watchdog
            | Self::StartTimeout
            | Self::SpawnFailed
            | Self::Unknown => Manner::Abnormal,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal(code) => write!(formatter, "normal end with exit code {code}"),
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(number) => write!(formatter, "signal {number}"),
            Self::Limit(Limit::Memory) => formatter.write_str("memory limit"),
            Self::Limit(Limit::Cpu) => formatter.write_str("CPU time limit"),
            Self::Limit(Limit::Pids) => formatter.write_str("process limit"),
            Self::Limit(Limit::Files) => formatter.write_str("open file limit"),
            Self::Watchdog => formatter.write_str("watchdog missed"),
            Self::StartTimeout => formatter.write_str("not ready in time"),
            Self::SpawnFailed => formatter.write_str("could not be started"),
            Self::Unknown => formatter.write_str("unknown cause"),
        }
    }
}

/// Something the daemon shall do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Start it; answer with [`Event::Spawned`] or [`Event::SpawnFailed`].
    Start,
    /// Send the manifest's stop signal: to the main process, or once that has
    /// ended, to everything it left behind.
    SendStopSignal,
    /// Kill everything in its cgroup; with nothing there it is no error.
    Kill,
    /// Keep this, so that a restart of ours knows it. Comes first.
    Persist(Change),
    /// Tell the operator, a waiting job, or both.
    Report(Report),
    /// This event does not fit; nothing was changed. Log it with the state.
    Unexpected(Event),
}

/// What has to be kept, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// What is wanted: survives a reboot (metafile).
    Wanted(Wanted),
    /// What became of it: for this boot only (run record).
    Record(Record),
}

/// Something worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// It counts as up.
    Up,
    /// It ended by itself and normally.
    NormalEnd {
        /// How.
        end: End,
        /// How long the run was.
        ran: Duration,
    },
    /// It ended, or is being ended, because something is wrong with it.
    AbnormalEnd {
        /// How.
        end: End,
        /// How long the run was.
        ran: Duration,
        /// Anomalies in a row, this end included if it is one.
        anomalies: u32,
    },
    /// Too many anomalies: it is not tried again by itself.
    Fatal {
        /// How many there were.
        anomalies: u32,
    },
    /// It has run long enough for its anomalies to be forgotten.
    Recovered,
    /// It was stopped because we were asked to, and is gone.
    Stopped(StoppedBy),
    /// It was killed and is still there (a process in the kernel's hands).
    Stuck,
}

/// What it took to stop a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoppedBy {
    /// The stop signal was enough.
    Signal,
    /// It did not stop in time and was killed.
    Kill,
}
