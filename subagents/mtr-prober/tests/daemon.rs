//! The program as it runs on a node: ordered over HTTP, ended, killed, and asked again.

#[path = "support/daemon.rs"]
mod daemon;
#[path = "../../../bootagent/tests/support/small_disk.rs"]
mod small_disk;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use daemon::{FAR, Fixture, is_root, read_reply};
use nix::sys::signal::Signal;

/// An order that lasts longer than any test.
const LONG: &str = "count=1000&interval=1";
/// One that is over at once.
const SHORT: &str = "count=2&interval=0.2";

/// An address of loopback that nobody else uses.
fn address(last: u8) -> String {
    let pid = std::process::id();
    format!("127.{}.{}.{last}", 1 + pid / 250 % 250, pid % 250)
}

/// A program that runs with this beside the usual configuration; none where it cannot.
fn started(config: &str) -> Option<(Fixture, daemon::Running)> {
    is_root().then(|| {
        let fixture = Fixture::new(config);
        let program = fixture.start();
        (fixture, program)
    })
}

#[test]
fn a_measurement_is_accepted_at_once_measured_and_shown_in_every_format() {
    if !is_root() {
        return;
    }
    let fixture =
        Fixture::new("node = \"node-7\"\n[lines.telecom]\nsource = \"lo\"\ncircuit = \"CT-1\"");
    let program = fixture.start();
    let query = "ip=127.0.0.1&source=telecom&cause=ticket&ref=zabbix+4711";
    let reply = fixture.get(&format!("/api/mtr?{SHORT}&{query}"));
    assert_eq!(reply.status, 202, "{reply:?}");
    let id = reply.json()["id"].as_str().expect("an id").to_owned();
    assert!(
        reply.head.contains(&format!("Location: /api/mtr/{id}\r\n")),
        "{reply:?}"
    );

    let report = fixture.ended(&id);
    assert_eq!(report["state"], "finished", "{report}");
    assert_eq!(
        (&report["cause"], &report["ref"]),
        (&"ticket".into(), &"zabbix 4711".into())
    );
    assert_eq!(report["source"]["circuit"], "CT-1", "{report}");
    assert_eq!(
        report["parts"][0]["hops"][0]["own"]["received"], 2,
        "{report}"
    );
    assert!(
        report["verdict"]["en"].is_string() && report["verdict"]["zh"].is_string(),
        "{report}"
    );
    for (format, kind, part) in [
        ("text", "text/plain", "HOST: node-7 "),
        ("wide", "text/plain", "HOST: node-7 "),
        ("csv", "text/csv", "Mtr_Version"),
        ("mtr-json", "application/json", "\"src\": \"node-7\""),
        ("json", "application/json", "\"circuit\":\"CT-1\""),
        ("ticket", "text/plain", "circuit id CT-1"),
        ("ticket&lang=zh", "text/plain", "电路编号 CT-1"),
    ] {
        let reply = fixture.get(&format!("/api/mtr/{id}?format={format}"));
        assert_eq!(reply.status, 200, "{format}: {reply:?}");
        assert!(
            reply.head.contains(&format!("Content-Type: {kind}")),
            "{format}: {reply:?}"
        );
        assert!(reply.body.contains(part), "{format}: {reply:?}");
    }
    let page = fixture.get(&format!("/reports/{id}"));
    assert!(
        page.body.contains("<pre>") && page.head.contains("Content-Security-Policy"),
        "{page:?}"
    );
    let home = fixture.get("/");
    assert!(
        home.body.contains(&id) && home.body.contains("<form"),
        "{home:?}"
    );
    let see = fixture.get(&format!("/measure?ip=127.0.0.1&{SHORT}"));
    assert_eq!(see.status, 303, "{see:?}");

    let listed = fixture
        .get("/api/reports?target=127.0.0.1&cause=ticket")
        .json();
    assert_eq!(listed["items"][0]["id"], id.as_str(), "{listed}");
    assert_eq!(
        fixture.get("/api/reports?from=2100-01-01").json()["items"],
        serde_json::json!([])
    );
    assert_eq!(fixture.metric("measurements_accepted_total"), 2);
    assert_eq!(fixture.get("/healthz").status, 200);
    assert!(program.stop().success(), "{}", fixture.log());
}

#[test]
fn what_is_asked_wrongly_is_a_problem_document_and_costs_nothing() {
    let Some((fixture, _program)) = started("") else {
        return;
    };
    let unknown = "/api/mtr/019a8b1c-0000-7000-8000-000000000000";
    for (method, path, status, part) in [
        ("GET", "/api/mtr", 400, "say `ip`"),
        ("GET", "/api/mtr?ip=256.1.1.1", 400, "no address"),
        ("GET", "/api/mtr?ip=224.0.0.1", 400, "one host"),
        ("GET", "/api/mtr?ip=127.0.0.1&count=1001", 400, "1 to 1000"),
        (
            "GET",
            "/api/mtr?ip=127.0.0.1&source=no-such0",
            400,
            "no-such0",
        ),
        (
            "GET",
            "/api/mtr?ip=127.0.0.1&colour=red",
            400,
            "no parameter",
        ),
        ("GET", "/api/mtr?ip=127.0.0.1&ip=::1", 400, "twice"),
        ("HEAD", "/api/mtr?ip=127.0.0.1", 405, ""),
        ("POST", "/api/mtr?ip=127.0.0.1", 405, "use GET"),
        ("GET", "/api/mtr/me", 404, "an id looks like"),
        ("GET", unknown, 404, "no measurement"),
        ("DELETE", unknown, 404, "no measurement"),
        ("PUT", unknown, 405, "use GET"),
        ("GET", &format!("{unknown}?wait=61"), 400, "0 to 60"),
        ("GET", &format!("{unknown}?format=xml"), 400, "mtr-json"),
        ("GET", "/api/reports?date=yesterday", 400, "a day"),
        ("GET", "/api/reports?limit=0", 400, "1 to 1000"),
        ("GET", "/api/reports?loss_min=101", 400, "0 to 100"),
        (
            "GET",
            "/api/reports?date=2026-11-22&to=2026-11-22",
            400,
            "`from`",
        ),
        ("GET", "/api/reports?cursor=x", 400, "`next`"),
        ("GET", "/etc/passwd", 404, "/api/mtr"),
    ] {
        let mut stream = fixture.connect();
        let text =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("text");
        assert!(
            reply.starts_with(&format!("HTTP/1.1 {status} ")),
            "{method} {path}: {reply}"
        );
        assert!(
            reply.contains("application/problem+json"),
            "{method} {path}: {reply}"
        );
        assert!(reply.contains(part), "{method} {path}: {reply}");
        assert_eq!(reply.ends_with("\r\n\r\n"), method == "HEAD", "{reply}");
    }
    assert_eq!(fixture.metric("measurements_accepted_total"), 0);
}

#[test]
fn alike_orders_share_a_run_and_each_gets_his_count_under_his_own_id() {
    let Some((fixture, _program)) = started("") else {
        return;
    };
    let first = fixture.order("ip=127.0.0.2&count=5&interval=0.2");
    fixture.report_where(&first, |it| it["parts"][0]["rounds"].as_u64() >= Some(2));
    let second = fixture.order("ip=127.0.0.2&count=20&interval=0.2");
    assert_ne!(first, second);
    assert_eq!(fixture.metric("runs"), 1);
    let report = fixture.ended(&second);
    assert!(
        report["parts"][0]["rounds"].as_u64() >= Some(22),
        "{report}"
    );
    let report = fixture.ended(&first);
    assert_eq!(report["state"], "finished", "{report}");
    assert!(
        report["parts"][0]["hops"][0]["own"]["sent"].as_u64() >= Some(5),
        "{report}"
    );
    assert_eq!(fixture.metric("measurements_joined_total"), 1);
}

#[test]
fn what_runs_can_be_read_waited_for_stopped_and_removed() {
    let Some((fixture, _program)) = started("") else {
        return;
    };
    let id = fixture.order(&format!("ip=127.0.0.3&{LONG}"));
    let other = fixture.order(&format!("ip=127.0.0.3&{LONG}"));
    let answered =
        |it: &serde_json::Value| it["parts"][0]["hops"][0]["own"]["received"].as_u64() >= Some(1);
    let report = fixture.report_where(&id, answered);
    assert_eq!(report["state"], "running", "{report}");
    let since = Instant::now();
    assert_eq!(
        fixture.get(&format!("/api/mtr/{id}?wait=1")).json()["state"],
        "running"
    );
    assert!(since.elapsed() >= Duration::from_secs(1));

    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fixture.get(&format!("/api/mtr/{id}?wait=60")).json());
        // Whether it waits already or comes after, it is answered.
        assert_eq!(fixture.ask("DELETE", &format!("/api/mtr/{id}")).status, 204);
        waiting.join().expect("answered")
    });
    assert_eq!(waiting["state"], "stopped", "{waiting}");
    let report = fixture.ended(&id);
    assert!(answered(&report), "what there was is kept: {report}");
    assert_eq!(fixture.ask("DELETE", &format!("/api/mtr/{id}")).status, 204);
    for method in ["GET", "DELETE"] {
        assert_eq!(fixture.ask(method, &format!("/api/mtr/{id}")).status, 410);
    }
    let report = fixture.get(&format!("/api/mtr/{other}")).json();
    assert_eq!(report["state"], "running", "the other goes on: {report}");
}

#[test]
fn whatever_it_is_doing_when_it_is_killed_each_id_ends_in_a_report() {
    if !is_root() {
        return;
    }
    let silent = address(53);
    let server = UdpSocket::bind((silent.as_str(), 53)).expect("a name server that never answers");
    let fixture = Fixture::new("");
    let program = fixture.start_with(fixture.command_with_resolver(&silent));
    let running = fixture.order(&format!("ip=127.0.0.4&{LONG}"));
    fixture.report_where(&running, |it| it["state"] == "running");
    // It is told to its caller while it goes to the disk.
    let finishing = fixture.order(&format!("ip=127.0.0.5&{SHORT}"));
    fixture.ended(&finishing);
    // Last: its resolver gives up by itself after a while.
    let accepted = fixture.order(&format!("ip=host.example&{LONG}"));
    program.kill();
    drop(server);

    let program = fixture.start();
    for id in [&accepted, &running] {
        let report = fixture.get(&format!("/api/mtr/{id}")).json();
        assert_eq!(report["state"], "interrupted", "{report}");
        assert!(
            report["problem"]
                .as_str()
                .is_some_and(|it| it.contains("ask for a new one")),
            "{report}"
        );
    }
    let state = fixture.get(&format!("/api/mtr/{finishing}")).json()["state"].clone();
    assert!(
        ["finished", "interrupted"].contains(&state.as_str().expect("one")),
        "{state}"
    );
    assert!(
        fixture.log().contains("was interrupted"),
        "{}",
        fixture.log()
    );

    // An orderly end keeps what there is.
    let id = fixture.order(&format!("ip=127.0.0.6&{LONG}"));
    fixture.report_where(&id, |it| {
        it["parts"][0]["hops"][0]["own"]["received"].as_u64() >= Some(1)
    });
    assert!(program.stop().success());
    let program = fixture.start();
    let report = fixture.get(&format!("/api/mtr/{id}")).json();
    assert_eq!(report["state"], "interrupted", "{report}");
    assert!(
        report["parts"][0]["hops"][0]["own"]["received"].as_u64() >= Some(1),
        "{report}"
    );
    program.stop();
}

#[test]
fn dead_name_servers_hold_up_nobody_and_the_reason_is_told() {
    if !is_root() {
        return;
    }
    let silent = address(54);
    let _server = UdpSocket::bind((silent.as_str(), 53)).expect("a name server that never answers");
    let fixture = Fixture::new("");
    let _program = fixture.start_with(fixture.command_with_resolver(&silent));
    let named: Vec<String> = (0..20)
        .map(|number| fixture.order(&format!("ip=host-{number}.example&{SHORT}")))
        .collect();
    let addressed = fixture.order(&format!("ip=127.0.0.1&{SHORT}"));
    assert_eq!(fixture.ended(&addressed)["state"], "finished");
    for id in named {
        let report = fixture.ended(&id);
        assert_eq!(report["state"], "failed", "{report}");
        assert!(
            report["problem"]
                .as_str()
                .is_some_and(|it| it.contains("resolv.conf")),
            "{report}"
        );
    }
}

#[test]
fn a_taken_port_is_named_and_had_once_it_is_free() {
    if !is_root() {
        return;
    }
    let taken = TcpListener::bind((address(1), 8081)).expect("bound");
    let fixture = Fixture::new("");
    let socket = fixture.socket();
    fixture.configure(&format!("listen = [{socket:?}, \"{}:8081\"]", address(1)));
    let _program = fixture.start();
    // STATUS came before READY.
    let log = fixture.log();
    assert!(
        log.contains(&format!("(pid {})", std::process::id())),
        "{log}"
    );
    let id = fixture.order(&format!("ip=127.0.0.1&{SHORT}"));
    assert_eq!(
        fixture.ended(&id)["state"],
        "finished",
        "the engine goes on"
    );
    drop(taken);
    let status = fixture.message(&format!(
        "listening on {}, {}:8081",
        socket.display(),
        address(1)
    ));
    assert!(!status.contains("taken"), "{status}");
    let url = format!("http://{}:8081/healthz", address(1));
    let output = Command::new("curl")
        .args(["-sSf", "-m", "3", &url])
        .output()
        .expect("curl runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_configuration_is_read_again_and_a_bad_one_changes_nothing() {
    let Some((fixture, program)) = started("node = \"one\"") else {
        return;
    };
    let node = |id: &str| fixture.ended(id)["node"].clone();
    assert_eq!(
        node(&fixture.order(&format!("ip=127.0.0.1&{SHORT}"))),
        "one"
    );
    let socket = fixture.socket();
    for (config, expected) in [
        (
            format!(
                "listen = [{socket:?}, \"{}:8081\"]\nnode = \"two\"",
                address(2)
            ),
            "two",
        ),
        (
            "listen = [\"0.0.0.0:1\"]\nnode = \"three\"".to_owned(),
            "two",
        ),
        (format!("listen = [{socket:?}]\nnode = \"four\""), "four"),
    ] {
        fixture.configure(&config);
        program.signal(Signal::SIGHUP);
        fixture.message("READY=1");
        assert_eq!(
            node(&fixture.order(&format!("ip=127.0.0.1&{SHORT}"))),
            expected
        );
    }
    // What is not listed any more is closed.
    let free = TcpListener::bind((address(2), 8081));
    assert!(free.is_ok(), "{free:?}");
}

#[test]
fn budget_and_caps_hold_from_the_moment_they_are_read_again() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new("budget = 20");
    let old = fixture.report_of_three_days_ago();
    let program = fixture.start();
    assert_eq!(fixture.ended(&old)["state"], "finished");
    for last in 1..=10 {
        fixture.order(&format!("ip=127.3.0.{last}&count=1000&interval=0.2"));
    }
    // Fifty a second are wanted.
    let rate = || {
        let (before, began) = (fixture.metric("probes_sent_total"), Instant::now());
        std::thread::sleep(Duration::from_secs(1));
        let sent = fixture.metric("probes_sent_total") - before;
        sent as f64 / began.elapsed().as_secs_f64()
    };
    let small = rate();
    assert!(small < 25.0, "{small} probes a second");
    fixture.configure(&format!(
        "listen = [{:?}]\nbudget = 10000\narchive_days = 1",
        fixture.socket()
    ));
    program.signal(Signal::SIGHUP);
    fixture.message("READY=1");
    let deadline = Instant::now() + FAR;
    while rate() < 35.0 {
        assert!(
            Instant::now() < deadline,
            "the budget is still that of the start"
        );
    }
    let gone = fixture.get(&format!("/api/mtr/{old}"));
    assert_eq!(gone.status, 410, "{gone:?}");
}

#[test]
fn five_hundred_orders_at_once_are_all_accepted_and_all_end() {
    let Some((fixture, program)) = started("") else {
        return;
    };
    let mut streams: Vec<_> = (0..500).map(|_| fixture.connect()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        let target = format!("127.1.{}.{}", number / 250, number % 250 + 1);
        let text = format!("GET /api/mtr?ip={target}&count=1 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("sent");
    }
    let ids: BTreeSet<String> = streams
        .iter_mut()
        .map(|stream| {
            let reply = read_reply(stream);
            assert_eq!(reply.status, 202, "{reply:?}");
            reply.json()["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 500);
    let sockets = program.raw_sockets();
    assert!((1..=8).contains(&sockets), "{sockets} raw sockets");
    for id in &ids {
        let report = fixture.ended(id);
        assert_eq!(report["state"], "finished", "{report}");
        assert_eq!(
            report["parts"][0]["hops"][0]["own"]["received"], 1,
            "{report}"
        );
    }
    let listed = fixture.get("/api/reports?limit=1000").json();
    let listed = listed["items"].as_array().expect("a list").iter();
    let listed: BTreeSet<String> = listed
        .map(|it| it["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(listed, ids);
}

#[test]
fn what_is_too_much_is_refused_for_now_and_taken_when_there_is_room() {
    let Some((fixture, _program)) = started("") else {
        return;
    };
    let order = format!("GET /api/mtr?ip=127.0.0.11&{LONG} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut streams: Vec<_> = (0..64).map(|_| fixture.connect()).collect();
    for stream in &mut streams {
        stream.write_all(order.repeat(64).as_bytes()).expect("sent");
    }
    let mut last = String::new();
    for stream in &mut streams {
        for _ in 0..64 {
            let reply = read_reply(stream);
            assert_eq!(reply.status, 202, "{reply:?}");
            last = reply.json()["id"].as_str().expect("an id").to_owned();
        }
    }
    let one_more = format!("/api/mtr?ip=127.0.0.11&{LONG}");
    let refused = fixture.get(&one_more);
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.head.contains("Retry-After: "), "{refused:?}");
    assert_eq!(
        fixture.ask("DELETE", &format!("/api/mtr/{last}")).status,
        204
    );
    // Its report has to be on the disk before its place is free.
    let deadline = Instant::now() + FAR;
    while fixture.get(&one_more).status != 202 {
        assert!(Instant::now() < deadline, "its place does not become free");
    }
}

#[test]
fn more_targets_than_can_begin_are_told_to_come_later_and_those_accepted_begin_at_once() {
    let Some((fixture, _program)) = started("budget = 40") else {
        return;
    };
    let mut stream = fixture.connect();
    for last in 1..=100 {
        let order =
            format!("GET /api/mtr?ip=127.4.0.{last}&{LONG} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(order.as_bytes()).expect("sent");
    }
    let replies: Vec<_> = (0..100).map(|_| read_reply(&mut stream)).collect();
    let (accepted, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|it| it.status == 202);
    assert!(accepted.len() >= 30 && !refused.is_empty(), "{replies:?}");
    for reply in &refused {
        assert_eq!(reply.status, 503, "{reply:?}");
        assert!(
            reply.head.contains("Retry-After: 2\r\n") && reply.body.contains("`budget`"),
            "{reply:?}"
        );
    }
    for reply in &accepted {
        let id = reply.json()["id"].as_str().expect("an id").to_owned();
        let report = fixture.report_where(&id, |it| !it["parts"][0].is_null());
        let millis = |it: &serde_json::Value| it["unix_ms"].as_i64().expect("milliseconds");
        let waited = millis(&report["started_at"]) - millis(&report["accepted_at"]);
        // Two seconds, on a machine that has time.
        assert!(waited < 12_000, "{waited} ms: {report}");
    }
    let deadline = Instant::now() + FAR;
    while fixture.get(&format!("/api/mtr?ip=127.4.1.1&{LONG}")).status != 202 {
        assert!(Instant::now() < deadline, "it is never taken");
    }
}

#[test]
fn a_connection_serves_one_request_after_the_other_and_none_holds_up_another() {
    let Some((fixture, _program)) = started("") else {
        return;
    };
    // More than there may be, of those who say nothing.
    let _silent: Vec<_> = (0..1_100).map(|_| fixture.connect()).collect();
    let mut slow = fixture.connect();
    slow.write_all(b"GET / HTTP/1.1\r\nHo").expect("sent");
    let mut bomb = fixture.connect();
    let head = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\n{}",
        "x: y\r\n".repeat(2_000)
    );
    // It may be refused before all of it is sent.
    let _ = bomb.write_all(head.as_bytes());
    assert_eq!(read_reply(&mut bomb).status, 431);

    let mut pipelined = fixture.connect();
    let one = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    pipelined
        .write_all(format!("{one}{one}{one}{last}").as_bytes())
        .expect("sent");
    for _ in 0..3 {
        let reply = read_reply(&mut pipelined);
        assert_eq!(
            (reply.status, reply.json()["status"].as_str()),
            (200, Some("ok"))
        );
    }
    let mut rest = String::new();
    pipelined.read_to_string(&mut rest).expect("text");
    assert!(
        rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("\r\n\r\n"),
        "{rest}"
    );

    // Five seconds after its first byte.
    assert_eq!(read_reply(&mut slow).status, 408);
}

#[test]
fn a_curl_that_is_killed_with_its_process_tree_has_ordered_all_the_same() {
    let Some((fixture, _program)) = started("") else {
        return;
    };
    let command = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../contrib/zabbix/mtr-on-event.sh"
    );
    let mut child = Command::new("setsid")
        .args(["sh", "-c", "\"$0\" 127.0.0.7 4711; sleep 600", command])
        .env("MTR_PROBER_SOCKET", fixture.socket())
        .stdout(Stdio::piped())
        .spawn()
        .expect("setsid runs");
    let mut answer = Vec::new();
    let mut output = child.stdout.take().expect("piped");
    let mut byte = [0];
    while answer.last() != Some(&b'\n') && output.read(&mut byte).expect("read") == 1 {
        answer.push(byte[0]);
    }
    // As Zabbix ends a command: the whole group, at once. setsid made one of its own.
    let group = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::killpg(group, Signal::SIGKILL).expect("killed");
    child.wait().expect("reaped");
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("an answer");
    let id = answer["id"].as_str().expect("an id");
    let is_measured = |it: &serde_json::Value| it["parts"][0]["rounds"].as_u64() >= Some(2);
    let report = fixture.report_where(id, is_measured);
    let said = (&report["cause"], &report["ref"]);
    assert_eq!(said, (&"trigger".into(), &"4711".into()), "{report}");
}

#[test]
fn trace_measures_by_the_daemon_where_it_runs_and_without_any_privilege() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new("node = \"node-7\"");
    // Others pass through, to the socket and the configuration.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&fixture.dir, open).expect("set");
    let program = fixture.start();
    let words = ["trace", "--count", "2", "--interval", "0.2", "127.0.0.10"];
    let trace = || {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--bounding-set=-all",
        ]);
        command.arg(fixture.program_for_all()).args(words);
        command.env("CONFIGURATION_DIRECTORY", &fixture.dir);
        command
    };
    let output = trace().output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.contains("HOST: node-7 "),
        "{output:?}"
    );
    assert!(text.contains("127.0.0.10"), "{text}");
    let listed = fixture.get("/api/reports?cause=command").json();
    assert_eq!(listed["items"][0]["target"], "127.0.0.10", "{listed}");

    // What there is by Ctrl-C is printed, and the daemon measures no more.
    let mut long = trace();
    long.args(["--count", "1000", "--json"])
        .stdout(Stdio::piped());
    let child = long.spawn().expect("it runs");
    let deadline = Instant::now() + FAR;
    while !fixture
        .get("/metrics")
        .body
        .contains("\nmtr_prober_runs 1\n")
    {
        assert!(Instant::now() < deadline, "it does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, Signal::SIGINT).expect("signalled");
    let output = child.wait_with_output().expect("reaped");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!(report["state"], "stopped", "{report}");

    let output = trace()
        .args(["--source", "no-such0"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("no-such0"),
        "{said}"
    );
    program.stop();
}

#[test]
fn on_a_full_disk_nothing_is_accepted_and_what_runs_is_not_lost() {
    if !is_root() {
        return;
    }
    small_disk::on_disk("size=256k", |disk| {
        let fixture = Fixture::in_folder(disk, "");
        let _program = fixture.start();
        let running = fixture.order(&format!("ip=127.0.0.8&{LONG}"));
        let ballast = disk.join("ballast");
        let filled = std::fs::File::create(&ballast).and_then(|mut it| it.write_all(&[7; 1 << 20]));
        assert!(filled.is_err(), "it is full");
        // The page that is there already takes a few.
        let deadline = Instant::now() + FAR;
        let refused = loop {
            let reply = fixture.get(&format!("/api/mtr?ip=127.0.0.9&{LONG}"));
            if reply.status != 202 || Instant::now() > deadline {
                break reply;
            }
        };
        assert_eq!(refused.status, 507, "{refused:?}");
        assert!(
            refused.head.contains("Retry-After: ") && refused.body.contains("free some"),
            "{refused:?}"
        );
        assert_eq!(fixture.get("/healthz").status, 503);
        assert_eq!(
            fixture.ask("DELETE", &format!("/api/mtr/{running}")).status,
            204
        );
        assert_eq!(
            fixture.get(&format!("/api/mtr/{running}")).json()["state"],
            "stopped"
        );
        std::fs::remove_file(&ballast).expect("removed");
        fixture.order(&format!("ip=127.0.0.9&{SHORT}"));
        assert_eq!(fixture.get("/healthz").status, 200);
        assert_eq!(
            fixture.get(&format!("/api/mtr/{running}")).json()["state"],
            "stopped"
        );
    });
}

/// Lets a thread's next sync take for ever, as a disk does that stands still; until this is dropped.
struct Standstill(std::process::Child);

impl Standstill {
    fn of_disk(program: &daemon::Running) -> Self {
        let tasks = format!("/proc/{}/task", program.pid());
        let tasks = std::fs::read_dir(tasks).expect("it runs").flatten();
        let mut paths = tasks.map(|task| task.path());
        let archive = paths.find(|path| {
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            name.trim() == "archive"
        });
        let archive = archive.expect("its thread");
        let mut strace = Command::new("strace");
        strace.args(["-e", "trace=fsync,fdatasync", "-o", "/dev/null"]);
        strace.args(["-e", "inject=fsync,fdatasync:delay_enter=3600000000"]);
        strace.arg("-p").arg(archive.file_name().expect("an id"));
        strace.stderr(Stdio::null());
        let standstill = Self(strace.spawn().expect("strace is installed"));
        let deadline = Instant::now() + FAR;
        let is_traced = || {
            let status = std::fs::read_to_string(archive.join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        };
        while !is_traced() {
            assert!(Instant::now() < deadline, "strace does not attach");
            std::thread::sleep(Duration::from_millis(20));
        }
        standstill
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn while_the_disk_stands_still_measurements_and_the_api_go_on() {
    let Some((fixture, program)) = started("") else {
        return;
    };
    let running = fixture.order(&format!("ip=127.0.0.21&{LONG}"));
    let ended = fixture.order(&format!("ip=127.0.0.22&{SHORT}"));
    fixture.ended(&ended);
    let standstill = Standstill::of_disk(&program);
    // The order is on its way to the disk, whoever asks the archive waits behind it.
    let asked = [
        format!("/api/mtr?ip=127.0.0.23&{LONG}"),
        format!("/api/mtr/{ended}"),
        "/api/reports".to_owned(),
        "/healthz".to_owned(),
    ];
    let mut streams: Vec<_> = asked
        .iter()
        .map(|path| {
            let mut stream = fixture.connect();
            let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.write_all(text.as_bytes()).expect("sent");
            // The order is to be the first.
            std::thread::sleep(Duration::from_millis(200));
            stream
        })
        .collect();
    let received = || {
        let report = fixture.get(&format!("/api/mtr/{running}")).json();
        report["parts"][0]["hops"][0]["own"]["received"].as_u64()
    };
    let before = received();
    let deadline = Instant::now() + FAR;
    while received() < before.map(|it| it + 3) {
        assert!(Instant::now() < deadline, "the engine stands still too");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(fixture.get("/api/mtr?ip=nonsense%20").status, 400);
    for (stream, path) in streams.iter_mut().zip(&asked) {
        let reply = read_reply(stream);
        assert_eq!(reply.status, 503, "{path}: {reply:?}");
        assert!(reply.body.contains("look at the disk"), "{reply:?}");
    }
    drop(standstill);
    let deadline = Instant::now() + FAR;
    while fixture.get("/healthz").status != 200 {
        assert!(Instant::now() < deadline, "it does not come back");
    }
    assert_eq!(fixture.ended(&ended)["state"], "finished");
    program.stop();
}

#[test]
fn a_test_of_the_configuration_says_what_it_found_and_changes_nothing() {
    if !is_root() {
        return;
    }
    let fixture =
        Fixture::new("[lines.telecom]\nsource = \"lo\"\n[lines.unicom]\nsource = \"no-such0\"");
    let output = fixture
        .command()
        .arg("-T")
        .stdout(Stdio::piped())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    for part in [
        "is valid",
        "line telecom has its source",
        "warn  line unicom",
        "probes can be sent",
        "can be made",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!fixture.dir.join("state").exists());
    fixture.configure("listen = [\"0.0.0.0:8081\"]");
    let output = fixture
        .command()
        .arg("-T")
        .stdout(Stdio::piped())
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        !output.status.success() && text.contains("token_file"),
        "{text}"
    );
}

#[test]
fn the_manifest_is_valid_and_asks_for_raw_sockets_only() {
    let text = include_bytes!("../agent.json");
    let manifest = bootagent_protocol::Manifest::parse(text).expect("valid");
    assert_eq!(manifest.name.as_str(), "mtr-prober");
    assert_eq!(manifest.capabilities, ["CAP_NET_RAW"]);
}
