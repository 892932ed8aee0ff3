//! Leases on the database's clock.

use super::{SqlStore, Write, failed};
use crate::store::Result;
use crate::store::lease::Lease;

pub(super) async fn take(
    store: &SqlStore,
    name: &'static str,
    holder: &str,
    millis: i64,
) -> Result<Option<Lease>> {
    let epoch: Option<i64> = sqlx::query_scalar(concat!(
        "INSERT INTO lease (name, holder, epoch, until) VALUES ($1, $2, 1, $3 + ",
        database_now!(),
        ") ON CONFLICT (name) DO UPDATE
             SET holder = excluded.holder, until = excluded.until,
                 epoch = lease.epoch + CASE WHEN lease.holder = excluded.holder THEN 0 ELSE 1 END
             WHERE lease.holder = excluded.holder OR lease.until <= ",
        database_now!(),
        " RETURNING epoch"
    ))
    .bind(name)
    .bind(holder)
    .bind(millis)
    .fetch_optional(&store.writer)
    .await
    .map_err(failed("taking a lease"))?;
    Ok(epoch.map(|epoch| Lease {
        name,
        holder: holder.to_owned(),
        epoch,
    }))
}

pub(super) async fn give_back(store: &SqlStore, lease: &Lease) -> Result<()> {
    sqlx::query("UPDATE lease SET until = 0 WHERE name = $1 AND holder = $2 AND epoch = $3")
        .bind(lease.name)
        .bind(&lease.holder)
        .bind(lease.epoch)
        .execute(&store.writer)
        .await
        .map_err(failed("giving a lease back"))?;
    Ok(())
}

pub(super) async fn give_all_back(store: &SqlStore, holder: &str) -> Result<()> {
    sqlx::query("UPDATE lease SET until = 0 WHERE holder = $1")
        .bind(holder)
        .execute(&store.writer)
        .await
        .map_err(failed("giving leases back"))?;
    Ok(())
}

/// Whether a lease holds; if so, nobody takes it before the commit. Said at the
/// beginning of every write under it, after `one_at_a_time`.
pub(super) async fn holds(tx: &mut Write, lease: &Lease) -> Result<bool> {
    let row = sqlx::query(concat!(
        "SELECT 1 FROM lease WHERE name = $1 AND holder = $2 AND epoch = $3 AND until > ",
        database_now!(),
        for_share!()
    ))
    .bind(lease.name)
    .bind(&lease.holder)
    .bind(lease.epoch)
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed("looking whether a lease holds"))?;
    Ok(row.is_some())
}
