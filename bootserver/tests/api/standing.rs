//! What operators see and decide of a host's standing: counters, changes, a new
//! secret, revoked, deleted and back.

use serde_json::{Value, json};

use crate::harness::{Server, TestHost, wait_for};

const AGENTSN: &str = "bfdcc18c-b6b9-4725-9c47-37fd93dba5b6";

fn path(host: &TestHost, below: &str) -> String {
    format!("/api/v1/hosts/{}{below}", host.agentsn)
}

/// A status whose answer must have this HTTP status.
fn status(server: &Server, host: &TestHost, http: u16) -> Value {
    server
        .call("POST", "/agent/status")
        .bearer(&host.token)
        .json(&host.status(json!({})))
        .expect(http)
}

fn count(server: &Server, state: &str) -> Value {
    server.api("GET", "/api/v1/host-counts").expect(200)[state].clone()
}

/// A registration with the first enrolment token.
fn enrol(server: &Server) -> crate::harness::Reply {
    let request = json!({ "hostname": "h1", "agentsn": AGENTSN, "machine_id": "m1" });
    server
        .call("POST", "/agent/register")
        .bearer(&server.enrolment_token)
        .json(&request)
        .send()
}

fn enrolled(server: &Server) -> TestHost {
    TestHost {
        agentsn: AGENTSN.into(),
        token: enrol(server).json()["token"]
            .as_str()
            .expect("a secret")
            .to_owned(),
    }
}

#[test]
fn a_host_is_counted_listed_and_remembered_by_its_state() {
    let server = Server::start();
    let host = server.register("h1");
    let silent = server.register("h2");
    assert_eq!(
        (count(&server, "new"), count(&server, "online")),
        (json!(2), json!(0))
    );
    server.push(&host, json!({}));
    assert_eq!(
        (count(&server, "new"), count(&server, "online")),
        (json!(1), json!(1))
    );
    let list = |state: &str| {
        let path = format!("/api/v1/hosts?state={state}");
        let list = server.api("GET", &path).expect(200);
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|host| host["agentsn"].as_str().expect("an agentsn").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list("online"), [host.agentsn.as_str()]);
    assert_eq!(list("new"), [silent.agentsn.as_str()]);
    assert_eq!(list("late"), [""; 0]);
    let detail = server.api("GET", "/api/v1/hosts?state=gone").problem(400);
    assert!(detail.contains("online, late"), "{detail}");

    let changes = |query: &str| server.api("GET", &path(&host, &format!("/changes{query}")));
    let first = changes("?limit=1").expect(200);
    assert_eq!(first["items"][0]["state"], "online");
    let next = first["next"].as_str().expect("more follow");
    let second = changes(&format!("?limit=1&cursor={next}")).expect(200);
    assert_eq!(
        (&second["items"][0]["state"], &second["next"]),
        (&json!("new"), &Value::Null)
    );
    changes("?cursor=x").problem(400);
    let nobody = "/api/v1/hosts/00000000-0000-4000-8000-000000000000/changes";
    server.api("GET", nobody).problem(404);
}

#[test]
fn a_secret_that_an_operator_has_replaced_holds_until_the_new_one_is_used() {
    let server = Server::start();
    let host = server.register("h1");
    assert_eq!(status(&server, &host, 200), json!({ "status": 0 }));
    server
        .api("POST", &path(&host, "/rotate-secret"))
        .expect(202);
    let offered = status(&server, &host, 200);
    let token = offered["token"].as_str().expect("a new secret").to_owned();
    // The reply was lost: the host says the same again, and is not flooded.
    assert_eq!(status(&server, &host, 200), json!({ "status": 0 }));
    let renewed = TestHost { token, ..host };
    status(&server, &renewed, 200);
    let old = TestHost {
        token: host.token,
        agentsn: renewed.agentsn.clone(),
    };
    status(&server, &old, 401);
    status(&server, &renewed, 200);
}

#[test]
fn a_revoked_host_is_refused_at_once_everywhere_and_may_not_enrol_again() {
    let server = Server::start();
    let host = enrolled(&server);
    server.push(&host, json!({}));
    let job = server.order(json!({ "action": "stop", "name": "a", "hosts": [host.agentsn] }));
    let fetch = || {
        let path = "/packages/a/a-1.linux-x86_64.tar.gz";
        server.call("GET", path).bearer(&host.token).send().status
    };
    assert_eq!(fetch(), 404, "it may ask");
    server.api("POST", &path(&host, "/revoke")).expect(204);
    status(&server, &host, 401);
    // What is only read may be remembered for a few seconds.
    wait_for("a download to be refused", || {
        (fetch() == 401).then_some(())
    });
    let job = server
        .api("GET", &format!("/api/v1/jobs/{}", job[0]))
        .expect(200);
    assert_eq!(job["errcode"], 1006);
    let refused = enrol(&server);
    assert_eq!(refused.status, 401);
    assert!(refused.text().contains("revoked"), "{}", refused.text());
    let order = json!({ "action": "stop", "name": "a", "hosts": [host.agentsn] });
    server.api("POST", "/api/v1/jobs").json(&order).problem(404);
    assert_eq!(count(&server, "revoked"), 1);
    server.api("POST", &path(&host, "/revoke")).expect(204);
}

#[test]
fn a_deleted_host_is_out_of_the_list_and_comes_back_as_a_new_one() {
    let server = Server::start();
    let host = enrolled(&server);
    server.push(&host, json!({}));
    server.api("DELETE", &path(&host, "")).expect(204);
    server.api("DELETE", &path(&host, "")).problem(404);
    status(&server, &host, 401);
    let list = server.api("GET", "/api/v1/hosts").expect(200);
    assert_eq!(list["items"], json!([]));
    let tombstone = server.api("GET", &path(&host, "")).expect(200);
    assert_eq!(tombstone["state"], "deleted");
    let again = enrolled(&server);
    assert_eq!(status(&server, &again, 200), json!({ "status": 0 }));
    let changes = server.api("GET", &path(&host, "/changes")).expect(200);
    let states: Vec<_> = changes["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|change| change["state"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(states, ["online", "new", "deleted", "online", "new"]);
    for call in ["/revoke", "/rotate-secret"] {
        let nobody = "/api/v1/hosts/00000000-0000-4000-8000-000000000000";
        server.api("POST", &format!("{nobody}{call}")).problem(404);
    }
}
