//! The archive in a process that is killed, and on a disk that is full.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mtr_prober::archive::query::{Page, Query};
use mtr_prober::archive::thread::{Done, Keeper};
use mtr_prober::archive::{Archive, Lookup, Options, Write};
use mtr_prober::report::{Cause, Instant, Parameters, Report, Second, Source, State, Target};
use uuid::Uuid;

#[path = "../../../bootagent/tests/support/small_disk.rs"]
mod small_disk;

/// Set for the copy of this program that is killed: where its archive is.
const STATE: &str = "MTR_PROBER_TEST_STATE";
/// How often it is killed.
const KILLS: u32 = 25;
/// Longest wait for anything.
const BOUND: Duration = Duration::from_secs(60);

/// Files so small that one is completed every few reports, and dropped soon after.
const SMALL: Options = Options {
    segment_bytes: 20_000,
    max_bytes: 2_000_000,
    max_days: 90,
};

fn now() -> Instant {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    Instant {
        unix_ms: i64::try_from(since.as_millis()).expect("before the year 292 million"),
        offset: 0,
    }
}

fn accepted() -> Report {
    Report {
        id: Uuid::now_v7(),
        state: State::Accepted,
        cause: Cause::Api,
        reference: None,
        tool: "mtr-prober".into(),
        node: "here".into(),
        target: Target {
            asked: "192.0.2.1".into(),
            address: None,
        },
        source: Source::default(),
        parameters: Parameters {
            count: 1,
            interval_ms: 1000,
            size: 64,
        },
        accepted_at: now(),
        started_at: None,
        ended_at: None,
        parts: Vec::new(),
        timeline: Vec::new(),
        faults: Vec::new(),
        incident: None,
        problem: None,
    }
}

fn ended(report: &Report) -> Report {
    let second = Second {
        unix: 1,
        sent: 1,
        lost: 0,
    };
    Report {
        state: State::Finished,
        ended_at: Some(now()),
        timeline: vec![second; 40],
        ..report.clone()
    }
}

/// A callback, and where its answer comes out.
fn awaited() -> (Done, mpsc::Receiver<Result<(), String>>) {
    let (sender, receiver) = mpsc::channel();
    let done: Done = Box::new(move |result| {
        let _ = sender.send(result);
    });
    (done, receiver)
}

#[test]
fn what_was_promised_holds_however_often_the_process_is_killed() {
    if let Some(state) = std::env::var_os(STATE) {
        promise_until_killed(Path::new(&state));
    }
    // In memory where that is possible: what a kill loses does not depend on the disk.
    let state = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let state = state.expect("a folder");
    let mut uploaded: BTreeSet<Uuid> = BTreeSet::new();
    let mut interrupted = 0;
    for kill in 0..KILLS {
        let said = run_and_kill(state.path(), 1 + (kill * 37) % 150);
        let (mut archive, told) = Archive::open(state.path(), SMALL, now()).expect("it opens");
        interrupted += told.len();
        for it in &told {
            assert!(!said.contains(&('E', it.id)), "{} had ended", it.id);
        }
        for (what, id) in &said {
            let found = archive.lookup(id).expect("readable");
            let is_told = told.iter().any(|it| it.id == *id);
            match (what, found) {
                ('A', Lookup::Report(it)) if is_told => assert_eq!(it.state, State::Interrupted),
                ('A' | 'E' | 'T' | 'U', Lookup::Report(it)) => {
                    assert_eq!(it.state, State::Finished);
                }
                (_, found) => panic!("{what} {id} after kill {kill}: {found:?}"),
            }
        }
        uploaded.extend(said.iter().filter(|(what, _)| *what == 'U').map(|it| it.1));
        let pending = archive.uploads(100_000).expect("readable");
        assert!(
            pending.iter().all(|it| !uploaded.contains(&it.id)),
            "sent twice"
        );
        let waits: BTreeSet<Uuid> = pending.iter().map(|it| it.id).collect();
        for (_, id) in said.iter().filter(|(what, _)| *what == 'E') {
            assert!(
                waits.contains(id) || uploaded.contains(id) || said.contains(&('T', *id)),
                "{id} never goes out"
            );
        }
        assert_eq!(archive.status().kept.damaged, 0);
    }
    println!(
        "{interrupted} interrupted, {} uploaded over {KILLS} kills",
        uploaded.len()
    );
    assert!(interrupted > 0 && !uploaded.is_empty());
}

/// Runs a copy of this program until it has said `lines` lines, kills it, and hands out all it said.
fn run_and_kill(state: &Path, lines: u32) -> BTreeSet<(char, Uuid)> {
    let name = "what_was_promised_holds_however_often_the_process_is_killed";
    let mut child = Command::new(std::env::current_exe().expect("our path"))
        .args(["--exact", name, "--nocapture"])
        .env(STATE, state)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut said = String::new();
    let mut heard = 0;
    while heard < lines {
        let before = said.len();
        assert!(
            output.read_line(&mut said).expect("readable") > 0,
            "it ended: {said}"
        );
        heard += u32::from(said[before..].starts_with(['A', 'E', 'T', 'U']));
    }
    child.kill().expect("it runs");
    output.read_to_string(&mut said).expect("readable");
    child.wait().expect("it ends");
    let promised = said.lines().filter_map(|line| {
        let (what, id) = line.split_once(' ')?;
        let what = what.chars().next().filter(|it| "AETU".contains(*it))?;
        // The last line may be cut.
        Some((what, id.parse().ok().filter(|_| id.len() == 36)?))
    });
    promised.collect()
}

/// What is promised of an id: accepted, ended, taken to be uploaded, acknowledged.
fn say(what: char, id: Uuid) {
    let line = format!("{what} {id}\n");
    let said = std::io::stdout().write_all(line.as_bytes());
    said.expect("somebody listens");
}

/// Accepts and ends reports, a few at once, says what was promised, and never returns.
fn promise_until_killed(state: &Path) -> ! {
    let (archive, _) = Archive::open(state, SMALL, now()).expect("it opens");
    let (keeper, _) = Keeper::start(archive).expect("a thread");
    loop {
        let reports: Vec<Report> = (0..5).map(|_| accepted()).collect();
        let promises = reports.iter().map(|it| {
            let (done, answer) = awaited();
            keeper.accept(it.clone(), done).expect("there is room");
            answer
        });
        let promises: Vec<_> = promises.collect();
        for (it, answer) in reports.iter().zip(promises) {
            answer.recv().expect("answered").expect("written");
            say('A', it.id);
        }
        for it in &reports {
            let (done, answer) = awaited();
            keeper.end(ended(it), done);
            answer.recv().expect("answered").expect("written");
            say('E', it.id);
        }
        let (sender, receiver) = mpsc::channel();
        keeper.ask(move |archive| {
            let ids: Vec<Uuid> = archive
                .uploads(3)
                .expect("readable")
                .iter()
                .map(|it| it.id)
                .collect();
            ids.iter().for_each(|id| say('T', *id));
            archive.acknowledge(&ids).expect("written");
            let _ = sender.send(ids);
        });
        receiver
            .recv()
            .expect("answered")
            .into_iter()
            .for_each(|id| say('U', id));
    }
}

#[test]
fn writes_that_come_at_once_share_their_syncs() {
    let state = tempfile::tempdir().expect("a folder");
    let (archive, _) = Archive::open(state.path(), Options::default(), now()).expect("it opens");
    let (keeper, thread) = Keeper::start(archive).expect("a thread");
    // Nothing is written until all is there.
    let (go, wait) = mpsc::channel::<()>();
    keeper.ask(move |_| wait.recv().expect("it is told"));
    let answers: Vec<_> = (0..500)
        .map(|_| {
            let (done, answer) = awaited();
            keeper.end(ended(&accepted()), done);
            answer
        })
        .collect();
    go.send(()).expect("it waits");
    for answer in answers {
        answer
            .recv_timeout(BOUND)
            .expect("answered")
            .expect("written");
    }
    let (sender, status) = mpsc::channel();
    keeper.ask(move |archive| drop(sender.send(archive.status())));
    let status = status.recv_timeout(BOUND).expect("answered");
    assert_eq!((status.reports, status.syncs), (500, 1));
    drop(keeper);
    thread.join().expect("it ends with the last handle");
}

#[test]
fn while_a_query_takes_long_what_is_accepted_is_written_down() {
    let state = tempfile::tempdir().expect("a folder");
    let (archive, _) = Archive::open(state.path(), Options::default(), now()).expect("it opens");
    let (keeper, thread) = Keeper::start(archive).expect("threads");
    let report = accepted();
    let (done, answer) = awaited();
    keeper.end(ended(&report), done);
    let (go, wait) = mpsc::channel::<()>();
    let (sender, found) = mpsc::channel();
    let slow = Box::new(move |page: Result<Page, _>| {
        sender.send(page.expect("readable")).expect("awaited");
        wait.recv().expect("it is told");
    });
    let any = Query {
        limit: 10,
        ..Query::default()
    };
    keeper.query(any, slow);
    let page = found.recv_timeout(BOUND).expect("answered");
    assert_eq!(page.items.len(), 1, "what was written before is in it");
    let (done, written) = awaited();
    keeper.accept(accepted(), done).expect("there is room");
    for answer in [answer, written] {
        let written = answer.recv_timeout(BOUND).expect("answered");
        written.expect("written");
    }
    go.send(()).expect("it waits");
    drop(keeper);
    thread.join().expect("it ends with the last handle");
}

#[test]
fn while_the_disk_stands_still_nothing_more_is_accepted_and_all_that_ends_is_kept() {
    let state = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let state = state.expect("a folder");
    let (archive, _) = Archive::open(state.path(), Options::default(), now()).expect("it opens");
    let (keeper, _) = Keeper::start(archive).expect("a thread");
    let (go, wait) = mpsc::channel::<()>();
    keeper.ask(move |_| wait.recv().expect("it is told"));
    let mut running = Vec::new();
    let refused = loop {
        let report = accepted();
        let (done, answer) = awaited();
        match keeper.accept(report.clone(), done) {
            Ok(()) => running.push((report, answer)),
            Err(busy) => break busy,
        }
    };
    assert!(refused.to_string().contains("try again later"));
    let (done, answer) = awaited();
    keeper.end(ended(&running[0].0), done);
    go.send(()).expect("it waits");
    for (_, answer) in &running {
        answer
            .recv_timeout(BOUND)
            .expect("answered")
            .expect("written");
    }
    answer
        .recv_timeout(BOUND)
        .expect("answered")
        .expect("written");
    let (done, _) = awaited();
    keeper
        .accept(accepted(), done)
        .expect("there is room again");
}

#[test]
fn a_full_disk_refuses_what_is_new_and_loses_nothing_that_ends() {
    small_disk::on_disk("size=256k", |disk| {
        let state = disk.join("state");
        let (mut archive, _) = Archive::open(&state, SMALL, now()).expect("it opens");
        let running = accepted();
        let first = Write::Accepted(&running);
        archive
            .commit(&[first], now().unix_ms)
            .expect("there is room");
        let ballast = disk.join("ballast");
        let filled =
            std::fs::File::create(&ballast).and_then(|mut it| it.write_all(&vec![7; 1 << 20]));
        assert!(filled.is_err(), "it is full");

        // More than the page that is already there.
        let refused: Vec<Report> = (0..100).map(|_| accepted()).collect();
        let batch: Vec<Write<'_>> = refused.iter().map(Write::Accepted).collect();
        archive
            .commit(&batch, now().unix_ms)
            .expect_err("there is no room");
        assert_eq!(
            archive.lookup(&refused[0].id).expect("readable"),
            Lookup::Unknown
        );
        let finished = ended(&running);
        let others: Vec<Report> = (0..20).map(|_| ended(&accepted())).collect();
        let ends: Vec<Write<'_>> = others.iter().chain([&finished]).map(Write::Ended).collect();
        archive
            .commit(&ends, now().unix_ms)
            .expect_err("there is no room");
        let status = archive.status();
        assert_eq!(status.unwritten, 21);
        assert!(status.trouble.is_some_and(|it| it.contains("free some")));
        let found = archive.lookup(&finished.id).expect("readable");
        assert_eq!(found, Lookup::Report(Box::new(finished.clone())));
        assert!(!archive.mend(now().unix_ms), "it is still full");

        std::fs::remove_file(&ballast).expect("removable");
        assert!(archive.mend(now().unix_ms));
        assert_eq!(
            (archive.status().unwritten, archive.status().trouble),
            (0, None)
        );
        drop(archive);
        let (archive, told) = Archive::open(&state, SMALL, now()).expect("it opens");
        assert_eq!(told, []);
        for it in others.iter().chain([&finished]) {
            assert!(matches!(
                archive.lookup(&it.id).expect("readable"),
                Lookup::Report(_)
            ));
        }
    });
}

#[test]
fn on_a_full_disk_what_the_platform_has_makes_room() {
    small_disk::on_disk("size=512k", |disk| {
        let (mut archive, _) = Archive::open(&disk.join("state"), SMALL, now()).expect("it opens");
        // A file of them and more.
        let first: Vec<Report> = (0..20).map(|_| ended(&accepted())).collect();
        first.iter().for_each(|it| {
            archive
                .commit(&[Write::Ended(it)], now().unix_ms)
                .expect("there is room");
        });
        let ids: Vec<Uuid> = first.iter().map(|it| it.id).collect();
        archive.acknowledge(&ids).expect("there is room");
        let mut kept = 0;
        while archive.status().kept.dropped_uploaded == 0 {
            archive
                .commit(&[Write::Ended(&ended(&accepted()))], now().unix_ms)
                .expect("room is made");
            kept += 1;
            assert!(kept < 2000, "the disk is never full");
        }
        assert_eq!(archive.status().kept.dropped, 0);
        assert_eq!(
            archive.lookup(&first[0].id).expect("readable"),
            Lookup::Gone
        );
    });
}
