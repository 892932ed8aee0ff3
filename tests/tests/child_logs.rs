//! Promise: what a child prints is kept within bounds, whatever and however
//! much it prints, and never holds up the child, its neighbours or the daemon.

use std::path::PathBuf;
use std::time::{Duration, Instant};

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
        let sizes = sizes(&host, "loud");
        let on_disk: u64 = sizes.iter().sum();
        assert!(on_disk <= MAX_DISK && sizes.len() <= 3, "{sizes:?}");
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

/// Every log of a child that is there now, with its bytes. One may get another
/// name meanwhile.
fn sizes(host: &Agent, name: &str) -> Vec<u64> {
    let logs = logs(host, name).into_iter();
    logs.filter_map(|path| Some(path.metadata().ok()?.len()))
        .collect()
}

/// What of a child's output is in its logs, and what they say was dropped, in
/// bytes.
fn kept_and_dropped(host: &Agent, name: &str, keep: u32) -> (u64, u64) {
    let folder = host.path("var/log/bootagent/agents");
    let former = (1..=keep)
        .rev()
        .map(|number| format!("{name}.log.{number}"));
    let names = former.chain([format!("{name}.log")]);
    let text: String = names
        .filter_map(|name| std::fs::read_to_string(folder.join(name)).ok())
        .collect();
    let (mut kept, mut dropped) = (text.len() as u64, 0);
    for piece in text.split("\n[").skip(1) {
        let (notice, _) = piece.split_once("]\n").expect("a whole notice");
        kept -= (notice.len() + "\n[]\n".len()) as u64;
        let bytes = notice
            .strip_suffix(" bytes: printed too fast")
            .and_then(|notice| notice.rsplit_once(' '));
        let bytes: u64 = bytes.expect(notice).1.parse().expect("a number");
        dropped += bytes;
    }
    (kept, dropped)
}

#[test]
fn a_flood_that_lasts_is_counted_to_the_byte_and_delays_neither_restarts_nor_statuses() {
    const MAX_BYTES: u64 = 65536;
    // As much as all the waits below and the burst at the beginning leave: every
    // notice is there to be counted.
    const KEEP: u32 = 99;
    const LASTS: Duration = Duration::from_secs(10);
    let tables = format!(
        "[logs]\nmax_bytes = {MAX_BYTES}\nkeep = {KEEP}\nrate = 16384\n\
         [restart]\ncheck = 1\nholdoff = 1\nmax_anomalies = 99\n"
    );
    const OVER: &str = "over\n";
    // What is printed before the logger has caught up is dropped with the rest.
    let over = ["--after", "2000", "--print", OVER.trim_end()].repeat(8);
    let loud = [&["--flood-until", "enough"], &over[..]].concat();
    let children = [
        ("loud", Bundle::new("loud", "1.0", &loud)),
        ("calm", counting("calm")),
        ("other", shell("other", "exec sleep 100000")),
    ];
    let (host, server) = host(&tables, &children);
    let sizes_hold = || {
        let sizes = sizes(&host, "loud");
        assert!(sizes.iter().all(|bytes| *bytes <= MAX_BYTES), "{sizes:?}");
        assert!(sizes.len() <= KEEP as usize + 1, "{sizes:?}");
    };
    let process = |name: &str| wait::until(name, || host.process(name));
    let (pid, first) = (process("loud").pid, process("other"));
    wait::until_true("the flood", || sizes(&host, "loud").len() > 1);
    let begun = Instant::now();
    let counted = last_number(&host, "calm");

    // In the midst of it another one crashes.
    first.signal(Signal::SIGKILL);
    wait::until_true("its next process", || {
        sizes_hold();
        host.process("other").is_some_and(|next| next != first)
    });
    wait::until_true("its event at the server", || {
        sizes_hold();
        let is_it = |event: &Value| event["category"] == "crash" && event["subject"] == "other";
        server.events().iter().any(is_it)
    });
    for _ in 0..3 {
        server.next_status();
    }
    wait::until_true("the calm one's lines", || {
        sizes_hold();
        last_number(&host, "calm") > counted + 10 && begun.elapsed() > LASTS
    });
    let enough = host.path("var/lib/bootagent/agents/loud/enough");
    std::fs::write(enough, "").expect("writable");
    let printed = wait::until("its end", || {
        sizes_hold();
        host.child_file("loud", "enough.bytes")
    });
    let printed: u64 = printed.parse().expect("a number");
    let speed = printed as f64 / begun.elapsed().as_secs_f64() / 1e6;
    println!("{speed:.0} MB/s");
    wait::until_true("the line after it", || {
        host.child_log("loud").ends_with(OVER)
    });
    let (kept, dropped) = kept_and_dropped(&host, "loud", KEEP);
    let line = OVER.len() as u64;
    let after = (kept + dropped).checked_sub(printed);
    assert!(
        after.is_some_and(|bytes| bytes % line == 0 && (1..=8).contains(&(bytes / line))),
        "{printed} bytes printed, {kept} kept, {dropped} dropped"
    );
    assert!(dropped > kept, "{dropped} dropped, {kept} kept");
    assert_eq!(host.process("loud").map(|process| process.pid), Some(pid));
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
    // Until it has become the logger its words are the daemon's.
    wait::until_true("its words", || {
        let words = after.arguments();
        words.iter().any(|word| word.contains("65536"))
    });
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
