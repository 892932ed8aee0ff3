//! A new version that does not come up, or does not stay up while it is
//! watched, is taken back: the version before runs again with what it had, and
//! the one result says so.

use std::time::{Duration, Instant};

use e2e::agent::{Agent, is_root};
use e2e::bundle::Bundle;
use e2e::process::Process;
use e2e::server::Server;
use e2e::{control_group, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::stage::{NAME, Stage};

fn version(version: &str, flags: &[&str]) -> Bundle {
    Bundle::new(NAME, version, flags).notify()
}

/// A job that installs `bundle` and watches it for `seconds`.
fn watched(stage: &Stage, id: &str, bundle: &Bundle, seconds: u64) -> Value {
    let mut job = stage.install(id, NAME, &bundle.build());
    job["action"] = json!("upgrade");
    job["watch"] = json!(seconds);
    job
}

/// Waits until `version` is up; returns its process.
fn up(stage: &Stage, version: &str) -> Process {
    wait::until("the new version", || {
        let child = stage.host.child(NAME)?;
        let is_up = child["version"] == version && child.get("detail").is_none();
        is_up.then(|| stage.host.process(NAME))?
    })
}

/// Whether version 1 runs, and nothing of another one is left.
fn the_first_version_runs_again(stage: &Stage) -> Process {
    let process = stage.host.process(NAME).expect("it runs");
    assert!(process.arguments().contains(&"1.0.0".to_owned()));
    let child = stage.host.child(NAME).expect("it is known");
    assert_eq!(
        (&child["status"], &child["version"], &child["anomalies"]),
        (&json!("running"), &json!("1.0.0"), &json!(0))
    );
    let folder = stage.host.path("var/lib/bootagent/bundles").join(NAME);
    let entries = std::fs::read_dir(&folder).expect("its bundles").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["1.0.0", "current"]);
    process
}

#[test]
fn a_version_that_fails_gives_way_to_the_one_before_with_its_envs_and_limits() {
    let server = Server::start();
    let host = Agent::of(&server);
    let sn = host.agentsn();
    let flags = ["--environment", "environment", "--lock", "alone", "--ready"];
    let old = server.upload(&version("1.0.0", &flags).build());
    let (envs, limits) = (json!({ "MODE": "old" }), json!({ "memory": "64M" }));
    server.succeed(
        &sn,
        json!({ "action": "install", "package": old, "envs": envs, "limits": limits }),
    );
    let before = host.process(NAME).expect("it runs");

    let fails = [
        "--environment",
        "environment",
        "--lock",
        "alone",
        "--ready",
        "--print",
        "cannot open lan9",
        "--after",
        "300",
        "--exit",
        "3",
    ];
    let new = server.upload(&version("2.0.0", &fails).build());
    let id = server.order(
        &sn,
        json!({ "action": "upgrade", "package": new, "watch": 600,
            "envs": { "MODE": "new" }, "limits": { "memory": "96M" } }),
    );
    let job = server.finished(&id);
    assert_eq!(job["errcode"], 4006, "{job}");
    let result = &job["result"];
    assert_eq!(
        (&result["tried"], &result["running"]),
        (&json!("2.0.0"), &json!("1.0.0"))
    );
    let cause = e2e::server::text(result, "cause");
    assert!(
        cause.contains("exit code 3") && cause.contains("cannot open lan9"),
        "{cause}"
    );
    let message = e2e::server::text(&job, "message");
    assert!(
        message.contains("2.0.0") && message.contains("1.0.0 runs again"),
        "{message}"
    );

    let now = host.process(NAME).expect("it runs");
    assert!(now != before && now.arguments().contains(&"1.0.0".to_owned()));
    wait::until_true("the environment of the version before", || {
        let given = host.child_file(NAME, "environment");
        given.is_some_and(|given| given.contains("MODE=old\n"))
    });
    let intent = host.metafile()["children"][NAME].clone();
    assert_eq!((&intent["envs"], &intent["limits"]), (&envs, &limits));
    if is_root() {
        let files = ["memory.limit_in_bytes", "memory.max"];
        let memory = control_group::value(host.cgroup(), NAME, &files);
        assert_eq!(memory.as_deref(), Some("67108864"));
    } else {
        println!("SKIPPED: the limits put back, because cgroups need root");
    }
    wait::until_true("a status that says so", || {
        let agent = server.agent(&sn, NAME);
        agent.is_some_and(|agent| agent["version"] == "1.0.0" && agent["status"] == "running")
    });
    assert_eq!(host.child_file(NAME, "alone.conflict"), None);
    let crashes = server.events(&sn);
    let crashes: Vec<_> = crashes
        .iter()
        .filter(|e| e["category"] == "crash")
        .collect();
    assert_eq!(crashes.len(), 1, "{crashes:?}");
    assert_eq!(crashes[0]["version"], "2.0.0");
}

#[test]
fn every_unplanned_end_in_the_window_and_every_failed_start_rolls_back() {
    let stage = Stage::new("");
    let ready = |flags: &[&str]| version("2.0.0", &[&["--ready"], flags].concat());
    let mut rows = vec![
        (
            "polite",
            ready(&["--after", "200"]).key("exec", polite()),
            "normal end",
        ),
        ("signal", ready(&["--after", "200", "--abort"]), "signal 6"),
        (
            "code",
            ready(&["--after", "200", "--exit", "9"]),
            "exit code 9",
        ),
        ("early", version("2.0.0", &["--exit", "4"]), "exit code 4"),
        (
            "slow",
            version("2.0.0", &[]).key("start_timeout", json!(1)),
            "not ready in time",
        ),
        (
            "silent",
            ready(&[]).key("watchdog", json!(1)),
            "watchdog missed",
        ),
        (
            "exec",
            version("2.0.0", &[]).key("exec", json!(["/nonexistent/program"])),
            "/nonexistent/program",
        ),
    ];
    if is_root() {
        let hungry = ready(&["--after", "200", "--allocate", "200"]);
        let hungry = hungry.key("limits", json!({ "memory": "32M" }));
        rows.push(("memory", hungry, "memory limit"));
    } else {
        println!("SKIPPED: an end by a limit, because cgroups need root");
    }
    for (id, bundle, words) in &rows {
        stage.fake.offer(watched(&stage, id, bundle, 600));
        let result = stage.fake.result(id);
        assert_eq!(result["errcode"], 4006, "{id}: {result}");
        assert_eq!(
            (&result["tried"], &result["running"]),
            (&json!("2.0.0"), &json!("1.0.0")),
            "{id}"
        );
        let cause = e2e::server::text(&result, "cause");
        assert!(cause.contains(words), "{words:?} is not in {id}: {cause}");
        the_first_version_runs_again(&stage);
    }
}

/// Ends by itself as if all were well.
fn polite() -> Value {
    json!(["./run", "--ready", "--after", "200", "--exit", "0"])
}

#[test]
fn the_result_comes_after_the_window_and_nothing_waits_for_it() {
    let stage = Stage::new("");
    let begun = Instant::now();
    let job = watched(&stage, "good", &version("1.1.0", &["--ready"]), 10);
    stage.fake.offer(job);
    let new = up(&stage, "1.1.0");
    // Meanwhile the host reports, lists the job, and has no result for it.
    let listed = wait::until("a status that lists it", || {
        let statuses = stage.fake.statuses();
        statuses
            .into_iter()
            .rev()
            .find(|asked| asked.body["accepted"] == json!(["good"]))
    });
    assert_eq!(listed.body["jobs"], json!([]));
    let result = stage.fake.result("good");
    assert!(begun.elapsed() >= Duration::from_secs(10), "{result}");
    assert_eq!(
        (&result["errcode"], &result["tried"], &result["running"]),
        (&json!(0), &json!("1.1.0"), &json!("1.1.0"))
    );
    assert_eq!(result.get("cause"), None);
    assert_eq!(stage.host.process(NAME), Some(new));

    // What ends after its window is the restart policy's.
    new.signal(Signal::SIGKILL);
    wait::until_true("its end", || {
        stage
            .host
            .child(NAME)
            .is_some_and(|child| child["detail"] == "hold-off")
    });
    let child = stage.host.child(NAME).expect("it is known");
    assert_eq!(child["version"], "1.1.0");
}

#[test]
fn what_an_operator_does_in_the_window_is_not_held_against_the_version() {
    let stage = Stage::new("");
    let job = watched(&stage, "restarted", &version("1.1.0", &["--ready"]), 8);
    stage.fake.offer(job);
    let first = up(&stage, "1.1.0");
    stage.host.ask(&["restart", NAME]);
    let second = stage.host.process(NAME).expect("it runs");
    assert_ne!(first, second);
    let result = stage.fake.result("restarted");
    assert_eq!(
        (&result["errcode"], &result["running"]),
        (&json!(0), &json!("1.1.0")),
        "{result}"
    );
    assert_eq!(stage.host.process(NAME), Some(second));

    let job = watched(&stage, "stopped", &version("1.2.0", &["--ready"]), 8);
    stage.fake.offer(job);
    up(&stage, "1.2.0");
    stage.host.ask(&["stop", NAME]);
    let result = stage.fake.result("stopped");
    assert_eq!(result["errcode"], 0, "{result}");
    assert_eq!(
        (&result["tried"], result.get("running")),
        (&json!("1.2.0"), None)
    );
    assert_eq!(stage.host.process(NAME), None);
}

#[test]
fn a_restart_in_the_window_whose_start_fails_rolls_back() {
    let stage = Stage::new("");
    // Runs once: what it leaves in its state folder keeps it from starting.
    let once = version("2.0.0", &[]).key("exec", json!(["./once"])).file(
        "once",
        b"#!/bin/sh\n[ ! -e \"$STATE_DIRECTORY/ran\" ] || exit 5\n\
          : > \"$STATE_DIRECTORY/ran\"\nexec ./run --marker 2.0.0 --ready\n",
        0o755,
    );
    stage.fake.offer(watched(&stage, "once", &once, 600));
    up(&stage, "2.0.0");
    assert!(!stage.host.bootctl(&["restart", NAME]).status.success());
    let result = stage.fake.result("once");
    assert_eq!(
        (&result["errcode"], &result["running"]),
        (&json!(4006), &json!("1.0.0")),
        "{result}"
    );
    the_first_version_runs_again(&stage);
}

#[test]
fn a_crash_of_bootagent_in_the_window_hides_no_end_and_makes_none() {
    let mut stage = Stage::new("");
    // That it was up is in the journal, for whoever comes next.
    let noted = |stage: &Stage, step: &str| {
        let journal = stage.host.path("var/lib/bootagent/journal/journal");
        wait::until_true("the step in the journal", || {
            let text = std::fs::read_to_string(&journal).unwrap_or_default();
            text.contains(step)
        });
    };
    let good = watched(
        &stage,
        "good",
        &version("1.0.0", &["--lock", "alone", "--ready"]),
        5,
    );
    stage.fake.offer(good);
    let new = wait::until("the version again", || {
        let process = stage.host.process(NAME)?;
        (process != stage.running()).then_some(process)
    });
    noted(&stage, "up 1.0.0");
    stage.host.kill();
    stage.host.run();
    let result = stage.fake.result("good");
    assert_eq!(result["errcode"], 0, "{result}");
    assert_eq!(
        stage.host.process(NAME),
        Some(new),
        "it was not started again"
    );

    let bad = watched(&stage, "bad", &version("2.0.0", &["--ready"]), 600);
    stage.fake.offer(bad);
    let new = up(&stage, "2.0.0");
    noted(&stage, "up 2.0.0");
    stage.host.kill();
    new.signal(Signal::SIGKILL);
    wait::until_true("its end", || !new.is_alive());
    stage.host.run();
    let result = stage.fake.result("bad");
    assert_eq!(
        (&result["errcode"], &result["tried"], &result["running"]),
        (&json!(4006), &json!("2.0.0"), &json!("1.0.0")),
        "{result}"
    );
    let process = stage.host.process(NAME).expect("it runs");
    assert!(process.arguments().contains(&"1.0.0".to_owned()));
    assert_eq!(
        stage
            .fake
            .results("bad")
            .iter()
            .filter(|r| **r != result)
            .count(),
        0
    );
}

#[test]
fn the_same_job_again_is_answered_from_the_journal() {
    let stage = Stage::new("");
    let job = watched(&stage, "bad", &version("2.0.0", &["--exit", "4"]), 600);
    stage.fake.offer(job.clone());
    let result = stage.fake.result("bad");
    assert_eq!(result["errcode"], 4006);
    let running = the_first_version_runs_again(&stage);
    stage.fake.next_status();
    let before = stage.fake.results("bad").len();
    stage.fake.offer(job);
    wait::until_true("the answer", || stage.fake.results("bad").len() > before);
    let results = stage.fake.results("bad");
    assert!(results.iter().all(|again| *again == result), "{results:?}");
    assert_eq!(the_first_version_runs_again(&stage), running);
}

#[test]
fn a_version_before_that_does_not_come_up_either_is_said_too() {
    let stage = Stage::new("");
    stage
        .fake
        .offer(watched(&stage, "bad", &version("2.0.0", &["--ready"]), 600));
    let new = up(&stage, "2.0.0");
    // The version before needs this lock.
    let state = stage.host.path("var/lib/bootagent/agents").join(NAME);
    let file = std::fs::File::options()
        .append(true)
        .open(state.join("alone"));
    let lock = nix::fcntl::Flock::lock(
        file.expect("its lock"),
        nix::fcntl::FlockArg::LockExclusiveNonblock,
    );
    let lock = lock.expect("nobody holds it");
    new.signal(Signal::SIGKILL);
    let result = stage.fake.result("bad");
    assert_eq!(result["errcode"], 4006, "{result}");
    assert_eq!(
        (&result["tried"], result.get("running")),
        (&json!("2.0.0"), None)
    );
    let cause = e2e::server::text(&result, "cause");
    for words in ["signal 9", "1.0.0 is back", "exit code 77"] {
        assert!(cause.contains(words), "{words:?} is not in {cause}");
    }
    // It is the version before that the policy tries again.
    let child = stage.host.child(NAME).expect("it is known");
    assert_eq!(
        (&child["version"], &child["detail"]),
        (&json!("1.0.0"), &json!("hold-off"))
    );
    drop(lock);
    stage.host.ask(&["start", NAME]);
    the_first_version_runs_again(&stage);
}

#[test]
fn a_first_install_that_does_not_come_up_stays_under_the_restart_policy() {
    let stage = Stage::new("");
    let bundle = Bundle::new("other", "1.0.0", &["--exit", "4"]).notify();
    let mut job = stage.install("first", "other", &bundle.build());
    job["watch"] = json!(600);
    let message = stage.fake.fail(job, 5001);
    assert!(message.contains("exit code 4"), "{message}");
    let result = stage.fake.result("first");
    assert_eq!(
        (&result["tried"], result.get("running")),
        (&json!("1.0.0"), None)
    );
    let child = stage.host.child("other").expect("it stays");
    assert_eq!(child["detail"], "hold-off");
}

#[test]
fn a_check_sees_the_environment_the_version_will_run_in() {
    let stage = Stage::new("");
    let checked = |version_: &str| {
        version(version_, &["--environment", "environment", "--ready"])
            .key("check", json!(["./check"]))
            .file(
                "check",
                b"#!/bin/sh\necho \"MODE is $MODE\"\n[ \"$MODE\" = good ]\n",
                0o755,
            )
    };
    let mut job = watched(&stage, "with", &checked("1.1.0"), 0);
    job["envs"] = json!({ "MODE": "good" });
    stage.fake.succeed(job);
    // The second one gives no environment: that of the first stays.
    let result = stage
        .fake
        .succeed(watched(&stage, "without", &checked("1.2.0"), 0));
    assert_eq!(result["running"], "1.2.0");
    let mut job = watched(&stage, "wrong", &checked("1.3.0"), 0);
    job["envs"] = json!({ "MODE": "bad" });
    let message = stage.fake.fail(job, 4005);
    assert!(message.contains("MODE is bad"), "{message}");
    let child = stage.host.child(NAME).expect("it is known");
    assert_eq!(
        (&child["version"], &child["status"]),
        (&json!("1.2.0"), &json!("running"))
    );
}

#[test]
fn a_job_that_does_not_say_how_long_has_its_version_watched_all_the_same() {
    let stage = Stage::new("");
    let late = version("2.0.0", &["--ready", "--after", "3000", "--exit", "3"]);
    let mut job = watched(&stage, "late", &late, 0);
    job["watch"] = Value::Null;
    stage.fake.offer(job);
    let result = stage.fake.result("late");
    assert_eq!(result["errcode"], 4006, "{result}");
    the_first_version_runs_again(&stage);
}

/// What is left of a host after its power went: what it had on disk.
fn reboot(stage: &mut Stage) {
    stage.host.kill();
    for process in stage.host.recorded() {
        process.signal(Signal::SIGKILL);
        wait::until_true("its end", || !process.is_alive());
    }
    std::fs::remove_dir_all(stage.host.path("run/bootagent")).expect("it is in memory");
    stage.host.run();
}

#[test]
fn a_reboot_in_the_window_is_no_end_of_the_version_and_hides_none() {
    let mut stage = Stage::new("");
    let good = version("1.1.0", &["--lock", "alone", "--ready"]);
    stage.fake.offer(watched(&stage, "good", &good, 8));
    up(&stage, "1.1.0");
    reboot(&mut stage);
    let result = stage.fake.result("good");
    assert_eq!(
        (&result["errcode"], &result["running"]),
        (&json!(0), &json!("1.1.0")),
        "{result}"
    );
    up(&stage, "1.1.0");

    // Comes up once, and after the reboot never again.
    let once = version("2.0.0", &[]).key("exec", json!(["./once"])).file(
        "once",
        b"#!/bin/sh\n[ ! -e \"$STATE_DIRECTORY/ran\" ] || exit 5\n\
          : > \"$STATE_DIRECTORY/ran\"\nexec ./run --marker 2.0.0 --ready\n",
        0o755,
    );
    stage.fake.offer(watched(&stage, "once", &once, 600));
    up(&stage, "2.0.0");
    reboot(&mut stage);
    let result = stage.fake.result("once");
    assert_eq!(
        (&result["errcode"], &result["tried"], &result["running"]),
        (&json!(4006), &json!("2.0.0"), &json!("1.1.0")),
        "{result}"
    );
    let cause = e2e::server::text(&result, "cause");
    assert!(cause.contains("exit code 5"), "{cause}");
}
