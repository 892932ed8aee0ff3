//! `mtr --csv -n`.

use std::fmt::Write as _;

use super::{Numbers, Row};
use crate::report::{Part, Report};

/// The column without a name is `mtr`'s count of lost probes.
const HEADING: &str =
    "Mtr_Version,Start_Time,Status,Host,Hop,Ip,Loss%,Snt, ,Last,Avg,Best,Wrst,StDev,\n";
/// Parsers tell by it which columns there are: it is the version of the format, not ours.
const VERSION: &str = "MTR.0.95";

/// One line for each hop; empty when there is none, as `mtr` has it.
#[must_use]
pub fn table(report: &Report, part: Option<&Part>, numbers: Numbers) -> String {
    let Some(part) = part.filter(|part| !part.hops.is_empty()) else {
        return String::new();
    };
    let start = part.started_at.unix_ms.div_euclid(1000);
    let asked = field(&report.target.asked);
    let mut out = HEADING.to_owned();
    for hop in &part.hops {
        let row = Row::of(hop, numbers);
        let _ = write!(
            out,
            "{VERSION},{start},OK,{asked},{},{},",
            row.ttl, row.host
        );
        if let Some(loss) = row.loss() {
            let _ = write!(out, "{loss:.2}");
        }
        let _ = write!(out, ",{},{}", row.counts.sent, row.counts.lost());
        match row.times() {
            Some(times) => times.iter().for_each(|time| {
                let _ = write!(out, ",{time:.2}");
            }),
            None => out.push_str(",,,,,"),
        }
        out.push('\n');
    }
    out
}

/// A name or address has nothing to quote; whatever else was asked for must not become columns.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
