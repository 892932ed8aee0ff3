//! Live changes: who follows them hears of each that is committed, of no other,
//! and of nothing they may not see.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt,
};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster;
use crate::harness::{PATIENCE, Server, TestHost, bundle, command, wait_for};
use crate::postgres::{configuration, configuration_on};

/// Somebody who follows.
struct Listener {
    stream: BufReader<TcpStream>,
    status: u16,
    head: String,
    /// Of the last message.
    id: String,
}

impl Listener {
    /// Begins to follow; the head of the answer has come.
    fn open(server: &Server, query: &str, headers: &str) -> Self {
        let stream = TcpStream::connect(server.address).expect("the server listens");
        Self::open_on(stream, query, headers)
    }

    fn open_on(mut stream: TcpStream, query: &str, headers: &str) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let head = format!("GET /api/v1/stream{query} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        stream
            .write_all(head.as_bytes())
            .expect("the head goes out");
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = stream.read_line(&mut head).expect("a head");
            assert!(read > 0, "no whole head: {head}");
        }
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Self {
            stream,
            status: status.expect("a status"),
            head: head.to_lowercase(),
            id: String::new(),
        }
    }

    /// The same with a token; the first message is a reset.
    fn begin(server: &Server, token: &str) -> Self {
        let mut listener = Self::open(server, "", &bearer(token));
        assert_eq!(listener.status, 200, "{}", listener.head);
        assert_eq!(listener.next(), Some(json!({ "reset": true })));
        listener
    }

    /// The next message; nothing at the end.
    fn next(&mut self) -> Option<Value> {
        let begun = Instant::now();
        loop {
            // Signs of life come all the time.
            assert!(begun.elapsed() < PATIENCE, "no message came");
            let mut line = String::new();
            // A connection that is cut off ends as well.
            if self.stream.read_line(&mut line).unwrap_or_default() == 0 {
                return None;
            }
            // Between these stand the sizes of chunks, the last of which is 0; the
            // connection may stay.
            if line.trim_end() == "0" {
                return None;
            }
            if let Some(id) = line.strip_prefix("id: ") {
                self.id = id.trim().to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).expect("JSON"));
            }
        }
    }

    /// The next message that is no reset; there is one more when a server begins.
    fn change(&mut self) -> Value {
        loop {
            let message = self.next().expect("a change");
            if message["reset"].is_null() {
                return message;
            }
        }
    }

    /// The first message of this kind; returns its ids.
    fn until(&mut self, topic: &str, change: &str) -> Vec<String> {
        loop {
            let message = self.change();
            if message["topic"] == topic && message["change"] == change {
                assert_eq!(message["more"], false);
                let ids = message["ids"].as_array().expect("ids").iter();
                return ids
                    .map(|id| id.as_str().expect("an id").to_owned())
                    .collect();
            }
        }
    }

    /// Waits for the end, which something else brings about.
    fn ended(&mut self) {
        while self.next().is_some() {}
    }
}

/// A server that hears what is changed; on PostgreSQL it serves a moment before.
fn start(configuration: &str) -> Server {
    let server = Server::start_with(configuration);
    if configuration.contains("postgres://") {
        wait_until_it_hears(&server);
    }
    server
}

fn wait_until_it_hears(server: &Server) {
    wait_for("a server that hears", || {
        server.log().contains("changes are heard of").then_some(())
    });
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn event(seq: u64) -> Value {
    json!({ "seq": seq, "boot_id": "b", "timestamp": 1, "category": "crash", "subject": "x",
            "message": "it ended" })
}

fn order(server: &Server, host: &TestHost) -> String {
    let order = json!({ "action": "stop", "name": "x", "hosts": [host.agentsn] });
    server.order(order).remove(0)
}

/// From a host's coming to its going, everything is told.
fn check_all(configuration: &str) {
    let server = start(configuration);
    let mut listener = Listener::begin(&server, &server.api_token);
    for header in [
        "content-type: text/event-stream",
        "cache-control: no-cache",
        "x-accel-buffering: no",
    ] {
        assert!(listener.head.contains(header), "{}", listener.head);
    }
    let host = server.register("h1");
    assert_eq!(listener.until("host", "new"), [&*host.agentsn]);
    server.push(&host, json!({ "events": [event(1)] }));
    let told = listener.until("event", "new");
    let events = server.api("GET", "/api/v1/events").expect(200);
    assert_eq!(events["items"][0]["id"].to_string(), told[0]);
    assert_eq!(listener.until("host", "online"), [&*host.agentsn]);
    let job = order(&server, &host);
    assert_eq!(listener.until("job", "ordered"), [&*job]);
    server.push(&host, json!({}));
    assert_eq!(listener.until("job", "sent"), [&*job]);
    server.push(&host, json!({ "accepted": [job] }));
    assert_eq!(listener.until("job", "accepted"), [&*job]);
    let result = json!([{ "id": job, "errcode": 0, "message": "" }]);
    server.push(&host, json!({ "jobs": result }));
    assert_eq!(listener.until("job", "finished"), [&*job]);
    let job = order(&server, &host);
    let path = format!("/api/v1/jobs/{job}/cancel");
    server.api("POST", &path).expect(200);
    assert_eq!(listener.until("job", "cancelled"), [&*job]);
    check_rollout(&server, &host, &mut listener);
    let package = server.upload("", &bundle("flux-push", "1.0", b"x"));
    assert_eq!(
        listener.until("package", "new"),
        [package["id"].as_str().expect("an id")]
    );
    let group = json!({ "name": "all of them", "selector": "svc=ecs" });
    let group = server
        .api("POST", "/api/v1/groups")
        .json(&group)
        .expect(201);
    assert_eq!(
        listener.until("group", "new"),
        [group["id"].as_str().expect("an id")]
    );
    let path = format!("/api/v1/hosts/{}", host.agentsn);
    server
        .api("PUT", &format!("{path}/tags"))
        .json(&json!({ "tags": "svc=ecs" }))
        .expect(200);
    assert_eq!(listener.until("host", "tagged"), [&*host.agentsn]);
    server.api("DELETE", &path).expect(204);
    assert_eq!(listener.until("host", "deleted"), [&*host.agentsn]);
    check_return(&server, listener);
}

/// Of a rollout it is told that it was ordered, what it does, that its counts moved, and
/// its end.
fn check_rollout(server: &Server, host: &TestHost, listener: &mut Listener) {
    let order = json!({ "action": "restart", "name": "x" });
    let new = json!({ "order": order, "targets": { "hosts": [host.agentsn] } });
    let rollout = server
        .api("POST", "/api/v1/rollouts")
        .json(&new)
        .expect(201);
    let id = rollout["id"].as_str().expect("an id");
    assert_eq!(listener.until("rollout", "new"), [id]);
    assert_eq!(listener.until("rollout", "running"), [id]);
    assert_eq!(listener.until("rollout", "moved"), [id]);
    let job = server.push(host, json!({}))["jobs"][0]["id"].clone();
    assert_eq!(listener.until("rollout", "moved"), [id]);
    server.push(
        host,
        json!({ "jobs": [{ "id": job, "errcode": 0, "message": "" }] }),
    );
    assert_eq!(listener.until("rollout", "ended"), [id]);
    let path = format!("/api/v1/rollouts/{id}");
    assert_eq!(
        server.api("GET", &path).expect(200)["counts"],
        json!({ "succeeded": 1 })
    );
}

/// Who comes back hears what was missed, or is told to look.
fn check_return(server: &Server, mut listener: Listener) {
    let last = format!("Last-Event-ID: {}\r\n", listener.id);
    let missed = server.register("h2").agentsn;
    assert_eq!(listener.until("host", "new"), [&*missed]);
    drop(listener);
    let headers = bearer(&server.api_token) + &last;
    let mut again = Listener::open(server, "?topics=host,job", &headers);
    let first = again.change();
    assert_eq!(
        (&first["topic"], &first["ids"]),
        (&json!("host"), &json!([missed]))
    );
    let mut only_jobs = Listener::open(server, "?topics=job", &headers);
    let host = server.register("h3");
    let job = order(server, &host);
    assert_eq!(only_jobs.change()["ids"], json!([job]));
    for unknown in ["00000000-1", "no id of ours"] {
        let headers = format!("{}Last-Event-ID: {unknown}\r\n", bearer(&server.api_token));
        let mut listener = Listener::open(server, "", &headers);
        assert_eq!(listener.next(), Some(json!({ "reset": true })));
    }
    let bad = server.api("GET", "/api/v1/stream?topics=host,weather");
    assert!(bad.problem(400).contains("host, event, job"));
}

#[test]
fn every_change_is_told_to_who_follows_and_to_who_comes_back() {
    check_all("");
}

#[test]
fn every_change_is_told_on_postgres_too() {
    if let Some(configuration) = configuration() {
        check_all(&configuration);
    }
}

/// A host out of the scope changes first: it would be heard of first.
fn check_scope(configuration: &str) {
    let server = start(configuration);
    let (mine, other) = (server.register("mine"), server.register("other"));
    let tag = |host: &TestHost, tags: &str| {
        let path = format!("/api/v1/hosts/{}/tags", host.agentsn);
        let tags = json!({ "tags": tags });
        server.api("PUT", &path).json(&tags).expect(200);
    };
    tag(&mine, "svc=ecs");
    let token = server.token("viewer", Some("svc=ecs"));
    let mut listener = Listener::begin(&server, &token);
    for host in [&other, &mine] {
        server.push(host, json!({ "events": [event(1)] }));
        order(&server, host);
    }
    let group = json!({ "name": "not theirs" });
    server
        .api("POST", "/api/v1/groups")
        .json(&group)
        .expect(201);
    // What was gathered when they began may be told as well.
    let mut wanted = vec!["host changed", "event new", "host online", "job ordered"];
    while !wanted.is_empty() {
        let message = listener.change();
        let text = |key: &str| message[key].as_str().expect("a word");
        let told = format!("{} {}", text("topic"), text("change"));
        wanted.retain(|one| *one != told);
        assert_eq!(
            message["ids"].as_array().map(Vec::len),
            Some(1),
            "{message}"
        );
        match text("topic") {
            "host" => assert_eq!(message["ids"][0], mine.agentsn),
            topic => assert!(["event", "job"].contains(&topic), "{message}"),
        }
    }
    // Of one that leaves the scope, and of one that is deleted, they hear that there
    // is something to look for, and no name.
    let mut lost = |change: &str| {
        let message = listener.change();
        let expected = json!({ "topic": "host", "change": change, "ids": [], "more": true });
        assert_eq!(message, expected);
    };
    tag(&mine, "svc=web");
    lost("tagged");
    let path = format!("/api/v1/hosts/{}", other.agentsn);
    server.api("DELETE", &path).expect(204);
    lost("deleted");
    tag(&mine, "svc=ecs");
    assert_eq!(listener.until("host", "tagged"), [&*mine.agentsn]);
}

#[test]
fn who_is_restricted_hears_of_their_own_hosts_alone() {
    check_scope("");
    if let Some(configuration) = configuration() {
        check_scope(&configuration);
    }
}

#[test]
fn streams_end_with_what_they_are_listened_by() {
    let server = Server::start();
    let made = server
        .api("POST", "/api/v1/api-tokens")
        .json(&json!({ "name": "gone", "role": "viewer" }))
        .expect(201);
    let token = made["token"].as_str().expect("a token").to_owned();
    server.user("anna", "viewer", "a long password 1");
    let out = server.sign_in("anna", "a long password 1");
    let changed = server.sign_in("anna", "a long password 1");
    let mut by_token = Listener::begin(&server, &token);
    let cookie = format!("Cookie: bootserver_session={out}\r\n");
    let mut by_cookie = Listener::open(&server, "", &cookie);
    let mut by_session = Listener::begin(&server, &changed);
    let mut stays = Listener::begin(&server, &server.api_token);
    assert_eq!(by_cookie.status, 200);
    let id = made["id"].as_str().expect("an id");
    server
        .api("DELETE", &format!("/api/v1/api-tokens/{id}"))
        .expect(204);
    by_token.ended();
    server
        .call("DELETE", "/api/v1/session")
        .bearer(&out)
        .expect(204);
    by_cookie.ended();
    server
        .call("PUT", "/api/v1/session/password")
        .bearer(&server.sign_in("anna", "a long password 1"))
        .json(&json!({ "current": "a long password 1", "new": "a long password 2" }))
        .expect(204);
    by_session.ended();
    let host = server.register("h1");
    assert_eq!(stays.until("host", "new"), [host.agentsn]);
}

#[test]
fn nobody_has_more_streams_than_there_is_room_for() {
    let server = Server::start_with(
        "[budget]\nstreams_per_operator = 2\nstream = { at_once = 3, per_second = 1000 }\n",
    );
    let token = server.token("viewer", None);
    let first = Listener::begin(&server, &server.api_token);
    let _second = Listener::begin(&server, &server.api_token);
    let third = Listener::open(&server, "", &bearer(&server.api_token));
    assert_eq!(third.status, 429, "more than one operator may have");
    assert!(third.head.contains("retry-after: "), "{}", third.head);
    let _other = Listener::begin(&server, &token);
    let fifth = Listener::open(&server, "", &bearer(&token));
    assert_eq!(fifth.status, 429, "more than there are");
    assert!(fifth.head.contains("retry-after: "), "{}", fifth.head);
    let metrics = server.api("GET", "/metrics").send().text();
    assert!(metrics.contains("\nbootserver_streams 3\n"), "{metrics}");
    drop(first);
    wait_for("a free place", || {
        let again = Listener::open(&server, "", &bearer(&server.api_token));
        (again.status == 200).then_some(())
    });
}

#[test]
fn a_thousand_hear_of_a_change_and_all_end_with_the_server() {
    const LISTENERS: usize = 1000;
    crate::budgets::raise_open_files();
    let mut server = Server::start_with(
        "[budget]\nstreams_per_operator = 5000\nstream = { at_once = 5000, per_second = 100000 }\n",
    );
    let listeners = (0..LISTENERS).map(|_| Listener::begin(&server, &server.api_token));
    let mut listeners: Vec<_> = listeners.collect();
    let host = server.register("h1");
    for listener in &mut listeners {
        assert_eq!(listener.until("host", "new"), [&*host.agentsn]);
    }
    server.signal(Signal::SIGTERM);
    for listener in &mut listeners {
        listener.ended();
    }
    assert!(server.end().success());
    assert!(!server.log().contains("did not end in time"));
}

/// Somebody who follows by a connection with little room in its buffers.
fn open_narrow(server: &Server) -> Listener {
    let SocketAddr::V4(address) = server.address else {
        panic!("the server listens on {}", server.address);
    };
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .expect("a socket");
    // The server's buffer holds some segments, and those of loopback are large.
    setsockopt(&socket, sockopt::TcpMaxSeg, &536).expect("small segments");
    setsockopt(&socket, sockopt::RcvBuf, &4096).expect("a small buffer");
    connect(socket.as_raw_fd(), &SockaddrIn::from(address)).expect("the server listens");
    let mut listener = Listener::open_on(socket.into(), "", &bearer(&server.api_token));
    assert_eq!(listener.next(), Some(json!({ "reset": true })));
    listener
}

/// Messages to all listeners so far.
fn sent(server: &Server) -> usize {
    let metrics = server.api("GET", "/metrics").send().text();
    let mut lines = metrics.lines();
    let count = lines.find_map(|line| line.strip_prefix("bootserver_stream_messages_total "));
    count.and_then(|count| count.parse().ok()).expect("a count")
}

#[test]
fn who_takes_nothing_holds_nobody_up_and_is_told_what_it_may_have_missed() {
    /// More messages than one may be behind.
    const BEHIND: usize = 300;
    let mut server = Server::start();
    let hosts: Vec<TestHost> = (0..100)
        .map(|n| server.register(&format!("h{n}")))
        .collect();
    let agentsns: Vec<&str> = hosts.iter().map(|host| &*host.agentsn).collect();
    let mut slow = open_narrow(&server);
    let stuck = open_narrow(&server);
    let mut quick = Listener::begin(&server, &server.api_token);
    let path = format!("/api/v1/hosts/{}/tags", hosts[0].agentsn);
    let mut heard = 0;
    for seq in 1.. {
        let jobs = server.order(json!({ "action": "stop", "name": "x", "hosts": agentsns }));
        let cancel = format!("/api/v1/jobs/{}/cancel", jobs[0]);
        server.api("POST", &cancel).expect(200);
        server.push(&hosts[1], json!({ "events": [event(seq)] }));
        let group = json!({ "name": format!("group {seq}") });
        server
            .api("POST", "/api/v1/groups")
            .json(&group)
            .expect(201);
        let tags = json!({ "tags": format!("round={seq}") });
        server.api("PUT", &path).json(&tags).expect(200);
        let told = |message: &Value| message["topic"] == "host" && message["change"] == "tagged";
        while !told(&quick.change()) {
            heard += 1;
        }
        heard += 1;
        // The two that are slow were sent the same.
        if seq % 8 == 0 && heard > (sent(&server) - heard) / 2 + BEHIND {
            break;
        }
    }
    // Everybody else was served meanwhile. Whoever was behind is told to look, or was given up.
    let mut taken = 0;
    let is_reset = loop {
        match slow.next() {
            Some(message) if message["reset"] == true => break true,
            Some(_) if taken == heard => panic!("nothing was left out of {heard} messages"),
            Some(_) => taken += 1,
            None => break false,
        }
    };
    assert!(taken < heard, "nothing was left out of {heard} messages");
    if is_reset {
        let host = server.register("the last");
        assert_eq!(slow.until("host", "new"), [host.agentsn]);
    }
    // One that takes nothing does not keep the server from its end.
    server.signal(Signal::SIGTERM);
    quick.ended();
    assert!(server.end().success());
    drop(stuck);
}

#[test]
fn replicas_hear_of_each_other_and_of_a_gap() {
    let Some(cluster) = cluster::shared() else {
        return;
    };
    let configuration = configuration_on(cluster);
    let first = Server::start_with(&configuration);
    let directory = TempDir::new().expect("a temporary directory");
    std::fs::create_dir(directory.path().join("data")).expect("a directory");
    std::fs::copy(
        first.data("first-start.txt"),
        directory.path().join("data/first-start.txt"),
    )
    .expect("a copy");
    let second = Server::start_in(directory.path(), &configuration);
    let mut listener = Listener::begin(&second, &first.api_token);
    let heard = |listener: &mut Listener, name: &str| {
        let host = first.register(name);
        assert_eq!(listener.until("host", "new"), [host.agentsn]);
    };
    wait_until_it_hears(&first);
    wait_until_it_hears(&second);
    heard(&mut listener, "h1");
    let database = configuration
        .split("postgres:///")
        .nth(1)
        .and_then(|rest| rest.split('?').next())
        .expect("a database");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(cluster.sql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = '{database}' AND application_name = 'bootserver changes'"
    )));
    while listener.next().expect("a message") != json!({ "reset": true }) {}
    heard(&mut listener, "h2");
}

#[test]
fn the_command_line_follows_a_server_that_comes_back() {
    let directory = TempDir::new().expect("a temporary directory");
    let socket = directory.path().join("s");
    let configuration = format!("socket = {:?}\n", socket.display().to_string());
    let mut server = Server::start_in(directory.path(), &configuration);
    let child = command()
        .args(["event", "follow", "--topics", "host", "--json"])
        .env("BOOTSERVER_URL", &socket)
        .env("BOOTSERVER_TOKEN", &server.api_token)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = Ended(child.expect("it runs"));
    let out = child.0.stdout.take().expect("a pipe");
    let mut lines = BufReader::new(out).lines();
    let mut until = |key: &str, value: Value| loop {
        let line = lines.next().expect("a line").expect("text");
        let message: Value = serde_json::from_str(&line).expect("JSON");
        if message[key] == value {
            return;
        }
    };
    until("reset", json!(true));
    until("ids", json!([server.register("h1").agentsn]));
    assert!(server.stop().success());
    let server = Server::start_in(directory.path(), &configuration);
    until("reset", json!(true));
    until("ids", json!([server.register("h2").agentsn]));
    let pid = Pid::from_raw(i32::try_from(child.0.id()).expect("a pid"));
    kill(pid, Signal::SIGINT).expect("the child is ours");
    assert!(child.0.wait().expect("the child is ours").success());
}

/// A child that ends with the test, however that ends.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
