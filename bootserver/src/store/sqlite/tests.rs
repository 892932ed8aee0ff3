use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::store::Store;
use crate::token::{Token, TokenKind};

const ENDLESS: &str = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)
                       SELECT count(*) FROM n";

#[tokio::test]
async fn what_takes_too_long_is_ended_and_its_connection_goes_on() {
    let limit = Duration::from_millis(100);
    let pool = hurried(pool_options(1), limit)
        .connect_with(SqliteConnectOptions::new())
        .await
        .expect("a database in memory");
    for _ in 0..2 {
        let endless = sqlx::query(ENDLESS).fetch_one(&pool).await;
        let error = endless.expect_err("it has no end");
        assert_eq!(failure_of(&error), Failure::Unavailable, "{error}");
        sqlx::query("SELECT 1")
            .fetch_one(&pool)
            .await
            .expect("a row");
    }
    pool.close().await;
}

#[tokio::test]
async fn who_calls_is_looked_up_while_lists_take_all_readers() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(&directory.path().join("a.db"))
        .await
        .expect("a new database");
    let mut taken = Vec::new();
    for _ in 0..READERS {
        taken.push(store.readers.acquire().await.expect("a reader"));
    }
    let digest = |kind| Token::generate(kind).digest();
    let none = store.token_owner(&digest(TokenKind::Api)).await;
    assert!(none.expect("a read").is_none());
    let none = store.session_owner(&digest(TokenKind::Session)).await;
    assert!(none.expect("a read").is_none());
    let none = store.secret_owner(&digest(TokenKind::Host)).await;
    assert!(none.expect("a read").is_none());
    let none = store.enrolment_token(&digest(TokenKind::Enrolment)).await;
    assert!(none.expect("a read").is_none());
    let none = store.user_by_name("nobody").await;
    assert!(none.expect("a read").is_none());
    assert!(store.known_host("nobody").await.expect("a read").is_none());
    store.ping().await.expect("the database answers");
    drop(taken);
    store.close().await;
}

#[tokio::test]
async fn every_list_of_hosts_is_gone_through_in_its_order() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(&directory.path().join("a.db"))
        .await
        .expect("a new database");
    sqlx::query(queries::GROUP)
        .execute(&store.writer)
        .await
        .expect("a group");
    for query in queries::every_query() {
        let plan = queries::plan(&store, &query).await;
        assert!(!plan.contains("TEMP B-TREE"), "{query:?}: {plan}");
        let first = plan.lines().next().unwrap_or_default();
        assert!(first.contains("INDEX host_by_"), "{query:?}: {plan}");
    }
    store.close().await;
}

#[tokio::test]
async fn housekeeping_leaves_the_writer_the_pages_it_keeps() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(&directory.path().join("a.db")).await;
    let store = store.expect("a new database");
    let large = "CREATE TABLE large AS
                     WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 1000)
                     SELECT zeroblob(1000) AS bytes FROM n;
                 DROP TABLE large";
    let made = sqlx::raw_sql(large).execute(&store.writer).await;
    made.expect("free pages");
    let asked = async |what: &'static str| -> i64 {
        let row = sqlx::query_scalar(what).fetch_one(&store.writer).await;
        row.expect("a number")
    };
    let (free, changed) = ("PRAGMA freelist_count", "PRAGMA data_version");
    let before = (asked(free).await, asked(changed).await);
    store.maintain(Upkeep::Usual).await.expect("it is done");
    // The latter counts what others commit.
    assert_eq!(
        (asked(free).await, asked(changed).await),
        (before.0 - 64, before.1)
    );
    store.close().await;
}

#[tokio::test]
async fn all_hosts_are_counted_in_a_row() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(&directory.path().join("a.db")).await;
    let store = store.expect("a new database");
    let plan = queries::plan_of_count(&store).await;
    assert!(plan.starts_with("SCAN host\n"), "{plan}");
    store.close().await;
}

#[tokio::test]
async fn a_look_at_hosts_finds_their_targets_by_the_host() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(&directory.path().join("a.db")).await;
    let store = store.expect("a new database");
    sqlx::query(queries::GROUP)
        .execute(&store.writer)
        .await
        .expect("a group");
    let plan = queries::plan_of_look(&store).await;
    assert!(
        plan.contains("SEARCH target USING INDEX rollout_target_by_host (agentsn=? AND rollout=?)"),
        "{plan}"
    );
    assert!(!plan.contains("SCAN"), "{plan}");
    store.close().await;
}

/// A store whose only connection counts its steps.
async fn counted(directory: &Path) -> (SqliteStore, Arc<AtomicU64>) {
    let store = SqliteStore::open(&directory.join("a.db")).await;
    let store = store.expect("a new database");
    let steps = Arc::new(AtomicU64::new(0));
    let counted = steps.clone();
    let mut writer = store.writer.acquire().await.expect("a connection");
    let mut handle = writer.lock_handle().await.expect("its handle");
    handle.set_progress_handler(1, move || {
        counted.fetch_add(1, Ordering::Relaxed);
        true
    });
    drop(handle);
    drop(writer);
    let readers = store.writer.clone();
    (SqliteStore { readers, ..store }, steps)
}

#[tokio::test]
async fn jobs_are_taken_back_one_by_one_though_what_the_plan_knew_is_old() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let (store, steps) = counted(directory.path()).await;
    let meter = async || steps.load(Ordering::Relaxed);
    let work = queries::work_of_taking_back(&store, 20_000, meter).await;
    assert!(work < 100_000, "{work} steps");
    store.close().await;
}

#[tokio::test]
async fn news_are_heard_one_by_one_though_the_plan_knew_another_rollout_only() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let (store, steps) = counted(directory.path()).await;
    let meter = async || steps.load(Ordering::Relaxed);
    let work = queries::work_of_hearing(&store, meter).await;
    assert!(work < 10_000, "{work} steps");
    store.close().await;
}

#[tokio::test]
async fn a_turn_of_a_rollout_costs_the_same_for_ten_times_as_many_targets() {
    let mut work = Vec::new();
    for hosts in [4_000, 40_000] {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let (store, steps) = counted(directory.path()).await;
        let meter = async || steps.load(Ordering::Relaxed);
        work.push(queries::work_of_turns(&store, hosts, meter).await);
        store.close().await;
    }
    queries::assert_costs_the_same(&work[0], &work[1]);
}
