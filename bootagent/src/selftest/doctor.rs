//! `bootctl doctor`: on one screen, why this host is offline.
//!
//! The daemon is asked how it sees itself; the rest is looked at from here,
//! with or without a daemon, by the checks of `-T`. The one rule: what keeps
//! the host from reporting is a failure; what an operator should also know is
//! a warning; nothing is changed, and no secret is shown.

use std::io::Write;
use std::time::Duration;

use bootagent_kit::Secret;
use bootagent_kit::check::Report;
use bootagent_protocol::{AgentReport, AgentState};
use serde_json::json;

use super::{
    Check, Level, Subject, Verdict, agents, configuration, folders, host, mounts, print, servers,
    state, token,
};
use crate::args::{Args, DoctorArgs, Form};
use crate::control::client::ask;
use crate::control::{HostStatus, Reply, Request};
use crate::paths::Paths;
use crate::spawn::Privilege;

/// How long the daemon may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A host whose last answered status is older than this many steps is
/// offline; servers think so after three.
const STEPS_LATE: u64 = 3;

/// Looks at everything and writes the report to `out`.
pub fn run(args: &Args, doctor: &DoctorArgs, out: &mut dyn Write) -> Verdict {
    let checks = examine(args, doctor);
    let failed = checks.iter().any(|check| check.level == Level::Fail);
    match doctor.form {
        Form::Text => {
            let mut report = Report::writing_to(out);
            print(&mut report, checks);
            report.summary();
        }
        Form::Json => {
            let lines = checks.iter().map(|check| {
                json!({
                    "level": check.level.as_str(), "check": check.name, "message": check.message,
                })
            });
            // A reader that went away is no reason to panic.
            let _ = writeln!(out, "{}", serde_json::Value::from_iter(lines));
        }
    }
    if failed {
        Verdict::Failed
    } else {
        Verdict::Passed
    }
}

fn examine(args: &Args, doctor: &DoctorArgs) -> Vec<Check> {
    let paths = Paths::new(&doctor.root);
    let (mut checks, daemon) = process(&paths);
    // The daemon knows best which file it was started with.
    let of_daemon = daemon.as_ref().map(|daemon| daemon.config.clone());
    let of_daemon = of_daemon.filter(|path| path.is_file());
    let args = Args {
        config: args.config.clone().or(of_daemon),
        ..args.clone()
    };
    let (found, config) = configuration::load(&args);
    checks.extend(found);
    let Some(mut config) = config else {
        // One that runs goes on by the configuration it has.
        if let Some(daemon) = &daemon {
            checks.extend(contact(daemon));
            checks.extend(children(&daemon.agents));
            checks.extend(notices(daemon));
        }
        return checks;
    };
    config.root.clone_from(&doctor.root);
    let (found, metafile) = state::metafile(&paths);
    checks.extend(found);
    let privilege = Privilege::of_this_process(&config.agent_user);
    let subject = Subject {
        args: &args,
        config,
        paths,
        metafile,
        privilege,
    };
    if let Some(daemon) = &daemon {
        checks.extend(contact(daemon));
    }
    let (found, mut list) = servers::list(&subject);
    match &daemon {
        // What it really asks, whatever it was started with.
        Some(daemon) => {
            let text = daemon.servers.join(",");
            list = bootagent_kit::servers::ServerList::parse(&text).unwrap_or(list);
            if list.is_empty() {
                checks.extend(found.into_iter().map(|check| Check {
                    level: Level::Fail,
                    ..check
                }));
            }
        }
        None => checks.extend(found),
    }
    let metafile = subject.metafile.as_ref();
    let secret = metafile.and_then(|metafile| metafile.token.clone());
    let secret = secret.map(Secret::new);
    if metafile.is_none_or(|metafile| !metafile.confirmed && metafile.token.is_none()) {
        checks.extend(token::enrolment_token(&subject));
    }
    checks.extend(severe(servers::certificates(&subject), &daemon));
    checks.extend(host::clock());
    checks.extend(severe(
        servers::answers(&subject, &list, secret.as_ref()),
        &daemon,
    ));
    checks.extend(folders::folders(&subject));
    checks.extend(mounts::space(&subject));
    checks.extend(state::journal(&subject));
    checks.extend(host::limits(&subject));
    match &daemon {
        Some(daemon) => checks.extend(children(&daemon.agents)),
        None => checks.extend(agents::agents(&subject)),
    }
    checks.extend(daemon.iter().flat_map(notices));
    checks
}

/// What the daemon says of itself.
fn notices(daemon: &HostStatus) -> impl Iterator<Item = Check> {
    let notices = daemon.notices.iter();
    notices.map(|notice| Check::warn("notice", notice))
}

/// Where nobody answers, that is what keeps a host offline; for `-T` it is no
/// more than a warning.
fn severe(checks: Vec<Check>, daemon: &Option<HostStatus>) -> Vec<Check> {
    let mut checks = checks;
    let answered = checks
        .iter()
        .any(|check| check.name == "answers" && check.level == Level::Ok);
    let reports = daemon.as_ref().is_some_and(is_reporting);
    for check in &mut checks {
        if check.name == "answers" && check.level == Level::Warn && !answered && !reports {
            check.level = Level::Fail;
        }
    }
    checks
}

/// Whether a daemon runs and answers.
fn process(paths: &Paths) -> (Vec<Check>, Option<HostStatus>) {
    const NAME: &str = "process";
    let running = super::instance::holder_of(paths);
    let fail = |text: String| (vec![Check::fail(NAME, text)], None);
    let packet = match (
        ask(&paths.socket(), &Request::Status, ANSWER_WITHIN),
        running,
    ) {
        (Ok(packet), _) => packet,
        (Err(_), None) => {
            return fail(format!(
                "no bootagent runs with root {}; start it (systemctl start bootagent) and see why \
                 it ended in {}",
                paths.root().display(),
                paths.logs().join("bootagent.log").display()
            ));
        }
        (Err(error), Some(pid)) => {
            return fail(format!("pid {pid} runs, but: {}", super::chain(error)));
        }
    };
    match serde_json::from_slice(&packet) {
        Ok(Reply::Status(status)) => {
            let text = format!(
                "{} runs, pid {}, for {} s",
                status.version, status.pid, status.uptime
            );
            (vec![Check::ok(NAME, text)], Some(*status))
        }
        _ => fail("the daemon is of another version than this program; restart it".into()),
    }
}

fn is_reporting(status: &HostStatus) -> bool {
    let late = status.step.saturating_mul(STEPS_LATE);
    status.answered_ago.is_some_and(|ago| ago <= late)
}

/// When a status was answered last, and what stood in the way since.
fn contact(status: &HostStatus) -> Vec<Check> {
    const NAME: &str = "contact";
    let next = status.next_in.map_or("nothing is due".to_owned(), |next| {
        format!("the next is due in {next} s")
    });
    let last = status.answered_ago.map_or_else(
        || {
            format!(
                "no status was answered in the {} s since the start",
                status.uptime
            )
        },
        |ago| format!("a status was answered {ago} s ago"),
    );
    let text = format!("{last}; {next}");
    let mut checks = vec![match (is_reporting(status), status.answered_ago) {
        (true, _) => Check::ok(NAME, text),
        // It has hardly begun.
        (false, None) if status.uptime < status.step && status.problem.is_none() => {
            Check::warn(NAME, text)
        }
        (false, _) => Check::fail(NAME, text),
    }];
    if let Some(problem) = &status.problem {
        checks.push(Check::warn("last problem", problem.clone()));
    }
    if !status.confirmed {
        let text = "no server has confirmed this host yet; see answers, admission and token";
        checks.push(Check::warn(NAME, text));
    }
    checks
}

/// The children that do not do what is wanted of them, and why.
fn children(agents: &[AgentReport]) -> Vec<Check> {
    const NAME: &str = "agents";
    let mut checks = Vec::new();
    for agent in agents {
        let is_wanted = agent.wanted == Some(AgentState::Running);
        if !is_wanted || agent.status == AgentState::Running {
            continue;
        }
        let mut text = format!("{} is {}", agent.name, agent.status.as_str());
        for part in [&agent.detail, &agent.message].into_iter().flatten() {
            text.push_str(&format!(", {part}"));
        }
        match agent.retry_in {
            Some(wait) => text.push_str(&format!("; tried again in {wait} s")),
            None if agent.status == AgentState::Fatal => {
                let name = &agent.name;
                text.push_str(&format!(
                    "; bootagentctl events tells why, bootagentctl restart {name} tries again"
                ));
            }
            None => {}
        }
        // What is done is as it should be.
        if agent.detail.as_deref() != Some("done") {
            checks.push(Check::warn(NAME, text));
        }
    }
    if checks.is_empty() {
        let text = format!("{} known, each as it is wanted", agents.len());
        checks.push(Check::ok(NAME, text));
    }
    checks
}
