//! The targets of a rollout, listed with what each of them may wait for.

use sqlx::{QueryBuilder, Row};

use bootagent_protocol::ErrorCode;

use super::rollout::target_state;
use super::scope::{self, Bounds};
use super::{Db, DbRow, SqlStore, failed, listing, push_by_index, rollout_pack};
use crate::fleet::rollout::why::Rival;
use crate::store::Result;
use crate::store::page::{Count, Page, Total};
use crate::store::rollout::{TargetQuery, TargetRow};

/// Who else has a host is looked up for the rows of the page alone.
const SELECT: &str = concat!(
    "SELECT target.place, target.agentsn, host.hostname, target.state,
        target.version, target.job, target.before, target.since, target.errcode,
        job_result.message, target.reason,
        CASE WHEN host.state IN ('new', 'late', 'offline') THEN host.since END AS offline_since,
        (SELECT CASE WHEN rollout.assignment IS NULL THEN 'rollout ' || rollout.id
                     ELSE 'assignment ' || rollout.assignment END
         FROM rollout
         WHERE rollout.ended IS NULL AND rollout.agent = own.agent
             AND rollout.number <> own.number
             AND (EXISTS (
                      SELECT 1 FROM rollout_target AS other
                      WHERE other.agentsn = target.agentsn AND other.rollout = rollout.number
                          AND other.state IN ('waiting', 'ordered', 'running')
                          AND (rollout.assignment IS NULL
                                   AND (own.assignment IS NOT NULL OR rollout.number < own.number)
                               OR rollout.assignment IS NOT NULL AND other.state <> 'waiting'))
                  OR rollout.rest = 'waiting'
                      AND (own.assignment IS NOT NULL OR rollout.number < own.number)
                      AND EXISTS (SELECT 1 FROM rollout_pack AS pack WHERE ",
    is_in_pack!("target.agentsn"),
    "))
         ORDER BY rollout.number LIMIT 1) AS busy_with,
        CASE own.agent WHEN 'bootagent' THEN host.version ELSE host_agent.version END AS has,
        target.attempts
    FROM ("
);
const JOIN: &str = ") AS target JOIN rollout AS own ON own.number = target.rollout
    LEFT JOIN host_agent
        ON host_agent.agentsn = target.agentsn AND host_agent.name = own.agent
    LEFT JOIN host ON host.agentsn = target.agentsn
    LEFT JOIN job_result ON job_result.job = target.job
    ORDER BY target.place";

pub(super) async fn list(store: &SqlStore, query: &TargetQuery) -> Result<Page<TargetRow>> {
    let bounds = scope::bounds_of(store, &query.scope).await?;
    let mut sql = QueryBuilder::new(SELECT);
    push_rows(&mut sql, query, &bounds);
    sql.push(" UNION ALL ");
    push_packed(&mut sql, query, &bounds);
    sql.push(JOIN);
    let key = |target: &TargetRow| target.place.to_string();
    let step = "listing the targets of a rollout";
    let mut page = listing::page(store, step, sql, query.limit, read, key).await?;
    if query.count == Count::All {
        page.total = Some(total(store, query, &bounds).await?);
    }
    Ok(page)
}

/// The rows a page may have, of targets that have one.
fn push_rows(sql: &mut QueryBuilder<Db>, query: &TargetQuery, bounds: &Bounds) {
    sql.push(
        "SELECT * FROM (
             SELECT rollout, place, agentsn, state, version, job, before, since, errcode,
                    reason, attempts FROM rollout_target AS target",
    );
    let after = query.after.unwrap_or(-1);
    match query.state {
        Some(state) => {
            push_by_index(sql, "rollout_target_by_state");
            // As `in_state!` says it.
            let key = "(target.rollout, target.state, target.place)";
            for (word, sign, place) in [(" WHERE ", " > (", after), (" AND ", " < (", i64::MAX)] {
                sql.push(word).push(key).push(sign);
                sql.push_bind(query.rollout).push(", ");
                sql.push_bind(state.word()).push(", ").push_bind(place);
                sql.push(")");
            }
        }
        None => {
            sql.push(" WHERE target.rollout = ")
                .push_bind(query.rollout);
            sql.push(" AND target.place > ").push_bind(after);
        }
    }
    bounds.restrict(sql, "target.agentsn");
    sql.push(match query.state {
        Some(_) => " ORDER BY target.rollout, target.state, target.place LIMIT ",
        None => " ORDER BY target.place LIMIT ",
    });
    sql.push_bind(query.limit.probe()).push(") AS row_of_own");
}

/// Those of targets that are packed.
fn push_packed(sql: &mut QueryBuilder<Db>, query: &TargetQuery, bounds: &Bounds) {
    let after = query.after.unwrap_or(-1);
    let size = i64::try_from(rollout_pack::HOSTS).unwrap_or(i64::MAX);
    sql.push(
        "SELECT * FROM (SELECT * FROM (
             SELECT pack.rollout, CAST(given.value ->> 0 AS BIGINT) AS place,
                    given.value ->> 1 AS agentsn, rollout.rest AS state,
                    given.value ->> 2 AS version, CAST(NULL AS TEXT) AS job,
                    CAST(NULL AS TEXT) AS before, rollout.rest_since AS since,
                    CAST(NULL AS BIGINT) AS errcode, rollout.rest_reason AS reason,
                    CAST(0 AS BIGINT) AS attempts
             FROM rollout CROSS JOIN (SELECT rollout, place, hosts FROM rollout_pack WHERE rollout = ",
    );
    sql.push_bind(query.rollout);
    sql.push(" AND place > ")
        .push_bind(after.saturating_sub(size));
    if query.scope.is_fleet() {
        // The first may be over already, and the last one may begin within the page.
        let packs = query.limit.probe() / size + 2;
        sql.push(" ORDER BY place LIMIT ").push_bind(packs);
    }
    sql.push(concat!(
        ") AS pack CROSS JOIN ",
        given_rows!("pack.hosts"),
        " WHERE rollout.number = "
    ));
    sql.push_bind(query.rollout);
    if let Some(state) = query.state {
        sql.push(" AND rollout.rest = ").push_bind(state.word());
    }
    sql.push(") AS target WHERE target.place > ")
        .push_bind(after);
    bounds.restrict(sql, "target.agentsn");
    sql.push(" ORDER BY target.place LIMIT ");
    sql.push_bind(query.limit.probe()).push(") AS packed");
}

async fn total(store: &SqlStore, query: &TargetQuery, bounds: &Bounds) -> Result<Total> {
    let mut sql =
        QueryBuilder::new("SELECT 1 FROM rollout_target AS target WHERE target.rollout = ");
    sql.push_bind(query.rollout);
    if let Some(state) = query.state {
        sql.push(" AND target.state = ").push_bind(state.word());
    }
    bounds.restrict(&mut sql, "target.agentsn");
    sql.push(concat!(
        " UNION ALL SELECT 1 FROM (
             SELECT given.value ->> 1 AS agentsn, rollout.rest AS state
             FROM rollout CROSS JOIN rollout_pack AS pack CROSS JOIN ",
        given_rows!("pack.hosts"),
        " WHERE pack.rollout = rollout.number AND rollout.number = "
    ));
    sql.push_bind(query.rollout);
    sql.push(") AS target WHERE 1 = 1");
    if let Some(state) = query.state {
        sql.push(" AND target.state = ").push_bind(state.word());
    }
    bounds.restrict(&mut sql, "target.agentsn");
    listing::total(store, sql).await
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
