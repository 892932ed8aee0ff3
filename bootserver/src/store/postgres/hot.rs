//! The statements every status needs, as PostgreSQL has them quickest: one array
//! per column. Rows come sorted by host, so that two replicas never wait for
//! each other.

use super::{Write, failed};
use crate::fleet::handout::MAX_JOBS;
use crate::store::Result;
use crate::store::batch::{SeenRow, StateRow, json};
use crate::store::status::{OpenJob, Touched};

/// Notes when hosts were seen, of those whose secret has the number of the one
/// in force.
pub(super) async fn touch(tx: &mut Write, rows: &[SeenRow<'_>]) -> Result<Vec<Touched>> {
    sqlx::query_as(
        "INSERT INTO host_seen (agentsn, number, every, seen, reported, uptime, readings)
         SELECT * FROM UNNEST($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                              $6::bigint[], $7::text[])
         ON CONFLICT (agentsn) DO UPDATE SET every = excluded.every, seen = excluded.seen,
                reported = excluded.reported, uptime = excluded.uptime,
                readings = excluded.readings
             WHERE host_seen.number = excluded.number
         RETURNING agentsn, state, rotate_due",
    )
    .bind(column(rows, |row| row.agentsn))
    .bind(column(rows, |row| row.number))
    .bind(column(rows, |row| row.every))
    .bind(column(rows, |row| row.seen))
    .bind(column(rows, |row| row.reported))
    .bind(column(rows, |row| row.uptime))
    .bind(column(rows, |row| row.readings.as_str()))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("storing when hosts were seen"))
}

/// Writes the states whose digest changed, and returns them.
///
/// Most have not changed: those are found by reading, because an upsert would
/// lock, and so write, each of them.
pub(super) async fn write_states<'r, 'a>(
    tx: &mut Write,
    rows: &'r [StateRow<'a>],
) -> Result<Vec<&'r StateRow<'a>>> {
    let places: Vec<i64> = sqlx::query_scalar(
        "SELECT given.place FROM UNNEST($1::text[], $2::text[]) WITH ORDINALITY
             AS given (agentsn, digest, place)
         LEFT JOIN host_state USING (agentsn)
         WHERE host_state.digest IS DISTINCT FROM given.digest ORDER BY given.place",
    )
    .bind(column(rows, |row| row.agentsn))
    .bind(column(rows, |row| row.digest))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("looking for states that changed"))?;
    let changed: Vec<_> = places
        .into_iter()
        .filter_map(|place| rows.get(usize::try_from(place).ok()?.checked_sub(1)?))
        .collect();
    if changed.is_empty() {
        return Ok(changed);
    }
    sqlx::query(
        "INSERT INTO host_state (agentsn, digest, changed, body)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::text[])
         ON CONFLICT (agentsn) DO UPDATE
             SET digest = excluded.digest, changed = excluded.changed, body = excluded.body",
    )
    .bind(column(&changed, |row| row.agentsn))
    .bind(column(&changed, |row| row.digest))
    .bind(column(&changed, |row| row.changed))
    .bind(column(&changed, |row| json(row.body)))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing the states of hosts"))?;
    Ok(changed)
}

/// The first open jobs of each host in the order they were given, withdrawals
/// before everything else. A job that expired before it was ever handed out
/// stays here. They are locked, so that none is withdrawn while it goes out.
pub(super) async fn open_jobs(tx: &mut Write, agentsns: &[&str], now: i64) -> Result<Vec<OpenJob>> {
    sqlx::query_as(
        "SELECT waiting.agentsn, waiting.id, waiting.body, waiting.was_sent
         FROM UNNEST($1::text[]) WITH ORDINALITY AS h (agentsn, place) CROSS JOIN LATERAL (
             SELECT job.agentsn, job.id, job.body, job.sent IS NOT NULL AS was_sent,
                    job.action <> 'cancel' AS later
             FROM job
             WHERE job.agentsn = h.agentsn AND job.finished IS NULL
               AND (job.sent IS NOT NULL OR job.expires IS NULL OR job.expires > $2)
             ORDER BY later, job.id LIMIT $3
             FOR NO KEY UPDATE) AS waiting
         ORDER BY h.place, waiting.later, waiting.id",
    )
    .bind(agentsns)
    .bind(now)
    // Twice what a reply takes: jobs the host has already are left out of it.
    .bind(i64::try_from(MAX_JOBS * 2).expect("a small constant"))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("looking for open jobs"))
}

fn column<'r, R, T>(rows: &'r [R], value: impl Fn(&'r R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
