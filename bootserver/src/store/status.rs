//! A status, as the store takes it, and what its host is told.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fleet::clone::{Pusher, Verdict};
use crate::fleet::handout::More;

/// One status, checked and taken apart.
#[derive(Debug, Clone)]
pub struct StatusRecord {
    /// The host.
    pub agentsn: String,
    /// The number of the secret it came with. Another one than the host's is
    /// refused.
    pub number: i64,
    /// Seconds until the host is expected again.
    pub every: u64,
    /// When it arrived.
    pub now: i64,
    /// What changes with every push.
    pub seen: Seen,
    /// What seldom changes.
    pub state: State,
    /// Results of jobs.
    pub results: Vec<Outcome>,
    /// Ids of jobs the host has and has not finished.
    pub accepted: Vec<String>,
    /// What happened.
    pub events: Vec<NewEvent>,
}

impl StatusRecord {
    /// The machine that pushed it, in its boot.
    pub fn pusher(&self) -> Pusher {
        Pusher {
            machine_id: self.state.machine_id.clone(),
            boot_id: self.state.boot_id.clone(),
        }
    }
}

/// What changes with every push.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The host's own clock, in seconds.
    pub timestamp: i64,
    /// Seconds BootAgent runs.
    pub uptime: i64,
    /// One per agent, in the order of the state's agents.
    pub readings: Vec<Readings>,
}

/// What one agent's report changes with every push.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Readings {
    /// Seconds the child runs.
    pub uptime: u64,
    /// Seconds until the next start is tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_in: Option<u64>,
    /// The child's own STATUS= line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
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
    /// Periods in which it had to wait for quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled_periods: Option<u64>,
    /// Processes that could not be started at the limit of pids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_forks: Option<u64>,
}

/// What seldom changes: written only when its digest does.
#[derive(Debug, Clone)]
pub struct State {
    /// A digest over everything below.
    pub digest: String,
    /// The host name.
    pub hostname: String,
    /// `bootagent-VERSION-ARCH`.
    pub version: String,
    /// /etc/machine-id.
    pub machine_id: Option<String>,
    /// The boot it runs in.
    pub boot_id: Option<String>,
    /// Step, agents and notices, as [`StateBody`].
    pub body: StateBody,
}

/// The part of a state that is kept as one JSON value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StateBody {
    /// Seconds between two statuses.
    pub step: u64,
    /// The machine that pushed, if it says so.
    #[serde(default)]
    pub machine_id: Option<String>,
    /// The boot it pushed in.
    #[serde(default)]
    pub boot_id: Option<String>,
    /// The sub-agents without their readings.
    pub agents: Vec<bootagent_protocol::AgentReport>,
    /// What BootAgent says of itself.
    #[serde(default)]
    pub notices: Vec<String>,
}

/// A result of one job.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The job.
    pub id: String,
    /// How it ended.
    pub errcode: u16,
    /// The same for a person.
    pub message: String,
    /// The result as it came.
    pub body: Value,
}

/// An event to store once.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The agent that noticed it.
    pub source: String,
    /// The boot it happened in.
    pub boot_id: String,
    /// Its number within source and boot.
    pub seq: i64,
    /// The host's own clock, in seconds.
    pub timestamp: i64,
    /// What kind of thing happened.
    pub category: String,
    /// What it happened to.
    pub subject: String,
    /// The subject's version.
    pub version: Option<String>,
    /// What happened.
    pub message: String,
    /// The last lines the subject printed.
    pub tail: Vec<String>,
}

/// What came of a status.
#[derive(Debug, Clone, PartialEq)]
pub enum StatusOutcome {
    /// It is stored.
    Stored(Stored),
    /// The secret it came with was revoked or replaced: nothing of it is stored.
    SecretChanged,
}

/// What a stored status means for its host.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Open jobs to hand out: id and the order without its id.
    pub jobs: Vec<(String, Value)>,
    /// Whether more wait that did not fit.
    pub more: More,
    /// Results that were not this host's to give, or came a second time.
    pub ignored_results: Vec<String>,
    /// Whether its secret shall be replaced.
    pub rotation: Rotation,
    /// Whether it came from a copy of the host.
    pub verdict: Verdict,
}

/// Whether a secret shall be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Not yet.
    None,
    /// Now.
    Due,
}

/// What is odd about a host that pushes; about most nothing is.
#[derive(Debug, Clone, Deserialize)]
pub struct Odd {
    /// Its place in the batch.
    pub place: i64,
    /// The number of the secret in force; none if the host is not there.
    pub number: Option<i64>,
    /// How it stood before this push.
    pub state: Option<String>,
    /// When its secret shall be replaced.
    pub rotate_due: Option<i64>,
    /// Of the state that was stored last.
    pub digest: Option<String>,
    /// Whether jobs wait for it.
    pub has_jobs: bool,
}

/// An open job as a batch needs it: agentsn, id, order, and whether it was
/// handed out before.
pub type OpenJob = (String, String, String, bool);
