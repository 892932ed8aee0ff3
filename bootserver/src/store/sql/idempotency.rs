//! Requests that are to be done once.

use sqlx::Row;

use super::{SqlStore, failed};
use crate::store::Result;
use crate::store::idempotency::{Begun, KEPT, KeptAnswer, Once};

/// Notes that a request begins, if none did under its key, or so long ago that
/// nobody knows it any more.
pub(super) async fn begin(store: &SqlStore, once: &Once, now: i64) -> Result<Begun> {
    let step = "looking whether a request was done before";
    let mut tx = store.write(step).await?;
    let kept = i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
    let begun = sqlx::query(
        "INSERT INTO idempotency (caller, key, request, begun) VALUES ($1, $2, $3, $4)
         ON CONFLICT (caller, key) DO UPDATE
             SET request = excluded.request, begun = excluded.begun, status = NULL, etag = NULL,
                 body = NULL
             WHERE idempotency.begun < $5",
    )
    .bind(&once.caller)
    .bind(&once.key)
    .bind(&once.request)
    .bind(now)
    .bind(now.saturating_sub(kept))
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    let row = sqlx::query(
        "SELECT request, status, etag, body FROM idempotency WHERE caller = $1 AND key = $2",
    )
    .bind(&once.caller)
    .bind(&once.key)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed(step))?;
    tx.commit().await.map_err(failed(step))?;
    if begun.rows_affected() > 0 {
        return Ok(Begun::New);
    }
    // Whoever began it has given it up in this moment.
    let Some(row) = row else {
        return Ok(Begun::Running);
    };
    let text = |column| {
        row.try_get::<Option<String>, _>(column)
            .map_err(failed(step))
    };
    let status: Option<i64> = row.try_get("status").map_err(failed(step))?;
    let body: Option<Vec<u8>> = row.try_get("body").map_err(failed(step))?;
    Ok(match (text("request")?, status) {
        (request, _) if request.as_ref() != Some(&once.request) => Begun::Other,
        (_, None) => Begun::Running,
        (_, Some(status)) => Begun::Answered(KeptAnswer {
            status: u16::try_from(status).unwrap_or(500),
            etag: text("etag")?,
            body,
        }),
    })
}

/// Keeps the answer to a request that was begun; without one, it may come again.
pub(super) async fn end(store: &SqlStore, once: &Once, answer: Option<&KeptAnswer>) -> Result<()> {
    let step = "keeping how a request was answered";
    let query = match answer {
        Some(answer) => sqlx::query(
            "UPDATE idempotency SET status = $3, etag = $4, body = $5
             WHERE caller = $1 AND key = $2",
        )
        .bind(&once.caller)
        .bind(&once.key)
        .bind(i64::from(answer.status))
        .bind(&answer.etag)
        .bind(&answer.body),
        None => {
            sqlx::query("DELETE FROM idempotency WHERE caller = $1 AND key = $2 AND status IS NULL")
                .bind(&once.caller)
                .bind(&once.key)
        }
    };
    query.execute(&store.writer).await.map_err(failed(step))?;
    Ok(())
}
