//! Many statuses as the few arrays that one statement each takes.
//!
//! Shared by both databases: SQLite reads the arrays with `json_each`,
//! PostgreSQL with `UNNEST`. The one rule: no array has a key twice, because
//! PostgreSQL refuses to update a row twice in one statement.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};

use super::status::StatusRecord;

/// The arrays, each sorted by its key so that two replicas never wait for
/// each other.
#[derive(Debug, Default)]
pub struct Batch {
    /// One per host: agentsn, seen, reported, uptime, readings.
    pub seen: Vec<Value>,
    /// One per host: agentsn, digest, now, body and the reported columns.
    pub states: Vec<Value>,
    /// One per job: id, agentsn, errcode, message, now, body.
    pub results: Vec<Value>,
    /// One per job: id, agentsn, now.
    pub accepted: Vec<Value>,
    /// One per event.
    pub events: Vec<Value>,
    /// The hosts of the batch.
    pub agentsns: Vec<String>,
}

impl Batch {
    /// Puts records together; of several from one host the last one is its
    /// state, while results and events of all of them count.
    pub fn collect(records: &[StatusRecord]) -> Self {
        let mut latest = BTreeMap::new();
        let mut results = BTreeMap::new();
        let mut accepted = BTreeMap::new();
        let mut events = Vec::new();
        let mut known_events = HashSet::new();
        for record in records {
            latest.insert(record.agentsn.as_str(), record);
            for outcome in &record.results {
                // The first result wins, here as in the table.
                let key = (outcome.id.as_str(), record.agentsn.as_str());
                results.entry(key).or_insert_with(|| {
                    json!({
                        "id": outcome.id, "agentsn": record.agentsn, "errcode": outcome.errcode,
                        "message": outcome.message, "now": record.now, "body": outcome.body,
                    })
                });
            }
            for id in &record.accepted {
                let key = (id.as_str(), record.agentsn.as_str());
                accepted.entry(key).or_insert_with(
                    || json!({ "id": id, "agentsn": record.agentsn, "now": record.now }),
                );
            }
            for event in &record.events {
                let (source, boot_id) = (event.source.as_str(), event.boot_id.as_str());
                if known_events.insert((record.agentsn.as_str(), source, boot_id, event.seq)) {
                    events.push(json!({
                        "agentsn": record.agentsn, "source": source, "boot_id": boot_id,
                        "seq": event.seq, "received": record.now, "timestamp": event.timestamp,
                        "category": event.category, "subject": event.subject,
                        "version": event.version, "message": event.message, "tail": event.tail,
                    }));
                }
            }
        }
        Self {
            seen: latest.values().map(|record| seen_row(record)).collect(),
            states: latest.values().map(|record| state_row(record)).collect(),
            agentsns: latest.keys().map(|agentsn| (*agentsn).to_owned()).collect(),
            results: results.into_values().collect(),
            accepted: accepted.into_values().collect(),
            events,
        }
    }
}

fn seen_row(record: &StatusRecord) -> Value {
    json!({
        "agentsn": record.agentsn, "seen": record.now, "reported": record.seen.timestamp,
        "uptime": record.seen.uptime, "readings": record.seen.readings,
    })
}

fn state_row(record: &StatusRecord) -> Value {
    let state = &record.state;
    json!({
        "agentsn": record.agentsn, "digest": state.digest, "changed": record.now,
        "hostname": state.hostname, "version": state.version, "machine_id": state.machine_id,
        "boot_id": state.boot_id, "body": state.body,
    })
}
