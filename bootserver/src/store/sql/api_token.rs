//! Tokens of programs.

use serde_json::{Value, json};
use sqlx::{QueryBuilder, Row};

use super::audit::{Deed, note};
use super::scope::hold_groups;
use super::{Db, DbRow, SqlStore, failed, listing, to_json, user};
use crate::store::Result;
use crate::store::api_token::{
    ApiTokenInserted, ApiTokenQuery, ApiTokenRow, NewApiToken, TokenOwner,
};
use crate::store::audit::By;
use crate::store::enrolment::Revoked;
use crate::store::page::Page;
use crate::token::TokenDigest;

/// The token in force with this digest. What its maker may do is asked each
/// time, so that a demotion holds for their tokens at once.
pub(super) async fn owner(store: &SqlStore, digest: &TokenDigest) -> Result<Option<TokenOwner>> {
    let step = "looking up an API token";
    let row = sqlx::query("SELECT * FROM api_token WHERE digest = $1 AND revoked IS NULL")
        .bind(digest.as_str())
        .fetch_optional(&store.lookups)
        .await
        .map_err(failed(step))?;
    let Some(token) = row.as_ref().map(read).transpose()? else {
        return Ok(None);
    };
    let Some(maker) = &token.maker else {
        return Ok(Some(TokenOwner { token, maker: None }));
    };
    let row = sqlx::query("SELECT * FROM user_account WHERE id = $1 AND disabled IS NULL")
        .bind(maker)
        .fetch_optional(&store.lookups)
        .await
        .map_err(failed(step))?;
    let maker = row.as_ref().map(user::read).transpose()?;
    Ok(maker.map(|maker| TokenOwner {
        token,
        maker: Some((maker.role, maker.scope)),
    }))
}

pub(super) async fn touch(store: &SqlStore, id: &str, now: i64) -> Result<()> {
    sqlx::query("UPDATE api_token SET used = $2 WHERE id = $1")
        .bind(id)
        .bind(now)
        .execute(&store.writer)
        .await
        .map_err(failed("noting that an API token is in use"))?;
    Ok(())
}

pub(super) async fn insert(
    store: &SqlStore,
    new: &NewApiToken,
    by: &By,
) -> Result<ApiTokenInserted> {
    let step = "storing an API token";
    let mut tx = store.write(step).await?;
    let unknown = hold_groups(&mut tx, &new.scope).await?;
    if !unknown.is_empty() {
        return Ok(ApiTokenInserted::UnknownGroups(unknown));
    }
    let row = sqlx::query(
        "INSERT INTO api_token (id, name, digest, created, role, scope, maker, expires)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *",
    )
    .bind(&new.id)
    .bind(&new.name)
    .bind(new.digest.as_str())
    .bind(by.at)
    .bind(new.role.as_str())
    .bind(to_json(&new.scope.to_texts()))
    .bind(&new.maker)
    .bind(new.expires)
    .fetch_one(&mut *tx)
    .await
    .map_err(failed(step))?;
    let token = read(&row)?;
    let deed = Deed {
        action: "api-token.create",
        target: &token.id,
        detail: json!({ "after": brief(&token) }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(ApiTokenInserted::Done(token))
}

pub(super) async fn list(store: &SqlStore, query: &ApiTokenQuery) -> Result<Page<ApiTokenRow>> {
    let mut sql: QueryBuilder<Db> = QueryBuilder::new("SELECT * FROM api_token WHERE 1 = 1");
    if let Some(maker) = &query.maker {
        sql.push(" AND maker = ").push_bind(maker);
    }
    if let Some(after) = &query.after {
        sql.push(" AND id < ").push_bind(after);
    }
    sql.push(" ORDER BY id DESC");
    let key = |token: &ApiTokenRow| token.id.clone();
    listing::page(store, "listing API tokens", sql, query.limit, read, key).await
}

/// A token; with `maker` only one of theirs.
pub(super) async fn by_id(
    store: &SqlStore,
    id: &str,
    maker: Option<&str>,
) -> Result<Option<ApiTokenRow>> {
    let row = sqlx::query("SELECT * FROM api_token WHERE id = $1 AND ($2 IS NULL OR maker = $2)")
        .bind(id)
        .bind(maker)
        .fetch_optional(&store.readers)
        .await
        .map_err(failed("looking up an API token"))?;
    row.as_ref().map(read).transpose()
}

/// Revokes a token, if this is still its revision; with `maker` only one of theirs.
/// Doing so twice keeps the first time.
pub(super) async fn revoke(
    store: &SqlStore,
    id: &str,
    maker: Option<&str>,
    revision: Option<i64>,
    by: &By,
) -> Result<Revoked> {
    let step = "revoking an API token";
    let mut tx = store.write(step).await?;
    let row = sqlx::query(concat!(
        "SELECT * FROM api_token WHERE id = $1 AND ($2 IS NULL OR maker = $2)",
        for_update!()
    ))
    .bind(id)
    .bind(maker)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed(step))?;
    let Some(token) = row.as_ref().map(read).transpose()? else {
        return Ok(Revoked::Unknown);
    };
    if revision.is_some_and(|revision| revision != token.revision()) {
        return Ok(Revoked::Stale);
    }
    sqlx::query("UPDATE api_token SET revoked = coalesce(revoked, $2) WHERE id = $1")
        .bind(id)
        .bind(by.at)
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    let deed = Deed {
        action: "api-token.revoke",
        target: id,
        detail: json!({ "before": brief(&token) }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(Revoked::Done)
}

/// What the audit says of a token.
fn brief(token: &ApiTokenRow) -> Value {
    json!({
        "name": token.name,
        "role": token.role,
        "scope": token.scope.to_texts(),
        "expires": token.expires,
    })
}

fn read(row: &DbRow) -> Result<ApiTokenRow> {
    let step = "reading an API token";
    let text = |column| row.try_get::<String, _>(column).map_err(failed(step));
    let maybe = |column| {
        row.try_get::<Option<String>, _>(column)
            .map_err(failed(step))
    };
    let time = |column| row.try_get::<Option<i64>, _>(column).map_err(failed(step));
    Ok(ApiTokenRow {
        id: text("id")?,
        name: text("name")?,
        role: user::role(&text("role")?)?,
        scope: user::scope(&text("scope")?)?,
        maker: maybe("maker")?,
        created: row.try_get("created").map_err(failed(step))?,
        expires: time("expires")?,
        used: time("used")?,
        revoked: time("revoked")?,
    })
}
