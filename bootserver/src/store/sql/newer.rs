//! Whether a newer program works with the tables, too.

use sqlx::Executor;

use super::{Db, MIGRATIONS, failed, schema};
use crate::store::Result;

/// The newest migration that was done, if this program does not know it.
pub(super) async fn unknown_migration<'e, E>(executor: E) -> Result<Option<i64>>
where
    E: Executor<'e, Database = Db>,
{
    let done: Option<i64> = sqlx::query_scalar(schema::DONE)
        .fetch_one(executor)
        .await
        .map_err(failed("asking which program the tables are of"))?;
    Ok(done.filter(|done| *done > schema::newest(&MIGRATIONS)))
}
