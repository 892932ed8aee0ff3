//! What an operator is promised: orders reach exactly the hosts they name,
//! and what came of them can be read.

use serde_json::{Value, json};

use crate::harness::{Server, TestHost, bundle};

fn tag(server: &Server, host: &TestHost, tags: &str) -> Value {
    let path = format!("/api/v1/hosts/{}/tags", host.agentsn);
    server
        .api("PUT", &path)
        .json(&json!({ "tags": tags }))
        .expect(200)
}

fn hostnames(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().expect("items").iter();
    items
        .map(|host| host["hostname"].as_str().expect("a hostname"))
        .collect()
}

#[test]
fn hosts_are_found_by_tag_and_by_the_beginning_of_their_name() {
    let server = Server::start();
    let hosts: Vec<_> = ["db-1", "db-2", "web-1"]
        .map(|name| server.register(name))
        .into();
    tag(&server, &hosts[0], "svc=ecs,cmpt=DB");
    tag(&server, &hosts[1], "svc=ecs");
    let find = |query: &str| {
        server
            .api("GET", &format!("/api/v1/hosts?{query}"))
            .expect(200)
    };
    assert_eq!(hostnames(&find("selector=svc%3Decs")), ["db-1", "db-2"]);
    assert_eq!(hostnames(&find("selector=svc%3Decs%2Ccmpt%3DDB")), ["db-1"]);
    assert_eq!(hostnames(&find("hostname=db-")), ["db-1", "db-2"]);
    assert_eq!(hostnames(&find("hostname=%25")), [""; 0]);
    // Setting tags replaces them all.
    assert_eq!(tag(&server, &hosts[0], "rack=7")["tags"], "rack=7");
    assert_eq!(hostnames(&find("selector=svc%3Decs")), ["db-2"]);
}

#[test]
fn a_list_can_be_read_page_by_page_without_gap_or_repeat() {
    let server = Server::start();
    for n in 0..7 {
        // Two of each name, so that the name alone is no key.
        server.register(&format!("h{}", n / 2));
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/hosts?limit=3".to_owned();
    loop {
        let page = server.api("GET", &path).expect(200);
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= 3);
        seen.extend(items.iter().map(|host| host["agentsn"].to_string()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        let cursor: String = next.bytes().map(|byte| format!("%{byte:02X}")).collect();
        path = format!("/api/v1/hosts?limit=3&cursor={cursor}");
    }
    assert_eq!(seen.len(), 7);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 7);
}

#[test]
fn an_order_by_selector_reaches_the_tagged_hosts_and_no_others() {
    let server = Server::start();
    let hosts: Vec<_> = ["a", "b", "c"].map(|name| server.register(name)).into();
    tag(&server, &hosts[0], "svc=ecs,cmpt=DB");
    tag(&server, &hosts[1], "svc=ecs,cmpt=DB");
    tag(&server, &hosts[2], "svc=ecs");
    let order = json!({ "action": "stop", "name": "x", "selector": "svc=ecs,cmpt=DB" });
    assert_eq!(server.order(order).len(), 2);
    assert_eq!(
        server.push(&hosts[0], json!({}))["jobs"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    assert_eq!(server.push(&hosts[2], json!({}))["jobs"], Value::Null);
    let nobody = json!({ "action": "stop", "name": "x", "selector": "svc=none" });
    server
        .api("POST", "/api/v1/jobs")
        .json(&nobody)
        .problem(422);
    let everybody = json!({ "action": "stop", "name": "x", "selector": "" });
    server
        .api("POST", "/api/v1/jobs")
        .json(&everybody)
        .problem(422);
}

#[test]
fn an_order_that_names_an_unknown_host_starts_nothing() {
    let server = Server::start();
    let host = server.register("h1");
    let nobody = "00000000-0000-4000-8000-000000000000";
    let order = json!({ "action": "stop", "name": "x", "hosts": [host.agentsn, nobody, "zzz"] });
    let reply = server.api("POST", "/api/v1/jobs").json(&order).send();
    assert_eq!(reply.status, 404, "{}", reply.text());
    assert_eq!(reply.json()["errors"], json!(["zzz", nobody]));
    assert_eq!(
        server.api("GET", "/api/v1/jobs").expect(200)["items"],
        json!([])
    );
    assert_eq!(server.push(&host, json!({}))["jobs"], Value::Null);
}

#[test]
fn a_job_nobody_was_told_of_is_cancelled_at_once() {
    let server = Server::start();
    let host = server.register("h1");
    let order = json!({ "action": "stop", "name": "x", "hosts": [host.agentsn] });
    let path = format!("/api/v1/jobs/{}", server.order(order)[0]);
    let job = server.api("POST", &format!("{path}/cancel")).expect(200);
    assert_eq!(
        (&job["state"], &job["errcode"]),
        (&json!("cancelled"), &json!(1006))
    );
    assert_eq!(server.push(&host, json!({}))["jobs"], Value::Null);
    server.api("POST", &format!("{path}/cancel")).problem(409);
    let results = server.api("GET", "/api/v1/job-results").expect(200);
    assert_eq!(results["items"][0]["origin"], "server");
}

#[test]
fn a_job_a_host_knows_of_is_withdrawn_by_telling_it() {
    let server = Server::start();
    let host = server.register("h1");
    let order = json!({ "action": "stop", "name": "x", "hosts": [host.agentsn] });
    let id = server.order(order).remove(0);
    server.push(&host, json!({}));
    let path = format!("/api/v1/jobs/{id}");
    // Twice makes one.
    for _ in 0..2 {
        assert_eq!(
            server.api("POST", &format!("{path}/cancel")).expect(200)["state"],
            "sent"
        );
    }
    let reply = server.push(&host, json!({ "accepted": [id] }));
    let jobs = reply["jobs"].as_array().expect("the cancel job");
    assert_eq!(jobs.len(), 1, "{reply}");
    assert_eq!(
        (&jobs[0]["action"], &jobs[0]["cancels"]),
        (&json!("cancel"), &json!(id))
    );
    let results = json!({ "jobs": [
        { "id": id, "errcode": 1006, "message": "cancelled" },
        { "id": jobs[0]["id"], "errcode": 0, "message": "success" },
    ] });
    assert_eq!(server.push(&host, results)["jobs"], Value::Null);
    assert_eq!(server.api("GET", &path).expect(200)["state"], "cancelled");
}

#[test]
fn a_job_that_was_not_begun_in_time_never_goes_out() {
    let server = Server::start();
    let host = server.register("h1");
    let order = json!({ "action": "stop", "name": "x", "hosts": [host.agentsn], "expires_in": 1 });
    let path = format!("/api/v1/jobs/{}", server.order(order)[0]);
    let job = server.api("GET", &path).expect(200);
    let (created, expires) = (job["created"].as_i64(), job["expires"].as_i64());
    assert_eq!(created.map(|created| created + 1000), expires);
    // Ended by the housekeeping, without the host.
    let state = || server.api("GET", &path).expect(200)["state"].clone();
    crate::harness::wait_for("the expiry", || (state() == "expired").then_some(()));
    assert_eq!(server.push(&host, json!({}))["jobs"], Value::Null);
}

#[test]
fn a_job_that_does_not_say_how_long_it_holds_holds_for_a_week() {
    let server = Server::start();
    let host = server.register("h1");
    let order = json!({ "action": "stop", "name": "x", "hosts": [host.agentsn] });
    let path = format!("/api/v1/jobs/{}", server.order(order)[0]);
    let job = server.api("GET", &path).expect(200);
    let created = job["created"].as_i64().expect("a time");
    assert_eq!(job["expires"], created + 7 * 86_400_000);
    // Its host is told so, too.
    let told = server.push(&host, json!({}))["jobs"][0]["expires"].clone();
    assert_eq!(told, (created + 7 * 86_400_000) / 1000 + 1);
    let job = server.api("GET", &path).expect(200);
    assert_eq!(
        (&job["late"], &job["offline_since"]),
        (&json!(false), &Value::Null)
    );
}

#[test]
fn results_and_jobs_are_listed_by_host_and_in_their_order() {
    let server = Server::start();
    let hosts: Vec<_> = ["a", "b"].map(|name| server.register(name)).into();
    let all = json!([hosts[0].agentsn, hosts[1].agentsn]);
    let ids = server.order(json!({ "action": "stop", "name": "x", "hosts": all }));
    assert_eq!(ids.len(), 2);
    for host in hosts.iter().rev() {
        let reply = server.push(host, json!({}));
        let result = json!({ "id": reply["jobs"][0]["id"], "errcode": 0, "message": "success" });
        server.push(host, json!({ "jobs": [result] }));
    }
    let results = server.api("GET", "/api/v1/job-results?limit=1").expect(200);
    assert_eq!(results["items"][0]["agentsn"], hosts[1].agentsn);
    let next = results["next"].as_str().expect("another page");
    let path = format!("/api/v1/job-results?cursor={next}");
    let rest = server.api("GET", &path).expect(200);
    assert_eq!(rest["items"][0]["agentsn"], hosts[0].agentsn);
    let one = format!("/api/v1/jobs?host={}&state=finished", hosts[0].agentsn);
    let jobs = server.api("GET", &one).expect(200);
    assert_eq!(jobs["items"].as_array().map(Vec::len), Some(1));
    let open = server.api("GET", "/api/v1/jobs?state=open").expect(200);
    assert_eq!(open["items"], json!([]));
    let finished = results["items"][0]["finished"].as_i64().expect("a time");
    let later = format!("/api/v1/job-results?since={}", finished + 3_600_000);
    assert_eq!(server.api("GET", &later).expect(200)["items"], json!([]));
}

#[test]
fn each_host_gets_the_file_that_fits_it() {
    let server = Server::start();
    let register = |name: &str, os: &str, arch: &str| {
        server.register_as(json!({
            "hostname": name, "agentsn": uuid::Uuid::new_v4(), "os": os, "arch": arch,
        }))
    };
    let amd = register("amd", "debian 12", "x86_64");
    let arm = register("arm", "debian 12", "aarch64");
    server.upload("", &bundle("flux-push", "0.1.0-1", b"amd"));
    server.upload("arch=arm64", &bundle("flux-push", "0.1.0-1", b"arm"));
    let both = json!([amd.agentsn, arm.agentsn]);
    server.order(json!({ "action": "install", "name": "flux-push", "hosts": both }));
    let url = |host| server.push(host, json!({}))["jobs"][0]["url"].clone();
    assert_eq!(
        url(&amd),
        "/packages/flux-push/flux-push-0.1.0-1.linux-x86_64.tar.gz"
    );
    assert_eq!(
        url(&arm),
        "/packages/flux-push/flux-push-0.1.0-1.linux-aarch64.tar.gz"
    );

    let riscv = register("riscv", "debian 12", "riscv64");
    let hosts = json!([amd.agentsn, riscv.agentsn]);
    let order = json!({ "action": "install", "name": "flux-push", "hosts": hosts });
    let reply = server.api("POST", "/api/v1/jobs").json(&order).send();
    assert_eq!(reply.status, 422);
    let errors = reply.json()["errors"].to_string();
    assert!(
        errors.contains(&riscv.agentsn) && !errors.contains(&amd.agentsn),
        "{errors}"
    );
}

#[test]
fn without_a_version_the_newest_upload_is_meant() {
    let server = Server::start();
    let host = server.register("h1");
    server.upload("", &bundle("a", "1.0", b""));
    server.upload("", &bundle("a", "0.9", b""));
    let ordered = |order: Value| {
        let id = server.order(order).remove(0);
        server.api("GET", &format!("/api/v1/jobs/{id}")).expect(200)["body"].clone()
    };
    let hosts = json!([host.agentsn]);
    let body = ordered(json!({ "action": "install", "name": "a", "hosts": hosts }));
    assert_eq!(body["version"], "0.9");
    let body =
        ordered(json!({ "action": "install", "name": "a", "version": "1.0", "hosts": hosts }));
    assert_eq!(body["version"], "1.0");
    assert!(
        body["checksum"]
            .as_str()
            .is_some_and(|sum| sum.starts_with("SHA256:"))
    );
}

#[test]
fn a_package_elsewhere_goes_out_as_it_was_ordered() {
    let server = Server::start();
    let host = server.register("h1");
    let sum = "SHA256:4a34b8d7d3009bb9ef9475fbf33e7bbe4a1e8db003aefc578a241c2f51c2c2f2";
    let url = "ftp://server:21/BasicAgent/BasicAgent-0.1.0-0.x86_64.rpm";
    server.order(json!({
        "action": "install", "name": "BasicAgent", "hosts": [host.agentsn], "url": url,
        "checksum": sum, "envs": { "PATH": "/usr/bin;/usr/local/bin" },
        "limits": { "CPU": "10%", "memory": "20M" },
    }));
    let job = server.push(&host, json!({}))["jobs"][0].clone();
    assert_eq!((&job["url"], &job["checksum"]), (&json!(url), &json!(sum)));
    assert_eq!(job["envs"]["PATH"], "/usr/bin;/usr/local/bin");
    assert_eq!(job["limits"], json!({ "CPU": "10%", "memory": "20M" }));
    server.order(json!({
        "action": "config", "svrlist": "192.168.9.1:1234,", "step": 1200, "hosts": [host.agentsn],
    }));
    let job = server.push(&host, json!({}))["jobs"][1].clone();
    assert_eq!(
        (&job["svrlist"], &job["step"]),
        (&json!("192.168.9.1:1234,"), &json!(1200))
    );
}

#[test]
fn the_table_of_error_codes_is_the_protocols() {
    let server = Server::start();
    let table = server.api("GET", "/api/v1/errcodes").expect(200);
    let items = table["items"].as_array().expect("items");
    assert_eq!(items.len(), bootagent_protocol::ErrorCode::TABLE.len());
    assert!(items.contains(&json!({ "code": 3001, "meaning": "checksum mismatch" })));
}
