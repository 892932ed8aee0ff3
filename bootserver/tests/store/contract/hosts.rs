//! Hosts and how they are found.

use bootserver::fleet::selector::Selector;
use bootserver::fleet::tags::Tags;
use bootserver::store::Store;
use bootserver::store::host::HostQuery;
use bootserver::store::host::RegistrationEffect;
use bootserver::store::host::TagsSet;

use super::limit;
use crate::make;

pub(crate) async fn tags_are_replaced_and_found(store: &dyn Store) {
    for agentsn in ["sn-1", "sn-2"] {
        make::host(store, agentsn).await;
        let set = store
            .set_tags(
                agentsn,
                &make::tags("svc=ecs,cmpt=DB"),
                &make::fleet(),
                &make::by(1),
            )
            .await;
        assert_eq!(set.expect("a write"), TagsSet::Done);
    }
    store
        .set_tags(
            "sn-2",
            &make::tags("svc=ecs,rack=7"),
            &make::fleet(),
            &make::by(1),
        )
        .await
        .expect("a write");
    assert_eq!(
        store
            .set_tags("sn-9", &Tags::default(), &make::fleet(), &make::by(1))
            .await
            .expect("a write"),
        TagsSet::Unknown
    );
    let find = async |selector: &str| {
        let query = HostQuery {
            selector: Selector::parse(selector).expect("a selector"),
            ..HostQuery::default()
        };
        let page = store.hosts(&query).await.expect("a list");
        page.items
            .into_iter()
            .map(|host| host.agentsn)
            .collect::<Vec<_>>()
    };
    assert_eq!(find("svc=ecs").await, ["sn-1", "sn-2"]);
    assert_eq!(find("svc=ecs,cmpt=DB").await, ["sn-1"]);
    assert_eq!(find("cmpt=DB,rack=7").await, [""; 0]);
    let detail = store
        .host("sn-2", &make::fleet())
        .await
        .expect("a read")
        .expect("the host");
    assert_eq!(detail.summary.tags, make::tags("svc=ecs,rack=7"));
}

pub(crate) async fn hosts_are_paged_by_name(store: &dyn Store) {
    for n in 0..5 {
        make::host(store, &format!("sn-{n}")).await;
    }
    let mut query = HostQuery {
        limit: limit(2),
        ..HostQuery::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = store.hosts(&query).await.expect("a list");
        seen.extend(page.items.iter().map(|host| host.agentsn.clone()));
        let Some(next) = page.next else { break };
        query.after = Some(serde_json::from_str(&next).expect("a key"));
    }
    assert_eq!(seen, ["sn-0", "sn-1", "sn-2", "sn-3", "sn-4"]);
    let prefix = |text: &str| HostQuery {
        hostname: Some(text.into()),
        ..HostQuery::default()
    };
    assert_eq!(
        store
            .hosts(&prefix("host of sn-3"))
            .await
            .expect("a list")
            .items
            .len(),
        1
    );
    assert_eq!(
        store
            .hosts(&prefix("host of"))
            .await
            .expect("a list")
            .items
            .len(),
        5
    );
    assert_eq!(
        store.hosts(&prefix("%")).await.expect("a list").items.len(),
        0
    );
    let some = ["sn-1".to_owned(), "nobody".to_owned()];
    assert_eq!(
        store
            .hosts_by_agentsn(&some, &make::fleet())
            .await
            .expect("a read")
            .len(),
        1
    );
}

pub(crate) async fn a_status_never_moves_an_identity_to_another_machine(store: &dyn Store) {
    make::host(store, "sn-1").await;
    let mut record = make::status("sn-1", 1);
    record.state.machine_id = Some("a clone".into());
    store.record_statuses(&[record]).await.expect("a batch");
    let machine = async || {
        store
            .known_host("sn-1")
            .await
            .expect("a read")
            .expect("the host")
    };
    assert_eq!(
        machine().await.machine_id.as_deref(),
        Some("machine of sn-1")
    );
    // A bare 002 agent said nothing at first.
    let create = RegistrationEffect::Create {
        enrolment: None,
        tags: Tags::default(),
        copy_of: None,
    };
    let mut bare = make::registration("sn-2", create);
    bare.reported.machine_id = None;
    store.register_host(&bare).await.expect("a write");
    let mut record = make::status("sn-2", 1);
    record.state.machine_id = Some("m2".into());
    store.record_statuses(&[record]).await.expect("a batch");
    let known = store
        .known_host("sn-2")
        .await
        .expect("a read")
        .expect("the host");
    assert_eq!(known.machine_id.as_deref(), Some("m2"));
}

pub(crate) async fn names_are_sorted_by_their_bytes(store: &dyn Store) {
    for (n, hostname) in ["b", "\u{e4}", "B", "a", "_", "a-b", "ab"]
        .iter()
        .enumerate()
    {
        let create = RegistrationEffect::Create {
            enrolment: None,
            tags: Tags::default(),
            copy_of: None,
        };
        let mut host = make::registration(&format!("sn-{n}"), create);
        host.reported.hostname = (*hostname).into();
        store.register_host(&host).await.expect("a write");
    }
    let page = store.hosts(&HostQuery::default()).await.expect("a list");
    let names: Vec<_> = page
        .items
        .into_iter()
        .map(|host| host.reported.hostname)
        .collect();
    assert_eq!(names, ["B", "_", "a", "a-b", "ab", "b", "\u{e4}"]);
}
