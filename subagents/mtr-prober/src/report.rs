//! The document that a measurement is once it ended, and while it runs.
//!
//! It is what the archive keeps, the platform is sent and every other format is
//! made from. Times are unix milliseconds with the offset of the local zone, round
//! trips microseconds.

use std::net::IpAddr;

use bootagent_kit::date::Date;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::mesh::detect::Trouble;
use crate::statistics::Statistics;
use crate::verdict::{BothEnds, Direction};

/// One measurement: what was asked, from where, what came of it, and what is to be doubted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// UUIDv7, given when it was accepted.
    pub id: Uuid,
    /// How it stands.
    pub state: State,
    /// Who wanted it.
    pub cause: Cause,
    /// The caller's own reference, such as an event id; at most 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "ref")]
    pub reference: Option<String>,
    /// The measuring program and its version.
    pub tool: String,
    /// This node's name.
    pub node: String,
    /// What was measured.
    pub target: Target,
    /// From where.
    pub source: Source,
    /// How.
    pub parameters: Parameters,
    /// When it was accepted.
    pub accepted_at: Instant,
    /// When the first probe left; none has while this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Instant>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Instant>,
    /// What was measured, each part with its own numbers; one for an ordered measurement.
    pub parts: Vec<Part>,
    /// Probes to the target and losses, second by second, where that was kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<Second>,
    /// What this machine itself did to the measurement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// What the mesh saw, where it wanted this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
    /// Why there is no (whole) result, in a sentence with a remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// How a measurement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Accepted; its name is looked up or its first probe waits for its turn.
    Accepted,
    /// Probes go out.
    Running,
    /// All rounds are done.
    Finished,
    /// Stopped by a caller; what there was is kept.
    Stopped,
    /// The program or the machine ended under it; it is never run again.
    Interrupted,
    /// It could not be measured; `problem` says why.
    Failed,
}

/// Who wanted a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A request.
    Api,
    /// A ticket is to be written with it.
    Ticket,
    /// Somebody's monitoring saw a loss or a latency.
    Trigger,
    /// Our own mesh did.
    Mesh,
    /// The command line.
    Command,
}

impl Report {
    /// What both ends counted, where they did.
    #[must_use]
    pub fn both_ends(&self) -> Option<BothEnds> {
        self.incident.as_ref()?.both_ends
    }
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The address or name as it was asked for.
    pub asked: String,
    /// The address, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

/// Where a measurement goes out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The address, interface or line that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The address the probes carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The interface they leave by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The node's name of that line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// The carrier's name of that line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<String>,
}

/// What the mesh saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// What was wrong with the peer first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Trouble>,
    /// It was the whole line; the peer that was traced is one of its.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<LineTrouble>,
    /// How long it lasted, milliseconds; absent where that is not known, as it was not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasted_ms: Option<u64>,
    /// What both ends counted of it, where both have the group's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub both_ends: Option<BothEnds>,
    /// In which direction it was, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
}

/// A line in trouble, and with it all that is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineTrouble {
    /// Peers whose last ping was lost when it was noticed.
    pub suspects: usize,
    /// Of so many that answer normally.
    pub of: usize,
    /// Peers whose trouble was part of it, in the end.
    pub peers: usize,
}

/// How a measurement is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Rounds.
    pub count: u32,
    /// From one round to the next as asked, milliseconds.
    pub interval_ms: u32,
    /// Bytes of a whole probe, its IP header included, as `mtr` counts.
    pub size: u16,
}

/// A moment: unix milliseconds, and how many seconds the local zone was east of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instant {
    /// Unix milliseconds.
    pub unix_ms: i64,
    /// Seconds east of UTC.
    pub offset: i32,
}

impl Instant {
    /// In local time, as `mtr` writes it: `2026-11-22T05:42:28+0000`.
    #[must_use]
    pub fn iso(&self) -> String {
        let sign = if self.offset < 0 { '-' } else { '+' };
        let minutes = self.offset.unsigned_abs() / 60;
        let zone = format!("{sign}{:02}{:02}", minutes / 60, minutes % 60);
        format!("{}T{}{zone}", self.date(), self.time())
    }

    /// The same moment in UTC.
    #[must_use]
    pub fn utc(&self) -> Self {
        Self { offset: 0, ..*self }
    }

    /// The day it falls on, in local time.
    #[must_use]
    pub fn date(&self) -> Date {
        Date::of_unix(self.local_seconds())
    }

    /// The time of that day, `05:42:28`.
    #[must_use]
    pub fn time(&self) -> String {
        let of_day = self.local_seconds().rem_euclid(86_400);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        format!("{hour:02}:{minute:02}:{second:02}")
    }

    fn local_seconds(&self) -> i64 {
        self.unix_ms.div_euclid(1000) + i64::from(self.offset)
    }
}

/// One part of a measurement, with its own numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which.
    pub name: PartName,
    /// When its first probe left.
    pub started_at: Instant,
    /// When its last answer came or was given up.
    pub ended_at: Instant,
    /// Rounds that were sent.
    pub rounds: u32,
    /// Whether the target answered: the last hop is it.
    pub reached: bool,
    /// From TTL 1 on without a gap, up to the target or the last that was probed.
    pub hops: Vec<Hop>,
}

/// The parts there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartName {
    /// An ordered measurement.
    Run,
    /// The path as it was before the trouble.
    Before,
    /// Each TTL once, at the moment of the trigger.
    Snapshot,
    /// While the trouble lasted.
    During,
    /// The path after it.
    After,
}

/// One TTL.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// 1 and up.
    pub ttl: u8,
    /// This trace's own probes.
    pub own: Counts,
    /// Those of the whole group, own ones included, when this row is joint: other traces whose probes the same
    /// responder answered at this TTL, behind the same responder before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Counts>,
    /// Who answered this trace, the most frequent first; several where the path parts or changed. Their
    /// statistics hold own answers only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub responders: Vec<Responder>,
    /// The statistics of the group's answers, when this row is joint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_statistics: Option<Statistics>,
    /// Statistics over all own answers of this TTL.
    pub statistics: Statistics,
}

/// What became of the probes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Probes the kernel took and whose answer came or is given up: `received` of these were answered.
    pub sent: u32,
    /// Answered in time.
    pub received: u32,
    /// Refused by this machine's own kernel: neither sent nor lost.
    #[serde(default)]
    pub unsent: u32,
    /// Answered a second time.
    #[serde(default)]
    pub duplicates: u32,
}

impl Counts {
    /// Sent and not answered.
    #[must_use]
    pub fn lost(&self) -> u32 {
        self.sent.saturating_sub(self.received)
    }
}

/// Who answered at a TTL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Responder {
    /// Its address.
    pub address: IpAddr,
    /// Own probes that it answered.
    pub received: u32,
    /// Their round trips.
    pub statistics: Statistics,
    /// The MPLS labels the newest answer quoted, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mpls: Vec<Mpls>,
    /// What kind of answer it was when it was no ordinary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<Unreachable>,
}

/// One entry of a label stack (RFC 4950).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mpls {
    /// 20 bits.
    pub label: u32,
    /// Traffic class, 3 bits.
    pub class: u8,
    /// Bottom of the stack.
    pub bottom: bool,
    /// Time to live.
    pub ttl: u8,
}

/// What an ICMP "destination unreachable" said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unreachable {
    /// No route to the network.
    Network,
    /// The host does not answer its neighbour.
    Host,
    /// Forbidden by an administrator.
    Prohibited,
    /// Any other code.
    Other(u8),
}

/// One second of the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// The second, unix.
    pub unix: i64,
    /// Probes to the target that left in it.
    pub sent: u32,
    /// Of them, those that were not answered.
    pub lost: u32,
}

/// What this machine did to its own measurement: with any of these the numbers are to be doubted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
pub enum Fault {
    /// The kernel threw answers away before they were read.
    SocketOverflow {
        /// How many.
        dropped: u64,
    },
    /// The kernel would not send.
    Unsent {
        /// How many probes.
        probes: u64,
        /// What it said last.
        reason: String,
    },
    /// The engine was not run when it was due.
    Starved {
        /// The longest wait.
        longest_ms: u64,
    },
    /// The control group's quota was used up.
    Throttled {
        /// For how long in all.
        throttled_ms: u64,
    },
    /// The wall clock jumped; round trips across it are not counted.
    ClockStep {
        /// By how much, forwards positive.
        step_ms: i64,
    },
    /// More was asked for than the budget allows: rounds were farther apart than ordered.
    Stretched {
        /// The interval there really was.
        interval_ms: u64,
    },
    /// Measured without CAP_NET_RAW.
    Unprivileged,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_in_its_own_zone() {
        let moment = |offset| Instant {
            unix_ms: 1_795_326_148_999,
            offset,
        };
        assert_eq!(moment(0).iso(), "2026-11-22T05:42:28+0000");
        assert_eq!(moment(8 * 3600).iso(), "2026-11-22T13:42:28+0800");
        assert_eq!(moment(-12_600).utc().iso(), "2026-11-22T05:42:28+0000");
        assert_eq!(moment(-6 * 3600 - 1800).iso(), "2026-11-21T23:12:28-0630");
    }

    #[test]
    fn a_fault_names_itself_in_json() {
        let json = serde_json::to_value(Fault::SocketOverflow { dropped: 7 }).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"fault": "socket_overflow", "dropped": 7})
        );
    }
}
