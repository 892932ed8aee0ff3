//! What is sent twice is done once.

use std::sync::Barrier;

use serde_json::{Value, json};

use crate::harness::{Reply, Request, Server};

fn keyed(call: Request, key: &str, body: &Value) -> Reply {
    call.header("idempotency-key", key).json(body).send()
}

fn count(server: &Server, path: &str) -> usize {
    let list = server.api("GET", path).expect(200);
    list["items"].as_array().expect("a list").len()
}

#[test]
fn what_is_sent_again_is_answered_as_before_and_not_done_again() {
    let server = Server::start();
    let post = |key: &str, body: Value| keyed(server.api("POST", "/api/v1/groups"), key, &body);
    let first = post("k1", json!({ "name": "a" }));
    assert_eq!(
        (first.status, first.header("idempotency-replayed")),
        (201, None)
    );
    let again = post("k1", json!({ "name": "a" }));
    assert_eq!(again.status, 201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.header("etag"), first.header("etag"));
    assert_eq!(again.json(), first.json());
    assert_eq!(count(&server, "/api/v1/groups"), 1);
    // Another request under the same key, and another key for the same request.
    let other = post("k1", json!({ "name": "b" }));
    assert_eq!(other.status, 422, "{}", other.text());
    assert_eq!(
        post("k2", json!({ "name": "a" })).status,
        409,
        "the name is taken"
    );
    // What was refused changed nothing and may be tried again.
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    server
        .api("DELETE", &format!("/api/v1/groups/{id}"))
        .expect(204);
    assert_eq!(post("k2", json!({ "name": "a" })).status, 201);
    for key in ["", "two words", "\u{e4}", &"k".repeat(129)] {
        assert_eq!(post(key, json!({ "name": "c" })).status, 400, "{key:?}");
    }
}

#[test]
fn a_key_is_its_callers_own_and_what_is_kept_cannot_be_read() {
    let server = Server::start();
    let wanted = json!({ "name": "ci", "role": "viewer" });
    let mine = keyed(server.api("POST", "/api/v1/api-tokens"), "k1", &wanted);
    assert_eq!(mine.status, 201, "{}", mine.text());
    let again = keyed(server.api("POST", "/api/v1/api-tokens"), "k1", &wanted);
    assert_eq!(again.json(), mine.json(), "with the token");
    let other = server.token("viewer", None);
    let call = server.call("POST", "/api/v1/api-tokens").bearer(&other);
    let theirs = keyed(call, "k1", &wanted);
    assert_eq!(theirs.status, 201, "{}", theirs.text());
    assert_ne!(theirs.json()["token"], mine.json()["token"]);
    // Who may not do it is told so, key or not.
    let call = server.call("POST", "/api/v1/groups").bearer(&other);
    assert_eq!(keyed(call, "k2", &json!({ "name": "a" })).status, 403);
    let call = server.call("POST", "/api/v1/groups");
    assert_eq!(keyed(call, "k2", &json!({ "name": "a" })).status, 401);
    let token = mine.json()["token"].as_str().expect("a token").to_owned();
    for entry in std::fs::read_dir(server.data("")).expect("the data directory") {
        let path = entry.expect("an entry").path();
        if !path.is_file() {
            continue;
        }
        let bytes = std::fs::read(&path).expect("a file of ours");
        let mut parts = bytes.windows(token.len());
        assert!(
            !parts.any(|part| part == token.as_bytes()),
            "{path:?} holds the token"
        );
    }
}

#[test]
fn of_many_at_once_with_one_key_one_is_done() {
    let server = Server::start();
    let host = server.register("h1");
    let order = json!({ "action": "stop", "name": "x", "hosts": [host.agentsn] });
    let barrier = Barrier::new(8);
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let send = || {
            barrier.wait();
            keyed(server.api("POST", "/api/v1/jobs"), "k1", &order)
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(send)).collect();
        let replies = threads.into_iter().map(|thread| thread.join());
        replies.map(|reply| reply.expect("a reply")).collect()
    });
    let done: Vec<_> = replies.iter().filter(|reply| reply.status == 201).collect();
    let waits = replies.iter().filter(|reply| reply.status == 409).count();
    assert_eq!(done.len() + waits, 8);
    assert!(!done.is_empty());
    assert!(done.iter().all(|reply| reply.json() == done[0].json()));
    assert_eq!(count(&server, "/api/v1/jobs"), 1);
}
