//! Rollouts that come after others, and what several operators say of one at once.

use bootserver::fleet::rollout::stand::{Pause, Phase};
use bootserver::store::Store;
use bootserver::store::rollout::{
    Follows, NewRollout, Order, Ordered, RolloutInserted, RolloutQuery, Way,
};
use serde_json::json;

use super::lease;
use super::rollouts::{does, insert, online, phase, rollout, row, step};
use crate::make;

pub(crate) async fn of_two_who_follow_a_rollout_at_once_one_has_seen_it_last(store: &dyn Store) {
    online(store, &["sn-1"]).await;
    let held = lease(store).await;
    insert(store, &rollout("r1", json!({}), &["sn-1"])).await;
    step(store, &held, 2000).await;
    does(store, "sn-1", 3001, 2001).await;
    step(store, &held, 2002).await;
    let follow = async |id: &str, way, seen| {
        let new = NewRollout {
            follows: Some(Follows {
                id: "r1".into(),
                way,
            }),
            seen,
            ..rollout(id, json!({}), &["sn-1"])
        };
        let inserted = store
            .insert_rollout(&new, &make::fleet(), &make::by(3000))
            .await;
        inserted.expect("a write")
    };
    for round in 0..5 {
        let seen = Some(row(store, "r1").await.revision);
        let (one, other) = (format!("one-{round}"), format!("other-{round}"));
        let both = tokio::join!(
            follow(&one, Way::Again, seen),
            follow(&other, Way::Back, seen)
        );
        let (begun, id) = match both {
            (RolloutInserted::Done(row), RolloutInserted::Stale) => (row, one),
            (RolloutInserted::Stale, RolloutInserted::Done(row)) => (row, other),
            other => panic!("{other:?}"),
        };
        assert_eq!(begun.id, id);
        let late = follow("late", Way::Again, seen).await;
        assert_eq!(late, RolloutInserted::Stale);
    }
    // Who has looked at nothing begins one in any case, if there is something to follow.
    let unseen = follow("unseen", Way::Again, None).await;
    assert!(matches!(unseen, RolloutInserted::Done(_)), "{unseen:?}");
    let query = RolloutQuery::default();
    let all = store.rollouts(&query).await.expect("a page").items;
    assert_eq!(all.len(), 7, "{all:?}");
    let gone = NewRollout {
        follows: Some(Follows {
            id: "r0".into(),
            way: Way::Again,
        }),
        ..rollout("after nothing", json!({}), &["sn-1"])
    };
    let gone = store
        .insert_rollout(&gone, &make::fleet(), &make::by(3001))
        .await;
    assert_eq!(gone.expect("a write"), RolloutInserted::Stale);
}

pub(crate) async fn of_two_who_tell_a_rollout_something_at_once_one_has_seen_it_last(
    store: &dyn Store,
) {
    online(store, &["sn-1"]).await;
    let held = lease(store).await;
    insert(store, &rollout("r1", json!({}), &["sn-1"])).await;
    step(store, &held, 2000).await;
    let tell = async |what: Order, seen| {
        let (scope, by) = (make::fleet(), make::by(3000));
        let told = store.order_rollout("r1", &what, seen, &scope, &by).await;
        told.expect("a write")
    };
    for _ in 0..5 {
        let before = row(store, "r1").await;
        let what = match before.stand.phase {
            Phase::Paused(Pause::Operator) => Order::Resume,
            Phase::Running => Order::Pause,
            other => panic!("{other:?}"),
        };
        let seen = Some(before.revision);
        // A turn goes on meanwhile.
        let (one, other, turned) = tokio::join!(
            tell(what.clone(), seen),
            tell(what, seen),
            store.turn_rollout(&held, before.number, 3000)
        );
        turned.expect("a turn");
        let stale = [&one, &other]
            .into_iter()
            .filter(|told| **told == Ordered::Stale);
        assert_eq!(stale.count(), 1, "{one:?}, {other:?}");
        let told = [&one, &other]
            .into_iter()
            .any(|told| matches!(told, Ordered::Done(_)));
        assert!(told, "{one:?}, {other:?}");
        assert_ne!(phase(store, "r1").await, before.stand.phase);
    }
}
