//! Between the wire's types and the store's.
//!
//! What hosts send is free text from a stranger: names are checked, free text
//! is cut to its bound, and one odd event or result never spoils the status it
//! came with, because a status that is refused is sent again for ever.

use bootagent_protocol::{AgentReport, Event, JobResult, RegisterRequest, StatusRequest, truncate};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::store::host::Reported;
use crate::store::status::{NewEvent, Outcome, Readings, Seen, State, StateBody, StatusRecord};
use crate::token::hex;

/// Longest host name, in bytes (RFC 1035 with room for its dots).
const MAX_HOSTNAME_BYTES: usize = 255;
/// Longest identifier-like field, in bytes.
const MAX_FIELD_BYTES: usize = 128;
/// Longest free text, in bytes.
const MAX_TEXT_BYTES: usize = 4096;
/// Most lines of output an event keeps.
const MAX_TAIL_LINES: usize = 20;
/// Most addresses a host reports.
const MAX_ADDRESSES: usize = 64;
/// Most sub-agents of one host.
const MAX_AGENTS: usize = 256;
/// Most notices of one status.
const MAX_NOTICES: usize = 64;
/// The source of events a status carries.
const BOOTAGENT: &str = "bootagent";

/// A field no host of ours would send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {expected}")]
pub struct WireError {
    /// The field.
    pub field: &'static str,
    /// What is expected there.
    pub expected: String,
}

/// An agentsn in its one spelling: a UUID in lower case with hyphens.
pub fn agentsn(text: &str) -> Result<String, WireError> {
    Uuid::try_parse(text)
        .map(|uuid| uuid.hyphenated().to_string())
        .map_err(|_| WireError {
            field: "agentsn",
            expected: "a UUID is expected".into(),
        })
}

/// What a host says of itself when it registers.
pub fn reported(request: &RegisterRequest) -> Result<Reported, WireError> {
    let field = |name, value: &Option<String>| optional(name, value.as_deref());
    if request.ip.len() > MAX_ADDRESSES {
        let expected = format!("at most {MAX_ADDRESSES} addresses are expected");
        return Err(WireError {
            field: "ip",
            expected,
        });
    }
    for address in &request.ip {
        bounded("ip", address, MAX_FIELD_BYTES)?;
    }
    Ok(Reported {
        hostname: bounded("hostname", &request.hostname, MAX_HOSTNAME_BYTES)?,
        version: field("version", &request.version)?.unwrap_or_default(),
        os: field("os", &request.os)?.unwrap_or_default(),
        arch: field("arch", &request.arch)?.unwrap_or_default(),
        ip: request.ip.clone(),
        machine_id: field("machine_id", &request.machine_id)?,
        boot_id: field("boot_id", &request.boot_id)?,
    })
}

/// What is known of a status besides what it says.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The host its token proved.
    pub agentsn: String,
    /// The number of that secret.
    pub number: i64,
    /// Seconds until the host is expected again.
    pub every: u64,
    /// When it arrived.
    pub now: i64,
}

/// Takes a status apart for the store.
pub fn status_record(arrival: Arrival, request: StatusRequest) -> Result<StatusRecord, WireError> {
    if request.agents.len() > MAX_AGENTS {
        let expected = format!("at most {MAX_AGENTS} agents are expected");
        return Err(WireError {
            field: "agents",
            expected,
        });
    }
    let hostname = bounded("hostname", &request.hostname, MAX_HOSTNAME_BYTES)?;
    let version = bounded("version", &request.version, MAX_FIELD_BYTES)?;
    let machine_id = optional("machine_id", request.machine_id.as_deref())?;
    let boot_id = optional("boot_id", request.boot_id.as_deref())?;
    let (agents, readings) = request
        .agents
        .into_iter()
        .map(split_readings)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .unzip();
    let notices = request
        .notices
        .iter()
        .take(MAX_NOTICES)
        .map(|text| cut(text))
        .collect();
    let body = StateBody {
        step: request.step,
        machine_id: machine_id.clone(),
        boot_id: boot_id.clone(),
        agents,
        notices,
    };
    let digest = digest(&(&hostname, &version, &body));
    let events = request
        .events
        .iter()
        .map(|event| new_event(event, boot_id.as_deref()))
        .collect::<Result<_, _>>()?;
    Ok(StatusRecord {
        agentsn: arrival.agentsn,
        number: arrival.number,
        every: arrival.every,
        now: arrival.now,
        seen: Seen {
            timestamp: request.timestamp,
            uptime: i64::try_from(request.uptime).unwrap_or(i64::MAX),
            readings,
        },
        state: State {
            digest,
            hostname,
            version,
            machine_id,
            boot_id,
            body,
        },
        results: request.jobs.into_iter().map(outcome).collect(),
        accepted: request.accepted,
        events,
    })
}

/// Puts readings back where they came from.
pub fn merge_readings(mut agents: Vec<AgentReport>, readings: Vec<Readings>) -> Vec<AgentReport> {
    for (agent, readings) in agents.iter_mut().zip(readings) {
        agent.uptime = readings.uptime;
        agent.retry_in = readings.retry_in;
        agent.message = readings.message;
        if let Some(limits) = &mut agent.limits {
            limits.memory_used = readings.memory_used;
            limits.pids_used = readings.pids_used;
            limits.cpu_seconds = readings.cpu_seconds;
            limits.throttled_seconds = readings.throttled_seconds;
            limits.throttled_periods = readings.throttled_periods;
            limits.refused_forks = readings.refused_forks;
        }
    }
    agents
}

/// An order as its host gets it.
pub fn job_on_the_wire(id: &str, body: Value) -> Value {
    let mut job = body;
    if let Value::Object(fields) = &mut job {
        fields.insert("id".into(), Value::String(id.to_owned()));
    }
    job
}

/// Takes out what every push changes, so that the rest is written seldom.
fn split_readings(mut agent: AgentReport) -> Result<(AgentReport, Readings), WireError> {
    bounded("agents[].name", &agent.name, MAX_FIELD_BYTES)?;
    bounded("agents[].version", &agent.version, MAX_FIELD_BYTES)?;
    agent.detail = agent.detail.as_deref().map(cut);
    let limits = agent.limits.as_mut();
    let readings = Readings {
        uptime: std::mem::take(&mut agent.uptime),
        retry_in: agent.retry_in.take(),
        message: agent.message.take().as_deref().map(cut),
        memory_used: limits.as_ref().and_then(|limits| limits.memory_used),
        pids_used: limits.as_ref().and_then(|limits| limits.pids_used),
        cpu_seconds: limits.as_ref().and_then(|limits| limits.cpu_seconds),
        throttled_seconds: limits.as_ref().and_then(|limits| limits.throttled_seconds),
        throttled_periods: limits.as_ref().and_then(|limits| limits.throttled_periods),
        refused_forks: limits.as_ref().and_then(|limits| limits.refused_forks),
    };
    if let Some(limits) = limits {
        limits.enforced_by = cut(&limits.enforced_by);
        limits.cpu = limits.cpu.as_deref().map(cut);
        limits.memory = limits.memory.as_deref().map(cut);
        limits.memory_used = None;
        limits.pids_used = None;
        limits.cpu_seconds = None;
        limits.throttled_seconds = None;
        limits.throttled_periods = None;
        limits.refused_forks = None;
    }
    Ok((agent, readings))
}

fn outcome(mut result: JobResult) -> Outcome {
    result.message = cut(&result.message);
    result.tried = result.tried.as_deref().map(cut);
    result.running = result.running.as_deref().map(cut);
    result.cause = result.cause.as_deref().map(cut);
    Outcome {
        id: result.id.clone(),
        errcode: result.errcode.0,
        message: result.message.clone(),
        body: json!(result),
    }
}

fn new_event(event: &Event, boot_id: Option<&str>) -> Result<NewEvent, WireError> {
    let seq = i64::try_from(event.seq).map_err(|_| WireError {
        field: "events[].seq",
        expected: "a number below 2^63 is expected".into(),
    })?;
    let field = |text: &str| truncate(text, MAX_FIELD_BYTES).to_owned();
    let boot_id = event.boot_id.as_deref().or(boot_id).unwrap_or_default();
    Ok(NewEvent {
        source: BOOTAGENT.into(),
        boot_id: field(boot_id),
        seq,
        timestamp: event.timestamp,
        category: field(&event.category),
        subject: field(&event.subject),
        version: event.version.as_deref().map(field),
        message: cut(&event.message),
        tail: event
            .tail
            .iter()
            .take(MAX_TAIL_LINES)
            .map(|line| cut(line))
            .collect(),
    })
}

fn cut(text: &str) -> String {
    truncate(text, MAX_TEXT_BYTES).to_owned()
}

fn optional(field: &'static str, value: Option<&str>) -> Result<Option<String>, WireError> {
    value
        .filter(|value| !value.is_empty())
        .map(|value| bounded(field, value, MAX_FIELD_BYTES))
        .transpose()
}

fn bounded(field: &'static str, value: &str, max_bytes: usize) -> Result<String, WireError> {
    if value.len() > max_bytes || value.chars().any(char::is_control) {
        let expected = format!("at most {max_bytes} bytes without control characters are expected");
        return Err(WireError { field, expected });
    }
    Ok(value.to_owned())
}

/// Of the value's JSON, in the order in which its fields are declared.
fn digest(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("strings, numbers and lists always serialise");
    hex(&Sha256::digest(json))
}

#[cfg(test)]
#[path = "wire/tests.rs"]
mod tests;
