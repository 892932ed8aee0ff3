//! An older program beside tables that a newer one has brought up to date meanwhile.

use bootserver::store::Store;
use bootserver::store::lease::Held;
use serde_json::json;

use super::assignments::{assignment, group, insert as assign, row as assignment_row};
use super::lease;
use super::rollouts::{does, insert, online, phase, push, rollout, row, step};
use crate::make;

/// The database is changed beside the store.
pub(crate) async fn an_older_program_turns_no_rollout(
    store: &dyn Store,
    change: impl AsyncFn(&'static str),
) {
    online(store, &["sn-1", "sn-2", "sn-3"]).await;
    let held = lease(store).await;
    let one_by_one = json!({ "parallel": 1 });
    insert(store, &rollout("r1", one_by_one, &["sn-1", "sn-2"])).await;
    group(store, "g", None, &["sn-3"]).await;
    assign(store, &assignment("a1", "g", "2.0", json!({}))).await;
    assert_eq!(store.unknown_migration().await.expect("a read"), None);
    step(store, &held, 2000).await;
    let before = (row(store, "r1").await, assignment_row(store, "a1").await);
    change(make::NEWER[0]).await;
    assert_eq!(store.unknown_migration().await.expect("a read"), Some(9999));
    // Not even under a lease it had before: what there is to do is found, and left.
    does(store, "sn-1", 0, 2001).await;
    let due = store.rollouts_due().await.expect("a read");
    assert_eq!(due.len(), 2, "{due:?}");
    for number in due {
        let turned = store.turn_rollout(&held, number, 100_000).await;
        assert_eq!(turned.expect("a turn"), Held::Lost);
    }
    assert_eq!(push(store, "sn-2", 2003).await, [""; 0]);
    let after = (row(store, "r1").await, assignment_row(store, "a1").await);
    assert_eq!(after, before);
    // As soon as it knows all there is, it goes on.
    change("DELETE FROM _sqlx_migrations WHERE version = 9999").await;
    step(store, &held, 2004).await;
    does(store, "sn-2", 0, 2005).await;
    step(store, &held, 2006).await;
    assert_ne!(phase(store, "r1").await, before.0.stand.phase);
}
