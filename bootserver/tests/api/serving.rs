//! The program itself: first start, restart, one per directory, signals, slow
//! and silent callers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{PATIENCE, Reply, Server, bundle, command};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The head of an upload whose body is still to come.
fn upload_head(server: &Server, length: usize) -> String {
    format!(
        "POST /api/v1/packages HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Authorization: Bearer {}\r\nContent-Length: {length}\r\n\r\n",
        server.api_token
    )
}

/// How many files lie in a directory of the server.
fn files(server: &Server, name: &str) -> usize {
    std::fs::read_dir(server.data(name)).map_or(0, Iterator::count)
}

fn run(arguments: &[&str]) -> Output {
    command()
        .args(arguments)
        .output()
        .expect("the program runs")
}

#[test]
fn the_first_start_leaves_tokens_only_their_owner_can_read() {
    let server = Server::start();
    let file = std::fs::metadata(server.data("first-start.txt")).expect("the file");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    let mode = |name: &str| {
        let metadata = std::fs::metadata(server.data(name)).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(
        (mode(""), mode("bootserver.db"), mode("blobs")),
        (0o700, 0o600, 0o700)
    );
    let log = server.log();
    assert!(log.contains("first-start.txt"), "{log}");
    // Used, so that a handler had every chance to log them.
    let host = server.register("h1");
    server.push(&host, json!({}));
    server.api("GET", "/api/v1/hosts").expect(200);
    let log = server.log();
    let database = [
        server.data("bootserver.db"),
        server.data("bootserver.db-wal"),
    ];
    for token in [&server.api_token, &server.enrolment_token, &host.token] {
        assert!(!log.contains(token.as_str()), "{log}");
        for file in &database {
            let bytes = std::fs::read(file).expect("the database");
            let found = bytes
                .windows(token.len())
                .any(|window| window == token.as_bytes());
            assert!(!found, "a token is in {}", file.display());
        }
    }
}

#[test]
fn a_terminal_is_told_the_tokens_and_no_file_is_left() {
    let directory = TempDir::new().expect("a directory");
    let terminal = nix::pty::openpty(None, None).expect("a terminal");
    let data = directory.path().join("data");
    let mut child = command()
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .stdout(terminal.slave)
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts");
    let lines = BufReader::new(std::fs::File::from(terminal.master)).lines();
    let (found, waiting) = std::sync::mpsc::channel();
    // Reads until the server is gone, so that it never waits for its terminal.
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some(token) = line.strip_prefix("enrolment_token=") {
                let _ = found.send(token.trim().to_owned());
            }
        }
    });
    let token = waiting
        .recv_timeout(PATIENCE)
        .expect("the token is printed");
    assert!(token.starts_with("enrol-"), "{token}");
    assert!(!data.join("first-start.txt").exists());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, Signal::SIGTERM).expect("the child is ours");
    assert!(child.wait().expect("the child is ours").success());
    reader.join().expect("no panic");
}

#[test]
fn a_restart_keeps_everything_and_makes_no_new_tokens() {
    let directory = TempDir::new().expect("a directory");
    let mut server = Server::start_in(directory.path(), "");
    let host = server.register("h1");
    let bytes = bundle("a", "1", b"x");
    let package = server.upload("", &bytes);
    let order = json!({ "action": "install", "package": package["id"], "hosts": [host.agentsn] });
    let job = server.order(order).remove(0);
    let event = json!({ "seq": 1, "timestamp": 1, "category": "c", "message": "m" });
    server.push(&host, json!({ "events": [event] }));
    let tokens = std::fs::read_to_string(server.data("first-start.txt")).expect("the tokens");
    assert!(server.stop().success(), "{}", server.log());

    let mut server = Server::start_in(directory.path(), "");
    let again = std::fs::read_to_string(server.data("first-start.txt")).expect("the tokens");
    assert_eq!(again, tokens);
    let reply = server.push(&host, json!({}));
    assert_eq!(reply["jobs"][0]["id"], json!(job));
    let url = package["url"].as_str().expect("a url");
    assert_eq!(
        server.call("GET", url).bearer(&host.token).send().body,
        bytes
    );
    let events = server.api("GET", "/api/v1/events").expect(200);
    assert_eq!(events["items"].as_array().map(Vec::len), Some(1));
    server.stop();
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let directory = TempDir::new().expect("a directory");
    let server = Server::start_in(directory.path(), "");
    let host = server.register("h1");
    let order = json!({ "action": "stop", "name": "a", "hosts": [host.agentsn] });
    let job = server.order(order).remove(0);
    server.push(
        &host,
        json!({ "jobs": [{ "id": job, "errcode": 0, "message": "" }] }),
    );
    // Dropped, it is killed with SIGKILL.
    drop(server);
    let server = Server::start_in(directory.path(), "");
    let job = server
        .api("GET", &format!("/api/v1/jobs/{job}"))
        .expect(200);
    assert_eq!(job["state"], "succeeded");
}

#[test]
fn what_a_kill_left_half_done_is_gone_after_the_next_start() {
    let directory = TempDir::new().expect("a directory");
    let server = Server::start_in(directory.path(), "");
    let kept = bundle("a", "1", b"kept");
    let package = server.upload("", &kept);
    let mut stream = TcpStream::connect(server.address).expect("the server listens");
    stream
        .write_all(upload_head(&server, 1000).as_bytes())
        .expect("the head goes out");
    crate::harness::wait_for("the upload", || (files(&server, "tmp") == 1).then_some(()));
    let orphan = server.data("blobs/ff");
    std::fs::create_dir_all(&orphan).expect("a directory");
    std::fs::write(orphan.join("f".repeat(64)), "bytes without a package").expect("a file");
    // Dropped, it is killed with SIGKILL.
    drop(server);
    let server = Server::start_in(directory.path(), "");
    assert_eq!((files(&server, "tmp"), files(&server, "blobs/ff")), (0, 0));
    let url = package["url"].as_str().expect("a url");
    assert_eq!(server.api("GET", url).send().body, kept);
}

#[test]
fn an_upload_too_many_is_asked_to_come_back() {
    let server = Server::start();
    let uploads: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).expect("the server listens");
            stream
                .write_all(upload_head(&server, 1000).as_bytes())
                .expect("the head goes out");
            stream
        })
        .collect();
    crate::harness::wait_for("eight uploads", || {
        (files(&server, "tmp") == 8).then_some(())
    });
    let bytes = bundle("a", "1", b"");
    let reply = server.api("POST", "/api/v1/packages").body(&bytes).send();
    assert_eq!(reply.status, 503);
    let wait = reply.header("retry-after").expect("when to come again");
    let wait: u64 = wait.parse().expect("seconds");
    assert!((10..30).contains(&wait), "{wait}");
    // Uploads that are given up make room.
    drop(uploads);
    crate::harness::wait_for("room", || (files(&server, "tmp") == 0).then_some(()));
    server.upload("", &bytes);
}

#[test]
fn a_second_server_on_one_directory_is_refused_and_harms_nothing() {
    let server = Server::start();
    let data = server.data("");
    let data = data.to_str().expect("a path in UTF-8");
    let second = run(&["serve", "--listen", "127.0.0.1:0", "--data", data]);
    assert_eq!(second.status.code(), Some(1));
    let said = text(&second.stderr);
    assert!(said.contains(&format!("pid {}", server.pid())), "{said}");
    server.api("GET", "/readyz").expect(200);
}

#[test]
fn a_request_under_way_is_answered_before_the_end() {
    let mut server = Server::start();
    let bytes = bundle("a", "1", &[7; 300_000]);
    let mut stream = TcpStream::connect(server.address).expect("the server listens");
    let head = upload_head(&server, bytes.len());
    stream
        .write_all(head.as_bytes())
        .expect("the head goes out");
    stream
        .write_all(&bytes[..100_000])
        .expect("a part goes out");
    // It is under way once its file is there.
    crate::harness::wait_for("the upload", || {
        std::fs::read_dir(server.data("tmp"))
            .ok()?
            .next()
            .map(|_| ())
    });
    server.signal(Signal::SIGTERM);
    crate::harness::wait_for("the signal", || {
        server.log().contains("no new requests").then_some(())
    });
    stream
        .write_all(&bytes[100_000..])
        .expect("the rest goes out");
    assert_eq!(Reply::read(&mut stream).status, 201);
    assert!(server.end().success(), "{}", server.log());
}

#[test]
fn a_caller_that_never_finishes_its_head_is_dropped() {
    let server = Server::start_with("header_timeout = 1\nrequest_timeout = 1");
    let mut silent = TcpStream::connect(server.address).expect("the server listens");
    silent.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    silent
        .write_all(b"GET /healthz HTT")
        .expect("a part goes out");
    let mut rest = Vec::new();
    // Closed, with or without a word; a timeout of ours would be an error.
    silent.read_to_end(&mut rest).expect("the server closes");

    let mut slow = TcpStream::connect(server.address).expect("the server listens");
    slow.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head =
        "POST /agent/register HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n";
    write!(
        slow,
        "{head}Authorization: Bearer {}\r\n\r\n{{",
        server.enrolment_token
    )
    .expect("a part goes out");
    assert_eq!(Reply::read(&mut slow).status, 408);
}

#[test]
fn health_is_told_without_a_token() {
    let server = Server::start();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(
            server.call("GET", path).expect(200),
            json!({ "status": "ok" })
        );
    }
}

#[test]
fn arguments_that_cannot_be_are_named() {
    for (arguments, word) in [
        (vec![], "command"),
        (vec!["run"], "run"),
        (vec!["serve", "--liste", "x"], "--liste"),
        (vec!["serve", "--listen", "here"], "here"),
        (vec!["serve", "-c", "/no/such/file"], "/no/such/file"),
        (vec!["serve", "--data", "/dev/null/x"], "/dev/null/x"),
        (vec!["serve", "--data", "/dev/null", "-l", "=="], "=="),
        (vec!["openapi", "more"], "more"),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
    assert!(text(&run(&["-V"]).stdout).starts_with("bootserver "));
    assert!(text(&run(&["serve", "-h"]).stdout).contains("--address-file"));
}

#[test]
fn a_configuration_with_an_unknown_key_is_refused_by_name() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("bootserver.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:0\"\nmax_packge_bytes = 1\n").expect("a file");
    let output = run(&["serve", "-c", file.to_str().expect("a path in UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("max_packge_bytes") && said.contains("line 2"),
        "{said}"
    );
}

#[test]
fn a_database_that_is_none_is_named_and_left_alone() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("my.db");
    std::fs::write(
        &file,
        "no database at all, but long enough to be looked at".repeat(40),
    )
    .expect("a file");
    let data = directory.path().join("data");
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data",
        data.to_str().expect("UTF-8"),
    ];
    let output = command()
        .args(arguments)
        .arg("--database")
        .arg(&file)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("my.db"),
        "{}",
        text(&output.stderr)
    );
    assert!(
        std::fs::read_to_string(&file)
            .expect("the file")
            .starts_with("no database")
    );
}
