//! Hosts come by the thousand and all at once; operators are answered all the
//! same.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Server, TestHost, wait_for};

/// Connections that push without a pause.
const CONNECTIONS: usize = 2000;

/// What those that push have in common.
#[derive(Default)]
struct Storm {
    over: AtomicBool,
    answered: AtomicUsize,
}

/// Pushes again and again on one connection, as long as the server keeps it.
async fn push(address: std::net::SocketAddr, head: Arc<str>, storm: Arc<Storm>) {
    let mut buffer = vec![0; 4096];
    while !storm.over.load(Ordering::Relaxed) {
        let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        while !storm.over.load(Ordering::Relaxed) {
            if stream.write_all(head.as_bytes()).await.is_err() {
                break;
            }
            // A reply fits one read, or what is left of it is the next one's.
            match stream.read(&mut buffer).await {
                Ok(read) if buffer[..read].starts_with(b"HTTP/1.1 200") => {
                    storm.answered.fetch_add(1, Ordering::Relaxed);
                }
                // A slow machine asks some to come back later: they come at once.
                Ok(_) | Err(_) => break,
            }
        }
    }
}

fn status_in_full(host: &TestHost) -> Arc<str> {
    let body = host.status(json!({})).to_string();
    let (token, length) = (&host.token, body.len());
    format!(
        "POST /agent/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into()
}

pub(crate) fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit can be raised");
    assert!(hard > 3 * CONNECTIONS as u64, "{hard} files are too few");
}

#[test]
fn operators_are_answered_while_two_thousand_hosts_push() {
    raise_open_files();
    let server = Server::start();
    let hosts: Vec<_> = (0..20)
        .map(|number| server.register(&format!("h{number}")))
        .collect();
    let storm = Arc::new(Storm::default());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let address = server.address;
    let pushing = {
        let storm = storm.clone();
        let heads: Vec<_> = hosts.iter().map(status_in_full).collect();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let heads = heads.iter().cycle().take(CONNECTIONS);
                let tasks: Vec<_> = heads
                    .map(|head| tokio::spawn(push(address, head.clone(), storm.clone())))
                    .collect();
                for task in tasks {
                    let _ = task.await;
                }
            });
        })
    };
    let answered = || storm.answered.load(Ordering::Relaxed);
    wait_for("the storm", || (answered() > CONNECTIONS).then_some(()));
    let before = answered();
    for _ in 0..10 {
        let list = server.api("GET", "/api/v1/hosts").expect(200);
        assert_eq!(list["items"].as_array().map(Vec::len), Some(hosts.len()));
    }
    let name = json!({ "tags": "a=b" });
    let path = format!("/api/v1/hosts/{}/tags", hosts[0].agentsn);
    server.api("PUT", &path).json(&name).expect(200);
    // They were not silenced for it.
    wait_for("more statuses", || (answered() > before).then_some(()));
    storm.over.store(true, Ordering::Relaxed);
    pushing.join().expect("no panic");
}

#[test]
fn a_class_that_is_used_up_says_when_to_come_again_and_spreads_its_callers() {
    let server = Server::start_with("[budget.status]\nat_once = 1\nper_second = 1\n");
    let host = server.register("h1");
    let push = || {
        server
            .call("POST", "/agent/status")
            .bearer(&host.token)
            .json(&host.status(json!({})))
            .send()
    };
    let mut waits = BTreeSet::new();
    wait_for("several refusals", || {
        let reply = push();
        if reply.status == 429 {
            let wait = reply.header("retry-after").expect("when to come again");
            waits.insert(wait.parse::<u64>().expect("seconds"));
        } else {
            assert_eq!(reply.status, 200);
        }
        // Others have a budget of their own.
        server.api("GET", "/api/v1/hosts").expect(200);
        (waits.len() >= 3).then_some(())
    });
    assert!(
        waits.iter().all(|wait| (10..30).contains(wait)),
        "{waits:?}"
    );
}

#[test]
fn who_never_ends_signing_in_takes_no_place_of_those_who_are_in() {
    let server = Server::start_with(
        "[budget.operator]\nat_once = 1\nper_second = 1000\n\
         [budget.sign_in]\nat_once = 2\nper_second = 1000\n",
    );
    // A head that promises a body, and no body.
    let head = "POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Content-Length: 99\r\n\r\n";
    let _strangers: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).expect("the server listens");
            stream
                .write_all(head.as_bytes())
                .expect("the head goes out");
            stream
        })
        .collect();
    let sign_in = json!({ "name": "nobody", "password": "of no importance" });
    wait_for("their places to be taken", || {
        let reply = server.call("POST", "/api/v1/session").json(&sign_in).send();
        (reply.status == 503).then_some(())
    });
    server.api("GET", "/api/v1/hosts").expect(200);
}

#[test]
fn a_budget_that_cannot_be_is_named() {
    let mut command = crate::harness::command();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bootserver.toml");
    std::fs::write(&file, "[budget.enrol]\nat_once = 0\nper_second = 1\n").expect("written");
    let output = command
        .args(["serve", "--listen", "127.0.0.1:0", "-c"])
        .arg(&file)
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("budget.enrol"), "{said}");
}
