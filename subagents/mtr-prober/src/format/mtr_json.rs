//! `mtr --json -n`.

use std::fmt::Write as _;

use super::{Numbers, Row};
use crate::report::{Part, Report};

/// What the document is called that `mtr --json` prints, with its own indents.
///
/// The bytes of our probes differ from one to the next, for which `mtr` has the bit pattern
/// `rand(0x00-FF)`.
#[must_use]
pub fn document(report: &Report, part: Option<&Part>, numbers: Numbers) -> String {
    let hops = part.map_or(&[][..], |part| &part.hops);
    let mut out = String::from("{\n    \"report\": {\n        \"mtr\": {\n");
    let _ = write!(
        out,
        "            \"src\": {},\n            \"dst\": {},\n            \"tos\": 0,\n            \
         \"tests\": {},\n            \"psize\": \"{}\",\n            \
         \"bitpattern\": \"rand(0x00-FF)\"\n        }},\n        \"hubs\": [",
        text(&report.node),
        text(&report.target.asked),
        report.parameters.count,
        report.parameters.size,
    );
    for (index, hop) in hops.iter().enumerate() {
        let row = Row::of(hop, numbers);
        out += if index == 0 { "\n" } else { ",\n" };
        let _ = write!(
            out,
            "            {{\n                \"count\": {},\n                \"host\": {},\n",
            row.ttl,
            text(&row.host)
        );
        let _ = write!(
            out,
            "                \"Loss%\": {},\n                \"Snt\": {}",
            number(row.loss()),
            row.counts.sent
        );
        for (index, name) in ["Last", "Avg", "Best", "Wrst", "StDev"].iter().enumerate() {
            let time = row.times().map(|times| times[index]);
            let _ = write!(out, ",\n                \"{name}\": {}", number(time));
        }
        out += "\n            }";
    }
    out += if hops.is_empty() {
        "]\n"
    } else {
        "\n        ]\n"
    };
    out += "    }\n}\n";
    out
}

fn text(text: &str) -> String {
    serde_json::to_string(text).expect("text is always JSON")
}

/// A number with five digits that count, as `mtr` has its library write them.
fn number(value: Option<f64>) -> String {
    let Some(value) = value else {
        return "null".to_owned();
    };
    let whole_digits = if value < 1.0 {
        1
    } else {
        value.log10().floor() as usize + 1
    };
    // Below one, zeros behind the point do not count; times are whole microseconds, so that
    // three digits are all there is.
    let decimals = 5_usize.saturating_sub(whole_digits);
    let mut shown = format!("{value:.decimals$}");
    if shown.contains('.') {
        shown.truncate(shown.trim_end_matches('0').len());
        if shown.ends_with('.') {
            shown.push('0');
        }
    } else {
        shown.push_str(".0");
    }
    shown
}
