//! Rollouts that come after others.

use bootserver::store::Store;
use bootserver::store::rollout::{Follows, NewRollout, RolloutInserted, RolloutQuery, Way};
use serde_json::json;

use super::lease;
use super::rollouts::{does, insert, online, rollout, row, step};
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
