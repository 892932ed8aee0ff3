//! What other programs and people read of a report: the formats of `mtr` 0.95.
//!
//! Byte for byte what Debian's `mtr -n` prints, so that whoever reads its tables or
//! parses its CSV and JSON reads ours. Its three habits are kept: a silent hop is
//! `???` with times of 0.0, a field too long is cut by the next one, and further
//! addresses of a hop stand below it in the tables and nowhere else.
//!
//! The one rule: a number that is not known is never shown as one. `mtr` has no
//! answers without a time and no row without a probe; there we print `-`, nothing
//! in CSV and `null` in JSON.

pub mod csv;
pub mod mtr_json;
pub mod text;

use crate::report::{Counts, Hop, Part, PartName, Report};
use crate::statistics::Statistics;

/// What a hop is called that never answered.
const SILENT: &str = "???";

/// Whose numbers a row has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// Only this trace's own probes: for a ticket.
    Own,
    /// Those of the group where the row is joint, own ones elsewhere.
    Joint,
}

/// The part that speaks for a report where only one can be shown: what was measured while
/// it mattered. None before anything was.
#[must_use]
pub fn main_part(report: &Report) -> Option<&Part> {
    const ORDER: [PartName; 5] = [
        PartName::Run,
        PartName::During,
        PartName::Snapshot,
        PartName::Before,
        PartName::After,
    ];
    let measured = |part: &&Part| part.hops.iter().any(|hop| hop.own.sent > 0);
    let named = |name| {
        let parts = report.parts.iter();
        parts.filter(measured).find(|part| part.name == name)
    };
    ORDER.into_iter().find_map(named)
}

/// One row, as every format has it.
struct Row<'a> {
    ttl: u8,
    host: String,
    counts: Counts,
    statistics: &'a Statistics,
}

impl<'a> Row<'a> {
    fn of(hop: &'a Hop, numbers: Numbers) -> Self {
        let joint = hop.group.zip(hop.group_statistics.as_ref());
        let (counts, statistics) = match (numbers, joint) {
            (Numbers::Joint, Some(joint)) => joint,
            (Numbers::Own, _) | (Numbers::Joint, None) => (hop.own, &hop.statistics),
        };
        let first = hop.responders.first();
        Self {
            ttl: hop.ttl,
            host: first.map_or_else(|| SILENT.to_owned(), |it| it.address.to_string()),
            counts,
            statistics,
        }
    }

    /// Percent; none without a probe.
    fn loss(&self) -> Option<f64> {
        // In this order, with what it rounds off, and in whole thousandths of a percent, as `mtr` has it.
        let answered = 100.0 * f64::from(self.counts.received) / f64::from(self.counts.sent);
        (self.counts.sent > 0).then(|| (1000.0 * (100.0 - answered)).trunc() / 1000.0)
    }

    /// Last, Avg, Best, Wrst and StDev in milliseconds. A hop that answered, but never with a
    /// time to be believed, has none; one that never answered has zeros, as `mtr` says it.
    fn times(&self) -> Option<[f64; 5]> {
        let it = self.statistics;
        let micros = [
            f64::from(it.last),
            it.mean,
            f64::from(it.best),
            f64::from(it.worst),
            it.deviation(),
        ];
        let known = it.timed > 0 || (self.counts.received == 0 && self.counts.sent > 0);
        known.then(|| micros.map(|value| value.trunc() / 1000.0))
    }
}

#[cfg(test)]
pub(crate) mod tests;
