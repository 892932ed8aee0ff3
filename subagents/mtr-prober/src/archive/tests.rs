//! What is kept is found again, and what has to go goes in order.

mod damage;

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::chance::Chance;
use crate::format::tests::{hop, report as measured};
use crate::report::{Cause, Instant, State};

/// 2026-11-22 05:42:28 UTC.
const START: i64 = 1_795_326_148_000;
const DAY: i64 = 86_400_000;

/// In memory where that is possible: what is synced is not the disk's here.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    folder.expect("a folder")
}

fn moment(unix_ms: i64) -> Instant {
    Instant { unix_ms, offset: 0 }
}

fn id(unix_ms: i64, number: u32) -> Uuid {
    let millis = u128::try_from(unix_ms).expect("after 1970");
    Uuid::from_u128(millis << 80 | 7 << 76 | 0b10 << 62 | u128::from(number))
}

/// A report of a target that lost `lost` of 20.
fn report(unix_ms: i64, number: u32, lost: usize) -> Report {
    let times = vec![100; 20 - lost];
    Report {
        id: id(unix_ms, number),
        accepted_at: moment(unix_ms),
        ended_at: Some(moment(unix_ms + 1000)),
        ..measured(vec![hop(1, Some("192.0.2.9"), 20, &times)])
    }
}

fn accepted(ended: &Report) -> Report {
    Report {
        state: State::Accepted,
        ended_at: None,
        parts: Vec::new(),
        ..ended.clone()
    }
}

const SMALL: Options = Options {
    segment_bytes: 4000,
    max_bytes: u64::MAX,
    max_days: 90,
};

fn open(state: &Path, options: Options) -> (Archive, Vec<Report>) {
    Archive::open(state, options, moment(START + DAY)).expect("it opens")
}

fn fresh(state: &Path, options: Options) -> Archive {
    Archive::open(state, options, moment(START))
        .expect("it opens")
        .0
}

fn keep(archive: &mut Archive, report: &Report) {
    let now = report.accepted_at.unix_ms;
    archive
        .commit(&[Write::Ended(report)], now)
        .expect("it is written");
}

#[test]
fn what_was_accepted_ends_in_its_report() {
    let state = folder();
    let mut archive = fresh(state.path(), SMALL);
    let ended = report(START, 1, 3);
    assert_eq!(
        archive.lookup(&ended.id).expect("readable"),
        Lookup::Unknown
    );
    let first = accepted(&ended);
    archive
        .commit(&[Write::Accepted(&first)], START)
        .expect("written");
    assert_eq!(archive.lookup(&ended.id).expect("readable"), Lookup::Open);
    keep(&mut archive, &ended);
    let kept = Lookup::Report(Box::new(ended.clone()));
    assert_eq!(archive.lookup(&ended.id).expect("readable"), kept);
    drop(archive);
    let (archive, interrupted) = open(state.path(), SMALL);
    assert_eq!(interrupted, []);
    assert_eq!(archive.lookup(&ended.id).expect("readable"), kept);
    assert!(
        state
            .path()
            .join("reports/2026-11-22/0000000001.seg")
            .exists()
    );
}

#[test]
fn many_that_end_at_once_cost_one_sync() {
    let state = folder();
    let mut archive = fresh(state.path(), SMALL);
    let reports: Vec<Report> = (0..500).map(|number| report(START, number, 0)).collect();
    let batch: Vec<Write<'_>> = reports.iter().map(Write::Ended).collect();
    archive.commit(&batch, START).expect("written");
    assert_eq!((archive.status().reports, archive.status().syncs), (500, 1));
}

#[test]
fn what_a_crash_interrupted_ends_once_and_is_told() {
    let state = folder();
    let mut archive = fresh(state.path(), SMALL);
    let all: Vec<Report> = (0..40)
        .map(|number| report(START + i64::from(number), number, 0))
        .collect();
    // The first is open over many files, the last since the newest.
    for (index, report) in all.iter().enumerate() {
        let first = accepted(report);
        archive
            .commit(&[Write::Accepted(&first)], START)
            .expect("written");
        if index != 0 && index != 39 {
            keep(&mut archive, report);
        }
    }
    assert!(archive.segments.len() > 3);
    drop(archive);
    let (archive, interrupted) = open(state.path(), SMALL);
    let ids: Vec<Uuid> = interrupted.iter().map(|it| it.id).collect();
    assert_eq!(ids, [all[0].id, all[39].id]);
    for it in &interrupted {
        assert_eq!(
            (it.state, it.ended_at),
            (State::Interrupted, Some(moment(START + DAY)))
        );
        let kept = archive.lookup(&it.id).expect("readable");
        assert_eq!(kept, Lookup::Report(Box::new(it.clone())));
    }
    drop(archive);
    assert_eq!(open(state.path(), SMALL).1, [], "they ended");
}

#[test]
fn queries_find_what_matches_page_by_page() {
    let state = folder();
    let mut archive = fresh(state.path(), SMALL);
    let mut all = Vec::new();
    for number in 0..120 {
        // Four days, and not accepted in the order in which they end.
        let accepted = START + i64::from(number / 30) * DAY + i64::from(number * 7 % 30) * 1000;
        let mut it = report(accepted, number, number as usize % 20);
        it.cause = if number % 3 == 0 {
            Cause::Trigger
        } else {
            Cause::Api
        };
        it.target.asked = format!("target-{}", number % 4);
        archive
            .commit(
                &[Write::Ended(&it)],
                accepted.max(START + i64::from(number / 30) * DAY + 60_000),
            )
            .expect("written");
        all.push(Summary::of(&it));
    }
    all.sort_by_key(|it| std::cmp::Reverse(it.id));
    let day = |after: i64| Some(Date::of_unix((START + after * DAY) / 1000));
    let any = Query::default();
    for (query, matches) in [
        (any.clone(), (|_| true) as fn(&Summary) -> bool),
        (
            Query {
                from: day(1),
                to: day(2),
                ..any.clone()
            },
            |it| (1..3).contains(&((it.accepted_ms - START) / DAY)),
        ),
        (
            Query {
                to: day(0),
                ..any.clone()
            },
            |it| it.accepted_ms < START + DAY,
        ),
        (
            Query {
                target: Some("target-2".into()),
                ..any.clone()
            },
            |it| it.target == "target-2",
        ),
        (
            Query {
                target: Some("192.0.2.9".into()),
                ..any.clone()
            },
            |_| true,
        ),
        (
            Query {
                cause: Some(Cause::Trigger),
                ..any.clone()
            },
            |it| it.cause == Cause::Trigger,
        ),
        (
            Query {
                loss_min: Some(50.0),
                ..any.clone()
            },
            |it| it.loss.is_some_and(|it| it >= 50.0),
        ),
        (
            Query {
                from: day(2),
                loss_min: Some(20.0),
                cause: Some(Cause::Api),
                ..any.clone()
            },
            |it| {
                it.accepted_ms >= START + 2 * DAY
                    && it.cause == Cause::Api
                    && it.loss.is_some_and(|it| it >= 20.0)
            },
        ),
        (
            Query {
                target: Some("nobody".into()),
                ..any.clone()
            },
            |_| false,
        ),
    ] {
        for limit in [1, 7, 1000] {
            let mut found = Vec::new();
            let mut page = Query {
                limit,
                ..query.clone()
            };
            loop {
                let part = archive.query(&page).expect("readable");
                assert!(part.items.len() <= limit);
                found.extend(part.items);
                let Some(next) = part.next else { break };
                page.cursor = Some(next);
            }
            let wanted: Vec<Summary> = all.iter().filter(|it| matches(it)).cloned().collect();
            assert_eq!(found, wanted, "{query:?}");
        }
    }
}

#[test]
fn the_caps_drop_what_the_platform_has_first_and_count_it() {
    let state = folder();
    let options = Options {
        max_bytes: 40_000,
        ..SMALL
    };
    let mut archive = fresh(state.path(), options);
    let all: Vec<Report> = (0..100)
        .map(|number| report(START + i64::from(number), number, 0))
        .collect();
    // The platform has those of the third file.
    all[..20].iter().for_each(|it| keep(&mut archive, it));
    let third: Vec<Uuid> = archive.segments[2]
        .entries()
        .expect("readable")
        .iter()
        .map(|it| it.summary.id)
        .collect();
    archive.acknowledge(&third).expect("written");
    for it in &all[20..] {
        keep(&mut archive, it);
        assert!(
            archive.status().bytes <= 40_000 + 5_000,
            "{}",
            archive.status().bytes
        );
        let dropped = archive.status().kept;
        if dropped.dropped > 0 {
            assert_eq!(
                dropped.dropped_uploaded,
                third.len() as u64,
                "they went first"
            );
        }
    }
    let status = archive.status();
    assert!(status.kept.dropped > 0);
    assert_eq!(
        status.reports + status.kept.dropped + status.kept.dropped_uploaded,
        100
    );
    drop(archive);
    let (archive, _) = open(state.path(), options);
    assert_eq!(archive.status().kept, status.kept);
    assert_eq!(archive.lookup(&third[0]).expect("readable"), Lookup::Gone);
    assert_eq!(archive.lookup(&all[0].id).expect("readable"), Lookup::Gone);
    assert_eq!(
        archive.lookup(&id(START, 777)).expect("readable"),
        Lookup::Unknown
    );
    assert!(matches!(
        archive.lookup(&all[99].id).expect("readable"),
        Lookup::Report(_)
    ));
}

#[test]
fn what_is_too_old_goes_and_is_known_to_have_been() {
    let state = folder();
    let options = Options {
        max_days: 10,
        ..SMALL
    };
    let mut archive = fresh(state.path(), options);
    let old = report(START, 1, 0);
    keep(&mut archive, &old);
    let lookup = |archive: &Archive| archive.lookup(&old.id).expect("readable");
    for (days, gone) in [(9, false), (12, true), (60, true)] {
        keep(&mut archive, &report(START + days * DAY, 2, 0));
        // What is newest is written to and goes with the day after.
        keep(&mut archive, &report(START + (days + 1) * DAY, 3, 0));
        assert_eq!(lookup(&archive) == Lookup::Gone, gone, "after {days} days");
    }
    assert!(
        !state.path().join("reports/2026-11-22").exists(),
        "even the ids went"
    );
    drop(archive);
    assert_eq!(lookup(&open(state.path(), options).0), Lookup::Gone);
}

#[test]
fn uploads_begin_with_the_ten_newest_and_go_on_with_the_oldest_each_once() {
    let state = folder();
    let mut archive = fresh(state.path(), SMALL);
    let all: Vec<Report> = (0..40)
        .map(|number| report(START + i64::from(number), number, 0))
        .collect();
    all.iter().for_each(|it| keep(&mut archive, it));
    let mut sent: Vec<Uuid> = Vec::new();
    let mut came = all.clone();
    for round in 0.. {
        let uploads = archive.uploads(4).expect("readable");
        if uploads.is_empty() {
            break;
        }
        // The first of them is lost on the way and comes again.
        let arrived: Vec<Uuid> = uploads
            .iter()
            .skip(usize::from(round == 0))
            .map(|it| it.id)
            .collect();
        archive.acknowledge(&arrived).expect("written");
        for it in &uploads {
            let report: Report = serde_json::from_slice(&it.json).expect("JSON");
            assert_eq!(report.id, it.id);
        }
        sent.extend(&arrived);
        drop(archive);
        archive = open(state.path(), SMALL).0;
        if round == 4 {
            // One more ends while the backlog is sent: it goes next.
            let late = report(START + 5000, 99, 0);
            keep(&mut archive, &late);
            assert_eq!(archive.uploads(1).expect("readable")[0].id, late.id);
            came.push(late);
        }
    }
    let newest = |index: usize| all[39 - index].id;
    assert_eq!(sent[..3], [newest(1), newest(2), newest(3)]);
    assert_eq!(sent[3], newest(0));
    assert_eq!(sent[4..10], [4, 5, 6, 7, 8, 9].map(newest));
    assert_eq!(sent[10..12], [all[0].id, all[1].id]);
    let once: BTreeSet<Uuid> = sent.iter().copied().collect();
    let every: BTreeSet<Uuid> = came.iter().map(|it| it.id).collect();
    assert_eq!((once.len(), once), (sent.len(), every));
    assert_eq!(archive.status().pending, 0);
}

#[test]
fn a_removed_report_is_gone_for_good() {
    let state = folder();
    let mut archive = fresh(state.path(), SMALL);
    let all: Vec<Report> = (0..12).map(|number| report(START, number, 0)).collect();
    all.iter().for_each(|it| keep(&mut archive, it));
    for it in [&all[0], &all[11]] {
        assert!(archive.remove(&it.id).expect("written"));
        assert!(!archive.remove(&it.id).expect("readable"), "only once");
    }
    assert!(!archive.remove(&id(START, 77)).expect("readable"));
    drop(archive);
    let (mut archive, _) = open(state.path(), SMALL);
    assert_eq!(archive.lookup(&all[0].id).expect("readable"), Lookup::Gone);
    assert_eq!(archive.lookup(&all[11].id).expect("readable"), Lookup::Gone);
    let page = archive
        .query(&Query {
            limit: 100,
            ..Query::default()
        })
        .expect("readable");
    assert_eq!(page.items.len(), 10);
    assert_eq!(archive.uploads(100).expect("readable").len(), 10);
}

#[test]
fn a_report_too_large_to_be_kept_ends_in_one_that_says_so() {
    let state = folder();
    let mut archive = fresh(state.path(), SMALL);
    let mut large = report(START, 1, 0);
    large.timeline = vec![
        crate::report::Second {
            unix: 1,
            sent: 1,
            lost: 0
        };
        60_000
    ];
    keep(&mut archive, &large);
    let Lookup::Report(kept) = archive.lookup(&large.id).expect("readable") else {
        panic!("it is there");
    };
    assert!(kept.problem.is_some_and(|it| it.contains("too large")));
}

#[test]
fn what_is_dropped_while_it_is_read_is_not_found() {
    let state = folder();
    let options = Options {
        max_days: 10,
        ..SMALL
    };
    let mut archive = fresh(state.path(), options);
    let all: Vec<Report> = (0..12).map(|number| report(START, number, 0)).collect();
    all.iter().for_each(|it| keep(&mut archive, it));
    let any = Query {
        limit: 100,
        ..Query::default()
    };
    let (before, after) = (archive.reader(), archive.reader());
    assert_eq!(before.query(&any).expect("readable").items.len(), 12);
    for days in [30, 31] {
        keep(&mut archive, &report(START + days * DAY, 99, 0));
    }
    assert_eq!(archive.lookup(&all[0].id).expect("readable"), Lookup::Gone);
    // Those of the file that was written to are in memory.
    assert!(after.query(&any).expect("nothing fails").items.len() < 12);
}

#[test]
fn a_second_process_is_kept_out() {
    let state = folder();
    let _archive = fresh(state.path(), SMALL);
    let second = Archive::open(state.path(), SMALL, moment(START));
    assert!(matches!(second, Err(ArchiveError::Locked(_))));
}
