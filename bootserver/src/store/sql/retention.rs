//! Forgets what is older than operators want, the oldest first and a few rows
//! at a time: statuses wait for each of these transactions.

use super::lease::holds;
use super::{SqlStore, failed};
use crate::store::Result;
use crate::store::lease::{Held, Lease};
use crate::store::retention::Kept;

pub(super) async fn forget(
    store: &SqlStore,
    lease: &Lease,
    kept: Kept,
    before: i64,
    rows: u32,
) -> Result<Held<u64>> {
    let step = "forgetting what is old";
    let mut tx = store.write(step).await?;
    if !holds(&mut tx, lease).await? {
        return Ok(Held::Lost);
    }
    let statement = match kept {
        Kept::Events => {
            "DELETE FROM event WHERE id IN (
                 SELECT id FROM event WHERE received < $1 ORDER BY received, id LIMIT $2)"
        }
        // A result goes with its job. One without would find no job to name it.
        Kept::Jobs => {
            "DELETE FROM job WHERE id IN (
                 SELECT job FROM job_result WHERE finished < $1 ORDER BY finished, seq LIMIT $2)"
        }
        Kept::Audit => {
            "DELETE FROM audit WHERE id IN (
                 SELECT id FROM audit WHERE at < $1 ORDER BY at, id LIMIT $2)"
        }
    };
    let forgotten = sqlx::query(statement)
        .bind(before)
        .bind(i64::from(rows))
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    tx.commit().await.map_err(failed(step))?;
    Ok(Held::Done(forgotten.rows_affected()))
}
