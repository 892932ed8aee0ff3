//! Promise: a crash of BootAgent at any moment loses no job and doubles none,
//! and no child notices it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::agent::{Agent, files_below, is_root};
use e2e::bundle::Bundle;
use e2e::process::{self, Process};
use e2e::server::Server;
use e2e::wait;
use serde_json::{Value, json};

#[path = "crash/rollback.rs"]
mod rollback;

const JOURNAL: &str = "var/lib/bootagent/journal/journal";
/// Kills spread over one install.
const POINTS: u32 = 44;
/// Between two looks at the journal; finer than the usual wait, because the
/// moment of a kill is counted from there.
const GLANCE: Duration = Duration::from_micros(500);

/// The records of the journal, without their checksums.
fn journal(host: &Agent) -> Vec<Value> {
    let text = fs::read_to_string(host.path(JOURNAL)).unwrap_or_default();
    let records = text.lines().filter_map(|line| line.split_once(' '));
    records
        .filter_map(|(_, record)| serde_json::from_str(record).ok())
        .collect()
}

fn is_taken(host: &Agent, id: &str) -> bool {
    journal(host).iter().any(|record| record["job"]["id"] == id)
}

fn outcomes(host: &Agent, id: &str) -> usize {
    let records = journal(host);
    let outcomes = records
        .iter()
        .filter(|record| record["outcome"]["result"]["id"] == id);
    outcomes.count()
}

/// Looks again and again, without a pause worth speaking of.
fn as_soon_as(what: &str, mut is_so: impl FnMut() -> bool) -> Instant {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < wait::PATIENCE, "{what} did not come");
        std::thread::sleep(GLANCE);
    }
    Instant::now()
}

/// A package of an agent that says who it is, has a check, and refuses to run
/// twice.
fn package(name: &str, version: &str, marker: &str) -> Vec<u8> {
    let flags = ["--marker", marker, "--lock", "held", "--ready"];
    Bundle::new(name, version, &flags)
        .notify()
        .key(
            "check",
            json!(["./run", "--print", "checked", "--exit", "0"]),
        )
        .build()
}

/// Runs of an agent that took its lock, and whether one found it taken.
fn assert_one_process(host: &Agent, name: &str, marker: &str) -> Process {
    // A daemon that has just been started again does not answer yet.
    let known = wait::until("the daemon's word of it", || host.process(name));
    let running = process::with_argument(marker);
    assert_eq!(running, [known], "{name}");
    let conflict = host.child_file(name, "held.conflict");
    assert_eq!(conflict, None, "{name} was started beside itself");
    running[0]
}

/// What a crash may not leave for ever.
fn assert_nothing_left(host: &Agent, name: &str) {
    let below = |path: &str| files_below(&host.path(path));
    // What the last program of a job printed stays, under one name, to be read.
    let is_output = |path: &PathBuf| path.extension().is_some_and(|end| end == "out");
    let mut temporary = host.temporary_files();
    temporary.retain(|path| !is_output(path));
    assert_eq!(temporary, Vec::<PathBuf>::new());
    let file_name = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let bundle = host.path("var/lib/bootagent/bundles").join(name);
    let entries = fs::read_dir(&bundle).into_iter().flatten().flatten();
    for entry in entries {
        let is_hidden = file_name(&entry.path()).starts_with('.');
        assert!(!is_hidden, "{}", entry.path().display());
    }
    let own = ["var/lib/bootagent", "run/bootagent"].map(below).concat();
    let is_left = |path: &&PathBuf| {
        let name = file_name(path);
        [".tmp", ".new", ".part"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let left: Vec<_> = own.iter().filter(is_left).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Everything that is promised of a job whose host crashed meanwhile.
fn assert_done_once(server: &Server, host: &Agent, job: &str, name: &str, marker: &str) {
    let done = server.finished(job);
    assert_eq!(done["errcode"], 0, "{name}: {}", done["message"]);
    assert_eq!(done["result"]["running"], done["version"], "{done}");
    assert_eq!(outcomes(host, job), 1, "{name}");
    assert_one_process(host, name, marker);
    wait::until_true("a status that says running", || {
        let reported = server.agent(&host.agentsn(), name);
        reported.is_some_and(|agent| agent["status"] == "running")
    });
}

#[test]
fn an_install_survives_a_crash_at_every_moment() {
    let server = Server::start();
    let mut host = Agent::of(&server);
    let sn = host.agentsn();
    let order = |name: &str, marker: &str| {
        let package = server.upload(&package(name, "1.0", marker));
        server.order(
            &sn,
            json!({ "action": "install", "name": name, "version": "1.0", "package": package }),
        )
    };

    // How long one takes when nothing happens.
    let marker = format!("{sn}-whole");
    let job = order("whole", &marker);
    let taken = as_soon_as("the job", || is_taken(&host, &job));
    let whole = as_soon_as("its outcome", || outcomes(&host, &job) == 1) - taken;
    assert_done_once(&server, &host, &job, "whole", &marker);

    let mut interrupted = 0;
    for point in 0..POINTS {
        let name = format!("point-{point}");
        let marker = format!("{sn}-{point}");
        let job = order(&name, &marker);
        let taken = as_soon_as("the job", || is_taken(&host, &job));
        // A little beyond its end: the result's way to the server too.
        let delay = whole * 5 / 4 * point / POINTS;
        std::thread::sleep(delay.saturating_sub(taken.elapsed()));
        host.kill();
        interrupted += u32::from(outcomes(&host, &job) == 0);
        host.run();
        assert_done_once(&server, &host, &job, &name, &marker);
        assert_nothing_left(&host, &name);
    }
    println!("{interrupted} of {POINTS} kills interrupted an install of {whole:?}");
    assert!(interrupted >= POINTS / 4, "only {interrupted} of {POINTS}");

    // All of them, and each only once, to the end.
    let running = host.status().expect("it answers")["agents"].clone();
    let running = running.as_array().expect("a list");
    assert_eq!(running.len(), POINTS as usize + 1);
    let results = server.get(&format!("/job-results?host={sn}&limit=500"));
    let results = results["items"].as_array().expect("a list").len();
    assert_eq!(results, POINTS as usize + 1);
}

#[test]
fn an_upgrade_survives_a_crash_at_every_moment() {
    const STEPS: u32 = 16;
    let server = Server::start();
    let mut host = Agent::of(&server);
    let sn = host.agentsn();
    let mut whole = Duration::from_millis(300);
    for step in 0..STEPS {
        let version = format!("1.{step}");
        let marker = format!("{sn}-{step}");
        let package = server.upload(&package("mover", &version, &marker));
        let action = if step == 0 { "install" } else { "upgrade" };
        let job = server.order(
            &sn,
            json!({ "action": action, "name": "mover", "version": version, "package": package }),
        );
        let taken = as_soon_as("the job", || is_taken(&host, &job));
        if step == 0 {
            whole = as_soon_as("its outcome", || outcomes(&host, &job) == 1) - taken;
        } else {
            let delay = whole * step / STEPS;
            std::thread::sleep(delay.saturating_sub(taken.elapsed()));
            host.kill();
            let former = process::with_argument(&format!("{sn}-{}", step - 1));
            let latter = process::with_argument(&marker);
            assert!(former.len() + latter.len() <= 1, "{former:?} {latter:?}");
            host.run();
        }
        assert_done_once(&server, &host, &job, "mover", &marker);
        let former = process::with_argument(&format!("{sn}-{}", step.wrapping_sub(1)));
        assert_eq!(former, [], "the old version is gone");
        assert_nothing_left(&host, "mover");
    }
}

#[test]
fn a_job_is_not_lost_between_the_server_and_the_disk() {
    let server = Server::start();
    let mut host = Agent::of(&server);
    let sn = host.agentsn();
    for point in 0..5 {
        let name = format!("early-{point}");
        let marker = format!("{sn}-early-{point}");
        let package = server.upload(&package(&name, "1.0", &marker));
        let job = server.order(
            &sn,
            json!({ "action": "install", "name": name, "version": "1.0", "package": package }),
        );
        // Handed out: whether it is on the host's disk yet is a matter of luck.
        as_soon_as("the job's way out", || {
            server.job(&job)["state"] != "waiting"
        });
        host.kill();
        host.run();
        assert_done_once(&server, &host, &job, &name, &marker);
        assert_nothing_left(&host, &name);
    }
}

#[test]
fn a_child_does_not_notice_crashes_of_bootagent() {
    let server = Server::start();
    let mut host = Agent::of(&server);
    let sn = host.agentsn();
    let flags = [
        "--lock", "held", "--ready", "--print", "before", "--after", "3000", "--print", "after",
    ];
    let bundle = Bundle::new("steady", "1.0", &flags).notify();
    let package = server.upload(&bundle.build());
    server.succeed(&sn, json!({ "action": "install", "package": package }));
    let child = host.process("steady").expect("it runs");
    wait::until_true("its first line", || {
        host.child_log("steady").contains("before")
    });
    host.kill();
    // Nobody supervises it now; what it prints is kept all the same.
    wait::until_true("its second line", || {
        host.child_log("steady").contains("after")
    });
    assert!(child.is_alive());

    // At every moment of a start, too.
    for point in 0..20 {
        host.run();
        std::thread::sleep(Duration::from_millis(4 * point));
        host.kill();
        assert!(child.is_alive(), "killed {} ms after a start", 4 * point);
    }
    host.run();
    assert_eq!(host.until_confirmed(), sn);
    assert_eq!(host.process("steady"), Some(child));
    assert_eq!(host.child_file("steady", "held.conflict"), None);
    assert_eq!(
        host.child_file("steady", "held"),
        Some(format!("{}\n", child.pid))
    );
    let reported = wait::until("a status with its age", || {
        let agent = server.agent(&sn, "steady")?;
        (agent["uptime"].as_u64()? >= 3).then_some(agent)
    });
    assert_eq!(reported["pid"], child.pid);
    assert_eq!(
        (&reported["status"], &reported["anomalies"]),
        (&json!("running"), &json!(0))
    );

    // Supervised as before: it is stopped, started, and its end is noticed.
    server.succeed(&sn, json!({ "action": "stop", "name": "steady" }));
    assert!(!child.is_alive());
    server.succeed(&sn, json!({ "action": "start", "name": "steady" }));
    let next = host.process("steady").expect("it runs");
    assert_ne!(next, child);
    if !is_root() {
        println!("SKIPPED: the groups of a host, because cgroups need root");
    } else {
        let group = e2e::control_group::processes(host.cgroup(), "steady");
        assert_eq!(group, [next.pid]);
    }
}

#[test]
fn a_child_finds_somebody_to_speak_to_whenever_bootagent_begins() {
    let server = Server::start();
    let mut host = Agent::of(&server);
    let sn = host.agentsn();
    // It ends when the socket it was given is not there.
    let flags = ["--lock", "held", "--ready", "--talk", "20000"];
    let bundle = Bundle::new("talker", "1.0", &flags).notify();
    let package = server.upload(&bundle.build());
    server.succeed(&sn, json!({ "action": "install", "package": package }));
    let child = host.process("talker").expect("it runs");
    for crash in 0..15 {
        host.kill();
        host.run();
        wait::until_true("the host", || host.child("talker").is_some());
        assert!(
            child.is_alive(),
            "crash {crash}: {}",
            host.child_log("talker")
        );
    }
    assert_eq!(host.process("talker"), Some(child));
}

#[test]
fn the_end_of_a_child_is_noticed_by_the_bootagent_after_a_crash() {
    let server = Server::start();
    let mut host = Agent::of(&server);
    let sn = host.agentsn();
    let bundle = Bundle::new("brittle", "1.0", &["--lock", "held", "--ready"]).notify();
    let package = server.upload(&bundle.build());
    server.succeed(&sn, json!({ "action": "install", "package": package }));
    let crashes = |server: &Server| {
        let events = server.events(&sn);
        let crashes = events.iter().filter(|event| event["category"] == "crash");
        crashes.count()
    };

    // It ends while nobody looks.
    let first = host.process("brittle").expect("it runs");
    host.kill();
    first.signal(nix::sys::signal::Signal::SIGKILL);
    wait::until_true("its end", || !first.is_alive());
    host.run();
    host.until_confirmed();
    wait::until_true("the event", || crashes(&server) == 1);
    server.succeed(&sn, json!({ "action": "start", "name": "brittle" }));

    // It ends under a BootAgent that did not start it.
    let second = host.process("brittle").expect("it runs");
    host.kill();
    host.run();
    host.until_confirmed();
    assert_eq!(host.process("brittle"), Some(second));
    second.signal(nix::sys::signal::Signal::SIGKILL);
    wait::until_true("the event", || crashes(&server) == 2);
    assert_eq!(
        process::with_argument("1.0")
            .iter()
            .filter(|p| **p == second)
            .count(),
        0
    );
}
