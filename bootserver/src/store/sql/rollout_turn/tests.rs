//! How much the database has to do for each kind of turn, for a fleet of some size.

use std::collections::BTreeMap;

use bootagent_protocol::Action;
use serde_json::json;

use super::super::rollout_move::take_back;
use super::super::{STATISTICS, SqlStore, TIDY, failed, rollout_news, to_json};
use crate::access::scope::Scope;
use crate::fleet::rollout::goods::{Goods, Variant};
use crate::fleet::rollout::stand::Phase;
use crate::fleet::rollout::step::GIVE_UP_MILLIS;
use crate::fleet::rollout::target::TargetState;
use crate::store::audit::By;
use crate::store::batch::EventRow;
use crate::store::lease::{Held, Lease};
use crate::store::page::{Count, Limit};
use crate::store::rollout::{NewRollout, Order, RolloutInserted, TargetQuery, TargetSet, Turned};
use crate::store::{Result, Store};

/// Targets that have not ended when all others have.
const LEFT: i64 = 1700;
/// Hosts something happens to at once; more than a turn hears of.
const CROWD: i64 = 600;

/// The life of two rollouts over so many hosts, at least [`LEFT`]. Returns the most that was
/// done in one turn of each kind, as `meter` counts what the database does.
pub(in crate::store) async fn work_of_turns<M: AsyncFn() -> u64>(
    store: &SqlStore,
    hosts: i64,
    meter: M,
) -> BTreeMap<&'static str, u64> {
    let names: Vec<String> = (0..hosts).map(|place| format!("h-{place:06}")).collect();
    fill(store, &names).await.expect("hosts");
    sqlx::query(STATISTICS)
        .execute(&store.writer)
        .await
        .expect("statistics");
    let lease = store.take_lease("rollouts", "me", 600_000).await;
    let mut life = Life {
        store,
        lease: lease.expect("a write").expect("a lease"),
        meter,
        most: BTreeMap::new(),
    };
    let first = hosts - LEFT;
    let crowd = first + CROWD;

    let one = life.order_all("r1", "wait").await;
    life.turns("one writes targets down", one, 1000).await;
    life.end_all_before(one, first).await;
    life.turns("one hands out", one, 2000).await;
    life.run(
        "UPDATE job SET sent = 2000 WHERE rollout = $1 AND place < $2",
        one,
        crowd,
    )
    .await;
    life.turns("one hears what was sent", one, 2001).await;
    life.run(
        "UPDATE job SET finished = 3000, errcode = 0 WHERE rollout = $1 AND place < $2",
        one,
        crowd,
    )
    .await;
    life.turns("one hears results", one, 3001).await;
    life.crashes(&names[usize::try_from(first).expect("a place")..][..300])
        .await;
    life.turns("one hears of crashes", one, 4001).await;
    life.go_offline(&names[usize::try_from(crowd).expect("a place")..][..300])
        .await;
    life.turns("one hears who is offline", one, 5001).await;
    life.tell("r1", Order::Pause).await;
    life.turns("one that is paused takes back", one, 5002).await;

    let two = life.order_all("r2", "supersede").await;
    life.turns("another one writes targets down", two, 6000)
        .await;
    life.end_all_before(two, first).await;
    life.turns("another one takes over", two, 6001).await;
    life.run(
        "UPDATE job SET sent = 6002 WHERE rollout = $1 AND place < $2",
        two,
        crowd,
    )
    .await;
    life.tell("r2", Order::Abort).await;
    life.turns("one that was aborted skips", two, 6003).await;
    let never = life.expires("r1").await + GIVE_UP_MILLIS;
    life.turns("one gives up", two, never).await;
    life.turns("one expires", one, never).await;
    life.lists(one).await;
    life.most
}

/// What taking back one job of each of these hosts takes, when the database last looked
/// before there were any.
pub(in crate::store) async fn work_of_taking_back<M: AsyncFn() -> u64>(
    store: &SqlStore,
    hosts: i64,
    meter: M,
) -> u64 {
    sqlx::query(STATISTICS)
        .execute(&store.writer)
        .await
        .expect("statistics");
    let names: Vec<String> = (0..hosts).map(|place| format!("h-{place:06}")).collect();
    fill(store, &names).await.expect("hosts and jobs");
    let jobs: Vec<String> = names
        .iter()
        .take(250)
        .map(|it| format!("open-{it}"))
        .collect();
    let before = meter().await;
    let mut tx = store
        .write("taking jobs back")
        .await
        .expect("a transaction");
    let taken = take_back(&mut tx, jobs.iter()).await.expect("jobs");
    assert_eq!(taken.len(), jobs.len());
    tx.commit().await.expect("a commit");
    meter().await - before
}

/// What hearing 40 pieces of news of a rollout with 8,000 targets takes, when the database
/// last looked while there was another one only.
pub(in crate::store) async fn work_of_hearing<M: AsyncFn() -> u64>(
    store: &SqlStore,
    meter: M,
) -> u64 {
    for statement in [
        "WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 20000)
         INSERT INTO rollout_target (rollout, place, agentsn, state)
         SELECT 1, n, CAST(n AS TEXT), 'waiting' FROM count",
        STATISTICS,
        "DELETE FROM rollout_target",
        TIDY,
        "WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 8000)
         INSERT INTO rollout_target (rollout, place, agentsn, state)
         SELECT 2, n, CAST(n AS TEXT), 'waiting' FROM count",
        "WITH RECURSIVE count (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 40)
         INSERT INTO rollout_news (rollout, place) SELECT 2, n FROM count",
    ] {
        let said = sqlx::query(statement).execute(&store.writer).await;
        said.expect("a statement");
    }
    let before = meter().await;
    let mut tx = store.write("hearing").await.expect("a transaction");
    let news = rollout_news::news(&mut tx, 2).await.expect("news");
    assert_eq!(news.len(), 40);
    tx.commit().await.expect("a commit");
    meter().await - before
}

/// What was done with ten times as many targets is what was done with few.
pub(in crate::store) fn assert_costs_the_same(
    few: &BTreeMap<&'static str, u64>,
    many: &BTreeMap<&'static str, u64>,
) {
    let pairs = few.iter().map(|(what, few)| (*what, *few, many[what]));
    for (what, few, many) in pairs.clone() {
        println!("{what}: {few}, and with ten times as many targets {many}");
    }
    let dearer: Vec<_> = pairs
        .filter(|(_, few, many)| *many > few + few / 5 + 100)
        .collect();
    assert_eq!(
        dearer,
        [],
        "these turns cost more where there are more targets"
    );
}

async fn fill(store: &SqlStore, names: &[String]) -> Result<()> {
    let step = "making hosts";
    let mut tx = store.write(step).await?;
    for statement in [
        concat!(
            "INSERT INTO host (agentsn, secret, created, registered, hostname, version, os, arch,
                               ip, state, since)
             SELECT given.value, given.value, 1, 1, given.value, 'v', 'linux', 'x86_64', '[]',
                    'online', 1 FROM ",
            given_texts!("$1")
        ),
        concat!(
            "INSERT INTO host_agent (agentsn, name, version, state)
             SELECT given.value, 'a', '1.0', 'running' FROM ",
            given_texts!("$1")
        ),
        concat!(
            "INSERT INTO event (agentsn, source, boot_id, seq, received, timestamp, category,
                                subject, version, message, tail)
             SELECT given.value, 'bootagent', 'b', 0, 1, 1, 'crash', 'a', '1.0', '', '[]' FROM ",
            given_texts!("$1")
        ),
        // Of other agents: one that is done, and one that waits.
        concat!(
            "INSERT INTO job (id, agentsn, action, name, body, created, expires, finished)
             SELECT 'done-' || given.value, given.value, 'stop', 'b', '{}', 1, 900000000000, 2 FROM ",
            given_texts!("$1")
        ),
        concat!(
            "INSERT INTO job (id, agentsn, action, name, body, created, expires)
             SELECT 'open-' || given.value, given.value, 'stop', 'b', '{}', 1, 900000000000 FROM ",
            given_texts!("$1")
        ),
    ] {
        sqlx::query(statement)
            .bind(to_json(names))
            .execute(&mut *tx)
            .await
            .map_err(failed(step))?;
    }
    tx.commit().await.map_err(failed(step))
}

/// Rollouts, and what was counted.
struct Life<'a, M> {
    store: &'a SqlStore,
    lease: Lease,
    meter: M,
    most: BTreeMap<&'static str, u64>,
}

impl<M: AsyncFn() -> u64> Life<'_, M> {
    /// A rollout over every host, all at once.
    async fn order_all(&self, id: &str, contention: &str) -> i64 {
        let plan = json!({ "parallel": "all", "fail_count": -1, "contention": contention });
        let body = json!({ "action": "restart", "name": "a" });
        let variant = Variant {
            only_for: None,
            file: None,
            action: Action::Restart,
            version: Some("1.0".into()),
            body: body.as_object().expect("an object").clone(),
        };
        let new = NewRollout {
            id: id.into(),
            name: id.into(),
            action: Action::Restart,
            agent: "a".into(),
            version: None,
            goods: Goods {
                variants: vec![variant],
            },
            set: TargetSet::Query {
                selector: String::new(),
                group: None,
                hostname: None,
            },
            plan: serde_json::from_value(plan).expect("a plan"),
            author: "me".into(),
            follows: None,
            seen: None,
            created: 1000,
        };
        let by = By::local(1000);
        let inserted = self.store.insert_rollout(&new, &Scope::fleet(), &by).await;
        match inserted.expect("a write") {
            RolloutInserted::Done(row) => row.number,
            other => panic!("{other:?}"),
        }
    }

    async fn count(&mut self, what: &'static str, before: u64) {
        let done = (self.meter)().await - before;
        let most = self.most.entry(what).or_default();
        *most = done.max(*most);
    }

    /// Turns as long as one is written down, or moves targets. It must do something.
    async fn turns(&mut self, what: &'static str, rollout: i64, now: i64) {
        let mut sum = 0;
        loop {
            let is_freezing = self.phase(rollout).await == Phase::Freezing;
            let before = (self.meter)().await;
            let turned = self.store.turn_rollout(&self.lease, rollout, now).await;
            self.count(what, before).await;
            let Held::Done(Turned { frozen, moved, .. }) = turned.expect("a turn") else {
                panic!("the lease is gone")
            };
            sum += frozen + moved;
            let is_frozen = is_freezing && self.phase(rollout).await != Phase::Freezing;
            if is_frozen || frozen + moved == 0 {
                break;
            }
        }
        assert!(sum > 0, "{what}: nothing was done");
    }

    async fn phase(&self, rollout: i64) -> Phase {
        let id = format!("r{rollout}");
        let row = self
            .store
            .rollout(&id, &Scope::fleet())
            .await
            .expect("a read");
        row.expect("the rollout").stand.phase
    }

    async fn expires(&self, id: &str) -> i64 {
        let row = self
            .store
            .rollout(id, &Scope::fleet())
            .await
            .expect("a read");
        row.expect("the rollout").stand.expires
    }

    async fn tell(&self, id: &str, order: Order) {
        let by = By::local(5000);
        let told = self
            .store
            .order_rollout(id, &order, None, &Scope::fleet(), &by)
            .await;
        told.expect("a write");
    }

    async fn run(&self, statement: &'static str, rollout: i64, before: i64) {
        let done = sqlx::query(statement)
            .bind(rollout)
            .bind(before)
            .execute(&self.store.writer)
            .await
            .expect("a write");
        assert!(done.rows_affected() > 0, "{statement}");
    }

    /// What the database knows of its rows is from before: all of them waited.
    async fn end_all_before(&self, rollout: i64, place: i64) {
        let say = async |statement: &'static str| {
            let said = sqlx::query(statement).execute(&self.store.writer).await;
            said.expect("a statement");
        };
        say(STATISTICS).await;
        for statement in [
            concat!(
                "INSERT INTO rollout_target (rollout, place, agentsn, state)
                 SELECT pack.rollout, CAST(given.value ->> 0 AS BIGINT), given.value ->> 1, 'waiting'
                 FROM rollout_pack AS pack CROSS JOIN ",
                given_rows!("pack.hosts"),
                " WHERE pack.rollout = $1 AND pack.place < $2"
            ),
            "DELETE FROM rollout_pack WHERE rollout = $1 AND place < $2",
            "UPDATE rollout_target SET state = 'succeeded' WHERE rollout = $1 AND place < $2",
            "UPDATE rollout_count SET targets = targets - $2
             WHERE rollout = $1 AND state = 'waiting'",
            "INSERT INTO rollout_count (rollout, stage, state, targets)
             VALUES ($1, 0, 'succeeded', $2)",
        ] {
            self.run(statement, rollout, place).await;
        }
        say(TIDY).await;
    }

    /// Children end at these hosts, and their statuses say so.
    async fn crashes(&mut self, names: &[String]) {
        let step = "ends of children";
        let mut tx = self.store.write(step).await.expect("a transaction");
        let ids: Vec<i64> = sqlx::query_scalar(concat!(
            "INSERT INTO event (agentsn, source, boot_id, seq, received, timestamp, category,
                                subject, version, message, tail)
             SELECT given.value, 'bootagent', 'b', 1, 4000, 1, 'crash', 'a', '1.0', '', '[]' FROM ",
            given_texts!("$1"),
            " RETURNING id"
        ))
        .bind(to_json(names))
        .fetch_all(&mut *tx)
        .await
        .expect("events");
        let event = |agentsn| EventRow {
            agentsn,
            source: "bootagent",
            boot_id: "b",
            seq: 1,
            received: 4000,
            timestamp: 1,
            category: "crash",
            subject: "a",
            version: Some("1.0"),
            message: "",
            tail: "[]".into(),
        };
        let events: Vec<EventRow<'_>> = names.iter().map(|name| event(name)).collect();
        tx.commit().await.expect("a commit");
        let before = (self.meter)().await;
        let mut tx = self.store.write(step).await.expect("a transaction");
        let noted = rollout_news::note_ends(&mut tx, &events, &ids).await;
        noted.expect("a write");
        tx.commit().await.expect("a commit");
        self.count("statuses tell of crashes", before).await;
    }

    async fn go_offline(&mut self, names: &[String]) {
        let before = (self.meter)().await;
        sqlx::query("UPDATE host SET state = 'offline' WHERE agentsn BETWEEN $1 AND $2")
            .bind(names.first())
            .bind(names.last())
            .execute(&self.store.writer)
            .await
            .expect("a write");
        self.count("hosts go offline", before).await;
    }

    /// What operators look at meanwhile.
    async fn lists(&mut self, rollout: i64) {
        for (what, state) in [
            ("a page of targets", None),
            ("a page of targets that were lost", Some(TargetState::Lost)),
            (
                "a page of targets in no state there is",
                Some(TargetState::TimedOut),
            ),
        ] {
            let query = TargetQuery {
                rollout,
                state,
                after: None,
                scope: Scope::fleet(),
                count: Count::Not,
                limit: Limit::default(),
            };
            let before = (self.meter)().await;
            self.store.rollout_targets(&query).await.expect("a page");
            self.count(what, before).await;
        }
        let before = (self.meter)().await;
        assert_eq!(self.store.rollouts_due().await.expect("a read"), [0_i64; 0]);
        self.count("nothing is due", before).await;
    }
}
