//! What only PostgreSQL can tell: the plans it makes and the rows it looks at.

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::sync::{Mutex, MutexGuard};

use super::{PostgresStore, SESSION, WRITERS_PLAN, cluster, hot, queries, usable};
use crate::store::Store;
use crate::store::batch::SeenRow;

/// The cluster, for one test after another: what is dead stays in indexes, and is counted
/// where they are read, for as long as a transaction of another test goes on.
async fn alone_in_cluster() -> Option<(&'static cluster::Cluster, MutexGuard<'static, ()>)> {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    cluster::shared().map(|cluster| (cluster, turn))
}

#[tokio::test]
async fn every_list_of_hosts_is_gone_through_in_its_order() {
    let Some((cluster, _turn)) = alone_in_cluster().await else {
        return;
    };
    let address = cluster.empty().await;
    let options: PgConnectOptions = address.parse().expect("an address");
    // Then it sorts only what it cannot read in order.
    let unsorted = [("enable_sort", "off"), ("enable_incremental_sort", "off")];
    let store = PostgresStore::open(options.options(unsorted))
        .await
        .expect("a new database");
    sqlx::query(queries::GROUP)
        .execute(&store.writer)
        .await
        .expect("a group");
    for query in queries::every_query() {
        let plan = queries::plan(&store, &query).await;
        assert!(!plan.contains("Sort"), "{query:?}: {plan}");
    }
    // What counts all of them looks none of them up.
    let plan = queries::plan_of_count(&store).await;
    assert!(plan.contains("Seq Scan on host"), "{plan}");
    store.close().await;
}

#[tokio::test]
async fn a_look_at_hosts_finds_their_targets_by_the_host() {
    let Some((cluster, _turn)) = alone_in_cluster().await else {
        return;
    };
    let store = PostgresStore::open(cluster.empty().await.parse().expect("an address"));
    let store = store.await.expect("a new database");
    for sql in [
        queries::GROUP,
        "INSERT INTO rollout_target (rollout, place, agentsn, state)
         SELECT 1, n, 'h-' || n, 'waiting' FROM generate_series(1, 20000) AS n",
        super::STATISTICS,
    ] {
        let done = sqlx::query(sql).execute(&store.writer).await;
        done.expect("a group and targets");
    }
    let plan = queries::plan_of_look(&store).await;
    assert!(plan.contains("rollout_target_by_host"), "{plan}");
    store.close().await;
}

/// A store with one connection, so that what it read is told.
async fn alone(address: &str) -> PostgresStore {
    let options: PgConnectOptions = address.parse().expect("an address");
    let store = PostgresStore::open(options.clone()).await;
    let one = PgPoolOptions::new().max_connections(1);
    let session = options.options(SESSION).options(WRITERS_PLAN);
    let writer = one.connect_with(session).await.expect("a connection");
    PostgresStore {
        readers: writer.clone(),
        writer,
        ..store.expect("a new database")
    }
}

/// Rows and entries of indexes that were looked at so far; what this connection
/// did is told first.
async fn rows_read(pool: &PgPool) -> u64 {
    sqlx::query("SELECT pg_stat_force_next_flush()")
        .execute(pool)
        .await
        .expect("PostgreSQL 15 or newer");
    let read: i64 = sqlx::query_scalar(
        "SELECT CAST((SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))
                      FROM pg_stat_user_tables)
                   + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes) AS BIGINT)",
    )
    .fetch_one(pool)
    .await
    .expect("a count");
    u64::try_from(read).expect("a count")
}

#[tokio::test]
async fn a_turn_of_a_rollout_costs_the_same_for_ten_times_as_many_targets() {
    let Some((cluster, _turn)) = alone_in_cluster().await else {
        return;
    };
    let mut work = Vec::new();
    for hosts in [4_000, 40_000] {
        let store = alone(&cluster.empty().await).await;
        let meter = async || rows_read(&store.writer).await;
        work.push(queries::work_of_turns(&store, hosts, meter).await);
        store.close().await;
    }
    queries::assert_costs_the_same(&work[0], &work[1]);
}

#[tokio::test]
async fn jobs_are_taken_back_one_by_one_though_what_the_plan_knew_is_old() {
    let Some((cluster, _turn)) = alone_in_cluster().await else {
        return;
    };
    let store = alone(&cluster.empty().await).await;
    let meter = async || rows_read(&store.writer).await;
    let work = queries::work_of_taking_back(&store, 20_000, meter).await;
    assert!(work < 5_000, "{work} rows were read");
    store.close().await;
}

#[tokio::test]
async fn news_are_heard_one_by_one_though_the_plan_knew_another_rollout_only() {
    let Some((cluster, _turn)) = alone_in_cluster().await else {
        return;
    };
    let store = alone(&cluster.empty().await).await;
    let meter = async || rows_read(&store.writer).await;
    let work = queries::work_of_hearing(&store, meter).await;
    assert!(work < 1000, "{work} rows were read");
    store.close().await;
}

/// What PostgreSQL may believe of the table of jobs when it makes the plans it keeps.
const BELIEFS: [&[&str]; 4] = [
    &["SELECT 1"],
    // A few were open.
    &[JOBS_300, "ANALYZE"],
    // All had ended, and are there or gone since.
    &[JOBS_20000, END_ALL, "ANALYZE"],
    &[
        JOBS_20000,
        END_ALL,
        "ANALYZE",
        "DELETE FROM job",
        "VACUUM ANALYZE job",
    ],
];
const HOSTS_20000: &str =
    "INSERT INTO host (agentsn, secret, created, registered, hostname, version,
        os, arch, ip, state, since)
    SELECT 'h-' || n, 'h-' || n, 1, 1, 'h', 'v', 'linux', 'x86_64', '[]', 'online', 1
    FROM generate_series(1, 20000) AS n";
const JOBS_300: &str = "INSERT INTO job (id, agentsn, action, name, body, created, expires)
    SELECT 'a-' || n, 'h-' || n, 'stop', 'b', '{}', 1, 900000000000
    FROM generate_series(1, 300) AS n";
const JOBS_20000: &str = "INSERT INTO job (id, agentsn, action, name, body, created, expires)
    SELECT 'b-' || n, 'h-' || n, 'stop', 'b', '{}', 1, 900000000000
    FROM generate_series(1, 20000) AS n";
const END_ALL: &str = "UPDATE job SET finished = 1, errcode = 0";
const MORE_JOBS: &str = "INSERT INTO job (id, agentsn, action, name, body, created, expires)
    SELECT 'c-' || n, 'h-' || n, 'stop', 'b', '{}', 1, 900000000000
    FROM generate_series(1, 20000) AS n";

#[tokio::test]
async fn open_jobs_are_looked_up_host_by_host_whatever_was_believed_of_their_number() {
    let Some((cluster, _turn)) = alone_in_cluster().await else {
        return;
    };
    for belief in BELIEFS {
        let store = alone(&cluster.empty().await).await;
        let say = async |statement: &'static str| {
            let said = sqlx::query(statement).execute(&store.writer).await;
            said.unwrap_or_else(|error| panic!("{statement}: {error}"));
        };
        let names: Vec<String> = (1..=75).map(|n| format!("h-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let seen = |agentsn| SeenRow {
            agentsn,
            number: 1,
            every: 600,
            seen: 1,
            reported: 1,
            uptime: 1,
            readings: "{}".into(),
            digest: "",
        };
        let rows: Vec<SeenRow<'_>> = names.iter().map(|name| seen(name)).collect();
        let ask = async || {
            let mut tx = store.write("looking").await.expect("a transaction");
            let found = hot::look(&mut tx, &rows, 1).await.expect("a look");
            assert_eq!(found.len(), rows.len());
            let jobs = hot::open_jobs(&mut tx, &names, 1).await.expect("open jobs");
            tx.commit().await.expect("a commit");
            jobs.len()
        };
        say(HOSTS_20000).await;
        for statement in belief {
            say(statement).await;
        }
        // It keeps a plan from the sixth time on.
        for _ in 0..8 {
            ask().await;
        }
        say(MORE_JOBS).await;
        let before = rows_read(&store.writer).await;
        assert!(ask().await >= rows.len());
        let work = rows_read(&store.writer).await - before;
        assert!(work < 2000, "{belief:?}: {work} rows were read");
        store.close().await;
    }
}

#[test]
fn a_server_that_cannot_be_used_is_refused_with_the_remedy() {
    assert_eq!(usable(150_018, "UTF8", false), Ok(()));
    for (answer, remedy) in [
        (usable(120_000, "UTF8", false), "13 or newer"),
        (usable(150_018, "SQL_ASCII", false), "ENCODING 'UTF8'"),
        (usable(150_018, "UTF8", true), "the primary"),
    ] {
        assert!(answer.expect_err("not usable").contains(remedy));
    }
}
