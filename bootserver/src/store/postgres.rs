//! The store on PostgreSQL, for fleets that outgrow one machine: replicas share
//! nothing else.
//!
//! Writers and readers have connections of their own, so that no list an
//! operator asks for keeps a status waiting. What is committed is on disk
//! (`synchronous_commit`), whatever the server's configuration says, because an
//! acknowledged result must survive a power cut. A database that is gone fails
//! calls within `ACQUIRE_TIMEOUT`; the pools find it again by themselves. One that
//! vanished without a word (a cut cable) leaves connections that never answer:
//! each is asked before and after it is used, and closed when it says nothing.

use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::{Connection, Postgres, QueryBuilder, Row};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::change::Heard;
use super::{Failure, IDS_LEFT_OUT, Result, StoreError, Upkeep, schema};

// What the queries say through their parent; `sql/queries.rs` explains it.
macro_rules! given_texts {
    ($parameter:literal) => {
        concat!(
            "jsonb_array_elements_text(",
            $parameter,
            "::jsonb) AS given (value)"
        )
    };
}
macro_rules! given_rows {
    ($parameter:literal) => {
        concat!(
            "jsonb_array_elements(",
            $parameter,
            "::jsonb) AS given (value)"
        )
    };
}
macro_rules! one_row {
    ($columns:literal) => {
        concat!(
            "CAST(coalesce(json_agg(json_build_array(",
            $columns,
            ")), '[]') AS text)"
        )
    };
}
macro_rules! by_index {
    ($name:literal) => {
        ""
    };
}
macro_rules! has_text {
    ($text:literal, $part:expr) => {
        concat!("strpos(", $text, ", ", $part, ") > 0")
    };
}
macro_rules! for_update {
    () => {
        " FOR UPDATE"
    };
}
macro_rules! skip_locked {
    () => {
        " FOR UPDATE SKIP LOCKED"
    };
}
macro_rules! for_share {
    () => {
        " FOR SHARE"
    };
}
macro_rules! database_now {
    () => {
        "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
    };
}

pub mod chunk;
mod hot;
mod listen;
#[path = "sql/queries.rs"]
#[expect(
    clippy::duplicate_mod,
    reason = "each query is written once and compiled for each database"
)]
mod queries;

use PgRow as DbRow;
use PostgresStore as SqlStore;
use chunk::Chunks;
use listen::commit_and_tell;
use queries::{Write, failed};

type Db = Postgres;
/// The database itself tells what a transaction changed.
#[derive(Debug, Clone, Copy)]
struct Ears;

pub(super) static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| schema::lenient(sqlx::migrate!("migrations/postgres")));

/// Oldest release we know to work, as `server_version_num`.
const OLDEST: i32 = 130_000;
/// Transactions that write at once: one batch of statuses, and what operators
/// and new hosts do meanwhile.
const WRITERS: u32 = 6;
/// Readers at once.
const READERS: u32 = 8;
/// Readers for who calls: where lists take long, hosts and operators still come in.
/// One look-up takes 0.14 ms and each of the three pings around it 0.05 (a million
/// hosts, two cores), so they do 10,000 a second; a status is looked up once in a
/// while. Without the ping before, the first callers after a failover would be
/// refused.
const LOOKUPS: u32 = 3;
/// For the bytes of packages: enough to keep a disk busy, few enough that a rollout
/// leaves the database to statuses.
const PACKAGES: u32 = 4;
/// How long a reader may work on one answer.
const READ_WITHIN: (&str, &str) = ("statement_timeout", "10s");
/// A list is planned by what is asked this time: a plan for any tag and any state is
/// wrong for most. Compiling it would take longer than the list.
const READERS_PLAN: [(&str, &str); 2] = [("plan_cache_mode", "force_custom_plan"), ("jit", "off")];
/// What is written is looked up row by row. A plan is kept for long and knows a table as
/// it once was: one that had no jobs yet was read as a whole for each status when a
/// rollout had ordered thousands.
const WRITERS_PLAN: [(&str, &str); 5] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_incremental_sort", "off"),
    // What must be read as a whole looks dear then, and is not worth compiling.
    ("jit", "off"),
];
/// What statuses wait for company. A commit costs more than SQLite's, several calls to
/// another process: with 10 ms the statuses of a million hosts cost an eighth more.
const LINGER: Duration = Duration::from_millis(13);
/// How long a call waits for a connection before it fails. A host that is told
/// `later` soon is better off than one that waits.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may take to say that it is there. Part of
/// `ACQUIRE_TIMEOUT`, so that a call can try another one.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// What a session says of itself. The timeouts end what a caller has given up
/// long ago, and locks of a replica that hangs or is out of reach.
const SESSION: [(&str, &str); 8] = [
    ("synchronous_commit", "on"),
    ("statement_timeout", "30s"),
    ("idle_in_transaction_session_timeout", "30s"),
    ("lock_timeout", "10s"),
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "30s"),
];
/// The lock [`one_at_a_time`] takes.
const ORDER_LOCK: i64 = 0x626f_6f74_0001;
/// The lock of [`orders_come`] and [`no_orders_come`].
const ORDERS_LOCK: i64 = 0x626f_6f74_0011;

/// The store on one PostgreSQL database.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    writer: PgPool,
    readers: PgPool,
    lookups: PgPool,
    packages: PgPool,
    listener: PgConnectOptions,
}

impl PostgresStore {
    /// Connects, and brings the tables up to date. Of several that start at
    /// once one does it, the others wait.
    pub async fn open(options: PgConnectOptions) -> Result<Self> {
        let options = options.application_name("bootserver");
        // On a connection of its own: a migration may take longer than a call.
        let first = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.clone())
            .await
            .map_err(failed("connecting to the database"))?;
        let connection = first.acquire().await;
        let mut connection = connection.map_err(failed("connecting to the database"))?;
        assert_usable(&mut connection).await?;
        drop(connection);
        MIGRATIONS.run(&first).await.map_err(|error| StoreError {
            step: "bringing the tables up to date",
            failure: Failure::Unavailable,
            source: Box::new(error),
        })?;
        let needs: Option<i64> = sqlx::query_scalar(schema::NEEDS)
            .fetch_optional(&first)
            .await
            .map_err(failed("asking which program the tables need"))?;
        schema::assert_fit(needs, &MIGRATIONS)?;
        first.close().await;
        let options = options.options(SESSION);
        let hurried = options.clone().options([READ_WITHIN]);
        let pool = |connections, options| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .test_before_acquire(false)
                .before_acquire(|connection, _| Box::pin(answers(connection)))
                .after_release(|connection, _| Box::pin(answers(connection)))
                .connect_lazy_with(options)
        };
        Ok(Self {
            listener: options.clone().application_name("bootserver changes"),
            writer: pool(WRITERS, options.clone().options(WRITERS_PLAN)),
            packages: pool(PACKAGES, options),
            readers: pool(READERS, hurried.clone().options(READERS_PLAN)),
            lookups: pool(LOOKUPS, hurried),
        })
    }

    async fn write(&self, step: &'static str) -> Result<Write> {
        let begun = self.writer.begin().await;
        Ok(Write::new(begun.map_err(failed(step))?, Ears))
    }

    async fn listen(&self, listener: mpsc::Sender<Heard>) {
        listen::hear(&self.listener, listener).await;
    }

    /// Where the bytes of packages are kept.
    fn own_chunks(&self) -> Option<Chunks> {
        let pool = self.packages.clone();
        Some(Chunks { pool })
    }

    /// PostgreSQL keeps house by itself.
    async fn keep_house(&self, _: Upkeep) -> Result<()> {
        Ok(())
    }

    async fn close_all(&self) {
        self.readers.close().await;
        self.lookups.close().await;
        self.packages.close().await;
        self.writer.close().await;
    }
}

/// Whether a connection answers; an error closes it without a goodbye.
async fn answers(connection: &mut PgConnection) -> std::result::Result<bool, sqlx::Error> {
    match timeout(ANSWER_WITHIN, connection.ping()).await {
        Ok(answer) => answer.map(|()| true),
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

/// Orders come in side by side.
async fn orders_come(tx: &mut Write) -> Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock_shared($1)")
        .bind(ORDERS_LOCK)
        .execute(&mut **tx)
        .await
        .map_err(failed("waiting for a host that leaves"))?;
    Ok(())
}

/// No order comes in until the commit, so that one for a host that leaves is
/// either seen here or knows of it. Said right after [`one_at_a_time`].
async fn no_orders_come(tx: &mut Write) -> Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(ORDERS_LOCK)
        .execute(&mut **tx)
        .await
        .map_err(failed("waiting for orders that come in"))?;
    Ok(())
}

async fn raise_ids(tx: &mut Write) -> Result<()> {
    sqlx::query(
        "SELECT setval(counter, nextval(counter) + $1) FROM (
             SELECT pg_get_serial_sequence(quote_ident(relname), attname)::regclass AS counter
             FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
             WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
               AND attidentity <> '') AS counters",
    )
    .bind(IDS_LEFT_OUT)
    .execute(&mut **tx)
    .await
    .map_err(failed("leaving out numbers that may be given"))?;
    Ok(())
}

/// Makes transactions that say so commit one after another. Numbers are given
/// before the commit: without it, who reads results or events up to a number
/// would miss those of a transaction that commits later. It comes first in a
/// transaction, before any row is locked, so that nobody waits in a circle.
async fn one_at_a_time(tx: &mut Write) -> Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(ORDER_LOCK)
        .execute(&mut **tx)
        .await
        .map_err(failed("waiting for another replica's transaction"))?;
    Ok(())
}

/// Whether a server is one we can work with.
pub(super) async fn assert_usable(connection: &mut PgConnection) -> Result<()> {
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::int AS version,
                current_setting('server_encoding') AS encoding,
                pg_is_in_recovery() AS standby",
    )
    .fetch_one(connection)
    .await
    .map_err(failed("asking the database what it is"))?;
    let read = || -> std::result::Result<_, sqlx::Error> {
        Ok((
            row.try_get("version")?,
            row.try_get("encoding")?,
            row.try_get("standby")?,
        ))
    };
    let (version, encoding, standby) = read().map_err(failed("asking the database what it is"))?;
    usable(version, encoding, standby).map_err(|reason| StoreError {
        step: "looking whether the database can be used",
        failure: Failure::Rejected,
        source: reason.into(),
    })
}

/// The index of hosts by agentsn.
const HOST_BY_AGENTSN: &str = "host_pkey";
/// Around a query whose rows are looked up one by one: with IN, PostgreSQL may go
/// through a list in its order and hope to come across them.
const AMONG: (&str, &str) = (" = ANY (ARRAY(", "))");
/// Hosts that were found, with their names.
const FOUND_NAMES: &str = "host_search.agentsn AS agentsn, coalesce(host_search.hostname,
    split_part(host_search.text, chr(10), 1)) AS hostname";

/// PostgreSQL knows its rows well enough to choose.
fn push_by_index(_: &mut QueryBuilder<Db>, _: &'static str) {}

/// All of its three characters in a row by the index, and of what is left the text.
fn push_found(sql: &mut QueryBuilder<Db>, columns: &'static str, text: &str) {
    sql.push("SELECT ").push(columns);
    sql.push(" FROM host_search WHERE host_search_grams(text) @> host_search_grams(");
    sql.push_bind(text.to_owned());
    sql.push(") AND position(").push_bind(text.to_owned());
    sql.push(" IN text) > 0");
}

/// Why a server cannot be used, with the remedy.
fn usable(version: i32, encoding: &str, standby: bool) -> std::result::Result<(), String> {
    if version < OLDEST {
        let (have, need) = (version / 10_000, OLDEST / 10_000);
        return Err(format!(
            "this is PostgreSQL {have}; {need} or newer is needed"
        ));
    }
    if encoding != "UTF8" {
        return Err(format!(
            "its encoding is {encoding}; make one with CREATE DATABASE ... ENCODING 'UTF8' \
             TEMPLATE template0"
        ));
    }
    if standby {
        return Err("it is a standby, which only reads; name the primary".into());
    }
    Ok(())
}

/// Whether a failure says that the database's disk is full.
pub fn is_disk_full(error: &StoreError) -> bool {
    let source = error.source.downcast_ref::<sqlx::Error>();
    let code = source.and_then(|source| source.as_database_error()?.code());
    code.as_deref() == Some("53100")
}

/// Data exceptions (22), integrity (23) and limits of the program (54) lie in
/// the data. Everything else, also what this version asks wrongly or may not
/// (42), in the database: a status must not be lost over it.
fn failure_of(error: &sqlx::Error) -> Failure {
    let sqlx::Error::Database(database) = error else {
        return Failure::Unavailable;
    };
    match database.code().as_deref().and_then(|code| code.get(..2)) {
        Some("22" | "23" | "54") => Failure::Rejected,
        _ => Failure::Unavailable,
    }
}

#[cfg(test)]
const EXPLAIN: &str = "EXPLAIN ";
#[cfg(test)]
const PLAN_COLUMN: &str = "QUERY PLAN";
/// As it is done now and then while it serves.
#[cfg(test)]
const STATISTICS: &str = "ANALYZE";
#[cfg(test)]
const TIDY: &str = "VACUUM rollout_target";

#[cfg(test)]
#[path = "../../tests/support/cluster.rs"]
mod cluster;

#[cfg(test)]
mod tests;
