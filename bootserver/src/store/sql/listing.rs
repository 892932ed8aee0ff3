//! What all lists do alike: fetch one row more than a page has, cut it off, and
//! count no further than anybody looks.

use sqlx::QueryBuilder;

use super::{Db, DbRow, SqlStore, failed};
use crate::store::Result;
use crate::store::page::{Limit, MAX_TOTAL, Page, Total};

/// One page of a query that ends with its ORDER BY.
pub(super) async fn page<T>(
    store: &SqlStore,
    step: &'static str,
    sql: QueryBuilder<Db>,
    limit: Limit,
    read: impl FnMut(&DbRow) -> Result<T>,
    key: impl Fn(&T) -> String,
) -> Result<Page<T>> {
    let rows = rows(store, step, sql, limit).await?;
    let items = rows.iter().map(read).collect::<Result<_>>()?;
    Ok(Page::cut(items, limit, key))
}

/// The rows of a page and one more, for who has to look something up for them.
pub(super) async fn rows(
    store: &SqlStore,
    step: &'static str,
    mut sql: QueryBuilder<Db>,
    limit: Limit,
) -> Result<Vec<DbRow>> {
    sql.push(" LIMIT ").push_bind(limit.probe());
    sql.build()
        .fetch_all(&store.readers)
        .await
        .map_err(failed(step))
}

/// How many rows a query `SELECT 1 FROM ...` has, as far as one counts.
pub(super) async fn total(store: &SqlStore, mut sql: QueryBuilder<Db>) -> Result<Total> {
    sql.push(" LIMIT ").push_bind(MAX_TOTAL + 1);
    let found = sql
        .build()
        .fetch_all(&store.readers)
        .await
        .map_err(failed("counting the rows of a list"))?;
    Ok(Total::of(found.len()))
}
