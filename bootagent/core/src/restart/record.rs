//! What has to be known of a child after a restart of BootAgent.
//!
//! The rule: a record is of one boot. It is kept where a reboot deletes it,
//! which is how a reboot clears fatal and anomalies.

use crate::time::Uptime;

use super::stage::Manner;

/// What became of a child, for [`super::Child::adopt`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// Anomalies in a row.
    pub anomalies: u32,
    /// What was last known.
    pub last: Last,
}

/// What was last known of a child.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Last {
    /// Never started in this boot, or stopped on purpose.
    #[default]
    Idle,
    /// It was about to be started.
    Starting,
    /// It ran.
    Running {
        /// Since when.
        started_at: Uptime,
    },
    /// It was asked to end: it is stopped, or runs anew.
    Stopping,
    /// It had ended and was to be started again.
    Ended {
        /// When it ended.
        at: Uptime,
        /// How it ended.
        manner: Manner,
    },
    /// A oneshot that ended normally.
    Done,
    /// Given up.
    Fatal,
}

/// What is there of a child when BootAgent starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Its main process.
    Main {
        /// Since when it runs, as its process entry says.
        started_at: Uptime,
    },
    /// Processes in its cgroup, but not the main one.
    Leftovers,
    /// Nothing.
    Nothing,
}
