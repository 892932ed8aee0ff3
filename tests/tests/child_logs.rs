//! Promise: what a child prints is kept within bounds, whatever and however
//! much it prints, and never holds up the child, its neighbours or the daemon.

use std::path::PathBuf;
use std::time::Duration;

use e2e::agent::{Agent, Settings, files_below};
use e2e::bundle::Bundle;
use e2e::fake_server::FakeServer;
use e2e::process::Process;
use e2e::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Bounds of a log that a test fills quickly.
const BOUNDS: &str = "[logs]\nmax_bytes = 65536\nkeep = 2\nrate = 16384\n";
/// What the bounds allow on the disk: three files, each with the end of one
/// passage too much.
const MAX_DISK: u64 = 3 * 65536;
/// MiB of a flood: many times what is read at once, little enough for a slow
/// machine.
const FLOOD: &str = "300";
/// Memory the logger may have had at once when it is built for tests, in KiB.
const MAX_MEMORY: u64 = 24 * 1024;
/// A flood on a slow machine.
const LONG: Duration = Duration::from_secs(120);

fn host(tables: &str, children: &[(&str, Bundle)]) -> (Agent, FakeServer) {
    let server = FakeServer::start();
    let mut host = Agent::prepare(&Settings::new(&server.address()).with(tables));
    for (name, bundle) in children {
        host.package(name, bundle);
    }
    host.run();
    (host, server)
}

/// A shell that runs this script.
fn shell(name: &str, script: &str) -> Bundle {
    let exec = ["/bin/sh", "-c", script];
    Bundle::of_manifest(json!({ "name": name, "version": "1", "exec": exec }))
}

/// Prints numbered lines for ever, 20 in a second.
fn counting(name: &str) -> Bundle {
    shell(
        name,
        "n=0; while :; do n=$((n+1)); echo \"line $n\"; sleep 0.05; done",
    )
}

fn logger(host: &Agent) -> Option<Process> {
    let record = host.path("run/bootagent/children/logger.process.json");
    let record: Value = serde_json::from_slice(&std::fs::read(record).ok()?).ok()?;
    Process::of(i32::try_from(record["identity"]["pid"].as_i64()?).ok()?)
}

fn peak_memory(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid));
    let status = status.expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|text| text.parse().ok()).expect("a number")
}

/// The log of a child and its former ones.
fn logs(host: &Agent, name: &str) -> Vec<PathBuf> {
    let all = files_below(&host.path("var/log/bootagent/agents"));
    let begins = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&format!("{name}.log"))
    };
    all.into_iter().filter(begins).collect()
}

fn last_number(host: &Agent, name: &str) -> u64 {
    let log = host.child_log(name);
    // The last line may be half written.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let last = whole
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("line "));
    last.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[test]
fn a_flood_stays_within_its_bounds_and_delays_nobody() {
    let flags = [
        "--flood",
        FLOOD,
        "--environment",
        "flooded",
        "--after",
        "2000",
        "--print",
        "it is over",
    ];
    let children = [
        ("loud", Bundle::new("loud", "1.0", &flags)),
        ("calm", counting("calm")),
    ];
    let (host, _server) = host(BOUNDS, &children);
    let pid = wait::until("the loud one", || Some(host.process("loud")?.pid));
    wait::within(LONG, "the end of the flood", || {
        let on_disk: u64 = logs(&host, "loud")
            .iter()
            .filter_map(|path| Some(path.metadata().ok()?.len()))
            .sum();
        assert!(on_disk <= MAX_DISK, "{on_disk} bytes");
        host.child_file("loud", "flooded")
    });
    // The flood was read to its end and never held up the child; the calm one
    // goes on, and so does the daemon.
    let before = last_number(&host, "calm");
    wait::until_true("the calm one's next lines", || {
        last_number(&host, "calm") > before + 3
    });
    assert_eq!(host.process("loud").map(|process| process.pid), Some(pid));
    wait::until_true("the first line after the flood", || {
        host.child_log("loud").contains("it is over")
    });
    let log = host.child_log("loud");
    assert!(log.contains(" lines dropped, "), "{log}");
    assert!(logs(&host, "loud").len() <= 3);
    let peak = peak_memory(&logger(&host).expect("the logger runs"));
    assert!(peak < MAX_MEMORY, "{peak} KiB");
}

#[test]
fn a_logger_that_is_killed_comes_back_and_no_line_waits_for_it() {
    let (host, _server) = host("", &[("calm", counting("calm"))]);
    wait::until_true("its first lines", || last_number(&host, "calm") >= 3);
    let child = host.process("calm").expect("it runs").pid;
    for _ in 0..3 {
        let before = logger(&host).expect("it runs");
        before.signal(Signal::SIGKILL);
        let seen = last_number(&host, "calm");
        let another = |process: &Process| process.pid != before.pid;
        wait::until("another logger", || logger(&host).filter(another));
        wait::until_true("lines that were printed since", || {
            last_number(&host, "calm") > seen + 3
        });
    }
    assert_eq!(host.process("calm").map(|process| process.pid), Some(child));
    // Printed while there was no logger, written by the next one. What one had
    // read and not yet written is lost with it: at most a line each time.
    let log = host.child_log("calm");
    let lines = log.lines().filter(|line| line.starts_with("line ")).count() as u64;
    let last = last_number(&host, "calm");
    assert!(lines + 3 >= last, "{lines} of {last} lines");
}

#[test]
fn other_bounds_hold_after_a_sighup_and_the_child_does_not_notice() {
    let (host, _server) = host("", &[("calm", counting("calm"))]);
    wait::until_true("its first lines", || last_number(&host, "calm") >= 3);
    let child = host.process("calm").expect("it runs").pid;
    let before = logger(&host).expect("it runs");
    let config = std::fs::read_to_string(host.config()).expect("readable");
    std::fs::write(host.config(), format!("{config}{BOUNDS}")).expect("writable");
    host.signal(Signal::SIGHUP);
    let after = wait::until("a logger with these bounds", || {
        logger(&host).filter(|process| process.pid != before.pid)
    });
    let words = wait::until("its words", || {
        Some(after.arguments()).filter(|words| !words.is_empty())
    });
    assert!(words.iter().any(|word| word.contains("65536")), "{words:?}");
    let seen = last_number(&host, "calm");
    wait::until_true("more lines", || last_number(&host, "calm") > seen + 3);
    assert_eq!(host.process("calm").map(|process| process.pid), Some(child));
}

#[test]
fn odd_bytes_and_a_line_without_end_are_kept_and_the_last_words_are_told() {
    let script = "printf 'a\\000b\\377\\033[2J\\n'; head -c 300000 /dev/zero | tr '\\0' x; echo; echo last words; exit 3";
    let (host, server) = host("", &[("odd", shell("odd", script))]);
    let crash = wait::until("the event", || {
        let mut events = server.events().into_iter();
        events.find(|event| event["category"] == "crash")
    });
    let tail = crash["tail"].as_array().cloned().unwrap_or_default();
    assert_eq!(tail.last(), Some(&json!("last words")), "{crash}");
    let longest = tail
        .iter()
        .filter_map(|line| Some(line.as_str()?.len()))
        .max();
    assert!(longest.unwrap_or(0) <= 400, "{longest:?}");
    let log = std::fs::read(&logs(&host, "odd")[0]).expect("a log");
    assert!(
        log.starts_with(b"a\0b\xff\x1b[2J\n"),
        "bytes, as they were printed"
    );
    assert!(
        log.windows(300_000)
            .any(|bytes| bytes.iter().all(|byte| *byte == b'x'))
    );
}
