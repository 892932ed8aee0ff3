//! The hot path: a batch of statuses in one transaction, one statement per
//! table. What every status needs is said by each database in its own way
//! (`hot`), what few need is here.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};

use super::admit::{Admitted, admit};
use super::presence::Move;
use super::{
    SqlStore, Write, failed, from_json, host_agent, hot, job_lost, one_at_a_time, rollout_news,
    to_json,
};
use crate::fleet::clone::{Pusher, Sightings, Verdict};
use crate::fleet::handout::{self, hand_out};
use crate::fleet::presence::{self, Presence};
use crate::store::batch::{self, Batch, SeenRow, StateRow};
use crate::store::change::Topic;
use crate::store::status::{Rotation, StatusOutcome, StatusRecord, Stored};
use crate::store::{Failure, Result, StoreError};

/// How often a batch is tried whose hosts somebody else changes in that moment.
const ATTEMPTS: u32 = 5;

pub(super) async fn record(
    store: &SqlStore,
    records: &[StatusRecord],
) -> Result<Vec<StatusOutcome>> {
    let Some(now) = records.iter().map(|record| record.now).max() else {
        return Ok(Vec::new());
    };
    let seen = batch::seen(records);
    for _ in 0..ATTEMPTS {
        if let Some(outcomes) = attempt(store, records, &seen, now).await? {
            return Ok(outcomes);
        }
    }
    Err(StoreError {
        step: "storing a batch of statuses",
        failure: Failure::Unavailable,
        source: "somebody else keeps changing its hosts".into(),
    })
}

/// None if a host was changed between being looked at and being touched.
async fn attempt(
    store: &SqlStore,
    records: &[StatusRecord],
    seen: &[SeenRow<'_>],
    now: i64,
) -> Result<Option<Vec<StatusOutcome>>> {
    let mut tx = store.write("beginning a batch of statuses").await?;
    let is_numbered =
        |record: &StatusRecord| !(record.results.is_empty() && record.events.is_empty());
    if records.iter().any(is_numbered) {
        // Who reads on from a number must not miss one that comes later.
        one_at_a_time(&mut tx).await?;
    }
    let Some(admitted) = admit(&mut tx, seen, now).await? else {
        return Ok(None);
    };
    let batch = Batch::collect(records.iter().filter(|record| admitted.is_in(record)));
    let is_changed = |row: &&StateRow<'_>| admitted.host(row.agentsn).is_some_and(|it| it.changed);
    let changed: Vec<_> = batch.states.iter().filter(is_changed).collect();
    if !changed.is_empty() {
        hot::write_states(&mut tx, &changed).await?;
        tx.tell(
            Topic::Host,
            "changed",
            changed.iter().map(|row| row.agentsn),
        );
    }
    // Of two that always push together, the last one's state never changes.
    let is_noted = |row: &&StateRow<'_>| is_changed(row) || row.pushes.len() > 1;
    let noted: Vec<_> = batch.states.iter().filter(is_noted).collect();
    let copies = note_facts(&mut tx, &noted).await?;
    host_agent::note(&mut tx, &noted).await?;
    write_events(&mut tx, &batch).await?;
    // What was ordered was ordered of the original alone.
    let of_originals = match copies.is_empty() {
        true => batch,
        false => {
            look_again(&mut tx, &copies).await?;
            let is_original =
                |record: &&StatusRecord| admitted.is_in(record) && !is_copy(&copies, record);
            Batch::collect(records.iter().filter(is_original))
        }
    };
    accept(&mut tx, &of_originals).await?;
    let stored = finish(&mut tx, &of_originals).await?;
    let open = open_jobs(&mut tx, &of_originals, &admitted, now).await?;
    let outcomes = outcomes(records, &admitted, &copies, &stored, &open);
    mark_sent(&mut tx, &outcomes, now).await?;
    arrive(&mut tx, &admitted, now).await?;
    tx.commit()
        .await
        .map_err(failed("committing a batch of statuses"))?;
    let outcomes = outcomes.into_iter().map(|(outcome, _)| outcome);
    Ok(Some(outcomes.collect()))
}

/// Hosts that were not online are, from this push on.
async fn arrive(tx: &mut Write, admitted: &Admitted<'_>, now: i64) -> Result<()> {
    let arrived = admitted.hosts.iter();
    let arrived = arrived.filter(|(_, host)| host.state != Some(Presence::Online));
    let mut moves: Vec<Move<'_>> = arrived
        .map(|(agentsn, host)| Move {
            due: presence::judge(host.seen, host.every, 0, host.seen).1,
            ..Move::new(agentsn, host.state, Presence::Online)
        })
        .collect();
    moves.sort_unstable_by_key(|one| one.agentsn);
    super::presence::set(tx, &moves, now).await
}

/// A host, and the one of its pushers that is a copy of it.
type CopyOf = (String, Pusher);

fn is_copy(copies: &HashSet<CopyOf>, record: &StatusRecord) -> bool {
    // Mostly there are none, and nothing is compared.
    !copies.is_empty() && copies.contains(&(record.agentsn.clone(), record.pusher()))
}

/// Has the next status of these hosts looked at though it may say the same: whose
/// it is, is found only then.
async fn look_again(tx: &mut Write, copies: &HashSet<CopyOf>) -> Result<()> {
    let agentsns: BTreeSet<&str> = copies.iter().map(|(agentsn, _)| agentsn.as_str()).collect();
    sqlx::query(concat!(
        "UPDATE host_seen SET digest = NULL WHERE agentsn IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ")"
    ))
    .bind(to_json(&agentsns))
    .execute(&mut **tx)
    .await
    .map_err(failed("noting that a host has a copy"))?;
    Ok(())
}

/// What a host's row said of it so far.
#[derive(serde::Deserialize)]
struct Facts {
    agentsn: String,
    hostname: String,
    version: String,
    machine_id: Option<String>,
    boot_id: Option<String>,
    sightings: String,
}

/// Writes what hosts say of themselves, of those whose state changed; returns
/// those whose status came from a copy. The machine an identity belongs to is
/// set once: a copy that pushes with the same secret must not take it over. What
/// it says is in the body.
async fn note_facts(tx: &mut Write, changed: &[&StateRow<'_>]) -> Result<HashSet<CopyOf>> {
    let step = "storing what hosts say of themselves";
    if changed.is_empty() {
        return Ok(HashSet::new());
    }
    let agentsns: Vec<&str> = changed.iter().map(|row| row.agentsn).collect();
    let facts: String = sqlx::query_scalar(concat!(
        "SELECT ",
        one_row!("agentsn, hostname, version, machine_id, boot_id, sightings"),
        " FROM host WHERE agentsn IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ")"
    ))
    .bind(to_json(&agentsns))
    .fetch_one(&mut **tx)
    .await
    .map_err(failed(step))?;
    // A list is read by serde as the fields in their order.
    let facts: Vec<Facts> = from_json(step, &facts)?;
    let facts: HashMap<String, Facts> = facts
        .into_iter()
        .map(|facts| (facts.agentsn.clone(), facts))
        .collect();
    let mut copies = HashSet::new();
    let mut updates = Vec::new();
    let mut named = Vec::new();
    for row in changed {
        let Some(facts) = facts.get(row.agentsn) else {
            continue;
        };
        let mut sightings: Sightings = from_json(step, &facts.sightings)?;
        let before = sightings.clone();
        let owner = facts.machine_id.as_deref();
        for pusher in row.pushes.iter().map(|record| record.pusher()) {
            if sightings.observe(&pusher, owner, row.changed, row.step) == Verdict::Copy {
                copies.insert((row.agentsn.to_owned(), pusher));
            }
        }
        let machine_id = owner.or(row.machine_id);
        let boot_id = row.boot_id.or(facts.boot_id.as_deref());
        let is_same = facts.machine_id.as_deref() == machine_id
            && facts.boot_id.as_deref() == boot_id
            && sightings == before;
        if !is_same {
            updates.push(json!({
                "agentsn": row.agentsn, "machine_id": machine_id, "boot_id": boot_id,
                "sightings": to_json(&sightings),
            }));
        }
        if facts.hostname != row.hostname || facts.version != row.version {
            named.push(json!([row.agentsn, row.hostname, row.version]));
        }
    }
    if !updates.is_empty() {
        sqlx::query(concat!(
            "UPDATE host SET machine_id = given.value ->> 'machine_id',
                    boot_id = given.value ->> 'boot_id', sightings = given.value ->> 'sightings'
             FROM ",
            given_rows!("$1"),
            " WHERE host.agentsn = given.value ->> 'agentsn'"
        ))
        .bind(to_json(&updates))
        .execute(&mut **tx)
        .await
        .map_err(failed(step))?;
    }
    // Apart and seldom: SQLite writes every index of a column that is set, also to
    // what it is.
    if !named.is_empty() {
        sqlx::query(concat!(
            "UPDATE host SET hostname = given.value ->> 1, version = given.value ->> 2 FROM ",
            given_rows!("$1"),
            " WHERE host.agentsn = given.value ->> 0"
        ))
        .bind(to_json(&named))
        .execute(&mut **tx)
        .await
        .map_err(failed(step))?;
    }
    Ok(copies)
}

async fn accept(tx: &mut Write, batch: &Batch<'_>) -> Result<()> {
    if batch.accepted.is_empty() {
        return Ok(());
    }
    let rows: Vec<(String, Option<i64>, Option<i64>)> = sqlx::query_as(concat!(
        "UPDATE job SET accepted = coalesce(job.accepted, CAST(given.value ->> 'now' AS BIGINT)),
                named = CAST(given.value ->> 'now' AS BIGINT) FROM ",
        given_rows!("$1"),
        " WHERE job.id = given.value ->> 'id' AND job.agentsn = given.value ->> 'agentsn'
            AND (job.accepted IS NULL OR job.expires <= CAST(given.value ->> 'now' AS BIGINT))
         RETURNING job.id, job.accepted, job.named"
    ))
    .bind(to_json(&batch.accepted))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("storing which jobs hosts have"))?;
    let new = rows.into_iter().filter(|(_, first, named)| first == named);
    tx.tell(Topic::Job, "accepted", new.map(|(id, ..)| id));
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
    job_lost::reopen(tx, &results).await?;
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
    tx.tell(Topic::Job, "finished", &stored);
    Ok(stored.into_iter().collect())
}

async fn write_events(tx: &mut Write, batch: &Batch<'_>) -> Result<()> {
    if batch.events.is_empty() {
        return Ok(());
    }
    // `WHERE TRUE` tells SQLite's parser that ON belongs to the INSERT.
    let new: Vec<i64> = sqlx::query_scalar(concat!(
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
        " WHERE TRUE ON CONFLICT (agentsn, source, boot_id, seq) DO NOTHING
         RETURNING id"
    ))
    .bind(to_json(&batch.events))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("storing events"))?;
    tx.tell(Topic::Event, "new", new.iter().map(i64::to_string));
    rollout_news::note_ends(tx, &batch.events, &new).await
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
    admitted: &Admitted<'_>,
    now: i64,
) -> Result<HashMap<String, Vec<Open>>> {
    let agentsns = batch.states.iter().map(|row| row.agentsn);
    let has_jobs = |agentsn: &&str| admitted.host(agentsn).is_some_and(|host| host.has_jobs);
    let agentsns: Vec<&str> = agentsns.filter(has_jobs).collect();
    if agentsns.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = hot::open_jobs(tx, &agentsns, now).await?;
    let mut open: HashMap<String, Vec<Open>> = HashMap::new();
    for (agentsn, id, body, sent) in rows {
        open.entry(agentsn)
            .or_default()
            .push(Open { id, body, sent });
    }
    Ok(open)
}

/// One outcome per record, with the ids handed out for the first time. Of
/// several records of one host each gets the jobs: only one may be read. A copy
/// gets none.
fn outcomes(
    records: &[StatusRecord],
    admitted: &Admitted<'_>,
    copies: &HashSet<CopyOf>,
    stored: &HashSet<String>,
    open: &HashMap<String, Vec<Open>>,
) -> Vec<(StatusOutcome, Vec<String>)> {
    let outcome = |record: &StatusRecord| {
        let host = admitted.hosts.get(record.agentsn.as_str());
        let Some(host) = host.filter(|_| admitted.is_in(record)) else {
            return (StatusOutcome::SecretChanged, Vec::new());
        };
        let verdict = match is_copy(copies, record) {
            true => Verdict::Copy,
            false => Verdict::Own,
        };
        let own = open
            .get(&record.agentsn)
            .filter(|_| verdict == Verdict::Own);
        let own: Vec<&Open> = own.into_iter().flatten().collect();
        let handout: handout::Handout<&Open> =
            hand_out(own, &record.accepted, |job| &job.id, |job| job.body.len());
        let fresh = handout.jobs.iter().filter(|job| !job.sent);
        let fresh = fresh.map(|job| job.id.clone()).collect();
        let jobs = handout.jobs.iter().filter_map(|job| order(job));
        let ignored = record.results.iter().map(|outcome| &outcome.id);
        let ignored = ignored
            .filter(|id| verdict == Verdict::Copy || !stored.contains(*id))
            .cloned()
            .collect();
        let rotation = match host.rotate_due {
            Some(due) if due <= record.now => Rotation::Due,
            _ => Rotation::None,
        };
        let outcome = Stored {
            jobs: jobs.collect(),
            more: handout.more,
            ignored_results: ignored,
            rotation,
            verdict,
        };
        (StatusOutcome::Stored(outcome), fresh)
    };
    records.iter().map(outcome).collect()
}

fn order(job: &Open) -> Option<(String, Value)> {
    let body: Result<Value> = from_json("reading a job's order", &job.body);
    match body {
        Ok(body) => Some((job.id.clone(), body)),
        Err(error) => {
            tracing::error!(job = %job.id, ?error, "an order in the database is no JSON");
            None
        }
    }
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
    tx.tell(Topic::Job, "sent", fresh);
    Ok(())
}
