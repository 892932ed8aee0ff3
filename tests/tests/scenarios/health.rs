//! Promise: what an agent says of itself is heard, one that falls silent is
//! restarted, and nobody is condemned because BootAgent itself stood still.

use std::time::{Duration, Instant};

use e2e::agent::{Agent, Settings};
use e2e::bundle::Bundle;
use e2e::fake_server::FakeServer;
use e2e::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::stage::package_job;

const POLICY: &str = "[restart]\ncheck = 1\nholdoff = 3600\nstable = 3600\nmax_anomalies = 9\n";

fn scene() -> (FakeServer, Agent, TempDir) {
    let fake = FakeServer::start();
    let host = Agent::start(&Settings::new(&fake.address()).with(POLICY));
    host.until_confirmed();
    let files = tempfile::tempdir().expect("a temporary folder");
    (fake, host, files)
}

/// BootAgent stands still for so long; children do not.
fn stand_still(host: &Agent, seconds: u64) {
    host.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(seconds));
    host.signal(Signal::SIGCONT);
}

fn abnormal_ends(fake: &FakeServer) -> Vec<Value> {
    let events = fake.events().into_iter();
    events
        .filter(|event| event["category"] == "crash")
        .collect()
}

#[test]
fn an_agent_that_speaks_is_not_condemned_for_a_stall_of_ours_and_a_silent_one_is() {
    let (fake, host, files) = scene();
    // Long enough for a machine that is busy with other tests.
    let flags = [
        "--lock",
        "held",
        "--ready",
        "--status",
        "all is well",
        "--ping",
        "24000",
    ];
    let bundle = Bundle::new("speaks", "1.0.0", &flags)
        .notify()
        .key("watchdog", json!(8));
    fake.succeed(package_job(&files, "install", "speaks", &bundle.build()));
    let spoke = Instant::now();
    let child = host.process("speaks").expect("it runs");
    wait::until_true("what it says", || {
        host.child("speaks")
            .is_some_and(|child| child["message"] == "all is well")
    });
    assert!(host.ask(&["agents"]).contains("all is well"));
    stand_still(&host, 12);
    // It answers again, so the late tick was long ago.
    wait::until_true("an answer", || host.child("speaks").is_some());
    assert_eq!(host.process("speaks"), Some(child));
    assert_eq!(abnormal_ends(&fake), Vec::<Value>::new());
    // It falls silent at last, and only then is it condemned.
    let patience = wait::PATIENCE * 3;
    wait::within(patience, "the verdict", || {
        (!abnormal_ends(&fake).is_empty()).then_some(())
    });
    assert!(spoke.elapsed() > Duration::from_secs(24));
    let told = abnormal_ends(&fake)[0]["message"].to_string();
    assert!(told.contains("watchdog missed"), "{told}");
    wait::until_true("its end", || !child.is_alive());
}

#[test]
fn a_ready_that_came_while_we_stood_still_counts() {
    let (fake, host, files) = scene();
    let flags = ["--lock", "held", "--after", "1000", "--ready"];
    let bundle = Bundle::new("slow", "1.0.0", &flags)
        .notify()
        .key("start_timeout", json!(10));
    fake.offer(package_job(&files, "install", "slow", &bundle.build()));
    wait::until_true("its start", || host.child_file("slow", "held").is_some());
    stand_still(&host, 14);
    let done = fake.result("install");
    assert_eq!(done["errcode"], 0, "{done}");
    assert_eq!(abnormal_ends(&fake), Vec::<Value>::new());
}
