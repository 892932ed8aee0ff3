//! Jobs, from the order to the result.

use bootagent_protocol::ErrorCode;
use bootserver::fleet::handout::More;
use bootserver::fleet::job_state::JobState;
use bootserver::fleet::presence::Presence;
use bootserver::store::Store;
use bootserver::store::event::EventQuery;
use bootserver::store::job::Cancelled;
use bootserver::store::job::JobPhase;
use bootserver::store::job::JobQuery;
use bootserver::store::job::JobRow;
use bootserver::store::job::JobsInserted;
use bootserver::store::job::ResultQuery;
use bootserver::store::lease::{Held, Lease};

use super::{ids, lease, limit, look_until, stored};
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

/// A host that was given its job at 100,000, which must not begin from 200,000 on.
async fn overdue(store: &dyn Store) {
    make::host(store, "sn-1").await;
    let order = make::jobs("j1", "sn-1", None, Some(200_000));
    let inserted = store
        .insert_jobs(&order, &make::fleet(), &make::by(1))
        .await;
    assert_eq!(inserted.expect("an insert"), JobsInserted::Done);
    assert_eq!(push(store, 100_000, &[], None).await, ["j1"]);
}

/// A push with ids of jobs it has, and perhaps the result of `j1`; returns what is
/// handed out.
async fn push(store: &dyn Store, now: i64, named: &[&str], errcode: Option<u16>) -> Vec<String> {
    let mut record = make::status("sn-1", now);
    record.accepted = named.iter().map(|id| (*id).to_owned()).collect();
    record.results = errcode
        .map(|code| make::outcome("j1", code))
        .into_iter()
        .collect();
    let outcomes = store.record_statuses(&[record]).await.expect("a batch");
    assert_eq!(stored(&outcomes[0]).ignored_results, [""; 0]);
    ids(&outcomes[0]).into_iter().map(str::to_owned).collect()
}

async fn lose(store: &dyn Store, now: i64) -> u64 {
    let lease = lease(store).await;
    match store.lose_jobs(&lease, now).await.expect("a write") {
        Held::Done(jobs) => jobs,
        Held::Lost => panic!("nobody else wants it"),
    }
}

async fn j1(store: &dyn Store) -> JobRow {
    let job = store.job("j1", &make::fleet()).await;
    job.expect("a read").expect("the job")
}

pub(crate) async fn a_job_its_host_does_not_know_is_lost_and_a_late_result_corrects_it(
    store: &dyn Store,
) {
    overdue(store).await;
    assert_eq!(lose(store, 199_999).await, 0);
    // Once is seen twice, and the job is offered again.
    assert_eq!(push(store, 210_000, &[], None).await, ["j1"]);
    assert_eq!(lose(store, 220_000).await, 0);
    assert_eq!(lose(store, 290_000).await, 0);
    assert_eq!(push(store, 300_000, &[], None).await, ["j1"]);
    let work = lease(store).await;
    let of_another = Lease {
        epoch: work.epoch + 1,
        ..work
    };
    let lost = store.lose_jobs(&of_another, 360_000).await;
    assert_eq!(lost.expect("a write"), Held::Lost);
    assert_eq!(lose(store, 360_000).await, 1);
    let job = j1(store).await;
    assert_eq!(
        (job.state(), job.errcode, job.finished, job.late),
        (JobState::Lost, Some(ErrorCode::LOST), Some(360_000), false)
    );
    assert_eq!(push(store, 400_000, &[], None).await, [""; 0]);
    let all = store.job_results(&ResultQuery::default()).await;
    let first = all.expect("a list").items.remove(0);
    assert_eq!((first.origin.as_str(), first.late), ("server", false));

    push(store, 500_000, &[], Some(0)).await;
    let job = j1(store).await;
    assert_eq!(
        (job.state(), job.errcode, job.finished, job.late),
        (JobState::Succeeded, Some(ErrorCode(0)), Some(500_000), true)
    );
    // Who reads on from the first one finds the second; and there is one.
    let all = store.job_results(&ResultQuery::default()).await;
    let all = all.expect("a list").items;
    assert_eq!((all.len(), all[0].origin.as_str()), (1, "host"));
    assert!(all[0].late && all[0].seq > first.seq);
    assert_eq!(lose(store, i64::MAX / 2).await, 0);
}

pub(crate) async fn a_job_its_host_names_is_not_lost(store: &dyn Store) {
    overdue(store).await;
    for now in (210_000..900_000).step_by(70_000) {
        push(store, now, &["j1"], None).await;
        assert_eq!(lose(store, now + 65_000).await, 0);
    }
    assert_eq!(j1(store).await.accepted, Some(210_000));
    // Between two pushes that do not name it is one that does.
    for (now, named) in [(1_000_000, &[][..]), (1_100_000, &["j1"]), (1_200_000, &[])] {
        push(store, now, named, None).await;
        assert_eq!(lose(store, now + 65_000).await, 0);
    }
    push(store, 1_300_000, &[], None).await;
    assert_eq!(lose(store, 1_400_000).await, 1);
}

pub(crate) async fn a_silent_host_keeps_its_job(store: &dyn Store) {
    overdue(store).await;
    let lost = async |now| lose(store, now).await;
    assert_eq!(j1(store).await.offline_since, None);
    look_until(store, 125, 2000).await;
    assert_eq!((lost(2_000_000).await, lost(90_000_000).await), (0, 0));
    let job = j1(store).await;
    assert_eq!(job.state(), JobState::Sent);
    let host = store.host("sn-1", &make::fleet()).await;
    let host = host.expect("a read").expect("the host").summary;
    assert_eq!(host.state, Presence::Offline);
    assert_eq!(job.offline_since, Some(host.since));
    // What it says when it is back is no correction.
    push(store, 91_000_000, &[], Some(0)).await;
    let job = j1(store).await;
    assert_eq!((job.state(), job.late), (JobState::Succeeded, false));
    assert_eq!(job.offline_since, None);
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
