//! The statements every status needs, as SQLite has them quickest: one list of
//! JSON each.

use super::{Write, failed};
use crate::fleet::handout::MAX_JOBS;
use crate::store::Result;
use crate::store::batch::{SeenRow, StateRow, json};
use crate::store::status::{OpenJob, Touched};

/// Notes when hosts were seen, of those whose secret has the number of the one
/// in force.
pub(super) async fn touch(tx: &mut Write, rows: &[SeenRow<'_>]) -> Result<Vec<Touched>> {
    // `WHERE true` tells SQLite's parser that ON belongs to the INSERT.
    sqlx::query_as(
        "INSERT INTO host_seen (agentsn, number, every, seen, reported, uptime, readings)
         SELECT value ->> 'agentsn', value ->> 'number', value ->> 'every', value ->> 'seen',
                value ->> 'reported', value ->> 'uptime', value ->> 'readings'
         FROM json_each($1) WHERE true
         ON CONFLICT (agentsn) DO UPDATE SET every = excluded.every, seen = excluded.seen,
                reported = excluded.reported, uptime = excluded.uptime,
                readings = excluded.readings
             WHERE host_seen.number = excluded.number
         RETURNING agentsn, state, rotate_due",
    )
    .bind(json(rows))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("storing when hosts were seen"))
}

/// Writes the states whose digest changed, and returns them. Most have not:
/// those are found by their digests, so that their bodies are never made JSON.
pub(super) async fn write_states<'r, 'a>(
    tx: &mut Write,
    rows: &'r [StateRow<'a>],
) -> Result<Vec<&'r StateRow<'a>>> {
    let digests: Vec<_> = rows.iter().map(|row| (row.agentsn, row.digest)).collect();
    let places: Vec<i64> = sqlx::query_scalar(
        "SELECT given.key FROM json_each($1) AS given
         LEFT JOIN host_state ON host_state.agentsn = given.value ->> 0
         WHERE host_state.digest IS NOT given.value ->> 1 ORDER BY given.key",
    )
    .bind(json(&digests))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("looking for states that changed"))?;
    let changed: Vec<_> = places
        .into_iter()
        .filter_map(|place| rows.get(usize::try_from(place).ok()?))
        .collect();
    if changed.is_empty() {
        return Ok(changed);
    }
    sqlx::query(
        "INSERT INTO host_state (agentsn, digest, changed, body)
         SELECT value ->> 'agentsn', value ->> 'digest', value ->> 'changed', value ->> 'body'
         FROM json_each($1) WHERE true
         ON CONFLICT (agentsn) DO UPDATE
             SET digest = excluded.digest, changed = excluded.changed, body = excluded.body",
    )
    .bind(json(&changed))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing the states of hosts"))?;
    Ok(changed)
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
