//! Promise: whatever write a power cut interrupts, a host keeps its identity,
//! and what was acknowledged is there.
//!
//! The writes are those of the product, recorded by strace. Every prefix of
//! them is a moment of the cut; for each moment `disk` tells what a disk may
//! then hold, and the product reads it. The one rule: `disk` loses whatever
//! was not synced, in every combination, because some file system will.

#[path = "power_cut/disk.rs"]
mod disk;
#[path = "power_cut/trace.rs"]
mod trace;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bootagent::journal::Journal;
use bootagent::metafile::Metafile;
use bootagent_kit::fs::{write_atomic, write_atomic_keeping};
use bootagent_kit::spool::{Spool, SpoolOptions};
use bootagent_protocol::{ErrorCode, Event, Job, JobResult};
use disk::Disk;
use serde_json::json;
use trace::{Inject, Recorded};

const SN: &str = "0190a0a0-0000-7000-8000-000000000001";
const METAFILES: u64 = 4;

/// The one program that is recorded: does what `POWER_CUT_STORY` names in the
/// folder `POWER_CUT_FOLDER`, and says `ack` after each step. Without them, as
/// a test of its own, it tells every story where nothing is cut.
#[test]
fn writer() {
    if let Some(folder) = std::env::var_os("POWER_CUT_FOLDER") {
        let story = std::env::var("POWER_CUT_STORY").expect("a story");
        return write_story(&story, &PathBuf::from(folder));
    }
    for story in ["metafile", "journal", "spool"] {
        let folder = trace::folder_in_memory();
        write_story(story, folder.path());
        let mut left = std::fs::read_dir(folder.path()).expect("readable");
        assert!(left.next().is_some(), "{story} wrote nothing");
    }
}

fn write_story(story: &str, folder: &Path) {
    match story {
        "metafile" => write_metafiles(folder),
        "journal" => write_journal(folder, |_| trace::acknowledge()),
        "spool" => write_spool(folder),
        other => panic!("there is no story {other}"),
    }
}

fn metafile(step: u64) -> Metafile {
    Metafile::first(SN.into(), "a:1".into(), step)
}

fn write_metafiles(folder: &Path) {
    let path = folder.join("metafile.json");
    write_atomic(&path, &metafile(1).to_bytes(), 0o600).expect("written");
    trace::acknowledge();
    for step in 2..=METAFILES {
        write_atomic_keeping(&path, &metafile(step).to_bytes(), 0o600).expect("written");
        trace::acknowledge();
    }
}

#[test]
fn a_cut_at_any_write_of_the_metafile_leaves_the_old_one_or_the_new_one() {
    let Some(recorded) = trace::record("metafile", &Inject::Nothing, |_| ()) else {
        return;
    };
    let mut seen = BTreeSet::new();
    let moments = each_moment(&recorded, |folder, acknowledged| {
        let loaded = Metafile::load(&folder.join("metafile.json"));
        let (found, _) = loaded.expect("there is always a good copy");
        let step = found.map_or(0, |metafile| {
            assert_eq!(metafile.agentsn, SN);
            metafile.step
        });
        assert!(
            step == acknowledged || step == acknowledged + 1,
            "{step} after {acknowledged}"
        );
        seen.insert((acknowledged, step));
    });
    // Both outcomes of each write were met, so the cuts were where they hurt.
    for written in 0..METAFILES {
        assert!(seen.contains(&(written, written)) && seen.contains(&(written, written + 1)));
    }
    assert!(moments > 30, "{moments}");
}

/// One step of the journal's story.
type Step = fn(&mut Journal) -> bool;

fn take(journal: &mut Journal, id: &str) -> bool {
    let value = json!({"id": id, "action": "stop", "name": "a"});
    let job = Job::parse(&value).expect("valid");
    journal.offer(&value, &job, "http://server").is_ok()
}

/// An event is kept in memory where it cannot be written, so this is done
/// whatever the disk says.
fn tell(journal: &mut Journal, message: &str) -> bool {
    let event = Event {
        message: message.into(),
        ..Event::default()
    };
    let _ = journal.event(event);
    true
}

fn finish(journal: &mut Journal, id: &str) -> bool {
    let result = JobResult::new(id, ErrorCode::SUCCESS, "success");
    journal.finish(result).is_ok()
}

const STORY: &[Step] = &[
    |journal| take(journal, "1"),
    |journal| journal.step("1", "begun").is_ok(),
    |journal| tell(journal, "one"),
    |journal| finish(journal, "1"),
    |journal| tell(journal, "two"),
    |journal| take(journal, "2"),
    |journal| {
        let sent = journal.unsent();
        journal.acknowledge(&sent).is_ok()
    },
    |journal| tell(journal, "three"),
];

/// Begins with a journal that is damaged in its middle, so that opening it
/// writes it anew.
fn prepare_journal(folder: &Path) {
    let path = folder.join("journal");
    fs::create_dir(&path).expect("makeable");
    let (mut journal, _) = Journal::open(&path, "boot").expect("opens");
    assert!(take(&mut journal, "lost") && take(&mut journal, "kept"));
    drop(journal);
    let file = path.join("journal");
    let mut content = fs::read(&file).expect("readable");
    content[20] ^= 1;
    fs::write(&file, content).expect("writable");
}

fn write_journal(folder: &Path, mut done: impl FnMut(&Journal)) {
    let (mut journal, _) = Journal::open(&folder.join("journal"), "boot").expect("opens");
    done(&journal);
    for step in STORY {
        // What was refused is tried once more, as a server offers it again.
        assert!(step(&mut journal) || step(&mut journal));
        done(&journal);
    }
    // What the thread of the journal does before each task.
    journal.mend();
}

/// What a journal knows, without the numbers of events: these differ from one
/// run to the next.
fn knowledge(journal: &Journal) -> String {
    let events = journal.waiting_events(100).into_iter();
    let events: Vec<_> = events.map(|event| event.message).collect();
    let unfinished: Vec<_> = journal.unfinished().collect();
    let unsent = journal.unsent().results;
    let jobs = journal.recent(100);
    format!("{jobs:?} {unfinished:?} {unsent:?} {events:?}")
}

/// What is known after each step.
fn chapters() -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    prepare_journal(folder.path());
    let mut chapters = Vec::new();
    write_journal(folder.path(), |journal| chapters.push(knowledge(journal)));
    assert_eq!(chapters.len(), STORY.len() + 1);
    chapters
}

#[test]
fn a_cut_at_any_write_of_the_journal_loses_nothing_that_was_acknowledged() {
    let Some(recorded) = trace::record("journal", &Inject::Nothing, prepare_journal) else {
        return;
    };
    let chapters = chapters();
    let moments = each_moment(&recorded, |folder, acknowledged| {
        let open = || Journal::open(&folder.join("journal"), "boot").expect("opens");
        let (mut journal, _) = open();
        let known = knowledge(&journal);
        let at = usize::try_from(acknowledged).expect("few");
        let begun = chapters.get(at);
        // Opening is the first step, and changes nothing of what is known.
        let before = &chapters[at.saturating_sub(1)];
        assert!(
            known == *before || Some(&known) == begun,
            "after {acknowledged} steps: {known}\nnot {before}\nand not {begun:?}"
        );
        let given = |journal: &Journal| -> Vec<u64> {
            let events = journal.waiting_events(100).into_iter();
            events.map(|event| event.seq).collect()
        };
        let former = given(&journal);
        assert!(tell(&mut journal, "after the cut"));
        let new = given(&journal)[0];
        assert!(former.iter().all(|seq| *seq < new), "{former:?} then {new}");
        let known = knowledge(&journal);
        drop(journal);
        let (journal, damage) = open();
        assert_eq!((knowledge(&journal), damage), (known, None));
    });
    assert!(moments > 30, "{moments}");
}

#[test]
fn a_call_that_fails_once_at_any_moment_costs_the_journal_nothing() {
    let chapters = chapters();
    for (call, error) in [
        ("fsync", "EIO"),
        ("fdatasync", "EIO"),
        ("rename", "ENOSPC"),
        ("ftruncate", "EIO"),
    ] {
        for when in 1.. {
            let inject = Inject::Error { call, error, when };
            let Some(recorded) = trace::record("journal", &inject, prepare_journal) else {
                return;
            };
            let (journal, _) =
                Journal::open(&recorded.folder().join("journal"), "boot").expect("opens");
            let known = knowledge(&journal);
            assert_eq!(Some(&known), chapters.last(), "{call} {when}");
            if !recorded.was_injected() {
                break;
            }
        }
    }
}

const RECORDS: u64 = 6;

fn spool(folder: &Path) -> Spool {
    Spool::open(&folder.join("spool"), SpoolOptions::default()).expect("opens")
}

fn write_spool(folder: &Path) {
    let mut spool = spool(folder);
    for number in 1..=RECORDS {
        let record = format!("record {number}");
        spool.push(record.as_bytes()).expect("pushed");
        spool.sync().expect("synced");
        trace::acknowledge();
    }
}

#[test]
fn a_cut_at_any_write_of_a_spool_loses_no_record_that_was_synced() {
    let Some(recorded) = trace::record("spool", &Inject::Nothing, |_| ()) else {
        return;
    };
    let moments = each_moment(&recorded, |folder, acknowledged| {
        let mut spool = spool(folder);
        let found = spool.peek(100).expect("readable");
        let found: Vec<_> = found.into_iter().map(|entry| entry.bytes).collect();
        let count = found.len() as u64;
        assert!(
            count == acknowledged || count == acknowledged + 1,
            "{count} after {acknowledged}"
        );
        for (number, record) in (1..).zip(&found) {
            assert_eq!(*record, format!("record {number}").into_bytes());
        }
    });
    assert!(moments > 10, "{moments}");
}

/// Calls `check` with every folder a cut may leave behind, and with how many
/// steps had been acknowledged; returns how many there were.
fn each_moment(recorded: &Recorded, mut check: impl FnMut(&Path, u64)) -> usize {
    let folder = trace::folder_in_memory();
    let mut disk = Disk::of(&recorded.before);
    let mut acknowledged = 0;
    let mut moments = 0;
    let mut seen = BTreeSet::new();
    for call in std::iter::once(None).chain(recorded.calls.iter().map(Some)) {
        match call {
            Some(trace::Call::Acknowledged) => acknowledged += 1,
            Some(call) => disk.apply(call),
            None => {}
        }
        for state in disk.after_a_cut() {
            if !seen.insert((acknowledged, state.clone())) {
                continue;
            }
            let place = folder.path().join("cut");
            state.write(&place);
            check(&place, acknowledged);
            fs::remove_dir_all(&place).expect("removable");
            moments += 1;
        }
    }
    moments
}
