//! Promise: a journal that cannot be written is kept in memory, says so, and
//! loses nothing once there is room again; no event ever gets the number of
//! another one.

#[path = "support/small_disk.rs"]
mod small_disk;

use std::fs;
use std::path::Path;

use bootagent::journal::thread::JournalHandle;
use bootagent::journal::{Journal, Unsent};
use bootagent_protocol::{ErrorCode, Event, Job, JobResult};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use small_disk::on_disk;

fn open(folder: &Path) -> Journal {
    let (journal, damage) = Journal::open(folder, "boot").expect("opens");
    assert_eq!(damage, None);
    journal
}

fn job(id: &str) -> (Value, Job) {
    let value = json!({"id": id, "action": "stop", "name": "a"});
    let job = Job::parse(&value).expect("valid");
    (value, job)
}

fn take(journal: &mut Journal, id: &str) -> bool {
    let (value, job) = job(id);
    journal.offer(&value, &job, "http://server").is_ok()
}

fn event(message: &str) -> Event {
    Event {
        message: message.into(),
        ..Event::default()
    }
}

fn numbers(unsent: &Unsent) -> Vec<u64> {
    unsent.events.iter().map(|event| event.seq).collect()
}

/// Takes all room that is left.
fn fill(disk: &Path) {
    let mut size = 1 << 20;
    let mut content = Vec::new();
    while size > 0 {
        content.resize(content.len() + size, 7);
        if fs::write(disk.join("ballast"), &content).is_err() {
            content.truncate(content.len() - size);
            size /= 2;
        }
    }
    // Whatever could be written of the last try stays.
    let _ = fs::write(disk.join("ballast"), &content);
    assert!(fs::write(disk.join("more"), [7; 4096]).is_err(), "full");
    let _ = fs::remove_file(disk.join("more"));
}

fn free(disk: &Path) {
    fs::remove_file(disk.join("ballast")).expect("removable");
}

fn journal_length(disk: &Path) -> u64 {
    fs::metadata(disk.join("journal/journal"))
        .expect("there")
        .len()
}

/// Events until the file has no room for one more.
fn until_full(journal: &mut Journal, disk: &Path) {
    fill(disk);
    // The last page of the file may still have room.
    for _ in 0..10 {
        if journal.event(event(&"x".repeat(2000))).is_err() {
            return;
        }
    }
    panic!("{} bytes fit on a full disk", journal_length(disk));
}

#[test]
fn no_event_has_the_number_of_one_that_a_full_disk_refused() {
    on_disk("size=1m", |disk| {
        let folder = disk.join("journal");
        let mut journal = open(&folder);
        journal.event(event("before")).expect("stored");
        until_full(&mut journal, disk);
        // A server has it, and whatever is noted about that is lost too.
        let sent = journal.unsent();
        let seen = numbers(&sent);
        let _ = journal.acknowledge(&sent);
        drop(journal);

        free(disk);
        let mut journal = open(&folder);
        let stored: Vec<u64> = numbers(&journal.unsent());
        journal.event(event("after the crash")).expect("stored");
        let unsent = journal.unsent();
        let new = numbers(&unsent).pop().expect("one event");
        assert!(!stored.contains(&new), "{new} is given twice: {stored:?}");
        assert!(!seen.contains(&new), "{new} was given before: {seen:?}");
    });
}

#[test]
fn what_a_full_disk_refused_is_written_once_there_is_room() {
    on_disk("size=1m", |disk| {
        let folder = disk.join("journal");
        let mut journal = open(&folder);
        assert!(take(&mut journal, "1"));
        assert_eq!(journal.trouble(), None);
        until_full(&mut journal, disk);
        assert!(
            journal
                .trouble()
                .is_some_and(|text| text.contains("journal")),
            "{:?}",
            journal.trouble()
        );
        // Nothing is begun that is not on disk, and what ended is not lost.
        assert!(!take(&mut journal, "2"));
        let result = JobResult::new("1", ErrorCode::SUCCESS, "success");
        let _ = journal.finish(result.clone());
        assert_eq!(journal.unsent().results, std::slice::from_ref(&result));
        let waiting = journal.unsent();

        free(disk);
        journal.mend();
        assert_eq!(journal.trouble(), None);
        drop(journal);
        let mut journal = open(&folder);
        assert_eq!(journal.unsent(), waiting);
        assert_eq!(journal.unfinished().count(), 0);
        assert!(take(&mut journal, "2"));
    });
}

#[test]
fn a_journal_on_a_disk_that_became_read_only_goes_on_in_memory() {
    on_disk("size=1m", |disk| {
        let folder = disk.join("journal");
        let mut journal = open(&folder);
        journal.event(event("before")).expect("stored");
        drop(journal);
        let none: Option<&str> = None;
        let remount = |flags| mount(none, disk, none, MsFlags::MS_REMOUNT | flags, none);
        remount(MsFlags::MS_RDONLY).expect("remounted");

        let mut journal = open(&folder);
        assert!(journal.trouble().is_some());
        assert!(journal.event(event("during")).is_err());
        assert!(!take(&mut journal, "1"));
        assert_eq!(journal.unsent().events.len(), 2);

        remount(MsFlags::empty()).expect("remounted");
        assert!(take(&mut journal, "1"));
        assert_eq!(journal.trouble(), None);
        drop(journal);
        let journal = open(&folder);
        assert_eq!(journal.unsent().events.len(), 2);
        assert_eq!(journal.unfinished().count(), 1);
    });
}

#[test]
fn what_cannot_be_written_is_said_and_the_metafile_is_not_forgotten() {
    on_disk("size=1m", |disk| {
        let mut journal = open(&disk.join("journal"));
        until_full(&mut journal, disk);
        let handle = JournalHandle::start(journal).expect("a thread");
        let path = disk.join("metafile.json");
        let (result, saved) = std::sync::mpsc::channel();
        handle.save(path.clone(), vec![b'm'; 5000], move |written| {
            let _ = result.send(written.is_ok());
        });
        assert_eq!(saved.recv(), Ok(false));
        handle.wait(|_| ());
        let troubles = handle.troubles();
        assert!(
            troubles.len() == 2
                && troubles[0].contains("no job is taken")
                && troubles[1].contains("metafile.json"),
            "{troubles:?}"
        );

        free(disk);
        // As each status does.
        handle.wait(|journal| drop(journal.unsent()));
        handle.wait(|_| ());
        assert_eq!(handle.troubles(), Vec::<String>::new());
        assert_eq!(fs::read(path).expect("there").len(), 5000);
    });
}
