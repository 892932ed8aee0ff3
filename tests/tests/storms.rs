//! Promise: whatever comes in masses, signals or crashes, the daemon answers,
//! keeps what runs running, loses no event and grows by no more than a bound.

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::agent::{Agent, Settings};
use e2e::bundle::Bundle;
use e2e::fake_server::FakeServer;
use e2e::process::Process;
use e2e::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Longest wait for an answer of bootctl, on a machine so busy that two hundred
/// starts take most of it.
const ANSWER: Duration = Duration::from_secs(60);
/// Bounds of every wait for many children at once.
const MANY: Duration = Duration::from_secs(120);
/// Memory the daemon may have had at once when it is built for tests, in KiB.
const MAX_MEMORY: u64 = 64 * 1024;
/// Bytes of one status: a server takes no more.
const MAX_STATUS: u64 = 1 << 20;
/// How many crash together.
const CHILDREN: usize = 200;

/// An agent that only waits, as small as can be.
fn idle(name: &str) -> Bundle {
    Bundle::of_manifest(json!({ "name": name, "version": "1", "exec": ["/bin/sleep", "100000"] }))
}

/// A running host with these children and a server that takes everything.
fn host(names: &[String], server: &FakeServer, tables: &str) -> Agent {
    let mut host = Agent::prepare(&Settings::new(&server.address()).with(tables));
    for name in names {
        host.package(name, &idle(name));
    }
    host.run();
    host
}

/// Pid and name of every child that runs.
fn running(host: &Agent) -> BTreeSet<(i64, String)> {
    let status = host.status().unwrap_or(Value::Null);
    let agents = status["agents"].as_array().cloned().unwrap_or_default();
    let running = agents.iter().filter(|agent| agent["status"] == "running");
    running
        .filter_map(|agent| Some((agent["pid"].as_i64()?, agent["name"].as_str()?.to_owned())))
        .collect()
}

fn until_running(host: &Agent, count: usize) -> BTreeSet<(i64, String)> {
    wait::within(MANY, &format!("{count} children"), || {
        Some(running(host)).filter(|running| running.len() == count)
    })
}

/// As an editor does it: half a file may be a valid configuration.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("writable");
    std::fs::rename(&new, path).expect("renamed");
}

/// How long bootctl takes to tell the status.
fn answer(host: &Agent) -> Duration {
    let asked = Instant::now();
    host.ask(&["status"]);
    asked.elapsed()
}

#[test]
fn a_storm_of_signals_disturbs_no_child_and_the_last_configuration_holds() {
    let server = FakeServer::start();
    let host = host(
        &["one".into(), "two".into()],
        &server,
        "[restart]\ncheck = 60\n",
    );
    let before = until_running(&host, 2);
    host.until_confirmed();
    let config = std::fs::read_to_string(host.config()).expect("readable");
    for round in 1..=300 {
        // A file that is half written is refused and changes nothing.
        let torn = if round % 7 == 0 { "[restart" } else { "" };
        let text = config.replace(
            "check = 60",
            &format!("check = 60\nholdoff = {}", 1000 + round),
        );
        replace(&host.config(), &format!("{text}{torn}"));
        for signal in [
            Signal::SIGHUP,
            Signal::SIGCHLD,
            Signal::SIGHUP,
            Signal::SIGCHLD,
        ] {
            host.signal(signal);
        }
        if round % 50 == 0 {
            let took = answer(&host);
            assert!(took < ANSWER, "{took:?}");
        }
    }
    let text = config.replace("check = 60", "check = 60\nholdoff = 2222");
    replace(&host.config(), &text);
    host.signal(Signal::SIGHUP);
    assert_eq!(running(&host), before, "the same processes");
    let (pid, name) = before.first().expect("two").clone();
    Process::of(i32::try_from(pid).expect("a pid"))
        .expect("it runs")
        .signal(Signal::SIGKILL);
    wait::until_true("the hold-off that was configured last", || {
        let child = host.child(&name).unwrap_or(Value::Null);
        child["retry_in"]
            .as_u64()
            .is_some_and(|wait| (2100..=2222 + 60).contains(&wait))
    });
    let peak = host.peak_memory();
    assert!(peak < MAX_MEMORY, "{peak} KiB");
    assert!(host.log().contains("the configuration stays as it was"));
}

#[test]
fn however_often_it_is_told_to_end_it_ends_once_and_its_children_go_on() {
    let server = FakeServer::start();
    let mut host = host(&["one".into(), "two".into()], &server, "");
    let before = until_running(&host, 2);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        for _ in 0..200 {
            // It may be gone already; until it is reaped it is still ours.
            host.signal(signal);
            host.signal(Signal::SIGHUP);
        }
        let status = host.ended();
        assert!(status.success(), "{signal}: {status}");
        host.run();
        assert_eq!(until_running(&host, 2), before, "{signal}");
    }
    let ends = host.log().matches("its children go on running").count();
    assert!(ends >= 2, "said at each end: {ends}");
}

#[test]
fn a_console_that_nobody_reads_and_a_storm_of_lines_hold_nothing_up() {
    let server = FakeServer::start();
    let mut host = Agent::prepare(
        &Settings::new(&server.address())
            .with("[restart]\ncheck = 1\nholdoff = 1\nmax_anomalies = 9\n"),
    );
    host.package("one", &idle("one"));
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4096)).expect("a small one");
    host.run_with_output(writer.into());
    until_running(&host, 1);
    // Each reload says more than a line; the pipe takes some fifty of them.
    let reloads = || {
        host.log()
            .matches("configuration and manifests read again")
            .count()
    };
    for round in 1..=100 {
        host.signal(Signal::SIGHUP);
        wait::until_true("the reload", || reloads() >= round);
    }
    host.process("one")
        .expect("it runs")
        .signal(Signal::SIGKILL);
    let killed = Instant::now();
    wait::until_true("the end", || running(&host).is_empty());
    until_running(&host, 1);
    assert!(killed.elapsed() < MANY);
    // Whoever reads again is told what is missing.
    let mut text = vec![0; 1 << 16];
    wait::until_true("the number of lines that are missing", || {
        host.signal(Signal::SIGHUP);
        let length = nix::unistd::read(&reader, &mut text).unwrap_or_default();
        String::from_utf8_lossy(&text[..length]).contains("lines not shown")
    });
}

#[test]
fn two_hundred_children_that_crash_together_are_all_told_and_all_come_back() {
    let server = FakeServer::start();
    let names: Vec<String> = (0..CHILDREN).map(|n| format!("child-{n}")).collect();
    let policy = "[restart]\ncheck = 1\nholdoff = 2\nstable = 60\nmax_anomalies = 9\n";
    let mut host = Agent::prepare(&Settings {
        // Only what is urgent is told meanwhile.
        push: "step = 600\nconnect_timeout = 10\ntimeout = 30\n".into(),
        ..Settings::new(&server.address()).with(policy)
    });
    for name in &names {
        host.package(name, &idle(name));
    }
    host.run();
    let before = until_running(&host, CHILDREN);
    host.until_confirmed();
    for (pid, _) in &before {
        let pid = i32::try_from(*pid).expect("a pid");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
    }
    let mut slowest = Duration::ZERO;
    let crashed = wait::within(MANY, "the events of all", || {
        slowest = slowest.max(answer(&host));
        let events = server.events();
        let crashes = events.iter().filter(|event| event["category"] == "crash");
        let crashed: BTreeSet<String> = crashes
            .filter_map(|event| event["subject"].as_str().map(str::to_owned))
            .collect();
        (crashed.len() == CHILDREN).then_some(crashed)
    });
    assert_eq!(crashed, names.iter().cloned().collect());
    println!("bootctl waited {slowest:?} at most");
    assert!(slowest < ANSWER, "{slowest:?}");
    // Each was stored and told once: the numbers have no gap and no double.
    let mut numbers: Vec<u64> = server
        .events()
        .iter()
        .filter_map(|e| e["seq"].as_u64())
        .collect();
    numbers.sort_unstable();
    let last = numbers.last().copied().expect("events");
    assert_eq!(numbers, (1..=last).collect::<Vec<_>>());
    for status in server.statuses() {
        let bytes: u64 = status
            .header("content-length")
            .and_then(|l| l.parse().ok())
            .unwrap_or(u64::MAX);
        assert!(bytes <= MAX_STATUS, "{bytes}");
        let events = status.body["events"].as_array().map_or(0, Vec::len);
        assert!(events <= 100, "{events} events");
    }
    let after = wait::within(MANY, "all of them again", || {
        Some(running(&host)).filter(|running| running.len() == CHILDREN)
    });
    assert!(before.is_disjoint(&after), "new processes");
    let peak = host.peak_memory();
    assert!(peak < MAX_MEMORY, "{peak} KiB");
}

#[test]
fn bootctl_tells_of_five_hundred_children_and_one_that_does_not_read_holds_up_nobody() {
    const MANY_MORE: usize = 500;
    let server = FakeServer::start();
    let mut host = Agent::prepare(&Settings::new(&server.address()));
    for number in 0..MANY_MORE {
        let name = format!("child-{number}");
        // They are there and need nothing.
        let bundle = json!({
            "name": name, "version": "1.0.0-1", "exec": ["/bin/true"], "autostart": false,
        });
        host.package(&name, &Bundle::of_manifest(bundle));
    }
    host.run();
    let told = wait::within(MANY, "the status of all", || {
        host.status().filter(Value::is_object)
    });
    let agents = told["agents"].as_array().expect("agents");
    assert_eq!(agents.len(), MANY_MORE);
    let bytes = told.to_string().len();
    assert!(bytes > 128 * 1024, "{bytes} bytes fit into one packet");
    let lines = host.ask(&["agents"]).lines().count();
    assert_eq!(lines, 1 + MANY_MORE);

    // These ask and never read the answer: waiting for each would take minutes.
    let silent: Vec<_> = (0..5).map(|_| ask_for_status(&host)).collect();
    let took = answer(&host);
    assert!(took < MANY / 2, "{took:?}");
    drop(silent);
    let threads = format!("/proc/{}/task", host.pid());
    wait::until_true("the end of the threads that answered", || {
        std::fs::read_dir(&threads).expect("it runs").count() < 10
    });
    let peak = host.peak_memory();
    assert!(peak < MAX_MEMORY, "{peak} KiB");
}

/// Asks as bootctl does.
fn ask_for_status(host: &Agent) -> std::os::fd::OwnedFd {
    use nix::sys::socket;
    let flags = socket::SockFlag::SOCK_CLOEXEC;
    let (family, kind) = (socket::AddressFamily::Unix, socket::SockType::SeqPacket);
    let connection = socket::socket(family, kind, flags, None).expect("a socket");
    let path = host.path("run/bootagent/bootagent.sock");
    let address = socket::UnixAddr::new(&path).expect("a short path");
    socket::connect(connection.as_raw_fd(), &address).expect("it listens");
    let request = br#"{"command":"status"}"#;
    let sent = socket::send(connection.as_raw_fd(), request, socket::MsgFlags::empty());
    assert_eq!(sent, Ok(request.len()));
    connection
}
