//! An assignment over real hosts: who joins the group gets the version, who loses it
//! gets it again, a version that does not stay up is stopped and taken back, and a host
//! that was offline for its window waits until there is one.

use std::time::{SystemTime, UNIX_EPOCH};

use e2e::agent::Agent;
use e2e::bundle::Bundle;
use e2e::server::{Server, text};
use e2e::{http, wait};
use serde_json::{Value, json};

use super::stage::NAME;

fn assign(server: &Server, group: &str, version: &str, more: Value) -> String {
    let mut new = json!({ "group": group, "agent": NAME, "version": version });
    let Value::Object(more) = more else {
        unreachable!("{more} is an object")
    };
    new.as_object_mut().expect("an object").extend(more);
    let reply = server.post("/assignments", &new);
    text(&http::json("assignment", 201, &reply), "id")
}

fn join(server: &Server, group: &str, sn: &str) {
    let reply = server.post(&format!("/groups/{group}/hosts"), &json!({ "add": [sn] }));
    http::json("group", 200, &reply);
}

#[track_caller]
fn until_it_runs(server: &Server, sn: &str, version: &str) {
    wait::until_true(&format!("version {version} on {sn}"), || {
        let agent = server.agent(sn, NAME);
        agent.is_some_and(|agent| agent["version"] == version && agent["status"] == "running")
    });
}

#[test]
fn a_group_gets_its_version_and_keeps_it() {
    let server = Server::start();
    let hosts: Vec<Agent> = (0..2).map(|_| Agent::of(&server)).collect();
    let [one, other] = [hosts[0].agentsn(), hosts[1].agentsn()];
    for version in ["1.0.0", "2.0.0"] {
        server.upload(&Bundle::new(NAME, version, &["--ready"]).notify().build());
    }
    let fails = Bundle::new(NAME, "3.0.0", &["--ready", "--after", "300", "--exit", "3"]);
    server.upload(&fails.notify().build());
    let group = server.post("/groups", &json!({ "name": "databases" }));
    let group = text(&http::json("group", 201, &group), "id");
    join(&server, &group, &one);

    assign(&server, &group, "2.0.0", json!({ "watch": 0 }));
    until_it_runs(&server, &one, "2.0.0");
    assert_eq!(server.agent(&other, NAME), None, "it is not in the group");
    join(&server, &group, &other);
    until_it_runs(&server, &other, "2.0.0");

    // Somebody brings an older one by hand.
    let older = json!({ "action": "install", "name": NAME, "version": "1.0.0",
        "downgrade": true, "watch": 0 });
    server.succeed(&one, older);
    until_it_runs(&server, &one, "2.0.0");

    let plan = json!({ "parallel": 1, "fail_count": 0 });
    let terms = json!({ "priority": 1, "watch": 600, "plan": plan });
    let newer = assign(&server, &group, "3.0.0", terms);
    let stopped = wait::until("the end of the newer one", || {
        let shown = server.get(&format!("/assignments/{newer}"));
        Some(shown).filter(|shown| shown["state"] == "stopped")
    });
    assert_eq!(stopped["reason"], "fail_count", "{stopped}");
    let tried = server.get(&format!("/assignments/{newer}/hosts?state=rolled_back"));
    let tried = tried["items"].as_array().expect("items");
    assert_eq!(tried.len(), 1, "one at a time, and then no more: {tried:?}");
    for sn in [&one, &other] {
        until_it_runs(&server, sn, "2.0.0");
    }
}

/// A window of an hour that opens in three, by the clock of UTC.
fn later() -> Value {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let opens = since.expect("a time").as_secs() / 3600 + 3;
    let clock = |hour: u64| format!("{:02}:00", hour % 24);
    json!({ "zone": "UTC", "from": clock(opens), "until": clock(opens + 1) })
}

#[test]
fn a_host_that_was_offline_for_a_window_has_the_version_when_it_is_open() {
    let server = Server::start();
    let mut hosts: Vec<Agent> = (0..2).map(|_| Agent::of(&server)).collect();
    let [one, other] = [hosts[0].agentsn(), hosts[1].agentsn()];
    for version in ["1.0.0", "2.0.0"] {
        server.upload(&Bundle::new(NAME, version, &["--ready"]).notify().build());
    }
    let group = server.post("/groups", &json!({ "name": "databases" }));
    let group = text(&http::json("group", 201, &group), "id");
    join(&server, &group, &one);
    join(&server, &group, &other);
    let always = json!({ "zone": "UTC", "from": "00:00", "until": "24:00" });
    let plan = |window: &Value| json!({ "parallel": "all", "window": window });
    let open = json!({ "watch": 0, "plan": plan(&always) });
    let id = assign(&server, &group, "1.0.0", open);
    let path = format!("/assignments/{id}");
    until_it_runs(&server, &one, "1.0.0");
    until_it_runs(&server, &other, "1.0.0");

    // While it is open, the one that is there gets the next version.
    let mut away = hosts.pop().expect("two");
    assert!(away.stop().success());
    server.patch(&path, &json!({ "version": "2.0.0" }));
    until_it_runs(&server, &one, "2.0.0");

    // Closed, its order is taken back, and the one that comes back is told what it waits for.
    server.patch(&path, &json!({ "plan": plan(&later()) }));
    wait::until_true("its order is taken back", || {
        let list = server.get(&format!("{path}/hosts?state=waiting"));
        list["items"][0]["agentsn"] == json!(other)
    });
    away.run();
    let since = server.host(&other)["seen"].as_i64();
    wait::until_true("the host that was away", || {
        server.host(&other)["seen"].as_i64() > since
    });
    let waits = wait::until("what it waits for", || {
        let list = server.get(&format!("{path}/hosts?state=waiting"));
        let target = list["items"].get(0)?.clone();
        (target["waits_for"]["why"] == "window").then_some(target)
    });
    assert_eq!(waits["agentsn"], json!(other));
    assert!(waits["waits_for"]["opens"].is_i64(), "{waits}");
    let before = server.host(&other)["seen"].as_i64().expect("it was seen");
    wait::until_true("three more of its statuses", || {
        server.host(&other)["seen"].as_i64() > Some(before + 2500)
    });
    until_it_runs(&server, &other, "1.0.0");

    // Open again, it gets the version.
    server.patch(&path, &json!({ "plan": plan(&always) }));
    until_it_runs(&server, &other, "2.0.0");
}
