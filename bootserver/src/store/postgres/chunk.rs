//! The bytes of packages in PostgreSQL, so that every replica has what one took.
//!
//! A blob comes in by chunks, each in a transaction of its own. It is there for
//! others when it gets its sum, in the transaction that stores the package; it is
//! gone with the transaction that deletes the last package with these bytes. The
//! one rule: chunks are never removed while their blob has a sum. They go a few at
//! a time afterwards, and what a killed server left is swept.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::queries::failed;
use super::{Ears, Result, StoreError, Write, one_at_a_time};
use crate::store::Failure;

/// Bytes of every chunk but the last.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Chunks removed in one transaction.
const REMOVED_AT_ONCE: i64 = 32;

const IS_NAMED: &str = "SELECT EXISTS (SELECT 1 FROM package WHERE sha256 = $1)";

/// The bytes of packages in one database.
#[derive(Debug, Clone)]
pub struct Chunks {
    /// Connections of their own: neither a status nor a list waits for a package.
    pub(super) pool: PgPool,
}

impl Chunks {
    /// Begins a blob; returns its id.
    pub async fn begin(&self) -> Result<String> {
        let id = Uuid::now_v7().to_string();
        sqlx::query(concat!(
            "INSERT INTO blob (id, begun) VALUES ($1, ",
            database_now!(),
            ")"
        ))
        .bind(&id)
        .execute(&self.pool)
        .await
        .map_err(failed("beginning an upload"))?;
        Ok(id)
    }

    /// Adds the next chunk of a blob that comes in.
    pub async fn append(&self, blob: &str, number: u64, bytes: &[u8]) -> Result<()> {
        let step = "storing a part of an upload";
        let added = sqlx::query(
            "INSERT INTO blob_chunk (blob, number, bytes)
             SELECT id, $2, $3 FROM blob WHERE id = $1 AND sha256 IS NULL AND begun > 0",
        )
        .bind(blob)
        .bind(number.cast_signed())
        .bind(bytes)
        .execute(&self.pool)
        .await
        .map_err(failed(step))?;
        match added.rows_affected() {
            1 => Ok(()),
            _ => Err(StoreError {
                step,
                failure: Failure::Rejected,
                source: "the upload is not there any more: it took too long".into(),
            }),
        }
    }

    /// The id of the blob with this sum.
    pub async fn find(&self, sha256: &str) -> Result<Option<String>> {
        sqlx::query_scalar("SELECT id FROM blob WHERE sha256 = $1")
            .bind(sha256)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("looking up the bytes of a package"))
    }

    /// Up to `length` bytes of one chunk from `offset` on; none when the blob is
    /// gone.
    pub async fn read(
        &self,
        blob: &str,
        number: u64,
        offset: usize,
        length: usize,
    ) -> Result<Option<Vec<u8>>> {
        let bytes = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        sqlx::query_scalar(
            "SELECT substr(bytes, $3 + 1, $4) FROM blob_chunk WHERE blob = $1 AND number = $2",
        )
        .bind(blob)
        .bind(number.cast_signed())
        .bind(bytes(offset))
        .bind(bytes(length))
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("reading a part of a package"))
    }

    /// Whether a package has these bytes.
    pub async fn is_named(&self, sha256: &str) -> Result<bool> {
        sqlx::query_scalar(IS_NAMED)
            .bind(sha256)
            .fetch_one(&self.pool)
            .await
            .map_err(failed("asking who needs the bytes of a package"))
    }

    /// Keeps a blob whose package is there already. Returns whether it is.
    pub async fn adopt(&self, blob: &str, sha256: &str) -> Result<bool> {
        let step = "taking over the bytes of a package";
        let begun = self.pool.begin().await;
        let mut tx = Write::new(begun.map_err(failed(step))?, Ears);
        one_at_a_time(&mut tx).await?;
        let is_named: bool = sqlx::query_scalar(IS_NAMED)
            .bind(sha256)
            .fetch_one(&mut *tx)
            .await
            .map_err(failed(step))?;
        if is_named {
            keep(&mut tx, blob, sha256).await?;
            tx.commit().await.map_err(failed(step))?;
        }
        Ok(is_named)
    }

    /// Gives up a blob that comes in.
    pub async fn give_up(&self, blob: &str) -> Result<()> {
        sqlx::query("UPDATE blob SET begun = 0 WHERE id = $1 AND sha256 IS NULL")
            .bind(blob)
            .execute(&self.pool)
            .await
            .map_err(failed("giving up an upload"))?;
        self.remove_gone().await
    }

    /// Removes the bytes nobody can ask for any more, a few at a time.
    pub async fn remove_gone(&self) -> Result<()> {
        let step = "removing the bytes of a package";
        let gone: Vec<String> =
            sqlx::query_scalar("SELECT id FROM blob WHERE sha256 IS NULL AND begun = 0")
                .fetch_all(&self.pool)
                .await
                .map_err(failed(step))?;
        for blob in gone {
            loop {
                let removed = sqlx::query(
                    "DELETE FROM blob_chunk WHERE blob = $1 AND number IN (
                         SELECT number FROM blob_chunk WHERE blob = $1 ORDER BY number LIMIT $2)",
                )
                .bind(&blob)
                .bind(REMOVED_AT_ONCE)
                .execute(&self.pool)
                .await
                .map_err(failed(step))?;
                if removed.rows_affected() == 0 {
                    break;
                }
            }
            // Another replica may be at it too: its chunks may come to an end first.
            sqlx::query(
                "DELETE FROM blob WHERE id = $1
                     AND NOT EXISTS (SELECT 1 FROM blob_chunk WHERE blob = $1)",
            )
            .bind(&blob)
            .execute(&self.pool)
            .await
            .map_err(failed(step))?;
        }
        Ok(())
    }
}

/// Gives a blob its sum. Where the same bytes are there already, these go.
pub(in crate::store) async fn keep(
    connection: &mut PgConnection,
    blob: &str,
    sha256: &str,
) -> Result<()> {
    let step = "keeping the bytes of a package";
    let kept = sqlx::query(
        "UPDATE blob SET
             sha256 = CASE WHEN others.there THEN NULL ELSE $2 END,
             begun = CASE WHEN others.there THEN 0 ELSE begun END
         FROM (SELECT EXISTS (SELECT 1 FROM blob WHERE sha256 = $2) AS there) AS others
         WHERE id = $1 AND sha256 IS NULL AND begun > 0",
    )
    .bind(blob)
    .bind(sha256)
    .execute(connection)
    .await
    .map_err(failed(step))?;
    match kept.rows_affected() {
        1 => Ok(()),
        _ => Err(StoreError {
            step,
            failure: Failure::Rejected,
            source: "the upload is not there any more: it took too long".into(),
        }),
    }
}

/// Nobody can ask for these bytes any more.
pub(super) async fn let_go(connection: &mut PgConnection, sha256: &str) -> Result<()> {
    sqlx::query("UPDATE blob SET sha256 = NULL, begun = 0 WHERE sha256 = $1")
        .bind(sha256)
        .execute(connection)
        .await
        .map_err(failed("letting the bytes of a package go"))?;
    Ok(())
}

/// Gives up what has been coming in for longer than any upload may take.
pub(super) async fn sweep(connection: &mut PgConnection, older_than: i64) -> Result<u64> {
    let swept = sqlx::query(concat!(
        "UPDATE blob SET begun = 0 WHERE sha256 IS NULL AND begun > 0 AND begun <= ",
        database_now!(),
        " - $1"
    ))
    .bind(older_than)
    .execute(connection)
    .await
    .map_err(failed("giving up unfinished uploads"))?;
    Ok(swept.rows_affected())
}
