//! A SQLite store on a file of its own, and what holds for SQLite alone.

use bootserver::store::Store;
use bootserver::store::sqlite::SqliteStore;
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
            opened.store.maintain().await.expect("a checkpoint");
        }
    }
    let wal = std::fs::metadata(opened.directory.path().join("a.db-wal")).expect("the log");
    // Four hundred commits of a few pages each would be far more without.
    assert!(wal.len() < 4 << 20, "{} bytes", wal.len());
    opened.close().await;
}
