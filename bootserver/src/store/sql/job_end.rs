//! Jobs that end without their host: withdrawn, expired, lost to a restore, or of
//! a host that left the fleet.

use serde_json::json;

use bootagent_protocol::ErrorCode;

use super::audit::{Deed, note};
use super::lease::holds;
use super::scope::in_scope;
use super::{SqlStore, Write, failed, one_at_a_time, to_json};
use crate::access::scope::Scope;
use crate::store::Result;
use crate::store::audit::By;
use crate::store::change::Topic;
use crate::store::job::Cancelled;
use crate::store::lease::{Held, Lease};

/// Jobs ended in one transaction.
const AT_ONCE: usize = 1000;
/// How long a withdrawal waits for its host, in milliseconds. On the wire it has no
/// end: it is not too late as long as the job has not begun.
const CANCEL_MILLIS: i64 = 7 * 86_400_000;

/// Jobs that were never handed out and must not begin any more.
macro_rules! due {
    () => {
        "SELECT id FROM job WHERE finished IS NULL AND sent IS NULL AND expires <= $1"
    };
}

pub(super) async fn cancel(
    store: &SqlStore,
    id: &str,
    cancel_id: &str,
    scope: &Scope,
    by: &By,
) -> Result<Cancelled> {
    let step = "cancelling a job";
    let now = by.at;
    let mut tx = store.write(step).await?;
    one_at_a_time(&mut tx).await?;
    let row: Option<(String, Option<i64>, Option<i64>)> = sqlx::query_as(concat!(
        "SELECT agentsn, sent, finished FROM job WHERE id = $1",
        for_update!()
    ))
    .bind(id)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed(step))?;
    if let Some((agentsn, _, _)) = &row
        && !in_scope(&mut tx, scope, agentsn).await?
    {
        return Ok(Cancelled::Unknown);
    }
    let found = match row {
        None => Cancelled::Unknown,
        Some((_, _, Some(_))) => Cancelled::Finished,
        Some((_, None, None)) => {
            let ids = [id.to_owned()];
            let code = ErrorCode::CANCELLED;
            end_here(&mut tx, &ids, code, meaning(code), now).await?;
            Cancelled::AtOnce
        }
        Some((agentsn, Some(_), None)) => {
            // Asking twice sends one.
            let asked = sqlx::query(
                "INSERT INTO job (id, agentsn, action, body, created, expires)
                 SELECT $1, $2, 'cancel', $3, $4, $5 WHERE NOT EXISTS (
                     SELECT 1 FROM job
                     WHERE job.agentsn = $2 AND job.agentsn > '' AND job.finished IS NULL
                         AND job.action = 'cancel' AND job.body = $3)",
            )
            .bind(cancel_id)
            .bind(agentsn)
            .bind(to_json(&json!({ "action": "cancel", "cancels": id })))
            .bind(now)
            .bind(now.saturating_add(CANCEL_MILLIS))
            .execute(&mut *tx)
            .await
            .map_err(failed(step))?;
            if asked.rows_affected() > 0 {
                tx.tell(Topic::Job, "ordered", [cancel_id]);
                tx.tell(Topic::Job, "cancelling", [id]);
            }
            Cancelled::Asked
        }
    };
    if matches!(found, Cancelled::AtOnce | Cancelled::Asked) {
        let deed = Deed {
            action: "job.cancel",
            target: id,
            detail: json!({ "told": found == Cancelled::Asked }),
        };
        note(&mut tx, by, deed).await?;
    }
    tx.commit().await.map_err(failed(step))?;
    Ok(found)
}

pub(super) async fn expire(store: &SqlStore, lease: &Lease, now: i64) -> Result<Held<u64>> {
    let step = "ending expired jobs";
    let due = sqlx::query(concat!(due!(), " LIMIT 1"))
        .bind(now)
        .fetch_optional(&store.readers)
        .await
        .map_err(failed(step))?;
    if due.is_none() {
        return Ok(Held::Done(0));
    }
    let mut tx = store.write(step).await?;
    one_at_a_time(&mut tx).await?;
    if !holds(&mut tx, lease).await? {
        return Ok(Held::Lost);
    }
    // Asked again under the lock: a status may have taken one out meanwhile.
    let ids: Vec<String> = sqlx::query_scalar(concat!(due!(), " LIMIT 1000", for_update!()))
        .bind(now)
        .fetch_all(&mut *tx)
        .await
        .map_err(failed(step))?;
    let code = ErrorCode::EXPIRED;
    end_here(&mut tx, &ids, code, meaning(code), now).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(Held::Done(ids.len() as u64))
}

/// Ends every open job. For a database that was restored: nobody knows which
/// went out since it was copied.
pub(super) async fn close_open(store: &SqlStore, now: i64) -> Result<u64> {
    let step = "ending the jobs that were open";
    let mut ended = 0;
    loop {
        let mut tx = store.write(step).await?;
        one_at_a_time(&mut tx).await?;
        let ids: Vec<String> = sqlx::query_scalar(concat!(
            "SELECT id FROM job WHERE finished IS NULL AND id > '' ORDER BY id LIMIT 1000",
            for_update!()
        ))
        .fetch_all(&mut *tx)
        .await
        .map_err(failed(step))?;
        let code = ErrorCode::RESTORED;
        end_here(&mut tx, &ids, code, meaning(code), now).await?;
        tx.commit().await.map_err(failed(step))?;
        ended += ids.len() as u64;
        if ids.len() < AT_ONCE {
            return Ok(ended);
        }
    }
}

/// Ends what is open of hosts that left the fleet. To be called after
/// [`one_at_a_time`].
pub(super) async fn end_open(
    tx: &mut Write,
    agentsns: &[&str],
    message: &str,
    now: i64,
) -> Result<()> {
    let ids: Vec<String> = sqlx::query_scalar(concat!(
        "SELECT id FROM job WHERE agentsn IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ") AND agentsn > '' AND finished IS NULL ORDER BY id",
        for_update!()
    ))
    .bind(to_json(agentsns))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("ending the jobs of hosts"))?;
    end_here(tx, &ids, ErrorCode::CANCELLED, message, now).await
}

fn meaning(code: ErrorCode) -> &'static str {
    code.meaning().unwrap_or_default()
}

/// Gives jobs a result of our own. To be called after [`one_at_a_time`].
pub(super) async fn end_here(
    tx: &mut Write,
    ids: &[String],
    code: ErrorCode,
    message: &str,
    now: i64,
) -> Result<()> {
    let step = "ending jobs without their hosts";
    let results: Vec<_> = ids
        .iter()
        .map(|id| {
            let body = json!({ "id": id, "errcode": code, "message": message });
            json!({ "id": id, "body": body.to_string() })
        })
        .collect();
    sqlx::query(concat!(
        "INSERT INTO job_result (job, agentsn, origin, finished, errcode, message, body)
         SELECT job.id, job.agentsn, 'server', $2, $3, $4, given.value ->> 'body' FROM ",
        given_rows!("$1"),
        " JOIN job ON job.id = given.value ->> 'id'"
    ))
    .bind(to_json(&results))
    .bind(now)
    .bind(i64::from(code.0))
    .bind(message)
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    sqlx::query(concat!(
        "UPDATE job SET finished = $2, errcode = $3 WHERE id IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ")"
    ))
    .bind(to_json(ids))
    .bind(now)
    .bind(i64::from(code.0))
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    let what = match code {
        ErrorCode::CANCELLED => "cancelled",
        _ => "finished",
    };
    tx.tell(Topic::Job, what, ids);
    Ok(())
}
