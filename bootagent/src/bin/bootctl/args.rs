//! What was typed.

use std::path::PathBuf;

use bootagent::control::Request;
use bootagent_protocol::AgentName;

use crate::show::Extent;

/// One command: its word, what follows it, and what it does.
pub(crate) struct Command {
    word: &'static str,
    operands: &'static str,
    summary: &'static str,
    /// Further lines of its own help.
    more: &'static str,
}

/// Every command, in the order of the help.
const COMMANDS: [Command; 11] = [
    Command {
        word: "status",
        operands: "",
        summary: "this host, its servers and its agents",
        more: "",
    },
    Command {
        word: "agents",
        operands: "",
        summary: "the agents alone",
        more: "",
    },
    Command {
        word: "jobs",
        operands: "",
        summary: "the newest jobs and what came of them",
        more: "",
    },
    Command {
        word: "events",
        operands: "",
        summary: "events no server has taken yet",
        more: "",
    },
    Command {
        word: "start",
        operands: "NAME",
        summary: "start an agent and want it running",
        more: "Waits until it is up, or failed to come up.\n",
    },
    Command {
        word: "stop",
        operands: "NAME | --all",
        summary: "stop an agent, or all, and want it stopped",
        more: "Waits until the last process is gone. It stays stopped, over a reboot too.\n\n  \
               --all              every agent of this host\n",
    },
    Command {
        word: "restart",
        operands: "NAME",
        summary: "stop and start an agent",
        more: "Also tries one again that was given up (fatal).\n",
    },
    Command {
        word: "reexec",
        operands: "",
        summary: "change to the program that is installed now; agents go on",
        more: "",
    },
    Command {
        word: "doctor",
        operands: "[-c FILE]",
        summary: "why this host is offline, if it is",
        more: "Changes nothing, and works without a daemon. Exits with 1 when it found why.\n\n  \
               -c FILE            the daemon's configuration, where it cannot be asked\n",
    },
    Command {
        word: "sha256",
        operands: "FILE...",
        summary: "checksums of packages, as a job wants them",
        more: "",
    },
    Command {
        word: "help",
        operands: "[COMMAND]",
        summary: "this help, or a command's own",
        more: "",
    },
];

/// What was asked for.
#[derive(Debug)]
pub(crate) enum Order {
    /// Ask the daemon.
    Ask(Request, Extent),
    /// Look for what is wrong.
    Doctor {
        /// `-c`
        config: Option<PathBuf>,
    },
    /// Checksums of these files.
    Sha256(Vec<PathBuf>),
    /// Print this and be done.
    Print(String),
}

/// What was typed.
#[derive(Debug)]
pub(crate) struct Args {
    /// `-r`
    pub(crate) root: PathBuf,
    /// `--json`
    pub(crate) as_json: bool,
    /// The command.
    pub(crate) order: Order,
}

/// What this program was called as: packages install it as bootagentctl, and as
/// bootctl too where systemd's program is not.
pub(crate) fn own_name() -> &'static str {
    let typed = std::env::args_os().next().map(PathBuf::from);
    let is_long = typed.is_some_and(|typed| typed.ends_with("bootagentctl"));
    if is_long { "bootagentctl" } else { "bootctl" }
}

/// What `-h` prints.
pub(crate) fn help() -> String {
    let rows = COMMANDS.iter().map(|command| {
        let usage = format!("{} {}", command.word, command.operands);
        format!("  {usage:<19}{}\n", command.summary)
    });
    format!(
        "Usage: {} [-r ROOT] [--json] COMMAND\n\n{}\n{OPTIONS}",
        own_name(),
        rows.collect::<String>()
    )
}

const OPTIONS: &str = "  \
  -r ROOT            the daemon's root (default /)
  --json             for programs: the answer as JSON
  -V, --version      print the version
  -h, --help         print this help, after a command its own
";

fn help_of(word: &str) -> Result<String, lexopt::Error> {
    let command = find(word)?;
    let usage = format!("{} {}", command.word, command.operands);
    let mut text = format!(
        "Usage: {} [-r ROOT] [--json] {}\n\n{}: {}.\n",
        own_name(),
        usage.trim_end(),
        command.word,
        command.summary
    );
    text.push_str(command.more);
    Ok(text)
}

fn find(word: &str) -> Result<&'static Command, lexopt::Error> {
    let known = COMMANDS.iter().find(|command| command.word == word);
    known.ok_or_else(|| {
        let mut text = format!("{word:?} is no command");
        if let Some(near) = nearest(word) {
            text.push_str(&format!("; did you mean {near}?"));
        }
        text.into()
    })
}

/// The command that was probably meant.
fn nearest(word: &str) -> Option<&'static str> {
    let words = COMMANDS.iter().map(|command| command.word);
    let ranked = words.map(|known| {
        let begins = word.len() >= 2 && known.starts_with(word);
        (if begins { 0 } else { distance(word, known) }, known)
    });
    let (distance, known) = ranked.min()?;
    (distance <= 2 && distance < known.len() / 2 + 1).then_some(known)
}

/// Letters to add, drop or change to make one of the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = done + 1;
        for (index, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[index + 1];
            row[index + 1] = changed.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[to.len()]
}

/// Reads the words after the program's name.
pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Args, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut root, mut as_json, mut all) = (PathBuf::from("/"), false, false);
    let (mut config, mut wants_help) = (None, false);
    let mut words = Vec::new();
    while let Some(word) = parser.next()? {
        match word {
            Short('r') => root = parser.value()?.into(),
            Long("json") => as_json = true,
            Long("all") => all = true,
            Short('c') => config = Some(PathBuf::from(parser.value()?)),
            Short('V') | Long("version") => {
                let order = Order::Print(format!("{} {}\n", own_name(), bootagent::host::VERSION));
                return Ok(Args {
                    root,
                    as_json,
                    order,
                });
            }
            Short('h') | Long("help") => wants_help = true,
            Value(word) => words.push(word),
            other => return Err(other.unexpected()),
        }
    }
    let files = words.iter().skip(1).map(PathBuf::from).collect::<Vec<_>>();
    let words: Vec<String> = words
        .into_iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let word = *words.first().unwrap_or(&"");
    if all && word != "stop" {
        return Err("--all belongs to stop".into());
    }
    if config.is_some() && word != "doctor" {
        return Err("-c belongs to doctor".into());
    }
    let order = match (wants_help, word) {
        (true, "" | "help") => Order::Print(help()),
        (true, word) => Order::Print(help_of(word)?),
        (false, "") => return Err("a command is missing".into()),
        (false, "doctor") if words.len() == 1 => Order::Doctor { config },
        (false, "sha256") if !files.is_empty() => Order::Sha256(files),
        (false, _) => simple(&words, all)?,
    };
    Ok(Args {
        root,
        as_json,
        order,
    })
}

fn simple(words: &[&str], all: bool) -> Result<Order, lexopt::Error> {
    let name = |name: &str| AgentName::parse(name).map_err(|error| error.to_string());
    let request = match (words, all) {
        (["help"], false) => return Ok(Order::Print(help())),
        (["help", word], false) => return Ok(Order::Print(help_of(word)?)),
        (["agents"], false) => return Ok(Order::Ask(Request::Status, Extent::Agents)),
        (["status"], false) => Request::Status,
        (["jobs"], false) => Request::Jobs,
        (["events"], false) => Request::Events,
        (["reexec"], false) => Request::Reexec,
        (["start", agent], false) => Request::Start { name: name(agent)? },
        (["stop", agent], false) => Request::Stop { name: name(agent)? },
        (["stop"], true) => Request::StopAll,
        (["restart", agent], false) => Request::Restart { name: name(agent)? },
        (words, _) => {
            let command = find(words.first().unwrap_or(&""))?;
            let usage = format!("{} {}", command.word, command.operands);
            return Err(format!("usage: {} {}", own_name(), usage.trim_end()).into());
        }
    };
    Ok(Order::Ask(request, Extent::Whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Order, String> {
        parse(lexopt::Parser::from_args(words))
            .map(|args| args.order)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_command_is_understood_and_has_its_own_help() {
        for command in &COMMANDS {
            for words in [[command.word, "-h"], ["help", command.word]] {
                match parsed(&words) {
                    Ok(Order::Print(text)) => {
                        assert!(text.contains(command.summary), "{words:?}: {text}");
                    }
                    other => panic!("{words:?}: {other:?}"),
                }
            }
            assert!(help().contains(command.summary), "{}", command.word);
            let given: Vec<&str> = match command.operands {
                "" | "[COMMAND]" | "[-c FILE]" => vec![command.word],
                _ => vec![command.word, "worker"],
            };
            assert!(parsed(&given).is_ok(), "{given:?}");
        }
    }

    #[test]
    fn a_mistyped_command_is_answered_with_the_one_that_was_meant() {
        for (typed, meant) in [
            ("staus", "status"),
            ("restat", "restart"),
            ("docter", "doctor"),
            ("sha", "sha256"),
            ("agent", "agents"),
        ] {
            let error = parsed(&[typed]).expect_err(typed);
            assert!(
                error.ends_with(&format!("did you mean {meant}?")),
                "{error}"
            );
        }
        let error = parsed(&["frobnicate"]).expect_err("unknown");
        assert!(error.ends_with("is no command"), "{error}");
    }

    #[test]
    fn what_is_missing_or_too_much_is_answered_with_the_usage() {
        for (words, said) in [
            (&[][..], "a command is missing"),
            (&["start"], "bootctl start NAME"),
            (&["stop"], "bootctl stop NAME | --all"),
            (&["stop", "a", "--all"], "bootctl stop NAME | --all"),
            (&["sha256"], "bootctl sha256 FILE..."),
            (&["doctor", "now"], "bootctl doctor [-c FILE]"),
            (&["status", "a"], "bootctl status"),
            (&["status", "--all"], "--all belongs to stop"),
            (&["status", "-c", "x"], "-c belongs to doctor"),
            (&["start", "../x"], "../x"),
        ] {
            let error = parsed(words).expect_err("refused");
            assert!(error.contains(said), "{words:?}: {error}");
        }
    }
}
