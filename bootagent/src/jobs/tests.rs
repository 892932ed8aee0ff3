//! What the worker does when the engine goes away, and after a crash.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bootagent_protocol::Job;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;
use crate::journal::Journal;

fn worker(root: &Path) -> (Worker, Receiver<Message>) {
    let paths = Paths::new(root);
    paths.ensure().expect("made");
    let (journal, _) = Journal::open(&paths.journal(), "boot").expect("opens");
    let (inbox, messages) = Inbox::new().expect("an inbox");
    let worker = Worker {
        config: Config::default(),
        config_path: paths.config(),
        paths,
        privilege: Privilege::Ourselves,
        journal: JournalHandle::start(journal).expect("a thread"),
        inbox,
    };
    (worker, messages)
}

#[test]
fn a_job_that_waits_when_the_daemon_ends_waits_on_and_does_not_panic() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (worker, messages) = worker(folder.path());
    let (ended, end) = channel::<()>();
    std::thread::spawn(move || {
        let _until_the_end = ended;
        worker.ask(|reply| JobRequest::Access { reply });
    });
    let request = messages.recv_timeout(Duration::from_secs(20));
    // The engine is gone, and every request it still had.
    drop(messages);
    drop(request.expect("asked"));
    let waited = end.recv_timeout(Duration::from_millis(300));
    assert_eq!(waited, Err(RecvTimeoutError::Timeout));
}

#[test]
fn a_package_kept_before_a_crash_is_not_fetched_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (worker, messages) = worker(folder.path());
    // Whatever would be asked of the engine is an error here.
    std::thread::spawn(move || {
        if messages.recv().is_ok() {
            eprintln!("the package was asked for again");
            std::process::abort();
        }
    });
    let job = json!({
        "id": "1", "action": "install", "name": "a", "version": "1",
        "url": "file:///nonexistent/a.tar.gz",
    });
    let sum: String = Sha256::digest(b"package")
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let taken = TakenJob {
        job: Job::parse(&job).expect("valid"),
        server: "http://server".into(),
        steps: vec!["begun".into(), format!("fetched {sum}")],
    };
    let kept = worker.paths.packages().join("a.current");
    std::fs::write(&kept, b"package").expect("written");
    let name = AgentName::parse("a").expect("a name");
    let found = worker.obtain(&taken, &name).map_err(|e| e.describe());
    assert_eq!(found, Ok(kept));
}

#[test]
fn what_arrived_for_a_job_that_is_over_is_removed_at_the_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (worker, _messages) = worker(folder.path());
    let packages = worker.paths.packages();
    let files = ["a.new", "bootagent.new", "b.new", "b.current", "b.previous"];
    for file in files {
        std::fs::write(packages.join(file), b"package").expect("written");
    }
    let taken = |id: &str, name: &str| TakenJob {
        job: Job::parse(&json!({ "id": id, "action": "upgrade", "name": name, "url": "/a" }))
            .expect("valid"),
        server: "http://server".into(),
        steps: vec!["begun".into()],
    };
    worker.discard_others(&[taken("1", "a"), taken("2", "BootAgent")]);
    let left = files.map(|file| packages.join(file).exists());
    assert_eq!(left, [true, true, false, true, true]);
}
