//! After a restore: what must not go on as if nothing had happened since the copy.

use super::{SqlStore, failed, job_end, raise_ids};
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
    tx.commit().await.map_err(failed(step))?;
    job_end::close_open(store, now).await
}
