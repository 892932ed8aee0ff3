//! A SQLite store on a file of its own, and what holds for SQLite alone.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bootserver::blob::Blobs;
use bootserver::store::sqlite::SqliteStore;
use bootserver::store::{Store, Upkeep};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

/// An open store and the directory it lies in.
pub(crate) struct Opened {
    store: SqliteStore,
    directory: TempDir,
}

impl Opened {
    pub(crate) fn store(&self) -> &dyn Store {
        &self.store
    }

    pub(crate) fn blobs(&self) -> Blobs {
        let folder = |name| self.directory.path().join(name);
        Blobs::files(folder("blobs"), folder("tmp")).expect("two folders")
    }

    /// How many of those one blob is.
    pub(crate) fn parts(&self, _: usize) -> usize {
        1
    }

    /// Files of packages that are there, whoever they are of.
    pub(crate) async fn left(&self) -> usize {
        let folder = |name| self.directory.path().join(name);
        let files = |path: &Path| std::fs::read_dir(path).expect("a folder").count();
        let shards = std::fs::read_dir(folder("blobs")).expect("a folder");
        let kept: usize = shards
            .map(|shard| files(&shard.expect("an entry").path()))
            .sum();
        kept + files(&folder("tmp"))
    }

    pub(crate) fn sqlite(&self) -> SqliteStore {
        self.store.clone()
    }

    pub(crate) async fn close(self) {
        self.store.close().await;
    }
}

pub(crate) async fn open() -> Option<Opened> {
    let directory = TempDir::new().expect("a temporary directory");
    let store = SqliteStore::open(&directory.path().join("a.db"))
        .await
        .expect("a new database");
    Some(Opened { store, directory })
}

/// Has the database refuse what `make::refused` makes.
pub(crate) async fn refuse(opened: &Opened) {
    let path = opened.directory.path().join("a.db");
    let path = path.to_str().expect("a path");
    let mut connection = SqliteConnection::connect(path).await.expect("a connection");
    let trigger = format!(
        "CREATE TRIGGER refuse BEFORE INSERT ON event WHEN NEW.subject = '{}'
         BEGIN SELECT RAISE(ABORT, 'refused'); END",
        crate::make::REFUSED
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(trigger))
        .execute(&mut connection)
        .await
        .expect("a trigger");
    connection.close().await.expect("no error");
}

#[tokio::test]
async fn a_batch_is_stored_whole_or_not_at_all() {
    let opened = open().await.expect("a store");
    refuse(&opened).await;
    crate::contract::a_batch_is_stored_whole_or_not_at_all(opened.store()).await;
    opened.close().await;
}

#[tokio::test]
async fn the_file_is_made_for_many_readers_and_for_shrinking() {
    let opened = open().await.expect("a store");
    opened.store.ping().await.expect("the database answers");
    let file = std::fs::read(opened.directory.path().join("a.db")).expect("the file");
    // Bytes 18 and 19 of the header: 2 is WAL. Bytes 64 to 67: incremental vacuum.
    assert_eq!(file.get(18..20), Some(&[2, 2][..]));
    assert_eq!(file.get(64..68), Some(&[0, 0, 0, 1][..]));
    opened.close().await;
}

#[tokio::test]
async fn opening_again_changes_nothing() {
    let opened = open().await.expect("a store");
    let path = opened.directory.path().join("a.db");
    crate::make::host(opened.store(), "sn-1").await;
    opened.store.close().await;
    let again = SqliteStore::open(&path).await.expect("the same database");
    assert!(
        again
            .host("sn-1", &crate::make::fleet())
            .await
            .expect("a read")
            .is_some()
    );
    again.close().await;
}

#[tokio::test]
async fn housekeeping_empties_the_log_while_others_write() {
    let opened = open().await.expect("a store");
    let host = crate::make::host(opened.store(), "sn-1").await;
    for round in 0..400 {
        let records = [crate::make::status(&host, round)];
        opened
            .store
            .record_statuses(&records)
            .await
            .expect("a batch");
        if round % 50 == 49 {
            opened
                .store
                .maintain(Upkeep::Usual)
                .await
                .expect("a checkpoint");
        }
    }
    let wal = std::fs::metadata(opened.directory.path().join("a.db-wal")).expect("the log");
    // Four hundred commits of a few pages each would be far more without.
    assert!(wal.len() < 4 << 20, "{} bytes", wal.len());
    opened.close().await;
}

/// Pages of the log that are not written back.
async fn unwritten(database: &Path) -> i64 {
    let path = database.to_str().expect("a path");
    let mut direct = SqliteConnection::connect(path).await.expect("a connection");
    let (_, log, written): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(NOOP)")
        .fetch_one(&mut direct)
        .await
        .expect("how long the log is");
    direct.close().await.expect("a goodbye");
    log - written
}

/// Has a host tell so much that the log has so many bytes.
async fn fill_log(store: &dyn Store, host: &str, wal: &Path, bytes: u64) {
    let long = "x".repeat(4 << 20);
    let mut seq = 0;
    while std::fs::metadata(wal).expect("the log").len() < bytes {
        let mut record = crate::make::status(host, seq);
        record.events = vec![crate::make::event(seq, &long)];
        seq += 1;
        let stored = store.record_statuses(&[record]).await;
        stored.expect("a batch");
    }
}

#[tokio::test]
async fn a_log_that_became_much_is_written_back_before_its_time() {
    let opened = open().await.expect("a store");
    let database = opened.directory.path().join("a.db");
    let host = crate::make::host(opened.store(), "sn-1").await;
    let if_much = || opened.store.maintain(Upkeep::IfMuch);
    if_much().await.expect("a look");
    assert!(unwritten(&database).await > 0, "a host is not much");
    let wal = opened.directory.path().join("a.db-wal");
    fill_log(opened.store(), &host, &wal, 56 << 20).await;
    assert!(unwritten(&database).await > 12_288);
    if_much().await.expect("a checkpoint");
    assert_eq!(unwritten(&database).await, 0);
    opened.close().await;
}

/// How often the log was begun anew, as its header counts it.
fn restarts(wal: &Path) -> u32 {
    let log = std::fs::read(wal).expect("the log");
    let count = log.get(12..16).expect("a header");
    u32::from_be_bytes(count.try_into().expect("four bytes"))
}

#[tokio::test]
async fn an_older_program_turns_no_rollout() {
    let opened = open().await.expect("a store");
    let path = opened.directory.path().join("a.db");
    let change = async |statement: &'static str| {
        let connected = SqliteConnection::connect(path.to_str().expect("a path")).await;
        let mut direct = connected.expect("a connection");
        let changed = sqlx::raw_sql(statement).execute(&mut direct).await;
        changed.expect("a statement");
        direct.close().await.expect("a goodbye");
    };
    crate::contract::an_older_program_turns_no_rollout(opened.store(), change).await;
    opened.close().await;
}

async fn reader(database: &Path) -> SqliteConnection {
    let path = database.to_str().expect("a path");
    let mut reader = SqliteConnection::connect(path).await.expect("a connection");
    for statement in ["BEGIN", "SELECT count(*) FROM host"] {
        sqlx::raw_sql(statement)
            .execute(&mut reader)
            .await
            .expect("a read");
    }
    reader
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_begun_anew_though_somebody_always_writes_and_reads() {
    let opened = open().await.expect("a store");
    let database = opened.directory.path().join("a.db");
    let wal = opened.directory.path().join("a.db-wal");
    let host = crate::make::host(opened.store(), "sn-1").await;
    let mut current = reader(&database).await;
    fill_log(opened.store(), &host, &wal, 66 << 20).await;
    let before = restarts(&wal);
    let over = AtomicBool::new(false);
    let write = async {
        let mut now = 1000;
        while !over.load(Ordering::SeqCst) {
            let records = [crate::make::status(&host, now)];
            let stored = opened.store.record_statuses(&records).await;
            stored.expect("a batch");
            now += 1;
        }
    };
    let read = async {
        while !over.load(Ordering::SeqCst) {
            let next = reader(&database).await;
            current.close().await.expect("a goodbye");
            current = next;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let keep_house = async {
        // Each waits longer than the readers take; a busy machine needs some.
        for _ in 0..40 {
            opened
                .store
                .maintain(Upkeep::Usual)
                .await
                .expect("a checkpoint");
            if restarts(&wal) != before {
                break;
            }
        }
        over.store(true, Ordering::SeqCst);
    };
    tokio::join!(write, read, keep_house);
    assert_ne!(restarts(&wal), before);
    opened.close().await;
}

#[tokio::test]
async fn an_older_server_works_with_newer_tables_unless_they_say_no() {
    let opened = open().await.expect("a store");
    let path = opened.directory.path().join("a.db");
    opened.store.close().await;
    let mut direct = SqliteConnection::connect(path.to_str().expect("a path"))
        .await
        .expect("a connection");
    for statement in crate::make::NEWER {
        sqlx::raw_sql(statement)
            .execute(&mut direct)
            .await
            .expect("a statement");
        let again = SqliteStore::open(&path).await;
        let is_refused = statement.contains("9999'");
        match again {
            Ok(store) if !is_refused => store.close().await,
            Err(error) if is_refused => {
                assert!(bootserver::problem::chain(&error).contains("9999"));
            }
            other => panic!("{statement}: {other:?}"),
        }
    }
}
