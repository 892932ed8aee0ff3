//! Assignments: stored, listed and changed.
//!
//! Each goes on with a rollout of its own, which says how it stands. The one rule: what
//! is assigned changes only with another rollout, so that what was counted is always
//! of one version under one plan.

use std::cmp::Reverse;

use serde_json::{Value, json};
use sqlx::{Database, QueryBuilder, Row};

use super::audit::{Deed, note};
use super::member::push_list;
use super::rollout::{counts_of, hold_packages, insert_row, read as read_rollout, write_stand};
use super::{Db, DbRow, SqlStore, Write, failed, from_json, group, listing, orders_come, to_json};
use crate::access::scope::Scope;
use crate::fleet::assignment::{MAX_ASSIGNMENTS, precedence};
use crate::fleet::rollout::goods::Goods;
use crate::fleet::rollout::stand::Command;
use crate::fleet::rollout::standing;
use crate::store::Result;
use crate::store::assignment::{
    AssignmentChange, AssignmentQuery, AssignmentRow, AssignmentStored, Course, NewAssignment,
};
use crate::store::audit::By;
use crate::store::change::Topic;
use crate::store::page::Page;
use crate::store::rollout::{NewRollout, TargetSet};
use bootagent_protocol::Action;

/// What an assignment orders: it puts what is not there, too.
const ACTION: Action = Action::Install;

const SELECT: &str = "SELECT assignment.id AS assignment_id, assignment.name AS assignment_name,
        assignment.host_group, host_group.name AS group_name,
        assignment.agent AS assigned_agent, assignment.version AS assigned_version,
        assignment.watch, assignment.priority, assignment.revision AS own_revision,
        assignment.author AS own_author, assignment.created AS own_created, assignment.changed,
        assignment.sweep, assignment.sweep_due, assignment.census, rollout.*
    FROM assignment
    JOIN host_group ON host_group.id = assignment.host_group
    JOIN rollout ON rollout.number = assignment.rollout
    WHERE TRUE";

pub(super) async fn insert(
    store: &SqlStore,
    new: &NewAssignment,
    by: &By,
) -> Result<AssignmentStored> {
    let step = "storing an assignment";
    let mut tx = store.write(step).await?;
    orders_come(&mut tx).await?;
    // Its group stays until the commit, and from then on.
    group::lock_nesting(&mut tx).await?;
    if !group::unknown(&mut tx, &[&new.group]).await?.is_empty() {
        return Ok(AssignmentStored::UnknownGroup);
    }
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM assignment")
        .fetch_one(&mut *tx)
        .await
        .map_err(failed(step))?;
    if count >= MAX_ASSIGNMENTS {
        return Ok(AssignmentStored::TooMany);
    }
    let named = (new.id.as_str(), new.name.as_str(), new.agent.as_str());
    let number = match begin(&mut tx, named, &new.course, by).await? {
        Begun::Rollout(number) => number,
        Begun::Not(refused) => return Ok(refused),
    };
    sqlx::query(
        "INSERT INTO assignment (id, name, host_group, agent, version, watch, priority, rollout,
                                 revision, author, created, changed)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, $9, $10, $10)",
    )
    .bind(&new.id)
    .bind(&new.name)
    .bind(&new.group)
    .bind(&new.agent)
    .bind(&new.course.version)
    .bind(watch(&new.course))
    .bind(new.priority)
    .bind(number)
    .bind(&by.actor.name)
    .bind(by.at)
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    let deed = Deed {
        action: "assignment.create",
        target: &new.id,
        detail: json!({
            "name": new.name,
            "group": new.group,
            "agent": new.agent,
            "version": new.course.version,
            "priority": new.priority,
            "plan": new.course.plan,
        }),
    };
    note(&mut tx, by, deed).await?;
    tx.tell(Topic::Assignment, "new", [&new.id]);
    tx.commit().await.map_err(failed(step))?;
    stored(store, &new.id).await
}

/// A rollout that began, or why none did.
enum Begun {
    Rollout(i64),
    Not(AssignmentStored),
}

/// Begins the rollout an assignment goes on with: its id, name and agent.
async fn begin(
    tx: &mut Write,
    (id, name, agent): (&str, &str, &str),
    course: &Course,
    by: &By,
) -> Result<Begun> {
    let stand = match standing::begin(&course.plan) {
        Ok(stand) => stand,
        Err(refusal) => return Ok(Begun::Not(AssignmentStored::Refused(refusal))),
    };
    let rollout = NewRollout {
        id: uuid::Uuid::now_v7().to_string(),
        name: name.to_owned(),
        action: ACTION,
        agent: agent.to_owned(),
        version: Some(course.version.clone()),
        goods: course.goods.clone(),
        set: TargetSet::Hosts(Vec::new()),
        plan: course.plan.clone(),
        author: course.author.clone(),
        follows: None,
        seen: None,
        created: by.at,
    };
    let number = insert_row(tx, &rollout, &stand, Some(id), &Scope::fleet(), by).await?;
    Ok(match number {
        Some(number) => Begun::Rollout(number),
        None => Begun::Not(AssignmentStored::PackageGone),
    })
}

fn watch(course: &Course) -> Option<i64> {
    course
        .watch
        .map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX))
}

pub(super) async fn by_id(store: &SqlStore, id: &str) -> Result<Option<AssignmentRow>> {
    one(store, " AND assignment.id = ", id.to_owned()).await
}

pub(super) async fn by_rollout(store: &SqlStore, number: i64) -> Result<Option<AssignmentRow>> {
    let mut sql: QueryBuilder<Db> = QueryBuilder::new(SELECT);
    sql.push(" AND assignment.rollout = ").push_bind(number);
    let row = sql
        .build()
        .fetch_optional(&store.readers)
        .await
        .map_err(failed("looking which assignment a rollout is for"))?;
    row.as_ref().map(read).transpose()
}

async fn one(
    store: &SqlStore,
    condition: &'static str,
    value: String,
) -> Result<Option<AssignmentRow>> {
    let mut sql: QueryBuilder<Db> = QueryBuilder::new(SELECT);
    sql.push(condition).push_bind(value);
    let row = sql
        .build()
        .fetch_optional(&store.readers)
        .await
        .map_err(failed("looking up an assignment"))?;
    let Some(row) = row else { return Ok(None) };
    let mut rows = [read(&row)?];
    count(store, &mut rows).await?;
    let [row] = rows;
    Ok(Some(row))
}

/// Adds how many targets stand where.
async fn count(store: &SqlStore, rows: &mut [AssignmentRow]) -> Result<()> {
    let numbers: Vec<i64> = rows.iter().map(|row| row.rollout.number).collect();
    let mut counts = counts_of(store, &numbers).await?;
    for row in rows {
        row.rollout.counts = counts.remove(&row.rollout.number).unwrap_or_default();
    }
    Ok(())
}

pub(super) async fn list(store: &SqlStore, query: &AssignmentQuery) -> Result<Page<AssignmentRow>> {
    let mut sql = QueryBuilder::new(SELECT);
    if let Some(agent) = &query.agent {
        sql.push(" AND assignment.agent = ")
            .push_bind(agent.clone());
    }
    match &query.groups {
        Some(groups) if groups.is_empty() => {
            sql.push(" AND FALSE");
        }
        Some(groups) => {
            sql.push(" AND assignment.host_group");
            push_list(&mut sql, groups);
        }
        None => {}
    }
    if let Some(after) = &query.after {
        sql.push(" AND assignment.id < ").push_bind(after.clone());
    }
    sql.push(" ORDER BY assignment.id DESC");
    let key = |row: &AssignmentRow| row.id.clone();
    let step = "listing assignments";
    let mut page = listing::page(store, step, sql, query.limit, read, key).await?;
    count(store, &mut page.items).await?;
    Ok(page)
}

/// The groups of the assignments of this agent that come before another one.
pub(super) async fn earlier(
    connection: &mut <Db as Database>::Connection,
    agent: &str,
    priority: i64,
    id: &str,
) -> Result<Vec<String>> {
    let rows: Vec<(i64, String, String)> =
        sqlx::query_as("SELECT priority, id, host_group FROM assignment WHERE agent = $1")
            .bind(agent)
            .fetch_all(connection)
            .await
            .map_err(failed("looking which assignments come first"))?;
    let own: (Reverse<i64>, &str) = precedence(priority, id);
    let earlier = rows.into_iter();
    let earlier = earlier.filter(|(priority, id, _)| precedence(*priority, id) < own);
    Ok(earlier.map(|(.., group)| group).collect())
}

/// An assignment that is about to be changed, if this is still its revision. Nobody else
/// changes it or its rollout before the commit.
pub(super) async fn hold(
    tx: &mut Write,
    id: &str,
    revision: Option<i64>,
) -> Result<std::result::Result<AssignmentRow, AssignmentStored>> {
    let step = "looking up an assignment";
    // The rollout first, as its turns do.
    let held = sqlx::query(concat!(
        "SELECT 1 FROM rollout WHERE number = (SELECT rollout FROM assignment WHERE id = $1)",
        for_update!()
    ))
    .bind(id)
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed(step))?;
    let mut sql: QueryBuilder<Db> = QueryBuilder::new(SELECT);
    sql.push(" AND assignment.id = ").push_bind(id);
    let row = sql
        .build()
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed(step))?;
    let (Some(_), Some(row)) = (held, row) else {
        return Ok(Err(AssignmentStored::Unknown));
    };
    let row = read(&row)?;
    Ok(match revision.is_some_and(|seen| seen != row.revision) {
        true => Err(AssignmentStored::Stale),
        false => Ok(row),
    })
}

pub(super) async fn change(
    store: &SqlStore,
    id: &str,
    change: &AssignmentChange,
    revision: Option<i64>,
    by: &By,
) -> Result<AssignmentStored> {
    let step = "changing an assignment";
    let mut tx = store.write(step).await?;
    orders_come(&mut tx).await?;
    let known = match hold(&mut tx, id, revision).await? {
        Ok(known) => known,
        Err(refused) => return Ok(refused),
    };
    let name = change.name.as_deref().unwrap_or(&known.name);
    let (version, watched, number) = match &change.course {
        None => {
            let watched = known
                .watch
                .map(|watch| i64::try_from(watch).unwrap_or_default());
            (known.version.as_str(), watched, known.rollout.number)
        }
        Some(course) => {
            end(&mut tx, &known, by.at).await?;
            match begin(&mut tx, (id, name, &known.agent), course, by).await? {
                Begun::Rollout(number) => (course.version.as_str(), watch(course), number),
                Begun::Not(refused) => return Ok(refused),
            }
        }
    };
    // One that begins counts from 1: the sum goes up.
    let own = known.revision - known.rollout.revision;
    let own = own
        + match change.course {
            Some(_) => known.rollout.revision,
            None => 1,
        };
    sqlx::query(
        "UPDATE assignment SET name = $2, priority = $3, version = $4, watch = $5, rollout = $6,
                revision = $7, changed = $8, sweep = NULL, sweep_due = 0, census = $9
         WHERE id = $1",
    )
    .bind(id)
    .bind(name)
    .bind(change.priority.unwrap_or(known.priority))
    .bind(version)
    .bind(watched)
    .bind(number)
    .bind(own)
    .bind(by.at)
    // How many are right is not known any more.
    .bind(None::<String>)
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    let deed = Deed {
        action: "assignment.change",
        target: id,
        detail: json!({
            "before": brief(&known),
            "after": {
                "name": name,
                "priority": change.priority.unwrap_or(known.priority),
                "version": version,
                "plan": change.course.as_ref().map(|course| &course.plan),
            },
        }),
    };
    note(&mut tx, by, deed).await?;
    tx.tell(Topic::Assignment, "edited", [id]);
    tx.commit().await.map_err(failed(step))?;
    stored(store, id).await
}

/// What it was about to order it does not order any more; what is under way goes on.
pub(super) async fn end(tx: &mut Write, known: &AssignmentRow, now: i64) -> Result<()> {
    let rollout = &known.rollout;
    match rollout.stand.take(&rollout.plan, Command::Abort) {
        Ok(next) => write_stand(tx, rollout, &next, now).await,
        // It ends already.
        Err(_) => Ok(()),
    }
}

/// Other files of the same version; whoever had none is looked at again.
pub(super) async fn renew(store: &SqlStore, number: i64, goods: &Goods) -> Result<()> {
    let step = "giving an assignment other files";
    let mut tx = store.write(step).await?;
    orders_come(&mut tx).await?;
    let known = sqlx::query(
        "UPDATE rollout SET goods = $2, looked = -1 WHERE number = $1 AND ended IS NULL",
    )
    .bind(number)
    .bind(to_json(goods))
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    // One that was deleted meanwhile is given by a later renewal or not at all.
    if known.rows_affected() == 0 || !hold_packages(&mut tx, number, goods).await? {
        return Ok(());
    }
    tx.commit().await.map_err(failed(step))
}

pub(super) fn brief(known: &AssignmentRow) -> Value {
    json!({
        "name": known.name,
        "group": known.group,
        "agent": known.agent,
        "version": known.version,
        "priority": known.priority,
    })
}

pub(super) async fn stored(store: &SqlStore, id: &str) -> Result<AssignmentStored> {
    let row = by_id(store, id).await?;
    Ok(row.map_or(AssignmentStored::Unknown, |row| {
        AssignmentStored::Done(Box::new(row))
    }))
}

/// An assignment and its rollout without its counts.
pub(super) fn read(row: &DbRow) -> Result<AssignmentRow> {
    let step = "reading an assignment";
    let text = |column| row.try_get::<String, _>(column).map_err(failed(step));
    let number = |column| row.try_get::<i64, _>(column).map_err(failed(step));
    let maybe = |column| {
        row.try_get::<Option<String>, _>(column)
            .map_err(failed(step))
    };
    let watch: Option<i64> = row.try_get("watch").map_err(failed(step))?;
    let mut assignment = AssignmentRow {
        id: text("assignment_id")?,
        name: text("assignment_name")?,
        group: text("host_group")?,
        group_name: text("group_name")?,
        agent: text("assigned_agent")?,
        version: text("assigned_version")?,
        watch: watch.and_then(|seconds| u64::try_from(seconds).ok()),
        priority: number("priority")?,
        revision: number("own_revision")?,
        author: text("own_author")?,
        created: number("own_created")?,
        changed: number("changed")?,
        sweep: maybe("sweep")?
            .map(|text| from_json(step, &text))
            .transpose()?,
        sweep_due: number("sweep_due")?,
        census: maybe("census")?
            .map(|text| from_json(step, &text))
            .transpose()?,
        rollout: read_rollout(row)?,
    };
    assignment.revision += assignment.rollout.revision;
    assignment.rollout.hosts = assignment.hosts();
    Ok(assignment)
}
