//! The store on SQLite: one file beside the blobs, nothing to install.
//!
//! One connection writes, a few read: SQLite has one writer anyway, and a pool
//! of them only fights. `synchronous=FULL`, because batches make it nearly
//! free and an acknowledged result must survive a power cut. Checkpoints run
//! on a connection of their own, so that no status waits for one, except a short
//! one now and then: SQLite begins its log anew only when all of it is written
//! back and nobody reads from it, which under load never happens by itself.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, QueryBuilder, Sqlite, SqliteConnection};
use tokio::sync::{broadcast, mpsc};

use super::change::{Change, Heard};
use super::postgres::chunk::Chunks;
use super::{Failure, IDS_LEFT_OUT, Result, StoreError, Upkeep, schema};

// What the queries say through their parent; `sql/queries.rs` explains it.
// Writers wait for each other here, so no row needs a lock.
macro_rules! given_texts {
    ($parameter:literal) => {
        concat!("json_each(", $parameter, ") AS given")
    };
}
macro_rules! given_rows {
    ($parameter:literal) => {
        given_texts!($parameter)
    };
}
// Rows as one list of JSON: each row of its own would wake the thread that waits.
macro_rules! one_row {
    ($columns:literal) => {
        concat!("json_group_array(json_array(", $columns, "))")
    };
}
// SQLite keeps no count of what an index has, and may take another one.
macro_rules! by_index {
    ($name:literal) => {
        concat!(" INDEXED BY ", $name)
    };
}
macro_rules! has_text {
    ($text:literal, $part:expr) => {
        concat!("instr(", $text, ", ", $part, ") > 0")
    };
}
macro_rules! for_update {
    () => {
        ""
    };
}
macro_rules! skip_locked {
    () => {
        ""
    };
}
macro_rules! for_share {
    () => {
        ""
    };
}
macro_rules! database_now {
    () => {
        "CAST(unixepoch('now', 'subsec') * 1000 AS BIGINT)"
    };
}

mod chunk;
pub mod copy;
mod hot;
mod listen;
#[path = "sql/queries.rs"]
#[expect(
    clippy::duplicate_mod,
    reason = "each query is written once and compiled for each database"
)]
mod queries;
#[cfg(test)]
mod tests;

use SqliteRow as DbRow;
use SqliteStore as SqlStore;
use listen::commit_and_tell;
use queries::{Write, failed};

type Db = Sqlite;
/// Where a transaction tells what it changed.
type Ears = broadcast::Sender<Vec<Change>>;

pub(super) static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| schema::lenient(sqlx::migrate!("migrations/sqlite")));

/// Readers at once; reads are short and there are few cores.
const READERS: u32 = 4;
/// Readers for who calls: where lists take long, hosts and operators still come in.
const LOOKUPS: u32 = 2;
/// How long a connection may be read with: who waits for more asks too much, and
/// keeps others waiting. SQLite looks at the time every so many steps.
const READ_WITHIN: Duration = Duration::from_secs(10);
const STEPS: i32 = 50_000;
/// Pages the writer keeps at most, in KiB when negative: what they cannot hold of a
/// large fleet is read anew for each status. They hold all that 100,000 hosts
/// write; a small fleet fills few of them.
const WRITER_CACHE: &str = "-196608";
/// What statuses wait for company: 1,667 a second, those of a million hosts, make 20 per
/// commit. With half of it they cost a quarter more, and a busy disk has them queue.
const LINGER: Duration = Duration::from_millis(10);
/// How long a call waits for its connection before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long SQLite waits for a lock, held by a checkpoint at most.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pages of 4 KiB in the log from which on it is begun anew, 64 MiB.
const LONG_LOG: i64 = 16_384;
/// Pages of it that are written back at once. The less often, the more of them are one
/// page several times, so what the usual statuses leave waits for its time.
const MUCH: i64 = 12_288;
/// How often what came meanwhile is written back before statuses wait for the rest of it.
/// Only where nothing came does SQLite wait for the disk, and that is to be before: the
/// disk takes a tenth of a second or two for so many pages.
const PASSES: u32 = 6;
/// How long statuses wait for readers then, in milliseconds, for the square of how many
/// times `LONG_LOG` it is, and at most: it is tried again soon, and seldom somebody reads
/// each time.
const RESTART_PATIENCE: i64 = 50;
const RESTART_PATIENCE_MOST: i64 = 5000;

/// The store on one SQLite file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    lookups: SqlitePool,
    checkpoints: SqlitePool,
    ears: Ears,
}

impl SqliteStore {
    /// Opens the file, makes it if it is not there, and brings its tables up
    /// to date.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // Must be said before the first table, or never.
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .pragma("wal_autocheckpoint", "0")
            .pragma("journal_size_limit", "67108864");
        let writer = options
            .clone()
            .pragma("cache_size", WRITER_CACHE)
            // What a statement may have to take back is kept beside, not in a file.
            .pragma("temp_store", "MEMORY");
        let writer = pool(1, writer)
            .await
            .map_err(failed("opening the database"))?;
        MIGRATIONS.run(&writer).await.map_err(|error| StoreError {
            step: "bringing the tables up to date",
            failure: Failure::Unavailable,
            source: Box::new(error),
        })?;
        let needs: Option<i64> = sqlx::query_scalar(schema::NEEDS)
            .fetch_optional(&writer)
            .await
            .map_err(failed("asking which program the tables need"))?;
        schema::assert_fit(needs, &MIGRATIONS)?;
        let read_only = options.clone().pragma("query_only", "1");
        let lookups = pool(LOOKUPS, read_only.clone())
            .await
            .map_err(failed("opening the database for reading"))?;
        let readers = hurried(pool_options(READERS), READ_WITHIN)
            .connect_with(read_only)
            .await
            .map_err(failed("opening the database for reading"))?;
        let checkpoints = pool(1, options)
            .await
            .map_err(failed("opening the database for checkpoints"))?;
        Ok(Self {
            writer,
            readers,
            lookups,
            checkpoints,
            ears: listen::ears(),
        })
    }

    /// A transaction that writes. It takes the lock at once: one that began
    /// with reading could find the database changed when it comes to writing.
    async fn write(&self, step: &'static str) -> Result<Write> {
        let begun = self.writer.begin_with("BEGIN IMMEDIATE").await;
        Ok(Write::new(begun.map_err(failed(step))?, self.ears.clone()))
    }

    async fn listen(&self, listener: mpsc::Sender<Heard>) {
        listen::hear(&self.ears, listener).await;
    }

    /// The bytes of packages are files beside the database.
    fn own_chunks(&self) -> Option<Chunks> {
        None
    }

    async fn keep_house(&self, upkeep: Upkeep) -> Result<()> {
        let failed = failed("writing the log back into the database");
        if upkeep == Upkeep::IfMuch && self.unwritten().await.map_err(&failed)? < MUCH {
            return Ok(());
        }
        let mut log = self.write_log_back().await.map_err(&failed)?;
        if log > LONG_LOG {
            for _ in 0..PASSES {
                if self.unwritten().await.map_err(&failed)? == 0 {
                    break;
                }
                log = self.write_log_back().await.map_err(&failed)?;
            }
            self.restart_log(log).await.map_err(&failed)?;
        }
        // By the writer itself: what another connection commits makes it forget all the
        // pages it keeps, and read them anew for the statuses that come.
        sqlx::raw_sql("PRAGMA incremental_vacuum(64)")
            .execute(&self.writer)
            .await
            .map_err(&failed)?;
        Ok(())
    }

    /// Pages of the log that are not written back.
    async fn unwritten(&self) -> std::result::Result<i64, sqlx::Error> {
        let (_, log, written): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(NOOP)")
            .fetch_one(&self.checkpoints)
            .await?;
        Ok(log - written)
    }

    /// Waits for nobody; what cannot be written back now is next time. Returns how
    /// many pages the log has.
    async fn write_log_back(&self) -> std::result::Result<i64, sqlx::Error> {
        let (_, log, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)")
            .fetch_one(&self.checkpoints)
            .await?;
        Ok(log)
    }

    /// Holds the writer back until nobody reads from the log any more, so that the
    /// next transaction begins it anew. The longer the log, the longer it waits:
    /// a reader that takes its time must not let it grow for ever.
    async fn restart_log(&self, log: i64) -> std::result::Result<(), sqlx::Error> {
        let _writer = self.writer.acquire().await?;
        let mut connection = self.checkpoints.acquire().await?;
        let times = log / LONG_LOG;
        let patience = (times * times * RESTART_PATIENCE).min(RESTART_PATIENCE_MOST);
        busy_timeout(&mut connection, patience).await?;
        let restarted: std::result::Result<(i64, i64, i64), _> =
            sqlx::query_as("PRAGMA wal_checkpoint(RESTART)")
                .fetch_one(&mut *connection)
                .await;
        let usual = i64::try_from(BUSY_TIMEOUT.as_millis()).unwrap_or(i64::MAX);
        busy_timeout(&mut connection, usual).await?;
        if let (1, ..) = restarted? {
            tracing::warn!(
                pages = log,
                "the log of the database is long, and somebody still reads from it"
            );
        }
        Ok(())
    }

    async fn close_all(&self) {
        self.readers.close().await;
        self.lookups.close().await;
        self.checkpoints.close().await;
        self.writer.close().await;
    }
}

/// The index of hosts by agentsn, which SQLite makes by itself.
const HOST_BY_AGENTSN: &str = "sqlite_autoindex_host_1";
/// Around a query whose rows are looked up one by one.
const AMONG: (&str, &str) = (" IN (", ")");
/// Hosts that were found, with their names.
const FOUND_NAMES: &str = "host_search.agentsn AS agentsn, coalesce(host_search.hostname,
    substr(host_search.text, 1, instr(host_search.text, char(10)) - 1)) AS hostname";

/// SQLite knows how many rows a table has at best, not which of them fit: left to
/// itself it filters by any index and sorts a million hosts.
fn push_by_index(sql: &mut QueryBuilder<Db>, index: &'static str) {
    sql.push(" INDEXED BY ").push(index);
}

/// A phrase of FTS5, which has an index of every three characters.
fn push_found(sql: &mut QueryBuilder<Db>, columns: &'static str, text: &str) {
    sql.push("SELECT ").push(columns);
    sql.push(
        " FROM host_text CROSS JOIN host_search
         WHERE host_search.id = host_text.rowid AND host_text MATCH ",
    );
    sql.push_bind(format!("\"{}\"", text.replace('"', "\"\"")));
}

/// There is one writer, so transactions never overtake each other.
async fn one_at_a_time(_: &mut Write) -> Result<()> {
    Ok(())
}

/// There is one writer, so an order is before or after a host that leaves.
async fn orders_come(_: &mut Write) -> Result<()> {
    Ok(())
}

/// Likewise.
async fn no_orders_come(_: &mut Write) -> Result<()> {
    Ok(())
}

async fn raise_ids(tx: &mut Write) -> Result<()> {
    let step = "leaving out numbers that may be given";
    sqlx::query(
        "INSERT INTO sqlite_sequence (name, seq) SELECT name, 0 FROM sqlite_master
         WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'
           AND name NOT IN (SELECT name FROM sqlite_sequence)",
    )
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    sqlx::query("UPDATE sqlite_sequence SET seq = seq + $1")
        .bind(IDS_LEFT_OUT)
        .execute(&mut **tx)
        .await
        .map_err(failed(step))?;
    Ok(())
}

async fn busy_timeout(
    connection: &mut SqliteConnection,
    millis: i64,
) -> std::result::Result<(), sqlx::Error> {
    let pragma = format!("PRAGMA busy_timeout = {millis}");
    sqlx::raw_sql(AssertSqlSafe(pragma))
        .execute(connection)
        .await
        .map(drop)
}

async fn pool(
    connections: u32,
    options: SqliteConnectOptions,
) -> std::result::Result<SqlitePool, sqlx::Error> {
    pool_options(connections).connect_with(options).await
}

fn pool_options(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
}

/// Ends what is asked on a connection so long after it was handed out, also when
/// nobody waits for the answer any more.
fn hurried(options: SqlitePoolOptions, limit: Duration) -> SqlitePoolOptions {
    options
        .after_connect(move |connection, _| Box::pin(hurry(connection, limit)))
        .before_acquire(move |connection, _| {
            Box::pin(async move { hurry(connection, limit).await.map(|()| true) })
        })
}

async fn hurry(
    connection: &mut SqliteConnection,
    limit: Duration,
) -> std::result::Result<(), sqlx::Error> {
    let begun = Instant::now();
    connection
        .lock_handle()
        .await?
        .set_progress_handler(STEPS, move || begun.elapsed() < limit);
    Ok(())
}

/// Constraint, mismatch, too big, out of range, or an SQL error (JSON that
/// does not parse) lie in the data; everything else in the database.
fn failure_of(error: &sqlx::Error) -> Failure {
    let sqlx::Error::Database(database) = error else {
        return Failure::Unavailable;
    };
    let primary = database
        .code()
        .and_then(|code| code.parse::<u32>().ok())
        .map(|code| code & 0xff);
    match primary {
        Some(1 | 18 | 19 | 20 | 25) => Failure::Rejected,
        _ => Failure::Unavailable,
    }
}

#[cfg(test)]
const EXPLAIN: &str = "EXPLAIN QUERY PLAN ";
#[cfg(test)]
const PLAN_COLUMN: &str = "detail";
/// A server never looks at its rows to plan by them.
#[cfg(test)]
const STATISTICS: &str = "SELECT 1";
#[cfg(test)]
const TIDY: &str = "SELECT 1";
