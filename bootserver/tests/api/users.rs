//! Users and tokens: who manages them, what a scope hides, and what is written
//! down.

use serde_json::{Value, json};

use crate::harness::{Server, wait_for};

const GOOD: &str = "correct horse battery";

#[test]
fn a_user_is_edited_as_it_was_seen_and_the_last_admin_stays() {
    let server = Server::start();
    let id = server.user("ann", "viewer", GOOD);
    let path = format!("/api/v1/users/{id}");
    let seen = server.api("GET", &path).send();
    let etag = seen.header("etag").expect("an ETag").to_owned();
    let change = |etag: &str, what: Value| {
        let request = server.api("PATCH", &path).header("If-Match", etag);
        request.json(&what).send()
    };
    let promoted = change(&etag, json!({ "role": "operator", "display_name": "Ann" }));
    assert_eq!(promoted.status, 200, "{}", promoted.text());
    assert_eq!(promoted.json()["role"], "operator");
    assert_eq!(change(&etag, json!({ "role": "admin" })).status, 412);
    let now = promoted.header("etag").expect("an ETag").to_owned();
    let restricted = json!({ "scope": [{ "tags": "svc=ecs" }] });
    assert_eq!(
        change(&now, restricted).json()["scope"][0]["tags"],
        "svc=ecs"
    );
    for bad in [
        json!({ "scope": [{ "tags": "" }] }),
        json!({ "scope": [{ "tags": "svc" }] }),
        json!({ "role": "root" }),
        json!({ "display_name": "a\nb" }),
        json!({ "password": GOOD }),
    ] {
        assert_eq!(change("*", bad.clone()).status, 422, "{bad}");
    }
    let twice = json!({ "name": "ANN", "role": "viewer" });
    server
        .api("POST", "/api/v1/users")
        .json(&twice)
        .problem(409);
    let users = server.api("GET", "/api/v1/users").expect(200);
    let admin = &users["items"][0];
    assert_eq!(admin["name"], "admin");
    let admin = format!("/api/v1/users/{}", admin["id"].as_str().expect("an id"));
    let why = server.api("DELETE", &admin).problem(409);
    assert!(why.contains("another admin"), "{why}");
    let disable = json!({ "disabled": true });
    server.api("PATCH", &admin).json(&disable).problem(409);
    // Disabled, one is out at once.
    let session = server.sign_in("ann", GOOD);
    server
        .call("GET", "/api/v1/hosts")
        .bearer(&session)
        .expect(200);
    assert_eq!(change("*", disable).json()["disabled"], true);
    server
        .call("GET", "/api/v1/hosts")
        .bearer(&session)
        .problem(401);
    let who = json!({ "name": "ann", "password": GOOD });
    server
        .call("POST", "/api/v1/session")
        .json(&who)
        .problem(401);
    server.api("DELETE", &path).expect(204);
    server.api("GET", &path).problem(404);
}

#[test]
fn a_token_may_no_more_than_its_maker_and_ends_when_it_should() {
    let server = Server::start();
    let id = server.user("ann", "operator", GOOD);
    let session = server.sign_in("ann", GOOD);
    let make = |token: &str, what: Value| {
        let request = server.call("POST", "/api/v1/api-tokens").bearer(token);
        request.json(&what).send()
    };
    assert_eq!(
        make(&session, json!({ "name": "x", "role": "admin" })).status,
        403
    );
    for bad in [
        json!({ "name": "", "role": "viewer" }),
        json!({ "name": "x", "role": "viewer", "expires_in": 0 }),
        json!({ "name": "x", "role": "viewer", "scope": [{ "tags": "" }] }),
    ] {
        assert_eq!(make(&session, bad.clone()).status, 422, "{bad}");
    }
    let narrow = json!({ "name": "x", "role": "operator", "scope": [{ "tags": "svc=ecs" }] });
    let narrow = make(&session, narrow).json();
    let narrow = narrow["token"].as_str().expect("a token");
    // What a restricted token makes is restricted as well.
    let child = make(narrow, json!({ "name": "y", "role": "viewer" })).json();
    assert_eq!(child["scope"], json!([{ "tags": "svc=ecs" }]));
    assert_eq!(child["maker"], json!(id));
    // Nobody said when it ends, and the session its maker had is no reason.
    assert_eq!(child["expires"], Value::Null);
    let child_token = child["token"].as_str().expect("a token");
    let hosts = |token: &str| {
        server
            .call("GET", "/api/v1/hosts")
            .bearer(token)
            .send()
            .status
    };
    assert_eq!(hosts(child_token), 200);
    let used = || {
        let list = server
            .call("GET", "/api/v1/api-tokens")
            .bearer(&session)
            .expect(200);
        let items = list["items"].as_array().expect("items").clone();
        items
            .iter()
            .find(|token| token["id"] == child["id"])
            .expect("the token")["used"]
            .clone()
    };
    assert!(used().is_i64());
    // An admin sees all, others their own.
    let all = server.api("GET", "/api/v1/api-tokens").expect(200);
    assert_eq!(all["items"].as_array().map(Vec::len), Some(3));
    let path = format!(
        "/api/v1/api-tokens/{}",
        child["id"].as_str().expect("an id")
    );
    server.call("DELETE", &path).bearer(&session).expect(204);
    assert_eq!(hosts(child_token), 401);
    let brief = make(
        &session,
        json!({ "name": "z", "role": "viewer", "expires_in": 1 }),
    )
    .json();
    let brief = brief["token"].as_str().expect("a token").to_owned();
    wait_for("the token's end", || (hosts(&brief) == 401).then_some(()));
    // With its maker it goes.
    assert_eq!(hosts(narrow), 200);
    server
        .api("DELETE", &format!("/api/v1/users/{id}"))
        .expect(204);
    assert_eq!(hosts(narrow), 401);
    assert_eq!(hosts(&session), 401);
}

#[test]
fn whoever_is_restricted_to_some_hosts_finds_no_trace_of_others() {
    let server = Server::start();
    let hosts = ["inside", "outside"].map(|name| server.register(name));
    for (host, tags) in hosts.iter().zip(["svc=ecs", "svc=web"]) {
        let path = format!("/api/v1/hosts/{}/tags", host.agentsn);
        server
            .api("PUT", &path)
            .json(&json!({ "tags": tags }))
            .expect(200);
        let event = json!({ "seq": 1, "boot_id": "b", "timestamp": 1, "category": "crash",
                            "subject": "x", "message": "it ended" });
        server.push(host, json!({ "events": [event] }));
    }
    let all = json!([hosts[0].agentsn, hosts[1].agentsn]);
    let jobs = server.order(json!({ "action": "stop", "name": "x", "hosts": all }));
    let token = server.token("operator", Some("svc=ecs"));
    let call = |method: &str, path: &str| server.call(method, path).bearer(&token);
    let of = |path: &str| {
        let items = call("GET", path).expect(200)["items"].clone();
        let items = items.as_array().expect("items").iter();
        items
            .map(|item| item["agentsn"].clone())
            .collect::<Vec<_>>()
    };
    for list in ["hosts", "jobs", "events"] {
        assert_eq!(
            of(&format!("/api/v1/{list}")),
            [json!(hosts[0].agentsn)],
            "{list}"
        );
    }
    let outside = &hosts[1].agentsn;
    for list in ["jobs", "events", "job-results"] {
        let path = format!("/api/v1/{list}?host={outside}");
        assert_eq!(of(&path), [Value::Null; 0], "{list}");
    }
    call("GET", &format!("/api/v1/hosts/{outside}")).problem(404);
    let tags = json!({ "tags": "svc=ecs" });
    call("PUT", &format!("/api/v1/hosts/{outside}/tags"))
        .json(&tags)
        .problem(404);
    let theirs = server
        .api("GET", &format!("/api/v1/jobs?host={outside}"))
        .expect(200);
    let job = theirs["items"][0]["id"].as_str().expect("a job").to_owned();
    assert!(jobs.contains(&job));
    call("GET", &format!("/api/v1/jobs/{job}")).problem(404);
    call("POST", &format!("/api/v1/jobs/{job}/cancel")).problem(404);
    let order = json!({ "action": "stop", "name": "x", "hosts": all });
    let refused = call("POST", "/api/v1/jobs").json(&order).send();
    assert_eq!(
        (refused.status, &refused.json()["errors"]),
        (404, &json!([outside]))
    );
    let order = json!({ "action": "stop", "name": "x", "selector": "svc=web" });
    call("POST", "/api/v1/jobs").json(&order).problem(422);
    // Inside everything is as usual, but nobody pushes a host out of their own sight.
    let inside = &hosts[0].agentsn;
    let order = json!({ "action": "stop", "name": "x", "hosts": [inside] });
    call("POST", "/api/v1/jobs").json(&order).expect(201);
    let path = format!("/api/v1/hosts/{inside}/tags");
    call("PUT", &path)
        .json(&json!({ "tags": "svc=web" }))
        .problem(422);
    call("PUT", &path)
        .json(&json!({ "tags": "svc=ecs,rack=7" }))
        .expect(200);
}

#[test]
fn the_audit_says_who_did_what_and_no_secret() {
    let server = Server::start();
    let id = server.user("ann", "operator", GOOD);
    let session = server.sign_in("ann", GOOD);
    let host = server.register("h1");
    let path = format!("/api/v1/hosts/{}/tags", host.agentsn);
    server
        .call("PUT", &path)
        .bearer(&session)
        .json(&json!({ "tags": "svc=ecs" }))
        .expect(200);
    let enrolment = server
        .api("POST", "/api/v1/enrolment-tokens")
        .json(&json!({ "name": "rack 7" }))
        .expect(201);
    let token = server.token("viewer", None);
    let find = |query: &str| {
        server
            .api("GET", &format!("/api/v1/audit{query}"))
            .expect(200)
    };
    let by_ann = find(&format!("?actor={id}"));
    let actions: Vec<_> = by_ann["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|row| row["action"].as_str().expect("an action"))
        .collect();
    assert_eq!(
        actions,
        [
            "host.set-tags",
            "session.begin",
            "user.change-password",
            "session.begin"
        ]
    );
    let row = &by_ann["items"][0];
    assert_eq!(
        (&row["actor_kind"], &row["actor_name"]),
        (&json!("user"), &json!("ann"))
    );
    assert_eq!(row["target"], json!(host.agentsn));
    assert_eq!(row["detail"], json!({ "before": "", "after": "svc=ecs" }));
    assert_eq!(
        find("?action=enrolment-token.create")["items"][0]["target"],
        enrolment["id"]
    );
    // Page by page, newest first.
    let first = find("?limit=1");
    let next = first["next"].as_str().expect("another page");
    let second = find(&format!("?limit=1&cursor={next}"));
    assert!(first["items"][0]["id"].as_i64() > second["items"][0]["id"].as_i64());
    server
        .call("GET", "/api/v1/audit")
        .bearer(&session)
        .problem(403);
    let everything = find("?limit=500").to_string();
    for secret in [
        GOOD,
        &session,
        &token,
        &server.admin_password,
        &server.api_token,
        enrolment["token"].as_str().expect("a token"),
        "argon2",
    ] {
        assert!(!everything.contains(secret));
    }
}
