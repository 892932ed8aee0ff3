//! The statements every status needs, as SQLite has them quickest: one list of
//! JSON each. What is asked of many hosts comes back as one row of JSON: a row
//! each would wake this thread for each.

use super::{Write, failed};
use crate::fleet::handout::MAX_JOBS;
use crate::store::batch::{SeenRow, StateRow, json};
use crate::store::status::{Odd, OpenJob};
use crate::store::{Failure, Result, StoreError};

/// What is odd about these hosts. There is one writer, so it holds until the
/// commit. The index is named because SQLite would take that of all jobs a host
/// ever had.
pub(super) async fn look(tx: &mut Write, rows: &[SeenRow<'_>], now: i64) -> Result<Vec<Odd>> {
    let step = "looking how hosts stand";
    let given: Vec<_> = rows
        .iter()
        .map(|row| (row.agentsn, row.number, row.digest))
        .collect();
    let found: String = sqlx::query_scalar(
        "SELECT json_group_array(json_object(
                    'place', given.key, 'number', number, 'state', state,
                    'rotate_due', rotate_due, 'digest', digest, 'has_jobs', json(
                        CASE WHEN has_jobs THEN 'true' ELSE 'false' END)))
         FROM (SELECT given.key, number, state, rotate_due, digest,
                      EXISTS (SELECT 1 FROM job INDEXED BY job_open_by_host
                              WHERE job.agentsn = host_seen.agentsn AND job.finished IS NULL)
                          AS has_jobs,
                      given.value ->> 1 AS given_number, given.value ->> 2 AS given_digest
               FROM json_each($1) AS given
               LEFT JOIN host_seen ON host_seen.agentsn = given.value ->> 0) AS given
         WHERE has_jobs OR state <> 'online' OR rotate_due <= $2
               OR number IS NOT given_number OR digest IS NOT given_digest",
    )
    .bind(json(&given))
    .bind(now)
    .fetch_one(&mut **tx)
    .await
    .map_err(failed(step))?;
    serde_json::from_str(&found).map_err(|error| StoreError {
        step,
        failure: Failure::Rejected,
        source: Box::new(error),
    })
}

/// Notes when hosts were seen that were looked at in this transaction. Always
/// true: nobody comes between.
///
/// `OR FAIL`, because the transaction is given up after an error anyway: it
/// spares SQLite a copy of each page for taking this statement alone back.
pub(super) async fn touch(tx: &mut Write, rows: &[SeenRow<'_>], _: &[Odd]) -> Result<bool> {
    let given: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.agentsn,
                row.every,
                row.seen,
                row.reported,
                row.uptime,
                &row.readings,
                row.digest,
            )
        })
        .collect();
    sqlx::query(
        "UPDATE OR FAIL host_seen
         SET every = given.value ->> 1, seen = given.value ->> 2, reported = given.value ->> 3,
             uptime = given.value ->> 4, readings = given.value ->> 5, digest = given.value ->> 6
         FROM json_each($1) AS given WHERE host_seen.agentsn = given.value ->> 0",
    )
    .bind(json(&given))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing when hosts were seen"))?;
    Ok(true)
}

/// Writes states that changed.
pub(super) async fn write_states(tx: &mut Write, changed: &[&StateRow<'_>]) -> Result<()> {
    sqlx::query(
        "INSERT OR FAIL INTO host_state (agentsn, digest, changed, body)
         SELECT value ->> 'agentsn', value ->> 'digest', value ->> 'changed', value ->> 'body'
         FROM json_each($1) WHERE true
         ON CONFLICT (agentsn) DO UPDATE
             SET digest = excluded.digest, changed = excluded.changed, body = excluded.body",
    )
    .bind(json(changed))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing the states of hosts"))?;
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
