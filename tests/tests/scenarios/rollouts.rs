//! Rollouts over real hosts: a version goes out in stages and back again, whoever is
//! killed meanwhile, and one that does not stay up is stopped, taken back and told.

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
