//! Promise: whatever an agent starts belongs to it, and ends with it; what a
//! host cannot do at the moment it does later, without a spin.

use std::process::Command;
use std::time::{Duration, Instant};

use e2e::agent::{Agent, Settings, is_root};
use e2e::bundle::Bundle;
use e2e::fake_server::FakeServer;
use e2e::process::{self, Process};
use e2e::{control_group, wait};
use nix::sys::signal::Signal;
use serde_json::json;

use super::stage::{Stage, package_job};

/// A word no other test has among its processes.
fn marker(stage: &Stage, word: &str) -> String {
    format!("{}-{word}", stage.host.cgroup())
}

/// Installs an agent with these flags.
fn install(stage: &Stage, name: &str, flags: &[&str]) -> Process {
    let bundle = Bundle::new(name, "1.0.0", flags)
        .notify()
        .key("stop_timeout", json!(60));
    let job = stage.install(&format!("install-{name}"), name, &bundle.build());
    stage.fake.succeed(job);
    stage.host.process(name).expect("it runs")
}

fn stop(stage: &Stage, name: &str) {
    stage
        .fake
        .succeed(json!({ "id": format!("stop-{name}"), "action": "stop", "name": name }));
}

fn one(marker: &str) -> Process {
    wait::until(&format!("a process {marker}"), || {
        process::with_argument(marker).first().copied()
    })
}

#[test]
fn what_a_stopped_agent_left_behind_is_asked_to_end_too_and_at_once() {
    if !is_root() {
        println!("SKIPPED: the end of what was left behind, because cgroups need root");
        return;
    }
    let stage = Stage::new("");
    let names = ["helper", "orphan"].map(|word| marker(&stage, word));
    let spawn = format!("--marker {}", names[0]);
    let flags = [
        "--spawn",
        &spawn,
        "--daemon",
        &format!("--marker {}", names[1]),
        "--ready",
    ];
    let main = install(&stage, "parent", &flags);
    let left = [one(&names[0]), one(&names[1])];
    let begun = Instant::now();
    // Not killed, which would be 5002, and long before stop_timeout.
    stop(&stage, "parent");
    assert!(
        begun.elapsed() < Duration::from_secs(45),
        "{:?}",
        begun.elapsed()
    );
    assert!(!main.is_alive());
    assert!(left.iter().all(|process| !process.is_alive()), "{left:?}");
}

#[test]
fn grandchildren_that_outlive_a_crash_are_killed_before_the_next_run() {
    if !is_root() {
        println!("SKIPPED: the end of orphans in sessions of their own, because cgroups need root");
        return;
    }
    let stage = Stage::new("[restart]\ncheck = 1\nholdoff = 1\nstable = 30\nmax_anomalies = 9\n");
    let orphan = marker(&stage, "orphan");
    let flags = [
        "--daemon",
        &format!("--marker {orphan} --ignore-term"),
        "--ready",
    ];
    let bundle = Bundle::new("parent", "1.0.0", &flags)
        .notify()
        .key("stop_timeout", json!(1));
    stage
        .fake
        .succeed(stage.install("install-parent", "parent", &bundle.build()));
    let main = stage.host.process("parent").expect("it runs");
    let first = one(&orphan);
    // It came to us when its own parent ended, and is no zombie of anybody.
    main.signal(Signal::SIGKILL);
    wait::until_true("the end of the orphan", || !first.is_alive());
    wait::until_true("the next run", || {
        stage
            .host
            .process("parent")
            .is_some_and(|next| next != main)
    });
    wait::until_true("its own orphan, alone", || {
        let found = process::with_argument(&orphan);
        found.len() == 1 && found[0] != first
    });
}

#[test]
fn ended_processes_nobody_waits_for_hold_up_no_stop() {
    let stage = Stage::new("");
    let main = install(&stage, "careless", &["--zombies", "30", "--ready"]);
    // A bounded wait for the thirty to have ended.
    let zombies = || {
        let path = format!("/proc/{0}/task/{0}/children", main.pid);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let children = text.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.filter(|pid| Process::of(*pid).is_none()).count()
    };
    wait::until_true("thirty zombies", || zombies() == 30);
    stop(&stage, "careless");
    assert!(!main.is_alive());
}

#[test]
fn an_agent_that_starts_processes_without_end_is_held_at_its_limit_and_ends_whole() {
    if !is_root() {
        println!("SKIPPED: the limit of processes, because cgroups need root");
        return;
    }
    let stage = Stage::new("");
    let bundle = Bundle::new("bomb", "1.0.0", &["--bomb", "--ready"])
        .notify()
        .key("limits", json!({ "pids": 24 }));
    stage
        .fake
        .succeed(stage.install("install-bomb", "bomb", &bundle.build()));
    wait::until_true("the refusal", || {
        stage.host.child_log("bomb").contains("refused after")
    });
    let group = control_group::processes(stage.host.cgroup(), "bomb");
    assert!(group.len() <= 24 && group.len() > 8, "{group:?}");
    let all: Vec<Process> = group.into_iter().filter_map(Process::of).collect();
    stop(&stage, "bomb");
    assert!(all.iter().all(|process| !process.is_alive()));
}

#[test]
fn an_agent_has_the_usual_limits_of_a_program_and_not_ours() {
    let stage = Stage::new("");
    let child = install(&stage, "plain", &["--ready"]);
    let limits = |pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
        let line = text.lines().find(|line| line.starts_with("Max open files"));
        let mut words = line.expect("a line").split_whitespace().skip(3);
        let mut number = || words.next()?.parse::<u64>().ok();
        [number(), number()]
    };
    let (own, [soft, hard]) = (limits(stage.host.pid()), limits(child.pid));
    assert_eq!(soft, own[1].map(|most| most.min(1024)));
    assert_eq!(hard, own[1], "it may raise it as far as we may");
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", child.pid));
    assert_eq!(score.expect("it runs").trim(), "0");
}

#[test]
fn without_a_free_descriptor_bootctl_waits_and_nothing_spins() {
    let stage = Stage::new("");
    let pid = stage.host.pid().to_string();
    let limit = |most: &str| {
        let set = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={most}:")])
            .status();
        set.is_ok_and(|status| status.success())
    };
    if !limit("256") {
        println!("SKIPPED: a host without descriptors, because prlimit is not allowed here");
        return;
    }
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let (_, rest) = stat.rsplit_once(')').expect("a name");
        let fields: Vec<u64> = rest
            .split_whitespace()
            .map(|word| word.parse().unwrap_or(0))
            .collect();
        fields[11] + fields[12]
    };
    // Not one more than are open already.
    assert!(limit("3"));
    let mut waiting = Command::new(e2e::binaries::bootctl())
        .args(["-r", &stage.host.root().display().to_string(), "status"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("bootctl can be run");
    wait::until_true("the daemon's word", || {
        stage.host.log().contains("bootctl has to wait")
    });
    let before = ticks();
    std::thread::sleep(Duration::from_secs(3));
    let used = ticks() - before;
    // A spin takes a whole core: 300 ticks, or 100 beside two others.
    assert!(used < 60, "{used} ticks of 10 ms in 3 s");
    assert!(limit("256"));
    let status = wait::until("the answer", || waiting.try_wait().ok().flatten());
    assert!(status.success());
}

#[test]
fn a_logger_whose_record_was_lost_is_taken_over_and_goes_on() {
    let server = FakeServer::start();
    let mut host = Agent::start(&Settings::new(&server.address()));
    host.until_confirmed();
    let record = host.path("run/bootagent/children/logger.process.json");
    let text = std::fs::read_to_string(&record).expect("a record");
    let record_of = |text: &str| -> i64 {
        let record: serde_json::Value = serde_json::from_str(text).expect("JSON");
        record["identity"]["pid"].as_i64().expect("a pid")
    };
    let logger = Process::of(i32::try_from(record_of(&text)).expect("a pid")).expect("it runs");
    host.kill();
    std::fs::remove_file(&record).expect("it is there");
    host.run();
    host.until_confirmed();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bundle = Bundle::new("talks", "1.0.0", &["--print", "hello", "--ready"]).notify();
    server.succeed(package_job(&folder, "install", "talks", &bundle.build()));
    wait::until_true("its line", || host.child_log("talks").contains("hello"));
    assert!(logger.is_alive());
    assert!(!host.log().contains("the logger ended"), "{}", host.log());
    // Its end is noticed as before.
    logger.signal(Signal::SIGKILL);
    wait::until_true("another one", || host.log().contains("the logger ended"));
}

#[test]
fn a_record_that_names_somebody_else_by_now_touches_nobody() {
    let mut stage = Stage::new("");
    let main = install(&stage, "keeper", &["--ready"]);
    let mut sleeper = Command::new("sleep")
        .arg("600")
        .spawn()
        .expect("sleep is there");
    let foreign = Process::of(i32::try_from(sleeper.id()).expect("a pid")).expect("it runs");
    stage.host.kill();
    main.signal(Signal::SIGKILL);
    wait::until_true("its end", || !main.is_alive());
    // Its pid was used again; and an agent that is no more, and one of
    // another boot, had that pid too.
    let records = stage.host.path("run/bootagent/children");
    let text = std::fs::read_to_string(records.join("keeper.json")).expect("a record");
    let mut record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    record["identity"]["pid"] = json!(foreign.pid);
    record["identity"]["start_ticks"] = json!(foreign.start_ticks + 1);
    let write = |name: &str, record: &serde_json::Value| {
        std::fs::write(records.join(name), record.to_string()).expect("writable");
    };
    write("keeper.json", &record);
    write("ghost.json", &record);
    record["identity"]["start_ticks"] = json!(foreign.start_ticks);
    record["identity"]["boot_id"] = json!("00000000-0000-4000-8000-000000000000");
    record["boot_id"] = record["identity"]["boot_id"].clone();
    write("earlier.json", &record);
    stage.host.run();
    stage.host.until_confirmed();
    stage.host.ask(&["start", "keeper"]);
    let next = stage.host.process("keeper").expect("it runs");
    assert_ne!(next, foreign);
    stage.host.ask(&["stop", "keeper"]);
    assert!(!next.is_alive());
    assert!(foreign.is_alive());
    sleeper.kill().expect("ours");
    sleeper.wait().expect("ours");
}

#[test]
fn empty_groups_of_agents_that_are_no_more_are_removed_at_a_start() {
    if !is_root() {
        println!("SKIPPED: what is left of groups, because cgroups need root");
        return;
    }
    let mut stage = Stage::new("");
    stage.host.kill();
    let parents = control_group::folders(stage.host.cgroup());
    assert!(!parents.is_empty());
    for parent in &parents {
        std::fs::create_dir_all(parent.join("long-gone")).expect("a group");
    }
    stage.host.run();
    stage.host.until_confirmed();
    let left = || control_group::of_child(stage.host.cgroup(), "long-gone");
    wait::until_true("their removal", || left().is_empty());
    assert!(!control_group::of_child(stage.host.cgroup(), "worker").is_empty());
    stage.assert_undisturbed();
}

#[test]
fn while_an_old_version_is_being_stopped_it_is_the_one_that_is_told() {
    let stage = Stage::new("");
    let slow = |version: &str| {
        let bundle = Bundle::new("slow", version, &["--ignore-term", "--ready"]).notify();
        bundle.key("stop_timeout", json!(600)).build()
    };
    let version_and_pid = || {
        let told = stage.host.child("slow").expect("known");
        (told["version"].clone(), told["pid"].clone())
    };
    stage
        .fake
        .succeed(stage.install("one", "slow", &slow("1.0.0")));
    let old = stage.host.process("slow").expect("it runs");
    stage
        .fake
        .offer(stage.install("two", "slow", &slow("2.0.0")));
    wait::until_true("the stop of the old one", || {
        stage.host.child("slow").expect("known")["detail"] == "stopping"
    });
    assert_eq!(version_and_pid(), (json!("1.0.0"), json!(old.pid)));
    let status = stage.fake.next_status().body;
    let mut told = status["agents"].as_array().expect("agents").iter();
    let told = told.find(|agent| agent["name"] == "slow").expect("known");
    assert_eq!(told["version"], "1.0.0");
    // The same after a restart of ours, which takes over what runs.
    stage.host.ask(&["reexec"]);
    assert_eq!(version_and_pid(), (json!("1.0.0"), json!(old.pid)));
    old.signal(Signal::SIGKILL);
    let result = stage.fake.result("two");
    assert_eq!(result["errcode"], 0, "{result}");
    assert_eq!(version_and_pid().0, "2.0.0");
}
