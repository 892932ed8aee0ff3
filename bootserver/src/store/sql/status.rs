//! The hot path: a batch of statuses in one transaction, one statement per
//! table. What every status needs is said by each database in its own way
//! (`hot`), what few need is here.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{SqlStore, Write, failed, from_json, hot, one_at_a_time, to_json};
use crate::fleet::handout::{self, hand_out};
use crate::store::Result;
use crate::store::batch::Batch;
use crate::store::status::{StatusOutcome, StatusRecord};

pub(super) async fn record(
    store: &SqlStore,
    records: &[StatusRecord],
) -> Result<Vec<StatusOutcome>> {
    let Some(now) = records.iter().map(|record| record.now).max() else {
        return Ok(Vec::new());
    };
    let batch = Batch::collect(records);
    let mut tx = store.write("beginning a batch of statuses").await?;
    if !(batch.results.is_empty() && batch.events.is_empty()) {
        // Who reads on from a number must not miss one that comes later.
        one_at_a_time(&mut tx).await?;
    }
    hot::touch(&mut tx, &batch.seen).await?;
    hot::write_states(&mut tx, &batch.states).await?;
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

async fn accept(tx: &mut Write, batch: &Batch<'_>) -> Result<()> {
    if batch.accepted.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "UPDATE job SET accepted = CAST(given.value ->> 'now' AS BIGINT) FROM ",
        given_rows!("$1"),
        " WHERE job.id = given.value ->> 'id' AND job.agentsn = given.value ->> 'agentsn'
            AND job.accepted IS NULL"
    ))
    .bind(to_json(&batch.accepted))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing which jobs hosts have"))?;
    Ok(())
}

/// Stores results of the hosts' own jobs, the first of each; returns the jobs
/// that have got theirs now.
async fn finish(tx: &mut Write, batch: &Batch<'_>) -> Result<HashSet<String>> {
    if batch.results.is_empty() {
        return Ok(HashSet::new());
    }
    let step = "storing results of jobs";
    let results = to_json(&batch.results);
    let stored: Vec<String> = sqlx::query_scalar(concat!(
        "INSERT INTO job_result (job, agentsn, origin, finished, errcode, message, body)
         SELECT job.id, job.agentsn, 'host', CAST(given.value ->> 'now' AS BIGINT),
                CAST(given.value ->> 'errcode' AS BIGINT), given.value ->> 'message',
                given.value ->> 'body'
         FROM ",
        given_rows!("$1"),
        " JOIN job ON job.id = given.value ->> 'id' AND job.agentsn = given.value ->> 'agentsn'
         WHERE job.finished IS NULL
         ON CONFLICT (job) DO NOTHING
         RETURNING job"
    ))
    .bind(&results)
    .fetch_all(&mut **tx)
    .await
    .map_err(failed(step))?;
    sqlx::query(concat!(
        "UPDATE job SET finished = job_result.finished, errcode = job_result.errcode
         FROM job_result
         WHERE job_result.job = job.id AND job.id IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ")"
    ))
    .bind(to_json(&stored))
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    Ok(stored.into_iter().collect())
}

async fn write_events(tx: &mut Write, batch: &Batch<'_>) -> Result<()> {
    if batch.events.is_empty() {
        return Ok(());
    }
    // `WHERE TRUE` tells SQLite's parser that ON belongs to the INSERT.
    sqlx::query(concat!(
        "INSERT INTO event (agentsn, source, boot_id, seq, received, timestamp, category, subject,
                            version, message, tail)
         SELECT given.value ->> 'agentsn', given.value ->> 'source', given.value ->> 'boot_id',
                CAST(given.value ->> 'seq' AS BIGINT),
                CAST(given.value ->> 'received' AS BIGINT),
                CAST(given.value ->> 'timestamp' AS BIGINT), given.value ->> 'category',
                given.value ->> 'subject', given.value ->> 'version', given.value ->> 'message',
                given.value ->> 'tail'
         FROM ",
        given_rows!("$1"),
        " WHERE TRUE ON CONFLICT (agentsn, source, boot_id, seq) DO NOTHING"
    ))
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

async fn open_jobs(
    tx: &mut Write,
    batch: &Batch<'_>,
    now: i64,
) -> Result<HashMap<String, Vec<Open>>> {
    let rows = hot::open_jobs(tx, &batch.agentsns, now).await?;
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
    sqlx::query(concat!(
        "UPDATE job SET sent = $2 WHERE sent IS NULL AND id IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ")"
    ))
    .bind(to_json(&fresh))
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(failed("marking jobs as handed out"))?;
    Ok(())
}
