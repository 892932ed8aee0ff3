//! POST /agent/status: how a host is, and what it shall do.

use serde::{Deserialize, Serialize};

use crate::{Event, JobResult};

/// Largest status a server takes, in bytes.
pub const MAX_STATUS_BYTES: usize = 1 << 20;
/// Largest reply BootAgent takes, in bytes.
pub const MAX_REPLY_BYTES: usize = 1 << 20;

/// What a host reports each `step`. The first eight fields are document 002's
/// and always written; the rest is ours and optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusRequest {
    /// The host name.
    pub hostname: String,
    /// The host's identity.
    pub agentsn: String,
    /// `bootagent-VERSION-ARCH`.
    #[serde(default)]
    pub version: String,
    /// Seconds since BootAgent started.
    #[serde(default)]
    pub uptime: u64,
    /// Wall time in seconds since 1970, only to be shown.
    #[serde(default)]
    pub timestamp: i64,
    /// Seconds between two statuses.
    #[serde(default)]
    pub step: u64,
    /// The sub-agents of this host.
    #[serde(default)]
    pub agents: Vec<AgentReport>,
    /// Results of jobs, until acknowledged.
    #[serde(default)]
    pub jobs: Vec<JobResult>,
    /// /etc/machine-id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    /// /proc/sys/kernel/random/boot_id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Ids of jobs taken and not finished.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
    /// What happened, until acknowledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// What an operator should know about the supervisor itself, such as
    /// `limits unavailable: no cgroup controllers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// What a child is. Spellings are document 002's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// Stopped on purpose, or ended normally.
    Stoped,
    /// Running, from exec on.
    Running,
    /// Failed too often; not tried again by itself.
    Fatal,
    /// Ended by a limit.
    Killed,
    /// A word this version does not know.
    #[serde(other)]
    Unknown,
}

impl AgentState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stoped => "stoped",
            Self::Running => "running",
            Self::Fatal => "fatal",
            Self::Killed => "killed",
            Self::Unknown => "unknown",
        }
    }
}

/// One sub-agent in a status. `name` to `uptime` are document 002's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentReport {
    /// The agent's name, unique on its host.
    pub name: String,
    /// The version that runs; where none does, the one that is installed.
    #[serde(default)]
    pub version: String,
    /// What the child is.
    pub status: AgentState,
    /// Seconds since the child started; 0 when it does not run.
    #[serde(default)]
    pub uptime: u64,
    /// What the operator wants: `running` or `stoped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<AgentState>,
    /// `starting`, `stopping`, `hold-off` or `done`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Seconds until the next start is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in: Option<u64>,
    /// Abnormal ends in a row that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anomalies: Option<u32>,
    /// The child's own STATUS= line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Main process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// Limits that are in force, and what was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsReport>,
}

/// How a child's limits are enforced and what it used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LimitsReport {
    /// `cgroup2`, `cgroup1`, `watch` (looked at now and then, and killed),
    /// `rlimit` or `none`.
    pub enforced_by: String,
    /// Percent of one core in force.
    #[serde(rename = "CPU", default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Memory in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Processes and threads in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Open files of one process in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Bytes of memory in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used: Option<u64>,
    /// Processes and threads there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_used: Option<u64>,
    /// Seconds of CPU used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Seconds spent waiting for quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_seconds: Option<f64>,
    /// Periods of 100 ms in which it had to wait for quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_periods: Option<u64>,
    /// Times the out-of-memory killer struck.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// Processes and threads that could not be started at the limit of pids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_forks: Option<u64>,
}

/// The answer to a status. Any 2xx acknowledges the results and events sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusReply {
    /// Ignored, as document 002 says.
    #[serde(default)]
    pub status: i64,
    /// Orders. Kept as they came: one malformed job is answered 1001 and does
    /// not spoil its neighbours. [`crate::Job::parse`] reads one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<serde_json::Value>,
    /// Seconds to the next status, this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Register again: two machines share this identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<bool>,
    /// A new secret that replaces the one used.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::text::token"
    )]
    pub token: Option<String>,
}
