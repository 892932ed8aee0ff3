//! Scenarios under simulated time: `scenarios/*.txt`, what happens on the left
//! of `=>` and what is decided on the right.
//!
//! A line is `at TIME WHAT`, `late TIME WHAT` (we were not running before) or
//! `wake` (a tick at the deadline). A scenario cannot cheat time: a line that
//! comes after a deadline nobody served is an error, unless it says `late`.
//! `UPDATE=1 cargo test -p bootagent-core --test scenarios` rewrites the right
//! sides; read the difference before you believe it.
//!
//! Each machine has one file here that touches its API: `child.rs`,
//! `schedule.rs`, `failover.rs`, `watch.rs`, `takeover.rs`.

use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "scenarios/child.rs"]
mod child;
#[path = "scenarios/failover.rs"]
mod failover;
#[path = "scenarios/schedule.rs"]
mod schedule;
#[path = "scenarios/takeover.rs"]
mod takeover;
#[path = "scenarios/watch.rs"]
mod watch;
#[path = "scenarios/words.rs"]
mod words;

use bootagent_core::time::Uptime;
use words::{Words, moment, show_moment};

/// A machine under a scenario.
trait Machine {
    /// Does one thing and says what was decided, ` | ` and what it is now.
    fn step(&mut self, words: &mut Words<'_>, now: Uptime) -> String;
    /// When it wants to be woken.
    fn deadline(&self) -> Option<Uptime>;
}

/// Reads a scenario and writes it again with what is really decided.
fn check(scenario: &str) -> String {
    let mut machine: Option<Box<dyn Machine>> = None;
    let mut now = Uptime::ZERO;
    let mut output = String::new();
    for (number, line) in scenario.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            output.push_str(line);
            output.push('\n');
            continue;
        }
        let (input, _) = line.split_once("=>").unwrap_or((line, ""));
        let input = input.trim_end();
        let mut words = Words::new(input, number + 1);
        let decided = match words.peek() {
            "child" | "schedule" | "failover" | "watch" | "takeover" => {
                let (made, decided) = make(&mut words);
                machine = Some(made);
                now = Uptime::ZERO;
                decided
            }
            _ => {
                let machine = machine.as_mut().unwrap_or_else(|| {
                    panic!(
                        "line {}: no machine yet: begin with `child`, `schedule`, `failover` or `watch`",
                        number + 1
                    )
                });
                let woken = advance(&mut words, &mut now, machine.deadline());
                let decided = machine.step(&mut words, now);
                match woken {
                    Woken::ByDeadline => format!("at {} {decided}", show_moment(now)),
                    Woken::ByEvent => decided,
                }
            }
        };
        words.end();
        output.push_str(&format!("{input} => {decided}\n"));
    }
    output
}

fn make(words: &mut Words<'_>) -> (Box<dyn Machine>, String) {
    match words.next() {
        "child" => child::make(words),
        "schedule" => schedule::make(words),
        "failover" => failover::make(words),
        "watch" => watch::make(words),
        "takeover" => takeover::make(words),
        other => words.fail(&format!("no machine is called `{other}`")),
    }
}

enum Woken {
    ByEvent,
    ByDeadline,
}

/// Moves the time as the line's first words say.
fn advance(words: &mut Words<'_>, now: &mut Uptime, deadline: Option<Uptime>) -> Woken {
    let late = match words.peek() {
        "wake" => {
            let Some(deadline) = deadline else {
                words.fail("nothing is due, so nobody wakes");
            };
            *now = deadline.max(*now);
            return Woken::ByDeadline;
        }
        "at" => false,
        "late" => true,
        _ => return Woken::ByEvent,
    };
    words.next();
    let at = moment(words.next()).unwrap_or_else(|| words.fail("not a time"));
    if at < *now {
        words.fail(&format!("time went back from {}", show_moment(*now)));
    }
    if let Some(deadline) = deadline.filter(|deadline| *deadline < at && !late) {
        words.fail(&format!(
            "a wake-up at {} comes first",
            show_moment(deadline)
        ));
    }
    *now = at;
    Woken::ByEvent
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn run(prefix: &str) {
    let mut seen = 0;
    let mut wrong = Vec::new();
    let entries = fs::read_dir(folder()).expect("the scenario folder is part of the sources");
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| name.starts_with(prefix) && name.ends_with(".txt"))
        else {
            continue;
        };
        seen += 1;
        let expected = fs::read_to_string(&path).expect("a readable scenario");
        println!("{name}");
        let decided = check(&expected);
        if decided == expected {
            continue;
        }
        if env::var_os("UPDATE").is_some() {
            fs::write(&path, decided).expect("a writable scenario");
            println!("{name}: rewritten");
            continue;
        }
        for (number, (expected, decided)) in expected.lines().zip(decided.lines()).enumerate() {
            if expected != decided {
                wrong.push(format!(
                    "{name}:{}\n  expected {expected}\n  decided  {decided}",
                    number + 1
                ));
            }
        }
    }
    assert!(seen > 0, "no scenario begins with {prefix}");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_child_is_treated_as_its_scenarios_say() {
    run("restart-");
}

#[test]
fn the_server_is_called_as_the_scenarios_say() {
    run("schedule-");
}

#[test]
fn the_servers_take_turns_as_the_scenarios_say() {
    run("failover-");
}

#[test]
fn a_new_version_is_judged_as_its_scenarios_say() {
    run("watch-");
}

#[test]
fn a_new_bootagent_is_watched_as_the_scenarios_say() {
    run("takeover-");
}

#[test]
fn every_scenario_is_run_by_one_of_these_tests() {
    for entry in fs::read_dir(folder()).expect("the scenario folder is part of the sources") {
        let name = entry.expect("a readable folder").file_name();
        let name = name.to_string_lossy();
        let known = ["restart-", "schedule-", "failover-", "watch-", "takeover-"];
        assert!(
            !name.ends_with(".txt") || known.iter().any(|prefix| name.starts_with(prefix)),
            "{name} is run by nobody"
        );
    }
}

#[test]
#[should_panic(expected = "a wake-up at 1m10s comes first")]
fn a_scenario_cannot_skip_a_wake_up() {
    check("child kind=notify\nat 10s wanted running\nat 10s spawned\nat 2m exited signal=9\n");
}

#[test]
#[should_panic(expected = "nothing is due, so nobody wakes")]
fn a_scenario_cannot_wake_for_nothing() {
    check("child kind=simple\nwake\n");
}
