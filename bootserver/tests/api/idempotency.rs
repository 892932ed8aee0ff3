//! What is sent twice is done once.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Barrier;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;

use crate::cluster;
use crate::harness::{Reply, Request, Server, wait_for};
use crate::postgres::configuration_on;

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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Says something to the server's SQLite file; gives the number that comes back.
fn sqlite(server: &Server, sql: &'static str) -> i64 {
    let path = server.data("bootserver.db");
    runtime().block_on(async {
        let mut connection = SqliteConnection::connect(path.to_str().expect("a path"))
            .await
            .expect("a connection");
        let number = sqlx::query_scalar(sql).fetch_optional(&mut connection);
        let number = number.await.expect("a statement").unwrap_or_default();
        connection.close().await.expect("a goodbye");
        number
    })
}

#[test]
fn an_answer_that_could_not_be_kept_at_once_is_kept_later() {
    let server = Server::start();
    sqlite(
        &server,
        "CREATE TRIGGER away BEFORE UPDATE ON idempotency BEGIN SELECT RAISE(ABORT, 'away'); END",
    );
    let post = || {
        keyed(
            server.api("POST", "/api/v1/groups"),
            "k1",
            &json!({ "name": "a" }),
        )
    };
    let first = post();
    assert_eq!(first.status, 201, "{}", first.text());
    assert_eq!(post().status, 409, "nobody knows how it ended");
    sqlite(&server, "DROP TRIGGER away");
    let again = wait_for("the answer", || Some(post()).filter(|it| it.status == 201));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.json(), first.json());
    assert_eq!(count(&server, "/api/v1/groups"), 1);
}

#[test]
fn who_may_not_do_it_writes_no_key_and_who_may_does() {
    let server = Server::start();
    let keys = || sqlite(&server, "SELECT count(*) FROM idempotency");
    let bodies = [
        (
            "/api/v1/api-tokens",
            json!({ "name": "ci", "role": "viewer" }),
        ),
        ("/api/v1/enrolment-tokens", json!({ "name": "e" })),
        ("/api/v1/groups", json!({ "name": "a" })),
        (
            "/api/v1/jobs",
            json!({ "action": "stop", "name": "x", "hosts": [server.register("h1").agentsn] }),
        ),
        ("/api/v1/users", json!({ "name": "ann", "role": "viewer" })),
    ];
    let viewer = server.token("viewer", None);
    let scoped = server.token("admin", Some("svc=ecs"));
    for (path, body) in &bodies {
        let key = path.rsplit_once('/').expect("a path").1;
        let refused = [&viewer, &scoped].map(|token| {
            let before = keys();
            let reply = keyed(server.call("POST", path).bearer(token), key, body);
            if reply.status == 403 {
                assert_eq!(keys(), before, "{path}");
            }
            reply.status == 403
        });
        // A viewer makes tokens of their own; a scoped admin these and jobs.
        let expected = match *path {
            "/api/v1/api-tokens" => [false, false],
            "/api/v1/jobs" => [true, false],
            _ => [true, true],
        };
        assert_eq!(refused, expected, "{path}");
        let before = keys();
        let done = keyed(server.api("POST", path), key, body);
        assert_eq!(done.status, 201, "{path}: {}", done.text());
        assert_eq!(keys(), before + 1, "{path}");
    }
}

#[test]
fn a_secret_answered_on_the_unix_socket_is_kept_for_nobody() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("api.sock");
    let config = format!("socket = {:?}", path.display().to_string());
    let server = Server::start_with(&config);
    let post = |route: &str, body: Value| {
        let mut stream = UnixStream::connect(&path).expect("the server listens");
        let body = body.to_string();
        write!(
            stream,
            "POST {route} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: k1\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("it goes out");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("a reply");
        reply
    };
    let token = json!({ "name": "ci", "role": "viewer" });
    let first = post("/api/v1/api-tokens", token.clone());
    assert!(first.starts_with("HTTP/1.1 201"), "{first}");
    let again = post("/api/v1/api-tokens", token);
    assert!(again.starts_with("HTTP/1.1 409"), "{again}");
    assert!(again.contains("answered with 201"), "{again}");
    let kept = "SELECT count(*) FROM idempotency WHERE status = 201 AND body IS NULL";
    assert_eq!(sqlite(&server, kept), 1);
}

#[test]
fn what_was_begun_with_a_key_keeps_its_place_and_is_done_before_the_server_ends() {
    let Some(cluster) = cluster::shared() else {
        return;
    };
    let database = configuration_on(cluster);
    let address = database.split('"').nth(1).expect("an address").to_owned();
    let budget = "[budget]\noperator = { at_once = 1, per_second = 1000 }";
    let mut server = Server::start_with(&format!("{database}\n{budget}"));
    let runtime = runtime();
    let mut direct = runtime
        .block_on(PgConnection::connect(&address))
        .expect("a connection");
    let mut ask = |sql: &'static str| -> i64 {
        let asked = sqlx::raw_sql(sql).fetch_optional(&mut direct);
        let row = runtime.block_on(asked).expect("a statement");
        row.and_then(|row| sqlx::Row::try_get(&row, 0).ok())
            .unwrap_or_default()
    };
    // Groups are made no further than this lock, for as long as a statement may take.
    ask(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM set_config('lock_timeout', '0', true);
             PERFORM pg_advisory_xact_lock(42);
             RETURN NEW;
         END $$;
         CREATE TRIGGER wait BEFORE INSERT ON host_group FOR EACH ROW EXECUTE FUNCTION wait();
         SELECT pg_advisory_lock(42)",
    );
    let body = r#"{"name":"a"}"#;
    let mut caller = TcpStream::connect(server.address).expect("the server listens");
    write!(
        caller,
        "POST /api/v1/groups HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Idempotency-Key: k1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        server.api_token,
        body.len()
    )
    .expect("it goes out");
    wait_for("the group to wait", || {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND objid = 42";
        (ask(waits) > 0).then_some(())
    });
    drop(caller);
    // The only place is taken still.
    assert_eq!(server.api("GET", "/api/v1/hosts").send().status, 503);
    server.signal(Signal::SIGTERM);
    wait_for("the doors to close", || {
        server
            .log()
            .contains("no new requests are taken")
            .then_some(())
    });
    ask("SELECT pg_advisory_unlock(42)");
    assert!(server.end().success());
    assert_eq!(ask("SELECT count(*) FROM host_group WHERE name = 'a'"), 1);
    assert_eq!(
        ask("SELECT count(*) FROM idempotency WHERE status = 201"),
        1
    );
}
