//! A look at a database that changes nothing in it: `-T` asks whether a server
//! could work with it.

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::time::timeout;

use super::address::Address;
use super::{Failure, Result, StoreError, postgres, schema, sqlite};
use crate::clock::unix_millis;

/// How long a database may take for all that is asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a database is to this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// There are none: the first start makes them.
    None,
    /// Those this program works with.
    Current,
    /// Of an older one: the next start brings them up to date.
    Older,
    /// Of a newer one, which this one works with too.
    Ahead,
    /// Of a newer one, which this one cannot start on.
    Newer,
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The tables.
    pub tables: Tables,
    /// How far the database's clock is before ours, in milliseconds; negative
    /// when it is behind.
    pub ahead: i64,
}

/// The newest migration that was done, and the one a program must know.
type Stand = (Option<i64>, Option<i64>);

/// Looks.
pub async fn probe(address: &Address) -> Result<Probe> {
    let look = async {
        match address {
            Address::Sqlite(path) => look_at_file(path).await,
            Address::Postgres(options) => look_at_server((**options).clone()).await,
        }
    };
    match timeout(PATIENCE, look).await {
        Ok(found) => found,
        Err(late) => Err(StoreError {
            step: "waiting for the database",
            failure: Failure::Unavailable,
            source: Box::new(late),
        }),
    }
}

async fn look_at_file(path: &Path) -> Result<Probe> {
    if !path.exists() {
        let tables = Tables::None;
        return Ok(Probe { tables, ahead: 0 });
    }
    // Opening a database that nobody has open would make files beside it,
    // unless it is said that nobody writes.
    let log = path.with_file_name(format!(
        "{}-wal",
        path.file_name().unwrap_or_default().to_string_lossy()
    ));
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(!log.exists());
    let mut connection = options
        .connect()
        .await
        .map_err(failed("opening the database"))?;
    let exists = "SELECT count(*) FROM sqlite_master WHERE name = 'setting'";
    let exists: i64 = sqlx::query_scalar(exists)
        .fetch_one(&mut connection)
        .await
        .map_err(failed("reading the database"))?;
    let stand: Stand = match exists {
        0 => (None, None),
        _ => sqlx::query_as(schema::STAND)
            .fetch_one(&mut connection)
            .await
            .map_err(failed("reading the database"))?,
    };
    // It was only read: nothing is lost when this fails.
    let _ = connection.close().await;
    let tables = tables(stand, &sqlite::MIGRATIONS);
    Ok(Probe { tables, ahead: 0 })
}

async fn look_at_server(options: PgConnectOptions) -> Result<Probe> {
    let mut connection = options
        .application_name("bootserver -T")
        .connect()
        .await
        .map_err(failed("connecting to the database"))?;
    postgres::assert_usable(&mut connection).await?;
    let before = unix_millis();
    let clock = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)";
    let clock: i64 = sqlx::query_scalar(clock)
        .fetch_one(&mut connection)
        .await
        .map_err(failed("asking the database for the time"))?;
    let ahead = clock - (before + unix_millis()) / 2;
    let exists = "SELECT to_regclass('setting') IS NOT NULL";
    let exists: bool = sqlx::query_scalar(exists)
        .fetch_one(&mut connection)
        .await
        .map_err(failed("reading the database"))?;
    let stand: Stand = match exists {
        false => (None, None),
        true => sqlx::query_as(schema::STAND)
            .fetch_one(&mut connection)
            .await
            .map_err(failed("reading the database"))?,
    };
    // It was only read: nothing is lost when this fails.
    let _ = connection.close().await;
    let tables = tables(stand, &postgres::MIGRATIONS);
    Ok(Probe { tables, ahead })
}

fn tables((newest, needs): Stand, known: &Migrator) -> Tables {
    let Some(newest) = newest else {
        return Tables::None;
    };
    match newest.cmp(&schema::newest(known)) {
        _ if schema::assert_fit(needs, known).is_err() => Tables::Newer,
        Ordering::Greater => Tables::Ahead,
        Ordering::Less => Tables::Older,
        Ordering::Equal => Tables::Current,
    }
}

fn failed(step: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| StoreError {
        step,
        failure: Failure::Unavailable,
        source: Box::new(error),
    }
}
