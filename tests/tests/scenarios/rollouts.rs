//! Rollouts over real hosts: a version goes out in stages and back again, whoever is
//! killed meanwhile, one that does not stay up is stopped, taken back and told, and a
//! host that was offline for a window waits for the next one.

use std::time::{SystemTime, UNIX_EPOCH};

use e2e::agent::Agent;
use e2e::bundle::Bundle;
use e2e::server::{Server, text};
use e2e::{http, wait};
use serde_json::{Value, json};

use super::stage::NAME;

/// Begins a rollout of a version; returns its id.
fn begin(server: &Server, version: &str, watch: u64, plan: &Value) -> String {
    let order = json!({ "action": "install", "name": NAME, "version": version, "watch": watch });
    let rollout = json!({ "order": order, "targets": { "all": true }, "plan": plan });
    let reply = server.post("/rollouts", &rollout);
    text(&http::json("rollout", 201, &reply), "id")
}

fn show(server: &Server, id: &str) -> Value {
    server.get(&format!("/rollouts/{id}"))
}

fn until_end(server: &Server, id: &str) -> Value {
    wait::until("the end of the rollout", || {
        Some(show(server, id)).filter(|rollout| rollout["phase"] == "ended")
    })
}

fn targets(server: &Server, id: &str) -> Vec<Value> {
    let list = server.get(&format!("/rollouts/{id}/targets"));
    list["items"].as_array().cloned().unwrap_or_default()
}

fn in_state(server: &Server, id: &str, state: &str) -> Vec<Value> {
    let mut targets = targets(server, id);
    targets.retain(|target| target["state"] == state);
    targets
}

fn runs(server: &Server, sn: &str, version: &str) -> bool {
    let agent = server.agent(sn, NAME);
    agent.is_some_and(|agent| agent["version"] == version && agent["status"] == "running")
}

#[test]
fn a_version_goes_out_in_stages_and_back_though_the_server_and_a_host_are_killed() {
    let mut server = Server::start();
    let mut hosts: Vec<Agent> = (0..3).map(|_| Agent::of(&server)).collect();
    let sns: Vec<String> = hosts.iter().map(Agent::agentsn).collect();
    for version in ["1.0.0", "2.0.0"] {
        server.upload(&Bundle::new(NAME, version, &["--ready"]).notify().build());
    }
    let stages = json!([{ "upto": 1, "success": 100 }, { "upto": "all" }]);
    let first = begin(&server, "1.0.0", 0, &json!({ "stages": stages }));
    assert_eq!(
        until_end(&server, &first)["counts"],
        json!({ "succeeded": 3 })
    );

    // One host is away, and the server dies when the first one has the new version.
    let away = hosts.iter().position(|host| host.agentsn() == sns[2]);
    let away = away.expect("it is one of them");
    hosts[away].kill();
    let second = begin(&server, "2.0.0", 0, &json!({ "parallel": 3 }));
    wait::until_true("a host with the new version", || {
        !in_state(&server, &second, "succeeded").is_empty()
    });
    server.kill_and_start_again();
    wait::until_true("both hosts with the new version", || {
        in_state(&server, &second, "succeeded").len() == 2
    });
    let open = targets(&server, &second);
    let open = open
        .iter()
        .find(|target| target["agentsn"] == json!(sns[2]));
    let waits_for = &open.expect("the host that is away")["waits_for"]["why"];
    assert!(waits_for.is_string(), "{open:?}");
    assert_eq!(show(&server, &second)["phase"], "running");
    hosts[away].run();
    assert_eq!(
        until_end(&server, &second)["counts"],
        json!({ "succeeded": 3 })
    );
    wait::until_true("the new version everywhere", || {
        sns.iter().all(|sn| runs(&server, sn, "2.0.0"))
    });

    let plan = json!({ "plan": { "parallel": "all" } });
    let back = server.post(&format!("/rollouts/{second}/revert"), &plan);
    let back = text(&http::json("revert", 201, &back), "id");
    assert_eq!(
        until_end(&server, &back)["counts"],
        json!({ "succeeded": 3 })
    );
    wait::until_true("the version before everywhere", || {
        sns.iter().all(|sn| runs(&server, sn, "1.0.0"))
    });
}

#[test]
fn a_version_that_does_not_stay_up_is_stopped_taken_back_and_told() {
    let server = Server::start();
    let hosts: Vec<Agent> = (0..2).map(|_| Agent::of(&server)).collect();
    let sns: Vec<String> = hosts.iter().map(Agent::agentsn).collect();
    let good = Bundle::new(NAME, "1.0.0", &["--ready"]);
    let fails = Bundle::new(NAME, "2.0.0", &["--ready", "--after", "300", "--exit", "3"]);
    // This one lives as long as it is watched.
    let fails_later = ["--ready", "--after", "6000", "--exit", "3"];
    let fails_later = Bundle::new(NAME, "3.0.0", &fails_later);
    for bundle in [good, fails, fails_later] {
        server.upload(&bundle.notify().build());
    }
    let first = begin(&server, "1.0.0", 0, &json!({}));
    until_end(&server, &first);

    let one_by_one = json!({ "parallel": 1, "fail_count": 0 });
    let second = begin(&server, "2.0.0", 600, &one_by_one);
    let ended = until_end(&server, &second);
    assert_eq!(ended["reason"], "fail_count", "{ended}");
    assert_eq!(ended["counts"], json!({ "rolled_back": 1, "skipped": 1 }));
    let taken_back = in_state(&server, &second, "rolled_back").remove(0);
    assert_eq!(taken_back["errcode"], 4006);
    let message = text(&taken_back, "message");
    assert!(message.contains("1.0.0 runs again"), "{message}");
    wait::until_true("the version before everywhere", || {
        sns.iter().all(|sn| runs(&server, sn, "1.0.0"))
    });

    // The next one ends after its job was done well: the soak finds it.
    let stages = json!([{ "upto": 1, "success": 100, "soak": 900 }, { "upto": "all" }]);
    let soaking = json!({ "stages": stages, "fail_count": 0 });
    let third = begin(&server, "3.0.0", 1, &soaking);
    let ended = until_end(&server, &third);
    assert_eq!(ended["reason"], "fail_count", "{ended}");
    assert_eq!(ended["counts"], json!({ "crash_looped": 1, "skipped": 1 }));
}

/// Seconds since 1970, by the clock that servers and windows go by.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.expect("a time").as_secs()).expect("a time")
}

/// A window that is open all day but for one minute, which begins as soon as hosts had the
/// time that anything may take: so it closes and opens again while somebody waits for
/// it, whatever the hour, also over midnight. UTC sets no clock forward or back.
struct Window {
    /// Full minutes, in seconds since 1970.
    closes: i64,
    opens: i64,
}

impl Window {
    fn new() -> Self {
        let patience = i64::try_from(wait::PATIENCE.as_secs()).expect("a time");
        let closes = (now() + patience).div_euclid(60) * 60 + 60;
        let opens = closes + 60;
        Self { closes, opens }
    }

    fn terms(&self) -> Value {
        let clock = |second: i64| format!("{:02}:{:02}", second / 3600 % 24, second / 60 % 60);
        json!({ "zone": "UTC", "from": clock(self.opens), "until": clock(self.closes) })
    }
}

/// Waits for a time; nobody is asked meanwhile.
fn until_time(second: i64) {
    wait::within(wait::PATIENCE * 3, "the minute", || {
        (now() >= second).then_some(())
    });
}

#[test]
fn a_host_that_was_offline_for_the_window_has_the_version_in_the_next_one() {
    let server = Server::start();
    let mut hosts: Vec<Agent> = (0..3).map(|_| Agent::of(&server)).collect();
    for version in ["1.0.0", "2.0.0"] {
        server.upload(&Bundle::new(NAME, version, &["--ready"]).notify().build());
    }
    let first = begin(&server, "1.0.0", 0, &json!({ "parallel": "all" }));
    until_end(&server, &first);
    let mut away = hosts.pop().expect("three");
    let sn = away.agentsn();
    assert!(away.stop().success());

    // While it is open, the others get the version.
    let window = Window::new();
    let plan = json!({ "parallel": "all", "window": window.terms() });
    let second = begin(&server, "2.0.0", 0, &plan);
    wait::until_true("the new version where there is somebody", || {
        in_state(&server, &second, "succeeded").len() == 2
    });
    for host in &hosts {
        assert!(runs(&server, &host.agentsn(), "2.0.0"));
    }
    let of_it = || {
        let mut targets = targets(&server, &second);
        targets.retain(|target| target["agentsn"] == json!(sn));
        targets.remove(0)
    };
    assert!(now() < window.closes, "{:?}", of_it());

    // When it has closed, whoever comes back is told until when it waits.
    let waits = json!({ "why": "window", "opens": window.opens * 1000 });
    until_time(window.closes);
    wait::until_true("what it waits for", || {
        let target = of_it();
        target["state"] == "waiting" && target["waits_for"] == waits
    });
    away.run();
    let back = wait::until("the host that was away", || {
        let seen = server.host(&sn)["seen"].as_i64();
        seen.filter(|seen| *seen >= window.closes * 1000)
    });
    wait::until_true("three more of its statuses", || {
        server.host(&sn)["seen"].as_i64() > Some(back + 2500)
    });
    let target = of_it();
    assert_eq!(
        (&target["state"], &target["waits_for"]),
        (&json!("waiting"), &waits)
    );
    assert_eq!(show(&server, &second)["waits_for"], waits);
    assert!(runs(&server, &sn, "1.0.0"));

    // It opens again.
    until_time(window.opens);
    let ended = until_end(&server, &second);
    assert_eq!(ended["counts"], json!({ "succeeded": 3 }));
    wait::until_true("the new version on the last one, too", || {
        runs(&server, &sn, "2.0.0")
    });
    // What it was given, it was given once, and not a moment too early.
    let jobs = server.get(&format!("/jobs?host={sn}"));
    let jobs = jobs["items"].as_array().expect("items");
    let given = jobs.iter().filter(|job| job["version"] == "2.0.0");
    let given: Vec<i64> = given.filter_map(|job| job["sent"].as_i64()).collect();
    assert_eq!(given.len(), 1, "{jobs:?}");
    assert!(given[0] >= window.opens * 1000, "{jobs:?}");
}
