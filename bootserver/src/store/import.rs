//! From SQLite to PostgreSQL: every table, row by row, in one transaction, and the
//! files of the packages before it, which get their sums in it.
//!
//! Both have the same tables by the same migrations, so what is in them is not
//! known here: tables and columns are asked of PostgreSQL, and rows travel as
//! JSON. The one rule: nothing is left out silently; what cannot be taken over
//! is an error, and then PostgreSQL is as it was.

use std::path::Path;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection};

use super::postgres::PostgresStore;
use super::postgres::chunk;
use super::sqlite::SqliteStore;
use super::{Failure, Result, Store, StoreError, postgres, schema, sqlite};
use crate::blob::{BlobError, Blobs, Kept, upload_file};

/// Rows of one statement.
const ROWS: i64 = 500;
/// What is not copied: sqlx's own, what triggers write with each host, and what comes
/// from files.
const NOT_COPIED: [&str; 5] = [
    "_sqlx_migrations",
    "host_search",
    "host_address",
    "blob",
    "blob_chunk",
];

/// A column: its name, its type as PostgreSQL calls it, and whether it counts
/// by itself.
type Column = (String, String, bool);

/// Copies a SQLite file, and its packages from `files`, into an empty PostgreSQL
/// database; both are brought up to date first. Returns the number of rows.
pub async fn import(from: &Path, files: &Path, to: PgConnectOptions) -> Result<u64> {
    let step = "connecting to both databases";
    let source = SqliteConnectOptions::new().filename(from);
    let mut source = source.connect().await.map_err(failed(step))?;
    refuse_running(&mut source).await?;
    // The tables must be the same on both sides.
    SqliteStore::open(from).await?.close().await;
    let store = PostgresStore::open(to.clone()).await?;
    let mut target = to.connect().await.map_err(failed(step))?;
    // What is read is the source at one moment, whoever writes.
    let mut source = source.begin().await.map_err(failed(step))?;
    refuse_newer(&mut source, &mut target).await?;
    let tables = tables(&mut target).await?;
    for table in &tables {
        refuse_rows(&mut target, table).await?;
    }
    let packages = upload_packages(&mut source, files, &store).await?;
    let step = "copying into PostgreSQL";
    let mut tx = target.begin().await.map_err(failed(step))?;
    // Somebody may have come in meanwhile.
    for table in &tables {
        refuse_rows(&mut tx, table).await?;
    }
    let mut rows = 0;
    for table in &tables {
        rows += copy(&mut source, &mut tx, table).await?;
    }
    for (sha256, kept) in &packages {
        if let Some(blob) = kept.id() {
            chunk::keep(&mut tx, blob, sha256).await?;
        }
    }
    tx.commit().await.map_err(failed(step))?;
    for (_, kept) in packages {
        kept.done();
    }
    store.close().await;
    // All of a database is for superusers, who we need not be.
    let filled = tables.iter().map(String::as_str).chain(NOT_COPIED);
    let filled = filled.map(quoted).collect::<Vec<_>>();
    let count = format!("ANALYZE {}", filled.join(", "));
    sqlx::raw_sql(AssertSqlSafe(count))
        .execute(&mut target)
        .await
        .map_err(failed("counting what was copied"))?;
    source.rollback().await.map_err(failed(step))?;
    target.close().await.map_err(failed(step))?;
    Ok(rows)
}

/// Puts the bytes of all packages into PostgreSQL, where they wait for the rows.
async fn upload_packages(
    source: &mut SqliteConnection,
    files: &Path,
    store: &PostgresStore,
) -> Result<Vec<(String, Kept)>> {
    let step = "copying the packages into PostgreSQL";
    let sha256s: Vec<String> = sqlx::query_scalar("SELECT DISTINCT sha256 FROM package")
        .fetch_all(source)
        .await
        .map_err(failed(step))?;
    let Some(chunks) = store.chunks() else {
        return Ok(Vec::new());
    };
    let unreadable = |error: BlobError| StoreError {
        step,
        failure: Failure::Rejected,
        source: Box::new(error),
    };
    let blobs = Blobs::rows(chunks.clone());
    let mut uploaded = Vec::new();
    for sha256 in sha256s {
        let finished = upload_file(&chunks, files, &sha256).await;
        let kept = blobs.keep(finished.map_err(unreadable)?).await;
        uploaded.push((sha256, kept.map_err(unreadable)?));
    }
    Ok(uploaded)
}

/// What a server still writes would be missing.
async fn refuse_running(source: &mut SqliteConnection) -> Result<()> {
    let step = "looking whether a server runs on it";
    let held: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM lease WHERE until > unixepoch('now', 'subsec') * 1000",
    )
    .fetch_one(source)
    .await
    .map_err(failed(step))?;
    match held {
        0 => Ok(()),
        _ => {
            let reason = "a server runs on it, or was killed a moment ago; stop it, and try again \
                          in 20 s";
            Err(refused(step, reason.into()))
        }
    }
}

/// A newer program's tables may hold what this one does not know.
async fn refuse_newer(source: &mut SqliteConnection, target: &mut PgConnection) -> Result<()> {
    let step = "looking whether the tables are known";
    let of_source: i64 = sqlx::query_scalar(schema::DONE)
        .fetch_one(source)
        .await
        .map_err(failed(step))?;
    let of_target: i64 = sqlx::query_scalar(schema::DONE)
        .fetch_one(target)
        .await
        .map_err(failed(step))?;
    let known = (
        schema::newest(&sqlite::MIGRATIONS),
        schema::newest(&postgres::MIGRATIONS),
    );
    match (of_source, of_target) == known {
        true => Ok(()),
        false => {
            let reason = "a newer bootserver has added to them; import with that one";
            Err(refused(step, reason.into()))
        }
    }
}

/// The tables, each after those it refers to.
async fn tables(target: &mut PgConnection) -> Result<Vec<String>> {
    let step = "asking for the tables";
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relname <> ALL ($1)
             AND relnamespace = current_schema()::regnamespace ORDER BY relname",
    )
    .bind(NOT_COPIED)
    .fetch_all(&mut *target)
    .await
    .map_err(failed(step))?;
    let needs: Vec<(String, String)> = sqlx::query_as(
        "SELECT child.relname::text, parent.relname::text FROM pg_constraint
         JOIN pg_class AS child ON child.oid = conrelid
         JOIN pg_class AS parent ON parent.oid = confrelid
         WHERE contype = 'f' AND conrelid <> confrelid",
    )
    .fetch_all(&mut *target)
    .await
    .map_err(failed(step))?;
    Ok(in_order(tables, &needs))
}

/// Puts what is needed before what needs it. What needs each other stays as it
/// is, and the database will say so.
fn in_order(mut tables: Vec<String>, needs: &[(String, String)]) -> Vec<String> {
    let mut ordered: Vec<String> = Vec::new();
    while !tables.is_empty() {
        let is_ready = |table: &String| {
            let mut own = needs.iter().filter(|(child, _)| child == table);
            own.all(|(_, parent)| ordered.contains(parent))
        };
        let place = tables.iter().position(is_ready).unwrap_or(0);
        ordered.push(tables.remove(place));
    }
    ordered
}

async fn refuse_rows(target: &mut PgConnection, table: &str) -> Result<()> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {})", quoted(table));
    let there: bool = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(target)
        .await
        .map_err(failed("looking whether PostgreSQL is empty"))?;
    match there {
        false => Ok(()),
        true => Err(refused(
            "looking whether PostgreSQL is empty",
            format!(
                "its table {table} has rows; an empty database is needed: CREATE DATABASE makes one"
            ),
        )),
    }
}

async fn copy(
    source: &mut SqliteConnection,
    target: &mut PgConnection,
    table: &str,
) -> Result<u64> {
    let columns = columns(target, table).await?;
    let names: Vec<String> = columns.iter().map(|(name, ..)| quoted(name)).collect();
    let names = names.join(", ");
    let values: Vec<String> = columns.iter().map(value).collect();
    let values = values.join(", ");
    let table_name = quoted(table);
    let key = key(source, table).await?;
    let last: Vec<String> = (0..key.len())
        .map(|place| format!("$1 ->> {place}"))
        .collect();
    let (key, last) = (key.join(", "), last.join(", "));
    // A row comes with the key to go on after; the first page has none.
    let select = format!(
        "SELECT json_array({key}), json_array({values}) FROM {table_name}
         WHERE $1 IS NULL OR ({key}) > ({last}) ORDER BY {key} LIMIT {ROWS}"
    );
    let fields: Vec<String> = columns.iter().enumerate().map(field).collect();
    let insert = format!(
        "INSERT INTO {table_name} ({names}) SELECT {} FROM jsonb_array_elements($1::jsonb)
             WITH ORDINALITY AS given (value, place) ORDER BY given.place",
        fields.join(", ")
    );
    let mut copied = 0;
    let mut after = None;
    loop {
        let rows: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(select.clone()))
            .bind(&after)
            .fetch_all(&mut *source)
            .await
            .map_err(failed("reading from SQLite"))?;
        let Some((last, _)) = rows.last() else { break };
        after = Some(last.clone());
        copied += rows.len() as u64;
        let rows: Vec<String> = rows.into_iter().map(|(_, row)| row).collect();
        sqlx::query(AssertSqlSafe(insert.clone()))
            .bind(format!("[{}]", rows.join(",")))
            .execute(&mut *target)
            .await
            .map_err(failed("writing to PostgreSQL"))?;
    }
    for (name, _, _) in columns.iter().filter(|(.., counts)| *counts) {
        let last = format!(
            "SELECT setval(pg_get_serial_sequence($1, $2), max({0})) FROM {table_name}
             HAVING max({0}) IS NOT NULL",
            quoted(name)
        );
        sqlx::query(AssertSqlSafe(last))
            .bind(&table_name)
            .bind(name)
            .execute(&mut *target)
            .await
            .map_err(failed("going on counting"))?;
    }
    Ok(copied)
}

/// The columns of a table's primary key. The table may have no other name for
/// its rows.
async fn key(source: &mut SqliteConnection, table: &str) -> Result<Vec<String>> {
    let step = "asking for a table's key";
    let key: Vec<String> =
        sqlx::query_scalar("SELECT name FROM pragma_table_info($1) WHERE pk > 0 ORDER BY pk")
            .bind(table)
            .fetch_all(source)
            .await
            .map_err(failed(step))?;
    match key.is_empty() {
        false => Ok(key.iter().map(|name| quoted(name)).collect()),
        true => Err(refused(
            step,
            format!("SQLite has no table {table} with a primary key"),
        )),
    }
}

async fn columns(target: &mut PgConnection, table: &str) -> Result<Vec<Column>> {
    sqlx::query_as(
        "SELECT attname::text, format_type(atttypid, atttypmod), attidentity <> ''
         FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
         WHERE relname = $1 AND relnamespace = current_schema()::regnamespace
           AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
    )
    .bind(table)
    .fetch_all(target)
    .await
    .map_err(failed("asking for the columns"))
}

/// How a column gets into the list that is its row.
fn value((name, kind, _): &Column) -> String {
    let name = quoted(name);
    match kind.as_str() {
        // There are no bytes in JSON; hex() of nothing would be an empty text.
        "bytea" => format!("iif({name} IS NULL, NULL, hex({name}))"),
        _ => name,
    }
}

/// How a column is read from the list that is its row.
fn field((place, (_, kind, _)): (usize, &Column)) -> String {
    match kind.as_str() {
        // SQLite says 0 and 1.
        "boolean" => format!("given.value ->> {place} <> '0'"),
        "bytea" => format!("decode(given.value ->> {place}, 'hex')"),
        kind => format!("CAST(given.value ->> {place} AS {kind})"),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn failed(step: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| StoreError {
        step,
        failure: Failure::Unavailable,
        source: Box::new(error),
    }
}

fn refused(step: &'static str, reason: String) -> StoreError {
    StoreError {
        step,
        failure: Failure::Rejected,
        source: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::in_order;

    #[test]
    fn a_table_comes_after_those_it_refers_to() {
        let tables = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        let needs = [("a", "c"), ("c", "d")].map(|(x, y)| (x.to_owned(), y.to_owned()));
        assert_eq!(in_order(tables, &needs), ["b", "d", "c", "a"]);
    }
}
