//! What becomes of many hosts at once, by the query an operator has before them.

use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Request, Server, wait_for};

const BULK: &str = "/api/v1/hosts/bulk";

/// Three hosts, two of them with `svc=ecs`; their agentsns.
fn fleet(server: &Server) -> Vec<String> {
    let hosts = ["h1", "h2", "h3"].map(|name| server.register(name));
    for host in &hosts[..2] {
        let path = format!("/api/v1/hosts/{}/tags", host.agentsn);
        let tags = json!({ "tags": "svc=ecs" });
        server.api("PUT", &path).json(&tags).expect(200);
    }
    hosts.into_iter().map(|host| host.agentsn).collect()
}

fn done(hosts: u64, changed: u64) -> Value {
    json!({ "hosts": hosts, "changed": changed, "unchanged": hosts - changed, "left": 0 })
}

fn found(server: &Server, query: &str) -> usize {
    let list = server.api("GET", &format!("/api/v1/hosts?{query}"));
    let list = list.expect(200);
    list["items"].as_array().map_or(0, Vec::len)
}

#[test]
fn what_is_changed_is_what_the_list_shows_if_it_is_as_many_as_expected() {
    let server = Server::start();
    fleet(&server);
    let call = |query: &str, body: Value| {
        let call = server.api("POST", &format!("{BULK}?{query}"));
        call.json(&body)
    };
    let tag = |expected: u64| json!({ "action": "tag", "set": "rack=7", "unset": ["svc"], "expected_hosts": expected });
    let detail = call("selector=svc%3Decs", tag(3)).problem(409);
    assert!(detail.contains("there are 2"), "{detail}");
    assert_eq!(found(&server, "selector=rack"), 0);
    assert_eq!(call("selector=svc%3Decs", tag(2)).expect(200), done(2, 2));
    assert_eq!(found(&server, "selector=rack%3D7,!svc"), 2);
    assert_eq!(call("selector=rack", tag(2)).expect(200), done(2, 0));
    let revoke = json!({ "action": "revoke", "expected_hosts": 1 });
    assert_eq!(call("hostname=h3", revoke).expect(200), done(1, 1));
    assert_eq!(found(&server, "state=revoked"), 1);
    let delete = json!({ "action": "delete", "expected_hosts": 3 });
    assert_eq!(call("", delete).expect(200), done(3, 3));
    assert_eq!(found(&server, ""), 0);
    let audit = server.api("GET", "/api/v1/audit?action=host.bulk-delete");
    let audit = audit.expect(200);
    assert_eq!(audit["items"][0]["detail"]["changed"], 3);
}

#[test]
fn what_is_no_change_of_many_hosts_is_refused_with_a_reason() {
    let server = Server::start();
    let nobody = "00000000-0000-4000-8000-000000000000";
    let members = format!("/api/v1/groups/{nobody}/hosts/bulk");
    let add = json!({ "action": "add", "expected_hosts": 0 });
    server.api("POST", &members).json(&add).problem(404);
    let delete = json!({ "action": "delete", "expected_hosts": 0 });
    for (query, body, status, why) in [
        ("limit=1", delete.clone(), 400, "limit"),
        ("sort=created", delete.clone(), 400, "sort"),
        ("state=deleted", delete.clone(), 400, "deleted"),
        ("host=x", delete, 400, "query"),
        ("", json!({ "action": "delete" }), 422, "expected_hosts"),
        (
            "",
            json!({ "action": "tag", "expected_hosts": 0 }),
            422,
            "set or unset",
        ),
        (
            "",
            json!({ "action": "stop", "expected_hosts": 0 }),
            422,
            "action",
        ),
        (
            "",
            json!({ "action": "revoke", "set": "a=b", "expected_hosts": 0 }),
            422,
            "tag",
        ),
        (
            "",
            json!({ "action": "tag", "set": "a", "expected_hosts": 0 }),
            422,
            "set",
        ),
        (
            "",
            json!({ "action": "tag", "unset": ["a b"], "expected_hosts": 0 }),
            422,
            "unset",
        ),
        (
            "",
            json!({ "action": "tag", "set": "a=b", "unset": ["a"], "expected_hosts": 0 }),
            422,
            "in set and in unset",
        ),
    ] {
        let call = server.api("POST", &format!("{BULK}?{query}"));
        let detail = call.json(&body).problem(status);
        assert!(detail.contains(why), "{query} {body}: {detail}");
    }
}

#[test]
fn who_is_restricted_to_a_group_changes_its_hosts_and_no_others() {
    let server = Server::start();
    let hosts = fleet(&server);
    let group = server.api("POST", "/api/v1/groups");
    let group = group.json(&json!({ "name": "mine" })).expect(201);
    let group = group["id"].as_str().expect("an id");
    let members = format!("/api/v1/groups/{group}/hosts/bulk");
    let add = json!({ "action": "add", "expected_hosts": 2 });
    let added = server
        .api("POST", &format!("{members}?selector=svc"))
        .json(&add);
    assert_eq!(added.expect(200), done(2, 2));
    let token = json!({ "name": "mine", "role": "operator", "scope": [{ "group": group }] });
    let token = server
        .api("POST", "/api/v1/api-tokens")
        .json(&token)
        .expect(201);
    assert_eq!(token["scope"], json!([{ "group": group }]));
    let token = token["token"].as_str().expect("a token");
    let mine = |method: &str, path: &str| server.call(method, path).bearer(token);
    let listed = mine("GET", "/api/v1/hosts?total=true").expect(200);
    assert_eq!(listed["total"]["rows"], 2);
    mine("GET", &format!("/api/v1/hosts/{}", hosts[2])).problem(404);
    mine("POST", &members).json(&add).problem(403);
    let order = json!({ "action": "stop", "name": "x", "hosts": hosts });
    mine("POST", "/api/v1/jobs").json(&order).problem(404);
    let revoke = |expected: u64| json!({ "action": "revoke", "expected_hosts": expected });
    mine("POST", BULK).json(&revoke(3)).problem(409);
    // What the group is now is what holds.
    let remove = json!({ "action": "remove", "expected_hosts": 1 });
    let removed = server
        .api("POST", &format!("{members}?hostname=h1"))
        .json(&remove);
    assert_eq!(removed.expect(200), done(1, 1));
    assert_eq!(mine("POST", BULK).json(&revoke(1)).expect(200), done(1, 1));
    assert_eq!(found(&server, "state=revoked"), 1);
    // It goes when nobody is restricted to it any more.
    let path = format!("/api/v1/groups/{group}");
    let detail = server.api("DELETE", &path).problem(409);
    assert!(detail.contains("API token mine"), "{detail}");
    let nobody = json!([{ "group": "00000000-0000-4000-8000-000000000000" }]);
    let user = json!({ "name": "ann", "role": "viewer", "scope": nobody });
    server.api("POST", "/api/v1/users").json(&user).problem(422);
    let user = json!({ "name": "ann", "role": "viewer", "scope": [{ "group": "x" }] });
    server.api("POST", "/api/v1/users").json(&user).problem(422);
}

#[test]
fn a_change_with_a_key_is_answered_as_before_and_not_done_again() {
    let server = Server::start();
    fleet(&server);
    let call = |query: &str| {
        let delete = json!({ "action": "delete", "expected_hosts": 1 });
        let call = server.api("POST", &format!("{BULK}?{query}"));
        call.header("idempotency-key", "k1").json(&delete)
    };
    assert_eq!(call("hostname=h1").expect(200), done(1, 1));
    let again = call("hostname=h1").send();
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.json(), done(1, 1));
    // Another query is another request.
    call("hostname=h2").problem(422);
    assert_eq!(found(&server, ""), 2);
}

/// Enough for several parts.
const MANY: usize = 600;

#[test]
fn a_change_a_crash_broke_off_is_sent_again_and_each_host_changed_once() {
    let directory = TempDir::new().expect("a temporary directory");
    let mut server = Server::start_in(directory.path(), "");
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let number @ 0..MANY = next.fetch_add(1, Ordering::Relaxed) {
                    server.register(&format!("h{number}"));
                }
            });
        }
    });
    let tag = json!({ "action": "tag", "set": "rack=7", "expected_hosts": MANY });
    let (address, token) = (server.address, server.api_token.clone());
    let body = tag.clone();
    let caller = std::thread::spawn(move || {
        let call = Request::at(address, "POST", BULK).bearer(&token);
        call.json(&body).try_send();
    });
    // It dies with some of it done; on a machine that is quick, with all of it.
    wait_for("the first part", || {
        (found(&server, "selector=rack&limit=1") > 0).then_some(())
    });
    server.signal(Signal::SIGKILL);
    server.end();
    caller.join().expect("the caller is refused or answered");
    let server = Server::start_in(directory.path(), "");
    let again = server.api("POST", BULK).json(&tag).expect(200);
    assert_eq!((&again["hosts"], &again["left"]), (&json!(MANY), &json!(0)));
    let audit = server.api("GET", "/api/v1/audit?action=host.bulk-tag&limit=500");
    let audit = audit.expect(200);
    let parts = audit["items"].as_array().expect("rows").iter();
    let changed: u64 = parts
        .filter_map(|row| row["detail"]["changed"].as_u64())
        .sum();
    assert_eq!(usize::try_from(changed), Ok(MANY));
}
