//! Targets of a rollout that nothing was done about yet: many in one row, so that a
//! million of them is written down, and ended, at the cost of a few thousand.
//!
//! The one rule: a target is packed or it has a row of its own. Whoever does something
//! about one unpacks its pack first, and whoever lists or looks for hosts asks both.

use std::collections::BTreeSet;

use super::rollout_turn::Turn;
use super::{Db, Write, failed, to_json};
use crate::fleet::rollout::follow::is_retried;
use crate::fleet::rollout::target::{News, TargetState, after};
use crate::store::Result;
use crate::store::rollout::RolloutRow;
use serde_json::json;
use sqlx::QueryBuilder;

/// Hosts of a pack: a page or two of the database.
pub(super) const HOSTS: usize = 125;
/// Packs a turn unpacks at most: statuses wait for it.
const UNPACKED: i64 = 4;

/// Packs targets, the next of a rollout by their places. False if they are not in the
/// order of their agentsns: then nothing is done.
pub(super) async fn pack(
    tx: &mut Write,
    rollout: &RolloutRow,
    hosts: &[(String, Option<String>)],
) -> Result<bool> {
    let step = "packing the targets of a rollout";
    let last: Option<String> =
        sqlx::query_scalar("SELECT max(last_host) FROM rollout_pack WHERE rollout = $1")
            .bind(rollout.number)
            .fetch_one(&mut **tx)
            .await
            .map_err(failed(step))?;
    let agentsns = last.iter().chain(hosts.iter().map(|(agentsn, _)| agentsn));
    if !agentsns.is_sorted_by(|one, next| one < next) {
        return Ok(false);
    }
    if hosts.is_empty() {
        return Ok(true);
    }
    let targets: Vec<_> = (rollout.targets..).zip(hosts).collect();
    let target = |(place, (agentsn, version)): &(i64, &(String, Option<String>))| {
        json!([place, agentsn, version])
    };
    let mut sql: QueryBuilder<Db> = QueryBuilder::new(
        "INSERT INTO rollout_pack (rollout, place, first_host, last_host, hosts) ",
    );
    sql.push_values(targets.chunks(HOSTS), |mut row, pack| {
        let (place, (first, _)) = pack[0];
        let (_, (last, _)) = pack[pack.len() - 1];
        row.push_bind(rollout.number).push_bind(place);
        row.push_bind(first).push_bind(last);
        row.push_bind(to_json(&pack.iter().map(target).collect::<Vec<_>>()));
    });
    sql.build().execute(&mut **tx).await.map_err(failed(step))?;
    Ok(true)
}

/// Unpacks these packs, by their first places, which are all there are between the first and
/// the last of them. Of hosts that left since they were looked for there is news.
async fn unpack(tx: &mut Write, number: i64, places: &[i64]) -> Result<()> {
    let step = "unpacking targets of a rollout";
    let (Some(first), Some(last)) = (places.first(), places.last()) else {
        return Ok(());
    };
    for statement in [
        concat!(
            "INSERT INTO rollout_target (rollout, place, agentsn, state, version, since, reason)
             SELECT pack.rollout, CAST(given.value ->> 0 AS BIGINT), given.value ->> 1,
                    rollout.rest, given.value ->> 2, rollout.rest_since, rollout.rest_reason
             FROM rollout_pack AS pack
             CROSS JOIN rollout CROSS JOIN ",
            given_rows!("pack.hosts"),
            " WHERE pack.rollout = $1 AND pack.place BETWEEN $2 AND $3
                AND rollout.number = pack.rollout"
        ),
        concat!(
            "INSERT INTO rollout_news (rollout, place)
             SELECT pack.rollout, CAST(given.value ->> 0 AS BIGINT)
             FROM rollout_pack AS pack CROSS JOIN ",
            given_rows!("pack.hosts"),
            " LEFT JOIN host ON host.agentsn = given.value ->> 1
             WHERE pack.rollout = $1 AND pack.place BETWEEN $2 AND $3
                AND coalesce(host.state, 'deleted') IN ('revoked', 'deleted')"
        ),
        "DELETE FROM rollout_pack WHERE rollout = $1 AND place BETWEEN $2 AND $3",
    ] {
        sqlx::query(statement)
            .bind(number)
            .bind(first)
            .bind(last)
            .execute(&mut **tx)
            .await
            .map_err(failed(step))?;
    }
    Ok(())
}

/// The first packs of a rollout between two places.
async fn next(tx: &mut Write, number: i64, after: i64, before: i64, most: i64) -> Result<Vec<i64>> {
    sqlx::query_scalar(
        "SELECT place FROM rollout_pack WHERE rollout = $1 AND place > $2 AND place < $3
         ORDER BY rollout, place LIMIT $4",
    )
    .bind(number)
    .bind(after)
    .bind(before)
    .bind(most)
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("looking which targets are packed"))
}

/// Unpacks some of those between two places. Returns where there are more.
pub(super) async fn unpack_between(
    turn: &mut Turn<'_>,
    after: i64,
    before: i64,
) -> Result<Option<i64>> {
    let number = turn.rollout.number;
    let mut packs = next(turn.tx, number, after, before, UNPACKED + 1).await?;
    let is_more = i64::try_from(packs.len()).is_ok_and(|packs| packs > UNPACKED);
    let more = if is_more { packs.pop() } else { None };
    unpack(turn.tx, number, &packs).await?;
    Ok(more)
}

/// Unpacks those of these places that are packed, or some of them. False if none is.
pub(super) async fn unpack_places(turn: &mut Turn<'_>, places: &[i64]) -> Result<bool> {
    let number = turn.rollout.number;
    let mut packs = BTreeSet::new();
    for place in places {
        let pack: Option<i64> = sqlx::query_scalar(
            "SELECT place FROM rollout_pack WHERE rollout = $1 AND place <= $2
             ORDER BY rollout DESC, place DESC LIMIT 1",
        )
        .bind(number)
        .bind(place)
        .fetch_optional(&mut **turn.tx)
        .await
        .map_err(failed("looking where a target is packed"))?;
        packs.extend(pack);
        if i64::try_from(packs.len()).is_ok_and(|packs| packs >= UNPACKED) {
            break;
        }
    }
    for pack in &packs {
        unpack(turn.tx, number, &[*pack]).await?;
    }
    Ok(!packs.is_empty())
}

/// Ends all that are packed, which are all that wait: by a word in the rollout, however many
/// they are. Those that may be tried again are unpacked instead, some of them; true if
/// they are to be ended then.
pub(super) async fn end(
    turn: &mut Turn<'_>,
    news: News,
    reason: &'static str,
    now: i64,
) -> Result<bool> {
    let waiting = TargetState::Waiting;
    let Some(to) = after(waiting, news) else {
        return Ok(false);
    };
    if is_retried(&turn.rollout.plan, to) {
        let packs = next(turn.tx, turn.rollout.number, -1, i64::MAX, UNPACKED).await?;
        unpack(turn.tx, turn.rollout.number, &packs).await?;
        return Ok(!packs.is_empty());
    }
    let ended = sqlx::query(
        "UPDATE rollout SET rest = $2, rest_since = $3, rest_reason = $4
         WHERE number = $1 AND rest = $5
             AND EXISTS (SELECT 1 FROM rollout_pack WHERE rollout_pack.rollout = rollout.number)",
    )
    .bind(turn.rollout.number)
    .bind(to.word())
    .bind(now)
    .bind(reason)
    .bind(waiting.word())
    .execute(&mut **turn.tx)
    .await
    .map_err(failed("ending the targets that are packed"))?;
    if ended.rows_affected() > 0 {
        turn.count_all(waiting, to);
    }
    Ok(false)
}

/// A host that waits in a pack.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Packed {
    pub(super) agentsn: String,
    pub(super) rollout: i64,
    place: i64,
}

/// Those of these hosts that wait in packs of these rollouts.
pub(super) async fn among(
    tx: &mut Write,
    rollouts: &[i64],
    agentsns: &[&str],
) -> Result<Vec<Packed>> {
    if rollouts.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for rollout in rollouts {
        let rows: Vec<Packed> = sqlx::query_as(concat!(
            "SELECT given.value AS agentsn, pack.rollout, pack.place FROM ",
            given_texts!("$1"),
            " CROSS JOIN rollout CROSS JOIN rollout_pack AS pack
             WHERE rollout.number = $2 AND rollout.rest = 'waiting' AND ",
            is_in_pack!("given.value")
        ))
        .bind(to_json(agentsns))
        .bind(rollout)
        .fetch_all(&mut **tx)
        .await
        .map_err(failed("looking which hosts are packed"))?;
        found.extend(rows);
    }
    Ok(found)
}

/// Unpacks some of the packs these are in. Returns those that are still packed.
pub(super) async fn unpack_these<'p>(
    tx: &mut Write,
    these: &[&'p Packed],
) -> Result<Vec<&'p Packed>> {
    let mut packs: BTreeSet<(i64, i64)> = BTreeSet::new();
    let mut left = Vec::new();
    for one in these {
        let pack = (one.rollout, one.place);
        if !packs.contains(&pack) {
            if i64::try_from(packs.len()).is_ok_and(|packs| packs >= UNPACKED) {
                left.push(*one);
                continue;
            }
            packs.insert(pack);
        }
    }
    for (rollout, place) in packs {
        unpack(tx, rollout, &[place]).await?;
    }
    Ok(left)
}

/// Deletes some of the packs of a rollout that is forgotten, as many as so many rows are.
/// Returns how many rows that is; none when there are none.
pub(super) async fn forget(tx: &mut Write, number: i64, rows: u32) -> Result<u64> {
    let packs = (usize::try_from(rows).unwrap_or(usize::MAX) / HOSTS).max(1);
    let gone = sqlx::query(
        "DELETE FROM rollout_pack WHERE rollout = $1 AND place IN (
             SELECT place FROM rollout_pack WHERE rollout = $1 ORDER BY place LIMIT $2)",
    )
    .bind(number)
    .bind(i64::try_from(packs).unwrap_or(i64::MAX))
    .execute(&mut **tx)
    .await
    .map_err(failed("forgetting rollouts that ended"))?;
    Ok(match gone.rows_affected() {
        0 => 0,
        _ => u64::from(rows),
    })
}
