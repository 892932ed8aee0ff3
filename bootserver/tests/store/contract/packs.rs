//! Targets nothing was done about yet are packed, and nobody sees a difference.

use bootserver::fleet::rollout::stand::{End, Phase};
use bootserver::fleet::rollout::target::TargetState;
use bootserver::fleet::rollout::why::Rival;
use bootserver::store::Store;
use bootserver::store::lease::Held;
use bootserver::store::page::{Count, Limit};
use bootserver::store::retention::Kept;
use bootserver::store::rollout::{NewRollout, Order, TargetQuery, TargetRow, TargetSet, Way};
use serde_json::{Value, json};

use super::lease;
use super::rollouts::{insert, leave, online, order, phase, push, rollout, row, step};
use crate::make;

use TargetState::{Expired, Ordered, Skipped, Waiting};

/// More than two packs; a turn unpacks all it looks at of so few.
const HOSTS: usize = 300;
const COUNTED: i64 = 300;
/// A stage of one host, whose pack is unpacked; the others stay packed.
const ONE: &str = r#"{"stages": [{"upto": 1, "success": 100}, {"upto": "all"}]}"#;

fn plan(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn name(place: usize) -> String {
    format!("sn-{place:04}")
}

/// Hosts of which the first is online.
async fn fleet(store: &dyn Store) {
    online(store, &["sn-0000"]).await;
    for place in 1..HOSTS {
        make::host(store, &name(place)).await;
    }
}

/// A rollout over all hosts.
fn over_all(id: &str, plan: Value) -> NewRollout {
    let set = TargetSet::Query {
        selector: String::new(),
        group: None,
        hostname: None,
    };
    NewRollout {
        set,
        ..rollout(id, plan, &[])
    }
}

/// All targets, in pages, of those somebody sees; what is counted is what there is.
async fn listed(
    store: &dyn Store,
    id: &str,
    state: Option<TargetState>,
    selector: Option<&str>,
) -> Vec<TargetRow> {
    let mut query = TargetQuery {
        rollout: row(store, id).await.number,
        state,
        after: None,
        scope: selector.map_or_else(make::fleet, make::scope),
        count: Count::All,
        limit: Limit::new(70).expect("a limit"),
    };
    let mut all = Vec::new();
    loop {
        let page = store.rollout_targets(&query).await.expect("a page");
        let total = page.total.expect("a total").rows;
        all.extend(page.items);
        match page.next {
            Some(next) => query.after = Some(next.parse().expect("a place")),
            None => {
                assert_eq!(i64::try_from(all.len()), Ok(total));
                return all;
            }
        }
    }
}

fn places(targets: &[TargetRow]) -> Vec<usize> {
    let place = |target: &TargetRow| usize::try_from(target.place).expect("a place");
    targets.iter().map(place).collect()
}

pub(crate) async fn targets_are_listed_packed_or_not(store: &dyn Store) {
    fleet(store).await;
    let tagged = store
        .set_tags(
            "sn-0200",
            &make::tags("svc=db"),
            None,
            &make::fleet(),
            &make::by(1),
        )
        .await;
    tagged.expect("a write");
    let held = lease(store).await;
    insert(store, &over_all("r1", plan(ONE))).await;
    step(store, &held, 2000).await;
    let all = listed(store, "r1", None, None).await;
    assert_eq!(places(&all), (0..HOSTS).collect::<Vec<_>>());
    assert!(
        all.iter()
            .all(|it| it.agentsn == name(usize::try_from(it.place).expect("a place")))
    );
    assert_eq!((all[0].state, all[299].state), (Ordered, Waiting));
    assert_eq!(all[299].hostname.as_deref(), Some("host of sn-0299"));
    let waiting = listed(store, "r1", Some(Waiting), None).await;
    assert_eq!(places(&waiting), (1..HOSTS).collect::<Vec<_>>());
    assert_eq!(listed(store, "r1", Some(Skipped), None).await, []);
    let seen = listed(store, "r1", Some(Waiting), Some("svc=db")).await;
    assert_eq!(places(&seen), [200]);
    // They end together.
    push(store, "sn-0000", 2001).await;
    order(store, "r1", Order::Abort, 2002).await;
    step(store, &held, 2003).await;
    let skipped = listed(store, "r1", Some(Skipped), None).await;
    assert_eq!(places(&skipped), (1..HOSTS).collect::<Vec<_>>());
    assert!(
        skipped
            .iter()
            .all(|it| { (it.since, it.reason.as_deref()) == (Some(2003), Some("stopped")) })
    );
    assert_eq!(listed(store, "r1", Some(Waiting), None).await, []);
    let counts = row(store, "r1").await.counts;
    assert_eq!(counts.total().of(Skipped), HOSTS as u64 - 1);
    assert_eq!(
        (counts.stage(1).of(Waiting), counts.stage(1).of(Skipped)),
        (0, 299)
    );
    // And are forgotten with their rollout.
    leave(store, "sn-0000").await;
    step(store, &held, 2004).await;
    assert_eq!(phase(store, "r1").await, Phase::Ended(End::Aborted));
    for _ in 0..100 {
        let forgotten = store.forget(&held, Kept::Rollouts, 3000, 100).await;
        if forgotten.expect("a write") == Held::Done(0) {
            break;
        }
    }
    let gone = store.rollout("r1", &make::fleet()).await;
    assert_eq!(gone.expect("a read"), None);
}

pub(crate) async fn a_host_that_leaves_while_it_is_packed_is_skipped(store: &dyn Store) {
    fleet(store).await;
    let held = lease(store).await;
    insert(store, &over_all("r1", plan(ONE))).await;
    step(store, &held, 2000).await;
    leave(store, "sn-0290").await;
    step(store, &held, 2001).await;
    let skipped = listed(store, "r1", Some(Skipped), None).await;
    assert_eq!(places(&skipped), [290]);
    assert_eq!(skipped[0].reason.as_deref(), Some("host-gone"));
    let all = listed(store, "r1", None, None).await;
    assert_eq!(places(&all), (0..HOSTS).collect::<Vec<_>>());
    assert_eq!(row(store, "r1").await.counts.total().of(Skipped), 1);
}

pub(crate) async fn hosts_that_are_packed_are_waited_for_or_taken_over(store: &dyn Store) {
    fleet(store).await;
    for agentsn in ["sn-0250", "sn-0260"] {
        push(store, agentsn, 1000).await;
    }
    let held = lease(store).await;
    insert(store, &over_all("r1", plan(ONE))).await;
    insert(store, &rollout("r2", json!({}), &["sn-0250"])).await;
    step(store, &held, 2000).await;
    let waiting = listed(store, "r2", Some(Waiting), None).await;
    assert_eq!(waiting[0].busy_with, Some(Rival::Rollout("r1".into())));
    let taking = json!({ "contention": "supersede" });
    insert(store, &rollout("r3", taking, &["sn-0260"])).await;
    step(store, &held, 2001).await;
    assert_eq!(listed(store, "r3", Some(Ordered), None).await.len(), 1);
    let skipped = listed(store, "r1", Some(Skipped), None).await;
    assert_eq!(places(&skipped), [260]);
    assert_eq!(skipped[0].reason.as_deref(), Some("superseded"));
    assert_eq!(listed(store, "r2", Some(Waiting), None).await.len(), 1);
    // Nobody waits for whom an older one will not order any more.
    order(store, "r1", Order::Abort, 2002).await;
    step(store, &held, 2003).await;
    assert_eq!(listed(store, "r2", Some(Ordered), None).await.len(), 1);
}

pub(crate) async fn those_that_expire_packed_are_tried_again_if_that_counts(store: &dyn Store) {
    fleet(store).await;
    let held = lease(store).await;
    let plan = plan(
        r#"{"stages": [{"upto": 1, "success": 100}, {"upto": "all"}], "expires_in": 86400,
            "count_as_failed": ["expired"], "fail_count": 1000}"#,
    );
    let number = insert(store, &over_all("r1", plan)).await.number;
    step(store, &held, 2000).await;
    step(store, &held, 90_000_000).await;
    assert_eq!(phase(store, "r1").await, Phase::Ended(End::Expired));
    assert_eq!(listed(store, "r1", Some(Expired), None).await.len(), HOSTS);
    let again = TargetSet::Former {
        rollout: number,
        states: vec![Expired],
        way: Way::Again,
    };
    let counted = store.count_targets(&again, &make::fleet()).await;
    let counted = counted.expect("a count");
    assert_eq!(counted.iter().map(|one| one.hosts).sum::<i64>(), COUNTED);
}
