//! The hot path: a batch of statuses in one transaction, one statement per
//! table, each over a JSON array.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use sqlx::{Sqlite, Transaction};

use super::{Result, SqliteStore, failed, from_json, to_json};
use crate::fleet::handout::{self, MAX_JOBS, hand_out};
use crate::store::batch::Batch;
use crate::store::status::{StatusOutcome, StatusRecord};

type Write = Transaction<'static, Sqlite>;

pub(super) async fn record(
    store: &SqliteStore,
    records: &[StatusRecord],
) -> Result<Vec<StatusOutcome>> {
    let Some(now) = records.iter().map(|record| record.now).max() else {
        return Ok(Vec::new());
    };
    let batch = Batch::collect(records);
    let mut tx = store.write("beginning a batch of statuses").await?;
    touch(&mut tx, &batch).await?;
    write_states(&mut tx, &batch).await?;
    accept(&mut tx, &batch).await?;
    let stored = finish(&mut tx, &batch).await?;
    write_events(&mut tx, &batch).await?;
    let open = open_jobs(&mut tx, &batch, now).await?;
    let outcomes = outcomes(records, &stored, &open);
    mark_sent(&mut tx, &outcomes, now).await?;
    tx.commit()
        .await
        .map_err(failed("committing a batch of statuses"))?;
    Ok(outcomes.into_iter().map(|(outcome, _)| outcome).collect())
}

async fn touch(tx: &mut Write, batch: &Batch) -> Result<()> {
    // `WHERE true` tells SQLite's parser that ON belongs to the INSERT.
    sqlx::query(
        "INSERT INTO host_seen (agentsn, seen, reported, uptime, readings)
         SELECT value ->> 'agentsn', value ->> 'seen', value ->> 'reported', value ->> 'uptime',
                value -> 'readings' FROM json_each($1) WHERE true
         ON CONFLICT (agentsn) DO UPDATE SET seen = excluded.seen, reported = excluded.reported,
                uptime = excluded.uptime, readings = excluded.readings",
    )
    .bind(to_json(&batch.seen))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing when hosts were seen"))?;
    Ok(())
}

/// The machine an identity belongs to is set once: a clone that pushes with a
/// copied secret must not take it over. What it says is in the body.
async fn write_states(tx: &mut Write, batch: &Batch) -> Result<()> {
    let changed: HashSet<String> = sqlx::query_scalar(
        "INSERT INTO host_state (agentsn, digest, changed, body)
         SELECT value ->> 'agentsn', value ->> 'digest', value ->> 'changed', value -> 'body'
         FROM json_each($1) WHERE true
         ON CONFLICT (agentsn) DO UPDATE
             SET digest = excluded.digest, changed = excluded.changed, body = excluded.body
             WHERE host_state.digest <> excluded.digest
         RETURNING agentsn",
    )
    .bind(to_json(&batch.states))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("storing the states of hosts"))?
    .into_iter()
    .collect();
    let is_changed = |state: &&Value| {
        state["agentsn"]
            .as_str()
            .is_some_and(|sn| changed.contains(sn))
    };
    let states: Vec<&Value> = batch.states.iter().filter(is_changed).collect();
    if states.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE host SET hostname = value ->> 'hostname', version = value ->> 'version',
                machine_id = coalesce(host.machine_id, value ->> 'machine_id'),
                boot_id = coalesce(value ->> 'boot_id', host.boot_id)
         FROM json_each($1) WHERE host.agentsn = value ->> 'agentsn'",
    )
    .bind(to_json(&states))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing what hosts say of themselves"))?;
    Ok(())
}

async fn accept(tx: &mut Write, batch: &Batch) -> Result<()> {
    if batch.accepted.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE job SET accepted = value ->> 'now' FROM json_each($1)
         WHERE job.id = value ->> 'id' AND job.agentsn = value ->> 'agentsn'
           AND job.accepted IS NULL",
    )
    .bind(to_json(&batch.accepted))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing which jobs hosts have"))?;
    Ok(())
}

/// Stores results of the hosts' own jobs, the first of each; returns the jobs
/// that have got theirs now.
async fn finish(tx: &mut Write, batch: &Batch) -> Result<HashSet<String>> {
    if batch.results.is_empty() {
        return Ok(HashSet::new());
    }
    let step = "storing results of jobs";
    let results = to_json(&batch.results);
    let stored: Vec<String> = sqlx::query_scalar(
        "INSERT INTO job_result (job, agentsn, origin, finished, errcode, message, body)
         SELECT job.id, job.agentsn, 'host', value ->> 'now', value ->> 'errcode',
                value ->> 'message', value -> 'body'
         FROM json_each($1) JOIN job ON job.id = value ->> 'id'
                                    AND job.agentsn = value ->> 'agentsn'
         WHERE job.finished IS NULL
         ON CONFLICT (job) DO NOTHING
         RETURNING job",
    )
    .bind(&results)
    .fetch_all(&mut **tx)
    .await
    .map_err(failed(step))?;
    sqlx::query(
        "UPDATE job SET finished = job_result.finished, errcode = job_result.errcode
         FROM job_result
         WHERE job_result.job = job.id AND job.id IN (SELECT value FROM json_each($1))",
    )
    .bind(to_json(&stored))
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    Ok(stored.into_iter().collect())
}

async fn write_events(tx: &mut Write, batch: &Batch) -> Result<()> {
    if batch.events.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO event (agentsn, source, boot_id, seq, received, timestamp, category, subject,
                            version, message, tail)
         SELECT value ->> 'agentsn', value ->> 'source', value ->> 'boot_id', value ->> 'seq',
                value ->> 'received', value ->> 'timestamp', value ->> 'category',
                value ->> 'subject', value ->> 'version', value ->> 'message', value -> 'tail'
         FROM json_each($1) WHERE true
         ON CONFLICT (agentsn, source, boot_id, seq) DO NOTHING",
    )
    .bind(to_json(&batch.events))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing events"))?;
    Ok(())
}

/// An open job, as a batch needs it.
struct Open {
    id: String,
    body: String,
    sent: bool,
}

/// The first open jobs of each host in the order they were given, withdrawals
/// before everything else. A job that expired before it was ever handed out
/// stays here. The index is named because SQLite would take that of all jobs a
/// host ever had.
async fn open_jobs(tx: &mut Write, batch: &Batch, now: i64) -> Result<HashMap<String, Vec<Open>>> {
    let rows: Vec<(String, String, String, bool)> = sqlx::query_as(
        "SELECT agentsn, id, body, was_sent FROM (
             SELECT job.agentsn, job.id, job.body, job.sent IS NOT NULL AS was_sent,
                    row_number() OVER (
                        PARTITION BY job.agentsn ORDER BY job.action <> 'cancel', job.id) AS place
             FROM json_each($1) AS h CROSS JOIN job INDEXED BY job_open_by_host
             WHERE job.agentsn = h.value AND job.finished IS NULL
               AND (job.sent IS NOT NULL OR job.expires IS NULL OR job.expires > $2))
         WHERE place <= $3 ORDER BY agentsn, place",
    )
    .bind(to_json(&batch.agentsns))
    .bind(now)
    // Twice what a reply takes: jobs the host has already are left out of it.
    .bind(i64::try_from(MAX_JOBS * 2).expect("a small constant"))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("looking for open jobs"))?;
    let mut open: HashMap<String, Vec<Open>> = HashMap::new();
    for (agentsn, id, body, sent) in rows {
        open.entry(agentsn)
            .or_default()
            .push(Open { id, body, sent });
    }
    Ok(open)
}

/// One outcome per record, with the ids handed out for the first time. Of
/// several records of one host each gets the jobs: only one may be read.
fn outcomes(
    records: &[StatusRecord],
    stored: &HashSet<String>,
    open: &HashMap<String, Vec<Open>>,
) -> Vec<(StatusOutcome, Vec<String>)> {
    records
        .iter()
        .map(|record| {
            let own: Vec<&Open> = open.get(&record.agentsn).into_iter().flatten().collect();
            let handout: handout::Handout<&Open> =
                hand_out(own, &record.accepted, |job| &job.id, |job| job.body.len());
            let fresh = handout.jobs.iter().filter(|job| !job.sent);
            let fresh = fresh.map(|job| job.id.clone()).collect();
            let jobs = handout.jobs.iter().filter_map(|job| {
                let body: Result<Value> = from_json("reading a job's order", &job.body);
                match body {
                    Ok(body) => Some((job.id.clone(), body)),
                    Err(error) => {
                        tracing::error!(job = %job.id, ?error, "an order in the database is no JSON");
                        None
                    }
                }
            });
            let ignored = record.results.iter().map(|outcome| &outcome.id);
            let ignored = ignored.filter(|id| !stored.contains(*id)).cloned().collect();
            let outcome = StatusOutcome {
                jobs: jobs.collect(),
                more: handout.more,
                ignored_results: ignored,
            };
            (outcome, fresh)
        })
        .collect()
}

async fn mark_sent(
    tx: &mut Write,
    outcomes: &[(StatusOutcome, Vec<String>)],
    now: i64,
) -> Result<()> {
    let fresh: Vec<&String> = outcomes.iter().flat_map(|(_, fresh)| fresh).collect();
    if fresh.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE job SET sent = $2 WHERE sent IS NULL AND id IN (SELECT value FROM json_each($1))",
    )
    .bind(to_json(&fresh))
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(failed("marking jobs as handed out"))?;
    Ok(())
}
