//! Leases, and what is done under them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bootserver::fleet::presence::Presence;
use bootserver::store::Store;
use bootserver::store::host::{Removal, Removed};
use bootserver::store::job::JobQuery;
use bootserver::store::lease::{Held, Lease};
use bootserver::store::retention::Kept;
use bootserver::token::{Token, TokenKind};

use super::{event_count, limit};
use crate::make;

/// A disk that is busy makes each commit slow.
const PATIENCE: Duration = Duration::from_secs(180);
/// Longer than any test.
const LONG: i64 = 600_000;

pub(crate) async fn lease(store: &dyn Store) -> Lease {
    let taken = store.take_lease("work", "tests", LONG).await;
    taken.expect("a write").expect("nobody else wants it")
}

pub(crate) async fn a_lease_has_one_holder(store: &dyn Store) {
    let take = async |holder: &str| {
        let taken = store.take_lease("work", holder, LONG).await;
        taken.expect("a write").map(|lease| lease.epoch)
    };
    assert_eq!(take("a").await, Some(1));
    assert_eq!(take("b").await, None);
    assert_eq!(take("a").await, Some(1));
    let other = store.take_lease("other work", "b", LONG).await;
    assert!(other.expect("a write").is_some());
    let of_a = Lease {
        name: "work",
        holder: "a".into(),
        epoch: 1,
    };
    store.give_lease_back(&of_a).await.expect("a write");
    assert_eq!(take("b").await, Some(2));
    // What was lost cannot be given back, nor written under.
    store.give_lease_back(&of_a).await.expect("a write");
    assert_eq!(take("a").await, None);
    let forgotten = store.forget(&of_a, Kept::Events, 1, 1).await;
    assert_eq!(forgotten.expect("a write"), Held::Lost);
    make::host(store, "sn-1").await;
    let order = make::jobs("j1", "sn-1", None, Some(100));
    store
        .insert_jobs(&order, &make::fleet(), &make::by(1))
        .await
        .expect("an insert");
    let expired = store.expire_jobs(&of_a, 200).await;
    assert_eq!(expired.expect("a write"), Held::Lost);
    let of_b = Lease {
        holder: "b".into(),
        epoch: 2,
        ..of_a
    };
    let expired = store.expire_jobs(&of_b, 200).await;
    assert_eq!(expired.expect("a write"), Held::Done(1));
}

pub(crate) async fn a_lease_ends_by_itself(store: &dyn Store) {
    let first = store.take_lease("work", "a", 1).await;
    let first = first.expect("a write").expect("nobody else wants it");
    let begun = Instant::now();
    let second = loop {
        let taken = store.take_lease("work", "b", LONG).await.expect("a write");
        if let Some(lease) = taken {
            break lease;
        }
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!((first.epoch, second.epoch), (1, 2));
    let forgotten = store.forget(&first, Kept::Events, 1, 1).await;
    assert_eq!(forgotten.expect("a write"), Held::Lost);
    let forgotten = store.forget(&second, Kept::Events, 1, 1).await;
    assert_eq!(forgotten.expect("a write"), Held::Done(0));
}

pub(crate) async fn of_many_that_want_a_lease_one_works(store: &dyn Store) {
    let busy = AtomicBool::new(false);
    let work = async |holder: &str| {
        let mut turns = 0;
        let begun = Instant::now();
        while turns < 3 {
            assert!(begun.elapsed() < PATIENCE);
            let taken = store.take_lease("work", holder, LONG).await;
            let Some(lease) = taken.expect("a write") else {
                tokio::task::yield_now().await;
                continue;
            };
            assert!(!busy.swap(true, Ordering::SeqCst), "two at once");
            store.ping().await.expect("the database answers");
            assert!(busy.swap(false, Ordering::SeqCst));
            store.give_lease_back(&lease).await.expect("a write");
            turns += 1;
        }
    };
    tokio::join!(work("a"), work("b"), work("c"));
}

pub(crate) async fn the_oldest_is_forgotten_first(store: &dyn Store) {
    let lease = lease(store).await;
    make::host(store, "sn-1").await;
    for now in 1..=5 {
        let job = format!("j{now}");
        make::job(store, &job, "sn-1").await;
        let mut record = make::status("sn-1", now);
        record.events = vec![make::event(now, "m")];
        record.results = vec![make::outcome(&job, 0)];
        store.record_statuses(&[record]).await.expect("a batch");
    }
    make::job(store, "open", "sn-1").await;
    let forget = async |kept, before, rows| {
        let forgotten = store.forget(&lease, kept, before, rows).await;
        forgotten.expect("a write")
    };
    assert_eq!(forget(Kept::Events, 1, 10).await, Held::Done(0));
    assert_eq!(forget(Kept::Events, 4, 2).await, Held::Done(2));
    assert_eq!(event_count(store).await, 3);
    assert_eq!(forget(Kept::Events, 4, 2).await, Held::Done(1));
    assert_eq!(forget(Kept::Events, 4, 2).await, Held::Done(0));
    assert_eq!(event_count(store).await, 2);
    assert_eq!(forget(Kept::Jobs, 100, 4).await, Held::Done(4));
    let left = JobQuery {
        limit: limit(10),
        ..JobQuery::default()
    };
    let left = store.jobs(&left).await.expect("a list").items;
    let left: Vec<_> = left.iter().map(|job| job.id.as_str()).collect();
    assert_eq!(left, ["open", "j5"]);
    assert_eq!(forget(Kept::Jobs, 100, 4).await, Held::Done(1));
    let results = store.job_results(&Default::default()).await;
    assert_eq!(results.expect("a list").items, []);
    assert!(
        store
            .host("sn-1", &make::fleet())
            .await
            .expect("a read")
            .is_some()
    );
    // The host says it again: the job is unknown, so nothing comes of it.
    let mut record = make::status("sn-1", 6);
    record.results = vec![make::outcome("j1", 0)];
    let outcome = store.record_statuses(&[record]).await.expect("a batch");
    assert_eq!(super::stored(&outcome[0]).ignored_results, ["j1"]);
}

pub(crate) async fn leases_of_a_server_that_ends_are_free_at_once(store: &dyn Store) {
    let take = async |name, holder: &str| {
        let taken = store.take_lease(name, holder, LONG).await;
        taken.expect("a write").map(|lease| lease.epoch)
    };
    for (name, holder) in [("one", "a"), ("two", "a"), ("three", "b")] {
        assert_eq!(take(name, holder).await, Some(1));
    }
    store.give_leases_back("a").await.expect("a write");
    assert_eq!(take("one", "c").await, Some(2));
    assert_eq!(take("two", "c").await, Some(2));
    assert_eq!(take("three", "c").await, None);
}

pub(crate) async fn a_deleted_host_is_forgotten_after_its_history(store: &dyn Store) {
    let lease = lease(store).await;
    for agentsn in ["gone", "stays"] {
        make::host(store, agentsn).await;
    }
    make::job(store, "j1", "gone").await;
    let mut record = make::status("gone", 10);
    record.events = vec![make::event(1, "m")];
    store.record_statuses(&[record]).await.expect("a batch");
    let removal = Removal {
        agentsn: "gone".into(),
        to: Presence::Deleted,
        nobody: Token::generate(TokenKind::Host).digest(),
        revision: None,
    };
    let removed = store
        .remove_host(&removal, &make::fleet(), &make::by(2000))
        .await;
    assert_eq!(removed.expect("a write"), Removed::Done);
    let forget = async |kept, before| {
        let forgotten = store.forget(&lease, kept, before, 10).await;
        forgotten.expect("a write")
    };
    assert_eq!(forget(Kept::Hosts, 9000).await, Held::Done(0), "its events");
    assert_eq!(forget(Kept::Events, 9000).await, Held::Done(1));
    assert_eq!(forget(Kept::Hosts, 9000).await, Held::Done(0), "its jobs");
    assert_eq!(forget(Kept::Jobs, 9000).await, Held::Done(1));
    assert_eq!(forget(Kept::Hosts, 9000).await, Held::Done(0), "the change");
    assert_eq!(forget(Kept::Changes, 1001).await, Held::Done(3));
    assert_eq!(forget(Kept::Changes, 9000).await, Held::Done(1));
    assert_eq!(forget(Kept::Hosts, 2000).await, Held::Done(0), "too young");
    assert_eq!(forget(Kept::Hosts, 9000).await, Held::Done(1));
    let host = async |agentsn| {
        let host = store.host(agentsn, &make::fleet()).await;
        host.expect("a read").is_some()
    };
    assert_eq!((host("gone").await, host("stays").await), (false, true));
    let counts = store.host_counts().await.expect("a read");
    let deleted = counts.iter().find(|(state, _)| *state == Presence::Deleted);
    assert_eq!(deleted, Some(&(Presence::Deleted, 0)));
    // It may come again, as a host nobody knows.
    make::host(store, "gone").await;
}
