//! What one has seen is what one changes, whatever it is.

use serde_json::{Value, json};

use crate::harness::{Server, bundle, wait_for};

/// One of everything that has a revision, by path, and what changes it.
fn things(server: &Server) -> Vec<(String, &'static str, String, Value)> {
    let make = |path: &str, body: Value| {
        let made = server.api("POST", path).json(&body).expect(201);
        format!("{path}/{}", made["id"].as_str().expect("an id"))
    };
    let host = format!("/api/v1/hosts/{}", server.register("h1").agentsn);
    let revoked = format!("/api/v1/hosts/{}", server.register("h2").agentsn);
    let user = make("/api/v1/users", json!({ "name": "ann", "role": "viewer" }));
    let token = json!({ "name": "ci", "role": "viewer" });
    let api_token = make("/api/v1/api-tokens", token);
    let enrolment_token = make("/api/v1/enrolment-tokens", json!({}));
    let group = make("/api/v1/groups", json!({ "name": "g" }));
    // A host that never reports, so that nothing of these changes by itself.
    let order = json!({ "action": "restart", "name": "a" });
    let everybody = json!({ "order": order, "targets": { "all": true } });
    let rollout = make("/api/v1/rollouts", everybody);
    wait_for("its targets", || {
        let shown = server.api("GET", &rollout).expect(200);
        (shown["phase"] == "running").then_some(())
    });
    server.upload("", &bundle("b", "2.0", b"two"));
    let edge = server.api("POST", "/api/v1/groups");
    let edge = edge.json(&json!({ "name": "edge" })).expect(201);
    let assigned = json!({ "group": edge["id"], "agent": "b", "version": "2.0" });
    let assignment = make("/api/v1/assignments", assigned);
    let change = |path: &String, method, more: &str, body: Value| {
        (path.clone(), method, format!("{path}{more}"), body)
    };
    vec![
        // While its hosts are there.
        change(&rollout, "POST", "/pause", Value::Null),
        change(&rollout, "POST", "/resume", Value::Null),
        change(&rollout, "POST", "/abort", Value::Null),
        change(&host, "PATCH", "", json!({ "notes": "n" })),
        change(&host, "PUT", "/tags", json!({ "tags": "a=b" })),
        change(&host, "DELETE", "", Value::Null),
        change(&revoked, "POST", "/revoke", Value::Null),
        change(&user, "PATCH", "", json!({ "display_name": "Ann" })),
        change(&user, "DELETE", "", Value::Null),
        change(&group, "PUT", "", json!({ "name": "h" })),
        change(&group, "DELETE", "", Value::Null),
        change(&api_token, "DELETE", "", Value::Null),
        change(&enrolment_token, "DELETE", "", Value::Null),
        change(&assignment, "PATCH", "", json!({ "priority": 2 })),
        change(&assignment, "POST", "/pause", Value::Null),
        change(&assignment, "POST", "/resume", Value::Null),
        change(&assignment, "POST", "/retry", Value::Null),
        change(&assignment, "DELETE", "", Value::Null),
    ]
}

/// A thing without what an assignment finds out by itself, every few seconds.
fn without_looks(mut thing: Value) -> Value {
    let fields = thing.as_object_mut().expect("a thing");
    for field in ["looked", "hosts", "right", "taken"] {
        fields.remove(field);
    }
    thing
}

#[test]
fn who_changes_what_somebody_else_changed_meanwhile_is_told_what_to_do() {
    let server = Server::start();
    for (thing, method, path, body) in things(&server) {
        let seen = server.api("GET", &thing).send();
        let etag = seen.header("etag").expect("an ETag").to_owned();
        let change = |etag: &str| {
            let call = server.api(method, &path).header("if-match", etag);
            match &body {
                Value::Null => call,
                body => call.json(body),
            }
        };
        let detail = change("\"99\"").problem(412);
        assert!(
            detail.contains("look at it again") || detail.contains("read it again"),
            "{method} {path}: {detail}"
        );
        let now = server.api("GET", &thing).send();
        assert_eq!(without_looks(now.json()), without_looks(seen.json()));
        let status = change(&etag).send().status;
        assert!(status < 300, "{method} {path}: {status}");
    }
    // A token that was revoked is another than the one that was seen.
    let made = server.api("POST", "/api/v1/enrolment-tokens");
    let made = made.json(&json!({})).expect(201);
    assert_eq!(made["revision"], 1);
    let path = format!(
        "/api/v1/enrolment-tokens/{}",
        made["id"].as_str().expect("an id")
    );
    server.api("DELETE", &path).expect(204);
    let again = server.api("DELETE", &path).header("if-match", "\"1\"");
    again.problem(412);
    server.api("DELETE", &path).expect(204);
    assert_eq!(server.api("GET", &path).expect(200)["revision"], 2);
}
