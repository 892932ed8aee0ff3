//! Jobs and their results, as the store takes and gives them.

use bootagent_protocol::{Action, ErrorCode};
use serde_json::Value;

use crate::access::scope::Scope;
use crate::fleet::job_state::{JobMarks, JobState, job_state};

use super::page::{Count, Limit};

/// One order for many hosts, to be stored all or none.
#[derive(Debug, Clone)]
pub struct NewJobs {
    /// What to do.
    pub action: Action,
    /// The sub-agent.
    pub name: Option<String>,
    /// When it must not begin any more.
    pub expires: Option<i64>,
    /// When it was ordered.
    pub created: i64,
    /// The hosts, by the package they get.
    pub groups: Vec<JobGroup>,
}

/// Hosts whose jobs are the same to the letter.
#[derive(Debug, Clone)]
pub struct JobGroup {
    /// The order as on the wire, without its id.
    pub body: Value,
    /// Its version.
    pub version: Option<String>,
    /// The package it needs.
    pub package: Option<String>,
    /// Job id and agentsn of each host.
    pub hosts: Vec<(String, String)>,
}

/// What inserting jobs found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobsInserted {
    /// All are stored.
    Done,
    /// A package was deleted in the meantime; nothing is stored.
    PackageGone,
    /// These hosts are unknown; nothing is stored.
    UnknownHosts(Vec<String>),
}

/// Which jobs, newest first.
#[derive(Debug, Clone, Default)]
pub struct JobQuery {
    /// Only of this host.
    pub agentsn: Option<String>,
    /// Only open or only finished ones.
    pub phase: Option<JobPhase>,
    /// After this id.
    pub after: Option<String>,
    /// Only hosts of this scope.
    pub scope: Scope,
    /// Whether the total is wanted.
    pub count: Count,
    /// At most so many.
    pub limit: Limit,
}

/// Whether a job has its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobPhase {
    /// Not yet.
    Open,
    /// It has.
    Finished,
}

/// One job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    /// Its id, a UUID that sorts by time.
    pub id: String,
    /// The host.
    pub agentsn: String,
    /// What to do, as on the wire.
    pub action: String,
    /// The sub-agent.
    pub name: Option<String>,
    /// The version.
    pub version: Option<String>,
    /// The package.
    pub package: Option<String>,
    /// The order as on the wire, without its id.
    pub body: Value,
    /// When it was ordered.
    pub created: i64,
    /// When it must not begin any more.
    pub expires: Option<i64>,
    /// When it was first handed out.
    pub sent: Option<i64>,
    /// When its host first said that it has it.
    pub accepted: Option<i64>,
    /// When its result came.
    pub finished: Option<i64>,
    /// Whether that was after it had been given up.
    pub late: bool,
    /// Since when the host is offline that was given it and has not answered.
    pub offline_since: Option<i64>,
    /// How it ended.
    pub errcode: Option<ErrorCode>,
    /// Its result's message.
    pub message: Option<String>,
    /// Its result as it came.
    pub result: Option<Value>,
}

impl JobRow {
    /// Where it stands.
    pub fn state(&self) -> JobState {
        job_state(JobMarks {
            sent: self.sent,
            accepted: self.accepted,
            errcode: self.errcode,
        })
    }
}

/// What cancelling found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// Its host never heard of it: it is over.
    AtOnce,
    /// Its host is told.
    Asked,
    /// It has its result already.
    Finished,
    /// There is no such job.
    Unknown,
}

/// Which results, in order of arrival.
#[derive(Debug, Clone, Default)]
pub struct ResultQuery {
    /// Only of this host.
    pub agentsn: Option<String>,
    /// Only received at this time or later.
    pub since: Option<i64>,
    /// After this number.
    pub after: Option<i64>,
    /// Only hosts of this scope.
    pub scope: Scope,
    /// At most so many.
    pub limit: Limit,
}

/// One result.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultRow {
    /// Counts up in order of arrival.
    pub seq: i64,
    /// The job.
    pub id: String,
    /// The host.
    pub agentsn: String,
    /// What was to be done.
    pub action: String,
    /// The sub-agent.
    pub name: Option<String>,
    /// `host`, or `server` for a job that never reached its host.
    pub origin: String,
    /// When it arrived.
    pub finished: i64,
    /// Whether it corrects one of the server's own, who had given the job up.
    pub late: bool,
    /// How the job ended.
    pub errcode: ErrorCode,
    /// The same for a person.
    pub message: String,
    /// The result as it came.
    pub result: Value,
}
