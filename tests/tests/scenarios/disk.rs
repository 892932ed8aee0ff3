//! A disk that takes nothing more: what is only in memory is said on the host
//! and shown by the server, and nothing is given up for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::agent::{Agent, Settings};
use e2e::disk::Disk;
use e2e::fake_server::{Answer, FakeServer};
use e2e::server::Server;
use e2e::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::stage::NAME;

/// A host that keeps what it must remember on a small disk, and whose one
/// child runs.
fn host_on_a_small_disk(settings: &Settings) -> (Agent, Disk) {
    let mut host = Agent::prepare(settings);
    let disk = Disk::mount(&host.path("var/lib/bootagent"), "size=2m,nr_inodes=200");
    let manifest = json!({ "name": NAME, "version": "1", "exec": ["/bin/sleep", "100000"] });
    host.package(NAME, &e2e::bundle::Bundle::of_manifest(manifest));
    host.run();
    host.until_confirmed();
    wait::until("the child", || host.process(NAME));
    (host, disk)
}

fn notices(status: &Value) -> String {
    status["notices"].to_string()
}

/// Fills the disk, and notes events until the journal has no room for them
/// either: the last page of its file takes some.
fn until_nothing_is_journalled(host: &Agent, disk: &Disk) {
    let manifest = host.path("usr/lib/bootagent/agents/broken/agent.json");
    std::fs::create_dir_all(manifest.parent().expect("a folder")).expect("writable");
    disk.fill();
    let mut number = 0;
    wait::until_true("a journal that cannot be written", || {
        number += 1;
        let key = format!("{}{number}", "x".repeat(200));
        std::fs::write(&manifest, json!({ key: 1 }).to_string()).expect("writable");
        host.signal(Signal::SIGHUP);
        disk.fill();
        let status = host.status().unwrap_or_default();
        notices(&status).contains("no job is taken")
    });
}

#[test]
fn what_is_wanted_and_cannot_be_written_is_said_to_hold_until_the_next_start() {
    Disk::apart(|| {
        let fake = FakeServer::start();
        let (host, disk) = host_on_a_small_disk(&Settings::new(&fake.address()));
        for (words, done) in [
            (["stop", NAME], "is stopped"),
            (["start", NAME], "is up"),
            (["stop", "--all"], "1 agents are stopped"),
        ] {
            disk.fill();
            let output = host.bootctl(&words);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
            for part in [done, "only until bootagent starts anew", "metafile.json"] {
                assert!(said.contains(part), "{words:?}: {part:?} is not in {said}");
            }
            disk.free();
            // The next answer is that of a disk that takes what is said.
            host.ask(&words);
        }
        let metafile = host.metafile();
        assert_eq!(metafile["children"][NAME]["wanted_running"], false);
        // The same of a job, where the journal still takes what happens.
        disk.use_up_inodes();
        let order = json!({ "id": "unkept", "action": "start", "name": NAME });
        let message = fake.fail(order, 6002);
        assert!(
            message.contains("only until bootagent starts anew"),
            "{message}"
        );
        wait::until("the child", || host.process(NAME));
        disk.free_inodes();
        fake.succeed(json!({ "id": "kept", "action": "stop", "name": NAME }));
    });
}

#[test]
fn a_server_shows_what_a_host_cannot_write_for_as_long_as_it_is_so() {
    Disk::apart(|| {
        let server = Server::start();
        let (host, disk) = host_on_a_small_disk(&Settings::of(&server));
        let sn = host.agentsn();
        assert!(!notices(&server.host(&sn)).contains("only in memory"));
        until_nothing_is_journalled(&host, &disk);
        disk.fill();
        host.bootctl(&["stop", NAME]);
        for words in ["no job is taken", "what is wanted of the children"] {
            wait::until_true("the notice at the server", || {
                notices(&server.host(&sn)).contains(words)
            });
        }
        disk.free();
        wait::until_true("a server that knows that all is well", || {
            !notices(&server.host(&sn)).contains("only in memory")
        });
    });
}

#[test]
fn no_other_program_is_executed_while_something_is_only_in_memory() {
    Disk::apart(|| {
        // A server that takes nothing from the moment the disk is full.
        let fake = FakeServer::start_with(|asked| {
            let is_news = asked.body["events"]
                .as_array()
                .is_some_and(|e| !e.is_empty());
            is_news.then(|| Answer::of(503, &[], b"{}"))
        });
        let (host, disk) = host_on_a_small_disk(&Settings::new(&fake.address()));
        let daemon = host.pid();
        until_nothing_is_journalled(&host, &disk);
        let waiting = || {
            let said: Value = serde_json::from_str(&host.ask(&["--json", "events"])).expect("JSON");
            said["events"].as_array().map_or(0, Vec::len)
        };
        let before = waiting();
        assert!(before > 0, "nothing waits");
        let output = host.bootctl(&["reexec"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        for part in ["goes on", "only in memory"] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
        disk.free();
        let said = host.ask(&["reexec"]);
        assert!(said.contains("was executed anew"), "{said}");
        assert_eq!(host.pid(), daemon);
        assert!(waiting() >= before, "{} of {before} are left", waiting());
    });
}

#[test]
fn jobs_that_cannot_be_taken_are_logged_once_and_taken_when_there_is_room() {
    Disk::apart(|| {
        let offers = Arc::new(AtomicBool::new(false));
        let is_offering = Arc::clone(&offers);
        let fake = FakeServer::start_with(move |asked| {
            let jobs = [
                json!({ "id": "late", "action": "stop", "name": NAME }),
                json!({ "id": "no-job", "action": "dance" }),
            ];
            let offer = asked.is_status() && is_offering.load(Ordering::Relaxed);
            offer.then(|| Answer::Json(json!({ "status": 0, "jobs": jobs })))
        });
        let (host, disk) = host_on_a_small_disk(&Settings::new(&fake.address()));
        until_nothing_is_journalled(&host, &disk);
        offers.store(true, Ordering::Relaxed);
        wait::until_true("a refusal", || host.log().contains("is not taken"));
        // Offered again with each answer.
        let seen = fake.statuses().len();
        wait::until_true("some more statuses", || fake.statuses().len() > seen + 3);
        let log = std::fs::read_to_string(host.path("var/log/bootagent/bootagent.log"));
        let log = log.expect("a log");
        assert_eq!(log.matches("is not taken").count(), 1, "{log}");
        disk.free();
        assert_eq!(fake.result("late")["errcode"], 0);
        assert_eq!(fake.result("no-job")["errcode"], 1002);
    });
}
