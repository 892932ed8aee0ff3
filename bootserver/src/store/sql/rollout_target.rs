//! The targets of a rollout, listed with what each of them may wait for.

use sqlx::{QueryBuilder, Row};

use bootagent_protocol::ErrorCode;

use super::rollout::target_state;
use super::scope;
use super::{DbRow, SqlStore, failed, listing, push_by_index};
use crate::fleet::rollout::why::Rival;
use crate::store::Result;
use crate::store::page::{Count, Page};
use crate::store::rollout::{TargetQuery, TargetRow};

/// Who else has a host is looked up for the rows of the page alone.
const SELECT: &str = "SELECT target.place, target.agentsn, host.hostname, target.state,
        target.version, target.job, target.before, target.since, target.errcode,
        job_result.message, target.reason,
        CASE WHEN host.state IN ('new', 'late', 'offline') THEN host.since END AS offline_since,
        (SELECT CASE WHEN rollout.assignment IS NULL THEN 'rollout ' || rollout.id
                     ELSE 'assignment ' || rollout.assignment END
         FROM rollout_target AS other
         JOIN rollout ON rollout.number = other.rollout
         WHERE other.agentsn = target.agentsn AND other.rollout <> target.rollout
             AND other.state IN ('waiting', 'ordered', 'running')
             AND rollout.ended IS NULL AND rollout.agent = own.agent
             AND (rollout.assignment IS NULL
                      AND (own.assignment IS NOT NULL OR rollout.number < own.number)
                  OR rollout.assignment IS NOT NULL AND other.state <> 'waiting')
         ORDER BY other.rollout LIMIT 1) AS busy_with,
        CASE own.agent WHEN 'bootagent' THEN host.version ELSE host_agent.version END AS has,
        target.attempts
    FROM rollout_target AS target";
const JOIN: &str = " JOIN rollout AS own ON own.number = target.rollout
    LEFT JOIN host_agent
        ON host_agent.agentsn = target.agentsn AND host_agent.name = own.agent
    LEFT JOIN host ON host.agentsn = target.agentsn
    LEFT JOIN job_result ON job_result.job = target.job
    WHERE ";

pub(super) async fn list(store: &SqlStore, query: &TargetQuery) -> Result<Page<TargetRow>> {
    let bounds = scope::bounds_of(store, &query.scope).await?;
    let mut sql = QueryBuilder::new(SELECT);
    let after = query.after.unwrap_or(-1);
    match query.state {
        Some(state) => {
            push_by_index(&mut sql, "rollout_target_by_state");
            sql.push(JOIN);
            // As `in_state!` says it.
            let key = "(target.rollout, target.state, target.place)";
            for (sign, place) in [(" > (", after), (" < (", i64::MAX)] {
                sql.push(key).push(sign).push_bind(query.rollout).push(", ");
                sql.push_bind(state.word()).push(", ").push_bind(place);
                sql.push(") AND ");
            }
            sql.push("1 = 1");
        }
        None => {
            sql.push(JOIN)
                .push("target.rollout = ")
                .push_bind(query.rollout);
            sql.push(" AND target.place > ").push_bind(after);
        }
    }
    bounds.restrict(&mut sql, "target.agentsn");
    sql.push(match query.state {
        Some(_) => " ORDER BY target.rollout, target.state, target.place",
        None => " ORDER BY target.place",
    });
    let key = |target: &TargetRow| target.place.to_string();
    let step = "listing the targets of a rollout";
    let mut page = listing::page(store, step, sql, query.limit, read, key).await?;
    if query.count == Count::All {
        let mut sql =
            QueryBuilder::new("SELECT 1 FROM rollout_target AS target WHERE target.rollout = ");
        sql.push_bind(query.rollout);
        if let Some(state) = query.state {
            sql.push(" AND target.state = ").push_bind(state.word());
        }
        bounds.restrict(&mut sql, "target.agentsn");
        page.total = Some(listing::total(store, sql).await?);
    }
    Ok(page)
}

fn read(row: &DbRow) -> Result<TargetRow> {
    let step = "reading a target";
    let text = |column| {
        row.try_get::<Option<String>, _>(column)
            .map_err(failed(step))
    };
    let time = |column| row.try_get::<Option<i64>, _>(column).map_err(failed(step));
    let state: String = row.try_get("state").map_err(failed(step))?;
    Ok(TargetRow {
        place: row.try_get("place").map_err(failed(step))?,
        agentsn: row.try_get("agentsn").map_err(failed(step))?,
        hostname: text("hostname")?,
        state: target_state(&state)?,
        version: text("version")?,
        job: text("job")?,
        before: text("before")?,
        since: time("since")?,
        errcode: time("errcode")?.map(|code| ErrorCode(u16::try_from(code).unwrap_or(u16::MAX))),
        message: text("message")?,
        reason: text("reason")?,
        offline_since: time("offline_since")?,
        busy_with: text("busy_with")?.as_deref().and_then(rival),
        has: text("has")?,
        attempts: row.try_get("attempts").map_err(failed(step))?,
    })
}

fn rival(text: &str) -> Option<Rival> {
    let (kind, id) = text.split_once(' ')?;
    match kind {
        "rollout" => Some(Rival::Rollout(id.to_owned())),
        "assignment" => Some(Rival::Assignment(id.to_owned())),
        _ => None,
    }
}
