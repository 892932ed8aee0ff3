//! Enrolment tokens, and the first start, which makes one.

use serde_json::{Value, json};
use sqlx::{QueryBuilder, Row};

use super::audit::{Deed, note};
use super::{DbRow, SqlStore, failed, listing, user};
use crate::store::Result;
use crate::store::audit::By;
use crate::store::enrolment::{EnrolmentToken, NewEnrolmentToken, Revoked};
use crate::store::page::{Limit, Page};
use crate::store::{FirstStart, FirstTokens};
use crate::token::TokenDigest;

/// The setting that says that the first start has been.
const FIRST_START: &str = "first_start";

pub(super) async fn is_first_start(store: &SqlStore) -> Result<FirstStart> {
    let row = sqlx::query("SELECT value FROM setting WHERE key = $1")
        .bind(FIRST_START)
        .fetch_optional(&store.readers)
        .await
        .map_err(failed("asking whether this is the first start"))?;
    Ok(row.map_or(FirstStart::First, |_| FirstStart::Later))
}

pub(super) async fn first_start(
    store: &SqlStore,
    tokens: &FirstTokens,
    now: i64,
) -> Result<FirstStart> {
    let step = "storing the tokens of the first start";
    let mut tx = store.write(step).await?;
    let marked = sqlx::query(
        "INSERT INTO setting (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING",
    )
    .bind(FIRST_START)
    .bind(now.to_string())
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    if marked.rows_affected() == 0 {
        return Ok(FirstStart::Later);
    }
    user::insert_in(&mut tx, &tokens.admin, now).await?;
    sqlx::query("INSERT INTO api_token (id, name, digest, created) VALUES ($1, $2, $3, $4)")
        .bind(uuid::Uuid::now_v7().to_string())
        .bind("first start")
        .bind(tokens.api.as_str())
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    sqlx::query(
        "INSERT INTO enrolment_token (id, name, digest, tags, created) VALUES ($1, $2, $3, '', $4)",
    )
    .bind(uuid::Uuid::now_v7().to_string())
    .bind("first start")
    .bind(tokens.enrolment.as_str())
    .bind(now)
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    tx.commit().await.map_err(failed(step))?;
    Ok(FirstStart::First)
}

pub(super) async fn by_digest(
    store: &SqlStore,
    digest: &TokenDigest,
) -> Result<Option<EnrolmentToken>> {
    let row = sqlx::query("SELECT * FROM enrolment_token WHERE digest = $1")
        .bind(digest.as_str())
        .fetch_optional(&store.lookups)
        .await
        .map_err(failed("looking up an enrolment token"))?;
    row.as_ref().map(token).transpose()
}

pub(super) async fn insert(
    store: &SqlStore,
    new: &NewEnrolmentToken,
    by: &By,
) -> Result<EnrolmentToken> {
    let step = "storing an enrolment token";
    let mut tx = store.write(step).await?;
    let row = sqlx::query(
        "INSERT INTO enrolment_token (id, name, digest, tags, uses, expires, created)
         VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *",
    )
    .bind(&new.id)
    .bind(&new.name)
    .bind(new.digest.as_str())
    .bind(new.tags.to_string())
    .bind(new.uses)
    .bind(new.expires)
    .bind(new.created)
    .fetch_one(&mut *tx)
    .await
    .map_err(failed(step))?;
    let stored = token(&row)?;
    let deed = Deed {
        action: "enrolment-token.create",
        target: &stored.id,
        detail: json!({ "after": brief(&stored) }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(stored)
}

pub(super) async fn list(
    store: &SqlStore,
    after: Option<String>,
    limit: Limit,
) -> Result<Page<EnrolmentToken>> {
    let mut sql = QueryBuilder::new("SELECT * FROM enrolment_token WHERE 1 = 1");
    if let Some(after) = after {
        sql.push(" AND id < ").push_bind(after);
    }
    sql.push(" ORDER BY id DESC");
    let key = |token: &EnrolmentToken| token.id.clone();
    listing::page(store, "listing enrolment tokens", sql, limit, token, key).await
}

pub(super) async fn by_id(store: &SqlStore, id: &str) -> Result<Option<EnrolmentToken>> {
    let row = sqlx::query("SELECT * FROM enrolment_token WHERE id = $1")
        .bind(id)
        .fetch_optional(&store.readers)
        .await
        .map_err(failed("looking up an enrolment token"))?;
    row.as_ref().map(token).transpose()
}

pub(super) async fn revoke(
    store: &SqlStore,
    id: &str,
    revision: Option<i64>,
    by: &By,
) -> Result<Revoked> {
    let step = "revoking an enrolment token";
    let mut tx = store.write(step).await?;
    let row = sqlx::query(concat!(
        "SELECT * FROM enrolment_token WHERE id = $1",
        for_update!()
    ))
    .bind(id)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed(step))?;
    let Some(revoked) = row.as_ref().map(token).transpose()? else {
        return Ok(Revoked::Unknown);
    };
    if revision.is_some_and(|revision| revision != revoked.revision()) {
        return Ok(Revoked::Stale);
    }
    sqlx::query("UPDATE enrolment_token SET revoked = coalesce(revoked, $2) WHERE id = $1")
        .bind(id)
        .bind(by.at)
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    let deed = Deed {
        action: "enrolment-token.revoke",
        target: id,
        detail: json!({ "before": brief(&revoked) }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(Revoked::Done)
}

/// What the audit says of a token.
fn brief(token: &EnrolmentToken) -> Value {
    json!({
        "name": token.name,
        "tags": token.tags,
        "uses": token.uses,
        "expires": token.expires,
    })
}

fn token(row: &DbRow) -> Result<EnrolmentToken> {
    let read = || -> std::result::Result<EnrolmentToken, sqlx::Error> {
        Ok(EnrolmentToken {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            tags: row.try_get("tags")?,
            uses: row.try_get("uses")?,
            used: row.try_get("used")?,
            expires: row.try_get("expires")?,
            created: row.try_get("created")?,
            revoked: row.try_get("revoked")?,
        })
    };
    read().map_err(failed("reading an enrolment token"))
}
