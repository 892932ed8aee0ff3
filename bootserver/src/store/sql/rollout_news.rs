//! What became of targets: noted in the transaction in which it happens, by
//! triggers and, of children that end, here; and heard in the rollout's next turn.

use std::collections::{BTreeMap, BTreeSet};

use bootagent_protocol::ErrorCode;
use serde_json::json;
use sqlx::QueryBuilder;

use super::member::{push_given, push_given_rows};
use super::rollout::target_state;
use super::rollout_move::{Moved, take_back};
use super::rollout_turn::{AT_ONCE, Turn};
use super::{AMONG, Write, failed, rollout_pack, to_json};
use crate::fleet::presence::Presence;
use crate::fleet::rollout::facts::{Facts, HostStanding, stands};
use crate::fleet::rollout::target::{Happened, JobEnd, TargetState, is_abnormal_end};
use crate::store::Result;
use crate::store::batch::EventRow;

/// Notes ends of children that a rollout may have to know of: of what it concerns,
/// at hosts that have or had its order.
pub(super) async fn note_ends(tx: &mut Write, events: &[EventRow<'_>], ids: &[i64]) -> Result<()> {
    // Mostly there are none, and nothing is asked.
    if ids.is_empty() || !events.iter().any(|it| is_abnormal_end(it.category)) {
        return Ok(());
    }
    let step = "noting ends of children for rollouts";
    let ends: Vec<(i64, String, String)> = sqlx::query_as(concat!(
        "SELECT event.id, event.agentsn, event.subject FROM ",
        given_rows!("$1"),
        " JOIN event ON event.id = CAST(given.value ->> 0 AS BIGINT)
          WHERE event.version IS NOT NULL"
    ))
    .bind(to_json(
        &ids.iter().map(|id| json!([id])).collect::<Vec<_>>(),
    ))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed(step))?;
    let hosts: BTreeSet<&String> = ends.iter().map(|(_, agentsn, _)| agentsn).collect();
    // By their hosts, and so that there is no other way: a status must not wait until
    // all targets of a rollout were looked at.
    let mut sql = QueryBuilder::new(
        "INSERT INTO rollout_news (rollout, place, event)
         SELECT target.rollout, target.place, CAST(given.value ->> 0 AS BIGINT) FROM ",
    );
    push_given_rows(&mut sql, to_json(&ends));
    sql.push(
        " CROSS JOIN rollout_target AS target CROSS JOIN rollout
         WHERE target.agentsn = given.value ->> 1 AND rollout.number = target.rollout + 0
             AND rollout.agent = given.value ->> 2
             AND target.state || '' IN ('ordered', 'running', 'succeeded')
             AND target.agentsn",
    );
    sql.push(AMONG.0).push("SELECT given.value FROM ");
    push_given(&mut sql, to_json(&hosts));
    sql.push(AMONG.1);
    sql.build().execute(&mut **tx).await.map_err(failed(step))?;
    Ok(())
}

/// Nobody is there to hear them.
pub(super) async fn forget(tx: &mut Write, number: i64) -> Result<()> {
    sqlx::query("DELETE FROM rollout_news WHERE rollout = $1")
        .bind(number)
        .execute(&mut **tx)
        .await
        .map_err(failed("forgetting what nobody hears"))?;
    Ok(())
}

/// A target of which there is news, with what is known of it.
#[derive(sqlx::FromRow)]
pub(super) struct Row {
    id: i64,
    place: i64,
    /// None of one that is packed.
    state: Option<String>,
    job: Option<String>,
    sent: Option<i64>,
    finished: Option<i64>,
    errcode: Option<i64>,
    expires: Option<i64>,
    version: Option<String>,
    presence: Option<String>,
    category: Option<String>,
    subject: Option<String>,
    event_version: Option<String>,
    received: Option<i64>,
}

/// The oldest news, with what is known of their targets.
///
/// Each target is looked up by both its numbers. Without the sum PostgreSQL knows that all
/// are of this rollout, may believe that it has hardly any, since it last looked before it
/// had, and reads all of them for each piece of news.
pub(super) async fn news(tx: &mut Write, rollout: i64) -> Result<Vec<Row>> {
    sqlx::query_as(
        "SELECT news.id, news.place, target.state, target.job, job.sent, job.finished,
                job.errcode, job.expires, job.version, host.state AS presence, event.category,
                event.subject, event.version AS event_version, event.received
         FROM rollout_news AS news
         LEFT JOIN rollout_target AS target
             ON target.rollout = news.rollout + 0 AND target.place = news.place
         LEFT JOIN job ON job.id = target.job
         LEFT JOIN host ON host.agentsn = target.agentsn
         LEFT JOIN event ON event.id = news.event
         WHERE news.rollout = $1 ORDER BY news.id LIMIT $2",
    )
    .bind(rollout)
    .bind(AT_ONCE)
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("hearing what became of targets"))
}

/// Hears some of what is new and moves the targets it is about. True if there is
/// more.
pub(super) async fn hear(turn: &mut Turn<'_>, now: i64) -> Result<bool> {
    let rows = news(turn.tx, turn.rollout.number).await?;
    if rows.is_empty() {
        return Ok(false);
    }
    let packed = rows.iter().filter(|row| row.state.is_none());
    let packed: Vec<i64> = packed.map(|row| row.place).collect();
    if rollout_pack::unpack_places(turn, &packed).await? {
        // What is known of them, and of the others, is heard in the next turn.
        return Ok(true);
    }
    let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= AT_ONCE);
    let mut targets: BTreeMap<i64, Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        targets.entry(row.place).or_default().push(row);
    }
    let mut moves = Vec::new();
    let mut recalled = Vec::new();
    for rows in targets.values() {
        let Some(one) = moved(turn, rows, now)? else {
            continue;
        };
        match (one.from, one.to, &one.job) {
            (TargetState::Ordered, TargetState::Waiting, Some(job))
                if rows.iter().all(|row| row.finished.is_none()) =>
            {
                recalled.push((job.clone(), one));
            }
            _ => moves.push(one),
        }
    }
    let taken = take_back(turn.tx, recalled.iter().map(|(job, _)| job)).await?;
    // One that went out in this moment is heard of again.
    let recalled = recalled.into_iter().filter(|(job, _)| taken.contains(job));
    moves.extend(recalled.map(|(_, one)| one));
    for one in &mut moves {
        if one.to == TargetState::Waiting {
            one.job = None;
            one.errcode = None;
        }
    }
    turn.move_all(&moves).await?;
    let heard: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let mut sql = QueryBuilder::new("DELETE FROM rollout_news WHERE id");
    sql.push(AMONG.0)
        .push("SELECT CAST(given.value AS BIGINT) FROM ");
    push_given(&mut sql, to_json(&heard));
    sql.push(AMONG.1);
    sql.build()
        .execute(&mut **turn.tx)
        .await
        .map_err(failed("hearing what became of targets"))?;
    Ok(is_full)
}

/// Where a target stands by its news, if that is elsewhere.
fn moved(turn: &Turn<'_>, rows: &[&Row], now: i64) -> Result<Option<Moved>> {
    let Some((row, state)) = rows
        .first()
        .and_then(|row| Some((row, row.state.as_ref()?)))
    else {
        return Ok(None);
    };
    let from = target_state(state)?;
    let errcode = row
        .errcode
        .map(|code| ErrorCode(u16::try_from(code).unwrap_or(u16::MAX)));
    let expires = turn.rollout.stand.expires;
    let end = row.finished.zip(errcode).map(|(at, errcode)| JobEnd {
        errcode,
        at,
        begin_before: row.expires.unwrap_or(expires),
        expires,
    });
    let host = match row.presence.as_deref().and_then(Presence::parse) {
        None | Some(Presence::Revoked | Presence::Deleted) => HostStanding::Gone,
        Some(Presence::Offline) => HostStanding::Offline,
        Some(Presence::New | Presence::Online | Presence::Late) => HostStanding::Here,
    };
    let happened = |row: &&'_ Row| -> Option<(String, String, Option<String>, i64)> {
        let (category, subject) = (row.category.clone()?, row.subject.clone()?);
        Some((category, subject, row.event_version.clone(), row.received?))
    };
    let events: Vec<_> = rows.iter().filter_map(happened).collect();
    let events = events
        .iter()
        .map(|(category, subject, version, received)| Happened {
            category,
            subject,
            version: version.as_deref(),
            received: *received,
        });
    let agent = turn.rollout.agent.as_str();
    let facts = Facts {
        is_sent: row.sent.is_some(),
        end,
        host,
        installed: row.version.as_deref().map(|version| (agent, version)),
        events: events.collect(),
    };
    let to = stands(from, &facts);
    if to == from {
        return Ok(None);
    }
    let reason = match (to, host) {
        (TargetState::Skipped | TargetState::Lost, HostStanding::Gone) => Some("host-gone"),
        _ => None,
    };
    Ok(Some(Moved {
        job: row.job.clone(),
        errcode: row.errcode,
        reason,
        ..Moved::new(row.place, from, to, row.finished.unwrap_or(now))
    }))
}
