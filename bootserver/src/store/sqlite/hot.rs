//! The statements every status needs, as SQLite has them quickest: one list of
//! JSON each.

use super::{Write, failed};
use crate::fleet::handout::MAX_JOBS;
use crate::store::Result;
use crate::store::batch::{SeenRow, StateRow};
use crate::store::status::OpenJob;

/// Notes when hosts were seen.
pub(super) async fn touch(tx: &mut Write, rows: &[SeenRow<'_>]) -> Result<()> {
    // `WHERE true` tells SQLite's parser that ON belongs to the INSERT.
    sqlx::query(
        "INSERT INTO host_seen (agentsn, seen, reported, uptime, readings)
         SELECT value ->> 'agentsn', value ->> 'seen', value ->> 'reported', value ->> 'uptime',
                value ->> 'readings' FROM json_each($1) WHERE true
         ON CONFLICT (agentsn) DO UPDATE SET seen = excluded.seen, reported = excluded.reported,
                uptime = excluded.uptime, readings = excluded.readings",
    )
    .bind(json(rows))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing when hosts were seen"))?;
    Ok(())
}

/// Writes the states whose digest changed, and what their hosts say of
/// themselves. The machine an identity belongs to is set once: a clone that
/// pushes with a copied secret must not take it over. What it says is in the
/// body.
pub(super) async fn write_states(tx: &mut Write, rows: &[StateRow<'_>]) -> Result<()> {
    let changed: std::collections::HashSet<String> = sqlx::query_scalar(
        "INSERT INTO host_state (agentsn, digest, changed, body)
         SELECT value ->> 'agentsn', value ->> 'digest', value ->> 'changed', value ->> 'body'
         FROM json_each($1) WHERE true
         ON CONFLICT (agentsn) DO UPDATE
             SET digest = excluded.digest, changed = excluded.changed, body = excluded.body
             WHERE host_state.digest <> excluded.digest
         RETURNING agentsn",
    )
    .bind(json(rows))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("storing the states of hosts"))?
    .into_iter()
    .collect();
    let rows: Vec<_> = rows
        .iter()
        .filter(|row| changed.contains(row.agentsn))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE host SET hostname = value ->> 'hostname', version = value ->> 'version',
                machine_id = coalesce(host.machine_id, value ->> 'machine_id'),
                boot_id = coalesce(value ->> 'boot_id', host.boot_id)
         FROM json_each($1) WHERE host.agentsn = value ->> 'agentsn'",
    )
    .bind(json(&rows))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing what hosts say of themselves"))?;
    Ok(())
}

/// The first open jobs of each host in the order they were given, withdrawals
/// before everything else. A job that expired before it was ever handed out
/// stays here. The index is named because SQLite would take that of all jobs a
/// host ever had.
pub(super) async fn open_jobs(tx: &mut Write, agentsns: &[&str], now: i64) -> Result<Vec<OpenJob>> {
    sqlx::query_as(
        "SELECT agentsn, id, body, was_sent FROM (
             SELECT job.agentsn, job.id, job.body, job.sent IS NOT NULL AS was_sent,
                    row_number() OVER (
                        PARTITION BY job.agentsn ORDER BY job.action <> 'cancel', job.id) AS place
             FROM json_each($1) AS h CROSS JOIN job INDEXED BY job_open_by_host
             WHERE job.agentsn = h.value AND job.finished IS NULL
               AND (job.sent IS NOT NULL OR job.expires IS NULL OR job.expires > $2))
         WHERE place <= $3 ORDER BY agentsn, place",
    )
    .bind(json(agentsns))
    .bind(now)
    // Twice what a reply takes: jobs the host has already are left out of it.
    .bind(i64::try_from(MAX_JOBS * 2).expect("a small constant"))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("looking for open jobs"))
}

fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("strings, numbers and lists always serialise")
}
