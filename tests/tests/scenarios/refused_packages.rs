//! A package that cannot be fetched, is not what was ordered, or is no good,
//! is refused with its code (2001 to 4005); what ran before runs on.

use std::net::TcpListener;

use e2e::agent::{Agent, Settings, is_root};
use e2e::bundle::{Bundle, checksum};
use e2e::disk::Disk;
use e2e::fake_server::{Answer, FakeServer};
use serde_json::{Value, json};

use super::stage::{NAME, Stage};

/// Largest package of these hosts, in bytes.
const MAX_BYTES: usize = 100_000;

fn tables() -> String {
    format!("[download]\nmax_bytes = {MAX_BYTES}\n")
}

/// A job that upgrades the running agent from `url`.
fn upgrade(id: &str, url: &str) -> Value {
    json!({ "id": id, "action": "upgrade", "name": NAME, "url": url })
}

#[test]
fn a_download_that_fails_says_where_and_how() {
    let stage = Stage::with_script(&tables(), |asked| {
        let chunked = "Transfer-Encoding: chunked";
        Some(match asked.path() {
            "/loop-a" => Answer::of(302, &["Location: /loop-b"], b""),
            "/loop-b" => Answer::of(302, &["Location: /loop-a"], b""),
            "/to-a-file" => Answer::of(302, &["Location: file:///etc/passwd"], b""),
            "/forbidden" => Answer::of(403, &[], b""),
            "/large" => Answer::of(200, &[], &vec![0x1f; MAX_BYTES + 1]),
            "/endless" => {
                // Never says how long it is, and is longer than allowed.
                let mut bytes = format!("HTTP/1.1 200 OK\r\n{chunked}\r\n\r\n").into_bytes();
                for _ in 0..200 {
                    bytes.extend_from_slice(b"400\r\n");
                    bytes.extend_from_slice(&[0x1f; 0x400]);
                    bytes.extend_from_slice(b"\r\n");
                }
                Answer::Bytes(bytes)
            }
            _ => return None,
        })
    });
    let missing = "file:///nonexistent/worker.tar.gz";
    stage.refuses(&[
        (upgrade("loop", "/loop-a"), 2001, &["/loop-", "loop"]),
        (
            upgrade("to-a-file", "/to-a-file"),
            2001,
            &["/to-a-file", "redirect"],
        ),
        (
            upgrade("forbidden", "/forbidden"),
            2001,
            &["/forbidden", "403"],
        ),
        (
            upgrade("not-there", "/not-there"),
            2002,
            &["/not-there", "404", "url"],
        ),
        (
            upgrade("no-file", missing),
            2002,
            &["/nonexistent/worker.tar.gz"],
        ),
        (
            upgrade("large", "/large"),
            2003,
            &["/large", "100000", "max_bytes"],
        ),
        (
            upgrade("endless", "/endless"),
            2003,
            &["/endless", "100000"],
        ),
    ]);
}

#[test]
fn a_server_that_does_not_answer_or_hangs_up_is_given_up_in_time() {
    // What hangs up or refuses is tried again, with pauses, and then given up.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Nobody accepts here: the kernel does, and then there is silence.
            let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let url = format!("http://{}/x", silent.local_addr().expect("bound"));
            let stage = Stage::new("[download]\ntimeout = 3\n");
            stage.refuses(&[(upgrade("silent", &url), 2005, &["127.0.0.1", "time"])]);
        });
        scope.spawn(|| {
            let stage = Stage::with_script("", |asked| {
                (asked.path() == "/cut").then(|| {
                    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";
                    Answer::Bytes([&head[..], &[0x1f; 1000]].concat())
                })
            });
            stage.refuses(&[(upgrade("cut", "/cut"), 2001, &["/cut"])]);
        });
        scope.spawn(|| {
            // Port 1 is nobody's, and nobody can take it by chance.
            const URL: &str = "http://127.0.0.1:1/x";
            Stage::new("").refuses(&[(upgrade("refused", URL), 2001, &[URL, "reached"])]);
        });
    });
}

#[test]
fn a_package_that_is_not_what_the_job_says_is_refused() {
    let stage = Stage::new("");
    let good = Bundle::new(NAME, "2.0.0", &["--ready"]).notify().build();
    let changed = |id: &str, key: &str, value: &str| {
        let mut job = stage.install(id, NAME, &good);
        job[key] = json!(value);
        job
    };
    let wrong = checksum(b"something else");
    stage.refuses(&[
        (
            changed("checksum", "checksum", &wrong),
            3001,
            &["SHA256:", "upload"],
        ),
        (
            changed("version", "version", "2.0.1"),
            3004,
            &["2.0.0", "2.0.1", "version"],
        ),
        (
            stage.install("name", "other", &good),
            3004,
            &["worker", "other", "name"],
        ),
        (
            stage.install("page", NAME, b"<html>Log in</html>"),
            3005,
            &["web page", "url"],
        ),
        (stage.install("empty", NAME, b""), 3005, &["empty"]),
        (
            stage.install("rpm", NAME, b"\xed\xab\xee\xdb and so on"),
            3005,
            &["rpm", "root", "bundle"],
        ),
        (
            stage.install("deb", NAME, b"!<arch>\ndebian-binary   and so on"),
            3005,
            &["deb", "root", "bundle"],
        ),
    ]);
}

#[test]
fn a_bundle_that_is_no_good_is_refused_while_the_old_version_runs() {
    let stage = Stage::new("[jobs]\ncheck_timeout = 1\n");
    let new = || Bundle::new(NAME, "2.0.0", &["--ready"]).notify();
    let install = |id: &str, bundle: &Bundle| stage.install(id, NAME, &bundle.build());
    let whole = new().file("filler", &[7; 4096], 0o644).build();
    let fails = new().key("check", json!(["./check"])).file(
        "check",
        b"#!/bin/sh\necho 'line 3: no such interface'\nexit 3\n",
        0o755,
    );
    let hangs =
        new()
            .key("check", json!(["./check"]))
            .file("check", b"#!/bin/sh\nexec sleep 600\n", 0o755);
    stage.refuses(&[
        (
            install("link", &new().link("etc", "/etc")),
            4001,
            &["etc", "symbolic link"],
        ),
        (
            stage.install("cut", NAME, &whole[..whole.len() / 2]),
            4001,
            &["damaged"],
        ),
        (
            install("key", &new().key("limit", json!({}))),
            4004,
            &["agent.json", "limit"],
        ),
        (
            install("type", &new().key("type", json!("fork"))),
            4004,
            &["agent.json", "fork"],
        ),
        (
            install("exec", &new().key("exec", json!(["./nothing"]))),
            4004,
            &["exec", "nothing"],
        ),
        (
            install(
                "mode",
                &new()
                    .key("exec", json!(["./data"]))
                    .file("data", b"", 0o644),
            ),
            4004,
            &["data", "executable"],
        ),
        (
            install("fails", &fails),
            4005,
            &["worker 2.0.0", "exit code 3", "no such interface"],
        ),
        (install("hangs", &hangs), 4005, &["worker 2.0.0", "1 s"]),
    ]);
    if is_root() {
        let nobody = new().key("user", json!("no-such-user"));
        stage.refuses(&[(install("user", &nobody), 4004, &["no-such-user"])]);
    } else {
        println!("SKIPPED: a manifest with an unknown user, because only root looks users up");
    }
}

#[test]
fn a_full_disk_is_found_out_before_the_download() {
    Disk::apart(|| {
        let fake = FakeServer::start();
        let host = Agent::prepare(&Settings::new(&fake.address()));
        let state = host.path("var/lib/bootagent");
        let _disk = Disk::mount(&state, "size=8m,nr_inodes=200");
        let mut host = host;
        host.run();
        host.until_confirmed();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bundle");
        std::fs::write(&path, Bundle::new(NAME, "1.0.0", &[]).build()).expect("written");
        let url = format!("file://{}", path.display());
        let message = fake.fail(upgrade("full", &url), 2004);
        for word in [
            &*state.join("tmp").display().to_string(),
            "bytes",
            "free some",
        ] {
            assert!(message.contains(word), "{word:?} is not in {message}");
        }
        // The host goes on: it answers, and it keeps what it was told.
        fake.succeed(json!({ "id": "step", "action": "config", "step": 2 }));
        assert_eq!(host.metafile()["step"], 2);
    });
}
