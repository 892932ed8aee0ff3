//! Schemas of the hosts' protocol. The types themselves are
//! `bootagent_protocol`'s; these are only read by the document.
#![expect(dead_code, reason = "the fields are read by the derive alone")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// What a host says when it registers.
#[derive(ToSchema)]
#[schema(as = RegisterRequest)]
pub struct RegisterRequestSchema {
    /// Its host name.
    hostname: String,
    /// The identity it would like, a UUID.
    agentsn: String,
    /// Its addresses.
    ip: Option<Vec<String>>,
    /// `bootagent-VERSION-ARCH`.
    version: Option<String>,
    /// `ID VERSION_ID` of os-release.
    #[schema(example = "debian 12")]
    os: Option<String>,
    /// Its architecture.
    arch: Option<String>,
    /// /etc/machine-id.
    machine_id: Option<String>,
    /// The boot it runs in.
    boot_id: Option<String>,
}

/// The answer to a registration.
#[derive(ToSchema)]
#[schema(as = RegisterReply)]
pub struct RegisterReplySchema {
    /// 0 accepts.
    status: i64,
    /// Its identity from now on.
    agentsn: Option<String>,
    /// Its tags.
    #[schema(example = "cmpt=DB,svc=ecs")]
    tags: Option<String>,
    /// Its secret, for every later call.
    token: Option<String>,
    /// Why it was not accepted.
    message: Option<String>,
}

/// How a host is.
#[derive(ToSchema)]
#[schema(as = StatusRequest)]
pub struct StatusRequestSchema {
    /// Its host name.
    hostname: String,
    /// Its identity.
    agentsn: String,
    /// `bootagent-VERSION-ARCH`.
    version: Option<String>,
    /// Seconds BootAgent runs.
    uptime: Option<u64>,
    /// Its clock, in unix seconds.
    timestamp: Option<i64>,
    /// Seconds between two statuses.
    step: Option<u64>,
    /// Its sub-agents.
    agents: Option<Vec<AgentReportSchema>>,
    /// Results of jobs, until acknowledged.
    jobs: Option<Vec<JobResultSchema>>,
    /// /etc/machine-id.
    machine_id: Option<String>,
    /// The boot it runs in.
    boot_id: Option<String>,
    /// Ids of jobs taken and not finished.
    accepted: Option<Vec<String>>,
    /// What happened, until acknowledged.
    events: Option<Vec<EventSchema>>,
    /// What BootAgent says of itself.
    notices: Option<Vec<String>>,
}

/// One sub-agent.
#[derive(ToSchema)]
#[schema(as = AgentReport)]
pub struct AgentReportSchema {
    /// Its name.
    name: String,
    /// Its version.
    version: Option<String>,
    /// `stoped`, `running`, `fatal` or `killed`.
    status: String,
    /// Seconds it runs.
    uptime: Option<u64>,
    /// What the operator wants of it.
    wanted: Option<String>,
    /// `starting`, `stopping`, `hold-off` or `done`.
    detail: Option<String>,
    /// Seconds until the next start is tried.
    retry_in: Option<u64>,
    /// Abnormal ends in a row that count.
    anomalies: Option<u32>,
    /// Its own STATUS= line.
    message: Option<String>,
    /// Its main process.
    pid: Option<i32>,
    /// Its limits and what it used.
    limits: Option<LimitsReportSchema>,
}

/// Limits in force and what was used.
#[derive(ToSchema)]
#[schema(as = LimitsReport)]
pub struct LimitsReportSchema {
    /// `cgroup2`, `cgroup1`, `watch`, `rlimit` or `none`.
    enforced_by: String,
    /// Percent of one core.
    #[schema(rename = "CPU")]
    cpu: Option<String>,
    /// Memory.
    memory: Option<String>,
    /// Processes and threads.
    pids: Option<u64>,
    /// Open files of one process.
    files: Option<u64>,
    /// Bytes of memory in use.
    memory_used: Option<u64>,
    /// Processes and threads there are.
    pids_used: Option<u64>,
    /// Seconds of CPU used.
    cpu_seconds: Option<f64>,
    /// Seconds spent waiting for quota.
    throttled_seconds: Option<f64>,
    /// Periods of 100 ms in which it had to wait for quota.
    throttled_periods: Option<u64>,
    /// Times the out-of-memory killer struck.
    oom_kills: Option<u64>,
    /// Processes and threads that could not be started at the limit of pids.
    refused_forks: Option<u64>,
}

/// What a child may use.
#[derive(ToSchema)]
#[schema(as = Limits)]
pub struct LimitsSchema {
    /// Percent of one core.
    #[schema(rename = "CPU", example = "10%")]
    cpu: Option<String>,
    /// Memory; K, M and G are powers of 1024.
    #[schema(example = "20M")]
    memory: Option<String>,
    /// Processes and threads.
    pids: Option<u64>,
    /// Open files of one process.
    files: Option<u64>,
}

/// Something that happened on a host.
#[derive(ToSchema)]
#[schema(as = Event)]
pub struct EventSchema {
    /// Its number within source and boot.
    seq: u64,
    /// The host's clock, in unix seconds.
    timestamp: i64,
    /// What kind of thing happened.
    category: String,
    /// What it happened to.
    subject: Option<String>,
    /// The subject's version.
    version: Option<String>,
    /// What happened.
    message: String,
    /// The last lines the subject printed.
    tail: Option<Vec<String>>,
    /// The boot it happened in, if not the status's.
    boot_id: Option<String>,
}

/// The result of a job.
#[derive(ToSchema)]
#[schema(as = JobResult)]
pub struct JobResultSchema {
    /// The job.
    id: String,
    /// How it ended; see /api/v1/errcodes.
    errcode: u16,
    /// The same for a person.
    message: Option<String>,
    /// The version that was tried.
    tried: Option<String>,
    /// The version that runs now.
    running: Option<String>,
    /// Why the two differ.
    cause: Option<String>,
}

/// The answer to a status.
#[derive(ToSchema)]
#[schema(as = StatusReply)]
pub struct StatusReplySchema {
    /// 0; ignored by hosts.
    status: i64,
    /// Orders.
    jobs: Option<Vec<JobSchema>>,
    /// Seconds to the next status, this once.
    next: Option<u64>,
    /// Register again.
    register: Option<bool>,
    /// A new secret.
    token: Option<String>,
}

/// One order for one host.
#[derive(ToSchema)]
#[schema(as = Job)]
pub struct JobSchema {
    /// Its id.
    id: String,
    /// What to do.
    action: String,
    /// The sub-agent.
    name: Option<String>,
    /// The version the package has.
    version: Option<String>,
    /// Where the package is; may be relative to this server.
    url: Option<String>,
    /// `SHA256:hex`.
    checksum: Option<String>,
    /// minisign signature.
    signature: Option<String>,
    /// The child's environment.
    envs: Option<BTreeMap<String, String>>,
    /// The child's limits.
    limits: Option<LimitsSchema>,
    /// BootAgent's server list.
    svrlist: Option<String>,
    /// Seconds between two statuses.
    step: Option<u64>,
    /// Unix seconds after which it must not begin.
    expires: Option<i64>,
    /// The job to withdraw.
    cancels: Option<String>,
    /// Seconds a new version is watched.
    watch: Option<u64>,
    /// Whether an older version may replace a newer one.
    downgrade: Option<bool>,
}
