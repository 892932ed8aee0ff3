//! A turn of the rollout an assignment goes on with: hosts that are not as they shall be
//! become its targets, and what was decided is done.
//!
//! The one rule: a host that waits is looked at again before it is ordered anything.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::assignment_sweep::{Look, MemberRow, Part, Which, members};
use super::rollout::counts_in;
use super::rollout_move::Moved;
use super::rollout_news;
use super::rollout_turn::{AT_ONCE, Turn};
use super::{Write, failed, to_json};
use crate::fleet::assignment::{Attempts, Claim, Verdict, next_sweep, verdict};
use crate::fleet::rollout::standing::{RECENT_HOURS, given_up_before, hour_of, step as decide};
use crate::fleet::rollout::tally::Tally;
use crate::fleet::rollout::target::{News, TargetState, after};
use crate::store::Result;
use crate::store::assignment::{AssignmentRow, Census, Sweep};
use crate::store::rollout::{RolloutRow, Turned};

use super::rollout::target_state;

/// Hears what is new, looks at some hosts, decides, and does a part of it. Of one that is
/// no assignment's any more only the end is left.
pub(super) async fn go_on(
    tx: &mut Write,
    rollout: &RolloutRow,
    look: Option<Look>,
    goods: &str,
    looked: i64,
    now: i64,
) -> Result<Turned> {
    let (assignment, part) = match look {
        Some(Look { assignment, part }) => (Some(assignment), part),
        None => (None, None),
    };
    let part = match (&assignment, part) {
        // Somebody may have changed it since it was looked at.
        (Some(assignment), Some(part)) if is_as_seen(tx, assignment).await? => Some(part),
        _ => None,
    };
    let counts = counts_in(tx, rollout.number).await?;
    let mut rollout = rollout.clone();
    let mut found = match (&assignment, &part) {
        (Some(assignment), Some(part)) => sort(assignment, part, now)?,
        _ => Found::default(),
    };
    let first = rollout.targets;
    rollout.targets += i64::try_from(found.new.len()).unwrap_or_default();
    let mut turn = Turn::new(tx, &rollout, assignment.as_ref(), counts);
    let mut is_more = rollout_news::hear(&mut turn, now).await?;
    if let (Some(assignment), Some(part)) = (&assignment, &part) {
        add(&mut turn, first, &found.new, now).await?;
        let moves = still_there(&mut turn, std::mem::take(&mut found.moves)).await?;
        turn.move_all(&moves).await?;
        forget_attempts(&mut turn, &found.forgotten).await?;
        is_more |= note_sweep(turn.tx, assignment, part, &mut found, now).await?;
    }
    is_more |= give_up(&mut turn, now).await?;
    let recent = recent(&mut turn, now).await?;
    let hosts = assignment.as_ref().map_or(0, AssignmentRow::hosts);
    let hosts = u64::try_from(hosts).unwrap_or_default();
    let step = decide(
        &rollout.plan,
        &rollout.stand,
        &turn.counts,
        &recent,
        hosts,
        now,
    );
    is_more |= turn.take(&step, goods, looked, now).await?;
    turn.done(&step.stand, is_more, now).await
}

/// Of these hosts, those that need not wait any more, and why.
pub(super) async fn dropped(
    tx: &mut Write,
    assignment: &AssignmentRow,
    agentsns: Vec<&str>,
    now: i64,
) -> Result<BTreeMap<String, &'static str>> {
    let agentsns: Vec<String> = agentsns.into_iter().map(str::to_owned).collect();
    let which = Which::These(&agentsns);
    let members = members(&mut *tx, assignment, &which).await?;
    let mut dropped: BTreeMap<String, &'static str> = agentsns
        .iter()
        .map(|agentsn| (agentsn.clone(), "left-group"))
        .collect();
    for row in &members {
        match verdict(&assignment.version, row.member()?, now) {
            Verdict::Drop(reason) => dropped.insert(row.agentsn.clone(), reason),
            Verdict::Leave | Verdict::Add | Verdict::Again { .. } => dropped.remove(&row.agentsn),
        };
    }
    Ok(dropped)
}

/// Whether an assignment goes on with the same rollout and is at the same place of its
/// look at hosts; nobody changes it before the commit.
async fn is_as_seen(tx: &mut Write, assignment: &AssignmentRow) -> Result<bool> {
    let now: Option<(i64, Option<String>, i64)> = sqlx::query_as(concat!(
        "SELECT rollout, sweep, sweep_due FROM assignment WHERE id = $1",
        for_update!()
    ))
    .bind(&assignment.id)
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed("looking whether an assignment was changed"))?;
    let sweep = assignment.sweep.as_ref().map(to_json);
    let seen = (assignment.rollout.number, sweep, assignment.sweep_due);
    Ok(now.is_some_and(|now| now == seen))
}

/// What a part of the hosts means.
#[derive(Default)]
struct Found {
    /// Hosts that become targets.
    new: Vec<String>,
    /// Targets that wait again, or no longer.
    moves: Vec<Moved>,
    /// Places whose attempts do not count any more.
    forgotten: Vec<i64>,
    census: Census,
}

fn sort(assignment: &AssignmentRow, part: &Part, now: i64) -> Result<Found> {
    let mut found = Found::default();
    for row in &part.members {
        let member = row.member()?;
        found.census.hosts += 1;
        match member.claim {
            Claim::Another => found.census.taken += 1,
            Claim::Own if member.has == Some(assignment.version.as_str()) => {
                found.census.right += 1;
            }
            Claim::Own => {}
        }
        match verdict(&assignment.version, member, now) {
            Verdict::Leave => {}
            Verdict::Add => found.new.push(row.agentsn.clone()),
            Verdict::Again { attempts } => {
                found
                    .moves
                    .extend(moved(row, TargetState::Waiting, None, now)?);
                if attempts == Attempts::Forgotten {
                    found.forgotten.extend(row.place);
                }
            }
            Verdict::Drop(reason) => {
                found
                    .moves
                    .extend(moved(row, TargetState::Skipped, Some(reason), now)?);
            }
        }
    }
    Ok(found)
}

fn moved(
    row: &MemberRow,
    to: TargetState,
    reason: Option<&'static str>,
    now: i64,
) -> Result<Option<Moved>> {
    let (Some(place), Some(tried)) = (row.place, row.member()?.tried) else {
        return Ok(None);
    };
    let one = Moved::new(place, tried.state, to, now);
    Ok(Some(Moved { reason, ..one }))
}

/// Writes new targets down, behind those there are.
async fn add(turn: &mut Turn<'_>, first: i64, agentsns: &[String], now: i64) -> Result<()> {
    if agentsns.is_empty() {
        return Ok(());
    }
    let step = "writing down the targets of an assignment";
    let targets: Vec<Value> = (first..)
        .zip(agentsns)
        .map(|(place, agentsn)| json!([place, agentsn]))
        .collect();
    sqlx::query(concat!(
        "INSERT INTO rollout_target (rollout, place, agentsn, state, since)
         SELECT $2, CAST(given.value ->> 0 AS BIGINT), given.value ->> 1, $3, $4 FROM ",
        given_rows!("$1")
    ))
    .bind(to_json(&targets))
    .bind(turn.rollout.number)
    .bind(TargetState::Waiting.word())
    .bind(now)
    .execute(&mut **turn.tx)
    .await
    .map_err(failed(step))?;
    sqlx::query("UPDATE rollout SET targets = $2 WHERE number = $1")
        .bind(turn.rollout.number)
        .bind(turn.rollout.targets)
        .execute(&mut **turn.tx)
        .await
        .map_err(failed(step))?;
    for place in first..turn.rollout.targets {
        turn.count_new(place, TargetState::Waiting);
    }
    Ok(())
}

/// Those of these moves whose target stands where it was seen: what is heard since goes
/// first.
async fn still_there(turn: &mut Turn<'_>, moves: Vec<Moved>) -> Result<Vec<Moved>> {
    if moves.is_empty() {
        return Ok(moves);
    }
    let number = turn.rollout.number;
    let places: Vec<Value> = moves.iter().map(|one| json!([number, one.place])).collect();
    let rows: Vec<(i64, String)> = sqlx::query_as(concat!(
        "SELECT target.place, target.state FROM ",
        given_rows!("$1"),
        " JOIN rollout_target AS target
              ON target.rollout = CAST(given.value ->> 0 AS BIGINT)
              AND target.place = CAST(given.value ->> 1 AS BIGINT)"
    ))
    .bind(to_json(&places))
    .fetch_all(&mut **turn.tx)
    .await
    .map_err(failed("looking where targets stand"))?;
    let now: BTreeMap<i64, String> = rows.into_iter().collect();
    let is_there = |one: &Moved| {
        now.get(&one.place)
            .is_some_and(|state| state == one.from.word())
    };
    Ok(moves.into_iter().filter(is_there).collect())
}

async fn forget_attempts(turn: &mut Turn<'_>, places: &[i64]) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let places: Vec<Value> = places
        .iter()
        .map(|place| json!([turn.rollout.number, place]))
        .collect();
    sqlx::query(concat!(
        "UPDATE rollout_target SET attempts = 0 FROM ",
        given_rows!("$1"),
        " WHERE rollout_target.rollout = CAST(given.value ->> 0 AS BIGINT)
            AND rollout_target.place = CAST(given.value ->> 1 AS BIGINT)"
    ))
    .bind(to_json(&places))
    .execute(&mut **turn.tx)
    .await
    .map_err(failed("forgetting how often targets were tried"))?;
    Ok(())
}

/// Notes how far the look at hosts is. True if it goes on.
async fn note_sweep(
    tx: &mut Write,
    assignment: &AssignmentRow,
    part: &Part,
    found: &mut Found,
    now: i64,
) -> Result<bool> {
    let mut sweep = assignment.sweep.clone().unwrap_or_else(|| Sweep {
        begun: now,
        ..Sweep::default()
    });
    sweep.found.hosts += found.census.hosts;
    sweep.found.right += found.census.right;
    sweep.found.taken += found.census.taken;
    let (next, due, census) = match &part.to {
        Some(to) => {
            sweep.to.clone_from(to);
            (Some(sweep), assignment.sweep_due, assignment.census)
        }
        None => {
            let census = Census {
                at: now,
                ..sweep.found
            };
            (None, next_sweep(sweep.begun, now), Some(census))
        }
    };
    sqlx::query("UPDATE assignment SET sweep = $2, sweep_due = $3, census = $4 WHERE id = $1")
        .bind(&assignment.id)
        .bind(next.as_ref().map(to_json))
        .bind(due)
        .bind(census.as_ref().map(to_json))
        .execute(&mut **tx)
        .await
        .map_err(failed("noting how far the look at hosts is"))?;
    Ok(next.is_some())
}

/// Waits no longer for hosts that have been silent since long after their jobs expired.
/// True if there may be more.
async fn give_up(turn: &mut Turn<'_>, now: i64) -> Result<bool> {
    let rows: Vec<(i64, String, Option<String>)> = sqlx::query_as(concat!(
        "SELECT place, state, job FROM rollout_target",
        by_index!("rollout_target_by_state"),
        " WHERE rollout = $1 AND state IN ('ordered', 'running') AND since < $2 LIMIT $3"
    ))
    .bind(turn.rollout.number)
    .bind(given_up_before(&turn.rollout.plan, now))
    .bind(AT_ONCE)
    .fetch_all(&mut **turn.tx)
    .await
    .map_err(failed("looking for hosts that are waited for in vain"))?;
    let mut moves = Vec::new();
    for (place, state, job) in rows {
        let from = target_state(&state)?;
        if let Some(to) = after(from, News::GivenUp) {
            moves.push(Moved {
                job,
                reason: Some("given-up"),
                ..Moved::new(place, from, to, now)
            });
        }
    }
    turn.move_all(&moves).await?;
    Ok(i64::try_from(moves.len()).is_ok_and(|moves| moves >= AT_ONCE))
}

/// What ended lately, with what ended in this turn.
async fn recent(turn: &mut Turn<'_>, now: i64) -> Result<Tally> {
    let step = "counting what ended lately";
    let (number, hour) = (turn.rollout.number, hour_of(now));
    let ends = std::mem::take(&mut turn.ends);
    let ends: Vec<Value> = ends
        .iter()
        .map(|(state, targets)| json!([state.word(), targets]))
        .collect();
    if !ends.is_empty() {
        sqlx::query("DELETE FROM rollout_recent WHERE rollout = $1 AND hour <= $2")
            .bind(number)
            .bind(hour - RECENT_HOURS)
            .execute(&mut **turn.tx)
            .await
            .map_err(failed(step))?;
        sqlx::query(concat!(
            "INSERT INTO rollout_recent (rollout, hour, state, targets)
             SELECT $2, $3, given.value ->> 0, CAST(given.value ->> 1 AS BIGINT) FROM ",
            given_rows!("$1"),
            " WHERE TRUE ON CONFLICT (rollout, hour, state)
                 DO UPDATE SET targets = rollout_recent.targets + excluded.targets"
        ))
        .bind(to_json(&ends))
        .bind(number)
        .bind(hour)
        .execute(&mut **turn.tx)
        .await
        .map_err(failed(step))?;
    }
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT state, CAST(sum(targets) AS BIGINT) FROM rollout_recent
         WHERE rollout = $1 AND hour > $2 GROUP BY state",
    )
    .bind(number)
    .bind(hour - RECENT_HOURS)
    .fetch_all(&mut **turn.tx)
    .await
    .map_err(failed(step))?;
    let mut tally = Tally::default();
    for (state, targets) in rows {
        // A correction may be of an end that is not counted any more.
        tally.add(
            target_state(&state)?,
            u64::try_from(targets).unwrap_or_default(),
        );
    }
    Ok(tally)
}
