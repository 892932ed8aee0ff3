//! Targets of a rollout that go from one state to another: what is written of it.

use serde::Serialize;
use serde_json::json;

use super::{Write, failed, to_json};
use crate::fleet::rollout::standing::is_attempt;
use crate::fleet::rollout::target::{News, TargetState, after};
use crate::store::Result;
use crate::store::change::Topic;

/// A target that stands elsewhere from now on.
#[derive(Debug, Serialize)]
pub(super) struct Moved {
    pub(super) place: i64,
    #[serde(skip)]
    pub(super) from: TargetState,
    #[serde(skip)]
    pub(super) to: TargetState,
    /// `to`, as it is written.
    pub(super) state: &'static str,
    pub(super) since: i64,
    pub(super) job: Option<String>,
    pub(super) errcode: Option<i64>,
    pub(super) reason: Option<&'static str>,
    /// 1 if an attempt is over with it.
    pub(super) tried: i64,
}

impl Moved {
    pub(super) fn new(place: i64, from: TargetState, to: TargetState, since: i64) -> Self {
        Self {
            place,
            from,
            to,
            state: to.word(),
            since,
            job: None,
            errcode: None,
            reason: None,
            tried: i64::from(is_attempt(from, to)),
        }
    }

    /// Where news takes it, if it goes anywhere.
    pub(super) fn by(place: i64, from: TargetState, news: News, now: i64) -> Option<Self> {
        Some(Self::new(place, from, after(from, news)?, now))
    }
}

/// Writes where these are now.
pub(super) async fn write(tx: &mut Write, number: i64, moves: &[Moved]) -> Result<()> {
    // The number is in each row: beside a constant one SQLite would go through all
    // targets of the rollout for them.
    let moves: Vec<_> = moves.iter().map(|one| json!([number, one])).collect();
    sqlx::query(concat!(
        "UPDATE rollout_target SET state = given.value -> 1 ->> 'state',
                since = CAST(given.value -> 1 ->> 'since' AS BIGINT),
                job = given.value -> 1 ->> 'job',
                errcode = CAST(given.value -> 1 ->> 'errcode' AS BIGINT),
                reason = given.value -> 1 ->> 'reason',
                attempts = attempts + CAST(given.value -> 1 ->> 'tried' AS BIGINT)
         FROM ",
        given_rows!("$1"),
        " WHERE rollout_target.rollout = CAST(given.value ->> 0 AS BIGINT)
            AND rollout_target.place = CAST(given.value -> 1 ->> 'place' AS BIGINT)"
    ))
    .bind(to_json(&moves))
    .execute(&mut **tx)
    .await
    .map_err(failed("moving targets of a rollout"))?;
    Ok(())
}

/// Deletes those of these jobs that nobody has heard of, and says which.
pub(super) async fn take_back(
    tx: &mut Write,
    jobs: impl Iterator<Item = &String>,
) -> Result<Vec<String>> {
    let jobs: Vec<&String> = jobs.collect();
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let taken: Vec<String> = sqlx::query_scalar(concat!(
        "DELETE FROM job WHERE sent IS NULL AND finished IS NULL
             AND id IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ") RETURNING id"
    ))
    .bind(to_json(&jobs))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("taking jobs back"))?;
    tx.tell(Topic::Job, "cancelled", &taken);
    Ok(taken)
}
