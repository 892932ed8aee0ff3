//! After a restore: what must not go on as if nothing had happened since the copy.

use super::rollout::{count_frozen, read, write_stand};
use super::{SqlStore, Write, failed, job_end, raise_ids};
use crate::fleet::rollout::stand::{Command, Phase};
use crate::store::Result;

pub(super) async fn restored(store: &SqlStore, now: i64) -> Result<u64> {
    let step = "ending what was under way in the copy";
    let mut tx = store.write(step).await?;
    // A session that was ended since, or whose user lost the right to it, must
    // not be back.
    for statement in ["DELETE FROM session", "DELETE FROM login_throttle"] {
        sqlx::query(statement)
            .execute(&mut *tx)
            .await
            .map_err(failed(step))?;
    }
    // Who reads on from a number must not miss what comes now.
    raise_ids(&mut tx).await?;
    pause_rollouts(&mut tx, now).await?;
    tx.commit().await.map_err(failed(step))?;
    job_end::close_open(store, now).await
}

/// What rollouts did since the copy is not in it.
async fn pause_rollouts(tx: &mut Write, now: i64) -> Result<()> {
    let step = "pausing rollouts of the copy";
    let rows = sqlx::query("SELECT * FROM rollout WHERE ended IS NULL ORDER BY number")
        .fetch_all(&mut **tx)
        .await
        .map_err(failed(step))?;
    for row in &rows {
        let rollout = read(row)?;
        let Ok(next) = rollout.stand.take(&rollout.plan, Command::Restored) else {
            continue;
        };
        if rollout.stand.phase == Phase::Freezing {
            count_frozen(tx, &rollout).await?;
        }
        write_stand(tx, &rollout, &next, now).await?;
    }
    Ok(())
}
