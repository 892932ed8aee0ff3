//! What `bootctl` and the daemon say to each other.
//!
//! One packet with the request, and as many as it takes with the answer, over a
//! Unix socket (SOCK_SEQPACKET) that only root, or the user the daemon runs as,
//! may open. The answer ends where the daemon shuts the socket down. The one
//! rule: whoever does not read his answer holds up nobody, and not for long.

pub mod client;
pub mod send;

use bootagent_protocol::{AgentName, AgentReport, Event, JobResult};
use serde::{Deserialize, Serialize};

/// Largest packet that is read, in bytes; none is sent that is so large.
pub const MAX_PACKET_BYTES: usize = 128 * 1024;
/// Longest answer, in bytes: the status of some ten thousand children.
pub const MAX_ANSWER_BYTES: usize = 16 << 20;

/// What `bootctl` asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Everything about this host.
    Status,
    /// The newest jobs.
    Jobs,
    /// Events no server has taken yet.
    Events,
    /// Start a child.
    Start {
        /// Which one.
        name: AgentName,
    },
    /// Stop a child.
    Stop {
        /// Which one.
        name: AgentName,
    },
    /// Stop every child, and stay so until each is started again.
    StopAll,
    /// Execute the program at the daemon's path in its place.
    Reexec,
    /// Call the servers now, whatever was waited for.
    Call,
    /// Stop and start a child.
    Restart {
        /// Which one.
        name: AgentName,
    },
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To `status`.
    Status(Box<HostStatus>),
    /// To `jobs`, newest first; no result means it is not finished.
    Jobs(Vec<(String, Option<JobResult>)>),
    /// To `events`, newest first.
    Events(Vec<Event>),
    /// It is done; the text says what was done.
    Done(String),
    /// It could not be done; the text says why and what to do.
    Failed(String),
}

/// This host, as its BootAgent sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostStatus {
    /// `bootagent-VERSION-ARCH`.
    pub version: String,
    /// The daemon's process.
    #[serde(default)]
    pub pid: u32,
    /// The configuration it was started with.
    #[serde(default)]
    pub config: std::path::PathBuf,
    /// Identity.
    pub agentsn: String,
    /// Whether a server has confirmed it.
    pub confirmed: bool,
    /// Seconds since BootAgent started.
    pub uptime: u64,
    /// Servers, in the order they are tried.
    pub servers: Vec<String>,
    /// The server that is asked next.
    pub server: Option<String>,
    /// Seconds since a server answered a status.
    pub answered_ago: Option<u64>,
    /// Seconds until the next call.
    pub next_in: Option<u64>,
    /// What went wrong last with the servers.
    pub problem: Option<String>,
    /// Seconds between two statuses.
    pub step: u64,
    /// Tags the server gave.
    pub tags: String,
    /// What an operator should know.
    pub notices: Vec<String>,
    /// The children.
    pub agents: Vec<AgentReport>,
}
