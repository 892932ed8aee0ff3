//! Forgets what is older than operators want, the oldest first and a few rows
//! at a time: statuses wait for each of these transactions.

use super::lease::holds;
use super::presence::count;
use super::{SqlStore, Write, failed, rollout_pack, to_json};
use crate::fleet::presence::Presence;
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
        Kept::Hosts => {
            let forgotten = forget_hosts(&mut tx, before, rows).await?;
            tx.commit().await.map_err(failed(step))?;
            return Ok(Held::Done(forgotten));
        }
        Kept::Rollouts => {
            let forgotten = forget_rollout(&mut tx, before, rows).await?;
            tx.commit().await.map_err(failed(step))?;
            return Ok(Held::Done(forgotten));
        }
        Kept::Changes => {
            "DELETE FROM host_change WHERE id IN (
                 SELECT id FROM host_change WHERE at < $1 ORDER BY at, id LIMIT $2)"
        }
        Kept::Events => {
            "DELETE FROM event WHERE id IN (
                 SELECT id FROM event WHERE received < $1 ORDER BY received, id LIMIT $2)"
        }
        // A result goes with its job. One without would find no job to name it.
        Kept::Jobs => {
            "DELETE FROM job WHERE id IN (
                 SELECT job FROM job_result WHERE finished < $1 ORDER BY finished, seq LIMIT $2)"
        }
        Kept::Answers => {
            "DELETE FROM idempotency WHERE (caller, key) IN (
                 SELECT caller, key FROM idempotency WHERE begun < $1 ORDER BY begun LIMIT $2)"
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

async fn forget_hosts(tx: &mut Write, before: i64, rows: u32) -> Result<u64> {
    let step = "forgetting hosts that were deleted";
    let agentsns: Vec<String> = sqlx::query_scalar(concat!(
        "SELECT agentsn FROM host_seen WHERE state = 'deleted' AND agentsn IN (
             SELECT agentsn FROM host WHERE state = 'deleted' AND since < $1
                 AND NOT EXISTS (SELECT 1 FROM event WHERE event.agentsn = host.agentsn)
                 AND NOT EXISTS (SELECT 1 FROM job WHERE job.agentsn = host.agentsn)
                 AND NOT EXISTS (
                     SELECT 1 FROM host_change WHERE host_change.agentsn = host.agentsn)
                 LIMIT $2)",
        // Who comes back just now stays.
        skip_locked!()
    ))
    .bind(before)
    .bind(i64::from(rows))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed(step))?;
    if agentsns.is_empty() {
        return Ok(0);
    }
    let gone = sqlx::query(concat!(
        "DELETE FROM host WHERE agentsn IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ")"
    ))
    .bind(to_json(&agentsns))
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    let gone = i64::try_from(gone.rows_affected()).unwrap_or(i64::MAX);
    count(tx, Presence::Deleted, -gone).await?;
    Ok(gone.unsigned_abs())
}

/// Forgets targets of the rollout that ended first, and with its last one itself.
async fn forget_rollout(tx: &mut Write, before: i64, rows: u32) -> Result<u64> {
    let step = "forgetting rollouts that ended";
    let number: Option<i64> = sqlx::query_scalar(
        "SELECT number FROM rollout WHERE ended < $1 ORDER BY ended, number LIMIT 1",
    )
    .bind(before)
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed(step))?;
    let Some(number) = number else { return Ok(0) };
    let packed = rollout_pack::forget(tx, number, rows).await?;
    if packed > 0 {
        return Ok(packed);
    }
    let targets = sqlx::query(
        "DELETE FROM rollout_target WHERE rollout = $1 AND place IN (
             SELECT place FROM rollout_target WHERE rollout = $1 ORDER BY place LIMIT $2)",
    )
    .bind(number)
    .bind(i64::from(rows))
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    if targets.rows_affected() >= u64::from(rows) {
        return Ok(targets.rows_affected());
    }
    sqlx::query("DELETE FROM rollout WHERE number = $1")
        .bind(number)
        .execute(&mut **tx)
        .await
        .map_err(failed(step))?;
    // Another one may come after it.
    Ok(u64::from(rows))
}
