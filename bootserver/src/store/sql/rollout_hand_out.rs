//! Handing out: which of the waiting targets are ordered, and their jobs.
//!
//! A turn looks at so many targets and goes on behind them in the next one, so that
//! it takes no longer where most hosts are offline. The one rule: a host that is
//! another rollout's gets no job of this one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use uuid::Uuid;

use super::assignment_turn;
use super::rollout::{read, target_state};
use super::rollout_move::{Moved, take_back};
use super::rollout_pack::Packed;
use super::rollout_turn::Turn;
use super::{failed, from_json, rollout_pack, to_json};
use crate::fleet::package_choice::HostSystem;
use crate::fleet::presence::Presence;
use crate::fleet::rollout::contention::{Owner, Side, Turn as Whose, between};
use crate::fleet::rollout::goods::{Goods, Variant};
use crate::fleet::rollout::step::HandOut;
use crate::fleet::rollout::target::{News, TargetState, after};
use crate::fleet::rollout::why::NO_FILE;
use crate::store::Result;
use crate::store::change::Topic;
use crate::store::rollout::RolloutRow;

/// Targets a turn looks at.
const LOOKED_AT: i64 = 500;
/// Jobs of one turn: others wait no longer for it than for a batch of statuses.
const JOBS: usize = 125;

/// A target that waits, and its host.
#[derive(sqlx::FromRow)]
struct Candidate {
    place: i64,
    agentsn: String,
    version: Option<String>,
    presence: String,
    os: String,
    arch: String,
    own_version: String,
    before: Option<String>,
    reason: Option<String>,
}

/// The target of another rollout at the same host.
#[derive(sqlx::FromRow)]
struct Other {
    agentsn: String,
    rollout: i64,
    place: i64,
    state: String,
    job: Option<String>,
}

/// Orders some targets. True if there are more to look at.
pub(super) async fn hand_out(
    turn: &mut Turn<'_>,
    goods: &str,
    looked: i64,
    what: HandOut,
    now: i64,
) -> Result<bool> {
    let goods: Goods = from_json("reading what a rollout orders", goods)?;
    let end = turn.stage_ends.get(what.stage).copied();
    let end = i64::try_from(end.unwrap_or_default()).unwrap_or(i64::MAX);
    let packed = unpack(turn, looked, end).await?;
    let candidates = candidates(turn, looked, packed.unwrap_or(end)).await?;
    let is_end =
        packed.is_none() && i64::try_from(candidates.len()).is_ok_and(|found| found < LOOKED_AT);
    let most = usize::try_from(what.most).unwrap_or(usize::MAX).min(JOBS);
    let is_online = |it: &&Candidate| it.presence == Presence::Online.word();
    let online: Vec<&Candidate> = candidates.iter().filter(is_online).collect();
    let dropped = match turn.assignment {
        Some(assignment) => {
            let agentsns = online.iter().map(|it| it.agentsn.as_str());
            assignment_turn::dropped(turn.tx, assignment, agentsns.collect(), now).await?
        }
        None => BTreeMap::new(),
    };
    let (busy, freed) = contended(turn, &online, most, now).await?;
    let mut jobs: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
    let mut moves = Vec::new();
    let mut befores = Vec::new();
    let mut fileless = Vec::new();
    let mut last = None;
    let mut ordered = 0;
    for candidate in &candidates {
        if ordered == most {
            break;
        }
        last = Some(candidate.place);
        if !is_online(&candidate) || busy.contains(&candidate.agentsn) {
            continue;
        }
        if let Some(reason) = dropped.get(&candidate.agentsn) {
            let skipped = Moved::new(
                candidate.place,
                TargetState::Waiting,
                TargetState::Skipped,
                now,
            );
            moves.push(Moved {
                reason: Some(reason),
                ..skipped
            });
            continue;
        }
        let system = HostSystem {
            os: &candidate.os,
            arch: &candidate.arch,
        };
        let picked = goods.pick(candidate.version.as_deref(), system);
        if picked.is_none() && turn.rollout.assignment.is_some() {
            // A file may come.
            if candidate.reason.as_deref() != Some(NO_FILE) {
                fileless.push(json!([turn.rollout.number, candidate.place]));
            }
            continue;
        }
        let (from, news) = match picked {
            Some(_) => (TargetState::Waiting, News::Ordered),
            None => (TargetState::Waiting, News::Passed),
        };
        let Some(to) = after(from, news) else {
            continue;
        };
        let mut one = Moved::new(candidate.place, from, to, now);
        match picked.and_then(|it| goods.variants.iter().position(|other| other == it)) {
            Some(index) => {
                let id = Uuid::now_v7().to_string();
                let job = json!([id, candidate.agentsn, candidate.place]);
                jobs.entry(index).or_default().push(job);
                let before = before(turn.rollout, candidate);
                befores.push(json!([turn.rollout.number, candidate.place, before]));
                one.job = Some(id);
                ordered += 1;
            }
            None => one.reason = Some(NO_FILE),
        }
        moves.push(one);
    }
    for (index, hosts) in &jobs {
        if let Some(variant) = goods.variants.get(*index) {
            order(turn, variant, hosts, what.begin_before, now).await?;
        }
    }
    turn.move_all(&moves).await?;
    turn.ordered += ordered;
    note_befores(turn, &befores).await?;
    note_fileless(turn, &fileless).await?;
    // Everything behind the last one was looked at: from the beginning again.
    let is_through = is_end && last == candidates.last().map(|candidate| candidate.place);
    let next = last.filter(|_| !is_through).unwrap_or(-1);
    if next != looked {
        sqlx::query("UPDATE rollout SET looked = $2 WHERE number = $1")
            .bind(turn.rollout.number)
            .bind(next)
            .execute(&mut **turn.tx)
            .await
            .map_err(failed("noting how far a rollout was looked at"))?;
    }
    let is_more = freed || (!is_through && !moves.is_empty());
    // Who came back since the last round stands before the place it began at.
    Ok(is_more || (is_through && looked >= 0 && ordered > 0))
}

/// What a host has of the agent.
fn before<'c>(rollout: &RolloutRow, candidate: &'c Candidate) -> Option<&'c str> {
    match rollout.agent.as_str() {
        "bootagent" => Some(candidate.own_version.as_str()).filter(|version| !version.is_empty()),
        _ => candidate.before.as_deref(),
    }
}

/// Unpacks of what is looked at as much as a turn may. Returns where the rest begins.
async fn unpack(turn: &mut Turn<'_>, looked: i64, end: i64) -> Result<Option<i64>> {
    let last: Option<i64> = sqlx::query_scalar(concat!(
        "SELECT target.place FROM rollout_target AS target",
        by_index!("rollout_target_by_state"),
        " WHERE ",
        in_state!("target", "$1", "'waiting'", "$2", "$3"),
        " LIMIT 1 OFFSET $4"
    ))
    .bind(turn.rollout.number)
    .bind(looked)
    .bind(end)
    .bind(LOOKED_AT - 1)
    .fetch_optional(&mut **turn.tx)
    .await
    .map_err(failed("looking which targets are next"))?;
    rollout_pack::unpack_between(turn, looked, last.unwrap_or(end)).await
}

async fn candidates(turn: &mut Turn<'_>, looked: i64, end: i64) -> Result<Vec<Candidate>> {
    sqlx::query_as(concat!(
        "SELECT target.place, target.agentsn, target.version, host.state AS presence, host.os,
                host.arch, host.version AS own_version, host_agent.version AS before,
                target.reason
         FROM rollout_target AS target",
        by_index!("rollout_target_by_state"),
        " JOIN host ON host.agentsn = target.agentsn
         LEFT JOIN host_agent
             ON host_agent.agentsn = target.agentsn AND host_agent.name = $5
         WHERE ",
        in_state!("target", "$1", "'waiting'", "$2", "$3"),
        " LIMIT $4"
    ))
    .bind(turn.rollout.number)
    .bind(looked)
    .bind(end)
    .bind(LOOKED_AT)
    .bind(&turn.rollout.agent)
    .fetch_all(&mut **turn.tx)
    .await
    .map_err(failed("looking which targets are next"))
}

/// Looks which hosts are another rollout's, and takes them over where the plan says
/// so. Returns those that are not free, and whether some were freed.
async fn contended(
    turn: &mut Turn<'_>,
    online: &[&Candidate],
    most: usize,
    now: i64,
) -> Result<(BTreeSet<String>, bool)> {
    let step = "looking whose turn it is";
    let mut busy = BTreeSet::new();
    let rivals = sqlx::query(
        "SELECT * FROM rollout WHERE ended IS NULL AND number <> $1 AND agent = $2 ORDER BY number",
    )
    .bind(turn.rollout.number)
    .bind(&turn.rollout.agent)
    .fetch_all(&mut **turn.tx)
    .await
    .map_err(failed(step))?;
    if rivals.is_empty() || online.is_empty() {
        return Ok((busy, false));
    }
    let rivals: Vec<RolloutRow> = rivals.iter().map(read).collect::<Result<_>>()?;
    let agentsns: Vec<&str> = online.iter().map(|it| it.agentsn.as_str()).collect();
    let contention = turn.rollout.plan.terms().contention;
    let own = side(turn.rollout);
    let whose = |rival: &RolloutRow, state| between(own, side(rival), contention, state);
    let mut freed = false;
    for (wanted, is_waited_for) in [(Whose::Wait, true), (Whose::TakeOver, false)] {
        let theirs = rivals
            .iter()
            .filter(|rival| whose(rival, TargetState::Waiting) == wanted);
        let theirs: Vec<i64> = theirs.map(|rival| rival.number).collect();
        let packed = rollout_pack::among(turn.tx, &theirs, &agentsns).await?;
        let packed: Vec<&Packed> = packed.iter().collect();
        let left = match is_waited_for {
            true => packed,
            // What is taken needs rows; the others are taken in the next turns.
            false => rollout_pack::unpack_these(turn.tx, &packed).await?,
        };
        freed |= !is_waited_for && !left.is_empty();
        busy.extend(left.into_iter().map(|it| it.agentsn.clone()));
    }
    let others: Vec<Other> = sqlx::query_as(concat!(
        "SELECT target.agentsn, target.rollout, target.place, target.state, target.job FROM ",
        given_texts!("$1"),
        " JOIN rollout_target AS target ON target.agentsn = given.value
          WHERE target.state IN ('waiting', 'ordered', 'running') AND target.rollout <> $2"
    ))
    .bind(to_json(&agentsns))
    .bind(turn.rollout.number)
    .fetch_all(&mut **turn.tx)
    .await
    .map_err(failed(step))?;
    let mut by_host: BTreeMap<&str, Vec<(&Other, TargetState, Whose)>> = BTreeMap::new();
    for one in &others {
        let Some(rival) = rivals.iter().find(|rival| rival.number == one.rollout) else {
            continue;
        };
        let state = target_state(&one.state)?;
        let whose = whose(rival, state);
        if whose != Whose::Go {
            let targets = by_host.entry(&one.agentsn).or_default();
            targets.push((one, state, whose));
        }
    }
    let mut taken: BTreeMap<i64, Vec<(&Other, TargetState)>> = BTreeMap::new();
    let mut hosts_taken = 0;
    for (agentsn, targets) in by_host {
        let is_waiting = targets.iter().any(|(.., whose)| *whose == Whose::Wait);
        if is_waiting || hosts_taken == most {
            busy.insert(agentsn.to_owned());
            continue;
        }
        hosts_taken += 1;
        for (one, state, _) in targets {
            taken.entry(one.rollout).or_default().push((one, state));
        }
    }
    for (number, targets) in taken {
        let Some(rival) = rivals.iter().find(|rival| rival.number == number) else {
            continue;
        };
        let jobs = targets.iter().filter_map(|(one, _)| one.job.as_ref());
        let back = take_back(turn.tx, jobs).await?;
        let mut moves = Vec::new();
        for (one, state) in targets {
            // One that went out in this moment is the older rollout's.
            if one.job.as_ref().is_some_and(|job| !back.contains(job)) {
                busy.insert(one.agentsn.clone());
                continue;
            }
            let Some(to) = after(state, News::Passed) else {
                continue;
            };
            moves.push(Moved {
                reason: Some("superseded"),
                ..Moved::new(one.place, state, to, now)
            });
        }
        turn.take_over(rival, &moves).await?;
    }
    Ok((busy, freed || hosts_taken > 0))
}

fn side(rollout: &RolloutRow) -> Side {
    Side {
        number: rollout.number,
        owner: match rollout.assignment {
            Some(_) => Owner::Assignment,
            None => Owner::Operator,
        },
    }
}

/// Writes the jobs of one kind.
async fn order(
    turn: &mut Turn<'_>,
    variant: &Variant,
    hosts: &[Value],
    begin_before: i64,
    now: i64,
) -> Result<()> {
    sqlx::query(concat!(
        "INSERT INTO job (id, agentsn, action, name, version, package, body, created, expires,
                          rollout, place)
         SELECT given.value ->> 0, given.value ->> 1, $2, $3, $4, $5, $6, $7, $8, $9,
                CAST(given.value ->> 2 AS BIGINT) FROM ",
        given_rows!("$1")
    ))
    .bind(to_json(hosts))
    .bind(variant.action.as_str())
    .bind(variant.body.get("name").and_then(Value::as_str))
    .bind(&variant.version)
    .bind(variant.file.as_ref().map(|file| &file.id))
    .bind(to_json(&variant.body(begin_before)))
    .bind(now)
    .bind(begin_before)
    .bind(turn.rollout.number)
    .execute(&mut **turn.tx)
    .await
    .map_err(failed("storing the jobs of a rollout"))?;
    let ids = hosts.iter().filter_map(|host| host[0].as_str());
    turn.tx.tell(Topic::Job, "ordered", ids);
    Ok(())
}

/// Notes which version each of these has, so that it can go back to it.
async fn note_befores(turn: &mut Turn<'_>, befores: &[Value]) -> Result<()> {
    if befores.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "UPDATE rollout_target SET before = given.value ->> 2 FROM ",
        given_rows!("$1"),
        " WHERE rollout_target.rollout = CAST(given.value ->> 0 AS BIGINT)
            AND rollout_target.place = CAST(given.value ->> 1 AS BIGINT)"
    ))
    .bind(to_json(befores))
    .execute(&mut **turn.tx)
    .await
    .map_err(failed("noting which versions hosts have"))?;
    Ok(())
}

/// Notes for which of these there is no file.
async fn note_fileless(turn: &mut Turn<'_>, targets: &[Value]) -> Result<()> {
    if targets.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "UPDATE rollout_target SET reason = $2 FROM ",
        given_rows!("$1"),
        " WHERE rollout_target.rollout = CAST(given.value ->> 0 AS BIGINT)
            AND rollout_target.place = CAST(given.value ->> 1 AS BIGINT)"
    ))
    .bind(to_json(targets))
    .bind(NO_FILE)
    .execute(&mut **turn.tx)
    .await
    .map_err(failed("noting for which hosts there is no file"))?;
    Ok(())
}
