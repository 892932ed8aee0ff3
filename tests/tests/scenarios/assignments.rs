//! An assignment over real hosts: who joins the group gets the version, who loses it
//! gets it again, and a version that does not stay up is stopped and taken back.

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
