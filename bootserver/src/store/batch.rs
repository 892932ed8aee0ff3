//! Many statuses as the few lists that one statement each takes.
//!
//! Shared by both databases: SQLite reads a list as JSON with `json_each`,
//! PostgreSQL the hot ones as arrays with `UNNEST`. The one rule: no list has a
//! key twice, because PostgreSQL refuses to update a row twice in one statement.

use std::collections::{BTreeMap, HashSet};

use serde::{Serialize, Serializer};

use super::status::{StateBody, StatusRecord};

/// When hosts were seen: one row per host, sorted. Of several statuses of one
/// host it is that with the newest secret, and of these the last one.
pub fn seen(records: &[StatusRecord]) -> Vec<SeenRow<'_>> {
    let mut latest: BTreeMap<&str, &StatusRecord> = BTreeMap::new();
    for record in records {
        let known = latest.entry(record.agentsn.as_str()).or_insert(record);
        if known.number <= record.number {
            *known = record;
        }
    }
    latest.into_values().map(seen_row).collect()
}

/// The lists, each sorted by its key so that two replicas never wait for
/// each other.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    /// One per host.
    pub states: Vec<StateRow<'a>>,
    /// One per job.
    pub results: Vec<ResultRow<'a>>,
    /// One per job.
    pub accepted: Vec<AcceptedRow<'a>>,
    /// One per event.
    pub events: Vec<EventRow<'a>>,
}

/// What changes with every push.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the table host_seen")]
pub struct SeenRow<'a> {
    pub agentsn: &'a str,
    pub number: i64,
    pub every: i64,
    pub seen: i64,
    pub reported: i64,
    pub uptime: i64,
    /// JSON.
    pub readings: String,
    /// Of the state that came with it.
    pub digest: &'a str,
}

/// What seldom changes.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the columns of host_state and of host")]
pub struct StateRow<'a> {
    pub agentsn: &'a str,
    pub digest: &'a str,
    pub changed: i64,
    pub step: u64,
    pub hostname: &'a str,
    pub version: &'a str,
    pub machine_id: Option<&'a str>,
    pub boot_id: Option<&'a str>,
    /// Made JSON only for the few that are written.
    #[serde(serialize_with = "as_text")]
    pub body: &'a StateBody,
    /// What came with this identity in the batch, in order: more than one when
    /// two machines share it.
    #[serde(skip)]
    pub pushes: Vec<&'a StatusRecord>,
}

/// How a job ended.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the columns of the table job_result")]
pub struct ResultRow<'a> {
    pub id: &'a str,
    pub agentsn: &'a str,
    pub errcode: u16,
    pub message: &'a str,
    pub now: i64,
    /// JSON.
    pub body: String,
}

/// A job its host has.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the columns of the table job")]
pub struct AcceptedRow<'a> {
    pub id: &'a str,
    pub agentsn: &'a str,
    pub now: i64,
}

/// An event.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the columns of the table event")]
pub struct EventRow<'a> {
    pub agentsn: &'a str,
    pub source: &'a str,
    pub boot_id: &'a str,
    pub seq: i64,
    pub received: i64,
    pub timestamp: i64,
    pub category: &'a str,
    pub subject: &'a str,
    pub version: Option<&'a str>,
    pub message: &'a str,
    /// JSON.
    pub tail: String,
}

impl<'a> Batch<'a> {
    /// Puts admitted records together; of several from one host the last one is its
    /// state, while results and events of all of them count.
    pub fn collect(records: impl IntoIterator<Item = &'a StatusRecord>) -> Self {
        let mut pushes: BTreeMap<&str, Vec<&StatusRecord>> = BTreeMap::new();
        let mut results = BTreeMap::new();
        let mut accepted = BTreeMap::new();
        let mut events = Vec::new();
        let mut known_events = HashSet::new();
        for record in records {
            let agentsn = record.agentsn.as_str();
            pushes.entry(agentsn).or_default().push(record);
            for outcome in &record.results {
                // The first result wins, here as in the table.
                let id = outcome.id.as_str();
                results.entry((id, agentsn)).or_insert_with(|| ResultRow {
                    id,
                    agentsn,
                    errcode: outcome.errcode,
                    message: &outcome.message,
                    now: record.now,
                    body: json(&outcome.body),
                });
            }
            for id in &record.accepted {
                let id = id.as_str();
                accepted.entry((id, agentsn)).or_insert(AcceptedRow {
                    id,
                    agentsn,
                    now: record.now,
                });
            }
            for event in &record.events {
                let (source, boot_id) = (event.source.as_str(), event.boot_id.as_str());
                if known_events.insert((agentsn, source, boot_id, event.seq)) {
                    events.push(EventRow {
                        agentsn,
                        source,
                        boot_id,
                        seq: event.seq,
                        received: record.now,
                        timestamp: event.timestamp,
                        category: &event.category,
                        subject: &event.subject,
                        version: event.version.as_deref(),
                        message: &event.message,
                        tail: json(&event.tail),
                    });
                }
            }
        }
        Self {
            states: pushes.into_values().filter_map(state_row).collect(),
            results: results.into_values().collect(),
            accepted: accepted.into_values().collect(),
            events,
        }
    }
}

fn seen_row(record: &StatusRecord) -> SeenRow<'_> {
    SeenRow {
        agentsn: &record.agentsn,
        number: record.number,
        every: i64::try_from(record.every).unwrap_or(i64::MAX),
        seen: record.now,
        reported: record.seen.timestamp,
        uptime: record.seen.uptime,
        readings: json(&record.seen.readings),
        digest: &record.state.digest,
    }
}

/// The last one says how the host is.
fn state_row<'a>(pushes: Vec<&'a StatusRecord>) -> Option<StateRow<'a>> {
    let record = pushes.last()?;
    let state = &record.state;
    Some(StateRow {
        agentsn: &record.agentsn,
        digest: &state.digest,
        changed: record.now,
        step: state.body.step,
        hostname: &state.hostname,
        version: &state.version,
        machine_id: state.machine_id.as_deref(),
        boot_id: state.boot_id.as_deref(),
        body: &state.body,
        pushes,
    })
}

/// JSON in a text, as the column wants it.
fn as_text<S: Serializer>(body: &StateBody, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&json(body))
}

/// JSON for a column.
pub fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("strings, numbers and lists always serialise")
}
