//! The tables of `mtr --report -n` and `mtr --report-wide -n`.

use std::fmt::Write as _;

use super::{Numbers, Row};
use crate::report::{Hop, Instant, Part};

/// Columns of the host, and where the first field begins, in the narrow table.
const NARROW: usize = 33;
/// What stands before the numbers, and how wide each is.
const FIELDS: [(&str, usize); 8] = [
    ("Loss%", 6),
    ("Snt", 6),
    ("", 1),
    ("Last", 6),
    ("Avg", 6),
    ("Best", 6),
    ("Wrst", 6),
    ("StDev", 6),
];

/// Which of the two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// `--report`: a host longer than 25 columns is cut.
    Narrow,
    /// `--report-wide`: as wide as the longest host.
    Wide,
}

/// Whether label stacks have lines of their own, as with `mtr -e`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// They have.
    Shown,
    /// They are left out.
    Hidden,
}

/// The table of a part, its two heading lines included. Without a part there are only these, as
/// `mtr` has it where nothing was measured.
#[must_use]
pub fn table(
    node: &str,
    start: Option<Instant>,
    part: Option<&Part>,
    numbers: Numbers,
    width: Width,
    labels: Labels,
) -> String {
    let hops = part.map_or(&[][..], |part| &part.hops);
    let host_width = match width {
        Width::Narrow => NARROW,
        Width::Wide => {
            let hosts = hops.iter().map(|hop| Row::of(hop, numbers).host.len());
            hosts.max().unwrap_or(0).max(node.len())
        }
    };
    let mut out = match start {
        Some(start) => format!("Start: {}\n", start.iso()),
        None => "Start: -\n".to_owned(),
    };
    let titles = FIELDS.map(|(title, _)| title.to_owned());
    out += &line(&format!("HOST: {node:<host_width$}"), width, &titles);
    for hop in hops {
        row(&mut out, hop, numbers, width, host_width);
        if labels == Labels::Shown {
            label_lines(&mut out, hop);
        }
    }
    out
}

/// Whether the narrow table would cut an address of this part.
#[must_use]
pub fn is_cut(part: &Part) -> bool {
    let responders = part.hops.iter().flat_map(|hop| &hop.responders);
    let mut lengths = responders.map(|it| it.address.to_string().len());
    lengths.any(|length| length > NARROW - " 99.|-- ".len())
}

fn row(out: &mut String, hop: &Hop, numbers: Numbers, width: Width, host_width: usize) {
    let row = Row::of(hop, numbers);
    let head = format!(" {:>2}.|-- {:<host_width$}", row.ttl, row.host);
    let loss = row.loss().map(|loss| format!(" {loss:>4.1}%"));
    let mut fields = vec![
        loss.unwrap_or_else(|| unknown(6)),
        format!(" {:>5}", row.counts.sent),
        String::new(),
    ];
    match row.times() {
        Some(times) => fields.extend(times.map(|time| format!(" {time:>5.1}"))),
        None => fields.extend((0..5).map(|_| unknown(6))),
    }
    *out += &line(&head, width, &fields);
    for further in hop.responders.iter().skip(1) {
        let address = further.address.to_string();
        let _ = writeln!(out, "        {address:<host_width$}");
    }
}

/// One line: each field begins at its column and ends where the next one begins.
fn line(head: &str, width: Width, fields: &[String]) -> String {
    let mut line: String = match width {
        Width::Narrow => head.chars().take(NARROW).collect(),
        Width::Wide => head.to_owned(),
    };
    let last = fields.len() - 1;
    for (index, (field, (_, columns))) in fields.iter().zip(FIELDS).enumerate() {
        let most = if index == last { usize::MAX } else { columns };
        let cut: String = field.chars().take(most).collect();
        let _ = write!(line, "{cut:>columns$}");
    }
    line.push('\n');
    line
}

fn unknown(columns: usize) -> String {
    format!("{:>columns$}", "-")
}

/// The stack of the first responder. `mtr` 0.95 prints the bit at the bottom as a control
/// character and a `u`; we print the digit it means.
fn label_lines(out: &mut String, hop: &Hop) {
    for it in hop.responders.first().map_or(&[][..], |it| &it.mpls) {
        let _ = writeln!(
            out,
            "       [MPLS: Lbl {} TC {} S {} TTL {}]",
            it.label,
            it.class,
            u8::from(it.bottom),
            it.ttl
        );
    }
}
