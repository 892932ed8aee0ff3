//! Each job does what it says: install, upgrade, uninstall, start, stop,
//! restart, config of an agent; ordered of a real server.

use e2e::agent::{Agent, files_below, is_root};
use e2e::bundle::Bundle;
use e2e::process::Process;
use e2e::server::Server;
use e2e::{control_group, wait};
use serde_json::{Value, json};

/// The agent all of them are about.
const NAME: &str = "worker";
/// Writes down what it was given.
const FLAGS: [&str; 5] = ["--environment", "environment", "--lock", "alone", "--ready"];

fn worker(version: &str) -> Bundle {
    Bundle::new(NAME, version, &FLAGS).notify()
}

/// A server and a host on which version 1 runs, with its process.
fn installed(bundle: &Bundle) -> (Server, Agent, String, Process) {
    let server = Server::start();
    let host = Agent::of(&server);
    let sn = host.agentsn();
    let package = server.upload(&bundle.build());
    server.succeed(&sn, json!({ "action": "install", "package": package }));
    let process = host.process(NAME).expect("it runs");
    (server, host, sn, process)
}

/// Waits until the server knows the agent in this state.
fn reported(server: &Server, sn: &str, state: &str) -> Value {
    wait::until(&format!("a status that says {state}"), || {
        server
            .agent(sn, NAME)
            .filter(|agent| agent["status"] == state)
    })
}

fn named(action: &str) -> Value {
    json!({ "action": action, "name": NAME })
}

#[test]
fn an_upgrade_runs_the_new_version_and_nothing_of_the_old_one() {
    let (server, host, sn, old) = installed(&worker("1.0.0"));
    assert!(old.arguments().contains(&"1.0.0".to_owned()));
    let package = server.upload(&worker("1.1.0").build());
    let job = server.succeed(&sn, json!({ "action": "upgrade", "package": package }));
    assert_eq!(job["result"]["running"], "1.1.0");
    let new = host.process(NAME).expect("it runs");
    assert!(new.arguments().contains(&"1.1.0".to_owned()));
    assert!(!old.is_alive() && new != old);
    wait::until_true("a status with the new version", || {
        let agent = server.agent(&sn, NAME);
        agent.is_some_and(|agent| agent["version"] == "1.1.0" && agent["status"] == "running")
    });
    // Two never ran at once.
    assert_eq!(host.child_file(NAME, "alone.conflict"), None);
    assert_eq!(host.temporary_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_upgrade_of_a_stopped_agent_does_not_start_it() {
    let (server, host, sn, old) = installed(&worker("1.0.0"));
    server.succeed(&sn, named("stop"));
    let package = server.upload(&worker("1.1.0").build());
    server.succeed(&sn, json!({ "action": "upgrade", "package": package }));
    assert!(!old.is_alive());
    assert_eq!(host.process(NAME), None);
    server.succeed(&sn, named("start"));
    let new = host.process(NAME).expect("it runs");
    assert!(new.arguments().contains(&"1.1.0".to_owned()));
}

#[test]
fn an_uninstalled_agent_is_gone_and_reported_no_more() {
    let (server, host, sn, process) = installed(&worker("1.0.0"));
    server.succeed(&sn, named("uninstall"));
    assert!(!process.is_alive());
    wait::until_true("a status without it", || server.agent(&sn, NAME).is_none());
    assert_eq!(host.child(NAME), None);
    assert_eq!(
        control_group::of_child(host.cgroup(), NAME),
        Vec::<std::path::PathBuf>::new()
    );
    let bundles = files_below(&host.path("var/lib/bootagent/bundles"));
    assert_eq!(bundles, Vec::<std::path::PathBuf>::new());
    let runtime = files_below(&host.path("run/bootagent"));
    let left: Vec<_> = runtime.iter().filter(|path| path.ends_with(NAME)).collect();
    let own = host.path("run/bootagent/agents").join(NAME);
    assert!(left.iter().all(|path| **path == own), "{left:?}");
    assert_eq!(host.metafile()["children"], json!({}));
    // What it kept for itself is an operator's to throw away.
    assert!(host.child_file(NAME, "environment").is_some());

    // And it can come back.
    let package = server.upload(&worker("1.0.0").build());
    server.succeed(&sn, json!({ "action": "install", "package": package }));
    assert!(host.process(NAME).is_some_and(|again| again != process));
}

#[test]
fn stop_start_and_restart_do_so_and_what_is_wanted_survives_a_restart_of_bootagent() {
    let (server, mut host, sn, first) = installed(&worker("1.0.0"));
    server.succeed(&sn, named("stop"));
    assert!(!first.is_alive());
    let stopped = reported(&server, &sn, "stoped");
    assert_eq!(
        (&stopped["wanted"], &stopped["uptime"]),
        (&json!("stoped"), &json!(0))
    );
    // Again is no error: it is as it was ordered.
    server.succeed(&sn, named("stop"));

    host.stop();
    host.run();
    wait::until_true("the daemon to answer", || host.status().is_some());
    assert_eq!(host.process(NAME), None, "an operator stopped it");

    server.succeed(&sn, named("start"));
    let second = host.process(NAME).expect("it runs");
    assert_eq!(reported(&server, &sn, "running")["wanted"], "running");
    server.succeed(&sn, named("start"));
    assert_eq!(host.process(NAME), Some(second), "it ran already");

    server.succeed(&sn, named("restart"));
    let third = host.process(NAME).expect("it runs");
    assert!(third != second && !second.is_alive());
    assert_eq!(host.child_file(NAME, "alone.conflict"), None);
}

#[test]
fn a_stop_ends_everything_the_agent_started() {
    if !is_root() {
        println!("SKIPPED: the end of helpers, because without cgroups they are not known");
        return;
    }
    // The helper does not end when it is told to, and has what is left of a second.
    let helper = Bundle::new(NAME, "1.0.0", &["--helper", "--ready"])
        .notify()
        .key("stop_timeout", json!(1));
    let (server, host, sn, process) = installed(&helper);
    let pids = wait::until("its helper", || {
        Some(control_group::processes(host.cgroup(), NAME)).filter(|pids| pids.len() == 2)
    });
    let all: Vec<Process> = pids.into_iter().filter_map(Process::of).collect();
    assert!(all.contains(&process) && all.len() == 2);
    let message = server.fail(&sn, named("stop"), 5002);
    assert!(
        message.contains(NAME) && message.contains("killed"),
        "{message}"
    );
    assert!(all.iter().all(|process| !process.is_alive()));
}

#[test]
fn config_of_an_agent_replaces_envs_and_limits_and_starts_it_anew() {
    let bundle = worker("1.0.0")
        .key("envs", json!({ "FROM": "manifest", "KEPT": "no" }))
        .key(
            "limits",
            json!({ "CPU": "90%", "memory": "96M", "pids": 50 }),
        );
    let (server, host, sn, first) = installed(&bundle);
    let environment = |part: &str| {
        wait::until(&format!("{part} in its environment"), || {
            host.child_file(NAME, "environment")
                .filter(|all| all.lines().any(|line| line == part))
        })
    };
    environment("FROM=manifest");

    // The value of document 002, to the letter.
    let envs = json!({ "FROM": "job", "PATH": "/usr/bin;/usr/local/bin" });
    let limits = json!({ "CPU": "10%", "memory": "64M" });
    server.succeed(
        &sn,
        json!({ "action": "config", "name": NAME, "envs": envs, "limits": limits }),
    );
    let second = host.process(NAME).expect("it runs");
    assert!(second != first && !first.is_alive());
    let given = environment("FROM=job");
    assert!(
        given
            .lines()
            .any(|line| line == "PATH=/usr/bin;/usr/local/bin"),
        "{given}"
    );
    assert!(
        !given.contains("KEPT="),
        "the whole map is replaced: {given}"
    );
    assert!(
        !given.contains(&server.enrolment_token) && !given.contains("HOME="),
        "{given}"
    );
    if is_root() {
        let read = |files: &[&str]| control_group::value(host.cgroup(), NAME, files);
        let memory = read(&["memory.limit_in_bytes", "memory.max"]);
        assert_eq!(memory.as_deref(), Some("67108864"));
        let cpu = read(&["cpu.cfs_quota_us", "cpu.max"]).expect("a quota");
        let period = read(&["cpu.cfs_period_us", "cpu.max"]).expect("a period");
        let number =
            |text: &str, at: usize| text.split(' ').nth(at).and_then(|n| n.parse::<f64>().ok());
        let period = number(&period, 1)
            .or_else(|| number(&period, 0))
            .expect("a number");
        assert!(
            (number(&cpu, 0).expect("a number") / period - 0.1).abs() < 1e-9,
            "{cpu}"
        );
        assert_eq!(
            read(&["pids.max"]).as_deref(),
            Some("max"),
            "the whole map is replaced"
        );
    } else {
        println!("SKIPPED: the limits of a config job, because cgroups need root");
    }

    // Only one of the two: the other stays. Both stay over a restart.
    let envs = json!({ "FROM": "second job" });
    server.succeed(
        &sn,
        json!({ "action": "config", "name": NAME, "envs": envs }),
    );
    let given = environment("FROM=second job");
    assert!(!given.contains("PATH="), "{given}");
    let intent = &host.metafile()["children"][NAME];
    assert_eq!((&intent["envs"], &intent["limits"]), (&envs, &limits));
    assert_eq!(host.child_file(NAME, "alone.conflict"), None);
}
