//! What a host is promised: it is let in once, heard, and given its orders
//! until it has answered them.

use crate::harness::{Reply, Server, TestHost, wait_for};
use bootagent_protocol::{Job, StatusReply};
use serde_json::{Value, json};

const AGENTSN: &str = "bfdcc18c-b6b9-4725-9c47-37fd93dba5b6";

fn register(server: &Server, token: &str, machine_id: &str) -> Reply {
    let request = json!({ "hostname": "h1", "agentsn": AGENTSN, "machine_id": machine_id });
    server
        .call("POST", "/agent/register")
        .bearer(token)
        .json(&request)
        .send()
}

fn ids(reply: &Value) -> Vec<&str> {
    let jobs = reply["jobs"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    jobs.iter()
        .map(|job| job["id"].as_str().expect("an id"))
        .collect()
}

#[test]
fn the_registration_of_document_002_is_answered_with_identity_tags_and_secret() {
    let server = Server::start();
    let order = json!({ "tags": "svc=ecs,cmpt=DB", "uses": 1 });
    let token = server
        .api("POST", "/api/v1/enrolment-tokens")
        .json(&order)
        .expect(201);
    let request = json!({ "hostname": "127.0.0.1", "agentsn": AGENTSN });
    let reply = server
        .call("POST", "/agent/register")
        .bearer(token["token"].as_str().expect("a token"))
        .json(&request)
        .expect(200);
    assert_eq!(reply["status"], 0);
    assert_eq!(reply["agentsn"], AGENTSN);
    assert_eq!(reply["tags"], "cmpt=DB,svc=ecs");
    let host = TestHost {
        agentsn: AGENTSN.into(),
        token: reply["token"].as_str().expect("a secret").into(),
    };
    assert_eq!(server.push(&host, json!({})), json!({ "status": 0 }));
}

/// The golden messages, document 002's among them, sent as they stand; and what
/// comes back is what hosts read.
#[test]
fn the_golden_messages_are_understood_and_answered_in_kind() {
    let server = Server::start();
    let golden = |name: &str| -> Value {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/golden");
        let text = std::fs::read_to_string(format!("{folder}/{name}.json")).expect("the message");
        serde_json::from_str(&text).expect("JSON")
    };
    for suffix in ["", "_002"] {
        let request = golden(&format!("register_request{suffix}"));
        let host = server.register_as(request);
        let order = json!({
            "action": "install", "name": "BasicAgent", "hosts": [host.agentsn],
            "url": "ftp://server:21/BasicAgent/BasicAgent-0.1.0-0.x86_64.rpm", "expires_in": 60,
            "limits": { "CPU": "10%", "memory": "20M" }, "envs": { "PATH": "/usr/bin" },
        });
        let ordered = server.order(order);
        let mut status = golden(&format!("status_request{suffix}"));
        status["agentsn"] = json!(host.agentsn);
        let reply = server
            .call("POST", "/agent/status")
            .bearer(&host.token)
            .json(&status)
            .expect(200);
        let reply: StatusReply = serde_json::from_value(reply).expect("a reply");
        let jobs: Vec<Job> = reply
            .jobs
            .iter()
            .map(|job| Job::parse(job).expect("a job"))
            .collect();
        assert_eq!(
            jobs.iter().map(|job| &job.id).collect::<Vec<_>>(),
            ordered.iter().collect::<Vec<_>>()
        );
        let seen = server
            .api("GET", &format!("/api/v1/hosts/{}", host.agentsn))
            .expect(200);
        assert_eq!(seen["hostname"], status["hostname"]);
        assert_eq!(
            seen["agents"].as_array().map(Vec::len),
            status["agents"].as_array().map(Vec::len)
        );
        assert_eq!(seen["agents"][0]["status"], status["agents"][0]["status"]);
    }
}

#[test]
fn the_same_machine_keeps_its_identity_and_another_one_gets_its_own() {
    let server = Server::start();
    let first = register(&server, &server.enrolment_token, "m1").json();
    let again = register(&server, &server.enrolment_token, "m1").json();
    assert_eq!(again["agentsn"], AGENTSN);
    assert_ne!(again["token"], first["token"]);
    let other = register(&server, &server.enrolment_token, "m2").json();
    assert_ne!(other["agentsn"], AGENTSN);
    let hosts = server.api("GET", "/api/v1/hosts").expect(200);
    assert_eq!(hosts["items"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_old_secret_holds_until_the_new_one_is_used() {
    let server = Server::start();
    let secret = |reply: Reply| TestHost {
        agentsn: AGENTSN.into(),
        token: reply.json()["token"].as_str().expect("a secret").to_owned(),
    };
    let old = secret(register(&server, &server.enrolment_token, "m1"));
    server.push(&old, json!({}));
    // Authorised by its own secret, as after `register: true`.
    let new = secret(register(&server, &old.token, "m1"));
    server.push(&old, json!({}));
    server.push(&new, json!({}));
    server
        .call("POST", "/agent/status")
        .bearer(&old.token)
        .json(&old.status(json!({})))
        .problem(401);
}

#[test]
fn a_secret_speaks_for_its_own_host_alone() {
    let server = Server::start();
    let (one, two) = (server.register("one"), server.register("two"));
    let lie = two.status(json!({}));
    server
        .call("POST", "/agent/status")
        .bearer(&one.token)
        .json(&lie)
        .problem(401);
    let request = json!({ "hostname": "x", "agentsn": two.agentsn });
    server
        .call("POST", "/agent/register")
        .bearer(&one.token)
        .json(&request)
        .problem(401);
}

#[test]
fn a_token_that_is_used_up_expired_or_revoked_lets_nobody_in() {
    let server = Server::start();
    let make = |order: Value| {
        server
            .api("POST", "/api/v1/enrolment-tokens")
            .json(&order)
            .expect(201)
    };
    let text = |token: &Value| token["token"].as_str().expect("a token").to_owned();

    let once = make(json!({ "uses": 1 }));
    assert_eq!(register(&server, &text(&once), "m1").status, 200);
    let other = json!({ "hostname": "h2", "agentsn": "33c5b8b4-5a2c-43c5-ab90-96721451b4ec" });
    let detail = server
        .call("POST", "/agent/register")
        .bearer(&text(&once))
        .json(&other)
        .problem(401);
    assert!(detail.contains("no uses left"), "{detail}");
    // The host it brought in may ask again: its reply may have been lost.
    assert_eq!(register(&server, &text(&once), "m1").status, 200);

    let revoked = make(json!({}));
    let path = format!(
        "/api/v1/enrolment-tokens/{}",
        revoked["id"].as_str().expect("an id")
    );
    server.api("DELETE", &path).expect(204);
    assert_eq!(register(&server, &text(&revoked), "m1").status, 401);

    let short = make(json!({ "expires_in": 1 }));
    wait_for("the expiry", || {
        (register(&server, &text(&short), "m1").status == 401).then_some(())
    });
}

#[test]
fn of_many_at_once_a_token_lets_in_as_many_as_it_has_uses_and_refuses_the_others() {
    let server = Server::start();
    let terms = json!({ "name": "three", "uses": 3 });
    let made = server.api("POST", "/api/v1/enrolment-tokens").json(&terms);
    let made = made.expect(201);
    let token = made["token"].as_str().expect("a token");
    let register = |number: u32| {
        let host = json!({
            "hostname": format!("h{number}"), "agentsn": uuid::Uuid::new_v4().to_string(),
        });
        let call = server.call("POST", "/agent/register").bearer(token);
        call.json(&host).send().status
    };
    let mut statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..16).map(|n| scope.spawn(move || register(n))).collect();
        let all = all.into_iter();
        all.map(|one| one.join().expect("an answer")).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [[200; 3].as_slice(), &[401; 13]].concat());
}

#[test]
fn an_order_is_given_until_its_result_comes() {
    let server = Server::start();
    let host = server.register("h1");
    let other = server.register("h2");
    let order = |action: &str| {
        let order = json!({ "action": action, "name": "flux-push", "hosts": [host.agentsn] });
        server.order(order).remove(0)
    };
    let (first, second) = (order("stop"), order("start"));
    let path = format!("/api/v1/jobs/{first}");
    assert_eq!(server.api("GET", &path).expect(200)["state"], "waiting");

    // In order, each time, and not to others.
    for _ in 0..2 {
        let reply = server.push(&host, json!({}));
        assert_eq!(ids(&reply), [first.as_str(), second.as_str()]);
        assert_eq!(reply["jobs"][0]["action"], "stop");
    }
    assert_eq!(ids(&server.push(&other, json!({}))), [""; 0]);
    assert_eq!(server.api("GET", &path).expect(200)["state"], "sent");

    // What the host says it has is not told again.
    let reply = server.push(&host, json!({ "accepted": [first] }));
    assert_eq!(ids(&reply), [second.as_str()]);
    assert_eq!(server.api("GET", &path).expect(200)["state"], "accepted");
    // Unless it forgot.
    assert_eq!(
        ids(&server.push(&host, json!({}))),
        [first.as_str(), second.as_str()]
    );

    let result = json!({ "id": first, "errcode": 5002, "message": "killed", "running": "0.1.0" });
    let reply = server.push(&host, json!({ "jobs": [result] }));
    assert_eq!(ids(&reply), [second.as_str()]);
    let job = server.api("GET", &path).expect(200);
    assert_eq!(
        (&job["state"], &job["errcode"]),
        (&json!("failed"), &json!(5002))
    );
    assert_eq!(job["result"]["running"], "0.1.0");
}

#[test]
fn the_first_result_wins_and_foreign_ones_are_ignored() {
    let server = Server::start();
    let (host, other) = (server.register("h1"), server.register("h2"));
    let order = json!({ "action": "stop", "name": "a", "hosts": [host.agentsn] });
    let id = server.order(order).remove(0);
    let result =
        |errcode: u16| json!({ "jobs": [{ "id": id, "errcode": errcode, "message": "" }] });
    let unknown = json!({ "jobs": [{ "id": "no-such-job", "errcode": 0, "message": "" }] });
    server.push(&other, result(0));
    server.push(&host, unknown);
    let path = format!("/api/v1/jobs/{id}");
    assert_eq!(
        server.api("GET", &path).expect(200)["finished"],
        Value::Null
    );
    server.push(&host, result(5001));
    server.push(&host, result(0));
    assert_eq!(server.api("GET", &path).expect(200)["errcode"], 5001);
    let results = server.api("GET", "/api/v1/job-results").expect(200);
    assert_eq!(results["items"].as_array().map(Vec::len), Some(1));
    assert!(
        server.log().contains("a result was ignored"),
        "{}",
        server.log()
    );
}

#[test]
fn what_a_host_reports_is_what_operators_see() {
    let server = Server::start();
    let host = server.register("h1");
    let agent = json!({
        "name": "flux-push", "version": "0.1.0-1", "status": "running", "uptime": 123,
        "wanted": "running", "anomalies": 0, "message": "last point 12:00", "pid": 77,
        "limits": { "enforced_by": "cgroup2", "CPU": "10%", "memory_used": 1234 },
    });
    let more = json!({ "agents": [agent], "notices": ["no cgroup"], "boot_id": "b1", "step": 60 });
    server.push(&host, more);
    let path = format!("/api/v1/hosts/{}", host.agentsn);
    let seen = server.api("GET", &path).expect(200);
    assert_eq!(seen["agents"], json!([agent]));
    assert_eq!(
        (&seen["step"], &seen["boot_id"]),
        (&json!(60), &json!("b1"))
    );
    assert_eq!(seen["notices"], json!(["no cgroup"]));
    // Only readings change: they are seen, and the state's age stays.
    let mut later = agent.clone();
    later["uptime"] = json!(456);
    later["limits"]["memory_used"] = json!(99);
    let more = json!({ "agents": [later], "notices": ["no cgroup"], "boot_id": "b1", "step": 60 });
    server.push(&host, more);
    let again = server.api("GET", &path).expect(200);
    assert_eq!(again["agents"], json!([later]));
    assert_eq!(again["changed"], seen["changed"]);
}

#[test]
fn an_event_is_stored_once_however_often_it_comes() {
    let server = Server::start();
    let host = server.register("h1");
    let event = |seq: u64| {
        json!({ "seq": seq, "timestamp": 1, "category": "crash", "subject": "flux-push",
                "version": "0.1.0", "message": "ended by signal 9", "tail": ["last words"] })
    };
    server.push(
        &host,
        json!({ "boot_id": "b1", "events": [event(1), event(2)] }),
    );
    server.push(
        &host,
        json!({ "boot_id": "b1", "events": [event(1), event(2), event(3)] }),
    );
    // The same number in another boot is another event.
    server.push(&host, json!({ "boot_id": "b2", "events": [event(1)] }));
    let path = format!("/api/v1/events?host={}", host.agentsn);
    let events = server.api("GET", &path).expect(200);
    let items = events["items"].as_array().expect("events").iter();
    let keys: Vec<_> = items
        .map(|e| (e["boot_id"].as_str(), e["seq"].as_i64()))
        .collect();
    assert_eq!(
        keys,
        [
            (Some("b1"), Some(1)),
            (Some("b1"), Some(2)),
            (Some("b1"), Some(3)),
            (Some("b2"), Some(1))
        ]
    );
    assert_eq!(events["items"][0]["tail"], json!(["last words"]));
    assert_eq!(events["items"][0]["source"], "bootagent");
}

#[test]
fn many_hosts_at_once_are_all_heard() {
    let server = Server::start();
    let hosts: Vec<TestHost> = (0..8).map(|n| server.register(&format!("h{n}"))).collect();
    std::thread::scope(|scope| {
        for host in &hosts {
            scope.spawn(|| {
                for seq in 0..20 {
                    let event =
                        json!({ "seq": seq, "timestamp": 1, "category": "c", "message": "m" });
                    server.push(host, json!({ "events": [event], "boot_id": "b" }));
                }
            });
        }
    });
    for host in &hosts {
        let path = format!("/api/v1/events?host={}", host.agentsn);
        let events = server.api("GET", &path).expect(200);
        assert_eq!(events["items"].as_array().map(Vec::len), Some(20));
    }
}

#[test]
fn more_orders_than_one_reply_takes_come_in_order_and_soon() {
    let server = Server::start();
    let host = server.register("h1");
    let mut wanted: Vec<String> = Vec::new();
    for n in 0..40 {
        let order = json!({ "action": "stop", "name": format!("a{n}"), "hosts": [host.agentsn] });
        wanted.extend(server.order(order));
    }
    let reply = server.push(&host, json!({}));
    assert_eq!(ids(&reply), wanted[..32]);
    assert_eq!(reply["next"], 10);
    let results: Vec<_> = wanted[..32]
        .iter()
        .map(|id| json!({ "id": id, "errcode": 0 }))
        .collect();
    let reply = server.push(&host, json!({ "jobs": results }));
    assert_eq!(ids(&reply), wanted[32..]);
    assert_eq!(reply["next"], Value::Null);
}

#[test]
fn hosts_are_searched_sorted_and_counted() {
    let server = Server::start();
    for name in ["web-1.north", "web-2.south", "mail-1.north"] {
        server.register(name);
    }
    let names = |query: &str| -> Vec<String> {
        let list = server.api("GET", &format!("/api/v1/hosts?{query}"));
        let list = list.expect(200);
        let items = list["items"].as_array().expect("a list").iter();
        items
            .map(|host| host["hostname"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(names("search=NORTH"), ["mail-1.north", "web-1.north"]);
    assert_eq!(
        names("search=north&sort=-hostname"),
        ["web-1.north", "mail-1.north"]
    );
    let page = server.api("GET", "/api/v1/hosts?sort=-created&limit=1&total=true");
    let page = page.expect(200);
    assert_eq!(page["total"], json!({ "rows": 3, "more": false }));
    let next = page["next"].as_str().expect("a cursor");
    let next = next
        .replace('"', "%22")
        .replace('[', "%5B")
        .replace(']', "%5D");
    assert_eq!(names(&format!("sort=-created&cursor={next}")).len(), 2);
    for (query, why) in [
        ("search=ab".to_owned(), "search"),
        (format!("search={}", "a".repeat(129)), "search"),
        ("search=a%0Ab".to_owned(), "search"),
        ("sort=arch".to_owned(), "sort"),
        ("total=2".to_owned(), "total"),
        // A cursor of another order.
        (format!("cursor={next}"), "cursor"),
    ] {
        let refused = server.api("GET", &format!("/api/v1/hosts?{query}"));
        let detail = refused.problem(400);
        assert!(detail.contains(why), "{query}: {detail}");
    }
    let untold = server.api("GET", "/api/v1/hosts").expect(200);
    assert_eq!(untold["total"], Value::Null);
}

#[test]
fn tags_an_operator_took_away_stay_away_when_the_host_registers_again() {
    let server = Server::start();
    let token = |name: &str, tags: &str| {
        let wanted = json!({ "name": name, "tags": tags });
        let made = server.api("POST", "/api/v1/enrolment-tokens").json(&wanted);
        let made = made.expect(201);
        made["token"].as_str().expect("a token").to_owned()
    };
    let (first, other) = (token("first", "svc=ecs"), token("other", "cmpt=DB"));
    let register = |token: &str| {
        let request = json!({
            "hostname": "h1", "agentsn": "3f0e4c5e-8f0a-4d5e-9a7e-0a1b2c3d4e5f",
            "os": "debian 12", "arch": "x86_64", "machine_id": "m1",
        });
        let reply = server.call("POST", "/agent/register").bearer(token);
        let reply = reply.json(&request).expect(200);
        reply["tags"].as_str().expect("tags").to_owned()
    };
    assert_eq!(register(&first), "svc=ecs");
    let path = "/api/v1/hosts/3f0e4c5e-8f0a-4d5e-9a7e-0a1b2c3d4e5f/tags";
    let none = json!({ "tags": "" });
    server.api("PUT", path).json(&none).expect(200);
    assert_eq!(register(&first), "");
    assert_eq!(register(&other), "cmpt=DB");
}

#[test]
fn a_host_is_edited_by_who_has_seen_it() {
    let server = Server::start();
    let host = server.register("h1");
    let path = format!("/api/v1/hosts/{}", host.agentsn);
    let seen = server.api("GET", &path).send();
    assert_eq!(seen.header("etag"), Some("\"1\""));
    let edit = |revision: &str, body: Value| {
        let call = server.api("PATCH", &path).header("if-match", revision);
        call.json(&body)
    };
    let notes = "line one\nline two \u{673a}";
    let edited = edit(
        "\"1\"",
        json!({ "display_name": "Core DB", "notes": notes }),
    )
    .expect(200);
    assert_eq!(
        (
            &edited["display_name"],
            &edited["notes"],
            &edited["revision"]
        ),
        (&json!("Core DB"), &json!(notes), &json!(2))
    );
    let found = server.api("GET", "/api/v1/hosts?search=core%20db");
    assert_eq!(
        found.expect(200)["items"][0]["agentsn"],
        json!(host.agentsn)
    );
    edit("\"1\"", json!({ "notes": "" })).problem(412);
    edit("\"x\"", json!({ "notes": "" })).problem(412);
    let blind = server.api("PATCH", &path);
    blind.json(&json!({ "notes": "" })).problem(428);
    for (body, why) in [
        (json!({ "display_name": "d".repeat(129) }), "display_name"),
        (json!({ "display_name": "a\nb" }), "display_name"),
        (json!({ "notes": "n".repeat(16_385) }), "notes"),
        (json!({ "hostname": "x" }), "hostname"),
    ] {
        let detail = edit("*", body.clone()).problem(422);
        assert!(detail.contains(why), "{body}: {detail}");
    }
    // Tags are what operators say, too.
    let tags = |revision: &str| {
        let call = server.api("PUT", &format!("{path}/tags"));
        let call = call.header("if-match", revision);
        call.json(&json!({ "tags": "svc=ecs" }))
    };
    tags("\"1\"").problem(412);
    let tagged = tags("\"2\"").expect(200);
    assert_eq!(tagged["tag_origins"], json!({ "svc": "operator" }));
    assert_eq!(tagged["revision"], 3);
    let kept = edit("*", json!({ "display_name": "" })).expect(200);
    assert_eq!(
        (&kept["display_name"], &kept["notes"]),
        (&json!(""), &json!(notes))
    );
    let audit = server.api("GET", "/api/v1/audit?action=host.edit");
    let audit = audit.expect(200);
    let details: Vec<&Value> = audit["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| &row["detail"])
        .collect();
    assert_eq!(details.len(), 2);
    let both = details
        .iter()
        .filter(|detail| detail["before"]["notes"].is_string())
        .count();
    assert_eq!(both, 1, "notes are there when they change: {details:?}");
    let text = format!("{details:?}");
    assert!(!text.contains(notes), "and as they were before: {text}");
}

#[test]
fn hosts_are_found_by_their_agents_and_by_what_they_report() {
    let server = Server::start();
    let host = |name: &str, os: &str, ip: &str| {
        server.register_as(json!({
            "hostname": name, "agentsn": uuid::Uuid::new_v4().to_string(), "machine_id": name,
            "os": os, "arch": "x86_64", "ip": [ip],
        }))
    };
    let (one, two) = (
        host("h1", "debian 12", "10.0.0.1"),
        host("h2", "centos 7", "10.0.0.11"),
    );
    let agent = |name: &str, version: &str, status: &str| json!({ "name": name, "version": version, "status": status, "uptime": 1 });
    let push = |host: &TestHost, name: &str, agents: Value| {
        server.push(host, json!({ "hostname": name, "agents": agents }));
    };
    let both = json!([
        agent("flux", "1.0-1", "running"),
        agent("net", "2.0-1", "fatal")
    ]);
    push(&one, "h1", both);
    push(&two, "h2", json!([agent("flux", "1.1-1", "running")]));
    let names = |query: &str| -> Vec<String> {
        let list = server
            .api("GET", &format!("/api/v1/hosts?{query}"))
            .expect(200);
        let items = list["items"].as_array().expect("a list").iter();
        items
            .map(|host| host["hostname"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(names("agent=flux"), ["h1", "h2"]);
    assert_eq!(names("agent=flux&agent_version=1.0-1"), ["h1"]);
    assert_eq!(names("agent_state=fatal"), ["h1"]);
    assert_eq!(
        names("agent=flux&agent_state=fatal"),
        [""; 0],
        "another agent is"
    );
    push(&one, "h1", json!([agent("flux", "1.1-1", "stoped")]));
    assert_eq!(names("agent=net"), [""; 0]);
    assert_eq!(names("agent=flux&agent_version=1.1-1"), ["h1", "h2"]);
    assert_eq!(names("agent=flux&agent_state=stoped"), ["h1"]);
    assert_eq!(names("os=centos%207"), ["h2"]);
    assert_eq!(names("arch=x86_64&ip=10.0.0.1"), ["h1"]);
    assert_eq!(names("version=none"), [""; 0]);
    for query in ["ip=10.0", "agent_version=1.0-1"] {
        server
            .api("GET", &format!("/api/v1/hosts?{query}"))
            .problem(400);
    }
}
