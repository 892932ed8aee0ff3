//! What is told of changes.

use bootserver::store::Store;
use bootserver::store::change::{Change, Heard, Topic, Which};
use bootserver::store::job::Cancelled;
use tokio::sync::mpsc;

use super::stored;
use crate::make;

/// Runs a test while somebody listens to the store.
async fn listening(store: &dyn Store, test: impl AsyncFnOnce(mpsc::Receiver<Heard>)) {
    let (listener, mut heard) = mpsc::channel(100);
    let test = async {
        // From here on everything is heard.
        assert_eq!(heard.recv().await, Some(Heard::Gap));
        test(heard).await;
    };
    tokio::select! {
        () = store.hear(listener) => panic!("the store ended"),
        () = test => {}
    }
}

/// What the next transaction told: topic, word and ids.
async fn next(heard: &mut mpsc::Receiver<Heard>) -> Vec<(&'static str, String, Vec<String>)> {
    let told = tokio::time::timeout(std::time::Duration::from_secs(60), heard.recv()).await;
    let Ok(Some(Heard::Changes(changes))) = told else {
        panic!("no changes: {told:?}");
    };
    let plain = |change: Change| {
        let ids = match change.which {
            Which::Ids(ids) => ids,
            Which::Many => vec!["many".into()],
        };
        (change.topic.as_str(), change.what.into_owned(), ids)
    };
    changes.into_iter().map(plain).collect()
}

fn one(topic: &'static str, what: &str, id: &str) -> (&'static str, String, Vec<String>) {
    (topic, what.to_owned(), vec![id.to_owned()])
}

pub(crate) async fn what_is_committed_is_told_and_nothing_else(store: &dyn Store) {
    listening(store, async |mut heard| {
        make::host(store, "sn-1").await;
        assert_eq!(next(&mut heard).await, [one("host", "new", "sn-1")]);
        store
            .record_statuses(&[make::status("sn-1", 1)])
            .await
            .expect("a batch");
        let arrived = [
            one("host", "changed", "sn-1"),
            one("host", "online", "sn-1"),
        ];
        assert_eq!(next(&mut heard).await, arrived);
        // The same again is no news, and neither is a host nobody knows:
        // what is heard next is the order.
        let mut same = make::status("sn-1", 1);
        same.now = 2;
        store.record_statuses(&[same]).await.expect("a batch");
        let unknown = [make::status("a host nobody knows", 3)];
        store.record_statuses(&unknown).await.expect("a batch");
        make::job(store, "j1", "sn-1").await;
        assert_eq!(next(&mut heard).await, [one("job", "ordered", "j1")]);
        let mut status = make::status("sn-1", 4);
        status.events.push(make::event(2, "m"));
        let outcomes = store.record_statuses(&[status.clone()]).await;
        let outcomes = outcomes.expect("a batch");
        assert_eq!(stored(&outcomes[0]).jobs.len(), 1);
        let told = next(&mut heard).await;
        assert_eq!(told[0], one("host", "changed", "sn-1"));
        assert_eq!((told[1].0, told[1].1.as_str()), ("event", "new"));
        assert_eq!(told[2], one("job", "sent", "j1"));
        status.accepted.push("j1".into());
        for _ in 0..2 {
            // It is there once: an event and a job that are known are no news.
            let status = [status.clone()];
            store.record_statuses(&status).await.expect("a batch");
        }
        assert_eq!(next(&mut heard).await, [one("job", "accepted", "j1")]);
        let cancelled = store
            .cancel_job("j1", "c1", &make::fleet(), &make::by(5))
            .await;
        assert_eq!(cancelled.expect("a write"), Cancelled::Asked);
        let asked = [one("job", "ordered", "c1"), one("job", "cancelling", "j1")];
        assert_eq!(next(&mut heard).await, asked);
        status.results.push(make::outcome("j1", 0));
        store.record_statuses(&[status]).await.expect("a batch");
        let ended = [one("job", "finished", "j1"), one("job", "sent", "c1")];
        assert_eq!(next(&mut heard).await, ended);
    })
    .await;
}

pub(crate) async fn who_may_not_see_a_host_hears_nothing_of_it(store: &dyn Store) {
    for agentsn in ["sn-1", "sn-2"] {
        make::host(store, agentsn).await;
    }
    let set = |agentsn: &'static str, tags: &'static str| async move {
        let (tags, fleet, by) = (make::tags(tags), make::fleet(), make::by(1));
        let set = store.set_tags(agentsn, &tags, None, &fleet, &by).await;
        set.expect("a write");
    };
    set("sn-1", "svc=ecs").await;
    make::job(store, "j1", "sn-1").await;
    make::job(store, "j2", "sn-2").await;
    let mut statuses = [make::status("sn-1", 1), make::status("sn-2", 1)];
    for status in &mut statuses {
        status.events.push(make::event(1, "m"));
    }
    store.record_statuses(&statuses).await.expect("a batch");
    let events = store.events(&Default::default()).await.expect("a list");
    let event = |agentsn: &str| {
        let mut events = events.items.iter();
        let event = events.find(|event| event.agentsn == agentsn);
        event.expect("an event").id.to_string()
    };
    let ecs = make::scope("svc=ecs");
    for (topic, mine, other) in [
        (Topic::Host, "sn-1".to_owned(), "sn-2".to_owned()),
        (Topic::Job, "j1".into(), "j2".into()),
        (Topic::Event, event("sn-1"), event("sn-2")),
    ] {
        let ids = [mine.clone(), other];
        let seen = store.visible(topic, &ids, &ecs).await.expect("a read");
        assert_eq!(seen, [mine]);
        let all = store.visible(topic, &ids, &make::fleet()).await;
        assert_eq!(all.expect("a read"), ids);
    }
    let ids = ["x".to_owned()];
    let group = store.visible(Topic::Group, &ids, &ecs).await;
    assert_eq!(group.expect("a read"), [""; 0]);
    let package = store.visible(Topic::Package, &ids, &ecs).await;
    assert_eq!(package.expect("a read"), ids);
}
