//! Promise: whatever write a power cut interrupts, a host keeps its identity,
//! and what was acknowledged is there.
//!
//! The writes are those of the product, recorded by strace. Every prefix of
//! them is a moment of the cut; for each moment `disk` tells what a disk may
//! then hold, and the product reads it. The one rule: `disk` loses whatever
//! was not synced, in every combination, because some file system will.

#[path = "power_cut/disk.rs"]
mod disk;
#[path = "support/pack.rs"]
mod pack;
#[path = "power_cut/trace.rs"]
mod trace;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bootagent::journal::Journal;
use bootagent::metafile::Metafile;
use bootagent::package::Bundles;
use bootagent::package::archive::Bounds;
use bootagent::record::RunRecord;
use bootagent::takeover::{Kind, Phase, Standing, Takeover, Upgrade};
use bootagent_core::restart::{Last, Record};
use bootagent_kit::fs::{write_atomic, write_atomic_keeping};
use bootagent_kit::spool::{Spool, SpoolOptions};
use bootagent_protocol::{ErrorCode, Event, Job, JobResult};
use disk::Disk;
use pack::Pack;
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
    for story in [
        "metafile", "journal", "spool", "bundles", "takeover", "records",
    ] {
        let folder = trace::folder_in_memory();
        prepare_bundles(folder.path());
        write_story(story, folder.path());
        let left = std::fs::read_dir(folder.path()).expect("readable");
        assert!(left.count() > PACKAGES, "{story} wrote nothing");
    }
}

fn write_story(story: &str, folder: &Path) {
    match story {
        "metafile" => write_metafiles(folder),
        "journal" => write_journal(folder, |_| trace::acknowledge()),
        "spool" => write_spool(folder),
        "bundles" => write_bundles(folder),
        "takeover" => write_takeover(folder, |_| trace::acknowledge()),
        "records" => write_records(folder),
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

/// As many as it takes until the first one is removed.
const PACKAGES: usize = 4;

fn package(folder: &Path, version: usize) -> PathBuf {
    folder.join(format!("package-{version}"))
}

fn prepare_bundles(folder: &Path) {
    for version in 1..=PACKAGES {
        let version_text = version.to_string();
        let packed = Pack::agent(&version_text)
            .folder("./lib")
            .file("./lib/data", 0o644, version_text.repeat(100).as_bytes())
            .packed();
        fs::write(package(folder, version), packed).expect("written");
    }
}

fn bundles(folder: &Path) -> Bundles {
    Bundles::new(&folder.join("bundles"), Bounds::default())
}

fn install(folder: &Path, version: usize) {
    let bundles = bundles(folder);
    let unpacked = bundles.unpack(&package(folder, version), &pack::expected(None));
    let unpacked = unpacked.unwrap_or_else(|failure| panic!("{}", failure.describe()));
    bundles
        .switch(&pack::name(), &unpacked.folder)
        .expect("switched");
}

fn write_bundles(folder: &Path) {
    for version in 1..=PACKAGES {
        install(folder, version);
        trace::acknowledge();
    }
}

/// The version in a folder of a bundle, which is whole.
fn whole_version(folder: &Path) -> usize {
    let manifest = Bundles::manifest(folder).expect("a manifest");
    let version = manifest.version.as_str();
    let read = |name: &str| fs::read(folder.join(name)).expect("a file");
    assert_eq!(read("run"), pack::SCRIPT);
    assert_eq!(read("lib/data"), version.repeat(100).as_bytes());
    version.parse().expect("a number")
}

#[test]
fn a_cut_at_any_write_of_an_install_leaves_one_whole_version_and_a_way_on() {
    let Some(recorded) = trace::record("bundles", &Inject::Nothing, prepare_bundles) else {
        return;
    };
    let mut seen = BTreeSet::new();
    let moments = each_moment(&recorded, |folder, acknowledged| {
        let bundles = bundles(folder);
        let name = pack::name();
        let installed = usize::try_from(acknowledged).expect("few");
        let current = bundles.current(&name).map(|it| whole_version(&it));
        let current = current.unwrap_or(0);
        assert!(
            current == installed || current == installed + 1,
            "{current} after {installed}"
        );
        if let Some(previous) = bundles.previous(&name) {
            assert_eq!(whole_version(&previous) + 1, current);
        }
        seen.insert((installed, current));
        // The job is taken up again.
        install(folder, PACKAGES);
        let current = bundles.current(&name).map(|it| whole_version(&it));
        assert_eq!(current, Some(PACKAGES));
    });
    for version in 0..PACKAGES {
        assert!(seen.contains(&(version, version)) && seen.contains(&(version, version + 1)));
    }
    assert!(moments > 100, "{moments}");
}

fn upgrade(job: &str, phase: Phase) -> Upgrade {
    Upgrade {
        job: job.into(),
        from: "1".into(),
        to: "2".into(),
        phase,
        program: "/usr/sbin/bootagent".into(),
        arguments: Vec::new(),
        directory: "/".into(),
        kind: Kind::Deb,
        package: None,
        config: "/etc/bootagent/bootagent.toml".into(),
        cause: None,
        remedy: None,
    }
}

/// One that is confirmed, one that is given up before anything was changed,
/// and one that is taken back.
const UPGRADES: &[fn(&Takeover) -> bool] = &[
    |takeover| takeover.open(&upgrade("1", Phase::Installing)).is_ok(),
    |takeover| takeover.advance(&upgrade("1", Phase::Executed)).is_ok(),
    |takeover| takeover.confirm().is_ok(),
    |takeover| takeover.open(&upgrade("2", Phase::Installing)).is_ok(),
    |takeover| takeover.close().is_ok(),
    |takeover| takeover.open(&upgrade("3", Phase::Installing)).is_ok(),
    |takeover| takeover.advance(&upgrade("3", Phase::Executed)).is_ok(),
    |takeover| {
        takeover
            .go_back(&upgrade("3", Phase::Executed), "why")
            .is_ok()
    },
    |takeover| {
        takeover
            .went_back(&upgrade("3", Phase::Executed), "how")
            .is_ok()
    },
    |takeover| takeover.settle().is_ok(),
];

fn write_takeover(folder: &Path, mut done: impl FnMut(&Takeover)) {
    let takeover = Takeover::new(&folder.join("takeover"));
    for step in UPGRADES {
        assert!(step(&takeover));
        done(&takeover);
    }
}

/// How an upgrade stands, as far as somebody acts on it.
fn stands(takeover: &Takeover) -> String {
    let (how, upgrade) = match takeover.standing() {
        None => return "none".into(),
        Some(Standing::Open(upgrade)) => ("open", upgrade),
        Some(Standing::Confirmed(upgrade)) => ("confirmed", upgrade),
        Some(Standing::GoingBack(upgrade)) => ("going back", upgrade),
        Some(Standing::WentBack(upgrade)) => ("went back", upgrade),
    };
    let back = takeover.is_going_back();
    format!("{} {how} {:?} {back}", upgrade.job, upgrade.phase)
}

#[test]
fn a_cut_at_any_write_of_an_own_upgrade_leaves_the_standing_before_or_after() {
    let Some(recorded) = trace::record("takeover", &Inject::Nothing, |_| ()) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut chapters = vec!["none".to_owned()];
    write_takeover(folder.path(), |takeover| chapters.push(stands(takeover)));
    let moments = each_moment(&recorded, |folder, acknowledged| {
        let found = stands(&Takeover::new(&folder.join("takeover")));
        let at = usize::try_from(acknowledged).expect("few");
        let next = chapters.get(at + 1);
        // An upgrade begins with the end of what is known of the one before.
        let is_between = found == "none" && next.is_some_and(|next| next.contains("Installing"));
        assert!(
            found == chapters[at] || Some(&found) == next || is_between,
            "after {at} steps: {found}\nnot {}\nand not {next:?}",
            chapters[at]
        );
    });
    assert!(moments > 50, "{moments}");
}

const RUNS: u32 = 3;

/// Run records are in memory on a host, and nothing of them is synced: what
/// they say is void with the boot. Here they are on a disk.
fn write_records(folder: &Path) {
    for anomalies in 1..=RUNS {
        let record = Record {
            anomalies,
            last: Last::Starting,
        };
        let record = RunRecord::new("boot", None, record, "1");
        record.write(folder, "a").expect("written");
        trace::acknowledge();
    }
}

#[test]
fn a_cut_at_any_write_of_a_run_record_leaves_a_whole_one_or_none_and_none_for_the_next_boot() {
    let Some(recorded) = trace::record("records", &Inject::Nothing, |_| ()) else {
        return;
    };
    let mut seen = BTreeSet::new();
    let moments = each_moment(&recorded, |folder, _| {
        let found = RunRecord::read(folder, "a", "boot");
        seen.insert(found.map(|record| record.anomalies));
        assert_eq!(RunRecord::read(folder, "a", "next boot"), None);
    });
    let all = [None].into_iter().chain((1..=RUNS).map(Some));
    assert_eq!(seen, all.collect());
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
