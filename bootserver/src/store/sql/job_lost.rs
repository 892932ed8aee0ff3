//! Jobs nobody knows the outcome of: ended here, and corrected when their host
//! answers after all.

use serde_json::json;

use bootagent_protocol::ErrorCode;

use super::job_end::end_here;
use super::lease::holds;
use super::{SqlStore, Write, failed, one_at_a_time, to_json};
use crate::fleet::job_lost::{Found, Overdue, look};
use crate::store::Result;
use crate::store::lease::{Held, Lease};

/// Jobs that were handed out, whose time is over, and that are to be looked at.
macro_rules! due {
    () => {
        " FROM job WHERE finished IS NULL AND sent IS NOT NULL AND coalesce(look, expires) <= $1"
    };
}

/// A job to look at.
#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    expires: i64,
    named: Option<i64>,
    missed: Option<i64>,
    seen: Option<i64>,
}

pub(super) async fn lose(store: &SqlStore, lease: &Lease, now: i64) -> Result<Held<u64>> {
    let step = "looking for jobs that are lost";
    let due = sqlx::query(concat!("SELECT 1", due!(), " LIMIT 1"))
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
    let rows: Vec<Row> = sqlx::query_as(concat!(
        "SELECT id, expires, named, missed,
             (SELECT host_seen.seen FROM host_seen WHERE host_seen.agentsn = job.agentsn) AS seen",
        due!(),
        " ORDER BY coalesce(look, expires) LIMIT 1000",
        for_update!()
    ))
    .bind(now)
    .fetch_all(&mut *tx)
    .await
    .map_err(failed(step))?;
    let mut lost = Vec::new();
    let mut looked = Vec::new();
    for row in rows {
        let job = Overdue {
            expires: row.expires,
            named: row.named,
            missed: row.missed,
            seen: row.seen,
        };
        match look(job, now) {
            Found::Lost => lost.push(row.id),
            Found::Missed { push, again } => {
                looked.push(json!({ "id": row.id, "missed": push, "look": again }));
            }
            Found::Nothing(again) => {
                looked.push(json!({ "id": row.id, "missed": row.missed, "look": again }));
            }
        }
    }
    sqlx::query(concat!(
        "UPDATE job SET missed = CAST(given.value ->> 'missed' AS BIGINT),
                look = CAST(given.value ->> 'look' AS BIGINT) FROM ",
        given_rows!("$1"),
        " WHERE job.id = given.value ->> 'id'"
    ))
    .bind(to_json(&looked))
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    let code = ErrorCode::LOST;
    let message = code.meaning().unwrap_or_default();
    end_here(&mut tx, &lost, code, message, now).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(Held::Done(lost.len() as u64))
}

/// Opens the jobs again that ended here without anybody knowing how and have their
/// hosts' results among these. Whoever reads on from a number finds the new result
/// behind the one that goes. To be called after [`one_at_a_time`].
pub(super) async fn reopen(tx: &mut Write, results: &str) -> Result<()> {
    let step = "correcting jobs that were lost";
    // Written as numbers, so that both databases plan without looking.
    let reopened: Vec<String> = sqlx::query_scalar(concat!(
        "DELETE FROM job_result WHERE origin = 'server' AND errcode IN (1007, 1008)
             AND job IN (SELECT job.id FROM ",
        given_rows!("$1"),
        " JOIN job ON job.id = given.value ->> 'id' AND job.agentsn = given.value ->> 'agentsn')
         RETURNING job"
    ))
    .bind(results)
    .fetch_all(&mut **tx)
    .await
    .map_err(failed(step))?;
    if reopened.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "UPDATE job SET finished = NULL, errcode = NULL, late = 1 WHERE id IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ")"
    ))
    .bind(to_json(&reopened))
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_in_the_query_are_those_of_the_table() {
        assert_eq!((ErrorCode::RESTORED.0, ErrorCode::LOST.0), (1007, 1008));
    }
}
