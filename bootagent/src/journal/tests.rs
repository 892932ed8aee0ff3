use std::path::Path;

use bootagent_protocol::ErrorCode;
use serde_json::json;

use super::*;

fn open(folder: &Path) -> Journal {
    let (journal, damage) = Journal::open(folder, "boot-1").expect("opens");
    assert_eq!(damage, None);
    journal
}

fn stop_job(id: &str, name: &str) -> (Value, Job) {
    let value = json!({"id": id, "action": "stop", "name": name});
    let job = Job::parse(&value).expect("valid");
    (value, job)
}

fn take(journal: &mut Journal, id: &str) {
    let (value, job) = stop_job(id, "a");
    let offer = journal
        .offer(&value, &job, "http://server")
        .expect("journalled");
    assert!(matches!(offer, Offer::Taken(_)));
}

fn ids(unsent: &Unsent) -> Vec<&str> {
    unsent
        .results
        .iter()
        .map(|result| result.id.as_str())
        .collect()
}

/// For thousands of records, each of which is synced.
fn folder_in_memory() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory
        .or_else(|_| tempfile::tempdir())
        .expect("a temporary folder")
}

#[test]
fn a_job_survives_a_crash_with_its_steps_and_ends_in_one_outcome() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut journal = open(folder.path());
    take(&mut journal, "1");
    journal.step("1", "downloaded").expect("noted");
    drop(journal);

    let mut journal = open(folder.path());
    let unfinished: Vec<_> = journal.unfinished().cloned().collect();
    assert_eq!(unfinished.len(), 1);
    assert_eq!(unfinished[0].steps, ["downloaded"]);
    assert_eq!(journal.unsent().accepted, ["1"]);
    journal
        .finish(JobResult::new("1", ErrorCode::SUCCESS, "success"))
        .expect("noted");
    journal
        .finish(JobResult::new("1", ErrorCode::EXPIRED, "again"))
        .expect("ignored");
    drop(journal);

    let journal = open(folder.path());
    assert_eq!(journal.unfinished().count(), 0);
    assert_eq!(journal.unsent().results[0].errcode, ErrorCode::SUCCESS);
}

#[test]
fn an_outcome_is_sent_until_acknowledged_and_again_when_offered_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut journal = open(folder.path());
    take(&mut journal, "1");
    journal
        .finish(JobResult::new("1", ErrorCode::SUCCESS, "success"))
        .expect("noted");
    assert_eq!(ids(&journal.unsent()), ["1"]);
    let sent = journal.unsent();
    journal.acknowledge(&sent).expect("noted");
    assert!(journal.unsent().results.is_empty());
    drop(journal);

    let mut journal = open(folder.path());
    assert!(journal.unsent().results.is_empty());
    let (value, job) = stop_job("1", "a");
    assert_eq!(
        journal.offer(&value, &job, "http://server").expect("known"),
        Offer::Known
    );
    assert_eq!(ids(&journal.unsent()), ["1"]);
}

#[test]
fn the_same_id_with_another_body_is_answered_1004_and_its_outcome_stands() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut journal = open(folder.path());
    take(&mut journal, "1");
    let (value, job) = stop_job("1", "b");
    let offer = journal.offer(&value, &job, "http://server").expect("known");
    let sent = journal.unsent();
    assert_eq!(sent.results[0].errcode, ErrorCode::ID_REUSED);
    assert_eq!(offer, Offer::Refused(sent.results[0].clone()));
    journal.acknowledge(&sent).expect("noted");
    assert!(journal.unsent().results.is_empty());
    assert_eq!(journal.unfinished().count(), 1);
}

#[test]
fn events_count_up_over_restarts_of_one_boot_and_begin_again_with_the_next() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let event = || Event {
        message: "x".into(),
        ..Event::default()
    };
    let mut journal = open(folder.path());
    journal.event(event()).expect("stored");
    journal.event(event()).expect("stored");
    let sent = journal.unsent();
    journal.acknowledge(&sent).expect("noted");
    drop(journal);

    let mut journal = open(folder.path());
    journal.event(event()).expect("stored");
    assert_eq!(journal.unsent().events[0].seq, 3);
    drop(journal);

    let (mut journal, _) = Journal::open(folder.path(), "boot-2").expect("opens");
    journal.event(event()).expect("stored");
    let events = journal.unsent().events;
    assert_eq!(
        (events[0].seq, events[0].boot_id.as_deref()),
        (3, Some("boot-1"))
    );
    assert_eq!((events[1].seq, events[1].boot_id.as_deref()), (1, None));
}

#[test]
fn any_cut_of_the_file_loses_only_its_last_records() {
    let folder = folder_in_memory();
    let mut journal = open(folder.path());
    for id in ["1", "2", "3"] {
        take(&mut journal, id);
    }
    drop(journal);
    let path = folder.path().join("journal");
    let whole = std::fs::read(&path).expect("readable");
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).expect("writable");
        let (mut journal, _) = Journal::open(folder.path(), "boot-1").expect("opens");
        let kept: Vec<_> = journal
            .unfinished()
            .map(|taken| taken.job.id.clone())
            .collect();
        assert!(["1", "2", "3"].starts_with(&kept.iter().map(String::as_str).collect::<Vec<_>>()));
        take(&mut journal, "after-the-cut");
        drop(journal);
        assert_eq!(open(folder.path()).unfinished().count(), kept.len() + 1);
    }
}

#[test]
fn damage_in_the_middle_costs_only_what_it_hit_and_is_set_aside_and_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut journal = open(folder.path());
    for id in ["1", "2", "3"] {
        take(&mut journal, id);
    }
    drop(journal);
    let path = folder.path().join("journal");
    let mut content = std::fs::read(&path).expect("readable");
    let line = content.len() / 3;
    content[line + 20] ^= 1;
    std::fs::write(&path, &content).expect("writable");
    let (journal, damage) = Journal::open(folder.path(), "boot-1").expect("opens");
    let ids: Vec<_> = journal
        .unfinished()
        .map(|taken| taken.job.id.as_str())
        .collect();
    assert_eq!(ids, ["1", "3"]);
    let said = damage.expect("it is said");
    assert!(
        said.contains("journal.damaged") && said.contains(&line.to_string()),
        "{said}"
    );
    let aside = std::fs::read(folder.path().join("journal.damaged")).expect("set aside");
    assert_eq!(aside, content[line..2 * line]);
    drop(journal);
    // Said once: the file is whole again.
    assert_eq!(open(folder.path()).unfinished().count(), 2);
}

#[test]
fn a_job_whose_outcome_was_lost_but_acknowledged_is_not_done_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut journal = open(folder.path());
    take(&mut journal, "1");
    journal
        .finish(JobResult::new("1", ErrorCode::SUCCESS, "success"))
        .expect("noted");
    let sent = journal.unsent();
    journal.acknowledge(&sent).expect("noted");
    drop(journal);
    damage_line(folder.path(), 1);
    let (journal, damage) = Journal::open(folder.path(), "boot-1").expect("opens");
    assert!(damage.is_some());
    assert_eq!(journal.unfinished().count(), 0);
    assert!(journal.unsent().results.is_empty());
}

#[test]
fn a_job_of_which_only_the_outcome_is_left_is_answered_and_not_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut journal = open(folder.path());
    take(&mut journal, "1");
    let result = JobResult::new("1", ErrorCode::SUCCESS, "success");
    journal.finish(result.clone()).expect("noted");
    drop(journal);
    damage_line(folder.path(), 0);
    let (mut journal, damage) = Journal::open(folder.path(), "boot-1").expect("opens");
    assert!(damage.is_some());
    let (value, job) = stop_job("1", "a");
    let offer = journal.offer(&value, &job, "http://server").expect("known");
    assert_eq!(offer, Offer::Known);
    assert_eq!(journal.unsent().results, [result]);
}

/// Turns one bit of one record.
fn damage_line(folder: &Path, number: usize) {
    let path = folder.join("journal");
    let content = std::fs::read(&path).expect("readable");
    let mut lines: Vec<Vec<u8>> = content
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    lines[number][15] ^= 1;
    std::fs::write(&path, lines.concat()).expect("writable");
}

#[test]
fn a_status_keeps_its_size_whatever_a_child_printed() {
    let folder = folder_in_memory();
    let mut journal = open(folder.path());
    // As text each of them is six bytes long.
    let odd = "\u{1b}".repeat(4000);
    for _ in 0..40 {
        let event = Event {
            message: odd.clone(),
            tail: vec![odd.clone(); 20],
            ..Event::default()
        };
        journal.event(event).expect("stored");
    }
    for number in 0..60 {
        let id = number.to_string();
        take(&mut journal, &id);
        journal
            .finish(JobResult::new(&id, ErrorCode::INSTALLER_FAILED, &odd))
            .expect("noted");
    }
    let mut events = 0;
    let mut results = 0;
    loop {
        let unsent = journal.unsent();
        if unsent.events.is_empty() && unsent.results.is_empty() {
            break;
        }
        let text = serde_json::to_vec(&(&unsent.events, &unsent.results)).expect("text");
        assert!(text.len() < 900_000, "{} bytes", text.len());
        events += unsent.events.len();
        results += unsent.results.len();
        journal.acknowledge(&unsent).expect("noted");
    }
    assert_eq!(results, 60);
    assert!((1..40).contains(&events), "{events} events were kept");
}

#[test]
fn a_server_that_orders_without_end_and_never_acknowledges_fills_nothing() {
    let folder = folder_in_memory();
    let mut journal = open(folder.path());
    let mut taken = 0;
    for number in 0..3000 {
        let (value, job) = stop_job(&number.to_string(), "a");
        taken += usize::from(journal.offer(&value, &job, "http://server").is_ok());
    }
    assert_eq!(taken, 1000);
    let large = "x".repeat(30_000);
    let mut journal = open(folder.path().join("large").as_path());
    let mut taken = 0;
    for number in 0..1000 {
        let value = json!({"id": number.to_string(), "action": "config", "name": "a",
            "envs": {"A": large, "B": large}});
        let job = Job::parse(&value).expect("valid");
        taken += usize::from(journal.offer(&value, &job, "http://server").is_ok());
    }
    assert!((50..200).contains(&taken), "{taken} jobs of 60 kB");
    // An acknowledged result makes room.
    journal
        .finish(JobResult::new("0", ErrorCode::SUCCESS, "success"))
        .expect("noted");
    let sent = journal.unsent();
    journal.acknowledge(&sent).expect("noted");
    take(&mut journal, "more");
}

#[test]
fn restarts_do_not_let_the_file_grow() {
    let folder = folder_in_memory();
    for _ in 0..12 {
        let mut journal = open(folder.path());
        for _ in 0..100 {
            journal
                .event(Event {
                    message: "x".repeat(4000),
                    ..Event::default()
                })
                .expect("stored");
            let sent = journal.unsent();
            journal.acknowledge(&sent).expect("noted");
        }
    }
    let bytes = std::fs::metadata(folder.path().join("journal"))
        .expect("there")
        .len();
    assert!(bytes < 3 << 20, "{bytes}");
}

#[test]
fn after_a_loss_no_event_has_the_number_of_a_lost_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut journal = open(folder.path());
    journal.event(Event::default()).expect("stored");
    let seen = journal.unsent();
    journal.acknowledge(&seen).expect("noted");
    drop(journal);
    let path = folder.path().join("journal");
    std::fs::write(&path, b"nothing of it is left").expect("writable");
    let (mut journal, damage) = Journal::open(folder.path(), "boot-1").expect("opens");
    assert!(damage.is_some());
    journal.event(Event::default()).expect("stored");
    let next = journal.unsent();
    assert!(
        next.events[0].seq > seen.events[0].seq,
        "{seen:?} then {next:?}"
    );
}

#[test]
fn a_long_life_neither_grows_the_file_nor_loses_what_waits() {
    let folder = folder_in_memory();
    let mut journal = open(folder.path());
    take(&mut journal, "waits");
    let message = "x".repeat(2000);
    for _ in 0..1500 {
        let event = Event {
            message: message.clone(),
            ..Event::default()
        };
        journal.event(event).expect("stored");
    }
    // The oldest 500 of 1,500 are gone, and the gap is visible.
    assert_eq!(journal.unsent().events[0].seq, 501);
    while !journal.unsent().events.is_empty() {
        let sent = journal.unsent();
        journal.acknowledge(&sent).expect("noted");
    }
    for _ in 0..600 {
        let event = Event {
            message: message.clone(),
            ..Event::default()
        };
        journal.event(event).expect("stored");
        let sent = journal.unsent();
        journal.acknowledge(&sent).expect("noted");
    }
    drop(journal);
    let bytes = std::fs::metadata(folder.path().join("journal"))
        .expect("there")
        .len();
    assert!(bytes < 5 << 20, "{bytes}");
    let journal = open(folder.path());
    assert_eq!(journal.unsent().accepted, ["waits"]);
    assert!(journal.unsent().events.is_empty());
}

#[test]
fn looking_at_a_damaged_journal_leaves_it_as_it_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(inspect(folder.path()).expect("readable"), None);
    let mut journal = open(folder.path());
    take(&mut journal, "1");
    take(&mut journal, "2");
    drop(journal);
    let path = folder.path().join("journal");
    let mut content = std::fs::read(&path).expect("readable");
    content.extend(b"torn");
    std::fs::write(&path, &content).expect("writable");
    let found = inspect(folder.path()).expect("readable");
    assert_eq!(
        found,
        Some(Inspection {
            records: 2,
            damaged_bytes: 4
        })
    );
    assert_eq!(std::fs::read(&path).expect("readable"), content);
}

#[test]
fn a_refusal_that_is_acknowledged_does_not_take_the_jobs_own_result_with_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut journal = open(folder.path());
    take(&mut journal, "1");
    let (value, job) = stop_job("1", "another");
    let offer = journal.offer(&value, &job, "http://server").expect("known");
    let sent = journal.unsent();
    assert_eq!(sent.results[0].errcode, ErrorCode::ID_REUSED);
    assert_eq!(offer, Offer::Refused(sent.results[0].clone()));

    // The job ends while the status with its refusal is on its way.
    journal
        .finish(JobResult::new("1", ErrorCode::SUCCESS, "success"))
        .expect("noted");
    journal.acknowledge(&sent).expect("noted");
    let left = journal.unsent();
    assert_eq!(ids(&left), ["1"]);
    assert_eq!(left.results[0].errcode, ErrorCode::SUCCESS);
    drop(journal);
    assert_eq!(ids(&open(folder.path()).unsent()), ["1"]);
}
