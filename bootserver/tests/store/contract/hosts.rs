//! Hosts and how they are found.

use bootagent_protocol::{AgentReport, AgentState};
use bootserver::access::scope::Scope;
use bootserver::fleet::presence::Presence;
use bootserver::fleet::selector::Selector;
use bootserver::fleet::tags::Tags;
use bootserver::store::Store;
use bootserver::store::host::{
    AgentCondition, Direction, HostEdit, HostEdited, HostQuery, HostSort, RegistrationEffect,
    Removal, Removed, SortKey, TagsSet,
};
use bootserver::store::page::{Count, Total};
use bootserver::token::{Token, TokenKind};

use super::limit;
use crate::make;

pub(crate) async fn tags_are_replaced_and_found(store: &dyn Store) {
    for agentsn in ["sn-1", "sn-2"] {
        make::host(store, agentsn).await;
        let set = store
            .set_tags(
                agentsn,
                &make::tags("svc=ecs,cmpt=DB"),
                None,
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
            None,
            &make::fleet(),
            &make::by(1),
        )
        .await
        .expect("a write");
    assert_eq!(
        store
            .set_tags("sn-9", &Tags::default(), None, &make::fleet(), &make::by(1))
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

async fn found(store: &dyn Store, query: &HostQuery) -> Vec<String> {
    let page = store.hosts(query).await.expect("a list");
    page.items.into_iter().map(|host| host.agentsn).collect()
}

fn create() -> RegistrationEffect {
    RegistrationEffect::Create {
        enrolment: None,
        tags: Tags::default(),
        copy_of: None,
    }
}

pub(crate) async fn hosts_are_found_by_a_part_of_their_names_and_addresses(store: &dyn Store) {
    let id = "0192d1c0-0000-7000-8000-000000000001";
    for (agentsn, hostname, ip) in [
        (id, "Web-01.cn-North", "10.1.2.3"),
        ("sn-2", "web_02%", "10.11.2.3"),
        ("sn-3", "back\\slash\"quote", "fe80::1"),
        ("sn-4", "\u{673a}\u{623f}\u{4e00}\u{53f7}", "192.168.0.1"),
    ] {
        let mut host = make::registration(agentsn, create());
        host.reported.hostname = hostname.into();
        host.reported.ip = vec![ip.into()];
        store.register_host(&host).await.expect("a write");
    }
    let find = async |text: &str| {
        let query = HostQuery {
            search: Some(text.into()),
            ..HostQuery::default()
        };
        found(store, &query).await
    };
    assert_eq!(find("CN-NORTH").await, [id]);
    assert_eq!(find("web").await, [id, "sn-2"]);
    assert_eq!(find(".1.2.").await, [id]);
    assert_eq!(find("_02%").await, ["sn-2"]);
    assert_eq!(find("b_0").await, ["sn-2"]);
    assert_eq!(find("%%%").await, [""; 0]);
    assert_eq!(find("k\\sl").await, ["sn-3"]);
    assert_eq!(find("h\"q").await, ["sn-3"]);
    assert_eq!(find("\u{673a}\u{623f}\u{4e00}").await, ["sn-4"]);
    assert_eq!(find(&id.to_uppercase()).await, [id]);
    let mut renamed = make::status("sn-2", 5);
    renamed.state.hostname = "mail".into();
    store.record_statuses(&[renamed]).await.expect("a batch");
    assert_eq!(find("web").await, [id]);
    assert_eq!(find("mail").await, ["sn-2"]);
    // Together with what else is asked, and counted.
    let query = HostQuery {
        search: Some("10.".into()),
        hostname: Some("m".into()),
        count: Count::All,
        ..HostQuery::default()
    };
    let page = store.hosts(&query).await.expect("a list");
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.total, Some(Total::of(1)));
}

pub(crate) async fn hosts_paged_by_age_stay_in_place_when_they_are_renamed(store: &dyn Store) {
    for (agentsn, now) in [("sn-1", 1), ("sn-2", 2), ("sn-3", 3)] {
        let mut host = make::registration(agentsn, create());
        host.now = now;
        store.register_host(&host).await.expect("a write");
    }
    let mut query = HostQuery {
        sort: HostSort {
            key: SortKey::Created,
            direction: Direction::Up,
        },
        limit: limit(1),
        ..HostQuery::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = store.hosts(&query).await.expect("a list");
        seen.extend(page.items.into_iter().map(|host| host.agentsn));
        // The one that was there comes last by its name now, and the last one first.
        for (agentsn, hostname) in [("sn-1", "z"), ("sn-3", "a")] {
            let mut renamed = make::status(agentsn, 5);
            renamed.state.hostname = hostname.into();
            store.record_statuses(&[renamed]).await.expect("a batch");
        }
        let Some(next) = page.next else { break };
        query.after = Some(serde_json::from_str(&next).expect("a key"));
    }
    assert_eq!(seen, ["sn-1", "sn-2", "sn-3"]);
}

pub(crate) async fn hosts_are_sorted_and_paged_from_either_end(store: &dyn Store) {
    // Two of them came at the same time.
    for (agentsn, now) in [("sn-1", 30), ("sn-2", 10), ("sn-3", 20), ("sn-4", 20)] {
        let mut host = make::registration(agentsn, create());
        host.now = now;
        store.register_host(&host).await.expect("a write");
    }
    for (key, direction, expected) in [
        (
            SortKey::Hostname,
            Direction::Down,
            ["sn-4", "sn-3", "sn-2", "sn-1"],
        ),
        (
            SortKey::Created,
            Direction::Up,
            ["sn-2", "sn-3", "sn-4", "sn-1"],
        ),
        (
            SortKey::Created,
            Direction::Down,
            ["sn-1", "sn-4", "sn-3", "sn-2"],
        ),
        (
            SortKey::Since,
            Direction::Up,
            ["sn-2", "sn-3", "sn-4", "sn-1"],
        ),
    ] {
        for state in [None, Some(Presence::New)] {
            let mut query = HostQuery {
                sort: HostSort { key, direction },
                limit: limit(1),
                state,
                ..HostQuery::default()
            };
            let mut seen = Vec::new();
            loop {
                let page = store.hosts(&query).await.expect("a list");
                seen.extend(page.items.into_iter().map(|host| host.agentsn));
                let Some(next) = page.next else { break };
                query.after = Some(serde_json::from_str(&next).expect("a key"));
            }
            assert_eq!(seen, expected, "{key:?} {direction:?} {state:?}");
        }
    }
}

pub(crate) async fn what_operators_say_of_a_host_is_changed_by_who_has_seen_it(store: &dyn Store) {
    make::host(store, "sn-1").await;
    let fleet = make::fleet();
    let edit = |name: &str| HostEdit {
        display_name: Some(name.into()),
        notes: None,
    };
    let change = async |edit: HostEdit, revision, scope: &Scope| {
        let by = make::by(7);
        let edited = store.edit_host("sn-1", &edit, revision, scope, &by).await;
        edited.expect("a write")
    };
    assert_eq!(change(edit("a"), Some(1), &fleet).await, HostEdited::Done);
    assert_eq!(change(edit("b"), Some(1), &fleet).await, HostEdited::Stale);
    let outside = make::scope("svc=ecs");
    assert_eq!(change(edit("b"), None, &outside).await, HostEdited::Unknown);
    let (tags, by) = (make::tags("svc=ecs"), make::by(8));
    let set = store.set_tags("sn-1", &tags, Some(1), &fleet, &by);
    assert_eq!(set.await.expect("a write"), TagsSet::Stale);
    let set = store.set_tags("sn-1", &tags, Some(2), &fleet, &by);
    assert_eq!(set.await.expect("a write"), TagsSet::Done);
    assert_eq!(change(edit("c"), None, &outside).await, HostEdited::Done);
    let host = store.host("sn-1", &fleet).await.expect("a read");
    let host = host.expect("the host");
    assert_eq!(host.summary.display_name, "c");
    assert_eq!((host.summary.revision, host.notes.as_str()), (4, ""));
}

pub(crate) async fn agents_of_hosts_are_a_table_one_can_ask(store: &dyn Store) {
    for agentsn in ["sn-1", "sn-2"] {
        make::host(store, agentsn).await;
    }
    let agent = |name: &str, version: &str| AgentReport {
        name: name.into(),
        version: version.into(),
        status: AgentState::Running,
        uptime: 1,
        wanted: None,
        detail: None,
        retry_in: None,
        anomalies: None,
        message: None,
        pid: None,
        limits: None,
    };
    let push = async |agentsn: &str, now: i64, agents: Vec<AgentReport>| {
        let mut record = make::status(agentsn, now);
        record.state.body.agents = agents;
        record
    };
    let batch = [
        push("sn-1", 1, vec![agent("flux", "1"), agent("net", "1")]).await,
        push("sn-2", 1, vec![agent("flux", "2")]).await,
    ];
    store.record_statuses(&batch).await.expect("a batch");
    let ask = async |name: Option<&str>, version: Option<&str>| {
        let query = HostQuery {
            agent: AgentCondition {
                name: name.map(str::to_owned),
                version: version.map(str::to_owned),
                state: Some("running".into()),
            },
            ..HostQuery::default()
        };
        found(store, &query).await
    };
    assert_eq!(ask(None, None).await.len(), 2, "each host once");
    assert_eq!(ask(Some("flux"), Some("1")).await, ["sn-1"]);
    assert_eq!(ask(Some("net"), Some("2")).await, [""; 0]);
    let batch = [push("sn-1", 2, vec![agent("flux", "2")]).await];
    store.record_statuses(&batch).await.expect("a batch");
    assert_eq!(ask(Some("net"), None).await, [""; 0]);
    assert_eq!(ask(Some("flux"), Some("2")).await.len(), 2);
    let removal = Removal {
        agentsn: "sn-1".into(),
        to: Presence::Deleted,
        nobody: Token::generate(TokenKind::Host).digest(),
        revision: None,
    };
    let (fleet, by) = (make::fleet(), make::by(9));
    let removed = store.remove_host(&removal, &fleet, &by);
    assert_eq!(removed.await.expect("a write"), Removed::Done);
    assert_eq!(ask(Some("flux"), None).await, ["sn-2"]);
}
