//! A server beside tables that a newer one has brought up to date meanwhile, as in the
//! middle of an upgrade of several: it serves, and leaves rollouts to newer ones.

use serde_json::json;
use sqlx::{Connection, SqliteConnection};

use crate::harness::{Server, TestHost, wait_for};
use crate::postgres::{self, ask, runtime};
use crate::rollouts::{ROLLOUTS, does, hosts, id, now, push, show, tell, until_phase};

/// What a newer server does to the tables, and what would make it never have been.
const COMES: &str =
    "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
     VALUES (9999, 'later', TRUE, '', 1)";
const GOES: &str = "DELETE FROM _sqlx_migrations WHERE version = 9999";
/// Until when somebody has the lease.
const UNTIL: &str = "SELECT until FROM lease WHERE name = 'rollouts'";
/// What the log says of it.
const TOLD: &str = "rollouts and assignments are left to it";

/// Of servers on one database, which is asked beside them.
fn assert_left_to_newer_ones(servers: &[&Server], ask: impl Fn(&'static str) -> Option<i64>) {
    let server = servers[0];
    let hosts: [TestHost; 2] = hosts(server, "1.0");
    let order = json!({ "action": "restart", "name": "a" });
    let named: Vec<&str> = hosts.iter().map(|host| host.agentsn.as_str()).collect();
    let new = json!({ "order": order, "targets": { "hosts": named }, "plan": { "parallel": 1 } });
    let id = id(&server.api("POST", ROLLOUTS).json(&new).expect(201));
    let job = wait_for("a job", || push(server, &hosts[0], "1.0", json!([])).pop());
    ask(COMES);
    // Hosts and operators are heard, the second host has to wait.
    let result = json!([{ "id": job["id"], "errcode": 0, "message": "" }]);
    push(server, &hosts[0], "1.0", result);
    wait_for("what the log says of it", || {
        let told = servers.iter().all(|server| server.log().contains(TOLD));
        told.then_some(())
    });
    wait_for("the end of the lease", || {
        let until = ask(UNTIL).expect("somebody had it");
        (until / 1000 < now()).then_some(())
    });
    assert!(push(server, &hosts[1], "1.0", json!([])).is_empty());
    let waiting = show(server, &id);
    assert_eq!(
        (&waiting["phase"], &waiting["counts"]["waiting"]),
        (&json!("running"), &json!(1)),
        "{waiting}"
    );
    let job = job["id"].as_str().expect("an id");
    let job = server.api("GET", &format!("/api/v1/jobs/{job}"));
    assert_eq!(job.expect(200)["state"], "succeeded");
    assert_eq!(tell(server, &id, "pause")["phase"], "paused");
    assert_eq!(tell(server, &id, "resume")["phase"], "running");
    assert_eq!(server.call("GET", "/readyz").send().status, 200);
    assert!(push(server, &hosts[1], "1.0", json!([])).is_empty());
    ask(GOES);
    does(server, &hosts[1], "1.0", 0);
    let ended = until_phase(server, &id, "ended");
    assert_eq!(ended["counts"], json!({ "succeeded": 2 }));
    // It was said once, however often it was found.
    for server in servers {
        assert_eq!(server.log().matches(TOLD).count(), 1);
    }
}

#[test]
fn an_older_server_serves_and_leaves_rollouts_to_newer_ones() {
    let server = Server::start();
    let url = format!("sqlite://{}", server.data("bootserver.db").display());
    assert_left_to_newer_ones(&[&server], |query| {
        runtime().block_on(async {
            let mut connection = SqliteConnection::connect(&url).await.expect("opened");
            let found = sqlx::query_scalar(query).fetch_optional(&mut connection);
            let found = found.await.expect("an answer");
            connection.close().await.expect("closed");
            found
        })
    });
}

#[test]
fn of_several_servers_older_ones_serve_and_leave_rollouts_to_newer_ones() {
    let Some(configuration) = postgres::configuration() else {
        return;
    };
    let address = configuration.split('"').nth(1).expect("an address");
    let first = Server::start_with(&configuration);
    let (_directory, second) = postgres::beside(&first, &configuration);
    assert_left_to_newer_ones(&[&first, &second], |query| ask(address, query));
}
