//! Rollouts: from the order to the end and back, as operators and hosts see them.

use std::sync::Barrier;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{Server, TestHost, bundle, wait_for};
use crate::postgres;

pub(crate) const ROLLOUTS: &str = "/api/v1/rollouts";

pub(crate) fn id(made: &Value) -> String {
    made["id"].as_str().expect("an id").to_owned()
}

pub(crate) fn show(server: &Server, id: &str) -> Value {
    server.api("GET", &format!("{ROLLOUTS}/{id}")).expect(200)
}

/// Waits until a rollout is so.
fn until(server: &Server, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || Some(show(server, id)).filter(|it| holds(it)))
}

pub(crate) fn until_phase(server: &Server, id: &str, phase: &str) -> Value {
    until(server, id, phase, |it| it["phase"] == phase)
}

pub(crate) fn tell(server: &Server, id: &str, word: &str) -> Value {
    let path = format!("{ROLLOUTS}/{id}/{word}");
    server.api("POST", &path).expect(200)
}

fn targets(server: &Server, id: &str) -> Vec<Value> {
    let list = server.api("GET", &format!("{ROLLOUTS}/{id}/targets"));
    list.expect(200)["items"].as_array().expect("items").clone()
}

/// Hosts that are there, with an agent in this version.
pub(crate) fn hosts<const N: usize>(server: &Server, version: &str) -> [TestHost; N] {
    std::array::from_fn(|n| {
        let host = server.register(&format!("db-{n}"));
        push(server, &host, version, json!([]));
        host
    })
}

/// A status with results; returns the jobs it brings.
pub(crate) fn push(server: &Server, host: &TestHost, version: &str, results: Value) -> Vec<Value> {
    let agents = json!([{ "name": "a", "version": version, "status": "running" }]);
    let reply = server.push(host, json!({ "agents": agents, "jobs": results }));
    reply["jobs"].as_array().cloned().unwrap_or_default()
}

/// Waits for the job of a host, which has version 1.0, and answers it in this one.
pub(crate) fn does(server: &Server, host: &TestHost, version: &str, code: u16) -> Value {
    let job = wait_for("a job", || push(server, host, "1.0", json!([])).pop());
    let result = json!([{ "id": job["id"], "errcode": code, "message": "" }]);
    push(server, host, version, result);
    job
}

fn upgrade(targets: Value, plan: Value) -> Value {
    let order = json!({ "action": "upgrade", "name": "a", "version": "2.0" });
    json!({ "order": order, "targets": targets, "plan": plan })
}

#[test]
fn a_version_goes_out_by_stages_and_every_host_goes_back_to_its_own() {
    let server = Server::start();
    let package = server.upload("", &bundle("a", "2.0", b"two"));
    server.upload("", &bundle("a", "1.0", b"one"));
    let hosts: [TestHost; 3] = hosts(&server, "1.0");
    let stages = json!([{ "upto": 1, "success": 100 }, { "upto": "all" }]);
    let plan = json!({ "stages": stages, "fail_count": 1 });
    let new = upgrade(json!({ "hostname": "HO?T*" }), plan);
    let preview = server.api("POST", &format!("{ROLLOUTS}/preview"));
    let preview = preview.json(&new).expect(200);
    assert_eq!(
        (&preview["hosts"], &preview["files"][0]["hosts"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(preview["without_file"], 0);
    let mut expecting = new.clone();
    expecting["expected_hosts"] = json!(4);
    let refused = server.api("POST", ROLLOUTS).json(&expecting).problem(409);
    assert!(refused.contains("there are 3"), "{refused}");
    expecting["expected_hosts"] = json!(3);
    let create = || {
        server
            .api("POST", ROLLOUTS)
            .header("idempotency-key", "k")
            .json(&expecting)
    };
    let rollout = create().expect(201);
    // Sent again, it is the same one.
    assert_eq!(create().expect(201)["id"], rollout["id"]);
    let id = id(&rollout);
    let running = until(&server, &id, "an order", |it| it["counts"]["ordered"] == 1);
    assert_eq!(running["stages"][0]["targets"], 1);
    assert_eq!(running["waits_for"]["why"], "stage_gate");
    assert_eq!(running["name"], "upgrade a 2.0");
    let list = targets(&server, &id);
    assert_eq!(list[0]["waits_for"]["why"], "next_status");
    assert_eq!(
        list[1]["waits_for"],
        json!({ "why": "stage_gate", "stage": 0, "succeeded": 0, "needed": 1 })
    );
    let delete = format!(
        "/api/v1/packages/{}",
        package["id"].as_str().expect("an id")
    );
    assert!(server.api("DELETE", &delete).problem(409).contains(&id));
    // The first in their order; the others have nothing to do.
    let place = |agentsn: &str| hosts.iter().position(|host| host.agentsn == agentsn);
    let order: Vec<usize> = list
        .iter()
        .filter_map(|target| place(target["agentsn"].as_str()?))
        .collect();
    assert!(push(&server, &hosts[order[1]], "1.0", json!([])).is_empty());
    let job = does(&server, &hosts[order[0]], "2.0", 0);
    assert_eq!(
        (&job["action"], &job["version"]),
        (&json!("upgrade"), &json!("2.0"))
    );
    does(&server, &hosts[order[1]], "2.0", 0);
    does(&server, &hosts[order[2]], "1.0", 3001);
    let ended = until_phase(&server, &id, "ended");
    assert_eq!(ended["counts"], json!({ "succeeded": 2, "failed": 1 }));
    assert_eq!(
        (&ended["reason"], &ended["failures"]),
        (&json!("done"), &json!(1))
    );
    let failed = format!("{ROLLOUTS}/{id}/targets?state=failed&total=true");
    let failed = server.api("GET", &failed).expect(200);
    assert_eq!(failed["total"]["rows"], 1);
    assert_eq!(
        (
            &failed["items"][0]["errcode"],
            &failed["items"][0]["before"]
        ),
        (&json!(3001), &json!("1.0"))
    );

    // Again where it failed.
    let retry = server.api("POST", &format!("{ROLLOUTS}/{id}/retry"));
    let retry = retry.json(&json!({ "expected_hosts": 1 })).expect(201);
    assert_eq!(
        (&retry["follows"], &retry["way"]),
        (&json!(id), &json!("again"))
    );
    does(&server, &hosts[order[2]], "2.0", 0);
    until_phase(&server, retry["id"].as_str().expect("an id"), "ended");

    // And back: those that had a version before go back to it.
    let revert = format!("{ROLLOUTS}/{id}/revert");
    let back = server.api("POST", &revert).json(&json!({})).expect(201);
    assert_eq!(back["way"], "back");
    let back = back["id"].as_str().expect("an id");
    until(&server, back, "an order", |it| it["phase"] == "running");
    for place in &order {
        let host = &hosts[*place];
        let job = wait_for("a job", || push(&server, host, "2.0", json!([])).pop());
        assert_eq!(
            (&job["version"], &job["downgrade"]),
            (&json!("1.0"), &json!(true))
        );
        let result = json!([{ "id": job["id"], "errcode": 0, "message": "" }]);
        push(&server, host, "1.0", result);
    }
    let ended = until_phase(&server, back, "ended");
    assert_eq!(ended["counts"], json!({ "succeeded": 3 }));
    let list = server
        .api("GET", &format!("{ROLLOUTS}?phase=ended"))
        .expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(3));
}

#[test]
fn operators_confirm_pause_resume_and_abort_what_they_have_seen() {
    let server = Server::start();
    let [host]: [TestHost; 1] = hosts(&server, "1.0");
    let plan = json!({ "confirmation": "second_user" });
    let order = json!({ "action": "restart", "name": "a" });
    let new = json!({ "order": order, "targets": { "hosts": [host.agentsn] }, "plan": plan });
    let rollout = server.api("POST", ROLLOUTS).json(&new).expect(201);
    let id = id(&rollout);
    until_phase(&server, &id, "unconfirmed");
    let confirm = format!("{ROLLOUTS}/{id}/confirm");
    let own = server.api("POST", &confirm).problem(409);
    assert!(own.contains("another user"), "{own}");
    server.user("ann", "operator", "correct horse battery");
    let ann = server.sign_in("ann", "correct horse battery");
    let confirmed = server.call("POST", &confirm).bearer(&ann).expect(200);
    let stale = server.api("POST", &format!("{ROLLOUTS}/{id}/pause"));
    stale.header("if-match", "\"1\"").problem(412);
    let seen = confirmed["revision"].to_string();
    let pause = server.api("POST", &format!("{ROLLOUTS}/{id}/pause"));
    let paused = pause.header("if-match", &format!("\"{seen}\"")).expect(200);
    assert_eq!(
        (&paused["phase"], &paused["reason"]),
        (&json!("paused"), &json!("operator"))
    );
    until(&server, &id, "nothing under way", |it| {
        it["counts"] == json!({ "waiting": 1 })
    });
    assert!(push(&server, &host, "1.0", json!([])).is_empty());
    assert_eq!(
        targets(&server, &id)[0]["waits_for"],
        json!({ "why": "paused", "by": "operator" })
    );
    tell(&server, &id, "resume");
    until(&server, &id, "an order", |it| it["counts"]["ordered"] == 1);
    assert_eq!(tell(&server, &id, "abort")["phase"], "stopping");
    let ended = until_phase(&server, &id, "ended");
    assert_eq!(
        (&ended["reason"], &ended["counts"]),
        (&json!("aborted"), &json!({ "skipped": 1 }))
    );
    assert!(push(&server, &host, "1.0", json!([])).is_empty());
    let resume = format!("{ROLLOUTS}/{id}/resume");
    assert!(
        server
            .api("POST", &resume)
            .problem(409)
            .contains("has ended")
    );
    // It brought no version.
    let revert = server.api("POST", &format!("{ROLLOUTS}/{id}/revert"));
    assert!(revert.json(&json!({})).problem(409).contains("no version"));
    // And nothing failed.
    let retry = server.api("POST", &format!("{ROLLOUTS}/{id}/retry"));
    assert!(retry.json(&json!({})).problem(422).contains("no such host"));
}

/// Of two who say the same of what both have seen, at once, one is heard.
fn assert_one_follows(first: &Server, second: &Server) {
    first.upload("", &bundle("a", "1.0", b"one"));
    first.upload("", &bundle("a", "2.0", b"two"));
    let hosts: [TestHost; 2] = hosts(first, "1.0");
    let new = upgrade(json!({ "all": true }), json!({ "parallel": "all" }));
    let id = id(&first.api("POST", ROLLOUTS).json(&new).expect(201));
    does(first, &hosts[0], "2.0", 0);
    does(first, &hosts[1], "1.0", 3001);
    until_phase(first, &id, "ended");
    for (round, word) in ["retry", "revert"].repeat(5).into_iter().enumerate() {
        let seen = first.api("GET", &format!("{ROLLOUTS}/{id}")).send();
        let etag = seen.header("etag").expect("an ETag");
        let at_once = Barrier::new(2);
        let follow = |server: &Server| {
            let call = server.api("POST", &format!("{ROLLOUTS}/{id}/{word}"));
            let call = call.header("if-match", etag).json(&json!({}));
            at_once.wait();
            call.status()
        };
        let mut statuses = thread::scope(|scope| {
            let other = scope.spawn(|| follow(second));
            [follow(first), other.join().expect("no panic")]
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 412], "{word}");
        let all = first.api("GET", ROLLOUTS).expect(200);
        let all = all["items"].as_array().map(Vec::len);
        assert_eq!(all, Some(round + 2), "{word}");
    }
    // Who has looked at nothing is heard in any case.
    let retry = first.api("POST", &format!("{ROLLOUTS}/{id}/retry"));
    retry.json(&json!({})).expect(201);
}

#[test]
fn of_two_who_follow_what_both_have_seen_one_begins_a_rollout() {
    let server = Server::start();
    assert_one_follows(&server, &server);
}

#[test]
fn of_two_who_follow_it_at_two_servers_one_begins_a_rollout() {
    let Some(configuration) = postgres::configuration() else {
        return;
    };
    let first = Server::start_with(&configuration);
    let (_directory, second) = postgres::beside(&first, &configuration);
    assert_one_follows(&first, &second);
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.expect("a time").as_secs()).expect("a time")
}

/// A window in UTC that begins so many seconds from now, on the day that is then, and
/// is an hour long.
fn window(seconds: i64) -> Value {
    let now = now() + seconds;
    let clock = |second: i64| format!("{:02}:{:02}", second / 3600 % 24, second / 60 % 60);
    // The first day of this era was a Thursday.
    let days = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"];
    let day = days[usize::try_from(now / 86_400 % 7).expect("a day")];
    json!({ "zone": "UTC", "from": clock(now), "until": clock(now + 3600), "days": [day] })
}

#[test]
fn outside_of_its_window_a_rollout_waits_and_says_until_when() {
    let server = Server::start();
    let [host]: [TestHost; 1] = hosts(&server, "1.0");
    let order = json!({ "action": "restart", "name": "a" });
    let new = |window: Value| {
        let plan = json!({ "window": window, "expires_in": 604_800 });
        let new = json!({ "order": order, "targets": { "hosts": [host.agentsn] }, "plan": plan });
        id(&server.api("POST", ROLLOUTS).json(&new).expect(201))
    };
    // In three hours; nothing is ordered until then.
    let later = new(window(10_800));
    until_phase(&server, &later, "running");
    let why = until(&server, &later, "its window", |it| {
        it["waits_for"]["why"] == "window"
    });
    let opens = why["waits_for"]["opens"].as_i64().expect("a time");
    let wait = opens / 1000 - now();
    assert!((10_000..=10_800).contains(&wait), "{wait} s");
    assert_eq!(targets(&server, &later)[0]["waits_for"]["why"], "window");
    assert!(push(&server, &host, "1.0", json!([])).is_empty());
    tell(&server, &later, "abort");
    until_phase(&server, &later, "ended");
    // In one that is open, it ends with the window at the latest.
    let open = new(window(-600));
    let job = does(&server, &host, "1.0", 0);
    let ended = until_phase(&server, &open, "ended");
    assert_eq!(ended["counts"], json!({ "succeeded": 1 }));
    // Each of its turns was timed.
    let metrics = server.api("GET", "/metrics").send().text();
    let turns = metrics
        .lines()
        .find_map(|line| line.strip_prefix("bootserver_rollout_turn_seconds_count "));
    let turns: f64 = turns.expect("a histogram").parse().expect("a number");
    assert!(turns >= 4.0, "{turns} turns");
    let left = job["expires"].as_i64().expect("a time") - now();
    assert!((2_000..=3_001).contains(&left), "{left} s");
}

#[test]
fn what_cannot_be_a_rollout_says_why_and_starts_nothing() {
    let server = Server::start();
    let [host]: [TestHost; 1] = hosts(&server, "1.0");
    server.upload("os=plan9", &bundle("a", "2.0", b"two"));
    let all = || json!({ "all": true });
    let restart = |targets: Value, plan: Value| {
        let order = json!({ "action": "restart", "name": "a" });
        json!({ "order": order, "targets": targets, "plan": plan })
    };
    let nobody = "00000000-0000-4000-8000-000000000000";
    let refused = |body: Value, status: u16, says: &str| {
        let text = server.api("POST", ROLLOUTS).json(&body).problem(status);
        assert!(text.contains(says), "{body}: {text}");
    };
    refused(restart(json!({}), json!({})), 422, "targets");
    refused(
        restart(json!({ "all": true, "selector": "a=b" }), json!({})),
        422,
        "targets",
    );
    refused(
        restart(json!({ "selector": "" }), json!({})),
        422,
        "every host",
    );
    refused(
        restart(json!({ "selector": "svc=none" }), json!({})),
        422,
        "no such host",
    );
    refused(
        restart(json!({ "group": nobody }), json!({})),
        422,
        "no such host",
    );
    refused(
        restart(json!({ "hosts": [host.agentsn, nobody] }), json!({})),
        404,
        "",
    );
    for (plan, says) in [
        (json!({ "fail_rate": 100 }), "fail_rate"),
        (json!({ "fail_count": -2 }), "fail_count"),
        (json!({ "min_sample": 5 }), "min_sample"),
        (
            json!({ "stages": [{ "upto": 5 }, { "upto": 2 }] }),
            "stages",
        ),
        (json!({ "stages": [{ "upto": 5 }] }), "all"),
        (json!({ "parallel": "0%" }), "10%"),
        (
            json!({ "window": { "zone": "Mars/Base", "from": "01:00", "until": "02:00" } }),
            "zone",
        ),
        (json!({ "paralel": 5 }), "paralel"),
    ] {
        refused(restart(all(), plan), 422, says);
    }
    refused(
        upgrade(all(), json!({})),
        422,
        "no file for 1 of the 1 hosts",
    );
    let mut elsewhere = restart(all(), json!({}));
    elsewhere["order"]["hosts"] = json!([host.agentsn]);
    refused(elsewhere, 422, "belong to targets");
    let preview = server.api("POST", &format!("{ROLLOUTS}/preview"));
    let preview = preview.json(&upgrade(all(), json!({}))).expect(200);
    assert_eq!(preview["without_file"], 1);
    assert_eq!(preview["without_file_hosts"][0]["hostname"], "host");
    let list = server.api("GET", ROLLOUTS).expect(200);
    assert_eq!(list["items"], json!([]));
    server
        .api("GET", &format!("{ROLLOUTS}/{nobody}/targets"))
        .problem(404);
    server
        .api("GET", &format!("{ROLLOUTS}?phase=x"))
        .problem(400);
}

#[test]
fn a_server_that_is_killed_goes_on_where_it_was() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let mut server = Server::start_in(directory.path(), "");
    let hosts: [TestHost; 3] = hosts(&server, "1.0");
    let order = json!({ "action": "restart", "name": "a" });
    let named: Vec<&str> = hosts.iter().map(|host| host.agentsn.as_str()).collect();
    let new = json!({ "order": order, "targets": { "hosts": named }, "plan": { "parallel": 1 } });
    let id = id(&server.api("POST", ROLLOUTS).json(&new).expect(201));
    does(&server, &hosts[0], "1.0", 0);
    let job = wait_for("a job", || push(&server, &hosts[1], "1.0", json!([])).pop());
    server.signal(nix::sys::signal::Signal::SIGKILL);
    server.end();
    let server = Server::start_in(directory.path(), "");
    // It comes back with what it has, and nobody else had their turn.
    let again = push(&server, &hosts[1], "1.0", json!([]));
    assert_eq!(again[0]["id"], job["id"]);
    assert!(push(&server, &hosts[2], "1.0", json!([])).is_empty());
    let result = json!([{ "id": job["id"], "errcode": 0, "message": "" }]);
    push(&server, &hosts[1], "1.0", result);
    does(&server, &hosts[2], "1.0", 0);
    let ended = until_phase(&server, &id, "ended");
    assert_eq!(ended["counts"], json!({ "succeeded": 3 }));
    let jobs = server.api("GET", "/api/v1/jobs").expect(200);
    assert_eq!(jobs["items"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_server_that_is_killed_with_the_lease_is_followed_by_another() {
    let Some(configuration) = postgres::configuration() else {
        return;
    };
    let address = configuration.split('"').nth(1).expect("an address");
    let first = Server::start_with(&configuration);
    let hosts: [TestHost; 4] = hosts(&first, "1.0");
    let order = json!({ "action": "restart", "name": "a" });
    let named: Vec<&str> = hosts.iter().map(|host| host.agentsn.as_str()).collect();
    let new = json!({ "order": order, "targets": { "hosts": named }, "plan": { "parallel": 1 } });
    let id = id(&first.api("POST", ROLLOUTS).json(&new).expect(201));
    does(&first, &hosts[0], "1.0", 0);
    let of_first = wait_for("the lease", || postgres::holder(address, "rollouts"));
    let (_directory, second) = postgres::beside(&first, &configuration);
    // Whichever of them is at it now is killed while the next host has its turn.
    does(&second, &hosts[1], "1.0", 0);
    let job = wait_for("a job", || push(&second, &hosts[2], "1.0", json!([])).pop());
    let holder = wait_for("the lease", || postgres::holder(address, "rollouts"));
    let (mut killed, left) = match holder == of_first {
        true => (first, second),
        false => (second, first),
    };
    killed.signal(nix::sys::signal::Signal::SIGKILL);
    killed.end();
    let result = json!([{ "id": job["id"], "errcode": 0, "message": "" }]);
    push(&left, &hosts[2], "1.0", result);
    let next = wait_for("the next one's turn", || {
        push(&left, &hosts[3], "1.0", json!([])).pop()
    });
    let after = postgres::holder(address, "rollouts");
    assert_ne!(after.as_deref(), Some(holder.as_str()));
    let result = json!([{ "id": next["id"], "errcode": 0, "message": "" }]);
    push(&left, &hosts[3], "1.0", result);
    let ended = until_phase(&left, &id, "ended");
    assert_eq!(ended["counts"], json!({ "succeeded": 4 }));
    let jobs = left.api("GET", "/api/v1/jobs").expect(200);
    assert_eq!(jobs["items"].as_array().map(Vec::len), Some(4));
}
