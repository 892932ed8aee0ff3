//! Backup, restore and import, by the program: hosts stay enrolled, packages
//! stay there, and no job goes out twice.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

use crate::harness::{Server, TestHost, bundle, command, wait_for};
use crate::postgres::configuration_of_an_owner;

/// Runs the program; returns whether it succeeded and what it said.
fn run(arguments: &[&str]) -> (bool, String) {
    let output = command().args(arguments).output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of a test")
}

/// How many leases hold.
fn leases(database: &Path) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut connection = SqliteConnection::connect(text(database))
            .await
            .expect("a connection");
        let held = "SELECT count(*) FROM lease WHERE until > unixepoch('now', 'subsec') * 1000";
        sqlx::query_scalar(held)
            .fetch_one(&mut connection)
            .await
            .expect("a count")
    })
}

/// A server on a directory that another one's data is in.
fn start_again(directory: &TempDir, tokens: &[u8], configuration: &str) -> Server {
    let data = directory.path().join("data");
    std::fs::create_dir_all(&data).expect("a directory");
    std::fs::write(data.join("first-start.txt"), tokens).expect("a file");
    Server::start_in(directory.path(), configuration)
}

fn job(server: &Server, id: &str) -> Value {
    server.api("GET", &format!("/api/v1/jobs/{id}")).expect(200)
}

fn stop(server: &Server, host: &TestHost, name: &str) -> String {
    let order = json!({ "action": "stop", "name": name, "hosts": [host.agentsn] });
    server.order(order).remove(0)
}

/// A rollout and an assignment of a host that did not report yet, by their paths.
fn plans(server: &Server, host: &TestHost) -> [String; 2] {
    let make = |path: &str, body: Value| {
        let made = server.api("POST", path).json(&body).expect(201);
        format!("{path}/{}", made["id"].as_str().expect("an id"))
    };
    let order = json!({ "action": "restart", "name": "a" });
    let hosts = json!({ "hosts": [host.agentsn] });
    let rollout = json!({ "order": order, "targets": hosts });
    let group = make("/api/v1/groups", json!({ "name": "later" }));
    let members = server.api("POST", &format!("{group}/hosts"));
    members.json(&json!({ "add": [host.agentsn] })).expect(200);
    let group = group.rsplit('/').next().expect("an id");
    let stages = json!([{ "upto": "10%" }, { "upto": "all" }]);
    let assignment = json!({ "group": group, "agent": "a", "version": "1.0",
        "plan": { "stages": stages } });
    let paths = [
        make("/api/v1/rollouts", rollout),
        make("/api/v1/assignments", assignment),
    ];
    wait_for("what they mean", || {
        let [rollout, assignment] = paths
            .each_ref()
            .map(|path| server.api("GET", path).expect(200));
        (rollout["phase"] == "running" && assignment["hosts"] == 1).then_some(())
    });
    paths
}

/// What is planned, without what goes on by itself.
fn planned(server: &Server, path: &str) -> Value {
    let shown = server.api("GET", path).expect(200);
    let fields = [
        "id", "name", "plan", "author", "created", "targets", "counts",
    ];
    let more = ["group", "agent", "version", "priority"];
    let fields = fields.iter().chain(&more);
    fields
        .map(|field| ((*field).to_owned(), shown[field].clone()))
        .collect()
}

#[test]
fn a_restored_server_knows_its_hosts_and_repeats_no_job() {
    let mut server = Server::start();
    let tokens = std::fs::read(server.data("first-start.txt")).expect("the tokens");
    let host = server.register("h1");
    let package = server.upload("", &bundle("a", "1.0", b""));
    let plans = plans(&server, &server.register("h2"));
    let before = plans.each_ref().map(|path| planned(&server, path));
    let done = stop(&server, &host, "done");
    server.push(&host, json!({ "jobs": [] }));
    server.push(
        &host,
        json!({ "jobs": [{ "id": done, "errcode": 0, "message": "" }] }),
    );
    let sent = stop(&server, &host, "sent");
    server.push(&host, json!({}));
    let waiting = stop(&server, &host, "waiting");

    let kept = TempDir::new().expect("a temporary directory");
    let backup = kept.path().join("backup");
    let data = server.directory.join("data");
    let back_up = ["backup", "--data", text(&data), text(&backup)];
    let (ok, said) = run(&back_up);
    assert!(ok && said.contains("1 packages"), "{said}");
    let (ok, said) = run(&back_up);
    assert!(!ok && said.contains("name a new folder"), "{said}");
    // After the backup both are done, and the host is told that this is known.
    server.push(&host, json!({}));
    let outcomes = [&sent, &waiting].map(|id| json!({ "id": id, "errcode": 0, "message": "" }));
    server.push(&host, json!({ "jobs": outcomes }));
    assert!(server.stop().success());

    let directory = TempDir::new().expect("a temporary directory");
    let data = directory.path().join("data");
    let put_back = ["restore", "--data", text(&data), text(&backup)];
    let (ok, said) = run(&put_back);
    assert!(ok && said.contains("2 jobs were open"), "{said}");
    assert!(said.contains("sign in again"), "{said}");
    let (ok, said) = run(&put_back);
    assert!(!ok && said.contains("move it away first"), "{said}");
    let server = start_again(&directory, &tokens, "");
    assert_eq!(server.push(&host, json!({}))["jobs"], json!(null));
    assert_eq!(job(&server, &done)["errcode"], 0);
    for id in [&sent, &waiting] {
        assert_eq!(job(&server, id)["errcode"], 1007);
    }
    let url = package["url"].as_str().expect("an address");
    let bytes = server.call("GET", url).bearer(&host.token).send();
    assert_eq!(bytes.status, 200);
    assert_eq!(bytes.body, bundle("a", "1.0", b""));
    let again = stop(&server, &host, "waiting");
    assert_eq!(server.push(&host, json!({}))["jobs"][0]["id"], json!(again));
    // What was planned waits for somebody who knows what happened since.
    assert_eq!(plans.each_ref().map(|path| planned(&server, path)), before);
    for (path, word) in plans.iter().zip(["phase", "state"]) {
        let shown = server.api("GET", path).expect(200);
        assert_eq!(
            (&shown[word], &shown["reason"]),
            (&json!("paused"), &json!("restored"))
        );
        let resumed = server.api("POST", &format!("{path}/resume")).expect(200);
        assert_eq!(resumed[word], "running");
    }
}

#[test]
fn what_is_no_backup_or_damaged_is_not_restored() {
    let server = Server::start();
    server.upload("", &bundle("a", "1.0", b""));
    let kept = TempDir::new().expect("a temporary directory");
    let backup = kept.path().join("backup");
    let data = server.directory.join("data");
    let (ok, said) = run(&["backup", "--data", text(&data), text(&backup)]);
    assert!(ok, "{said}");
    let new = kept.path().join("data");
    let restore = |from: &Path| run(&["restore", "--data", text(&new), text(from)]);
    let (ok, said) = restore(kept.path());
    assert!(!ok && said.contains("is no backup"), "{said}");
    let (ok, said) = run(&["restore", "--data", text(&data), text(&backup)]);
    assert!(!ok && said.contains("another bootserver"), "{said}");
    let shard = std::fs::read_dir(backup.join("blobs"))
        .expect("blobs")
        .next();
    let shard = shard.expect("one").expect("readable").path();
    let blob = std::fs::read_dir(shard).expect("blobs").next();
    let blob = blob.expect("one").expect("readable").path();
    let log = backup.join("bootserver.db-wal");
    std::fs::write(&log, "what is not in the copy yet").expect("a file");
    let (ok, said) = restore(&backup);
    assert!(!ok && said.contains("no finished copy"), "{said}");
    std::fs::remove_file(log).expect("it goes");
    std::fs::write(blob, "something else").expect("a file");
    let (ok, said) = restore(&backup);
    assert!(!ok && said.contains("is damaged"), "{said}");
    assert!(!new.join("bootserver.db").exists());
    let (ok, said) = run(&["backup", "--data", text(&data)]);
    assert!(!ok && said.contains("DIR is expected"), "{said}");
}

#[test]
fn an_import_into_postgresql_keeps_hosts_enrolled() {
    let Some(configuration) = configuration_of_an_owner() else {
        return;
    };
    let directory = TempDir::new().expect("a temporary directory");
    let mut server = Server::start_in(directory.path(), "");
    let host = server.register("h1");
    let tags = format!("/api/v1/hosts/{}/tags", host.agentsn);
    let svc = json!({ "tags": "svc=ecs" });
    server.api("PUT", &tags).json(&svc).expect(200);
    let package = server.upload("", &bundle("a", "1.0", b""));
    let event = |seq: u64| {
        json!({ "events": [{ "seq": seq, "boot_id": "b", "timestamp": 1, "category": "crash",
                             "subject": "x", "message": format!("e{seq}") }] })
    };
    server.push(&host, event(1));
    let later = server.register("h2");
    let plans = plans(&server, &later);
    let before = plans.each_ref().map(|path| planned(&server, path));
    let open = stop(&server, &host, "x");
    let data = directory.path().join("data");
    let file = data.join("bootserver.db");
    let begun = Instant::now();
    while leases(&file) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no lease");
        std::thread::sleep(Duration::from_millis(10));
    }
    let other = directory.path().join("other");
    let refused = directory.path().join("refused.toml");
    std::fs::write(&refused, &configuration).expect("a configuration");
    let (ok, said) = run(&[
        "import",
        "-c",
        text(&refused),
        "--data",
        text(&other),
        text(&file),
    ]);
    assert!(!ok && said.contains("a server runs on it"), "{said}");
    assert!(server.stop().success());
    assert_eq!(leases(&file), 0, "it gave them back");

    let settings = directory.path().join("postgres.toml");
    std::fs::write(&settings, &configuration).expect("a configuration");
    let options = ["-c", text(&settings), "--data", text(&data)];
    let import = || run(&[&["import"], &options[..], &[text(&file)]].concat());
    let (blobs, away) = (data.join("blobs"), data.join("away"));
    std::fs::rename(&blobs, &away).expect("the packages are away");
    let (ok, said) = import();
    assert!(!ok && said.contains("opening"), "{said}");
    std::fs::rename(&away, &blobs).expect("the packages are back");
    let (ok, said) = import();
    assert!(ok && said.contains("rows are in"), "{said}");
    assert!(!said.contains("WARN"), "{said}");
    std::fs::remove_dir_all(&blobs).expect("nobody needs them");
    let (ok, said) = import();
    assert!(
        !ok && said.contains("an empty database is needed"),
        "{said}"
    );
    let (ok, said) = run(&[&["migrate"], &options[..]].concat());
    assert!(ok && said.contains("is up to date"), "{said}");

    let mut server = Server::start_in(directory.path(), &configuration);
    let known = server
        .api("GET", &format!("/api/v1/hosts/{}", host.agentsn))
        .expect(200);
    assert_eq!(known["tags"], "svc=ecs");
    let packages = server.api("GET", "/api/v1/packages").expect(200);
    assert_eq!(packages["items"][0]["name"], "a");
    let url = package["url"].as_str().expect("an address");
    assert_eq!(server.api("GET", url).send().body, bundle("a", "1.0", b""));
    // What was planned is, and goes on.
    assert_eq!(plans.each_ref().map(|path| planned(&server, path)), before);
    let agents = json!([{ "name": "a", "version": "1.0", "status": "running" }]);
    let push = |results: Value| {
        let status = json!({ "agents": agents, "jobs": results });
        server.push(&later, status)["jobs"][0]["id"].clone()
    };
    let restart = wait_for("its turn", || {
        Some(push(json!([]))).filter(|id| id.is_string())
    });
    push(json!([{ "id": restart, "errcode": 0, "message": "" }]));
    wait_for(
        "the end of the rollout and a look of the assignment",
        || {
            let [rollout, assignment] = plans
                .each_ref()
                .map(|path| server.api("GET", path).expect(200));
            (rollout["reason"] == "done" && assignment["right"] == 1).then_some(())
        },
    );
    // Its secret holds, the order waits for it, and what it sent is known.
    let both = json!({ "events": [event(1)["events"][0], event(2)["events"][0]] });
    assert_eq!(server.push(&host, both)["jobs"][0]["id"], json!(open));
    let events = server.api("GET", "/api/v1/events").expect(200);
    let messages: Vec<_> = events["items"].as_array().expect("items").iter().collect();
    let messages: Vec<_> = messages.iter().map(|event| &event["message"]).collect();
    assert_eq!(messages, ["e1", "e2"]);
    assert!(server.stop().success());

    // After a pg_restore this is what a restore does.
    let (ok, said) = run(&[&["close-jobs"], &options[..]].concat());
    assert!(ok && said.contains("1 jobs were open"), "{said}");
    let (ok, said) = run(&[&["backup"], &options[..], &["/nowhere"]].concat());
    assert!(!ok && said.contains("pg_dump"), "{said}");
}
