//! Sessions of users, and how often a password was tried.

use serde_json::json;
use sqlx::{QueryBuilder, Row};

use super::audit::{Deed, note};
use super::{DbRow, SqlStore, failed, listing, user};
use crate::access::throttle::{Attempt, Bucket, attempt};
use crate::store::Result;
use crate::store::audit::By;
use crate::store::page::{Limit, Page};
use crate::store::session::{NewSession, SessionBegun, SessionEnded, SessionOwner, SessionRow};
use crate::token::TokenDigest;

/// Rows that are over and go with one sign-in.
const SWEEP: i64 = 100;

/// Counts an attempt in all its buckets, or in none when one is full.
pub(super) async fn count_attempt(
    store: &SqlStore,
    buckets: &[Bucket],
    now: i64,
) -> Result<Attempt> {
    let step = "counting an attempt to sign in";
    let mut tx = store.write(step).await?;
    let mut last = Attempt::Allowed { paid: now };
    for bucket in buckets {
        // Also locks the row, so that two attempts at once count as two.
        let paid: i64 = sqlx::query_scalar(
            "INSERT INTO login_throttle (key, paid) VALUES ($1, $2)
             ON CONFLICT (key) DO UPDATE SET paid = login_throttle.paid RETURNING paid",
        )
        .bind(&bucket.key)
        .bind(now)
        .fetch_one(&mut *tx)
        .await
        .map_err(failed(step))?;
        last = attempt(bucket.rate, Some(paid), now);
        let Attempt::Allowed { paid } = last else {
            // Dropping the transaction takes back what was counted.
            return Ok(last);
        };
        sqlx::query("UPDATE login_throttle SET paid = $2 WHERE key = $1")
            .bind(&bucket.key)
            .bind(paid)
            .execute(&mut *tx)
            .await
            .map_err(failed(step))?;
    }
    tx.commit().await.map_err(failed(step))?;
    Ok(last)
}

/// Takes one attempt out of its buckets again.
pub(super) async fn refund_attempt(store: &SqlStore, buckets: &[Bucket]) -> Result<()> {
    let step = "taking back an attempt to sign in";
    let mut tx = store.write(step).await?;
    for bucket in buckets {
        sqlx::query("UPDATE login_throttle SET paid = paid - $2 WHERE key = $1")
            .bind(&bucket.key)
            .bind(bucket.rate.every)
            .execute(&mut *tx)
            .await
            .map_err(failed(step))?;
    }
    tx.commit().await.map_err(failed(step))
}

pub(super) async fn forget_attempts(store: &SqlStore, bucket: &Bucket) -> Result<()> {
    sqlx::query("DELETE FROM login_throttle WHERE key = $1")
        .bind(&bucket.key)
        .execute(&store.writer)
        .await
        .map_err(failed("forgetting attempts to sign in"))?;
    Ok(())
}

/// Forgets counts that are paid for and sessions that are over.
pub(super) async fn sweep(store: &SqlStore, now: i64, idle_since: i64) -> Result<()> {
    let step = "forgetting what is over";
    let old = "DELETE FROM login_throttle WHERE key IN
        (SELECT key FROM login_throttle WHERE paid <= $1 ORDER BY paid LIMIT $2)";
    sqlx::query(old)
        .bind(now)
        .bind(SWEEP)
        .execute(&store.writer)
        .await
        .map_err(failed(step))?;
    let over = "DELETE FROM session WHERE id IN
        (SELECT id FROM session WHERE expires <= $1 OR seen <= $2 LIMIT $3)";
    sqlx::query(over)
        .bind(now)
        .bind(idle_since)
        .bind(SWEEP)
        .execute(&store.writer)
        .await
        .map_err(failed(step))?;
    Ok(())
}

pub(super) async fn begin(store: &SqlStore, new: &NewSession, by: &By) -> Result<SessionBegun> {
    let step = "beginning a session";
    let mut tx = store.write(step).await?;
    let still = sqlx::query(
        "UPDATE user_account SET signed_in = $2
         WHERE id = $1 AND disabled IS NULL AND password = $3",
    )
    .bind(&new.user)
    .bind(by.at)
    .bind(new.password.as_str())
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    if still.rows_affected() == 0 {
        return Ok(SessionBegun::Refused);
    }
    sqlx::query(
        "INSERT INTO session (id, digest, account, created, seen, expires, address, client)
         VALUES ($1, $2, $3, $4, $4, $5, $6, $7)",
    )
    .bind(&new.id)
    .bind(new.digest.as_str())
    .bind(&new.user)
    .bind(by.at)
    .bind(new.expires)
    .bind(&by.address)
    .bind(&new.client)
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    let deed = Deed {
        action: "session.begin",
        target: &new.id,
        detail: json!({ "client": new.client }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(SessionBegun::Done)
}

pub(super) async fn owner(store: &SqlStore, digest: &TokenDigest) -> Result<Option<SessionOwner>> {
    let step = "looking up a session";
    let row = sqlx::query("SELECT * FROM session WHERE digest = $1")
        .bind(digest.as_str())
        .fetch_optional(&store.lookups)
        .await
        .map_err(failed(step))?;
    let Some(session) = row.as_ref().map(read).transpose()? else {
        return Ok(None);
    };
    let row = sqlx::query("SELECT * FROM user_account WHERE id = $1 AND disabled IS NULL")
        .bind(&session.user)
        .fetch_optional(&store.lookups)
        .await
        .map_err(failed(step))?;
    let user = row.as_ref().map(user::read).transpose()?;
    Ok(user.map(|user| SessionOwner { session, user }))
}

pub(super) async fn touch(store: &SqlStore, id: &str, now: i64) -> Result<()> {
    sqlx::query("UPDATE session SET seen = $2 WHERE id = $1")
        .bind(id)
        .bind(now)
        .execute(&store.writer)
        .await
        .map_err(failed("noting that a session is in use"))?;
    Ok(())
}

pub(super) async fn list(
    store: &SqlStore,
    user: &str,
    after: Option<String>,
    limit: Limit,
) -> Result<Page<SessionRow>> {
    let mut sql = QueryBuilder::new("SELECT * FROM session WHERE account = ");
    sql.push_bind(user);
    if let Some(after) = after {
        sql.push(" AND id < ").push_bind(after);
    }
    sql.push(" ORDER BY id DESC");
    let key = |session: &SessionRow| session.id.clone();
    listing::page(store, "listing sessions", sql, limit, read, key).await
}

/// Ends a session; with `user` only one of theirs.
pub(super) async fn end(
    store: &SqlStore,
    id: &str,
    user: Option<&str>,
    by: &By,
) -> Result<SessionEnded> {
    let step = "ending a session";
    let mut tx = store.write(step).await?;
    let owner: Option<String> = sqlx::query_scalar(
        "DELETE FROM session WHERE id = $1 AND ($2 IS NULL OR account = $2) RETURNING account",
    )
    .bind(id)
    .bind(user)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed(step))?;
    let Some(owner) = owner else {
        return Ok(SessionEnded::Unknown);
    };
    let deed = Deed {
        action: "session.end",
        target: id,
        detail: json!({ "user": owner }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(SessionEnded::Done)
}

fn read(row: &DbRow) -> Result<SessionRow> {
    let read = || -> std::result::Result<SessionRow, sqlx::Error> {
        Ok(SessionRow {
            id: row.try_get("id")?,
            user: row.try_get("account")?,
            created: row.try_get("created")?,
            seen: row.try_get("seen")?,
            expires: row.try_get("expires")?,
            address: row.try_get("address")?,
            client: row.try_get("client")?,
        })
    };
    read().map_err(failed("reading a session"))
}
