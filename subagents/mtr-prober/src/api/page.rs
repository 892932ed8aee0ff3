//! Two small pages for a person on the node: a form with the newest reports, and a report.
//!
//! The one rule: whatever text came from outside is escaped.

use std::fmt::Write as _;

use crate::archive::query::Page;
use crate::mesh::standing::Standing;
use crate::report::{Report, State};
use crate::ticket;
use crate::verdict::{Language, Verdict};

/// Peers in trouble that the page names.
const MOST_PEERS: usize = 50;

/// Whatever is long breaks instead of pushing the rest out of sight, but for the tables of `mtr`, which scroll.
const HEAD: &str = "<!doctype html><html lang=zh><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
<style>body{font:16px sans-serif;margin:2em auto;max-width:64em;padding:0 1em;color-scheme:light dark}\
h1,p,td:nth-child(2){overflow-wrap:anywhere}span{white-space:nowrap}pre{overflow:auto;font-size:14px}label{white-space:nowrap}input{max-width:100%;box-sizing:border-box}\
td,th{text-align:left;vertical-align:top;padding:.2em .8em .2em 0}td:nth-child(2){min-width:8em}\
@media(min-width:40em){td:not(:nth-child(2)),th{white-space:nowrap}}</style>";

/// A form, the mesh's trouble, and the newest reports.
pub(super) fn home(newest: &Page, mesh: &Standing) -> String {
    let mut out = format!(
        "{HEAD}<title>mtr-prober</title><h1>mtr-prober</h1>\
         <form action=/measure><label>地址或域名 address or name <input name=ip required autofocus></label> \
         <label>次数 count <input name=count type=number min=1 max=1000 value=100></label> \
         <button>测量 measure</button></form>{}\
         <h2>最新报告 newest reports</h2><table><tr><th>时间 time (UTC)<th>目标 target<th>状态 state<th>丢包 loss",
        standing(mesh)
    );
    for it in &newest.items {
        let at = crate::report::Instant {
            unix_ms: it.accepted_ms,
            offset: 0,
        };
        let loss = it
            .loss
            .map_or_else(|| "-".to_owned(), |loss| format!("{loss:.1} %"));
        let _ = write!(
            out,
            "<tr><td><span>{}</span> <span>{}</span><td><a href=\"/reports/{}\">{}</a><td>{}<td>{loss}",
            at.date(),
            at.time(),
            it.id,
            escape(&it.target),
            state(it.state)
        );
    }
    out += "</table>\n";
    if newest.items.is_empty() {
        out += "<p>还没有报告。 There are none yet.\n";
    }
    out
}

/// How the mesh stands; nothing where there is none.
fn standing(mesh: &Standing) -> String {
    let counts = &mesh.counts;
    if counts.peers == 0 && mesh.problem.is_none() {
        return String::new();
    }
    let mut out = format!(
        "<h2>网格 mesh</h2><p>对端 peers {}, 异常 in trouble {}, 从未应答 never answered {}, 事件 events {}",
        counts.peers, counts.troubled, counts.silent, counts.events
    );
    if counts.capped > 0 {
        let _ = write!(out, ", 超出上限 above the cap {}", counts.capped);
    }
    if let Some(problem) = &mesh.problem {
        let _ = write!(out, "<p>{}", escape(problem));
    }
    for it in mesh.peers.iter().take(MOST_PEERS) {
        let line = it.line.as_deref().unwrap_or("-");
        let _ = write!(
            out,
            "<p><strong>{}</strong> {} ({})",
            escape(&it.name),
            it.address,
            escape(line)
        );
    }
    out
}

/// A report; while it runs, the page looks again by itself.
pub(super) fn report(report: &Report, verdict: Option<&Verdict>) -> String {
    let refresh = match report.state {
        State::Accepted | State::Running => "<meta http-equiv=refresh content=2>",
        _ => "",
    };
    let target = escape(&report.target.asked);
    let mut out = format!(
        "{HEAD}{refresh}<title>{target} - mtr-prober</title><p><a href=/>mtr-prober</a><h1>{target}</h1><p>{}",
        state(report.state)
    );
    if let Some(verdict) = verdict {
        for language in [Language::Chinese, Language::English] {
            let _ = write!(
                out,
                "<p><strong>{}</strong>",
                escape(&verdict.sentence(language))
            );
        }
    }
    if let Some(problem) = &report.problem {
        let _ = write!(out, "<p>{}", escape(problem));
    }
    for language in [Language::Chinese, Language::English] {
        let text = ticket::ticket(report, report.both_ends(), language);
        let _ = write!(out, "<pre>{}</pre>", escape(&text));
    }
    out + "\n"
}

fn state(state: State) -> &'static str {
    match state {
        State::Accepted => "已接受 accepted",
        State::Running => "进行中 running",
        State::Finished => "完成 finished",
        State::Stopped => "已停止 stopped",
        State::Interrupted => "已中断 interrupted",
        State::Failed => "失败 failed",
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_outside_is_text() {
        assert_eq!(
            escape("<a href=\"x\">&"),
            "&lt;a href=&quot;x&quot;&gt;&amp;"
        );
    }
}
