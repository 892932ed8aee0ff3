//! Assignments: made, looked at, changed and told, as operators and hosts see them.

use serde_json::{Value, json};

use crate::harness::{Server, TestHost, bundle, wait_for};

const ASSIGNMENTS: &str = "/api/v1/assignments";

fn id(made: &Value) -> String {
    made["id"].as_str().expect("an id").to_owned()
}

fn show(server: &Server, id: &str) -> Value {
    server
        .api("GET", &format!("{ASSIGNMENTS}/{id}"))
        .expect(200)
}

fn hosts(server: &Server, id: &str) -> Vec<Value> {
    let list = server.api("GET", &format!("{ASSIGNMENTS}/{id}/hosts"));
    list.expect(200)["items"].as_array().expect("items").clone()
}

fn tell(server: &Server, id: &str, word: &str) -> Value {
    let path = format!("{ASSIGNMENTS}/{id}/{word}");
    server.api("POST", &path).expect(200)
}

/// A status of a host with this version of the agent; returns the jobs it brings.
fn push(server: &Server, host: &TestHost, version: Option<&str>, results: Value) -> Vec<Value> {
    let agents: Vec<Value> = version
        .iter()
        .map(|version| json!({ "name": "a", "version": version, "status": "running" }))
        .collect();
    let reply = server.push(host, json!({ "agents": agents, "jobs": results }));
    reply["jobs"].as_array().cloned().unwrap_or_default()
}

/// Waits for the job of a host, and answers it in a status that says what it has then.
fn does(server: &Server, host: &TestHost, from: Option<&str>, to: &str, code: u16) -> Value {
    let job = wait_for("a job", || push(server, host, from, json!([])).pop());
    let result = json!([{ "id": job["id"], "errcode": code, "message": "" }]);
    push(server, host, Some(to), result);
    job
}

fn group(server: &Server, name: &str, hosts: &[&TestHost]) -> String {
    let made = server.api("POST", "/api/v1/groups");
    let id = id(&made.json(&json!({ "name": name })).expect(201));
    let add: Vec<&str> = hosts.iter().map(|host| host.agentsn.as_str()).collect();
    server
        .api("POST", &format!("/api/v1/groups/{id}/hosts"))
        .json(&json!({ "add": add }))
        .expect(200);
    id
}

#[test]
fn hosts_of_a_group_get_the_assigned_version_and_get_it_again() {
    let server = Server::start();
    let package = server.upload("", &bundle("a", "2.0", b"two"));
    let [one, other] = ["db-1", "db-2"].map(|name| server.register(name));
    push(&server, &one, Some("1.0"), json!([]));
    push(&server, &other, Some("2.0"), json!([]));
    let group = group(&server, "databases", &[&one, &other]);
    let new = json!({ "group": group, "agent": "a", "version": "2.0" });
    let preview = server.api("POST", &format!("{ASSIGNMENTS}/preview"));
    let preview = preview.json(&new).expect(200);
    let expected = json!({ "hosts": 2, "taken": 0, "right": 1, "unheard": 0, "busy": 0,
        "without_file": 0, "targets": 1 });
    assert_eq!(preview, expected);
    let create = || {
        server
            .api("POST", ASSIGNMENTS)
            .header("idempotency-key", "k")
            .json(&new)
    };
    let made = create().expect(201);
    assert_eq!(
        (&made["name"], &made["state"]),
        (&json!("a 2.0"), &json!("running"))
    );
    let id = id(&made);
    assert_eq!(create().expect(201)["id"], made["id"]);
    let job = does(&server, &one, Some("1.0"), "2.0", 0);
    assert_eq!(
        (&job["action"], &job["downgrade"]),
        (&json!("install"), &json!(true))
    );
    let right = wait_for("both right", || {
        let now = show(&server, &id);
        (now["right"] == 2 && now["counts"]["succeeded"] == 1).then_some(now)
    });
    assert_eq!((&right["hosts"], &right["taken"]), (&json!(2), &json!(0)));
    // By hand, somebody brings the old version back.
    push(&server, &one, Some("1.0"), json!([]));
    does(&server, &one, Some("1.0"), "2.0", 0);
    wait_for("a second success", || {
        let hosts = hosts(&server, &id);
        (hosts[0]["state"] == "succeeded" && hosts[0]["attempts"] == 2).then_some(())
    });
    let path = format!("{ASSIGNMENTS}?host={}", one.agentsn);
    let of_host = server.api("GET", &path).expect(200);
    assert_eq!(
        (&of_host["items"][0]["id"], &of_host["items"][0]["wins"]),
        (&made["id"], &json!(true))
    );
    // What it needs stays while it is there.
    let package = format!("/api/v1/packages/{}", self::id(&package));
    assert!(server.api("DELETE", &package).problem(409).contains(&id));
    let groups = format!("/api/v1/groups/{group}");
    let refused = server.api("DELETE", &groups).problem(409);
    assert!(refused.contains("a 2.0"), "{refused}");
    let path = format!("{ASSIGNMENTS}/{id}");
    server.api("DELETE", &path).expect(204);
    server.api("GET", &path).problem(404);
    wait_for("the package is free", || {
        (server.api("DELETE", &package).status() == 204).then_some(())
    });
}

#[test]
fn an_assignment_stops_says_why_and_goes_on() {
    let server = Server::start();
    server.upload("", &bundle("a", "2.0", b"two"));
    server.upload("", &bundle("a", "3.0", b"three"));
    let host = server.register("db-1");
    push(&server, &host, None, json!([]));
    let group = group(&server, "databases", &[&host]);
    let new = json!({ "group": group, "agent": "a", "version": "2.0", "priority": 3 });
    let made = server.api("POST", ASSIGNMENTS).json(&new).expect(201);
    let id = id(&made);
    does(&server, &host, None, "1.0", 4006);
    let stopped = wait_for("it stops", || {
        let now = show(&server, &id);
        (now["state"] == "stopped").then_some(now)
    });
    assert_eq!(stopped["reason"], "fail_count");
    let tried = &hosts(&server, &id)[0];
    assert_eq!(tried["state"], "rolled_back");
    assert_eq!(tried["waits_for"]["why"], "back_off");
    let again = tell(&server, &id, "retry");
    assert_eq!(again["state"], "running");
    does(&server, &host, Some("1.0"), "2.0", 0);
    let paused = tell(&server, &id, "pause");
    assert_eq!(
        (&paused["state"], &paused["reason"]),
        (&json!("paused"), &json!("operator"))
    );
    let path = format!("{ASSIGNMENTS}/{id}");
    let refused = server.api("POST", &format!("{path}/pause")).problem(409);
    assert!(refused.contains("assignment is paused"), "{refused}");
    // A rollout of another version is told of it, unless it is paused or supersedes it.
    let rollout = |contention: &str| {
        let order = json!({ "action": "upgrade", "name": "a", "version": "3.0" });
        let targets = json!({ "hosts": [host.agentsn] });
        json!({ "order": order, "targets": targets, "plan": { "contention": contention } })
    };
    let preview = |contention: &str| {
        server
            .api("POST", "/api/v1/rollouts/preview")
            .json(&rollout(contention))
    };
    preview("wait").expect(200);
    tell(&server, &id, "resume");
    assert!(preview("wait").problem(409).contains(&id));
    let refused = server
        .api("POST", "/api/v1/rollouts")
        .json(&rollout("wait"));
    assert!(refused.problem(409).contains(&id));
    preview("supersede").expect(200);
    // Another version is a change of what one has seen.
    let change = json!({ "version": "3.0", "plan": { "fail_count": 2 } });
    server.api("PATCH", &path).json(&change).problem(428);
    let stale = server.api("PATCH", &path).header("if-match", "\"0\"");
    stale.json(&change).problem(412);
    let revision = show(&server, &id)["revision"].to_string();
    let changed = server
        .api("PATCH", &path)
        .header("if-match", &format!("\"{revision}\""))
        .json(&change)
        .expect(200);
    assert_eq!(changed["version"], "3.0");
    assert_eq!(changed["plan"]["fail_count"], 2);
    assert_eq!(changed["priority"], 3);
    does(&server, &host, Some("2.0"), "3.0", 0);
}

#[test]
fn what_cannot_be_assigned_is_refused_with_its_remedy() {
    let server = Server::start();
    server.upload("", &bundle("a", "2.0", b"two"));
    let group = group(&server, "databases", &[]);
    let good = json!({ "group": group, "agent": "a", "version": "2.0" });
    let refused = |field: &str, value: Value, words: &str| {
        let mut body = good.clone();
        body[field] = value;
        let problem = server.api("POST", ASSIGNMENTS).json(&body).problem(422);
        assert!(problem.contains(words), "{problem}");
    };
    refused("group", json!("nobody"), "no such group");
    refused("agent", json!("bootagent"), "by a rollout");
    refused("agent", json!("../x"), "agent");
    refused("version", json!("9.9"), "no such package");
    refused("priority", json!(1_000_001), "priority");
    refused("name", json!(""), "name");
    refused("plan", json!({ "contention": "supersede" }), "contention");
    let stages = json!([{ "upto": "20%" }, { "upto": "10%" }, { "upto": "all" }]);
    refused("plan", json!({ "stages": stages }), "number 2 is not");
    refused("plan", json!({ "fail_rate": 100 }), "fail_rate");
    server
        .api("GET", &format!("{ASSIGNMENTS}/nobody"))
        .problem(404);
    let list = server.api("GET", ASSIGNMENTS).expect(200);
    assert_eq!(list["items"], json!([]));
}

#[test]
fn a_stage_of_percent_is_of_the_hosts_the_group_has_when_it_begins() {
    let server = Server::start();
    server.upload("", &bundle("a", "2.0", b"two"));
    let ours: Vec<TestHost> = (0..4)
        .map(|n| server.register(&format!("db-{n}")))
        .collect();
    for host in &ours {
        push(&server, host, Some("1.0"), json!([]));
    }
    let group = group(&server, "databases", &ours.iter().collect::<Vec<_>>());
    let stages = json!([{ "upto": "50%", "success": 100 }, { "upto": "all" }]);
    let plan = json!({ "parallel": 10, "stages": stages });
    let new = json!({ "group": group, "agent": "a", "version": "2.0", "plan": plan });
    let made = server.api("POST", ASSIGNMENTS).json(&new).expect(201);
    let first = |made: &Value| made["plan"]["stages"][0].clone();
    assert_eq!(
        first(&made),
        json!({ "upto": "50%", "hosts": 2, "success": 100, "soak": 0 })
    );
    let id = id(&made);
    let gated = wait_for("those who wait for the gate", || {
        let all = hosts(&server, &id);
        let state = |state: &str| all.iter().filter(|it| it["state"] == state).count();
        let is_so = state("ordered") == 2 && state("waiting") == 2;
        is_so.then(|| all.into_iter().find(|it| it["state"] == "waiting"))
    });
    let gated = gated.expect("one of them");
    assert_eq!(gated["waits_for"]["why"], "stage_gate", "{gated}");
    // Who comes does not move the gate; what begins anew begins with who is there then.
    let more: Vec<String> = (4..6)
        .map(|n| server.register(&format!("db-{n}")).agentsn)
        .collect();
    server
        .api("POST", &format!("/api/v1/groups/{group}/hosts"))
        .json(&json!({ "add": more }))
        .expect(200);
    let path = format!("{ASSIGNMENTS}/{id}");
    let change = |body: Value| {
        let call = server.api("PATCH", &path).header("if-match", "*");
        first(&call.json(&body).expect(200))
    };
    assert_eq!(change(json!({ "priority": 3 }))["hosts"], 2);
    assert_eq!(change(json!({ "watch": 61 }))["hosts"], 3);
    // A plan as it was read may be sent again, and what it says of hosts is not taken.
    let mut plan = show(&server, &id)["plan"].clone();
    plan["stages"][0]["hosts"] = json!(1);
    assert_eq!(change(json!({ "plan": plan }))["hosts"], 3);
    plan["stages"][0]["upto"] = json!(1);
    assert_eq!(
        change(json!({ "plan": plan })),
        json!({ "upto": 1, "success": 100, "soak": 0 })
    );
}

#[test]
fn a_file_that_comes_later_is_for_who_waits_for_it() {
    let server = Server::start();
    let plan9 = "name=a&version=2.0&os=plan9&arch=x86_64";
    server.upload(plan9, &bundle("a", "2.0", b"of plan9"));
    let host = server.register("db-1");
    push(&server, &host, None, json!([]));
    let group = group(&server, "databases", &[&host]);
    let new = json!({ "group": group, "agent": "a", "version": "2.0" });
    let id = id(&server.api("POST", ASSIGNMENTS).json(&new).expect(201));
    wait_for("no file", || {
        let hosts = hosts(&server, &id);
        (hosts.first()?["waits_for"]["why"] == "no_file").then_some(())
    });
    server.upload("os=linux", &bundle("a", "2.0", b"of linux"));
    does(&server, &host, None, "2.0", 0);
}
