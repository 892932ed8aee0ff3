//! The statements every status needs, as PostgreSQL has them quickest: one array
//! per column. Rows come sorted by host, so that two replicas never wait for
//! each other.

use super::{Write, failed};
use crate::fleet::handout::MAX_JOBS;
use crate::fleet::presence::Presence;
use crate::store::Result;
use crate::store::batch::{SeenRow, StateRow, json};
use crate::store::status::{Odd, OpenJob};

/// An [`Odd`] as its row comes.
type Found = (
    i64,
    Option<i64>,
    Option<String>,
    Option<i64>,
    Option<String>,
    bool,
);

/// What is odd about these hosts. Nothing is locked: whether it still holds is
/// asked when they are touched. For EXISTS PostgreSQL would gather the hosts of all open
/// jobs where it believes them to be few; with LIMIT it asks host by host.
pub(super) async fn look(tx: &mut Write, rows: &[SeenRow<'_>], now: i64) -> Result<Vec<Odd>> {
    let found: Vec<Found> = sqlx::query_as(
        "SELECT given.place - 1, host_seen.number, state, rotate_due, host_seen.digest,
                has_jobs
         FROM UNNEST($1::text[], $2::bigint[], $3::text[]) WITH ORDINALITY
             AS given (agentsn, number, digest, place)
         LEFT JOIN host_seen USING (agentsn)
         CROSS JOIN LATERAL (SELECT (
             SELECT 1 FROM job
             WHERE job.agentsn = given.agentsn AND job.agentsn > '' AND job.finished IS NULL
             LIMIT 1) IS NOT NULL) AS waiting (has_jobs)
         WHERE has_jobs OR state <> 'online' OR rotate_due <= $4
               OR host_seen.number IS DISTINCT FROM given.number
               OR host_seen.digest IS DISTINCT FROM given.digest",
    )
    .bind(column(rows, |row| row.agentsn))
    .bind(column(rows, |row| row.number))
    .bind(column(rows, |row| row.digest))
    .bind(now)
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("looking how hosts stand"))?;
    let odd = |(place, number, state, rotate_due, digest, has_jobs)| Odd {
        place,
        number,
        state,
        rotate_due,
        digest,
        has_jobs,
    };
    Ok(found.into_iter().map(odd).collect())
}

/// Notes when hosts were seen, and locks them. False if one of them is not any
/// more as it was when it was looked at.
pub(super) async fn touch(tx: &mut Write, rows: &[SeenRow<'_>], odds: &[Odd]) -> Result<bool> {
    let mut before: Vec<_> = rows
        .iter()
        .map(|row| (Presence::Online.word(), Some(row.digest)))
        .collect();
    for odd in odds {
        let place = usize::try_from(odd.place).unwrap_or(usize::MAX);
        if let (Some(before), Some(state)) = (before.get_mut(place), &odd.state) {
            *before = (state, odd.digest.as_deref());
        }
    }
    let touched = sqlx::query(
        "UPDATE host_seen SET every = given.every, seen = given.seen, reported = given.reported,
                uptime = given.uptime, readings = given.readings, digest = given.digest
         FROM UNNEST($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                     $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[])
             AS given (agentsn, number, every, seen, reported, uptime, readings, digest,
                       state_before, digest_before)
         WHERE host_seen.agentsn = given.agentsn AND host_seen.number = given.number
           AND host_seen.state = given.state_before
           AND host_seen.digest IS NOT DISTINCT FROM given.digest_before",
    )
    .bind(column(rows, |row| row.agentsn))
    .bind(column(rows, |row| row.number))
    .bind(column(rows, |row| row.every))
    .bind(column(rows, |row| row.seen))
    .bind(column(rows, |row| row.reported))
    .bind(column(rows, |row| row.uptime))
    .bind(column(rows, |row| row.readings.as_str()))
    .bind(column(rows, |row| row.digest))
    .bind(column(&before, |(state, _)| *state))
    .bind(column(&before, |(_, digest)| *digest))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing when hosts were seen"))?;
    Ok(touched.rows_affected() == rows.len() as u64)
}

/// Writes states that changed.
pub(super) async fn write_states(tx: &mut Write, changed: &[&StateRow<'_>]) -> Result<()> {
    sqlx::query(
        "INSERT INTO host_state (agentsn, digest, changed, body)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::text[])
         ON CONFLICT (agentsn) DO UPDATE
             SET digest = excluded.digest, changed = excluded.changed, body = excluded.body",
    )
    .bind(column(changed, |row| row.agentsn))
    .bind(column(changed, |row| row.digest))
    .bind(column(changed, |row| row.changed))
    .bind(column(changed, |row| json(row.body)))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing the states of hosts"))?;
    Ok(())
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
             WHERE job.agentsn = h.agentsn AND job.agentsn > '' AND job.finished IS NULL
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
