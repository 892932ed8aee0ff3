//! The same server on PostgreSQL: what a fleet and its operators do, and two
//! servers on one database.

use serde_json::json;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::cluster::{self, Cluster};
use crate::harness::{Server, bundle, command, wait_for};

/// A configuration that names a new database; nothing where there is no
/// PostgreSQL.
pub(crate) fn configuration() -> Option<String> {
    cluster::shared().map(configuration_on)
}

/// A configuration that names a new database there.
pub(crate) fn configuration_on(cluster: &Cluster) -> String {
    let address = runtime().block_on(cluster.empty());
    format!("database = \"{address}\"")
}

/// The same of a database whose owner may do nothing else.
pub(crate) fn configuration_of_an_owner() -> Option<String> {
    let cluster = cluster::shared()?;
    let address = runtime().block_on(async {
        let address = cluster.empty().await;
        let name = address.trim_start_matches("postgres:///").split('?').next();
        let name = name.expect("a database");
        cluster
            .sql(&format!("CREATE ROLE owner_{name} LOGIN"))
            .await;
        cluster
            .sql(&format!("ALTER DATABASE {name} OWNER TO owner_{name}"))
            .await;
        address.replace("user=postgres", &format!("user=owner_{name}"))
    });
    Some(format!("database = \"{address}\""))
}

/// A second server on the database of another one.
pub(crate) fn beside(first: &Server, configuration: &str) -> (TempDir, Server) {
    // It was not the first start, so this one has no tokens of its own.
    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().join("data");
    std::fs::create_dir(&data).expect("a directory");
    let tokens = data.join("first-start.txt");
    std::fs::copy(first.data("first-start.txt"), tokens).expect("a copy");
    let second = Server::start_in(directory.path(), configuration);
    (directory, second)
}

/// Who took the lease of some work last.
pub(crate) fn holder(address: &str, work: &'static str) -> Option<String> {
    runtime().block_on(async {
        let mut connection = PgConnection::connect(address).await.expect("a connection");
        let held = "SELECT holder FROM lease WHERE name = $1";
        let found = sqlx::query_scalar(held).bind(work);
        let found = found.fetch_optional(&mut connection).await;
        connection.close().await.expect("a goodbye");
        found.expect("an answer")
    })
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

#[test]
fn an_order_goes_out_and_its_result_and_an_event_come_back() {
    let Some(configuration) = configuration() else {
        return;
    };
    let server = Server::start_with(&configuration);
    let host = server.register("db-1");
    let tags = format!("/api/v1/hosts/{}/tags", host.agentsn);
    server
        .api("PUT", &tags)
        .json(&json!({ "tags": "svc=ecs" }))
        .expect(200);
    let order = json!({ "action": "stop", "name": "x", "selector": "svc=ecs" });
    let job = server.order(order).remove(0);
    assert_eq!(server.push(&host, json!({}))["jobs"][0]["id"], json!(job));
    let event = json!({ "seq": 1, "boot_id": "b", "timestamp": 1, "category": "crash",
                        "subject": "x", "message": "it ended" });
    server.push(
        &host,
        json!({ "jobs": [{ "id": job, "errcode": 0, "message": "" }], "events": [event] }),
    );
    assert_eq!(server.push(&host, json!({}))["jobs"], json!(null));
    let job = server
        .api("GET", &format!("/api/v1/jobs/{job}"))
        .expect(200);
    assert_eq!(job["state"], "succeeded", "{job}");
    let events = server.api("GET", "/api/v1/events").expect(200);
    assert_eq!(events["items"][0]["message"], "it ended");
    let log = server.log();
    let is_trouble = |line: &&str| line.contains("ERROR") || line.contains("WARN");
    // A busy machine makes tables slowly.
    let is_slow = |line: &&str| line.contains("slow statement");
    let mut trouble = log.lines().filter(is_trouble).filter(|line| !is_slow(line));
    assert_eq!(trouble.next(), None, "{log}");
}

#[test]
fn two_servers_share_one_database() {
    let Some(configuration) = configuration() else {
        return;
    };
    let first = Server::start_with(&configuration);
    let (_directory, second) = beside(&first, &configuration);
    let host = first.register("h1");
    let order = json!({ "action": "stop", "name": "x", "hosts": [host.agentsn] });
    let job = second.order(order).remove(0);
    assert_eq!(first.push(&host, json!({}))["jobs"][0]["id"], json!(job));
    assert_eq!(second.push(&host, json!({}))["jobs"][0]["id"], json!(job));
    // What one took, the other has.
    let bytes = bundle("a", "1", &[7; 1_500_000]);
    let package = first.upload("", &bytes);
    let url = package["url"].as_str().expect("an address");
    let get = || second.call("GET", url).bearer(&host.token);
    assert!(get().send().body == bytes);
    let rest = get().header("Range", "bytes=1200000-").send();
    assert!(rest.status == 206 && rest.body == bytes[1_200_000..]);
    assert!(!first.data("blobs").exists() && !first.data("tmp").exists());
    let path = format!(
        "/api/v1/packages/{}",
        package["id"].as_str().expect("an id")
    );
    second.api("DELETE", &path).expect(204);
    first.api("GET", url).problem(404);
}

#[test]
fn an_upload_to_postgresql_that_is_cut_or_refused_leaves_nothing() {
    let Some(configuration) = configuration() else {
        return;
    };
    let server = Server::start_with(&configuration);
    let address = configuration.split('"').nth(1).expect("an address");
    let left = || {
        let count = "SELECT (SELECT count(*) FROM blob) + (SELECT count(*) FROM blob_chunk)";
        number(address, count)
    };
    let bytes = bundle("a", "1", &[7; 2_500_000]);
    let upload = || server.api("POST", "/api/v1/packages");
    let cut = upload().header("Content-Length", &(bytes.len() + 1).to_string());
    let mut stream = std::net::TcpStream::connect(server.address).expect("the server listens");
    cut.write(&mut stream);
    std::io::Write::write_all(&mut stream, &bytes).expect("most of it");
    wait_for("its first chunks", || (left() >= 3).then_some(()));
    drop(stream);
    wait_for("the end of what was cut", || (left() == 0).then_some(()));
    // No package, a package that is not what is said of it, and one that is there.
    upload().body(b"hello").problem(422);
    let other = server.api("POST", "/api/v1/packages?name=b");
    other.body(&bytes).problem(422);
    upload().body(&bytes).expect(201);
    upload().body(&bundle("a", "1", b"")).problem(409);
    upload().body(&bytes).expect(200);
    wait_for("the end of what was refused", || {
        (left() == 4).then_some(())
    });
}

fn number(address: &str, query: &'static str) -> i64 {
    ask(address, query).expect("a number")
}

/// What a query gives, if it gives anything.
pub(crate) fn ask(address: &str, query: &'static str) -> Option<i64> {
    runtime().block_on(async {
        let mut connection = PgConnection::connect(address).await.expect("a connection");
        let found = sqlx::query_scalar(query).fetch_optional(&mut connection);
        let found = found.await.expect("an answer");
        connection.close().await.expect("a goodbye");
        found
    })
}

#[test]
fn a_database_that_is_not_there_is_named_without_its_password() {
    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().to_str().expect("a path").to_owned();
    let file = directory.path().join("address");
    // Port 1 of this machine: nobody listens there.
    std::fs::write(&file, "postgres://boot:geheim@127.0.0.1:1/fleet").expect("a file");
    let file = file.to_str().expect("a path");
    let run = |arguments: &[&str]| {
        let mut command = command();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data", &data]);
        let output = command.args(arguments).output().expect("it runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = run(&["--database-file", file]);
    assert!(told.contains("fleet at 127.0.0.1:1"), "{told}");
    assert!(!told.contains("geheim"), "{told}");
    let told = run(&["--database", "postgres://boot:geheim@127.0.0.1/fleet"]);
    assert!(told.contains("--database-file"), "{told}");
    assert!(!told.contains("geheim"), "{told}");
}
