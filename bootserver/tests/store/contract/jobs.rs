//! Jobs, from the order to the result.

use bootagent_protocol::ErrorCode;
use bootserver::fleet::handout::More;
use bootserver::fleet::job_state::JobState;
use bootserver::store::Store;
use bootserver::store::event::EventQuery;
use bootserver::store::job::Cancelled;
use bootserver::store::job::JobPhase;
use bootserver::store::job::JobQuery;
use bootserver::store::job::JobsInserted;
use bootserver::store::job::ResultQuery;
use bootserver::store::lease::Held;

use super::{ids, lease, limit, stored};
use crate::make;

pub(crate) async fn a_job_has_one_result(store: &dyn Store) {
    make::host(store, "sn-1").await;
    make::host(store, "sn-2").await;
    make::job(store, "j1", "sn-1").await;
    let push = async |agentsn: &str, errcode: u16, now: i64| {
        let mut record = make::status(agentsn, now);
        record.results.push(make::outcome("j1", errcode));
        let outcomes = store.record_statuses(&[record]).await.expect("a batch");
        stored(&outcomes[0]).ignored_results.clone()
    };
    assert_eq!(push("sn-2", 0, 1).await, ["j1"]);
    assert_eq!(push("sn-1", 3001, 2).await, [""; 0]);
    assert_eq!(push("sn-1", 0, 3).await, ["j1"]);
    let job = store
        .job("j1", &make::fleet())
        .await
        .expect("a read")
        .expect("the job");
    assert_eq!(
        (job.errcode, job.finished),
        (Some(ErrorCode(3001)), Some(2))
    );
    assert_eq!(
        (job.state(), job.message.as_deref()),
        (JobState::Failed, Some("code 3001"))
    );
    let phase = |phase| JobQuery {
        phase: Some(phase),
        ..JobQuery::default()
    };
    assert_eq!(
        store
            .jobs(&phase(JobPhase::Open))
            .await
            .expect("a list")
            .items
            .len(),
        0
    );
    assert_eq!(
        store
            .jobs(&phase(JobPhase::Finished))
            .await
            .expect("a list")
            .items
            .len(),
        1
    );
}

pub(crate) async fn jobs_go_out_in_order_and_are_marked(store: &dyn Store) {
    make::host(store, "sn-1").await;
    make::host(store, "sn-2").await;
    for id in ["j1", "j2", "j3"] {
        make::job(store, id, "sn-1").await;
    }
    let records = [make::status("sn-2", 5), make::status("sn-1", 6)];
    let outcomes = store.record_statuses(&records).await.expect("a batch");
    assert_eq!(
        (ids(&outcomes[0]), ids(&outcomes[1])),
        (vec![], vec!["j1", "j2", "j3"])
    );
    assert_eq!(stored(&outcomes[1]).more, More::None);
    assert_eq!(stored(&outcomes[1]).jobs[0].1["action"], "stop");
    let job = store
        .job("j1", &make::fleet())
        .await
        .expect("a read")
        .expect("the job");
    assert_eq!((job.sent, job.state()), (Some(6), JobState::Sent));
    let mut record = make::status("sn-1", 7);
    record.accepted.push("j1".into());
    record.results.push(make::outcome("j2", 0));
    let outcomes = store.record_statuses(&[record]).await.expect("a batch");
    assert_eq!(ids(&outcomes[0]), ["j3"]);
    let job = store
        .job("j1", &make::fleet())
        .await
        .expect("a read")
        .expect("the job");
    assert_eq!(
        (job.sent, job.accepted, job.state()),
        (Some(6), Some(7), JobState::Accepted)
    );
    assert_eq!(
        store
            .host("sn-1", &make::fleet())
            .await
            .expect("a read")
            .expect("the host")
            .open_jobs,
        2
    );
    // What another host says of it does not count.
    let mut record = make::status("sn-2", 8);
    record.accepted.push("j3".into());
    store.record_statuses(&[record]).await.expect("a batch");
    let job = store
        .job("j3", &make::fleet())
        .await
        .expect("a read")
        .expect("the job");
    assert_eq!(job.accepted, None);
}

pub(crate) async fn withdrawals_go_first(store: &dyn Store) {
    make::host(store, "sn-1").await;
    make::job(store, "j1", "sn-1").await;
    store
        .record_statuses(&[make::status("sn-1", 1)])
        .await
        .expect("a batch");
    for n in 2..100 {
        make::job(store, &format!("j{n:03}"), "sn-1").await;
    }
    let cancel = async |id: &str, cancel_id: &str| {
        store
            .cancel_job(id, cancel_id, &make::fleet(), &make::by(5))
            .await
    };
    assert_eq!(cancel("j1", "x1").await.expect("a write"), Cancelled::Asked);
    assert_eq!(cancel("j1", "x2").await.expect("a write"), Cancelled::Asked);
    assert_eq!(
        cancel("j050", "x3").await.expect("a write"),
        Cancelled::AtOnce
    );
    assert_eq!(
        cancel("j050", "x4").await.expect("a write"),
        Cancelled::Finished
    );
    assert_eq!(
        cancel("j999", "x5").await.expect("a write"),
        Cancelled::Unknown
    );
    let outcomes = store
        .record_statuses(&[make::status("sn-1", 6)])
        .await
        .expect("a batch");
    assert_eq!(ids(&outcomes[0])[..2], ["x1", "j002"]);
    assert_eq!(stored(&outcomes[0]).jobs[0].1["cancels"], "j1");
    assert_eq!(stored(&outcomes[0]).more, More::Waiting);
    let job = store
        .job("j050", &make::fleet())
        .await
        .expect("a read")
        .expect("the job");
    assert_eq!((job.state(), job.finished), (JobState::Cancelled, Some(5)));
}

pub(crate) async fn an_expired_job_stays_here(store: &dyn Store) {
    make::host(store, "sn-1").await;
    let order = make::jobs("j1", "sn-1", None, Some(100));
    store
        .insert_jobs(&order, &make::fleet(), &make::by(1))
        .await
        .expect("an insert");
    let lease = lease(store).await;
    let expire = async |now| store.expire_jobs(&lease, now).await.expect("a write");
    assert_eq!(expire(99).await, Held::Done(0));
    let outcomes = store
        .record_statuses(&[make::status("sn-1", 100)])
        .await
        .expect("a batch");
    assert_eq!(ids(&outcomes[0]), [""; 0]);
    assert_eq!(expire(100).await, Held::Done(1));
    assert_eq!(expire(100).await, Held::Done(0));
    let job = store
        .job("j1", &make::fleet())
        .await
        .expect("a read")
        .expect("the job");
    assert_eq!(job.state(), JobState::Expired);
    // One that went out in time is its host's to answer.
    let order = make::jobs("j2", "sn-1", None, Some(300));
    store
        .insert_jobs(&order, &make::fleet(), &make::by(1))
        .await
        .expect("an insert");
    store
        .record_statuses(&[make::status("sn-1", 200)])
        .await
        .expect("a batch");
    assert_eq!(expire(400).await, Held::Done(0));
    let outcomes = store
        .record_statuses(&[make::status("sn-1", 500)])
        .await
        .expect("a batch");
    assert_eq!(ids(&outcomes[0]), ["j2"]);
}

pub(crate) async fn unknown_hosts_are_named_and_nothing_is_stored(store: &dyn Store) {
    make::host(store, "sn-1").await;
    let mut order = make::jobs("j1", "sn-1", None, None);
    order.groups[0].hosts.push(("j2".into(), "nobody".into()));
    let inserted = store
        .insert_jobs(&order, &make::fleet(), &make::by(1))
        .await
        .expect("a write");
    assert_eq!(inserted, JobsInserted::UnknownHosts(vec!["nobody".into()]));
    assert!(
        store
            .job("j1", &make::fleet())
            .await
            .expect("a read")
            .is_none()
    );
    let gone = make::jobs("j1", "sn-1", Some("no-such-package"), None);
    assert_eq!(
        store
            .insert_jobs(&gone, &make::fleet(), &make::by(1))
            .await
            .expect("a write"),
        JobsInserted::PackageGone
    );
    assert!(
        store
            .job("j1", &make::fleet())
            .await
            .expect("a read")
            .is_none()
    );
}

pub(crate) async fn results_come_in_order_of_arrival(store: &dyn Store) {
    make::host(store, "sn-1").await;
    for id in ["j1", "j2", "j3"] {
        make::job(store, id, "sn-1").await;
    }
    for (id, now) in [("j3", 10), ("j1", 20)] {
        let mut record = make::status("sn-1", now);
        record.results.push(make::outcome(id, 0));
        store.record_statuses(&[record]).await.expect("a batch");
    }
    let all = store
        .job_results(&ResultQuery::default())
        .await
        .expect("a list")
        .items;
    assert_eq!(
        all.iter()
            .map(|result| result.id.as_str())
            .collect::<Vec<_>>(),
        ["j3", "j1"]
    );
    assert_eq!(
        (all[0].origin.as_str(), all[0].action.as_str()),
        ("host", "stop")
    );
    let later = ResultQuery {
        since: Some(11),
        ..ResultQuery::default()
    };
    assert_eq!(
        store.job_results(&later).await.expect("a list").items[0].id,
        "j1"
    );
    let after = ResultQuery {
        after: Some(all[0].seq),
        limit: limit(1),
        ..ResultQuery::default()
    };
    let rest = store.job_results(&after).await.expect("a list");
    assert_eq!((rest.items[0].id.as_str(), rest.next), ("j1", None));
}

/// In a batch numbers are given by another order than that of arrival.
pub(crate) async fn what_arrived_since_a_time_is_all_there(store: &dyn Store) {
    make::host(store, "sn-1").await;
    let long_ago = 1_000_000;
    let since = 9_000_000;
    let mut batches = Vec::new();
    for (first, second) in [(long_ago, long_ago - 1), (since + 1, since)] {
        let mut batch = Vec::new();
        for now in [first, second] {
            // Results are numbered by the ids of their jobs.
            let id = format!("j{:09}", 99_999_999 - now);
            make::job(store, &id, "sn-1").await;
            let mut record = make::status("sn-1", now);
            record.results.push(make::outcome(&id, 0));
            record.events.push(make::event(now, "said"));
            batch.push(record);
        }
        batches.push(batch);
    }
    for batch in &batches {
        store.record_statuses(batch).await.expect("a batch");
    }
    let since = Some(since);
    let results = ResultQuery {
        since,
        ..ResultQuery::default()
    };
    let results = store.job_results(&results).await.expect("a list").items;
    assert_eq!(results.len(), 2);
    let events = EventQuery {
        since,
        ..EventQuery::default()
    };
    let events = store.events(&events).await.expect("a list").items;
    assert_eq!(events.len(), 2);
}

pub(crate) async fn a_job_withdrawn_at_once_never_goes_out(store: &dyn Store) {
    make::host(store, "sn-1").await;
    for n in 0..10 {
        let (job, cancel) = (format!("j{n:02}"), format!("c{n:02}"));
        make::job(store, &job, "sn-1").await;
        let records = [make::status("sn-1", n)];
        let (fleet, by) = (make::fleet(), make::by(n));
        let (cancelled, outcomes) = tokio::join!(
            store.cancel_job(&job, &cancel, &fleet, &by),
            store.record_statuses(&records)
        );
        let outcome = outcomes.expect("a batch").remove(0);
        let went_out = ids(&outcome).contains(&job.as_str());
        match cancelled.expect("a write") {
            Cancelled::AtOnce => assert!(!went_out, "{job}"),
            Cancelled::Asked => assert!(went_out, "{job}"),
            other => panic!("{job}: {other:?}"),
        }
    }
}
