//! The main job: a server orders an install, BootAgent installs, a real child
//! runs and is reported.

use std::time::Duration;

use e2e::agent::{Agent, is_root};
use e2e::bundle::Bundle;
use e2e::server::Server;
use e2e::{binaries, control_group, wait};
use serde_json::{Value, json};

/// From the order to the status that says so; a step of the push included.
const SECONDS: Duration = Duration::from_secs(10);

/// The bundle of the real sub-agent, around the program as it was built.
fn flux_push() -> Vec<u8> {
    let program = std::fs::read(binaries::flux_push()).expect("flux-push was built");
    let manifest = json!({
        "name": "flux-push", "version": "0.1.0-1", "type": "notify", "start_timeout": 20,
        "exec": ["./flux-push"], "check": ["./flux-push", "-T"],
        "limits": { "CPU": "50%", "memory": "64M" },
    });
    Bundle::of_manifest(manifest)
        .file("flux-push", &program, 0o755)
        .build()
}

#[test]
fn an_ordered_install_ends_in_a_running_child_that_is_reported() {
    let server = Server::start();
    let host = Agent::of(&server);
    let sn = host.agentsn();
    let package = server.upload(&flux_push());

    let job = server.order(&sn, json!({ "action": "install", "package": package }));
    let running = wait::within(SECONDS, "a status that says running", || {
        server
            .agent(&sn, "flux-push")
            .filter(|agent| agent["status"] == "running")
    });
    assert_eq!(running["version"], "0.1.0-1");
    assert_eq!(running["wanted"], "running");
    let done = server.finished(&job);
    assert_eq!(
        (&done["errcode"], &done["message"]),
        (&json!(0), &json!("success"))
    );
    assert_eq!(done["state"], "succeeded");
    assert_eq!(done["result"]["running"], "0.1.0-1");

    // Its own word for how it is: it said READY=1 and STATUS=.
    let running = wait::until("its STATUS=", || {
        server
            .agent(&sn, "flux-push")
            .filter(|agent| agent["message"].is_string())
    });
    let pid = running["pid"].as_i64().expect("a pid");
    let process = host.process("flux-push").expect("it runs");
    assert_eq!(i64::from(process.pid), pid);
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).expect("our own process");
    assert!(program.starts_with(host.root()), "{}", program.display());

    if is_root() {
        limits_are_in_force(&host, &running);
    } else {
        println!("SKIPPED: the limits of flux-push, because cgroups need root");
    }

    let table = host.ask(&["status"]);
    for word in [
        "confirmed",
        &server.address.to_string(),
        &sn,
        "AGENT",
        "flux-push",
        "0.1.0-1",
        "running",
    ] {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
    assert!(
        table
            .lines()
            .any(|line| line.contains("flux-push") && line.contains(&pid.to_string()))
    );
    let jobs = host.ask(&["jobs"]);
    assert!(
        jobs.lines()
            .any(|line| line.contains(&job) && line.contains("success")),
        "{jobs}"
    );
}

fn limits_are_in_force(host: &Agent, running: &Value) {
    let limits = &running["limits"];
    let by = limits["enforced_by"].as_str().unwrap_or_default();
    assert!(["cgroup1", "cgroup2"].contains(&by), "{running}");
    assert_eq!(
        (&limits["CPU"], &limits["memory"]),
        (&json!("50%"), &json!("64M"))
    );
    assert!(
        limits["memory_used"].as_u64().is_some_and(|used| used > 0),
        "{running}"
    );
    // Not only said: the kernel has it.
    let memory = ["memory.limit_in_bytes", "memory.max"];
    let memory = control_group::value(host.cgroup(), "flux-push", &memory);
    assert_eq!(memory.as_deref(), Some("67108864"));
    let pid = running["pid"]
        .as_i64()
        .and_then(|pid| i32::try_from(pid).ok());
    assert_eq!(
        control_group::processes(host.cgroup(), "flux-push"),
        Vec::from_iter(pid)
    );
}

#[test]
fn a_host_that_was_told_nothing_has_no_agents_and_says_so() {
    let server = Server::start();
    let host = Agent::of(&server);
    let sn = host.agentsn();
    let seen = server.host(&sn);
    assert_eq!(seen["agents"], json!([]));
    assert_eq!(seen["step"], 1);
    let table = host.ask(&["agents"]);
    assert_eq!(table.lines().count(), 1, "only the head: {table}");
}
