//! Promise: whatever a crash, a full disk or a careless hand left on disk, a
//! host keeps its identity and its children, or says what to do and changes
//! nothing.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::agent::{Agent, Settings};
use e2e::bundle::Bundle;
use e2e::process::Process;
use e2e::server::Server;
use e2e::wait;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const METAFILE: &str = "var/lib/bootagent/metafile.json";
const PREVIOUS: &str = "var/lib/bootagent/metafile.json.previous";
const JOURNAL: &str = "var/lib/bootagent/journal/journal";

/// A confirmed host with one running child.
fn host_with_a_child(server: &Server) -> (Agent, Process) {
    let host = Agent::of(server);
    let bundle = Bundle::new("keeper", "1.0", &["--lock", "held", "--ready"]).notify();
    let package = server.upload(&bundle.build());
    let order = json!({ "action": "install", "package": package });
    server.succeed(&host.agentsn(), order);
    let child = host.process("keeper").expect("it runs");
    (host, child)
}

/// Everything a start that failed said; it must have failed with 1.
fn refusal(host: &Agent) -> String {
    let output = host.run_to_its_end();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

fn says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

/// Events of `category` the server has of this host.
fn events(server: &Server, sn: &str, category: &str) -> Vec<Value> {
    let events = server.events(sn).into_iter();
    events
        .filter(|event| event["category"] == category)
        .collect()
}

/// Whether a file is a whole metafile of this host.
fn is_whole(path: &Path, sn: &str) -> bool {
    let bytes = fs::read(path).unwrap_or_default();
    serde_json::from_slice::<Value>(&bytes).is_ok_and(|metafile| metafile["agentsn"] == sn)
}

#[test]
fn a_damaged_metafile_is_replaced_by_its_previous_copy_and_reported() {
    let server = Server::start();
    let (mut host, child) = host_with_a_child(&server);
    let sn = host.agentsn();
    let whole = fs::read(host.path(METAFILE)).expect("a metafile");
    let cuts = [0, 1, whole.len() / 2, whole.len() - 3];
    for (reported, length) in cuts.into_iter().enumerate() {
        host.kill();
        fs::write(host.path(METAFILE), &whole[..length]).expect("writable");
        host.run();
        assert_eq!(host.until_confirmed(), sn, "cut to {length} bytes");
        let told = wait::until("the event that tells it", || {
            let told = events(&server, &sn, "metafile");
            (told.len() > reported).then_some(told)
        });
        assert_eq!(told.len(), reported + 1, "{told:?}");
        assert_eq!(host.process("keeper"), Some(child), "cut to {length} bytes");
        // Two good copies again: the next cut finds one to fall back to.
        assert!(is_whole(&host.path(METAFILE), &sn), "cut to {length} bytes");
        assert!(is_whole(&host.path(PREVIOUS), &sn), "cut to {length} bytes");
    }
    // Repaired for good: another start has nothing to report.
    host.kill();
    host.run();
    host.until_confirmed();
    let asked = server.host(&sn)["seen"].clone();
    wait::until_true("a status of the last start", || {
        server.host(&sn)["seen"] != asked
    });
    assert_eq!(events(&server, &sn, "metafile").len(), cuts.len());
}

#[test]
fn a_missing_metafile_beside_its_previous_copy_is_no_first_start() {
    let server = Server::start();
    let (mut host, child) = host_with_a_child(&server);
    let sn = host.agentsn();
    host.kill();
    fs::remove_file(host.path(METAFILE)).expect("removable");
    host.run();
    assert_eq!(host.until_confirmed(), sn);
    assert_eq!(host.process("keeper"), Some(child));
    assert!(is_whole(&host.path(METAFILE), &sn));
}

#[test]
fn without_a_good_copy_it_says_what_to_do_and_touches_nothing() {
    let server = Server::start();
    let (mut host, child) = host_with_a_child(&server);
    let sn = host.agentsn();
    host.kill();
    fs::write(host.path(METAFILE), b"").expect("writable");
    fs::write(host.path(PREVIOUS), b"{\"format\":1,").expect("writable");
    let said = refusal(&host);
    says(&said, &["metafile.json", "empty", "backup", "remove both"]);
    assert_eq!(fs::read(host.path(METAFILE)).expect("there"), b"");
    assert!(child.is_alive(), "nobody asked for the child's end");

    // What it says to do works: a new host, which takes the child over.
    fs::remove_file(host.path(METAFILE)).expect("removable");
    fs::remove_file(host.path(PREVIOUS)).expect("removable");
    host.run();
    let new = host.until_confirmed();
    assert_ne!(new, sn);
    assert_eq!(host.process("keeper"), Some(child));
}

#[test]
fn a_metafile_of_a_later_version_is_left_to_it() {
    let server = Server::start();
    let (mut host, child) = host_with_a_child(&server);
    host.kill();
    let mut metafile = host.metafile();
    metafile["format"] = json!(99);
    let later = metafile.to_string();
    fs::write(host.path(METAFILE), &later).expect("writable");
    says(
        &refusal(&host),
        &["metafile.json", "format 99", "install the BootAgent"],
    );
    let left = fs::read_to_string(host.path(METAFILE)).expect("there");
    assert_eq!(left, later, "it was changed");
    assert!(child.is_alive(), "nobody asked for the child's end");
}

#[test]
fn a_second_instance_names_the_first_and_disturbs_nothing() {
    let server = Server::start();
    let (mut host, child) = host_with_a_child(&server);
    let root = host.root().display().to_string();
    let first = host.pid().to_string();
    says(&refusal(&host), &["another bootagent", &first, &root]);
    assert!(host.is_running());
    assert_eq!(host.process("keeper"), Some(child));
    // The lock goes with the process, however it ends.
    host.kill();
    host.run();
    host.until_confirmed();
    assert_eq!(host.process("keeper"), Some(child));
}

#[test]
fn a_lock_that_outlives_a_killed_bootagent_for_a_moment_is_waited_for() {
    let server = Server::start();
    let (mut host, child) = host_with_a_child(&server);
    host.kill();
    // As what it had just forked holds it, until that sees that it is alone.
    let file = fs::File::open(host.path("run/bootagent/lock")).expect("a lock");
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).expect("free");
    host.run();
    let held = Instant::now();
    while held.elapsed() < Duration::from_millis(500) {
        assert!(host.is_running(), "it gave up");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(lock);
    host.until_confirmed();
    assert_eq!(host.process("keeper"), Some(child));
}

#[test]
fn a_root_that_cannot_be_written_is_named() {
    // A file where a folder should be stops even root.
    for blocked in [
        "var/lib/bootagent",
        "run/bootagent",
        "var/log/bootagent/agents",
    ] {
        let host = Agent::prepare(&Settings::new("127.0.0.1:9"));
        let path = host.path(blocked);
        fs::create_dir_all(path.parent().expect("below the root")).expect("makeable");
        fs::write(&path, b"in the way").expect("writable");
        says(&refusal(&host), &[&path.display().to_string()]);
        assert_eq!(fs::read(&path).expect("there"), b"in the way");
    }
}

#[test]
fn the_end_of_a_damaged_journal_is_set_aside_and_what_is_before_it_holds() {
    let server = Server::start();
    let (mut host, child) = host_with_a_child(&server);
    let sn = host.agentsn();
    let done = wait::until("the job in the journal", || {
        let jobs: Value = serde_json::from_str(&host.ask(&["--json", "jobs"])).ok()?;
        Some(jobs.to_string())
    });
    for (reported, rubbish) in [&b"12345678 {\"ev"[..], b"\0\0\0\0\0\0\0\0"]
        .into_iter()
        .enumerate()
    {
        host.kill();
        let mut journal = fs::read(host.path(JOURNAL)).expect("a journal");
        journal.extend_from_slice(rubbish);
        fs::write(host.path(JOURNAL), journal).expect("writable");
        host.run();
        host.until_confirmed();
        wait::until_true("the event that tells it", || {
            events(&server, &sn, "journal").len() > reported
        });
        let aside = fs::read(host.path("var/lib/bootagent/journal/journal.damaged"));
        assert_eq!(aside.expect("set aside"), rubbish);
        let jobs: Value = serde_json::from_str(&host.ask(&["--json", "jobs"])).expect("JSON");
        assert_eq!(jobs.to_string(), done);
        assert_eq!(host.process("keeper"), Some(child));
    }
    // And it is written on: the next job is done and remembered.
    server.succeed(&sn, json!({ "action": "stop", "name": "keeper" }));
    assert!(!child.is_alive());
}

#[test]
fn a_journal_that_lost_everything_costs_no_child_and_no_identity() {
    let server = Server::start();
    let (mut host, child) = host_with_a_child(&server);
    let sn = host.agentsn();
    // An event the server has, whose number is lost with the journal.
    let order = json!({ "action": "start", "name": "nobody" });
    server.fail(&sn, order, 1003);
    wait::until_true("the event of the job", || {
        !events(&server, &sn, "job").is_empty()
    });
    host.kill();
    let mut journal = fs::read(host.path(JOURNAL)).expect("a journal");
    journal[20] ^= 1;
    fs::write(host.path(JOURNAL), &journal).expect("writable");
    host.run();
    assert_eq!(host.until_confirmed(), sn);
    wait::until_true("the event that tells it", || {
        !events(&server, &sn, "journal").is_empty()
    });
    assert_eq!(host.process("keeper"), Some(child));
    server.succeed(&sn, json!({ "action": "restart", "name": "keeper" }));
    assert!(!child.is_alive());
    assert!(host.process("keeper").is_some());
}

#[test]
fn damaged_run_records_do_not_double_a_child() {
    let server = Server::start();
    let (mut host, _) = host_with_a_child(&server);
    if !e2e::agent::is_root() {
        println!("SKIPPED: without cgroups only the record tells whose a process is");
        return;
    }
    for damage in [&b""[..], b"{"] {
        let before = host.process("keeper").expect("it runs");
        host.kill();
        fs::write(host.path("run/bootagent/children/keeper.json"), damage).expect("writable");
        host.run();
        host.until_confirmed();
        let after = wait::until("a running child", || host.process("keeper"));
        assert!(
            after == before || !before.is_alive(),
            "two of them: {before:?} and {after:?}"
        );
        assert_eq!(host.child_file("keeper", "held.conflict"), None);
    }
}

#[test]
fn a_child_whose_manifest_was_damaged_runs_on_and_is_taken_over_once_it_is_remedied() {
    let server = Server::start();
    let (mut host, child) = host_with_a_child(&server);
    let manifest = host.path("var/lib/bootagent/bundles/keeper/current/agent.json");
    let whole = fs::read(&manifest).expect("a manifest");
    host.kill();
    fs::write(&manifest, b"{\"name\": \"keeper\", ").expect("writable");
    host.run();
    let sn = host.until_confirmed();
    wait::until("the event of the manifest", || {
        events(&server, &sn, "manifest").into_iter().next()
    });
    assert!(child.is_alive(), "what ran before was ended");
    assert!(host.child("keeper").is_none(), "nobody knows how to run it");
    assert!(
        host.ask(&["status"]).contains("agent.json"),
        "an operator is told"
    );

    fs::write(&manifest, whole).expect("writable");
    host.signal(Signal::SIGHUP);
    let again = wait::until("its supervision", || host.process("keeper"));
    assert_eq!(again, child, "it was started beside the one that ran");
    assert!(child.is_alive());
    assert!(!host.ask(&["status"]).contains("agent.json"), "remedied");
}
