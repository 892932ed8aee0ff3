//! Whether the program that lies at our path now may take our place: it says
//! what it is (`-V`), and passes its own test (`-T`) with our arguments, which
//! runs and changes nothing.
//!
//! It is done by a thread that may wait; the supervisor runs the programs. The
//! rule: what is wrong with the host is no reason to stay with an old program.
//! Only what ours would pass counts, and what no daemon could start with.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bootagent_kit::fs::read_limited;

use super::{JobRequest, Leftovers, Message, OneshotEnd, OneshotOrder};
use crate::handover;
use crate::host::Inbox;
use crate::selftest;

/// Name of the run record and cgroup of what is tried; no agent can have it, a
/// name never has a dot.
const RECORD: &str = "reexec.check";
/// How long the new program may take to say its version.
const VERSION_DEADLINE: Duration = Duration::from_secs(10);
/// How long a test may take, which asks the servers too.
const TEST_DEADLINE: Duration = Duration::from_secs(40);
/// The program that runs, also when its file has been replaced.
const OURSELVES: &str = "/proc/self/exe";
/// Most it may say: a test has a line for each thing that is wrong on a host.
const MAX_SAID_BYTES: u64 = 4 << 20;
/// How much of that is told when it fails.
const TOLD_BYTES: usize = 600;

/// The program at our path, once it has shown that it may take our place.
pub(super) fn look(inbox: &Inbox, output: &Path) -> anyhow::Result<PathBuf> {
    let path = handover::program().context("finding our own program")?;
    let shown = path.display();
    let run = |program: &Path, words: Vec<OsString>, deadline| {
        run(inbox, output, program, words, deadline)
    };
    let (end, said) = run(&path, vec!["-V".into()], VERSION_DEADLINE)?;
    if end != OneshotEnd::Code(0) {
        bail!("{shown} -V: {}", told(&end, &said, VERSION_DEADLINE));
    }
    ensure!(
        said.starts_with("bootagent "),
        "{shown} is no bootagent: it does not say so with -V"
    );
    let own = std::env::args_os().skip(1);
    let words: Vec<OsString> = ["-T".into()].into_iter().chain(own).collect();
    let (end, said) = run(&path, words.clone(), TEST_DEADLINE)?;
    if end == OneshotEnd::Code(0) {
        return Ok(path);
    }
    let failed = selftest::failures(&said);
    if !matches!(end, OneshotEnd::Code(_)) || failed.is_empty() {
        bail!("{shown} -T: {}", told(&end, &said, TEST_DEADLINE));
    }
    let (_, said) = run(OURSELVES.as_ref(), words, TEST_DEADLINE)?;
    let ours = selftest::failures(&said);
    let objections = objections(&failed, &ours);
    ensure!(objections.is_empty(), "{shown} -T: {objections}");
    let failed = told_lines(failed.values().flatten());
    log::warn!("{shown} -T fails as ours does: {failed}");
    Ok(path)
}

/// What failed, by the name of the check.
type Failures = BTreeMap<String, Vec<String>>;

/// What speaks against a program whose test failed so, beside ours: a check
/// that finds more than ours does. The words are not compared, for a new version
/// may say the same in others, and numbers change from one moment to the next.
fn objections(theirs: &Failures, ours: &Failures) -> String {
    let found = |name: &String| ours.get(name).map_or(&[][..], Vec::as_slice);
    let speaks_against = theirs
        .iter()
        .filter(|(name, lines)| selftest::is_vital(name) || lines.len() > found(name).len());
    let new = speaks_against.flat_map(|(name, lines)| {
        let known = |line: &&String| selftest::is_vital(name) || !found(name).contains(line);
        lines.iter().filter(known)
    });
    told_lines(new)
}

fn told_lines<'a>(lines: impl Iterator<Item = &'a String>) -> String {
    let lines: Vec<&str> = lines.map(String::as_str).collect();
    bootagent_protocol::truncate(&lines.join("; "), TOLD_BYTES).to_owned()
}

/// Runs a program to its end, and what it said.
fn run(
    inbox: &Inbox,
    output: &Path,
    program: &Path,
    words: Vec<OsString>,
    deadline: Duration,
) -> anyhow::Result<(OneshotEnd, String)> {
    let (reply, end) = channel();
    let argv = [program.as_os_str().to_owned()].into_iter().chain(words);
    inbox.send(Message::Job(JobRequest::Run(Box::new(OneshotOrder {
        name: RECORD.into(),
        argv: argv.collect(),
        // What the daemon itself would have.
        envs: std::env::vars_os().collect(),
        directory: handover::directory(),
        account: None,
        output: output.to_path_buf(),
        errors: None,
        deadline,
        leftovers: Leftovers::Kill,
        reply,
    }))));
    let end = end.recv().context("the supervisor ends")?;
    let said = read_limited(output, MAX_SAID_BYTES);
    let _ = std::fs::remove_file(output);
    let said = match said {
        // It was not started, so nothing was said.
        Err(error) if error.is_not_found() => Vec::new(),
        said => said?,
    };
    Ok((end, String::from_utf8_lossy(&said).into_owned()))
}

fn told(end: &OneshotEnd, said: &str, deadline: Duration) -> String {
    let how = match end {
        OneshotEnd::Code(code) => format!("exit code {code}"),
        OneshotEnd::Signal(signal) => format!("signal {signal}"),
        OneshotEnd::TimedOut => format!("no end within {} s", deadline.as_secs()),
        OneshotEnd::NotStarted(why) => why.clone(),
        OneshotEnd::Unknown => "unknown end".into(),
    };
    let said = bootagent_protocol::truncate(said.trim(), TOLD_BYTES);
    format!("{how} {said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str) -> Failures {
        selftest::failures(text)
    }

    #[test]
    fn only_what_ours_would_pass_or_nothing_could_start_with_speaks_against_a_program() {
        let theirs = report(
            "ok    clock          right\nfail  space          2 inodes left\n\
             fail  agents         a: has no exec\n",
        );
        let ours = report("fail  space          1 inode left\n");
        assert_eq!(objections(&theirs, &theirs), "");
        assert_eq!(objections(&theirs, &ours), "agents: a: has no exec");
        // One more than ours finds, under a name under which ours finds one too.
        let ours = report("fail  space          1 inode left\nfail  agents         b: no user\n");
        assert_eq!(objections(&theirs, &ours), "");
        let theirs =
            report("fail  agents         b: no user\nfail  agents         a: has no exec\n");
        assert_eq!(objections(&theirs, &ours), "agents: a: has no exec");
        let theirs = report("fail  configuration  unknown key x\n");
        assert_eq!(objections(&theirs, &theirs), "configuration: unknown key x");
    }
}
