//! What somebody who is restricted to some hosts finds of the others: nothing.

use bootserver::access::scope::{HostSet, Scope};
use bootserver::fleet::presence::Presence;
use bootserver::fleet::selector::Selector;
use bootserver::store::Store;
use bootserver::store::api_token::{ApiTokenInserted, NewApiToken};
use bootserver::store::event::EventQuery;
use bootserver::store::group::{GroupDeleted, GroupTerms, Naming};
use bootserver::store::host::{
    HostChangeQuery, HostEdit, HostEdited, HostQuery, Removal, Removed, RotationOrdered, TagsSet,
};
use bootserver::store::job::{Cancelled, JobQuery, JobsInserted, ResultQuery};
use bootserver::store::user::{UserChange, UserChanged, UserInserted};
use bootserver::token::{Token, TokenKind};

use super::limit;
use crate::make;

/// A group of this id: what it selects, and what is in it.
async fn group(store: &dyn Store, id: &str, selector: Option<&str>, groups: &[&str]) {
    let terms = GroupTerms {
        id: id.into(),
        name: format!("group {id}"),
        description: String::new(),
        selector: selector.map(|text| Selector::parse(text).expect("a selector")),
        groups: groups.iter().map(|id| (*id).to_owned()).collect(),
        now: 7,
    };
    let stored = store.insert_group(&terms, &make::by(7)).await;
    stored.expect("a write");
}

fn in_group(id: &str) -> Scope {
    Scope::of([HostSet::Group(id.into())]).expect("one set")
}

/// Two hosts that have done something, `sn-1` with `svc=ecs`, `sn-2` with `svc=web`.
async fn two_hosts(store: &dyn Store) {
    for (agentsn, tags) in [("sn-1", "svc=ecs,cmpt=DB"), ("sn-2", "svc=web")] {
        make::host(store, agentsn).await;
        let tags = make::tags(tags);
        let set = store
            .set_tags(agentsn, &tags, None, &make::fleet(), &make::by(5))
            .await;
        assert_eq!(set.expect("a write"), TagsSet::Done);
        make::job(store, &format!("job of {agentsn}"), agentsn).await;
        let mut status = make::status(agentsn, 6);
        status.events = vec![make::event(1, agentsn)];
        status.results = vec![make::outcome(&format!("job of {agentsn}"), 0)];
        store.record_statuses(&[status]).await.expect("a batch");
    }
}

/// Whose hosts, events, jobs and results a scope shows, each once.
async fn shown(store: &dyn Store, scope: &Scope) -> Vec<Vec<String>> {
    let scope = || scope.clone();
    let hosts = HostQuery {
        scope: scope(),
        ..HostQuery::default()
    };
    let jobs = JobQuery {
        scope: scope(),
        ..JobQuery::default()
    };
    let results = ResultQuery {
        scope: scope(),
        ..ResultQuery::default()
    };
    let events = EventQuery {
        scope: scope(),
        ..EventQuery::default()
    };
    let both = ["sn-1".to_owned(), "sn-2".to_owned()];
    let hosts = store.hosts(&hosts).await.expect("a list").items;
    let named = store.hosts_by_agentsn(&both, &scope()).await;
    let jobs = store.jobs(&jobs).await.expect("a list").items;
    let results = store.job_results(&results).await.expect("a list").items;
    let events = store.events(&events).await.expect("a list").items;
    let named = named.expect("a read").into_iter();
    vec![
        hosts.into_iter().map(|host| host.agentsn).collect(),
        named.map(|host| host.agentsn).collect(),
        jobs.into_iter().map(|job| job.agentsn).collect(),
        results.into_iter().map(|result| result.agentsn).collect(),
        events.into_iter().map(|event| event.agentsn).collect(),
    ]
}

/// That there is no `sn-2`, whatever is done to it.
async fn assert_nothing_reaches(store: &dyn Store, scope: &Scope) {
    let by = make::by(5);
    assert!(store.host("sn-2", scope).await.expect("a read").is_none());
    let job = store.job("job of sn-2", scope).await;
    assert!(job.expect("a read").is_none());
    let tags = make::tags("svc=ecs");
    let set = store.set_tags("sn-2", &tags, None, scope, &by).await;
    assert_eq!(set.expect("a write"), TagsSet::Unknown);
    let edit = HostEdit::default();
    let edited = store.edit_host("sn-2", &edit, None, scope, &by).await;
    assert_eq!(edited.expect("a write"), HostEdited::Unknown);
    let order = make::jobs("j9", "sn-2", None, None);
    let inserted = store.insert_jobs(&order, scope, &by).await;
    let unknown = JobsInserted::UnknownHosts(vec!["sn-2".into()]);
    assert_eq!(inserted.expect("a write"), unknown);
    let cancelled = store.cancel_job("open job", "x8", scope, &by).await;
    assert_eq!(cancelled.expect("a write"), Cancelled::Unknown);
    let rotation = store.order_rotation("sn-2", scope, &by).await;
    assert_eq!(rotation.expect("a write"), RotationOrdered::Unknown);
    let removed = store.remove_host(&removal("sn-2"), scope, &by).await;
    assert_eq!(removed.expect("a write"), Removed::Unknown);
    let changes = HostChangeQuery {
        agentsn: "sn-2".into(),
        scope: scope.clone(),
        before: None,
        limit: limit(9),
    };
    let changes = store.host_changes(&changes).await.expect("a list");
    assert_eq!(changes.items, []);
}

fn removal(agentsn: &str) -> Removal {
    Removal {
        agentsn: agentsn.into(),
        to: Presence::Deleted,
        nobody: Token::generate(TokenKind::Host).digest(),
        revision: None,
    }
}

pub(crate) async fn what_is_out_of_scope_is_not_there(store: &dyn Store) {
    two_hosts(store).await;
    make::job(store, "open job", "sn-2").await;
    group(store, "named", None, &[]).await;
    let naming = Naming {
        id: "named".into(),
        add: vec!["sn-1".into()],
        remove: Vec::new(),
    };
    let named = store.name_hosts(&naming, &make::by(7)).await;
    named.expect("a write");
    group(store, "nested", Some("svc=nothing"), &["named"]).await;
    group(store, "selected", Some("svc in (ecs,db),cmpt"), &[]).await;
    group(store, "negative", Some("svc!=web"), &[]).await;
    for (scope, leaves) in [
        (make::scope("svc=ecs"), true),
        (in_group("named"), false),
        (in_group("nested"), false),
        (in_group("selected"), true),
        (in_group("negative"), true),
        (in_group("nested").and(make::scope("cmpt=DB")), true),
    ] {
        assert_eq!(
            shown(store, &scope).await,
            vec![vec!["sn-1"]; 5],
            "{scope:?}"
        );
        assert_nothing_reaches(store, &scope).await;
        // Nobody moves a host out of what they may see.
        let to_web = make::tags("svc=web");
        let set = store
            .set_tags("sn-1", &to_web, None, &scope, &make::by(5))
            .await;
        let set = set.expect("a write");
        let expected = match leaves {
            true => TagsSet::LeavesScope,
            false => TagsSet::Done,
        };
        assert_eq!(set, expected, "{scope:?}");
        let back = make::tags("svc=ecs,cmpt=DB");
        let set = store
            .set_tags("sn-1", &back, None, &make::fleet(), &make::by(5))
            .await;
        assert_eq!(set.expect("a write"), TagsSet::Done);
    }
    // Where sets contradict each other nothing is left, and a group that is not there has nobody.
    for nothing in [
        make::scope("svc=ecs").and(make::scope("svc=web")),
        in_group("negative").and(make::scope("svc=web")),
        in_group("nobody"),
    ] {
        assert_eq!(shown(store, &nothing).await, vec![vec![""; 0]; 5]);
    }
    let all = shown(store, &Scope::fleet()).await;
    assert!(all.iter().all(|agentsns| agentsns.len() >= 2), "{all:?}");
    // A deleted host has no tags any more; that does not bring it in.
    let removed = store
        .remove_host(&removal("sn-2"), &make::fleet(), &make::by(9))
        .await;
    assert_eq!(removed.expect("a write"), Removed::Done);
    let left = shown(store, &in_group("negative")).await;
    assert_eq!(left, vec![vec!["sn-1"]; 5]);
    assert_nothing_reaches_deleted(store).await;
}

async fn assert_nothing_reaches_deleted(store: &dyn Store) {
    let scope = in_group("negative");
    assert!(store.host("sn-2", &scope).await.expect("a read").is_none());
    let deleted = HostQuery {
        state: Some(Presence::Deleted),
        scope,
        ..HostQuery::default()
    };
    assert_eq!(store.hosts(&deleted).await.expect("a list").items, []);
}

pub(crate) async fn a_group_somebody_is_restricted_to_stays(store: &dyn Store) {
    let by = make::by(5);
    let id = "0198c0de-0000-7000-8000-00000000000a";
    let other = "0198c0de-0000-7000-8000-00000000000b";
    let scope = in_group(id);
    let new = make::user("ann");
    let mut restricted = make::user("bob");
    restricted.scope = scope.clone();
    store.insert_user(&new, &by).await.expect("a write");
    // It must be there in the same moment.
    let unknown = vec![id.to_owned()];
    let inserted = store.insert_user(&restricted, &by).await;
    assert_eq!(
        inserted.expect("a write"),
        UserInserted::UnknownGroups(unknown.clone())
    );
    let change = |scope: Scope| UserChange {
        scope: Some(scope),
        ..UserChange::default()
    };
    group(store, id, None, &[]).await;
    group(store, other, None, &[]).await;
    let inserted = store.insert_user(&restricted, &by).await;
    let UserInserted::Done(bob) = inserted.expect("a write") else {
        panic!("the group is there");
    };
    assert_eq!(bob.scope, scope);
    let nowhere = change(in_group("0198c0de-0000-7000-8000-00000000000c"));
    let changed = store.change_user(&bob.id, &nowhere, None, &by).await;
    assert!(matches!(
        changed.expect("a write"),
        UserChanged::UnknownGroups(_)
    ));
    let token = NewApiToken {
        id: "t1".into(),
        name: "ci".into(),
        digest: Token::generate(TokenKind::Api).digest(),
        role: bob.role,
        scope: scope.clone(),
        maker: None,
        expires: Some(50),
    };
    let stored = store.insert_api_token(&token, &by).await.expect("a write");
    assert!(matches!(stored, ApiTokenInserted::Done(_)));
    let delete = async |at: i64| {
        let deleted = store.delete_group(id, None, &make::by(at)).await;
        deleted.expect("a write")
    };
    let users = vec!["bob".to_owned()];
    let api_tokens = vec!["ci".to_owned()];
    let both = GroupDeleted::IsScope {
        users: users.clone(),
        api_tokens,
    };
    assert_eq!(delete(6).await, both);
    // The token is over by then.
    let one = GroupDeleted::IsScope {
        users,
        api_tokens: Vec::new(),
    };
    assert_eq!(delete(60).await, one);
    let changed = store
        .change_user(&bob.id, &change(in_group(other)), None, &by)
        .await;
    assert!(matches!(changed.expect("a write"), UserChanged::Done(_)));
    assert_eq!(delete(60).await, GroupDeleted::Done);
}
