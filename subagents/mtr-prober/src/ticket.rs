//! What a carrier is sent: `mtr`'s table unchanged, above it what the table does not say, below it
//! what it means.
//!
//! The one rule: nothing is in the table that `mtr` would not have printed, and no number in it is
//! of another trace.

use std::fmt::Write as _;

use crate::format::text::{self, Labels, Width};
use crate::format::{Numbers, main_part};
use crate::report::{Hop, Instant, Part, PartName, Report, Second};
use crate::verdict::{self, BothEnds, Language, fault_clause};

/// The ticket's text for a report. `both_ends` is what the other side counted, where it is known.
#[must_use]
pub fn ticket(report: &Report, both_ends: Option<BothEnds>, language: Language) -> String {
    let main = main_part(report);
    let mut out = String::new();
    for (label, value) in heading(report, main, language) {
        let _ = writeln!(out, "{label}{}{value}", colon(language));
    }
    // Without a part the table is a heading only, which says that nothing was measured.
    let only = report.parts.len() < 2;
    let parts = report.parts.iter().map(Some);
    let empty = report.parts.is_empty().then_some(None);
    for part in parts.chain(empty) {
        out.push('\n');
        if let Some(part) = part.filter(|_| !only) {
            let _ = writeln!(out, "{}", part_heading(part, language));
        }
        let start = part.map(|it| it.started_at).or(report.started_at);
        // A cut address is none.
        let width = match part.is_some_and(text::is_cut) {
            true => Width::Wide,
            false => Width::Narrow,
        };
        out += &text::table(
            &report.node,
            start,
            part,
            Numbers::Own,
            width,
            Labels::Hidden,
        );
    }
    out.push('\n');
    for note in notes(report, main, both_ends, language) {
        let _ = writeln!(out, "* {note}");
    }
    out
}

fn heading(
    report: &Report,
    main: Option<&Part>,
    language: Language,
) -> Vec<(&'static str, String)> {
    let of = |chinese, english| match language {
        Language::Chinese => chinese,
        Language::English => english,
    };
    let started = report.started_at.unwrap_or(report.accepted_at);
    let ended = report.ended_at.unwrap_or(started);
    let unknown = of("未知", "unknown");
    let address = |it: Option<std::net::IpAddr>| it.map(|it| it.to_string());

    let source = &report.source;
    let mut from = address(source.address).unwrap_or_else(|| unknown.to_owned());
    for (label, value) in [
        (of("接口", "interface"), &source.interface),
        (of("线路", "line"), &source.line),
        (of("电路编号", "circuit id"), &source.circuit),
    ] {
        if let Some(value) = value {
            let _ = write!(from, ", {label} {value}");
        }
    }
    let to = match (&report.target.asked, address(report.target.address)) {
        (asked, Some(address)) if *asked == address => address,
        (asked, Some(address)) => format!("{address} ({asked})"),
        (asked, None) => asked.clone(),
    };
    let parameters = report.parameters;
    let rounds = main.map_or(0, |part| part.rounds);
    let interval = f64::from(parameters.interval_ms) / 1000.0;
    let probes = match language {
        Language::Chinese => format!(
            "每跳 {rounds} 个 ICMP echo，间隔 {interval} 秒，{} 字节",
            parameters.size
        ),
        Language::English => format!(
            "{rounds} ICMP echo per hop, every {interval} s, {} bytes",
            parameters.size
        ),
    };
    let mut rows = vec![
        (of("时间", "Time"), span(started, ended)),
        (of("UTC 时间", "In UTC"), span(started.utc(), ended.utc())),
        (of("源地址", "Source"), from),
        (of("目标地址", "Target"), to),
        (of("探测", "Probes"), probes),
        (
            of("工具", "Tool"),
            format!("{} @ {}", report.tool, report.node),
        ),
        (of("报告编号", "Report"), report.id.to_string()),
    ];
    if let Some(reference) = &report.reference {
        rows.push((of("参考号", "Reference"), reference.clone()));
    }
    rows
}

/// `2026-11-22 13:42:28 – 13:44:08 UTC+08:00`, with both dates where they differ.
fn span(from: Instant, to: Instant) -> String {
    let minutes = from.offset.unsigned_abs() / 60;
    let sign = if from.offset < 0 { '-' } else { '+' };
    let zone = format!("UTC{sign}{:02}:{:02}", minutes / 60, minutes % 60);
    // Shown in one zone, also when the clocks were changed meanwhile.
    let to = Instant {
        offset: from.offset,
        ..to
    };
    let until = match to.date() == from.date() {
        true => to.time(),
        false => format!("{} {}", to.date(), to.time()),
    };
    format!("{} {} – {until} {zone}", from.date(), from.time())
}

fn part_heading(part: &Part, language: Language) -> String {
    let name = match (language, part.name) {
        (Language::Chinese, PartName::Run) => "测量",
        (Language::Chinese, PartName::Before) => "故障前",
        (Language::Chinese, PartName::Snapshot) => "触发时刻",
        (Language::Chinese, PartName::During) => "故障期间",
        (Language::Chinese, PartName::After) => "故障后",
        (Language::English, PartName::Run) => "Measurement",
        (Language::English, PartName::Before) => "Before",
        (Language::English, PartName::Snapshot) => "At the trigger",
        (Language::English, PartName::During) => "During the trouble",
        (Language::English, PartName::After) => "After",
    };
    let span = span(part.started_at, part.ended_at);
    format!("[{name}] {span}, N = {}", part.rounds)
}

fn notes(
    report: &Report,
    main: Option<&Part>,
    both_ends: Option<BothEnds>,
    language: Language,
) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(part) = main {
        let before = |it: &&Part| it.name == PartName::Before;
        let baseline = report
            .parts
            .iter()
            .find(before)
            .filter(|it| it.name != part.name);
        let verdict = verdict::decide(part, baseline, &report.faults, both_ends);
        let label = match language {
            Language::Chinese => "结论",
            Language::English => "Verdict",
        };
        let sentence = verdict.sentence(language);
        notes.push(format!("{label}{}{sentence}", colon(language)));
    }
    notes.extend(lossy_seconds(report, language));
    notes.extend(report.problem.clone());
    let label = match language {
        Language::Chinese => "本机",
        Language::English => "This machine",
    };
    let fault = |it| format!("{label}{}{}", colon(language), fault_clause(it, language));
    notes.extend(report.faults.iter().map(fault));
    for hop in main.map_or(&[][..], |part| &part.hops) {
        notes.extend(addresses(hop, language));
        notes.extend(labels(hop, language));
    }
    notes
}

/// When the target's probes were lost: a carrier looks for these seconds in his own graphs.
fn lossy_seconds(report: &Report, language: Language) -> Option<String> {
    let is_lossy = |it: &&Second| it.lost > 0;
    let first = report.timeline.iter().find(is_lossy)?.unix;
    let last = report.timeline.iter().rfind(is_lossy)?.unix;
    let between = || {
        report
            .timeline
            .iter()
            .filter(|it| (first..=last).contains(&it.unix))
    };
    let seconds = between().filter(is_lossy).count();
    let (sent, lost) = between().fold((0, 0), |(sent, lost), it| (sent + it.sent, lost + it.lost));
    let moment = |unix: i64| Instant {
        unix_ms: unix * 1000,
        offset: report.accepted_at.offset,
    };
    let span = span(moment(first), moment(last));
    Some(match language {
        Language::Chinese => {
            format!("丢包发生在 {span} 之间的 {seconds} 秒内（期间发 {sent} 个丢 {lost} 个）")
        }
        Language::English => format!(
            "Lost in {seconds} seconds of {span} ({lost} of the {sent} probes to the target in that time)"
        ),
    })
}

fn addresses(hop: &Hop, language: Language) -> Option<String> {
    if hop.responders.len() < 2 {
        return None;
    }
    let shares = hop
        .responders
        .iter()
        .map(|it| format!("{} ({})", it.address, it.received));
    let shares = shares.collect::<Vec<_>>().join(", ");
    Some(match language {
        Language::Chinese => format!("第 {} 跳有多个地址（应答数）：{shares}", hop.ttl),
        Language::English => format!("Hop {} has several addresses (answers): {shares}", hop.ttl),
    })
}

fn labels(hop: &Hop, language: Language) -> Option<String> {
    let stack = &hop.responders.first()?.mpls;
    if stack.is_empty() {
        return None;
    }
    let shown = stack
        .iter()
        .map(|it| format!("{} (TTL {})", it.label, it.ttl));
    let shown = shown.collect::<Vec<_>>().join(", ");
    Some(match language {
        Language::Chinese => format!("第 {} 跳 MPLS 标签：{shown}", hop.ttl),
        Language::English => format!("Hop {} has MPLS labels: {shown}", hop.ttl),
    })
}

fn colon(language: Language) -> &'static str {
    match language {
        Language::Chinese => "：",
        Language::English => ": ",
    }
}

#[cfg(test)]
mod tests;
