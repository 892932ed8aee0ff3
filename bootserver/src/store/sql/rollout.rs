//! Rollouts: ordered, listed, and told something by operators.
//!
//! One is seen by whoever sees all of its hosts: who is restricted to some sees
//! those that were ordered within the same bounds.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::{QueryBuilder, Row};

use super::audit::{Deed, note};
use super::scope::outside;
use super::{Db, DbRow, SqlStore, Write, failed, from_json, listing, orders_come, to_json};
use crate::access::scope::Scope;
use crate::fleet::rollout::goods::Goods;
use crate::fleet::rollout::stand::{Command, Phase, Stand};
use crate::fleet::rollout::tally::Counts;
use crate::fleet::rollout::target::TargetState;
use crate::store::Result;
use crate::store::audit::By;
use crate::store::change::Topic;
use crate::store::page::Page;
use crate::store::rollout::{
    Follows, NewRollout, Order, Ordered, RolloutInserted, RolloutPhase, RolloutQuery, RolloutRow,
    TargetSet, Way,
};

const SELECT: &str = "SELECT number, id, name, action, agent, version, plan, stand, targets,
        revision, author, author_name, follows, follow, assignment, created, ended
    FROM rollout WHERE assignment IS NULL";

pub(super) async fn insert(
    store: &SqlStore,
    new: &NewRollout,
    scope: &Scope,
    by: &By,
) -> Result<RolloutInserted> {
    let step = "storing a rollout";
    let mut tx = store.write(step).await?;
    orders_come(&mut tx).await?;
    if !follow(&mut tx, new).await? {
        return Ok(RolloutInserted::Stale);
    }
    if let TargetSet::Hosts(agentsns) = &new.set {
        let unknown = unknown(&mut tx, agentsns, scope).await?;
        if !unknown.is_empty() {
            return Ok(RolloutInserted::UnknownHosts(unknown));
        }
    }
    let stand = Stand::new(&new.plan, new.created);
    if insert_row(&mut tx, new, &stand, None, scope, by)
        .await?
        .is_none()
    {
        return Ok(RolloutInserted::PackageGone);
    }
    let deed = Deed {
        action: "rollout.create",
        target: &new.id,
        detail: json!({
            "name": new.name,
            "action": new.action.as_str(),
            "agent": new.agent,
            "version": new.version,
            "targets": brief(&new.set),
            "plan": new.plan,
            "follows": new.follows.as_ref().map(|follows| &follows.id),
        }),
    };
    note(&mut tx, by, deed).await?;
    tx.tell(Topic::Rollout, "new", [&new.id]);
    tx.commit().await.map_err(failed(step))?;
    let row = by_id(store, &new.id, scope).await?;
    row.map(|row| RolloutInserted::Done(Box::new(row)))
        .ok_or_else(|| failed(step)(sqlx::Error::RowNotFound))
}

/// Notes at the rollout this one comes after that it does, so that whoever has seen the
/// same does not have another one follow it. False if it is not what was seen.
async fn follow(tx: &mut Write, new: &NewRollout) -> Result<bool> {
    let Some(former) = &new.follows else {
        return Ok(true);
    };
    let followed = sqlx::query(
        "UPDATE rollout SET revision = revision + 1
         WHERE id = $1 AND revision = coalesce($2, revision)",
    )
    .bind(&former.id)
    .bind(new.seen)
    .execute(&mut **tx)
    .await
    .map_err(failed("noting that a rollout is followed"))?;
    if followed.rows_affected() == 0 {
        return Ok(false);
    }
    tx.tell(Topic::Rollout, "followed", [&former.id]);
    Ok(true)
}

/// Writes a rollout that stands so, and returns its number; none if a package it needs
/// is not there.
pub(super) async fn insert_row(
    tx: &mut Write,
    new: &NewRollout,
    stand: &Stand,
    assignment: Option<&str>,
    scope: &Scope,
    by: &By,
) -> Result<Option<i64>> {
    let step = "storing a rollout";
    let number: i64 = sqlx::query_scalar(
        "INSERT INTO rollout (id, name, action, agent, version, goods, target_set, scope, plan,
                              stand, phase, author, author_name, follows, follow, created,
                              assignment)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
         RETURNING number",
    )
    .bind(&new.id)
    .bind(&new.name)
    .bind(new.action.as_str())
    .bind(&new.agent)
    .bind(&new.version)
    .bind(to_json(&new.goods))
    .bind(to_json(&new.set))
    .bind(to_json(&scope.to_texts()))
    .bind(to_json(&new.plan))
    .bind(to_json(stand))
    .bind(stand.phase.word())
    .bind(&new.author)
    .bind(&by.actor.name)
    .bind(new.follows.as_ref().map(|follows| &follows.id))
    .bind(new.follows.as_ref().map(|follows| way_word(follows.way)))
    .bind(new.created)
    .bind(assignment)
    .fetch_one(&mut **tx)
    .await
    .map_err(failed(step))?;
    let are_there = hold_packages(tx, number, &new.goods).await?;
    Ok(are_there.then_some(number))
}

/// Keeps packages from being deleted while a rollout needs them. False if one is not
/// there.
pub(super) async fn hold_packages(tx: &mut Write, number: i64, goods: &Goods) -> Result<bool> {
    let step = "holding the packages of a rollout";
    for file in goods.files() {
        // As with jobs: whoever deletes the package is before or after.
        let there = sqlx::query(concat!("SELECT 1 FROM package WHERE id = $1", for_share!()))
            .bind(file)
            .fetch_optional(&mut **tx)
            .await
            .map_err(failed(step))?;
        if there.is_none() {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO rollout_package (rollout, package) VALUES ($1, $2)
             ON CONFLICT (rollout, package) DO NOTHING",
        )
        .bind(number)
        .bind(file)
        .execute(&mut **tx)
        .await
        .map_err(failed(step))?;
    }
    Ok(true)
}

/// What the audit says of a set: a long list by its length.
fn brief(set: &TargetSet) -> serde_json::Value {
    match set {
        TargetSet::Hosts(agentsns) => json!({ "hosts": agentsns.len() }),
        TargetSet::Query { .. } | TargetSet::Former { .. } => json!(set),
    }
}

/// Of these, the hosts that are not there, for somebody with this scope.
async fn unknown(tx: &mut Write, agentsns: &[String], scope: &Scope) -> Result<Vec<String>> {
    let unknown: Vec<String> = sqlx::query_scalar(concat!(
        "SELECT given.value FROM ",
        given_texts!("$1"),
        " WHERE NOT EXISTS (
             SELECT 1 FROM host WHERE host.agentsn = given.value
                 AND host.state NOT IN ('revoked', 'deleted'))"
    ))
    .bind(to_json(agentsns))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("looking which hosts are unknown"))?;
    match unknown.is_empty() {
        true => outside(tx, scope, &agentsns.iter().collect::<Vec<_>>()).await,
        false => Ok(unknown),
    }
}

pub(super) async fn by_id(store: &SqlStore, id: &str, scope: &Scope) -> Result<Option<RolloutRow>> {
    let mut sql = QueryBuilder::new(SELECT);
    sql.push(" AND id = ").push_bind(id);
    restrict(&mut sql, scope);
    let row = sql
        .build()
        .fetch_optional(&store.readers)
        .await
        .map_err(failed("looking up a rollout"))?;
    let Some(row) = row else { return Ok(None) };
    let mut rollout = read(&row)?;
    let mut counts = counts_of(store, &[rollout.number]).await?;
    rollout.counts = counts.remove(&rollout.number).unwrap_or_default();
    Ok(Some(rollout))
}

pub(super) async fn goods(store: &SqlStore, number: i64) -> Result<Goods> {
    let step = "reading what a rollout orders";
    let goods: Option<String> = sqlx::query_scalar("SELECT goods FROM rollout WHERE number = $1")
        .bind(number)
        .fetch_optional(&store.readers)
        .await
        .map_err(failed(step))?;
    goods.map_or(Ok(Goods::default()), |goods| from_json(step, &goods))
}

pub(super) async fn list(store: &SqlStore, query: &RolloutQuery) -> Result<Page<RolloutRow>> {
    let mut sql = QueryBuilder::new(SELECT);
    match query.phase {
        Some(RolloutPhase::Active) => sql.push(" AND ended IS NULL"),
        Some(RolloutPhase::Ended) => sql.push(" AND ended IS NOT NULL"),
        None => &mut sql,
    };
    restrict(&mut sql, &query.scope);
    if let Some(after) = &query.after {
        sql.push(" AND id < ").push_bind(after.clone());
    }
    sql.push(" ORDER BY id DESC");
    let key = |rollout: &RolloutRow| rollout.id.clone();
    let step = "listing rollouts";
    let mut page = listing::page(store, step, sql, query.limit, read, key).await?;
    let numbers: Vec<i64> = page.items.iter().map(|rollout| rollout.number).collect();
    let mut counts = counts_of(store, &numbers).await?;
    for rollout in &mut page.items {
        rollout.counts = counts.remove(&rollout.number).unwrap_or_default();
    }
    Ok(page)
}

/// Only those that were ordered within all these bounds.
pub(super) fn restrict(sql: &mut QueryBuilder<Db>, scope: &Scope) {
    for set in scope.to_texts() {
        sql.push(" AND EXISTS (SELECT 1 FROM ")
            .push(given_texts!("rollout.scope"))
            .push(" WHERE given.value = ")
            .push_bind(set)
            .push(")");
    }
}

/// What an operator says.
pub(super) async fn order(
    store: &SqlStore,
    id: &str,
    order: &Order,
    revision: Option<i64>,
    scope: &Scope,
    by: &By,
) -> Result<Ordered> {
    let step = "telling a rollout what to do";
    if by_id(store, id, scope).await?.is_none() {
        return Ok(Ordered::Unknown);
    }
    let mut tx = store.write(step).await?;
    let row = sqlx::query(concat!(
        "SELECT * FROM rollout WHERE id = $1",
        for_update!()
    ))
    .bind(id)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed(step))?;
    let Some(row) = row else {
        return Ok(Ordered::Unknown);
    };
    let rollout = read(&row)?;
    if revision.is_some_and(|seen| seen != rollout.revision) {
        return Ok(Ordered::Stale);
    }
    let (action, command) = match order {
        Order::Confirm { by } => {
            let author = &rollout.author;
            ("rollout.confirm", Command::Confirm { author, by })
        }
        Order::Pause => ("rollout.pause", Command::Pause),
        Order::Resume => ("rollout.resume", Command::Resume),
        Order::Abort => ("rollout.abort", Command::Abort),
    };
    let next = match rollout.stand.take(&rollout.plan, command) {
        Ok(next) => next,
        Err(refusal) => return Ok(Ordered::Refused(refusal)),
    };
    if rollout.stand.phase == Phase::Freezing {
        // What there is of its targets are all there will be.
        count_frozen(&mut tx, &rollout).await?;
    }
    write_stand(&mut tx, &rollout, &next, by.at).await?;
    let deed = Deed {
        action,
        target: id,
        detail: json!({ "before": rollout.stand.phase, "after": next.phase }),
    };
    note(&mut tx, by, deed).await?;
    tx.commit().await.map_err(failed(step))?;
    let row = by_id(store, id, scope).await?;
    Ok(row.map_or(Ordered::Unknown, |row| Ordered::Done(Box::new(row))))
}

/// Writes how a rollout stands from now on, if that is new, and tells it.
pub(super) async fn write_stand(
    tx: &mut Write,
    rollout: &RolloutRow,
    next: &Stand,
    now: i64,
) -> Result<()> {
    if rollout.stand == *next {
        return Ok(());
    }
    let is_other_phase = rollout.stand.phase != next.phase;
    let ended = match next.phase {
        Phase::Ended(_) => Some(rollout.ended.unwrap_or(now)),
        _ => None,
    };
    // Whoever was passed over, or had their order taken back, comes first again.
    sqlx::query(
        "UPDATE rollout SET stand = $2, phase = $3, ended = $4, revision = revision + $5,
                looked = -1
         WHERE number = $1",
    )
    .bind(rollout.number)
    .bind(to_json(next))
    .bind(next.phase.word())
    .bind(ended)
    .bind(i64::from(is_other_phase))
    .execute(&mut **tx)
    .await
    .map_err(failed("storing how a rollout stands"))?;
    let what = match is_other_phase {
        true => next.phase.word(),
        false => "moved",
    };
    tell(tx, rollout, what);
    Ok(())
}

/// Tells what became of a rollout, or of the assignment it is for.
pub(super) fn tell(tx: &mut Write, rollout: &RolloutRow, what: &'static str) {
    match &rollout.assignment {
        Some(assignment) => tx.tell(Topic::Assignment, what, [assignment]),
        None => tx.tell(Topic::Rollout, what, [&rollout.id]),
    }
}

/// Counts the targets that were written down, all of which wait.
pub(super) async fn count_frozen(tx: &mut Write, rollout: &RolloutRow) -> Result<()> {
    let targets = u64::try_from(rollout.targets).unwrap_or_default();
    let mut changes = BTreeMap::new();
    let mut begin = 0;
    for (stage, end) in rollout.plan.stage_ends(targets).into_iter().enumerate() {
        let hosts = i64::try_from(end.saturating_sub(begin)).unwrap_or(i64::MAX);
        changes.insert((stage, TargetState::Waiting), hosts);
        begin = end;
    }
    count(tx, rollout.number, &changes).await
}

/// So many more are in a state of a stage.
pub(super) async fn count(
    tx: &mut Write,
    number: i64,
    changes: &BTreeMap<(usize, TargetState), i64>,
) -> Result<()> {
    let changes: Vec<_> = changes
        .iter()
        .filter(|(_, targets)| **targets != 0)
        .map(|((stage, state), targets)| json!([stage, state.word(), targets]))
        .collect();
    if changes.is_empty() {
        return Ok(());
    }
    sqlx::query(concat!(
        "INSERT INTO rollout_count (rollout, stage, state, targets)
         SELECT $2, CAST(given.value ->> 0 AS BIGINT), given.value ->> 1,
                CAST(given.value ->> 2 AS BIGINT) FROM ",
        given_rows!("$1"),
        " WHERE TRUE ON CONFLICT (rollout, stage, state)
             DO UPDATE SET targets = rollout_count.targets + excluded.targets"
    ))
    .bind(to_json(&changes))
    .bind(number)
    .execute(&mut **tx)
    .await
    .map_err(failed("counting the targets of a rollout"))?;
    Ok(())
}

pub(super) async fn counts_of(store: &SqlStore, numbers: &[i64]) -> Result<BTreeMap<i64, Counts>> {
    let rows: Vec<(i64, i64, String, i64)> = sqlx::query_as(concat!(
        "SELECT rollout, stage, state, targets FROM rollout_count
         WHERE rollout IN (SELECT CAST(given.value AS BIGINT) FROM ",
        given_texts!("$1"),
        ")"
    ))
    .bind(to_json(numbers))
    .fetch_all(&store.readers)
    .await
    .map_err(failed("reading how many targets stand where"))?;
    let mut counts: BTreeMap<i64, Counts> = BTreeMap::new();
    for (number, stage, state, targets) in rows {
        add(counts.entry(number).or_default(), stage, &state, targets)?;
    }
    Ok(counts)
}

/// The counts of one rollout, as they are in this transaction.
pub(super) async fn counts_in(tx: &mut Write, number: i64) -> Result<Counts> {
    let rows: Vec<(i64, String, i64)> =
        sqlx::query_as("SELECT stage, state, targets FROM rollout_count WHERE rollout = $1")
            .bind(number)
            .fetch_all(&mut **tx)
            .await
            .map_err(failed("reading how many targets stand where"))?;
    let mut counts = Counts::default();
    for (stage, state, targets) in rows {
        add(&mut counts, stage, &state, targets)?;
    }
    Ok(counts)
}

fn add(counts: &mut Counts, stage: i64, state: &str, targets: i64) -> Result<()> {
    let stage = usize::try_from(stage).unwrap_or_default();
    let targets = u64::try_from(targets).unwrap_or_default();
    counts.add(stage, target_state(state)?, targets);
    Ok(())
}

/// A state as it is stored.
pub(super) fn target_state(word: &str) -> Result<TargetState> {
    TargetState::parse(word).ok_or_else(|| {
        let error = format!("{word:?} is no state of a target");
        failed("reading a target")(sqlx::Error::Decode(error.into()))
    })
}

const fn way_word(way: Way) -> &'static str {
    match way {
        Way::Again => "again",
        Way::Back => "back",
    }
}

/// A rollout without its counts.
pub(super) fn read(row: &DbRow) -> Result<RolloutRow> {
    let step = "reading a rollout";
    let text = |column| row.try_get::<String, _>(column).map_err(failed(step));
    let number = |column| row.try_get::<i64, _>(column).map_err(failed(step));
    let maybe = |column| {
        row.try_get::<Option<String>, _>(column)
            .map_err(failed(step))
    };
    let follows = match (maybe("follows")?, maybe("follow")?.as_deref()) {
        (Some(id), Some("back")) => Some(Follows { id, way: Way::Back }),
        (Some(id), _) => Some(Follows {
            id,
            way: Way::Again,
        }),
        (None, _) => None,
    };
    Ok(RolloutRow {
        number: number("number")?,
        id: text("id")?,
        name: text("name")?,
        action: text("action")?,
        agent: text("agent")?,
        version: maybe("version")?,
        plan: from_json(step, &text("plan")?)?,
        stand: from_json(step, &text("stand")?)?,
        targets: number("targets")?,
        hosts: number("targets")?,
        counts: Counts::default(),
        revision: number("revision")?,
        author: text("author")?,
        author_name: text("author_name")?,
        follows,
        assignment: maybe("assignment")?,
        created: number("created")?,
        ended: row.try_get("ended").map_err(failed(step))?,
    })
}
