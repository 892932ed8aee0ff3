//! One change of many hosts.

use bootserver::access::scope::Scope;
use bootserver::fleet::presence::Presence;
use bootserver::store::Store;
use bootserver::store::audit::AuditQuery;
use bootserver::store::bulk::{BulkChange, BulkPart, PartChanged};
use bootserver::store::group::GroupTerms;
use bootserver::store::host::{HostQuery, TagsSet};
use bootserver::store::job::{JobPhase, JobQuery};
use bootserver::store::status::StatusOutcome;
use bootserver::token::{Token, TokenKind};

use crate::make;

const HOSTS: [&str; 3] = ["sn-1", "sn-2", "sn-3"];

fn part(agentsns: &[&str]) -> BulkPart {
    let nobody = |_| Token::generate(TokenKind::Host).digest();
    BulkPart {
        agentsns: agentsns.iter().map(|&agentsn| agentsn.to_owned()).collect(),
        nobodies: agentsns.iter().map(nobody).collect(),
    }
}

fn tag(set: &str, unset: &[&str]) -> BulkChange {
    BulkChange::Tag {
        set: make::tags(set),
        unset: unset.iter().map(|&key| key.to_owned()).collect(),
    }
}

async fn change(store: &dyn Store, change: &BulkChange, scope: &Scope) -> PartChanged {
    let mut all = HOSTS.to_vec();
    all.push("nobody");
    let changed = store
        .change_hosts(change, &part(&all), scope, &make::by(9))
        .await;
    changed.expect("a write")
}

async fn tags_of(store: &dyn Store, agentsn: &str) -> (String, i64) {
    let host = store.host(agentsn, &make::fleet()).await.expect("a read");
    let host = host.expect("a host").summary;
    (host.tags.to_string(), host.revision)
}

async fn audited(store: &dyn Store, action: &str) -> Vec<serde_json::Value> {
    let query = AuditQuery {
        action: Some(action.to_owned()),
        ..AuditQuery::default()
    };
    let rows = store.audit(&query).await.expect("a list").items;
    rows.into_iter().map(|row| row.detail).collect()
}

async fn fleet(store: &dyn Store) {
    for agentsn in HOSTS {
        make::host(store, agentsn).await;
    }
    let tags = make::tags("svc=ecs,old=1");
    let (fleet, by) = (make::fleet(), make::by(5));
    let set = store.set_tags("sn-1", &tags, None, &fleet, &by).await;
    assert_eq!(set.expect("a write"), TagsSet::Done);
}

pub(crate) async fn many_hosts_get_and_lose_tags_and_those_that_have_them_are_left_alone(
    store: &dyn Store,
) {
    fleet(store).await;
    let everybody = make::fleet();
    let wanted = tag("svc=ecs,rack=7", &["old", "never"]);
    assert_eq!(
        change(store, &wanted, &everybody).await,
        PartChanged::Done(3)
    );
    let first = tags_of(store, "sn-1").await;
    assert_eq!(first, ("rack=7,svc=ecs".to_owned(), 3));
    // Again, after it broke off for whoever asked: nothing happens twice.
    assert_eq!(
        change(store, &wanted, &everybody).await,
        PartChanged::Done(0)
    );
    assert_eq!(tags_of(store, "sn-1").await, first);
    let audited = audited(store, "host.bulk-tag").await;
    assert_eq!(audited.len(), 1);
    assert_eq!(audited[0]["hosts"], serde_json::json!(HOSTS));
    assert_eq!(audited[0]["set"], "rack=7,svc=ecs");

    // Only hosts of the scope, and none out of it.
    let set = make::tags("svc=web");
    let set = store
        .set_tags("sn-3", &set, None, &everybody, &make::by(5))
        .await;
    assert_eq!(set.expect("a write"), TagsSet::Done);
    let scope = make::scope("svc=ecs");
    let rack = tag("rack=8", &[]);
    assert_eq!(change(store, &rack, &scope).await, PartChanged::Done(2));
    assert_eq!(tags_of(store, "sn-3").await.0, "svc=web");
    let leaving = change(store, &tag("rack=9,svc=db", &[]), &scope).await;
    let PartChanged::LeavesScope(mut agentsns) = leaving else {
        panic!("{leaving:?}");
    };
    agentsns.sort();
    assert_eq!(agentsns, ["sn-1", "sn-2"]);
    assert_eq!(tags_of(store, "sn-1").await.0, "rack=8,svc=ecs");

    let many: Vec<String> = (0..63).map(|n| format!("k{n}=1")).collect();
    let crowded = change(store, &tag(&many.join(","), &[]), &everybody).await;
    let both = vec!["sn-1".to_owned(), "sn-2".to_owned()];
    assert_eq!(crowded, PartChanged::TooManyTags(both));
    assert_eq!(tags_of(store, "sn-3").await.0, "svc=web");
}

pub(crate) async fn many_hosts_are_taken_out_at_once(store: &dyn Store) {
    fleet(store).await;
    for agentsn in HOSTS {
        make::job(store, &format!("job of {agentsn}"), agentsn).await;
    }
    let everybody = make::fleet();
    let revoke = BulkChange::TakeOut(Presence::Revoked);
    let scope = make::scope("svc=ecs");
    assert_eq!(change(store, &revoke, &scope).await, PartChanged::Done(1));
    assert_eq!(
        change(store, &revoke, &everybody).await,
        PartChanged::Done(2)
    );
    assert_eq!(
        change(store, &revoke, &everybody).await,
        PartChanged::Done(0)
    );
    let outcomes = store.record_statuses(&[make::status("sn-2", 10)]).await;
    let outcomes = outcomes.expect("a batch");
    assert!(matches!(outcomes[0], StatusOutcome::SecretChanged));
    let open = JobQuery {
        phase: Some(JobPhase::Open),
        ..JobQuery::default()
    };
    assert_eq!(store.jobs(&open).await.expect("a list").items, []);
    let delete = BulkChange::TakeOut(Presence::Deleted);
    assert_eq!(
        change(store, &delete, &everybody).await,
        PartChanged::Done(3)
    );
    assert_eq!(
        change(store, &delete, &everybody).await,
        PartChanged::Done(0)
    );
    assert_eq!(audited(store, "host.bulk-revoke").await.len(), 2);
    assert_eq!(audited(store, "host.bulk-delete").await.len(), 1);
    let counts = store.host_counts().await.expect("the counters");
    let in_fleet: i64 = counts
        .iter()
        .filter(|(state, _)| *state != Presence::Deleted)
        .map(|(_, hosts)| hosts)
        .sum();
    assert_eq!(in_fleet, 0);
    assert!(counts.contains(&(Presence::Deleted, 3)), "{counts:?}");
}

pub(crate) async fn a_group_names_many_hosts_at_once(store: &dyn Store) {
    fleet(store).await;
    let everybody = make::fleet();
    let terms = GroupTerms {
        id: "named".into(),
        name: "named".into(),
        description: String::new(),
        selector: None,
        groups: std::collections::BTreeSet::new(),
        now: 7,
    };
    let add = BulkChange::Name("named".into());
    assert_eq!(change(store, &add, &everybody).await, PartChanged::NoGroup);
    let stored = store.insert_group(&terms, &make::by(7)).await;
    stored.expect("a write");
    let state = async || {
        let group = store.group("named").await.expect("a read");
        let group = group.expect("a group");
        (group.named, group.version)
    };
    assert_eq!(change(store, &add, &everybody).await, PartChanged::Done(3));
    assert_eq!(state().await, (3, 2));
    assert_eq!(change(store, &add, &everybody).await, PartChanged::Done(0));
    assert_eq!(state().await, (3, 2));
    let remove = BulkChange::NameNot("named".into());
    let some = part(&["sn-1", "sn-3"]);
    let changed = store
        .change_hosts(&remove, &some, &everybody, &make::by(9))
        .await;
    assert_eq!(changed.expect("a write"), PartChanged::Done(2));
    assert_eq!(state().await, (1, 3));
    assert_eq!(audited(store, "group.bulk-remove").await.len(), 1);
}

pub(crate) async fn all_hosts_of_a_query_are_found_if_they_are_not_too_many(store: &dyn Store) {
    fleet(store).await;
    let query = HostQuery {
        limit: super::limit(1),
        ..HostQuery::default()
    };
    let all = store.agentsns(&query, 3).await.expect("a list");
    assert_eq!(all, Some(HOSTS.map(str::to_owned).to_vec()));
    assert_eq!(store.agentsns(&query, 2).await.expect("a list"), None);
    let mine = HostQuery {
        scope: make::scope("svc=ecs"),
        ..HostQuery::default()
    };
    let mine = store.agentsns(&mine, 3).await.expect("a list");
    assert_eq!(mine, Some(vec!["sn-1".to_owned()]));
}
