//! `bootagent -T`: would the daemon run here, and run well?
//!
//! Each check is a small function that looks and says ok, warn or fail with
//! the remedy; the report is the kit's. Nothing is decided for the daemon here.
//!
//! The one rule: nothing is run, created, locked or changed; only `-L` is
//! appended to.

use std::collections::BTreeMap;
use std::io::Write;

use bootagent_kit::check::Report;

use crate::args::Args;
use crate::config::Config;
use crate::metafile::Metafile;
use crate::paths::Paths;
use crate::spawn::Privilege;

mod agents;
mod configuration;
pub mod doctor;
mod folders;
mod host;
pub(crate) mod instance;
mod mounts;
mod privilege;
mod program;
mod servers;
mod state;
mod token;

/// What the whole test means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing failed; there may be warnings.
    Passed,
    /// Something would keep the daemon or a child from running.
    Failed,
}

/// What one check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    /// Something is missing that the daemon can do without.
    Warn,
    /// Something keeps the daemon or a child from running.
    Fail,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    level: Level,
    /// What was looked at, at most [`NAME_BYTES`] long.
    name: &'static str,
    /// What was found, and the remedy where something is to be done.
    message: String,
}

impl Check {
    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            name,
            message: message.into(),
        }
    }

    fn warn(name: &'static str, message: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            name,
            message: message.into(),
        }
    }

    fn fail(name: &'static str, message: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            name,
            message: message.into(),
        }
    }
}

/// What the checks look at, once the configuration is known.
struct Subject<'a> {
    args: &'a Args,
    config: Config,
    paths: Paths,
    /// The metafile, if there is a usable one.
    metafile: Option<Metafile>,
    privilege: Privilege,
}

/// The checks that need the configuration and the metafile, in the order of
/// the report. The network comes last: it takes the longest.
const CHECKS: [fn(&Subject<'_>) -> Vec<Check>; 14] = [
    folders::folders,
    folders::pid_file,
    folders::sockets,
    mounts::one_mount,
    mounts::space,
    mounts::execution,
    state::journal,
    agents::agents,
    host::package_manager,
    host::signatures,
    host::limits,
    privilege::privilege,
    token::enrolment_token,
    servers::certificates,
];

/// How wide the name of a check is in a report.
const NAME_BYTES: usize = 14;

/// The checks without which no daemon starts; with the others it goes on, and
/// something does not work.
const VITAL: [&str; 7] = [
    "configuration",
    "log",
    "metafile",
    "journal",
    "pid file",
    "servers",
    "token",
];

/// Runs every check and writes the report to `out`, and to the file of `-L`.
pub fn run(args: &Args, out: &mut dyn Write) -> Verdict {
    let mut report = Report::writing_to(out);
    let log = args
        .log_file
        .as_deref()
        .map(|path| (path, report.log_to(path)));
    if let Some((path, opened)) = log {
        print(&mut report, [configuration::log_file(path, opened)]);
    }
    let (checks, config) = configuration::load(args);
    print(&mut report, checks);
    match config {
        Some(config) => test(&mut report, args, config),
        None => {
            // Without it no path is known; the list of -S is all that is left.
            print(&mut report, servers::list_of_option(args));
            print(
                &mut report,
                [Check::warn(
                    "the rest",
                    "not tested without a configuration",
                )],
            );
        }
    }
    report.summary();
    match report.failures() {
        0 => Verdict::Passed,
        _ => Verdict::Failed,
    }
}

fn test(report: &mut Report<'_>, args: &Args, config: Config) {
    let paths = Paths::new(&config.root);
    print(report, host::clock());
    print(report, instance::other_instance(&paths));
    let (checks, metafile) = state::metafile(&paths);
    print(report, checks);
    let privilege = Privilege::of_this_process(&config.agent_user);
    let subject = Subject {
        args,
        config,
        paths,
        metafile,
        privilege,
    };
    for check in CHECKS {
        print(report, check(&subject));
    }
    let (checks, list) = servers::list(&subject);
    print(report, checks);
    print(report, servers::answers(&subject, &list, None));
}

fn print(report: &mut Report<'_>, checks: impl IntoIterator<Item = Check>) {
    for Check {
        level,
        name,
        message,
    } in checks
    {
        let line = format!("{name:<NAME_BYTES$} {message}");
        match level {
            Level::Ok => report.ok(line),
            Level::Warn => report.warn(line),
            Level::Fail => report.fail(line),
        }
    }
}

/// What failed in a printed report: the lines, by the name of the check.
pub(crate) fn failures(report: &str) -> BTreeMap<String, Vec<String>> {
    let mut failed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in report.lines() {
        let Some(line) = line.strip_prefix("fail  ") else {
            continue;
        };
        let (name, message) = line.split_at_checked(NAME_BYTES).unwrap_or((line, ""));
        let (name, message) = (name.trim(), message.trim());
        let lines = failed.entry(name.to_owned()).or_default();
        lines.push(format!("{name}: {message}"));
    }
    failed
}

/// Whether no daemon would start where this check fails.
pub(crate) fn is_vital(name: &str) -> bool {
    VITAL.contains(&name)
}

/// An error with its causes, in one line.
fn chain(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

#[cfg(test)]
mod tests;
