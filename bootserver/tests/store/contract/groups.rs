//! Groups, and which hosts a query means.

use std::collections::BTreeSet;

use bootserver::fleet::group::NestingError;
use bootserver::fleet::presence::Presence;
use bootserver::fleet::selector::Selector;
use bootserver::store::Store;
use bootserver::store::group::{
    Group, GroupDeleted, GroupQuery, GroupStored, GroupTerms, Named, Naming,
};
use bootserver::store::host::{HostQuery, Removal, Removed};
use bootserver::token::{Token, TokenKind};

use super::limit;
use crate::make;

fn selector(text: &str) -> Selector {
    Selector::parse(text).expect("a selector")
}

fn terms(id: &str, selected: Option<&str>, groups: &[&str]) -> GroupTerms {
    GroupTerms {
        id: id.into(),
        name: format!("group {id}"),
        description: String::new(),
        selector: selected.map(selector),
        groups: groups.iter().map(|id| (*id).to_owned()).collect(),
        now: 7,
    }
}

async fn insert(store: &dyn Store, terms: GroupTerms) -> Group {
    match store
        .insert_group(&terms, &make::by(7))
        .await
        .expect("a write")
    {
        GroupStored::Done(group) => group,
        other => panic!("{other:?}"),
    }
}

async fn name(store: &dyn Store, id: &str, add: &[&str], remove: &[&str]) -> Named {
    let owned = |sns: &[&str]| sns.iter().map(|sn| (*sn).to_owned()).collect();
    let naming = Naming {
        id: id.into(),
        add: owned(add),
        remove: owned(remove),
    };
    store
        .name_hosts(&naming, &make::by(8))
        .await
        .expect("a write")
}

/// Four hosts with tags.
async fn fleet(store: &dyn Store) {
    let tagged = [
        ("sn-1", "svc=ecs,region=eu"),
        ("sn-2", "svc=ecs,region=us,gpu=a100"),
        ("sn-3", "svc=web,region=cn"),
        ("sn-4", ""),
    ];
    for (agentsn, tags) in tagged {
        make::host(store, agentsn).await;
        store
            .set_tags(
                agentsn,
                &make::tags(tags),
                None,
                &make::fleet(),
                &make::by(1),
            )
            .await
            .expect("a write");
    }
}

async fn find(store: &dyn Store, query: HostQuery) -> Vec<String> {
    let page = store.hosts(&query).await.expect("a list");
    page.items.into_iter().map(|host| host.agentsn).collect()
}

async fn members(store: &dyn Store, group: &str) -> Vec<String> {
    let query = HostQuery {
        group: Some(group.into()),
        ..HostQuery::default()
    };
    find(store, query).await
}

pub(crate) async fn every_form_of_a_selector_finds_its_hosts(store: &dyn Store) {
    fleet(store).await;
    let found = async |text: &str| {
        let query = HostQuery {
            selector: selector(text),
            ..HostQuery::default()
        };
        find(store, query).await
    };
    assert_eq!(found("").await, ["sn-1", "sn-2", "sn-3", "sn-4"]);
    assert_eq!(found("svc=ecs").await, ["sn-1", "sn-2"]);
    assert_eq!(found("svc=ecs,region=us").await, ["sn-2"]);
    assert_eq!(found("svc!=ecs").await, ["sn-3", "sn-4"]);
    assert_eq!(found("region in (eu,cn)").await, ["sn-1", "sn-3"]);
    assert_eq!(found("gpu").await, ["sn-2"]);
    assert_eq!(found("!gpu,region").await, ["sn-1", "sn-3"]);
    assert_eq!(found("svc=nothing").await, [""; 0]);
}

pub(crate) async fn a_group_has_the_hosts_that_are_named_selected_or_in_its_groups(
    store: &dyn Store,
) {
    fleet(store).await;
    insert(store, terms("named", None, &[])).await;
    insert(store, terms("selected", Some("region in (cn,eu)"), &[])).await;
    insert(store, terms("both", None, &["named", "selected"])).await;
    insert(store, terms("top", Some("svc=nothing"), &["both"])).await;
    assert_eq!(members(store, "named").await, [""; 0]);
    let Named::Done(group) = name(store, "named", &["sn-4", "sn-2"], &[]).await else {
        panic!("they are hosts");
    };
    assert_eq!((group.named, group.version), (2, 2));
    assert_eq!(members(store, "named").await, ["sn-2", "sn-4"]);
    assert_eq!(members(store, "selected").await, ["sn-1", "sn-3"]);
    for group in ["both", "top"] {
        assert_eq!(
            members(store, group).await,
            ["sn-1", "sn-2", "sn-3", "sn-4"]
        );
    }
    let unknown = name(store, "named", &["sn-1", "sn-9"], &["sn-2"]).await;
    assert_eq!(unknown, Named::UnknownHosts(vec!["sn-9".into()]));
    assert_eq!(name(store, "nobody", &[], &[]).await, Named::Unknown);
    name(store, "named", &["sn-4"], &["sn-2"]).await;
    assert_eq!(
        members(store, "named").await,
        ["sn-4"],
        "nothing of what was refused"
    );
    // A selector narrows a group down; an unknown group has nobody.
    let query = HostQuery {
        group: Some("top".into()),
        selector: selector("svc=ecs"),
        ..HostQuery::default()
    };
    assert_eq!(find(store, query).await, ["sn-1"]);
    assert_eq!(members(store, "nobody").await, [""; 0]);
    let removal = Removal {
        agentsn: "sn-4".into(),
        to: Presence::Deleted,
        nobody: Token::generate(TokenKind::Host).digest(),
        revision: None,
    };
    assert_eq!(
        store
            .remove_host(&removal, &make::fleet(), &make::by(9))
            .await
            .expect("a write"),
        Removed::Done
    );
    let group = store
        .group("named")
        .await
        .expect("a read")
        .expect("the group");
    assert_eq!(group.named, 0, "who comes back is in no group");
}

pub(crate) async fn no_group_is_in_itself_and_none_is_lost_to_another(store: &dyn Store) {
    insert(store, terms("a", None, &[])).await;
    insert(store, terms("b", None, &["a"])).await;
    let change = async |terms: GroupTerms, version| {
        store
            .update_group(&terms, Some(version), &make::by(8))
            .await
            .expect("a write")
    };
    let cycle = GroupStored::Nesting(NestingError::Cycle("a".into()));
    assert_eq!(change(terms("a", None, &["b"]), 1).await, cycle);
    let unknown = GroupStored::UnknownGroups(vec!["z".into()]);
    assert_eq!(change(terms("a", None, &["z"]), 1).await, unknown);
    let twin = GroupTerms {
        name: "group b".into(),
        ..terms("a", None, &[])
    };
    assert_eq!(change(twin.clone(), 1).await, GroupStored::NameTaken);
    let twin = GroupTerms {
        id: "c".into(),
        ..twin
    };
    let inserted = store
        .insert_group(&twin, &make::by(7))
        .await
        .expect("a write");
    assert_eq!(inserted, GroupStored::NameTaken);
    let GroupStored::Done(changed) = change(terms("a", Some("svc=ecs"), &[]), 1).await else {
        panic!("it fits");
    };
    assert_eq!(
        (changed.version, changed.selector),
        (2, Some(selector("svc=ecs")))
    );
    assert_eq!(change(terms("a", None, &[]), 1).await, GroupStored::Changed);
    assert_eq!(change(terms("z", None, &[]), 1).await, GroupStored::Unknown);

    let delete = async |id: &str| {
        store
            .delete_group(id, None, &make::by(9))
            .await
            .expect("a write")
    };
    assert_eq!(
        delete("a").await,
        GroupDeleted::InUse(vec!["group b".into()])
    );
    let query = GroupQuery {
        after: None,
        limit: limit(1),
    };
    let page = store.groups(&query).await.expect("a list");
    assert_eq!(
        (page.items[0].id.as_str(), page.next.as_deref()),
        ("a", Some("\"group a\""))
    );
    let query = GroupQuery {
        after: Some("group a".into()),
        ..query
    };
    let page = store.groups(&query).await.expect("a list");
    assert_eq!(page.items[0].groups, BTreeSet::from(["a".to_owned()]));
    assert_eq!(page.next, None);
    assert_eq!(delete("b").await, GroupDeleted::Done);
    assert_eq!(delete("a").await, GroupDeleted::Done);
    assert_eq!(delete("a").await, GroupDeleted::Unknown);
}
