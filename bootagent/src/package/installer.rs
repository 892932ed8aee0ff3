//! What the host's package manager is told, and what its answer means.
//!
//! The long runs are described here and run by the supervisor like a oneshot
//! child. Three rules hold: dependencies are never overridden (`--nodeps`,
//! `--force-depends`); an older version replaces a newer one only when the job
//! says so; and after a run, and after a crash, the database is asked, because
//! neither an exit code nor our memory is the truth.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use bootagent_protocol::ErrorCode;

use super::Kind;
use super::header::{last_words, older, query};
use super::run::{Command, Exit, Run};
use crate::download::Failure;

/// How long an install or removal may run, scriptlets included.
const INSTALL_DEADLINE: Duration = Duration::from_secs(15 * 60);
/// How long another package manager is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(5 * 60);
/// How long the database may take to answer.
const DATABASE_DEADLINE: Duration = Duration::from_secs(60);

/// Whether an older version may replace a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downgrade {
    /// Only newer and equal ones: an order that came late changes nothing.
    Refused,
    /// The job, or a rollback, says so.
    Allowed,
}

/// What came of a run.
#[derive(Debug)]
pub enum Verdict {
    /// Ask the database which version it is now.
    Done,
    /// Another package manager works: try again within `lock_wait`, then the
    /// failure (4003) holds.
    Locked(Failure),
    /// It failed: 4001, or 4002 at the deadline.
    Failed(Failure),
}

/// Installs the package at `path` or replaces the installed version by it;
/// the same version is installed again.
///
/// `path` must be absolute. A bundle needs no package manager: there is no
/// command for it.
pub fn install(kind: Kind, path: &Path, downgrade: Downgrade) -> Option<Command> {
    let mut argv: Vec<&OsStr> = match kind {
        Kind::Rpm => words(&["rpm", "-U", "--replacepkgs"]),
        // A changed configuration file stays as the operator left it, and
        // nobody is there to be asked.
        Kind::Deb => words(&["dpkg", "--force-confdef", "--force-confold"]),
        Kind::Bundle => return None,
    };
    match (kind, downgrade) {
        (Kind::Rpm, Downgrade::Allowed) => argv.push("--oldpackage".as_ref()),
        (Kind::Deb, Downgrade::Refused) => argv.push("--refuse-downgrade".as_ref()),
        _ => {}
    }
    argv.extend(match kind {
        Kind::Deb => words(&["--install", "--"]),
        _ => words(&["--"]),
    });
    argv.push(path.as_ref());
    Some(long(&argv))
}

/// Removes the installed package `name` (its package manager's name for it).
///
/// Configuration files an operator changed stay on the disk with both: rpm
/// renames them to `.rpmsave`, and dpkg's `--remove` (not `--purge`) leaves
/// them. Uninstalling an agent must not destroy what a person wrote.
pub fn erase(kind: Kind, name: &str) -> Option<Command> {
    let mut argv = match kind {
        Kind::Rpm => words(&["rpm", "-e", "--"]),
        Kind::Deb => words(&["dpkg", "--remove", "--"]),
        Kind::Bundle => return None,
    };
    argv.push(name.as_ref());
    Some(long(&argv))
}

fn words<'a>(words: &[&'a str]) -> Vec<&'a OsStr> {
    words.iter().map(|word| OsStr::new(*word)).collect()
}

fn long(argv: &[&OsStr]) -> Command {
    let mut command = Command::new(argv, INSTALL_DEADLINE);
    command.lock_wait = LOCK_WAIT;
    command
}

/// What the end of a run and the last of its output mean.
///
/// `tail` is the end of its stdout and stderr; its locale was C.
pub fn judge(kind: Kind, exit: Exit, tail: &str) -> Verdict {
    let last = tail
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or("no output");
    let last = bootagent_protocol::truncate(last, 300);
    let failure = |code, what: &str, remedy: &str| {
        Failure::new(code, format!("{kind} install {what}: {last}; {remedy}"))
    };
    if is_locked(tail, exit) {
        let failure = failure(
            ErrorCode::PACKAGE_MANAGER_LOCKED,
            "waits for another package manager",
            "let that one finish, never delete its lock, then order it again",
        );
        return Verdict::Locked(failure);
    }
    match exit {
        // dpkg calls it a success to have done nothing.
        Exit::Code(0) if tail.contains("will not downgrade") => {
            Verdict::Failed(older(&format!("{kind} install refused: {last}")))
        }
        Exit::Code(0) => Verdict::Done,
        Exit::TimedOut => Verdict::Failed(failure(
            ErrorCode::INSTALLER_TIMED_OUT,
            "was killed at its deadline",
            "look for a scriptlet that waits for something",
        )),
        Exit::Code(code) if tail.contains("which is newer than") => Verdict::Failed(older(
            &format!("{kind} install refused (exit {code}): {last}"),
        )),
        Exit::Code(code) if is_full(tail) => Verdict::Failed(failure(
            ErrorCode::NO_SPACE,
            &format!("found no room (exit {code})"),
            "free some bytes or inodes and order it again",
        )),
        Exit::Code(code) => Verdict::Failed(failure(
            ErrorCode::INSTALLER_FAILED,
            &format!("failed (exit {code})"),
            "mend the package or the host and order it again",
        )),
        Exit::Signal(signal) => Verdict::Failed(failure(
            ErrorCode::INSTALLER_FAILED,
            &format!("was killed by signal {signal}"),
            "see the host's log for who killed it, then order it again",
        )),
    }
}

/// rpm waits for the lock by itself and says so; only when it was killed
/// waiting did it fail for that. dpkg gives up at once.
fn is_locked(tail: &str, exit: Exit) -> bool {
    let waiting = tail.lines().rfind(|line| !line.trim().is_empty());
    let rpm_waited = waiting.is_some_and(|line| line.contains("waiting for transaction lock"));
    let refused = [
        "was locked by another process",
        "is locked by another process",
        "unable to lock the administration directory",
        "can't create transaction lock",
        "cannot get exclusive lock",
    ];
    match exit {
        Exit::Code(0) => false,
        Exit::TimedOut => rpm_waited,
        _ => refused.iter().any(|words| tail.contains(words)),
    }
}

/// rpm adds up beforehand what it needs; dpkg finds out when it writes.
fn is_full(tail: &str) -> bool {
    let words = ["No space left on device", "Disk quota exceeded"];
    let needs = |line: &str| {
        let said = ["installing package", " needs ", " filesystem"];
        said.iter().all(|words| line.contains(words))
    };
    words.iter().any(|words| tail.contains(words)) || tail.lines().any(needs)
}

/// The version of `name` the database has as completely installed, as the
/// database writes it (`1.2.1-1`).
///
/// # Errors
/// 3005 when the program cannot be started, 4001 when the database cannot be
/// read; a bundle is in no database, so it is none.
pub fn installed(kind: Kind, name: &str, run: &dyn Run) -> Result<Option<String>, Failure> {
    let argv: Vec<&OsStr> = match kind {
        Kind::Rpm => {
            let format = r"%{EPOCH}\t%{VERSION}-%{RELEASE}\n";
            words(&["rpm", "-q", "--queryformat", format, "--", name])
        }
        Kind::Deb => {
            let format = r"--showformat=${db:Status-Abbrev}\t${Version}\n";
            words(&["dpkg-query", format, "--show", "--", name])
        }
        Kind::Bundle => return Ok(None),
    };
    let output = query(&Command::new(&argv, DATABASE_DEADLINE), run)?;
    let text = String::from_utf8_lossy(&output.stdout);
    match (kind, output.exit) {
        (Kind::Rpm, Exit::Code(0)) => Ok(parse_rpm_version(&text)),
        (Kind::Deb, Exit::Code(0)) => Ok(parse_deb_version(&text)),
        // Both say 1 for "not installed"; so does rpm for a broken database,
        // but then with other words.
        (Kind::Rpm, Exit::Code(1)) if text.contains("is not installed") => Ok(None),
        (Kind::Deb, Exit::Code(1)) => Ok(None),
        _ => Err(Failure::new(
            ErrorCode::INSTALLER_FAILED,
            format!(
                "the {kind} database cannot be read ({}); repair it",
                last_words(&output)
            ),
        )),
    }
}

/// With several installed at once the last is the newest installed.
fn parse_rpm_version(text: &str) -> Option<String> {
    let (epoch, version) = text.lines().next_back()?.split_once('\t')?;
    Some(match epoch {
        "(none)" => version.to_owned(),
        _ => format!("{epoch}:{version}"),
    })
}

/// `ii` is wanted and installed, `hi` the same on hold; anything else is half
/// an install or what a removal left.
fn parse_deb_version(text: &str) -> Option<String> {
    let (status, version) = text.lines().next()?.split_once('\t')?;
    let complete = status.as_bytes().get(1) == Some(&b'i');
    (complete && !version.is_empty()).then(|| version.to_owned())
}

#[cfg(test)]
#[path = "installer/tests.rs"]
mod tests;
