//! Assignments: who gets what, how often, and what is done where others are at a host.

use bootagent_protocol::{Action, AgentReport};
use bootserver::access::scope::Scope;
use bootserver::fleet::package_choice::PackageKind;
use bootserver::fleet::rollout::goods::{File, Goods, Variant};
use bootserver::fleet::rollout::stand::{Pause, Phase, Refusal};
use bootserver::fleet::rollout::target::TargetState;
use bootserver::fleet::rollout::why::Rival;
use bootserver::fleet::selector::Selector;
use bootserver::store::Store;
use bootserver::store::assignment::{
    AssignmentChange, AssignmentDeleted, AssignmentOrder, AssignmentRow, AssignmentStored, Course,
    Draft, FitCount, HostStand, NewAssignment,
};
use bootserver::store::audit::AuditQuery;
use bootserver::store::group::{GroupDeleted, GroupStored, GroupTerms, Named, Naming};
use bootserver::store::lease::{Held, Lease};
use bootserver::store::package::PackageDeleted;
use bootserver::store::page::{Count, Limit};
use bootserver::store::rollout::{
    NewRollout, Order, RolloutInserted, RolloutQuery, TargetQuery, TargetRow, TargetSet,
};
use bootserver::store::status::StatusRecord;
use serde_json::{Value, json};

use super::{ids, lease};
use crate::make;

use TargetState::{Failed, Ordered, Running, Skipped, Succeeded, Waiting};

const SECOND: i64 = 1000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn course(version: &str, plan: Value) -> Course {
    let body = json!({ "action": "install", "name": "a", "version": version });
    let Value::Object(body) = body else {
        unreachable!("an object was written")
    };
    Course {
        version: version.into(),
        watch: None,
        goods: Goods {
            variants: vec![Variant {
                only_for: None,
                file: None,
                action: Action::Install,
                version: Some(version.into()),
                body,
            }],
        },
        plan: serde_json::from_value(plan).expect("a plan"),
        author: "user:a".into(),
    }
}

pub(super) fn assignment(id: &str, group: &str, version: &str, plan: Value) -> NewAssignment {
    NewAssignment {
        id: id.into(),
        name: format!("name of {id}"),
        group: group.into(),
        agent: "a".into(),
        priority: 0,
        course: course(version, plan),
    }
}

pub(super) async fn insert(store: &dyn Store, new: &NewAssignment) -> AssignmentRow {
    let stored = store.insert_assignment(new, &make::by(1000)).await;
    done(stored.expect("a write"))
}

fn done(stored: AssignmentStored) -> AssignmentRow {
    match stored {
        AssignmentStored::Done(row) => *row,
        other => panic!("{other:?}"),
    }
}

/// A group of the hosts with this tag, if any, and of those it names.
pub(super) async fn group(store: &dyn Store, id: &str, selected: Option<&str>, named: &[&str]) {
    let terms = GroupTerms {
        id: id.into(),
        name: format!("group {id}"),
        description: String::new(),
        selector: selected.map(|text| Selector::parse(text).expect("a selector")),
        groups: [].into(),
        now: 1,
    };
    let stored = store.insert_group(&terms, &make::by(1)).await;
    assert!(matches!(stored.expect("a write"), GroupStored::Done(_)));
    name(store, id, named, &[]).await;
}

async fn name(store: &dyn Store, id: &str, add: &[&str], remove: &[&str]) {
    let list = |agentsns: &[&str]| agentsns.iter().map(|it| (*it).to_owned()).collect();
    let naming = Naming {
        id: id.into(),
        add: list(add),
        remove: list(remove),
    };
    let named = store.name_hosts(&naming, &make::by(1)).await;
    assert!(matches!(named.expect("a write"), Named::Done(_)));
}

/// A status of a host that has this version of the agent, if any.
fn status(agentsn: &str, version: Option<&str>, now: i64) -> StatusRecord {
    let mut record = make::status(agentsn, now);
    if let Some(version) = version {
        let report = json!({ "name": "a", "version": version, "status": "running" });
        let report: AgentReport = serde_json::from_value(report).expect("a report");
        record.state.body.agents = vec![report];
    }
    record
}

async fn push(store: &dyn Store, record: StatusRecord) -> Vec<String> {
    let outcomes = store.record_statuses(&[record]).await.expect("a batch");
    ids(&outcomes[0]).into_iter().map(str::to_owned).collect()
}

/// Hosts that are online with this version.
async fn online(store: &dyn Store, agentsns: &[&str], version: Option<&str>) {
    for agentsn in agentsns {
        make::host(store, agentsn).await;
        push(store, status(agentsn, version, 1000)).await;
    }
}

/// Fetches the job of a host that has a version, and answers it with a status that says
/// it has another.
async fn does(store: &dyn Store, agentsn: &str, from: Option<&str>, to: Option<&str>, now: i64) {
    let code = if to == from { 3001 } else { 0 };
    let jobs = push(store, status(agentsn, from, now)).await;
    let [job] = &jobs[..] else {
        panic!("{agentsn} has jobs {jobs:?}")
    };
    let mut record = status(agentsn, to, now + 1);
    record.results.push(make::outcome(job, code));
    push(store, record).await;
}

/// Turns of every rollout until nothing is to be done.
async fn step(store: &dyn Store, lease: &Lease, now: i64) {
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

pub(super) async fn row(store: &dyn Store, id: &str) -> AssignmentRow {
    let row = store.assignment(id).await.expect("a read");
    row.expect("the assignment")
}

async fn targets(store: &dyn Store, id: &str) -> Vec<TargetRow> {
    let query = TargetQuery {
        rollout: row(store, id).await.rollout.number,
        state: None,
        after: None,
        scope: Scope::fleet(),
        count: Count::Not,
        limit: Limit::default(),
    };
    store.rollout_targets(&query).await.expect("a page").items
}

/// Its targets and where they stand. What is counted is what there is.
async fn states(store: &dyn Store, id: &str) -> Vec<(String, TargetState)> {
    let targets = targets(store, id).await;
    let counts = row(store, id).await.rollout.counts.total();
    for state in TargetState::ALL {
        let there = targets.iter().filter(|it| it.state == state).count();
        assert_eq!(counts.of(state), there as u64, "{state:?}");
    }
    let targets = targets.into_iter();
    targets.map(|it| (it.agentsn, it.state)).collect()
}

fn are(expected: &[(&str, TargetState)]) -> Vec<(String, TargetState)> {
    let expected = expected.iter();
    expected
        .map(|(agentsn, state)| ((*agentsn).to_owned(), *state))
        .collect()
}

async fn order(store: &dyn Store, id: &str, what: AssignmentOrder, now: i64) -> AssignmentStored {
    let ordered = store
        .order_assignment(id, &what, None, &make::by(now))
        .await;
    ordered.expect("a write")
}

pub(crate) async fn who_joins_an_assignment_or_drifts_gets_its_version(store: &dyn Store) {
    online(store, &["sn-1"], Some("1.0")).await;
    online(store, &["sn-2"], Some("2.0")).await;
    online(store, &["sn-3", "sn-4"], None).await;
    make::host(store, "sn-5").await;
    group(store, "g", None, &["sn-1", "sn-2", "sn-3", "sn-5"]).await;
    let held = lease(store).await;
    insert(store, &assignment("a1", "g", "2.0", json!({}))).await;
    let mut now = 20 * SECOND;
    step(store, &held, now).await;
    let begun = are(&[("sn-1", Ordered), ("sn-3", Ordered)]);
    assert_eq!(states(store, "a1").await, begun);
    let census = row(store, "a1").await.census.expect("a whole look");
    assert_eq!((census.hosts, census.right, census.taken), (4, 1, 0));
    does(store, "sn-1", Some("1.0"), Some("2.0"), now + 1).await;
    does(store, "sn-3", None, Some("2.0"), now + 1).await;
    // One joins the group, another one is heard for the first time.
    name(store, "g", &["sn-4"], &[]).await;
    push(store, status("sn-5", None, now)).await;
    now += 20 * SECOND;
    step(store, &held, now).await;
    let expected = [
        ("sn-1", Succeeded),
        ("sn-3", Succeeded),
        ("sn-4", Ordered),
        ("sn-5", Ordered),
    ];
    assert_eq!(states(store, "a1").await, are(&expected));
    for agentsn in ["sn-4", "sn-5"] {
        does(store, agentsn, None, Some("2.0"), now + 1).await;
    }
    // One is downgraded by hand, and from one it is taken away.
    push(store, status("sn-1", Some("1.0"), now + 2)).await;
    push(store, status("sn-2", None, now + 2)).await;
    now += 20 * SECOND;
    step(store, &held, now).await;
    let expected = [
        ("sn-1", Ordered),
        ("sn-3", Succeeded),
        ("sn-4", Succeeded),
        ("sn-5", Succeeded),
        ("sn-2", Ordered),
    ];
    assert_eq!(states(store, "a1").await, are(&expected));
    does(store, "sn-1", Some("1.0"), Some("2.0"), now + 1).await;
    does(store, "sn-2", None, Some("2.0"), now + 1).await;
    // Who leaves the group keeps what it has, and whatever it has then.
    name(store, "g", &[], &["sn-1"]).await;
    push(store, status("sn-1", Some("1.0"), now + 3)).await;
    now += 20 * SECOND;
    step(store, &held, now).await;
    assert!(states(store, "a1").await.iter().all(|it| it.1 == Succeeded));
    assert_eq!(targets(store, "a1").await[0].attempts, 2);
    let census = row(store, "a1").await.census.expect("a whole look");
    assert_eq!((census.hosts, census.right), (4, 4));
    // It is no rollout operators know of.
    let rollouts = store.rollouts(&RolloutQuery::default()).await;
    assert_eq!(rollouts.expect("a list").items, []);
}

pub(crate) async fn an_assignment_orders_no_more_at_once_than_it_may_and_stops_at_its_limit(
    store: &dyn Store,
) {
    let hosts = ["sn-1", "sn-2", "sn-3", "sn-4", "sn-5"];
    online(store, &hosts, None).await;
    group(store, "g", None, &hosts).await;
    let held = lease(store).await;
    let plan = json!({ "parallel": "40%", "fail_count": 1 });
    insert(store, &assignment("a1", "g", "2.0", plan)).await;
    let mut now = 20 * SECOND;
    let ordered = async || {
        let states = states(store, "a1").await;
        let ordered = states.into_iter().filter(|it| it.1 == Ordered);
        ordered.map(|it| it.0).collect::<Vec<_>>()
    };
    step(store, &held, now).await;
    assert_eq!(ordered().await, ["sn-1", "sn-2"]);
    does(store, "sn-1", None, None, now).await;
    step(store, &held, now + 2).await;
    assert_eq!(ordered().await, ["sn-2", "sn-3"]);
    does(store, "sn-2", None, None, now + 3).await;
    step(store, &held, now + 5).await;
    // What was not sent is taken back.
    assert_eq!(ordered().await, [""; 0]);
    let stopped = row(store, "a1").await;
    assert_eq!(stopped.rollout.stand.phase, Phase::Paused(Pause::FailCount));
    // It goes on with fresh counts, and who failed is not tried at once.
    let resumed = done(order(store, "a1", AssignmentOrder::Resume, now).await);
    assert!(resumed.revision > stopped.revision);
    step(store, &held, now + 6).await;
    assert_eq!(ordered().await, ["sn-3", "sn-4"]);
    does(store, "sn-3", None, Some("2.0"), now + 7).await;
    does(store, "sn-4", None, Some("2.0"), now + 7).await;
    step(store, &held, now + 9).await;
    assert_eq!(ordered().await, ["sn-5"]);
    // An operator may have them tried at once.
    done(order(store, "a1", AssignmentOrder::Retry, now).await);
    now += 20 * SECOND;
    step(store, &held, now).await;
    assert_eq!(ordered().await.len(), 2);
    let audit = store.audit(&AuditQuery::default()).await.expect("a list");
    let actions: Vec<_> = audit.items.iter().map(|it| it.action.as_str()).collect();
    for action in ["assignment.create", "assignment.resume", "assignment.retry"] {
        assert!(actions.contains(&action), "{actions:?}");
    }
}

pub(crate) async fn of_two_assignments_the_one_with_the_higher_priority_has_a_host(
    store: &dyn Store,
) {
    online(store, &["sn-1", "sn-2", "sn-3"], None).await;
    group(store, "all", None, &["sn-1", "sn-2", "sn-3"]).await;
    group(store, "few", None, &["sn-2"]).await;
    let held = lease(store).await;
    insert(store, &assignment("a1", "all", "2.0", json!({}))).await;
    let canary = NewAssignment {
        priority: 5,
        ..assignment("a2", "few", "3.0", json!({}))
    };
    insert(store, &canary).await;
    let mut now = 20 * SECOND;
    step(store, &held, now).await;
    let all = are(&[("sn-1", Ordered), ("sn-3", Ordered)]);
    assert_eq!(states(store, "a1").await, all);
    assert_eq!(states(store, "a2").await, are(&[("sn-2", Ordered)]));
    assert_eq!(row(store, "a1").await.census.expect("a look").taken, 1);
    // One that is paused keeps its hosts; one that is as high and younger does not get them.
    done(order(store, "a2", AssignmentOrder::Pause, now).await);
    let later = NewAssignment {
        priority: 5,
        ..assignment("a3", "few", "4.0", json!({}))
    };
    insert(store, &later).await;
    now += 20 * SECOND;
    step(store, &held, now).await;
    assert_eq!(states(store, "a2").await, are(&[("sn-2", Waiting)]));
    assert_eq!(states(store, "a3").await, []);
    assert_eq!(states(store, "a1").await.len(), 2);
    // With the others gone the first has it, too; who waited for them waits no longer.
    for id in ["a2", "a3"] {
        let deleted = store.delete_assignment(id, None, &make::by(now)).await;
        assert_eq!(deleted.expect("a write"), AssignmentDeleted::Done);
    }
    now += 20 * SECOND;
    step(store, &held, now).await;
    let all = [("sn-1", Ordered), ("sn-3", Ordered), ("sn-2", Ordered)];
    assert_eq!(states(store, "a1").await, are(&all));
    // And loses it where another one comes first while it waits.
    done(order(store, "a1", AssignmentOrder::Pause, now).await);
    step(store, &held, now + 1).await;
    let again = NewAssignment {
        priority: 1,
        ..assignment("a4", "few", "3.0", json!({}))
    };
    insert(store, &again).await;
    now += 20 * SECOND;
    step(store, &held, now).await;
    let one = &targets(store, "a1").await[2];
    assert_eq!(one.state, Skipped);
    assert_eq!(one.reason.as_deref(), Some("other-assignment"));
}

pub(crate) async fn an_assignment_leaves_hosts_to_rollouts_and_rollouts_are_told_of_it(
    store: &dyn Store,
) {
    online(store, &["sn-1", "sn-2", "sn-3"], Some("1.0")).await;
    group(store, "g", None, &["sn-1", "sn-2"]).await;
    let held = lease(store).await;
    insert(
        store,
        &assignment("a1", "g", "2.0", json!({ "parallel": 1 })),
    )
    .await;
    let mut now = 20 * SECOND;
    step(store, &held, now).await;
    let begun = are(&[("sn-1", Ordered), ("sn-2", Waiting)]);
    assert_eq!(states(store, "a1").await, begun);
    let set =
        |agentsns: &[&str]| TargetSet::Hosts(agentsns.iter().map(|it| (*it).to_owned()).collect());
    let against = async |agentsns: &[&str], version: Option<&str>| {
        let found = store
            .assignments_against(&set(agentsns), &make::fleet(), "a", version)
            .await;
        found.expect("a read").len()
    };
    assert_eq!(against(&["sn-1", "sn-3"], Some("3.0")).await, 1);
    assert_eq!(against(&["sn-1"], None).await, 1, "a removal");
    assert_eq!(against(&["sn-1"], Some("2.0")).await, 0);
    assert_eq!(against(&["sn-3"], Some("3.0")).await, 0);
    let new = NewRollout {
        id: "r1".into(),
        name: "r1".into(),
        action: Action::Upgrade,
        agent: "a".into(),
        version: Some("3.0".into()),
        goods: course("3.0", json!({})).goods,
        set: set(&["sn-1", "sn-2"]),
        plan: serde_json::from_value(json!({})).expect("a plan"),
        author: "user:a".into(),
        follows: None,
        seen: None,
        created: now,
    };
    let inserted = store
        .insert_rollout(&new, &make::fleet(), &make::by(now))
        .await;
    let RolloutInserted::Done(rollout) = inserted.expect("a write") else {
        panic!("it is stored");
    };
    step(store, &held, now + 1).await;
    // What was ordered first is waited for, what only waits is passed by.
    let query = TargetQuery {
        rollout: rollout.number,
        state: None,
        after: None,
        scope: Scope::fleet(),
        count: Count::Not,
        limit: Limit::default(),
    };
    let page = store.rollout_targets(&query).await.expect("a page").items;
    assert_eq!([page[0].state, page[1].state], [Waiting, Ordered]);
    let assigned = Rival::Assignment("a1".into());
    assert_eq!(page[0].busy_with, Some(assigned));
    does(store, "sn-1", Some("1.0"), Some("2.0"), now + 2).await;
    now += 20 * SECOND;
    step(store, &held, now).await;
    let mine = targets(store, "a1").await;
    assert_eq!([mine[0].state, mine[1].state], [Succeeded, Waiting]);
    assert_eq!(mine[1].busy_with, Some(Rival::Rollout("r1".into())));
    // While the rollout is at work its version stays, and then the assignment's is back.
    does(store, "sn-2", Some("1.0"), Some("3.0"), now + 1).await;
    does(store, "sn-1", Some("2.0"), Some("3.0"), now + 1).await;
    for agentsn in ["sn-1", "sn-2"] {
        push(store, status(agentsn, Some("3.0"), now + 3)).await;
    }
    now += 20 * SECOND;
    step(store, &held, now).await;
    let states = states(store, "a1").await;
    assert_eq!(states.iter().filter(|it| it.1 == Ordered).count(), 1);
    // A paused one puts nobody back.
    done(order(store, "a1", AssignmentOrder::Pause, now).await);
    assert_eq!(against(&["sn-1"], Some("3.0")).await, 0);
    let told = store
        .order_rollout(
            &row(store, "a1").await.rollout.id,
            &Order::Abort,
            None,
            &make::fleet(),
            &make::by(now),
        )
        .await;
    assert_eq!(
        told.expect("a write"),
        bootserver::store::rollout::Ordered::Unknown
    );
}

pub(crate) async fn another_version_begins_anew_and_a_deleted_assignment_leaves_hosts_alone(
    store: &dyn Store,
) {
    online(store, &["sn-1", "sn-2"], None).await;
    group(store, "g", None, &["sn-1", "sn-2"]).await;
    let held = lease(store).await;
    let first = insert(store, &assignment("a1", "g", "2.0", json!({}))).await;
    let mut now = 20 * SECOND;
    step(store, &held, now).await;
    does(store, "sn-1", None, Some("2.0"), now).await;
    step(store, &held, now + 2).await;
    let seen = row(store, "a1").await.revision;
    let change = AssignmentChange {
        course: Some(course("3.0", json!({ "parallel": 1 }))),
        ..AssignmentChange::default()
    };
    let stale = store
        .change_assignment("a1", &change, Some(seen + 1), &make::by(now))
        .await;
    assert_eq!(stale.expect("a write"), AssignmentStored::Stale);
    let changed = store
        .change_assignment("a1", &change, Some(seen), &make::by(now))
        .await;
    let changed = done(changed.expect("a write"));
    assert_eq!(changed.version, "3.0");
    assert!(changed.revision > seen);
    assert_ne!(changed.rollout.number, first.rollout.number);
    now += 20 * SECOND;
    step(store, &held, now).await;
    let begun = are(&[("sn-1", Ordered), ("sn-2", Waiting)]);
    assert_eq!(states(store, "a1").await, begun);
    // What the version before had ordered and not sent is taken back: there is one job each.
    does(store, "sn-1", Some("2.0"), Some("3.0"), now).await;
    assert_eq!(push(store, status("sn-2", None, now)).await, [""; 0]);
    // A change of its name alone begins nothing.
    let number = row(store, "a1").await.rollout.number;
    let renamed = AssignmentChange {
        name: Some("other".into()),
        ..AssignmentChange::default()
    };
    let renamed = store
        .change_assignment("a1", &renamed, None, &make::by(now))
        .await;
    let renamed = done(renamed.expect("a write"));
    assert_eq!(
        (renamed.name.as_str(), renamed.rollout.number),
        ("other", number)
    );
    step(store, &held, now + 2).await;
    let group_deleted = store.delete_group("g", None, &make::by(now)).await;
    let assigned = GroupDeleted::Assigned(vec!["other".into()]);
    assert_eq!(group_deleted.expect("a write"), assigned);
    let deleted = store.delete_assignment("a1", None, &make::by(now)).await;
    assert_eq!(deleted.expect("a write"), AssignmentDeleted::Done);
    now += 20 * SECOND;
    step(store, &held, now).await;
    for agentsn in ["sn-1", "sn-2"] {
        assert_eq!(push(store, status(agentsn, None, now)).await, [""; 0]);
    }
    step(store, &held, now + 20 * SECOND).await;
    assert_eq!(store.rollouts_due().await.expect("a read"), [0_i64; 0]);
    assert_eq!(store.assignment("a1").await.expect("a read"), None);
    let group_deleted = store.delete_group("g", None, &make::by(now)).await;
    assert_eq!(group_deleted.expect("a write"), GroupDeleted::Done);
}

pub(crate) async fn a_host_without_a_file_waits_until_there_is_one(store: &dyn Store) {
    online(store, &["sn-1"], None).await;
    group(store, "g", None, &["sn-1"]).await;
    let held = lease(store).await;
    let package = make::package("p1", "2.0", "s1");
    let inserted = store.insert_package(&package, None, &make::by(1)).await;
    inserted.expect("a write");
    let mut new = assignment("a1", "g", "2.0", json!({}));
    new.course.goods.variants[0].file = Some(File {
        id: "p1".into(),
        os: "plan9".into(),
        arch: "x86_64".into(),
        kind: PackageKind::Bundle,
    });
    // Of a host that does not say what it is, any file is taken to fit.
    new.course.goods.variants[0].only_for = Some("1.0".into());
    insert(store, &new).await;
    let fit = store.fit_assignment(&draft(9)).await.expect("a count");
    let expected = FitCount {
        os: String::new(),
        arch: String::new(),
        stand: HostStand::Target,
        hosts: 1,
    };
    assert_eq!(fit, [expected]);
    let now = 20 * SECOND;
    step(store, &held, now).await;
    let target = &targets(store, "a1").await[0];
    let reason = target.reason.as_deref();
    assert_eq!((target.state, reason), (Waiting, Some("no-file")));
    let delete = async || {
        let deleted = store.delete_package("p1", &make::by(1)).await;
        deleted.expect("a write")
    };
    let needed = PackageDeleted::Assigned {
        assignment: "a1".into(),
    };
    assert_eq!(delete().await, needed);
    let mut goods = new.course.goods.clone();
    goods.variants[0].file = None;
    goods.variants[0].only_for = None;
    let number = row(store, "a1").await.rollout.number;
    let renewed = store.renew_assignment(number, &goods).await;
    renewed.expect("a write");
    step(store, &held, now + 1).await;
    let target = &targets(store, "a1").await[0];
    assert_eq!((target.state, target.reason.as_deref()), (Ordered, None));
    store
        .delete_assignment("a1", None, &make::by(now))
        .await
        .expect("a write");
    does(store, "sn-1", None, Some("2.0"), now + 2).await;
    step(store, &held, now + 4).await;
    assert!(matches!(delete().await, PackageDeleted::Done { .. }));
}

pub(crate) async fn a_host_is_not_ordered_a_version_for_ever(store: &dyn Store) {
    online(store, &["sn-1"], None).await;
    group(store, "g", None, &["sn-1"]).await;
    let held = lease(store).await;
    let plan = json!({ "fail_count": -1 });
    insert(store, &assignment("a1", "g", "2.0", plan)).await;
    let mut now = 20 * SECOND;
    let mut tried = 0;
    for _ in 0..30 {
        step(store, &held, now).await;
        let target = &targets(store, "a1").await[0];
        if target.state == Ordered {
            does(store, "sn-1", None, None, now).await;
            tried += 1;
        } else {
            push(store, status("sn-1", None, now)).await;
        }
        now += 4 * HOUR;
    }
    step(store, &held, now).await;
    let target = &targets(store, "a1").await[0];
    assert_eq!((target.state, target.attempts, tried), (Failed, 5, 5));
    // A host that is silent with the order is given up, and keeps no place for ever.
    done(order(store, "a1", AssignmentOrder::Retry, now).await);
    step(store, &held, now).await;
    assert_eq!(push(store, status("sn-1", None, now + 1)).await.len(), 1);
    step(store, &held, now + 2).await;
    assert_eq!(states(store, "a1").await, are(&[("sn-1", Running)]));
    step(store, &held, now + 9 * DAY).await;
    assert_eq!(targets(store, "a1").await[0].attempts, 1);
    assert_ne!(states(store, "a1").await, are(&[("sn-1", Running)]));
}

/// Somebody asks what an assignment of the group `g` would do.
fn draft(priority: i64) -> Draft {
    Draft {
        id: "b".into(),
        group: "g".into(),
        agent: "a".into(),
        version: "2.0".into(),
        priority,
    }
}

pub(crate) async fn a_large_assignment_is_looked_at_part_by_part(store: &dyn Store) {
    const HOSTS: usize = 1510;
    let names: Vec<String> = (0..HOSTS).map(|n| format!("sn-{n:04}")).collect();
    for name in &names {
        make::host(store, name).await;
    }
    let records: Vec<_> = names.iter().map(|name| status(name, None, 1000)).collect();
    for part in records.chunks(500) {
        store.record_statuses(part).await.expect("a batch");
    }
    group(store, "g", Some("!old"), &[]).await;
    let fit = store.fit_assignment(&draft(0)).await.expect("a count");
    let hosts: Vec<i64> = fit.iter().map(|it| it.hosts).collect();
    assert_eq!(hosts, [1510], "all are of one kind");
    let held = lease(store).await;
    insert(
        store,
        &assignment("a1", "g", "2.0", json!({ "parallel": 1 })),
    )
    .await;
    let number = row(store, "a1").await.rollout.number;
    let now = 20 * SECOND;
    let turned = store.turn_rollout(&held, number, now).await;
    let Held::Done(turned) = turned.expect("a turn") else {
        panic!("the lease is gone")
    };
    assert!(turned.is_more);
    let part = row(store, "a1").await;
    assert_eq!((part.rollout.targets, part.census), (1500, None));
    // Whoever goes on from here does the same.
    step(store, &held, now).await;
    let whole = row(store, "a1").await;
    assert_eq!(whole.rollout.targets, 1510);
    assert_eq!(whole.census.expect("a whole look").hosts, 1510);
    assert_eq!(whole.sweep, None);
    let total = whole.rollout.counts.total();
    assert_eq!((total.of(Ordered), total.of(Waiting)), (1, 1509));
}

pub(crate) async fn an_assignment_waits_after_a_restore_and_for_a_second_user(store: &dyn Store) {
    online(store, &["sn-1", "sn-2"], None).await;
    group(store, "g", None, &["sn-1", "sn-2"]).await;
    let held = lease(store).await;
    let plan = json!({ "confirmation": "second_user", "parallel": 1 });
    insert(store, &assignment("a1", "g", "2.0", plan)).await;
    let mut now = 20 * SECOND;
    step(store, &held, now).await;
    let waiting = are(&[("sn-1", Waiting), ("sn-2", Waiting)]);
    assert_eq!(states(store, "a1").await, waiting);
    let confirm = |by: &str| AssignmentOrder::Confirm { by: by.into() };
    assert_eq!(
        order(store, "a1", confirm("user:a"), now).await,
        AssignmentStored::Refused(Refusal::SameUser)
    );
    done(order(store, "a1", confirm("user:b"), now).await);
    step(store, &held, now + 1).await;
    assert_eq!(states(store, "a1").await[0].1, Ordered);
    push(store, status("sn-1", None, now + 2)).await;
    store.restored(now + 3).await.expect("a write");
    now += 20 * SECOND;
    step(store, &held, now).await;
    let phase = row(store, "a1").await.rollout.stand.phase;
    assert_eq!(phase, Phase::Paused(Pause::Restored));
    assert_eq!(states(store, "a1").await[1].1, Waiting);
    done(order(store, "a1", AssignmentOrder::Resume, now).await);
    step(store, &held, now + 1).await;
    assert_eq!(states(store, "a1").await[1].1, Ordered);
}
