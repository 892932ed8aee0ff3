//! Rollouts, from the order to the end.

use bootagent_protocol::{Action, AgentReport};
use bootserver::access::scope::Scope;
use bootserver::fleet::package_choice::PackageKind;
use bootserver::fleet::presence::Presence;
use bootserver::fleet::rollout::goods::{File, Goods, Variant};
use bootserver::fleet::rollout::stand::{End, Pause, Phase, Refusal};
use bootserver::fleet::rollout::step::GIVE_UP_MILLIS;
use bootserver::fleet::rollout::target::TargetState;
use bootserver::fleet::rollout::why::Rival;
use bootserver::store::Store;
use bootserver::store::audit::AuditQuery;
use bootserver::store::host::Removed;
use bootserver::store::lease::{Held, Lease};
use bootserver::store::package::PackageDeleted;
use bootserver::store::page::{Count, Limit};
use bootserver::store::rollout::{
    Follows, NewRollout, Order, Ordered, RolloutInserted, RolloutPhase, RolloutQuery, RolloutRow,
    TargetQuery, TargetRow, TargetSet, Turned, Way,
};
use serde_json::{Value, json};

use super::identity::remove;
use super::{ids, lease, look_until};
use crate::make;

use TargetState::{
    Cancelled, CrashLooped, Failed, Lost, Ordered as InOrder, Running, Skipped, Succeeded, Waiting,
};

/// A rollout of `upgrade a` to 2.0 over these hosts.
pub(super) fn rollout(id: &str, plan: Value, hosts: &[&str]) -> NewRollout {
    let hosts = hosts.iter().map(|agentsn| (*agentsn).to_owned());
    let body = json!({ "action": "upgrade", "name": "a", "version": "2.0" });
    let Value::Object(body) = body else {
        unreachable!("an object was written")
    };
    NewRollout {
        id: id.into(),
        name: format!("name of {id}"),
        action: Action::Upgrade,
        agent: "a".into(),
        version: Some("2.0".into()),
        goods: Goods {
            variants: vec![Variant {
                only_for: None,
                file: None,
                action: Action::Upgrade,
                version: Some("2.0".into()),
                body,
            }],
        },
        set: TargetSet::Hosts(hosts.collect()),
        plan: serde_json::from_value(plan).expect("a plan"),
        author: "user:a".into(),
        follows: None,
        seen: None,
        created: 1000,
    }
}

pub(super) async fn insert(store: &dyn Store, new: &NewRollout) -> RolloutRow {
    let inserted = store
        .insert_rollout(new, &make::fleet(), &make::by(1000))
        .await;
    match inserted.expect("a write") {
        RolloutInserted::Done(row) => *row,
        other => panic!("{other:?}"),
    }
}

/// Hosts that are online.
pub(super) async fn online(store: &dyn Store, agentsns: &[&str]) {
    for agentsn in agentsns {
        make::host(store, agentsn).await;
        push(store, agentsn, 1000).await;
    }
}

/// A status; returns the ids of the jobs it brings.
pub(super) async fn push(store: &dyn Store, agentsn: &str, now: i64) -> Vec<String> {
    let outcomes = store.record_statuses(&[make::status(agentsn, now)]).await;
    let outcomes = outcomes.expect("a batch");
    ids(&outcomes[0]).into_iter().map(str::to_owned).collect()
}

/// A status with a result; results that are not of this host are ignored.
async fn answer(store: &dyn Store, agentsn: &str, job: &str, code: u16, now: i64) {
    let mut record = make::status(agentsn, now);
    record.results.push(make::outcome(job, code));
    store.record_statuses(&[record]).await.expect("a batch");
}

/// Fetches the job of a host and answers it.
pub(super) async fn does(store: &dyn Store, agentsn: &str, code: u16, now: i64) {
    let jobs = push(store, agentsn, now).await;
    let [job] = &jobs[..] else {
        panic!("{agentsn} has jobs {jobs:?}")
    };
    answer(store, agentsn, job, code, now + 1).await;
}

pub(super) async fn leave(store: &dyn Store, agentsn: &str) {
    let removed = remove(store, agentsn, Presence::Deleted).await;
    assert_eq!(removed, Removed::Done);
}

/// Turns of every rollout until nothing is to be done.
pub(super) async fn step(store: &dyn Store, lease: &Lease, now: i64) {
    for _ in 0..100 {
        let mut is_more = false;
        for number in store.rollouts_due().await.expect("a read") {
            let turned = store.turn_rollout(lease, number, now).await;
            let Held::Done(turned) = turned.expect("a turn") else {
                panic!("the lease is gone")
            };
            is_more |= turned.is_more;
        }
        if !is_more {
            return;
        }
    }
    panic!("there is no end of it");
}

pub(super) async fn row(store: &dyn Store, id: &str) -> RolloutRow {
    let row = store.rollout(id, &make::fleet()).await.expect("a read");
    row.expect("the rollout")
}

pub(super) async fn phase(store: &dyn Store, id: &str) -> Phase {
    row(store, id).await.stand.phase
}

async fn targets(store: &dyn Store, id: &str) -> Vec<TargetRow> {
    let query = TargetQuery {
        rollout: row(store, id).await.number,
        state: None,
        after: None,
        scope: Scope::fleet(),
        count: Count::Not,
        limit: Limit::default(),
    };
    store.rollout_targets(&query).await.expect("a page").items
}

/// Where the targets stand, in their order. What is counted is what there is.
async fn states(store: &dyn Store, id: &str) -> Vec<TargetState> {
    let targets = targets(store, id).await;
    let counts = row(store, id).await.counts.total();
    for state in TargetState::ALL {
        let there = targets
            .iter()
            .filter(|target| target.state == state)
            .count();
        assert_eq!(counts.of(state), there as u64, "{state:?}");
    }
    targets.into_iter().map(|target| target.state).collect()
}

/// A rollout over these, which are online.
pub(crate) async fn order_of_all(store: &dyn Store, names: &[String]) -> String {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    online(store, &names).await;
    let plan = json!({ "parallel": 7, "stages": [{ "upto": 1 }, { "upto": "all" }] });
    insert(store, &rollout("r1", plan, &names)).await.id
}

/// A status, and one with a result of what it brought; returns the jobs.
pub(crate) async fn push_and_answer(store: &dyn Store, agentsn: &str) -> Vec<String> {
    let jobs = push(store, agentsn, 2001).await;
    for job in &jobs {
        answer(store, agentsn, job, 0, 2002).await;
    }
    jobs
}

/// Whether all targets of a rollout succeeded.
pub(crate) async fn is_done(store: &dyn Store, id: &str) -> bool {
    phase(store, id).await == Phase::Ended(End::Done)
}

pub(super) async fn order(store: &dyn Store, id: &str, what: Order, now: i64) -> Ordered {
    let ordered = store
        .order_rollout(id, &what, None, &make::fleet(), &make::by(now))
        .await;
    ordered.expect("a write")
}

const STAGES: &str = r#"{"parallel": 2, "fail_count": 0,
    "stages": [{"upto": 1, "success": 100}, {"upto": "all"}]}"#;

fn stages() -> Value {
    serde_json::from_str(STAGES).expect("JSON")
}

pub(crate) async fn a_rollout_goes_by_stages_to_its_end(store: &dyn Store) {
    online(store, &["sn-1", "sn-2", "sn-3", "sn-4"]).await;
    let held = lease(store).await;
    let new = rollout("r1", stages(), &["sn-3", "sn-1", "sn-2", "sn-4"]);
    assert_eq!(insert(store, &new).await.stand.phase, Phase::Freezing);
    step(store, &held, 2000).await;
    assert_eq!(phase(store, "r1").await, Phase::Running);
    // In the order they were named in.
    assert_eq!(
        states(store, "r1").await,
        [InOrder, Waiting, Waiting, Waiting]
    );
    assert_eq!(push(store, "sn-1", 2001).await, [""; 0]);
    let job = push(store, "sn-3", 2001).await;
    step(store, &held, 2002).await;
    assert_eq!(states(store, "r1").await[0], Running);
    answer(store, "sn-3", &job[0], 0, 2003).await;
    step(store, &held, 2004).await;
    // Two at once.
    assert_eq!(
        states(store, "r1").await,
        [Succeeded, InOrder, InOrder, Waiting]
    );
    does(store, "sn-1", 0, 2005).await;
    step(store, &held, 2006).await;
    assert_eq!(
        states(store, "r1").await,
        [Succeeded, Succeeded, InOrder, InOrder]
    );
    does(store, "sn-2", 0, 2007).await;
    does(store, "sn-4", 0, 2008).await;
    step(store, &held, 2009).await;
    assert_eq!(states(store, "r1").await, [Succeeded; 4]);
    let row = row(store, "r1").await;
    assert_eq!(
        (row.stand.phase, row.ended),
        (Phase::Ended(End::Done), Some(2009))
    );
    assert_eq!(store.rollouts_due().await.expect("a read"), [0_i64; 0]);
    let job = store
        .job(&job[0], &make::fleet())
        .await
        .expect("a read")
        .expect("the job");
    assert_eq!(job.body["expires"], row.stand.expires / 1000 + 1);
    assert_eq!(job.expires, Some(row.stand.expires));
}

pub(crate) async fn a_rollout_stops_when_more_fail_than_may(store: &dyn Store) {
    online(store, &["sn-1", "sn-2", "sn-3", "sn-4"]).await;
    let held = lease(store).await;
    let plan = json!({ "parallel": 2, "fail_count": 0 });
    insert(
        store,
        &rollout("r1", plan, &["sn-1", "sn-2", "sn-3", "sn-4"]),
    )
    .await;
    step(store, &held, 2000).await;
    does(store, "sn-1", 4006, 2001).await;
    step(store, &held, 2002).await;
    // What was not sent is taken back, and its host hears nothing of it.
    let rolled_back = TargetState::RolledBack;
    assert_eq!(
        states(store, "r1").await,
        [rolled_back, Skipped, Skipped, Skipped]
    );
    assert!(matches!(
        phase(store, "r1").await,
        Phase::Ended(End::Stopped(_))
    ));
    assert_eq!(push(store, "sn-2", 2003).await, [""; 0]);
    let targets = targets(store, "r1").await;
    assert_eq!(targets[1].reason.as_deref(), Some("stopped"));
    assert_eq!(targets[0].message.as_deref(), Some("code 4006"));
}

pub(crate) async fn a_turn_without_the_lease_does_nothing(store: &dyn Store) {
    online(store, &["sn-1", "sn-2"]).await;
    let held = lease(store).await;
    insert(store, &rollout("r1", json!({}), &["sn-1", "sn-2"])).await;
    let number = row(store, "r1").await.number;
    let asleep = Lease {
        epoch: held.epoch - 1,
        ..held.clone()
    };
    let turned = store.turn_rollout(&asleep, number, 2000).await;
    assert_eq!(turned.expect("a turn"), Held::Lost);
    assert_eq!(phase(store, "r1").await, Phase::Freezing);
    step(store, &held, 2000).await;
    let before = states(store, "r1").await;
    let turned = store.turn_rollout(&asleep, number, 2000).await;
    assert_eq!(turned.expect("a turn"), Held::Lost);
    // And two that turn at once, which both think they may, order nothing twice.
    let again = tokio::join!(
        store.turn_rollout(&held, number, 2001),
        store.turn_rollout(&held, number, 2001)
    );
    let nothing = Held::Done(Turned::default());
    assert_eq!(
        (again.0.expect("a turn"), again.1.expect("a turn")),
        (nothing, nothing)
    );
    assert_eq!(states(store, "r1").await, before);
    assert_eq!(push(store, "sn-1", 2002).await.len(), 1);
}

pub(crate) async fn targets_are_written_down_part_by_part(store: &dyn Store) {
    const HOSTS: usize = 3010;
    const COUNTED: i64 = 3010;
    let names: Vec<String> = (0..HOSTS).map(|n| format!("sn-{n:04}")).collect();
    for name in &names {
        make::host(store, name).await;
    }
    let held = lease(store).await;
    let set = TargetSet::Query {
        selector: String::new(),
        group: None,
        hostname: Some("host OF sn-?*".into()),
    };
    let counted = store
        .count_targets(&set, &make::fleet())
        .await
        .expect("a count");
    assert_eq!(counted.iter().map(|one| one.hosts).sum::<i64>(), COUNTED);
    let new = NewRollout {
        set,
        ..rollout("r1", stages(), &[])
    };
    let number = insert(store, &new).await.number;
    let turned = store
        .turn_rollout(&held, number, 2000)
        .await
        .expect("a turn");
    let Held::Done(Turned { frozen, .. }) = turned else {
        panic!("the lease is gone")
    };
    assert!((1..HOSTS).contains(&frozen), "{frozen}");
    // Whoever goes on finds the rest, and each host once.
    leave(store, &names[HOSTS - 1]).await;
    step(store, &held, 2000).await;
    let row = row(store, "r1").await;
    let all = row.counts.total();
    assert_eq!((row.targets, all.all()), (COUNTED - 1, HOSTS as u64 - 1));
    assert_eq!(row.counts.stage(0).all(), 1);
    assert_eq!(row.stand.phase, Phase::Running);
    // None is online.
    assert_eq!(all.of(Waiting), HOSTS as u64 - 1);
}

pub(crate) async fn a_rollout_given_up_while_it_is_written_down_ends(store: &dyn Store) {
    online(store, &["sn-1"]).await;
    let held = lease(store).await;
    insert(store, &rollout("r1", json!({}), &["sn-1"])).await;
    assert!(matches!(
        order(store, "r1", Order::Abort, 1500).await,
        Ordered::Done(_)
    ));
    step(store, &held, 2000).await;
    assert_eq!(phase(store, "r1").await, Phase::Ended(End::Aborted));
    assert_eq!(push(store, "sn-1", 2001).await, [""; 0]);
}

pub(crate) async fn hosts_that_are_offline_or_leave_keep_no_place(store: &dyn Store) {
    online(store, &["sn-1", "sn-2", "sn-3", "sn-4"]).await;
    let held = lease(store).await;
    let plan = json!({ "parallel": 1, "fail_count": -1, "expires_in": 86_400 });
    insert(
        store,
        &rollout("r1", plan, &["sn-1", "sn-2", "sn-3", "sn-4"]),
    )
    .await;
    step(store, &held, 2000).await;
    assert_eq!(
        states(store, "r1").await,
        [InOrder, Waiting, Waiting, Waiting]
    );
    // The others go on pushing while the first one falls silent.
    let at = 3_000_000;
    for seconds in (0..3000).step_by(500) {
        for agentsn in ["sn-2", "sn-3", "sn-4"] {
            push(store, agentsn, seconds * 1000 + 3000).await;
        }
        look_until(store, seconds + 25, seconds + 500).await;
    }
    step(store, &held, at + 1).await;
    assert_eq!(
        states(store, "r1").await,
        [Waiting, InOrder, Waiting, Waiting]
    );
    assert!(targets(store, "r1").await[0].offline_since.is_some());
    // One leaves that waits, one that was only ordered, one that was sent.
    leave(store, "sn-3").await;
    leave(store, "sn-2").await;
    step(store, &held, at + 2).await;
    assert_eq!(
        states(store, "r1").await,
        [Waiting, Skipped, Skipped, InOrder]
    );
    push(store, "sn-4", at + 3).await;
    leave(store, "sn-4").await;
    step(store, &held, at + 4).await;
    assert_eq!(states(store, "r1").await, [Waiting, Skipped, Skipped, Lost]);
    // It is back, and gets its turn.
    push(store, "sn-1", at + 5).await;
    step(store, &held, at + 6).await;
    does(store, "sn-1", 0, at + 7).await;
    step(store, &held, at + 8).await;
    assert_eq!(states(store, "r1").await[0], Succeeded);
}

pub(crate) async fn a_crash_soon_after_success_is_a_failure(store: &dyn Store) {
    online(store, &["sn-1", "sn-2", "sn-3"]).await;
    let held = lease(store).await;
    let plan = json!({ "parallel": 1, "fail_count": 0 });
    insert(store, &rollout("r1", plan, &["sn-1", "sn-2", "sn-3"])).await;
    step(store, &held, 2000).await;
    does(store, "sn-1", 0, 2001).await;
    step(store, &held, 2003).await;
    let crash = async |version: &str, seq: i64, now: i64| {
        let mut record = make::status("sn-1", now);
        let mut event = make::event(seq, "it ended");
        event.version = Some(version.into());
        record.events.push(event);
        store.record_statuses(&[record]).await.expect("a batch");
        step(store, &held, now + 1).await;
    };
    // The version before ended; that says nothing of the new one.
    crash("1.0", 1, 2004).await;
    assert_eq!(states(store, "r1").await, [Succeeded, InOrder, Waiting]);
    crash("2.0", 2, 2006).await;
    assert_eq!(states(store, "r1").await, [CrashLooped, Skipped, Skipped]);
    assert!(matches!(
        phase(store, "r1").await,
        Phase::Ended(End::Stopped(_))
    ));
}

pub(crate) async fn a_crash_after_the_end_of_a_rollout_is_no_good_end(store: &dyn Store) {
    online(store, &["sn-1", "sn-2"]).await;
    let held = lease(store).await;
    let plan = json!({ "fail_count": 0 });
    insert(store, &rollout("r1", plan, &["sn-1", "sn-2"])).await;
    step(store, &held, 2000).await;
    does(store, "sn-1", 0, 2001).await;
    does(store, "sn-2", 0, 2002).await;
    step(store, &held, 2004).await;
    let done = row(store, "r1").await;
    assert_eq!(done.stand.phase, Phase::Ended(End::Done));
    assert_eq!(store.rollouts_due().await.expect("a read"), [0_i64; 0]);
    let mut record = make::status("sn-1", 600_000);
    let mut event = make::event(1, "it ended");
    event.version = Some("2.0".into());
    record.events.push(event);
    store.record_statuses(&[record]).await.expect("a batch");
    step(store, &held, 600_001).await;
    assert_eq!(states(store, "r1").await, [CrashLooped, Succeeded]);
    let told = row(store, "r1").await;
    assert!(matches!(told.stand.phase, Phase::Ended(End::Stopped(_))));
    // When it ended is as it was, and somebody is told.
    assert_eq!((told.ended, told.revision), (done.ended, done.revision + 1));
    assert_eq!(store.rollouts_due().await.expect("a read"), [0_i64; 0]);
}

pub(crate) async fn what_a_host_says_late_corrects_its_target(store: &dyn Store) {
    online(store, &["sn-1", "sn-2"]).await;
    let held = lease(store).await;
    let plan = json!({ "parallel": 2, "fail_count": -1, "expires_in": 3600 });
    insert(store, &rollout("r1", plan, &["sn-1", "sn-2"])).await;
    step(store, &held, 2000).await;
    let job = push(store, "sn-1", 2001).await;
    push(store, "sn-2", 2001).await;
    // Withdrawn by an operator, who was asked of the host.
    let late = 3_600_000 + GIVE_UP_MILLIS + 2000;
    step(store, &held, late).await;
    assert_eq!(states(store, "r1").await, [Lost, Lost]);
    assert_eq!(phase(store, "r1").await, Phase::Ended(End::Done));
    answer(store, "sn-1", &job[0], 3001, late + 1).await;
    step(store, &held, late + 2).await;
    assert_eq!(states(store, "r1").await, [Failed, Lost]);
    assert_eq!(phase(store, "r1").await, Phase::Ended(End::Done));
}

pub(crate) async fn a_result_of_another_host_moves_no_target(store: &dyn Store) {
    online(store, &["sn-1", "sn-2"]).await;
    let held = lease(store).await;
    insert(store, &rollout("r1", json!({}), &["sn-1"])).await;
    step(store, &held, 2000).await;
    let job = push(store, "sn-1", 2001).await;
    answer(store, "sn-2", &job[0], 0, 2002).await;
    answer(store, "sn-2", "no job of anybody", 0, 2003).await;
    step(store, &held, 2004).await;
    assert_eq!(states(store, "r1").await, [Running]);
    answer(store, "sn-1", &job[0], 5001, 2005).await;
    step(store, &held, 2006).await;
    assert_eq!(states(store, "r1").await, [Failed]);
}

pub(crate) async fn a_job_of_a_rollout_may_be_withdrawn(store: &dyn Store) {
    online(store, &["sn-1"]).await;
    let held = lease(store).await;
    insert(store, &rollout("r1", json!({}), &["sn-1"])).await;
    step(store, &held, 2000).await;
    let job = targets(store, "r1").await[0].job.clone().expect("a job");
    let cancelled = store
        .cancel_job(&job, "c1", &make::fleet(), &make::by(2001))
        .await;
    cancelled.expect("a write");
    step(store, &held, 2002).await;
    assert_eq!(states(store, "r1").await, [Cancelled]);
    assert_eq!(phase(store, "r1").await, Phase::Ended(End::Done));
}

pub(crate) async fn a_host_has_one_rollout_of_an_agent_at_a_time(store: &dyn Store) {
    online(store, &["sn-1", "sn-2", "sn-3"]).await;
    let held = lease(store).await;
    let plan = json!({ "parallel": 1 });
    insert(store, &rollout("r1", plan, &["sn-1", "sn-2", "sn-3"])).await;
    insert(store, &rollout("r2", json!({}), &["sn-1", "sn-2"])).await;
    step(store, &held, 2000).await;
    assert_eq!(states(store, "r1").await, [InOrder, Waiting, Waiting]);
    assert_eq!(states(store, "r2").await, [Waiting, Waiting]);
    let waiting = targets(store, "r2").await;
    let older = Rival::Rollout("r1".into());
    assert_eq!(waiting[0].busy_with, Some(older));
    // Of another agent, they go side by side.
    let mut other = rollout("r3", json!({}), &["sn-1"]);
    other.agent = "b".into();
    insert(store, &other).await;
    step(store, &held, 2001).await;
    assert_eq!(states(store, "r3").await, [InOrder]);
    // One that supersedes takes what was not sent, and leaves what was.
    push(store, "sn-1", 2002).await;
    let plan = json!({ "contention": "supersede" });
    insert(store, &rollout("r4", plan, &["sn-1", "sn-2", "sn-3"])).await;
    step(store, &held, 2003).await;
    assert_eq!(states(store, "r4").await, [Waiting, InOrder, InOrder]);
    assert_eq!(states(store, "r1").await, [Running, Skipped, Skipped]);
    assert_eq!(states(store, "r2").await, [Waiting, Skipped]);
    assert_eq!(
        targets(store, "r1").await[1].reason.as_deref(),
        Some("superseded")
    );
}

pub(crate) async fn operators_pause_resume_and_confirm_what_they_have_seen(store: &dyn Store) {
    online(store, &["sn-1", "sn-2"]).await;
    let held = lease(store).await;
    let plan = json!({ "parallel": 1, "confirmation": "second_user" });
    insert(store, &rollout("r1", plan, &["sn-1", "sn-2"])).await;
    step(store, &held, 2000).await;
    assert_eq!(phase(store, "r1").await, Phase::Unconfirmed);
    let confirm = |by: &str| Order::Confirm { by: by.into() };
    let refused = order(store, "r1", confirm("user:a"), 2001).await;
    assert_eq!(refused, Ordered::Refused(Refusal::SameUser));
    let seen = row(store, "r1").await.revision;
    assert!(matches!(
        order(store, "r1", confirm("user:b"), 2002).await,
        Ordered::Done(_)
    ));
    let stale = store
        .order_rollout(
            "r1",
            &Order::Pause,
            Some(seen),
            &make::fleet(),
            &make::by(2003),
        )
        .await;
    assert_eq!(stale.expect("a write"), Ordered::Stale);
    step(store, &held, 2003).await;
    assert_eq!(states(store, "r1").await, [InOrder, Waiting]);
    assert!(matches!(
        order(store, "r1", Order::Pause, 2004).await,
        Ordered::Done(_)
    ));
    step(store, &held, 2005).await;
    assert_eq!(states(store, "r1").await, [Waiting, Waiting]);
    assert_eq!(push(store, "sn-1", 2006).await, [""; 0]);
    assert!(matches!(
        order(store, "r1", Order::Resume, 2007).await,
        Ordered::Done(_)
    ));
    step(store, &held, 2008).await;
    assert_eq!(states(store, "r1").await, [InOrder, Waiting]);
    let other = make::scope("svc=other");
    let unseen = store
        .order_rollout("r1", &Order::Abort, None, &other, &make::by(2009))
        .await;
    assert_eq!(unseen.expect("a write"), Ordered::Unknown);
    let query = AuditQuery {
        target: Some("r1".into()),
        ..AuditQuery::default()
    };
    let audit = store.audit(&query).await.expect("a list").items;
    let actions: Vec<&str> = audit.iter().map(|row| row.action.as_str()).collect();
    let expected = ["resume", "pause", "confirm", "create"].map(|word| format!("rollout.{word}"));
    assert_eq!(actions, expected);
}

pub(crate) async fn a_rollout_is_seen_by_who_sees_all_of_its_hosts(store: &dyn Store) {
    online(store, &["sn-1", "sn-2"]).await;
    let (all, db) = (make::fleet(), make::scope("svc=db"));
    let tagged = store
        .set_tags("sn-1", &make::tags("svc=db"), None, &all, &make::by(1))
        .await;
    tagged.expect("a write");
    let inserted = store
        .insert_rollout(
            &rollout("r1", json!({}), &["sn-1", "sn-2"]),
            &db,
            &make::by(1),
        )
        .await;
    let unknown = RolloutInserted::UnknownHosts(vec!["sn-2".into()]);
    assert_eq!(inserted.expect("a write"), unknown);
    let inserted = store
        .insert_rollout(&rollout("r2", json!({}), &["sn-1"]), &db, &make::by(1))
        .await;
    assert!(matches!(
        inserted.expect("a write"),
        RolloutInserted::Done(_)
    ));
    insert(store, &rollout("r3", json!({}), &["sn-1"])).await;
    let seen = async |scope: &Scope, phase| {
        let query = RolloutQuery {
            scope: scope.clone(),
            phase,
            ..RolloutQuery::default()
        };
        let page = store.rollouts(&query).await.expect("a page");
        page.items.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(seen(&all, None).await, ["r3", "r2"]);
    assert_eq!(seen(&db, Some(RolloutPhase::Active)).await, ["r2"]);
    assert_eq!(seen(&make::scope("svc=x"), None).await, [""; 0]);
    assert_eq!(seen(&all, Some(RolloutPhase::Ended)).await, [""; 0]);
    // What is everything to somebody is what they may see.
    let everything = TargetSet::Query {
        selector: String::new(),
        group: None,
        hostname: None,
    };
    let counted = store
        .count_targets(&everything, &db)
        .await
        .expect("a count");
    assert_eq!(counted.iter().map(|one| one.hosts).sum::<i64>(), 1);
}

pub(crate) async fn a_package_stays_while_a_rollout_needs_it(store: &dyn Store) {
    online(store, &["sn-1"]).await;
    let package = make::package("p1", "2.0", "s1");
    let inserted = store.insert_package(&package, None, &make::by(1)).await;
    inserted.expect("a write");
    let held = lease(store).await;
    let mut new = rollout("r1", json!({ "confirmation": "second_user" }), &["sn-1"]);
    new.goods.variants[0].file = Some(File {
        id: "p1".into(),
        os: "linux".into(),
        arch: "x86_64".into(),
        kind: PackageKind::Bundle,
    });
    insert(store, &new).await;
    let needed = PackageDeleted::InRollout {
        rollout: "r1".into(),
    };
    let delete = async || {
        store
            .delete_package("p1", &make::by(1))
            .await
            .expect("a write")
    };
    assert_eq!(delete().await, needed);
    order(store, "r1", Order::Abort, 1500).await;
    step(store, &held, 2000).await;
    assert!(matches!(delete().await, PackageDeleted::Done { .. }));
    let gone = store
        .insert_rollout(
            &NewRollout {
                id: "r2".into(),
                ..new
            },
            &make::fleet(),
            &make::by(1),
        )
        .await;
    assert_eq!(gone.expect("a write"), RolloutInserted::PackageGone);
}

pub(crate) async fn a_host_without_a_file_is_skipped(store: &dyn Store) {
    online(store, &["sn-1"]).await;
    let package = make::package("p1", "2.0", "s1");
    store
        .insert_package(&package, None, &make::by(1))
        .await
        .expect("a write");
    let held = lease(store).await;
    let mut new = rollout("r1", json!({}), &["sn-1"]);
    new.goods.variants[0].file = Some(File {
        id: "p1".into(),
        os: "plan9".into(),
        arch: "x86_64".into(),
        kind: PackageKind::Bundle,
    });
    // Of a host that does not say what it is, any file is taken to fit.
    new.goods.variants[0].only_for = Some("1.0".into());
    insert(store, &new).await;
    step(store, &held, 2000).await;
    assert_eq!(states(store, "r1").await, [Skipped]);
    assert_eq!(
        targets(store, "r1").await[0].reason.as_deref(),
        Some("no-file")
    );
}

pub(crate) async fn a_way_back_takes_each_target_to_what_it_had(store: &dyn Store) {
    let with = |agentsn: &str, now: i64, version: &str| {
        let mut record = make::status(agentsn, now);
        let report = json!({ "name": "a", "version": version, "status": "running" });
        let report: AgentReport = serde_json::from_value(report).expect("a report");
        record.state.body.agents = vec![report];
        record
    };
    for agentsn in ["sn-1", "sn-2", "sn-3", "sn-4"] {
        make::host(store, agentsn).await;
    }
    let records = [
        with("sn-1", 1000, "1.0"),
        make::status("sn-2", 1000),
        with("sn-3", 1000, "2.0"),
        with("sn-4", 1000, "1.5"),
    ];
    store.record_statuses(&records).await.expect("a batch");
    let held = lease(store).await;
    let plan = json!({ "fail_count": -1 });
    let hosts = ["sn-1", "sn-2", "sn-3", "sn-4"];
    let former = insert(store, &rollout("r1", plan.clone(), &hosts))
        .await
        .number;
    step(store, &held, 2000).await;
    for (agentsn, code) in [("sn-1", 0), ("sn-2", 0), ("sn-3", 0), ("sn-4", 3001)] {
        does(store, agentsn, code, 2001).await;
    }
    step(store, &held, 2003).await;
    let befores: Vec<_> = targets(store, "r1")
        .await
        .into_iter()
        .map(|it| it.before)
        .collect();
    let text = |version: &str| Some(version.to_owned());
    assert_eq!(befores, [text("1.0"), None, text("2.0"), text("1.5")]);
    let former = |states, way| TargetSet::Former {
        rollout: former,
        states,
        way,
    };
    let failed = former(vec![Failed], Way::Again);
    let counted = store
        .count_targets(&failed, &make::fleet())
        .await
        .expect("a count");
    assert_eq!(counted.iter().map(|one| one.hosts).sum::<i64>(), 1);
    let set = former(vec![Succeeded, Failed], Way::Back);
    let counted = store
        .count_targets(&set, &make::fleet())
        .await
        .expect("a count");
    let versions: Vec<_> = counted.iter().map(|one| one.version.clone()).collect();
    assert_eq!(versions, [text(""), text("1.0"), text("1.5")]);
    let mut back = rollout("r2", plan, &[]);
    back.set = set;
    back.follows = Some(Follows {
        id: "r1".into(),
        way: Way::Back,
    });
    let of = |version: &str| Variant {
        only_for: text(version),
        version: text(version),
        ..back.goods.variants[0].clone()
    };
    back.goods = Goods {
        variants: vec![of("1.0"), of("1.5"), of("")],
    };
    assert_eq!(insert(store, &back).await.follows, back.follows);
    step(store, &held, 2004).await;
    let back: Vec<_> = targets(store, "r2")
        .await
        .into_iter()
        .map(|it| (it.agentsn, it.version))
        .collect();
    let expected = [("sn-1", "1.0"), ("sn-2", ""), ("sn-4", "1.5")];
    let expected: Vec<_> = expected
        .map(|(agentsn, version)| (agentsn.to_owned(), text(version)))
        .into();
    assert_eq!(back, expected);
    assert_eq!(states(store, "r2").await, [InOrder; 3]);
}

pub(crate) async fn after_a_restore_a_rollout_waits_for_somebody(store: &dyn Store) {
    online(store, &["sn-1", "sn-2"]).await;
    let held = lease(store).await;
    insert(
        store,
        &rollout(
            "r1",
            json!({ "parallel": 1, "fail_count": -1 }),
            &["sn-1", "sn-2"],
        ),
    )
    .await;
    step(store, &held, 2000).await;
    push(store, "sn-1", 2001).await;
    store.restored(2002).await.expect("a write");
    step(store, &held, 2003).await;
    assert_eq!(phase(store, "r1").await, Phase::Paused(Pause::Restored));
    assert_eq!(states(store, "r1").await, [Lost, Waiting]);
    assert!(matches!(
        order(store, "r1", Order::Resume, 2004).await,
        Ordered::Done(_)
    ));
    step(store, &held, 2005).await;
    assert_eq!(states(store, "r1").await, [Lost, InOrder]);
}
