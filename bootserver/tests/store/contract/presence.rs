//! Who is there, who is late, and what is counted.

use bootserver::fleet::presence::Presence;
use bootserver::store::Store;
use bootserver::store::host::Looked;
use bootserver::store::lease::Held;

use super::lease;
use crate::make;

const SECOND: i64 = 1000;

async fn state(store: &dyn Store, agentsn: &str) -> (Presence, i64) {
    let host = store
        .host(agentsn, &make::fleet())
        .await
        .expect("a read")
        .expect("the host");
    (host.summary.state, host.summary.since / SECOND)
}

async fn looked(store: &dyn Store, seconds: i64) -> Looked {
    let lease = lease(store).await;
    let looked = store.look_at_hosts(&lease, seconds * SECOND).await;
    match looked.expect("a look") {
        Held::Done(looked) => looked,
        Held::Lost => panic!("nobody else wants it"),
    }
}

async fn look(store: &dyn Store, seconds: i64) -> usize {
    looked(store, seconds).await.moved
}

async fn push(store: &dyn Store, agentsn: &str, seconds: i64) {
    let record = make::status(agentsn, seconds * SECOND);
    store.record_statuses(&[record]).await.expect("a batch");
}

async fn counts(store: &dyn Store) -> [i64; 4] {
    let counts = store.host_counts().await.expect("a read");
    let of = |wanted| {
        let found = counts.iter().find(|(state, _)| *state == wanted);
        found.expect("every state is counted").1
    };
    [
        Presence::New,
        Presence::Online,
        Presence::Late,
        Presence::Offline,
    ]
    .map(of)
}

/// Looks every 25 s, as a platform that is there does.
pub(crate) async fn look_until(store: &dyn Store, from: i64, to: i64) {
    for seconds in (from..to).step_by(25) {
        look(store, seconds).await;
    }
    look(store, to).await;
}

pub(crate) async fn hosts_are_late_then_offline_and_back_with_their_next_push(store: &dyn Store) {
    for agentsn in ["sn-1", "sn-2"] {
        make::host(store, agentsn).await;
    }
    look(store, 1).await;
    assert_eq!(
        (state(store, "sn-1").await.0, counts(store).await),
        (Presence::New, [2, 0, 0, 0])
    );
    push(store, "sn-1", 10).await;
    assert_eq!(state(store, "sn-1").await, (Presence::Online, 10));
    look_until(store, 25, 639).await;
    assert_eq!(state(store, "sn-1").await, (Presence::Online, 10));
    assert_eq!(look(store, 640).await, 1);
    assert_eq!(state(store, "sn-1").await, (Presence::Late, 640));
    assert_eq!(counts(store).await, [1, 0, 1, 0]);
    look_until(store, 650, 1810).await;
    assert_eq!(state(store, "sn-1").await.0, Presence::Offline);
    assert_eq!(counts(store).await, [1, 0, 0, 1]);
    push(store, "sn-1", 1900).await;
    assert_eq!(state(store, "sn-1").await, (Presence::Online, 1900));
    assert_eq!(counts(store).await, [1, 1, 0, 0]);
    // Who pushes in time is put off, not moved.
    for seconds in [2500, 3100] {
        look_until(store, seconds - 500, seconds - 50).await;
        push(store, "sn-1", seconds).await;
    }
    look_until(store, 3100, 3200).await;
    assert_eq!(state(store, "sn-1").await, (Presence::Online, 1900));
}

pub(crate) async fn nobody_is_late_for_what_the_platform_slept_through(store: &dyn Store) {
    make::host(store, "sn-1").await;
    look(store, 1).await;
    push(store, "sn-1", 10).await;
    look_until(store, 50, 100).await;
    // Away for hours; the host has one interval from its return on.
    look(store, 10_000).await;
    look_until(store, 10_025, 10_629).await;
    assert_eq!(state(store, "sn-1").await, (Presence::Online, 10));
    look(store, 10_630).await;
    assert_eq!(state(store, "sn-1").await, (Presence::Late, 10_630));
}

pub(crate) async fn a_look_takes_all_that_is_due_in_parts(store: &dyn Store) {
    let agentsns: Vec<String> = (0..251).map(|n| format!("sn-{n:04}")).collect();
    for agentsn in &agentsns {
        make::host(store, agentsn).await;
    }
    let records: Vec<_> = agentsns.iter().map(|sn| make::status(sn, SECOND)).collect();
    look(store, 1).await;
    store.record_statuses(&records).await.expect("a batch");
    look_until(store, 25, 620).await;
    let first = looked(store, 640).await;
    assert_eq!((first.moved, first.is_full), (250, true));
    let second = looked(store, 640).await;
    assert_eq!((second.moved, second.is_full), (1, false));
    assert_eq!(counts(store).await, [0, 0, 251, 0]);
}

pub(crate) async fn who_is_to_push_sooner_is_missed_sooner(store: &dyn Store) {
    make::host(store, "sn-1").await;
    look(store, 1).await;
    let push = async |seconds: i64, every: u64| {
        let mut record = make::status("sn-1", seconds * SECOND);
        record.every = every;
        store.record_statuses(&[record]).await.expect("a batch");
    };
    push(10, 3600).await;
    look_until(store, 25, 100).await;
    push(110, 60).await;
    look_until(store, 125, 909).await;
    assert_eq!(state(store, "sn-1").await, (Presence::Online, 10));
    // Not only when the first interval is over.
    look(store, 910).await;
    assert_eq!(state(store, "sn-1").await.0, Presence::Offline);
}
