//! What the daemon answered, for a person.
//!
//! The one rule: whatever an agent or a server wrote reaches the terminal as
//! text, never as a command to it.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use bootagent::control::{HostStatus, Reply};
use bootagent_kit::clock::Stamp;
use bootagent_kit::log::visible;
use bootagent_protocol::AgentReport;

/// How much of the status is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it.
    Whole,
    /// The agents alone.
    Agents,
}

/// Prints a line. Whoever reads no further, as `head`, has read enough; what
/// cannot be written, as on a full disk, is a failure.
pub(crate) fn say(line: impl Display) {
    let Err(error) = writeln!(std::io::stdout(), "{line}") else {
        return;
    };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    eprintln!("{}: printing: {error}", crate::args::own_name());
    std::process::exit(1);
}

/// Prints an answer.
pub(crate) fn show(extent: Extent, reply: &Reply) {
    match reply {
        Reply::Status(status) if extent == Extent::Agents => show_agents(&status.agents),
        Reply::Status(status) => show_status(status),
        Reply::Jobs(jobs) => {
            let rows = jobs.iter().map(|(id, result)| match result {
                Some(result) => [
                    id.clone(),
                    result.errcode.to_string(),
                    result.message.clone(),
                ],
                None => [id.clone(), "-".into(), "not finished".into()],
            });
            let rows: Vec<_> = rows.collect();
            table(["JOB", "CODE", "MESSAGE"], rows, "no job was taken yet");
        }
        Reply::Events(events) => {
            let rows = events.iter().map(|event| {
                let at = Stamp::from_unix(u64::try_from(event.timestamp).unwrap_or(0));
                let subject = format!("{} {}", event.category, event.subject);
                [
                    event.seq.to_string(),
                    at.to_string(),
                    subject,
                    event.message.clone(),
                ]
            });
            let rows: Vec<_> = rows.collect();
            let none = "no event waits for a server";
            table(["SEQ", "TIME", "WHAT", "MESSAGE"], rows, none);
        }
        Reply::Done(text) => say(visible(text)),
        Reply::Failed(text) => eprintln!("{}: {}", crate::args::own_name(), visible(text)),
    }
}

fn show_status(status: &HostStatus) {
    let confirmed = if status.confirmed {
        "confirmed"
    } else {
        "not confirmed yet"
    };
    say(format_args!(
        "{}, up {}",
        status.version,
        duration(status.uptime)
    ));
    say(format_args!("agentsn  {} ({confirmed})", status.agentsn));
    let servers = status.servers.join(", ");
    say(format_args!(
        "servers  {}",
        if servers.is_empty() { "none" } else { &servers }
    ));
    let ago = status
        .answered_ago
        .map_or("never".into(), |ago| format!("{} ago", duration(ago)));
    let next = match status.next_in {
        Some(next) => format!("next push in {}", duration(next)),
        None if status.servers.is_empty() => "there is nobody to report to".into(),
        None => "asking now".into(),
    };
    say(format_args!(
        "answered {ago}; {next}; step {}",
        duration(status.step)
    ));
    if let Some(problem) = &status.problem {
        say(format_args!("problem  {}", visible(problem)));
    }
    if !status.tags.is_empty() {
        say(format_args!("tags     {}", visible(&status.tags)));
    }
    for notice in &status.notices {
        say(format_args!("notice   {}", visible(notice)));
    }
    say("");
    show_agents(&status.agents);
}

fn show_agents(agents: &[AgentReport]) {
    let rows = agents.iter().map(|agent| {
        let retry = agent
            .retry_in
            .map(|wait| format!("again in {}", duration(wait)));
        let detail: Vec<String> = [agent.detail.clone(), retry, agent.message.clone()]
            .into_iter()
            .flatten()
            .collect();
        let limits = agent.limits.as_ref();
        let used = limits.and_then(|limits| limits.memory_used).map(|bytes| {
            let most = limits.and_then(|limits| limits.memory.clone());
            format!(
                "{:.1}M/{}",
                bytes as f64 / 1_048_576.0,
                most.unwrap_or_else(|| "-".into())
            )
        });
        let cpu = limits.and_then(|limits| {
            let waited = limits.throttled_seconds.filter(|seconds| *seconds >= 0.1);
            let waited = waited.map(|seconds| format!(" ({seconds:.1} throttled)"));
            let used = format!("{:.1} s", limits.cpu_seconds?);
            Some(used + &waited.unwrap_or_default())
        });
        let number = |number: Option<u64>| number.map_or("-".into(), |number| number.to_string());
        let pids = limits.and_then(|limits| {
            let most = limits.pids.map_or("-".into(), |most| most.to_string());
            let refused = limits.refused_forks.filter(|count| *count > 0);
            let refused = refused.map_or(String::new(), |count| format!(" ({count} refused)"));
            Some(format!("{}/{most}{refused}", limits.pids_used?))
        });
        [
            agent.name.clone(),
            agent.version.clone(),
            agent.status.as_str().to_owned(),
            agent.pid.map_or("-".into(), |pid| pid.to_string()),
            if agent.uptime > 0 || agent.pid.is_some() {
                duration(agent.uptime)
            } else {
                "-".into()
            },
            used.unwrap_or_else(|| "-".into()),
            cpu.unwrap_or_else(|| "-".into()),
            pids.unwrap_or_else(|| "-".into()),
            number(limits.and_then(|limits| limits.oom_kills)),
            agent.anomalies.unwrap_or(0).to_string(),
            detail.join("; "),
        ]
    });
    let head = [
        "AGENT",
        "VERSION",
        "STATE",
        "PID",
        "UPTIME",
        "MEMORY",
        "CPU",
        "PIDS",
        "OOM",
        "ANOMALIES",
        "DETAIL",
    ];
    table(head, rows.collect(), "no agent is installed");
}

/// Prints `rows`, or `none` where there are none.
fn table<const COLUMNS: usize>(head: [&str; COLUMNS], rows: Vec<[String; COLUMNS]>, none: &str) {
    if rows.is_empty() {
        return say(none);
    }
    let mut all = vec![head.map(str::to_owned)];
    all.extend(rows);
    let mut widths = [0; COLUMNS];
    for cell in all.iter_mut().flatten() {
        *cell = visible(cell);
    }
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &all {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        say(format_args!(
            "{}",
            cells.collect::<Vec<_>>().join("  ").trim_end()
        ));
    }
}

fn duration(seconds: u64) -> String {
    let wait = Duration::from_secs(seconds);
    let (days, hours) = (wait.as_secs() / 86_400, wait.as_secs() / 3600 % 24);
    let (minutes, rest) = (wait.as_secs() / 60 % 60, wait.as_secs() % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}
