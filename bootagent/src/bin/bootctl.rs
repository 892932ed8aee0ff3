//! The `bootctl` program: a person's way to the daemon of this host.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use bootagent::control::{HostStatus, MAX_PACKET_BYTES, Reply, Request};
use bootagent::paths::Paths;
use bootagent_kit::clock::Stamp;
use bootagent_protocol::{AgentName, AgentReport};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

const HELP: &str = "\
Usage: bootctl [-r ROOT] [--json] COMMAND [NAME]

  status             this host, its servers and its agents
  agents             the agents alone
  jobs               the newest jobs and what came of them
  events             events no server has taken yet
  start NAME         start an agent and want it running
  stop NAME          stop an agent and want it stopped
  stop --all         stop every agent
  restart NAME       stop and start an agent
  reexec             change to the program that is installed now; agents go on

  -r ROOT            the daemon's root (default /)
  --json             the daemon's answer as it is
  -V, -h             version, this help
";

/// Longest wait for an answer: an agent may have an hour to stop.
const ANSWER_SECONDS: i64 = 3600;

struct Args {
    root: PathBuf,
    as_json: bool,
    request: Request,
    /// `agents` shows a part of the status.
    agents_only: bool,
}

fn main() -> ExitCode {
    let args = match parse(lexopt::Parser::from_env()) {
        Ok(Some(args)) => args,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bootctl: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bootctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Args>, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut root, mut as_json, mut all) = (PathBuf::from("/"), false, false);
    let mut words: Vec<String> = Vec::new();
    while let Some(word) = parser.next()? {
        match word {
            Short('r') => root = parser.value()?.into(),
            Long("json") => as_json = true,
            Long("all") => all = true,
            Short('V') | Long("version") => {
                println!("bootctl {}", bootagent::host::VERSION);
                return Ok(None);
            }
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            Value(word) => words.push(word.string()?),
            other => return Err(other.unexpected()),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let name = |name: &str| AgentName::parse(name).map_err(|error| error.to_string());
    let request = match (words.as_slice(), all) {
        (["status"] | ["agents"], false) => Request::Status,
        (["jobs"], false) => Request::Jobs,
        (["events"], false) => Request::Events,
        (["start", agent], false) => Request::Start { name: name(agent)? },
        (["stop", agent], false) => Request::Stop { name: name(agent)? },
        (["stop"], true) => Request::StopAll,
        (["restart", agent], false) => Request::Restart { name: name(agent)? },
        ([], _) => return Err("a command is missing".into()),
        (["reexec"], false) => Request::Reexec,
        (words, _) => return Err(format!("{:?} is no command", words.join(" ")).into()),
    };
    let agents_only = words.first() == Some(&"agents");
    Ok(Some(Args {
        root,
        as_json,
        request,
        agents_only,
    }))
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let packet = ask(&Paths::new(&args.root).socket(), &args.request)?;
    let reply: Reply = serde_json::from_slice(&packet)
        .context("the daemon's answer is of another version: restart it after an upgrade")?;
    let failed = matches!(reply, Reply::Failed(_));
    if args.as_json {
        println!("{}", String::from_utf8_lossy(&packet));
    } else {
        show(args, &reply);
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn ask(path: &Path, request: &Request) -> anyhow::Result<Vec<u8>> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    setsockopt(
        &socket,
        sockopt::ReceiveTimeout,
        &TimeVal::seconds(ANSWER_SECONDS),
    )?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?).with_context(|| {
        format!(
            "no bootagent answers at {} (is it running, and may you ask it?)",
            path.display()
        )
    })?;
    let words = serde_json::to_vec(request).expect("keys are strings");
    send(socket.as_raw_fd(), &words, MsgFlags::MSG_NOSIGNAL)?;
    let mut packet = vec![0; MAX_PACKET_BYTES];
    let length = recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty())?;
    if length == 0 {
        bail!("bootagent ended before it answered");
    }
    packet.truncate(length);
    Ok(packet)
}

fn show(args: &Args, reply: &Reply) {
    match reply {
        Reply::Status(status) if args.agents_only => show_agents(&status.agents),
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
            table(["JOB", "CODE", "MESSAGE"], rows.collect());
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
            table(["SEQ", "TIME", "WHAT", "MESSAGE"], rows.collect());
        }
        Reply::Done(text) => println!("{text}"),
        Reply::Failed(text) => eprintln!("bootctl: {text}"),
    }
}

fn show_status(status: &HostStatus) {
    let confirmed = if status.confirmed {
        "confirmed"
    } else {
        "not confirmed yet"
    };
    println!("{}, up {}", status.version, duration(status.uptime));
    println!("agentsn  {} ({confirmed})", status.agentsn);
    let servers = status.servers.join(", ");
    println!(
        "servers  {}",
        if servers.is_empty() { "none" } else { &servers }
    );
    let ago = status
        .answered_ago
        .map_or("never".into(), |ago| format!("{} ago", duration(ago)));
    let next = status
        .next_in
        .map_or("now".into(), |next| format!("in {}", duration(next)));
    println!(
        "answered {ago}; next push {next}; step {}",
        duration(status.step)
    );
    if let Some(problem) = &status.problem {
        println!("problem  {problem}");
    }
    if !status.tags.is_empty() {
        println!("tags     {}", status.tags);
    }
    for notice in &status.notices {
        println!("notice   {notice}");
    }
    println!();
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
        "ANOMALIES",
        "DETAIL",
    ];
    table(head, rows.collect());
}

fn table<const COLUMNS: usize>(head: [&str; COLUMNS], rows: Vec<[String; COLUMNS]>) {
    let mut all = vec![head.map(str::to_owned)];
    all.extend(rows);
    let mut widths = [0; COLUMNS];
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
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
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
