//! What the index knows of a report: enough to find it and to list it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::format::main_part;
use crate::report::{Cause, Report, State};

/// A report in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Whose.
    pub id: Uuid,
    /// How it ended.
    pub state: State,
    /// Who wanted it.
    pub cause: Cause,
    /// The caller's own reference.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "ref")]
    pub reference: Option<String>,
    /// The address or name as it was asked for.
    pub target: String,
    /// The address, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// When it was accepted, unix milliseconds.
    pub accepted_ms: i64,
    /// When it ended, unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// What the target lost of this trace's own probes, percent; absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f32>,
}

impl Summary {
    /// Of a report.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let target = main_part(report).and_then(|part| part.hops.last());
        let counts = target.map(|hop| hop.own).filter(|own| own.sent > 0);
        #[expect(clippy::cast_possible_truncation, reason = "a percentage")]
        let loss = counts.map(|own| (f64::from(own.lost()) * 100.0 / f64::from(own.sent)) as f32);
        Self {
            id: report.id,
            state: report.state,
            cause: report.cause,
            reference: report.reference.clone(),
            target: report.target.asked.clone(),
            address: report.target.address,
            accepted_ms: report.accepted_at.unix_ms,
            ended_ms: report.ended_at.map(|it| it.unix_ms),
            loss,
        }
    }
}
