//! A PostgreSQL store on a database of its own, and what holds for PostgreSQL
//! alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bootserver::blob::Blobs;
use bootserver::store::change::{Heard, Topic};
use bootserver::store::event::EventQuery;
use bootserver::store::job::JobQuery;
use bootserver::store::lease::Held;
use bootserver::store::postgres::PostgresStore;
use bootserver::store::{Failure, FirstStart, FirstTokens, Store};
use bootserver::token::{Token, TokenKind};
use sqlx::Connection;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::OnceCell;

use crate::{cluster, make};

/// An open store.
pub(crate) struct Opened {
    address: String,
    store: PostgresStore,
}

impl Opened {
    pub(crate) fn store(&self) -> &dyn Store {
        &self.store
    }

    pub(crate) fn blobs(&self) -> Blobs {
        Blobs::rows(self.store.chunks().expect("PostgreSQL keeps them"))
    }

    /// How many of those one blob is.
    pub(crate) fn parts(&self, size: usize) -> usize {
        1 + size.div_ceil(1 << 20)
    }

    /// Blobs and chunks that are there, whoever they are of.
    pub(crate) async fn left(&self) -> usize {
        let count = "SELECT (SELECT count(*) FROM blob) + (SELECT count(*) FROM blob_chunk)";
        let mut direct = self.connect().await;
        let left: i64 = sqlx::query_scalar(count)
            .fetch_one(&mut direct)
            .await
            .expect("a count");
        direct.close().await.expect("a goodbye");
        usize::try_from(left).expect("a number")
    }

    /// A connection beside the store's.
    pub(crate) async fn connect(&self) -> sqlx::PgConnection {
        let connected = sqlx::PgConnection::connect(&self.address).await;
        connected.expect("a connection")
    }

    /// What another replica has.
    pub(crate) async fn another(&self) -> PostgresStore {
        connect(&self.address).await
    }

    pub(crate) async fn close(self) {
        self.store.close().await;
    }
}

/// A store with tables; nothing where there is no PostgreSQL.
pub(crate) async fn open() -> Option<Opened> {
    static TEMPLATE: OnceCell<()> = OnceCell::const_new();
    let cluster = cluster::shared()?;
    // Copying tables is quicker than making them.
    let made = TEMPLATE.get_or_init(async || {
        cluster
            .sql("CREATE DATABASE ready TEMPLATE template0")
            .await;
        connect(&cluster.address("ready")).await.close().await;
    });
    made.await;
    let address = cluster.copy_of("ready").await;
    let store = connect(&address).await;
    Some(Opened { address, store })
}

async fn connect(address: &str) -> PostgresStore {
    let options: PgConnectOptions = address.parse().expect("an address");
    PostgresStore::open(options).await.expect("a database")
}

#[tokio::test]
async fn a_batch_is_stored_whole_or_not_at_all() {
    let Some(opened) = open().await else { return };
    crate::contract::a_batch_is_stored_whole_or_not_at_all(opened.store()).await;
    opened.close().await;
}

#[tokio::test]
async fn every_text_is_compared_by_its_bytes() {
    let Some(opened) = open().await else { return };
    let mut connection = sqlx::PgConnection::connect(&opened.address)
        .await
        .expect("a connection");
    // Indexes over columns inherit what the columns have.
    let others: Vec<(String, String)> = sqlx::query_as(
        "SELECT attrelid::regclass::text, attname::text FROM pg_attribute
         JOIN pg_class ON pg_class.oid = attrelid
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND attnum > 0
           AND relname NOT LIKE '\\_sqlx%' AND attcollation NOT IN (
               0, (SELECT oid FROM pg_collation WHERE collname = 'C'))",
    )
    .fetch_all(&mut connection)
    .await
    .expect("a list");
    assert_eq!(others, [], "these columns want COLLATE \"C\"");
    connection.close().await.expect("a goodbye");
    opened.close().await;
}

#[tokio::test]
async fn several_that_start_at_once_make_the_tables_once() {
    let Some(cluster) = cluster::shared() else {
        return;
    };
    let address = cluster.empty().await;
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let address = address.clone();
            tokio::spawn(async move {
                let store = connect(&address).await;
                let token = |kind| Token::generate(kind).digest();
                let tokens = FirstTokens {
                    admin: make::user("admin"),
                    api: token(TokenKind::Api),
                    enrolment: token(TokenKind::Enrolment),
                };
                let first = store.first_start(&tokens, 1).await.expect("a write");
                store.close().await;
                first
            })
        })
        .collect();
    let mut firsts = 0;
    for start in starts {
        firsts += usize::from(start.await.expect("no panic") == FirstStart::First);
    }
    assert_eq!(firsts, 1);
}

#[tokio::test]
async fn the_character_postgresql_cannot_store_is_the_datas_fault() {
    let Some(opened) = open().await else { return };
    make::host(opened.store(), "sn-1").await;
    let mut record = make::status("sn-1", 1);
    record.state.hostname = "a\0b".into();
    let error = opened.store.record_statuses(&[record]).await;
    assert_eq!(error.expect_err("no text").failure, Failure::Rejected);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_on_misses_nothing_while_replicas_write() {
    let Some(opened) = open().await else { return };
    const WRITERS: i64 = 4;
    const ROUNDS: i64 = 30;
    for writer in 0..WRITERS {
        make::host(opened.store(), &format!("sn-{writer}")).await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (store, done) = (connect(&opened.address).await, done.clone());
        async move {
            let mut query = EventQuery::default();
            let mut seen = 0;
            loop {
                // Asked before the page: what was written until then is in it.
                let last = done.load(Ordering::SeqCst);
                let page = store.events(&query).await.expect("a page");
                seen += page.items.len();
                query.after = page.items.last().map(|event| event.id).or(query.after);
                if last && page.items.is_empty() {
                    store.close().await;
                    return seen;
                }
            }
        }
    });
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let store = connect(&opened.address).await;
        writers.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                let mut record = make::status(&format!("sn-{writer}"), round);
                record.events = (0..5).map(|n| make::event(round * 5 + n, "m")).collect();
                store.record_statuses(&[record]).await.expect("a batch");
            }
            store.close().await;
        }));
    }
    for writer in writers {
        writer.await.expect("no panic");
    }
    done.store(true, Ordering::SeqCst);
    let seen = reader.await.expect("no panic");
    assert_eq!(
        seen,
        usize::try_from(WRITERS * ROUNDS * 5).expect("a number")
    );
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_step_at_once_order_each_host_once() {
    let Some(opened) = open().await else { return };
    let names: Vec<String> = (0..20).map(|number| format!("sn-{number:02}")).collect();
    let id = crate::contract::order_of_all(opened.store(), &names).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut replicas = Vec::new();
    for holder in ["one", "two", "three"] {
        let (store, done) = (opened.another().await, done.clone());
        replicas.push(tokio::spawn(async move {
            let mut turns = 0;
            while !done.load(Ordering::SeqCst) {
                // So short that it often ends in the middle.
                let lease = store.take_lease("rollouts", holder, 3).await;
                let Some(lease) = lease.expect("a write") else {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                };
                for number in store.rollouts_due().await.expect("a read") {
                    let turned = store.turn_rollout(&lease, number, 2000).await;
                    turns += usize::from(matches!(turned.expect("a turn"), Held::Done(_)));
                }
            }
            store.close().await;
            turns
        }));
    }
    // Hosts push meanwhile and answer what they are given.
    let mut given = Vec::new();
    while given.len() < names.len() {
        for name in &names {
            given.extend(crate::contract::push_and_answer(opened.store(), name).await);
        }
    }
    while !crate::contract::is_done(opened.store(), &id).await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    done.store(true, Ordering::SeqCst);
    let mut stepped = 0;
    for replica in replicas {
        stepped += usize::from(replica.await.expect("no panic") > 0);
    }
    assert!(stepped > 1, "only one of them had a turn");
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), names.len(), "a host was ordered twice");
    let jobs = opened.store().jobs(&JobQuery::default()).await;
    assert_eq!(jobs.expect("a page").items.len(), names.len());
    opened.close().await;
}

#[tokio::test]
async fn an_older_program_turns_no_rollout() {
    let Some(opened) = open().await else { return };
    let change = async |statement: &'static str| {
        let mut direct = opened.connect().await;
        let changed = sqlx::raw_sql(statement).execute(&mut direct).await;
        changed.expect("a statement");
        direct.close().await.expect("a goodbye");
    };
    crate::contract::an_older_program_turns_no_rollout(opened.store(), change).await;
    opened.close().await;
}

#[tokio::test]
async fn an_older_server_works_with_newer_tables_unless_they_say_no() {
    let Some(opened) = open().await else { return };
    let options: PgConnectOptions = opened.address.parse().expect("an address");
    let mut direct = sqlx::PgConnection::connect(&opened.address)
        .await
        .expect("a connection");
    for statement in make::NEWER {
        sqlx::raw_sql(statement)
            .execute(&mut direct)
            .await
            .expect("a statement");
        let again = PostgresStore::open(options.clone()).await;
        let is_refused = statement.contains("9999'");
        match again {
            Ok(store) if !is_refused => store.close().await,
            Err(error) if is_refused => {
                assert!(bootserver::problem::chain(&error).contains("9999"));
            }
            other => panic!("{statement}: {other:?}"),
        }
    }
    opened.close().await;
}

#[tokio::test]
async fn a_list_that_takes_too_long_is_ended_and_statuses_are_stored_meanwhile() {
    let Some(opened) = open().await else { return };
    let store = opened.store();
    make::host(store, "sn-1").await;
    // Of an empty table nobody would wait for anything.
    let mut record = make::status("sn-1", 0);
    record.events = vec![make::event(1, "m")];
    store.record_statuses(&[record]).await.expect("a batch");
    let mut direct = sqlx::PgConnection::connect(&opened.address)
        .await
        .expect("a connection");
    // Whoever reads events from now on takes minutes.
    sqlx::raw_sql(
        "ALTER TABLE event RENAME TO slow_event;
         CREATE VIEW event AS SELECT slow_event.* FROM slow_event, pg_sleep(600)",
    )
    .execute(&mut direct)
    .await
    .expect("a view");
    let query = EventQuery::default();
    let mut list = Box::pin(store.events(&query));
    let mut stored = 1;
    let error = loop {
        tokio::select! {
            page = &mut list => break page.expect_err("it takes too long"),
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        let record = [make::status("sn-1", stored)];
        store.record_statuses(&record).await.expect("a batch");
        stored += 1;
    };
    assert_eq!(error.failure, Failure::Unavailable);
    assert!(stored > 2, "{stored} statuses");
    drop(list);
    direct.close().await.expect("a goodbye");
    opened.close().await;
}

#[tokio::test]
async fn a_status_is_looked_up_by_index_though_what_the_plan_knew_is_old() {
    let Some(opened) = open().await else { return };
    let store = opened.store();
    make::host(store, "sn-1").await;
    make::host(store, "sn-2").await;
    let mut direct = opened.connect().await;
    sqlx::raw_sql("VACUUM ANALYZE")
        .execute(&mut direct)
        .await
        .expect("statistics of tables that are empty");
    let push = async |now| {
        let record = [make::status("sn-1", now)];
        store.record_statuses(&record).await.expect("a batch");
    };
    // So often that each connection has a plan it keeps.
    for now in 0..60 {
        push(now).await;
    }
    let jobs = 20_000;
    sqlx::query(
        "INSERT INTO job (id, agentsn, action, name, body, created, expires)
         SELECT 'job-' || n, 'sn-2', 'stop', 'b', '{}', 1, 900000000000
         FROM generate_series(1, $1) AS n",
    )
    .bind(jobs)
    .execute(&mut direct)
    .await
    .expect("jobs");
    let read = "SELECT seq_tup_read, idx_scan FROM pg_stat_user_tables WHERE relname = 'job'";
    // What was done is told now and then.
    let end = Instant::now() + Duration::from_secs(60);
    for now in 60.. {
        push(now).await;
        let (as_a_whole, by_index): (i64, i64) = sqlx::query_as(read)
            .fetch_one(&mut direct)
            .await
            .expect("what was read");
        assert!(as_a_whole < jobs, "{as_a_whole} jobs were read");
        if by_index > now {
            break;
        }
        assert!(Instant::now() < end, "{by_index} look-ups were told");
    }
    direct.close().await.expect("a goodbye");
    opened.close().await;
}

#[tokio::test]
async fn what_is_not_committed_yet_is_not_told() {
    let Some(opened) = open().await else { return };
    make::host(opened.store(), "sn-1").await;
    make::host(opened.store(), "sn-2").await;
    let mut direct = sqlx::PgConnection::connect(&opened.address)
        .await
        .expect("a connection");
    // The last thing an arrival needs: all else is written, and waits.
    let mut held = direct.begin().await.expect("a transaction");
    sqlx::query("UPDATE host_count SET hosts = hosts")
        .execute(&mut *held)
        .await
        .expect("a lock");
    let (listener, mut heard) = tokio::sync::mpsc::channel(10);
    let store = opened.store.clone();
    let hearing = tokio::spawn(async move { store.hear(listener).await });
    assert_eq!(heard.recv().await, Some(Heard::Gap));
    let store = opened.store.clone();
    let arriving =
        tokio::spawn(async move { store.record_statuses(&[make::status("sn-1", 1)]).await });
    let first = |heard: Option<Heard>| match heard {
        Some(Heard::Changes(changes)) => changes[0].topic,
        other => panic!("{other:?}"),
    };
    // Told, and then refused for the character PostgreSQL has not.
    let mut bad = make::status("sn-2", 1);
    bad.events.push(make::event(1, "bad \0"));
    let refused = opened.store().record_statuses(&[bad]).await;
    assert_eq!(refused.expect_err("refused").failure, Failure::Rejected);
    let (package, by) = (make::package("p1", "1", "x"), make::by(1));
    let inserted = opened.store().insert_package(&package, None, &by).await;
    inserted.expect("a write");
    assert_eq!(first(heard.recv().await), Topic::Package);
    assert!(!arriving.is_finished());
    held.rollback().await.expect("no lock any more");
    arriving.await.expect("no panic").expect("a batch");
    assert_eq!(first(heard.recv().await), Topic::Host);
    hearing.abort();
    direct.close().await.expect("a goodbye");
    opened.close().await;
}
