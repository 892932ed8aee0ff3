//! A database that goes away and comes back: hosts are told to come later,
//! nothing that was acknowledged is lost, and nobody has to help.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

use crate::cluster::{self, Cluster};
use crate::harness::{Server, wait_for};
use crate::postgres::configuration_on;

/// Longest wait for a host's turn: SQLite is asked for a lock for 10 s each time,
/// and a busy disk makes each commit slow.
const PATIENCE: Duration = Duration::from_secs(180);
/// Hosts that push without a pause.
const HOSTS: usize = 4;

impl Cluster {
    fn order(&mut self, order: &str) {
        let watch = self.watch.stdin.as_mut().expect("a pipe");
        writeln!(watch, "{order}").expect("the shell reads");
    }

    fn stop(&mut self) {
        self.order("stop");
        self.wait_until(false);
    }

    fn start_again(&mut self) {
        self.order("start");
        self.wait_until(true);
    }
}

/// What hosts were told.
#[derive(Default)]
struct Told {
    /// (host, event) of every acknowledgement.
    acknowledged: Mutex<BTreeSet<(usize, u64)>>,
    /// Hosts that were told to come later.
    refused: Mutex<BTreeSet<usize>>,
    /// Hosts that were acknowledged something since this was emptied.
    served: Mutex<BTreeSet<usize>>,
    over: AtomicBool,
}

/// One host: an event more with each status, and the same one again after a
/// refusal.
fn push_events(server: &Server, number: usize, told: &Told) {
    let host = server.register(&format!("h{number}"));
    let mut seq = 1;
    while !told.over.load(Ordering::SeqCst) {
        let event = json!({ "seq": seq, "boot_id": "b", "timestamp": 1, "category": "crash",
                            "subject": "x", "message": format!("{number} {seq}") });
        let reply = server
            .call("POST", "/agent/status")
            .bearer(&host.token)
            .json(&host.status(json!({ "events": [event] })))
            .send();
        match reply.status {
            200 => {
                told.acknowledged
                    .lock()
                    .expect("a lock")
                    .insert((number, seq));
                told.served.lock().expect("a lock").insert(number);
                seq += 1;
            }
            503 => {
                assert!(reply.header("retry-after").is_some(), "{}", reply.text());
                told.refused.lock().expect("a lock").insert(number);
            }
            _ => panic!("{}: {}", reply.status, reply.text()),
        }
    }
}

/// Every event the server has, with how often.
fn stored(server: &Server) -> Vec<(usize, u64)> {
    let mut all = Vec::new();
    let mut path = "/api/v1/events?limit=500".to_owned();
    loop {
        let page = server.api("GET", &path).expect(200);
        for event in page["items"].as_array().expect("items") {
            let message = event["message"].as_str().expect("a message");
            let (number, seq) = message.split_once(' ').expect("two numbers");
            all.push((number.parse().expect("one"), seq.parse().expect("two")));
        }
        let Some(next) = page["next"].as_str() else {
            return all;
        };
        path = format!("/api/v1/events?limit=500&cursor={next}");
    }
}

fn wait_for_all(hosts: &Mutex<BTreeSet<usize>>) {
    let begun = Instant::now();
    while hosts.lock().expect("a lock").len() < HOSTS {
        assert!(begun.elapsed() < PATIENCE, "not every host was told");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Pushes while the database is there, away and there again.
fn check(server: &Server, away: impl FnOnce(), back: impl FnOnce()) {
    let told = Told::default();
    std::thread::scope(|scope| {
        // However this ends, the hosts end too.
        let over = Over(&told);
        for number in 0..HOSTS {
            let told = &told;
            scope.spawn(move || push_events(server, number, told));
        }
        wait_for_all(&told.served);
        away();
        wait_for_all(&told.refused);
        told.served.lock().expect("a lock").clear();
        back();
        wait_for_all(&told.served);
        drop(over);
    });
    let stored = stored(server);
    let once: BTreeSet<_> = stored.iter().copied().collect();
    assert_eq!(once.len(), stored.len(), "an event is there twice");
    let acknowledged = told.acknowledged.into_inner().expect("a lock");
    let lost: Vec<_> = acknowledged.difference(&once).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

struct Over<'a>(&'a Told);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_postgresql_that_dies_under_load_loses_nothing_and_is_found_again() {
    let Some(cluster) = Cluster::start() else {
        return cluster::say_skipped();
    };
    let cluster = Mutex::new(cluster);
    let configuration = configuration_on(&cluster.lock().expect("a lock"));
    let server = Server::start_with(&configuration);
    check(
        &server,
        || cluster.lock().expect("a lock").stop(),
        || cluster.lock().expect("a lock").start_again(),
    );
}

#[test]
fn an_sqlite_file_another_process_holds_means_later() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let path = server.data("bootserver.db");
    let mut held = runtime
        .block_on(SqliteConnection::connect(path.to_str().expect("a path")))
        .expect("a connection");
    let held = Mutex::new(&mut held);
    let say = |statement: &'static str| {
        let mut held = held.lock().expect("a lock");
        let said = sqlx::raw_sql(statement).execute(&mut **held);
        runtime.block_on(said).expect("a statement");
    };
    check(&server, || say("BEGIN IMMEDIATE"), || say("ROLLBACK"));
}

/// Hands on what goes between the server and the database at `path`, or holds it.
fn hand_on(path: &str, listener: &UnixListener, hangs: &Arc<AtomicBool>) {
    for client in listener.incoming() {
        let Ok(client) = client else { return };
        let Ok(database) = UnixStream::connect(path) else {
            continue;
        };
        let ends = [
            (client.try_clone(), database.try_clone()),
            (Ok(database), Ok(client)),
        ];
        for (from, to) in ends {
            let (Ok(mut from), Ok(mut to)) = (from, to) else {
                continue;
            };
            let hangs = hangs.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 1 << 16];
                while let Ok(bytes @ 1..) = from.read(&mut buffer) {
                    while hangs.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    if to.write_all(&buffer[..bytes]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    }
}

#[test]
fn readyz_says_in_time_that_the_database_hangs_and_that_it_is_back() {
    let Some(cluster) = cluster::shared() else {
        return;
    };
    let direct = configuration_on(cluster);
    let socket = direct
        .split_once("host=")
        .and_then(|(_, rest)| rest.split('&').next())
        .expect("a folder")
        .to_owned();
    let folder = TempDir::new_in("/tmp").expect("a folder");
    let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).expect("a socket");
    let hangs = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let (path, hangs) = (format!("{socket}/.s.PGSQL.5432"), hangs.clone());
        move || hand_on(&path, &listener, &hangs)
    });
    let through = folder.path().display().to_string();
    let server = Server::start_with(&direct.replace(&socket, &through));
    server.call("GET", "/readyz").expect(200);
    hangs.store(true, Ordering::SeqCst);
    let reply = wait_for("a refusal", || {
        let reply = server.call("GET", "/readyz").send();
        (reply.status != 200).then_some(reply)
    });
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.header("retry-after").is_some());
    // Many who ask at once wait no longer than one.
    std::thread::scope(|scope| {
        let ask = || server.call("GET", "/readyz").status();
        let asked: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        for status in asked {
            assert_eq!(status.join().expect("no panic"), 503);
        }
    });
    server.call("GET", "/healthz").expect(200);
    hangs.store(false, Ordering::SeqCst);
    wait_for("the database", || {
        (server.call("GET", "/readyz").status() == 200).then_some(())
    });
}
