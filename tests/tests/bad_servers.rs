//! Promise: no server and no name server, whatever it answers, holds a host
//! up: the next server is asked in bounded time and memory, and children stay
//! as they are.

use std::io::Write;
use std::net::UdpSocket;
use std::time::Duration;

use e2e::agent::{Agent, Settings, is_root};
use e2e::bundle::Bundle;
use e2e::fake_server::{Answer, FakeServer};
use e2e::wait;
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Hosts that are tried at once: each is three processes.
const AT_ONCE: usize = 4;
/// Memory no answer may cost a daemon that is built for tests, in KiB. One
/// that answers well peaks at a third of it.
const MAX_MEMORY: u64 = 48 * 1024;

fn settings(servers: &[&str]) -> Settings {
    Settings {
        push: "step = 1\nmin_step = 1\nconnect_timeout = 1\ntimeout = 2\n".into(),
        ..Settings::new(&servers.join(","))
    }
}

/// A prepared host with the child `calm`, which runs until it is stopped.
fn prepare(settings: &Settings) -> Agent {
    let host = Agent::prepare(settings);
    host.package("calm", &Bundle::new("calm", "1.0", &["--ready"]).notify());
    host
}

fn calm_pid(host: &Agent) -> i32 {
    wait::until("the child is up", || {
        let child = host.child("calm")?;
        (child["status"] == "running" && child["detail"].is_null()).then_some(())?;
        i32::try_from(child["pid"].as_i64()?).ok()
    })
}

/// A host whose first server answers like this confirms itself at the second.
fn is_left_for_the_next_one(what: &str, said: &str, answer: impl Fn() -> Answer + Send + 'static) {
    let bad = FakeServer::start_with(move |_| Some(answer()));
    let good = FakeServer::start();
    let mut settings = settings(&[&bad.address(), &good.address()]);
    if !["", "time"].contains(&said) {
        // Another bound than that of time is meant, which must not come first on
        // a busy machine.
        settings.push = settings.push.replace("\ntimeout = 2", "\ntimeout = 30");
    }
    let mut host = prepare(&settings);
    host.run();
    let pid = calm_pid(&host);
    host.until_confirmed();
    assert_eq!(bad.asked().len(), 1, "{what}: asked once, not followed");
    assert_eq!(calm_pid(&host), pid, "{what}");
    let peak = host.peak_memory();
    assert!(peak < MAX_MEMORY, "{what}: {peak} KiB");
    let log = host.log();
    let line = log
        .lines()
        .find(|line| line.contains("WARN") && line.contains(&bad.address()))
        .unwrap_or_else(|| panic!("{what}: which one failed is logged: {log}"));
    assert!(line.contains(said), "{what}: {said} in {line}");
}

/// 200 with this JSON text.
fn json_text(body: impl Into<Vec<u8>>) -> Answer {
    Answer::of(200, &["Content-Type: application/json"], &body.into())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).expect("in memory");
    packed.finish().expect("in memory")
}

#[test]
fn whatever_a_server_answers_the_next_one_is_asked_and_children_stay() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";
    let head = |line: &str| [OK, line.as_bytes()].concat();
    let spaces = vec![b' '; 64 * 1024];
    let chunk = [b"10000\r\n".as_slice(), &spaces, b"\r\n"].concat();
    let token = |token: &str| json_text(json!({ "status": 0, "token": token }).to_string());
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let gzipped = gzip(br#"{"status":0}"#);
    let packed = ["Content-Encoding: gzip", "Content-Type: application/json"];
    let myself = ["Location: /agent/register"];
    let unreadable = "unreadable";
    let cases: Vec<(&str, &str, Answer)> = vec![
        (
            "1 byte at a time",
            "time",
            Answer::Trickle(head(&"X-Slow: x\r\n".repeat(99))),
        ),
        (
            "a trickling body",
            "time",
            Answer::Trickle(head(&format!(
                "Content-Length: 999\r\n\r\n{}",
                " ".repeat(999)
            ))),
        ),
        (
            "headers without end",
            "",
            Answer::Endless(
                OK.to_vec(),
                b"X-More: xxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".to_vec(),
            ),
        ),
        (
            "one header without end",
            "",
            Answer::Endless(head("X-More: "), vec![b'x'; 4096]),
        ),
        (
            "100 Continue without end",
            "",
            Answer::Endless(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        ),
        (
            "a body without end",
            "1048576",
            Answer::Endless(head("\r\n"), spaces.clone()),
        ),
        (
            "chunks without end",
            "1048576",
            Answer::Endless(head("Transfer-Encoding: chunked\r\n\r\n"), chunk),
        ),
        (
            "10 MB announced",
            "1048576",
            Answer::Endless(head("Content-Length: 10000000\r\n\r\n"), spaces),
        ),
        (
            "a length that is none",
            "",
            Answer::Bytes(head("Content-Length: 99999999999999999999\r\n\r\n{}")),
        ),
        (
            "half an answer",
            "",
            Answer::Bytes(head("Content-Length: 50\r\n\r\n{\"status\"")),
        ),
        (
            "a redirect to itself",
            "status 302",
            Answer::of(302, &myself, b""),
        ),
        (
            "a lasting redirect",
            "status 308",
            Answer::of(308, &myself, b""),
        ),
        (
            "gzip nobody asked for",
            unreadable,
            Answer::of(200, &packed, &gzipped),
        ),
        ("a gzip bomb", unreadable, Answer::of(200, &packed, &bomb)),
        (
            "bytes that are no text",
            unreadable,
            json_text(*b"{\"status\":0,\"message\":\"\xff\xfe\"}"),
        ),
        (
            "only bytes",
            unreadable,
            json_text((0..=255).collect::<Vec<u8>>()),
        ),
        ("deep nesting", unreadable, json_text("[".repeat(500_000))),
        (
            "deep nesting inside",
            unreadable,
            json_text(format!(
                "{{\"status\":0,\"x\":{}",
                "{\"a\":".repeat(100_000)
            )),
        ),
        (
            "another type",
            unreadable,
            json_text(*b"{\"status\":\"fine\"}"),
        ),
        ("no object", unreadable, json_text(*b"0")),
        ("nothing", unreadable, json_text(*b"")),
        (
            "a secret with a line break",
            "token",
            token("x\r\nX-Forged: 1"),
        ),
        ("a secret with an escape", "token", token("\u{1b}[2J")),
        ("a secret with a NUL", "token", token("a\0b")),
        ("a secret without end", "token", token(&"x".repeat(900_000))),
    ];
    for some in cases.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            for (what, said, answer) in some.iter().cloned() {
                scope.spawn(move || is_left_for_the_next_one(what, said, move || answer.clone()));
            }
        });
    }
}

#[test]
fn a_bad_secret_in_a_status_changes_nothing_and_what_it_answered_is_sent_again() {
    let mut statuses = 0;
    let bad = FakeServer::start_with(move |asked| {
        if asked.is_register() {
            return Some(Answer::Json(json!({ "status": 0, "token": "first" })));
        }
        statuses += 1;
        (statuses == 2).then(|| {
            let job = json!({ "id": "never", "action": "stop", "name": "calm" });
            Answer::Json(json!({ "status": 0, "token": "se\ncond", "jobs": [job] }))
        })
    });
    let good = FakeServer::start();
    let mut host = prepare(&settings(&[&bad.address(), &good.address()]));
    host.run();
    host.until_confirmed();
    let asked = good.next_status();
    assert_eq!(asked.header("authorization"), Some("Bearer first"));
    assert_eq!(host.metafile()["token"], "first");
    assert_eq!(
        good.results("never").len(),
        0,
        "a reply counts whole or not"
    );
}

#[test]
fn a_reply_full_of_jobs_that_are_none_costs_bounded_memory() {
    // Half a million values in less than the largest reply.
    let zeros = format!("{{\"status\":0,\"jobs\":[0{}]}}", ",0".repeat(500_000));
    let server =
        FakeServer::start_with(move |asked| asked.is_status().then(|| json_text(zeros.clone())));
    let mut host = prepare(&settings(&[&server.address()]));
    host.run();
    let pid = calm_pid(&host);
    host.until_confirmed();
    for _ in 0..3 {
        server.next_status();
    }
    assert_eq!(calm_pid(&host), pid);
    let peak = host.peak_memory();
    assert!(peak < MAX_MEMORY, "{peak} KiB");
}

/// Becomes the daemon where names are asked of `server` only, with the longest
/// patience a resolver can have.
fn launcher(folder: &std::path::Path, server: &str) -> Vec<String> {
    let resolv = folder.join("resolv.conf");
    let text = format!("nameserver {server}\noptions timeout:30 attempts:5\n");
    std::fs::write(&resolv, text).expect("a file");
    let nsswitch = folder.join("nsswitch.conf");
    std::fs::write(&nsswitch, "hosts: files dns\npasswd: files\ngroup: files\n").expect("a file");
    let script = format!(
        "mount --bind '{}' /etc/resolv.conf && mount --bind '{}' /etc/nsswitch.conf && exec \"$@\"",
        resolv.display(),
        nsswitch.display()
    );
    let words = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ];
    words.map(str::to_owned).to_vec()
}

#[test]
fn a_name_server_that_never_answers_costs_a_deadline_and_nothing_else() {
    if !is_root() {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: another /etc/resolv.conf needs root"
        );
        return;
    }
    // Takes every question and answers none.
    let black_hole = UdpSocket::bind("127.0.77.53:53").expect("a port of root's");
    black_hole
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a bound");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let good = FakeServer::start();
    // More names than questions may be open, and only then one that answers.
    let names: Vec<String> = (0..6).map(|n| format!("host-{n}.example:80")).collect();
    let mut servers: Vec<&str> = names.iter().map(String::as_str).collect();
    let address = good.address();
    servers.push(&address);
    let mut host = prepare(
        &Settings {
            launcher: launcher(folder.path(), "127.0.77.53"),
            ..settings(&servers)
        }
        .with("[restart]\ncheck = 1\nholdoff = 1\nstable = 30\nmax_anomalies = 9\n"),
    );
    host.run();
    let pid = calm_pid(&host);
    let mut question = [0; 512];
    black_hole.recv_from(&mut question).expect("it was asked");
    // While the resolver waits a crash is noticed and the child comes back.
    host.process("calm")
        .expect("it runs")
        .signal(Signal::SIGKILL);
    wait::until_true("another run of it", || {
        let child = host.child("calm").unwrap_or(Value::Null);
        child["status"] == "running" && child["pid"].as_i64() != Some(i64::from(pid))
    });
    host.until_confirmed();
    let log = host.log();
    let failed = log
        .lines()
        .filter(|line| line.contains("WARN") && line.contains(".example: "));
    assert!(failed.count() >= names.len(), "{log}");
    assert!(
        log.contains("has not answered 4 earlier questions"),
        "{log}"
    );
    let threads = std::fs::read_dir(format!("/proc/{}/task", host.pid())).expect("it runs");
    let threads = threads.count();
    assert!(
        threads <= 4 + 4,
        "engine, journal, uplink, jobs, and 4 questions: {threads}"
    );
    let crash = wait::until("the event of the crash", || {
        let mut events = good.events().into_iter();
        events.find(|event| event["category"] == "crash")
    });
    assert_eq!(crash["subject"], "calm");
}
