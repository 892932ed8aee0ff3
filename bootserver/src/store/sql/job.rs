//! Jobs: ordered and listed, and their results.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::{QueryBuilder, Row};

use bootagent_protocol::ErrorCode;

use super::audit::{Deed, note};
use super::scope::{self, Bounds, outside};
use super::{Db, DbRow, SqlStore, failed, from_json, listing, orders_come, to_json};
use crate::access::scope::Scope;
use crate::store::Result;
use crate::store::audit::By;
use crate::store::change::Topic;
use crate::store::job::{
    JobPhase, JobQuery, JobRow, JobsInserted, NewJobs, ResultQuery, ResultRow,
};
use crate::store::page::{Count, DISORDER_MILLIS, Page};

/// Jobs and hosts of one order that the audit names.
const NOTED: usize = 20;

const SELECT: &str = "SELECT job.*, job_result.message, job_result.body AS result,
        host.since AS offline_since
    FROM job LEFT JOIN job_result ON job_result.job = job.id
    LEFT JOIN host ON host.agentsn = job.agentsn AND host.state = 'offline'
        AND job.sent IS NOT NULL AND job.finished IS NULL
    WHERE 1 = 1";

pub(super) async fn insert(
    store: &SqlStore,
    new: &NewJobs,
    scope: &Scope,
    by: &By,
) -> Result<JobsInserted> {
    let step = "storing jobs";
    let mut tx = store.write(step).await?;
    orders_come(&mut tx).await?;
    let agentsns: Vec<&String> = new
        .groups
        .iter()
        .flat_map(|group| group.hosts.iter().map(|(_, agentsn)| agentsn))
        .collect();
    let mut unknown: Vec<String> = sqlx::query_scalar(concat!(
        "SELECT given.value FROM ",
        given_texts!("$1"),
        " WHERE NOT EXISTS (
             SELECT 1 FROM host WHERE host.agentsn = given.value
                 AND host.state NOT IN ('revoked', 'deleted'))"
    ))
    .bind(to_json(&agentsns))
    .fetch_all(&mut *tx)
    .await
    .map_err(failed(step))?;
    // Those that are unknown have no tags and would be named twice.
    if unknown.is_empty() {
        unknown = outside(&mut tx, scope, &agentsns).await?;
    }
    if !unknown.is_empty() {
        return Ok(JobsInserted::UnknownHosts(unknown));
    }
    for group in &new.groups {
        if let Some(package) = &group.package {
            let there = sqlx::query(concat!("SELECT 1 FROM package WHERE id = $1", for_share!()))
                .bind(package)
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed(step))?;
            if there.is_none() {
                return Ok(JobsInserted::PackageGone);
            }
        }
        sqlx::query(concat!(
            "INSERT INTO job (id, agentsn, action, name, version, package, body, created, expires)
             SELECT given.value ->> 0, given.value ->> 1, $2, $3, $4, $5, $6, $7, $8 FROM ",
            given_rows!("$1")
        ))
        .bind(to_json(&group.hosts))
        .bind(new.action.as_str())
        .bind(&new.name)
        .bind(&group.version)
        .bind(&group.package)
        .bind(to_json(&group.body))
        .bind(new.created)
        .bind(new.expires)
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    }
    let ids: Vec<&String> = new
        .groups
        .iter()
        .flat_map(|group| group.hosts.iter().map(|(id, _)| id))
        .collect();
    let deed = Deed {
        action: "job.create",
        target: ids.first().copied().map_or("", String::as_str),
        detail: json!({
            "action": new.action.as_str(),
            "name": new.name,
            "versions": new.groups.iter().filter_map(|group| group.version.as_deref()).collect::<BTreeSet<_>>(),
            "jobs": ids.len(),
            "ids": &ids[..ids.len().min(NOTED)],
            "hosts": &agentsns[..agentsns.len().min(NOTED)],
        }),
    };
    note(&mut tx, by, deed).await?;
    tx.tell(Topic::Job, "ordered", ids);
    tx.commit().await.map_err(failed(step))?;
    Ok(JobsInserted::Done)
}

pub(super) async fn by_id(store: &SqlStore, id: &str, scope: &Scope) -> Result<Option<JobRow>> {
    let bounds = scope::bounds_of(store, scope).await?;
    let mut sql: QueryBuilder<Db> = QueryBuilder::new(SELECT);
    sql.push(" AND job.id = ").push_bind(id);
    bounds.restrict(&mut sql, "job.agentsn");
    let row = sql
        .build()
        .fetch_optional(&store.readers)
        .await
        .map_err(failed("looking up a job"))?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn list(store: &SqlStore, query: &JobQuery) -> Result<Page<JobRow>> {
    let bounds = scope::bounds_of(store, &query.scope).await?;
    let mut sql = QueryBuilder::new(SELECT);
    filter(&mut sql, query, &bounds);
    if let Some(after) = &query.after {
        sql.push(" AND job.id < ").push_bind(after);
    }
    sql.push(" ORDER BY job.id DESC");
    let key = |job: &JobRow| job.id.clone();
    let mut page = listing::page(store, "listing jobs", sql, query.limit, read, key).await?;
    if query.count == Count::All {
        let mut sql = QueryBuilder::new("SELECT 1 FROM job WHERE 1 = 1");
        filter(&mut sql, query, &bounds);
        page.total = Some(listing::total(store, sql).await?);
    }
    Ok(page)
}

fn filter(sql: &mut QueryBuilder<Db>, query: &JobQuery, bounds: &Bounds) {
    if let Some(agentsn) = &query.agentsn {
        sql.push(" AND job.agentsn = ").push_bind(agentsn.clone());
    }
    bounds.restrict(sql, "job.agentsn");
    match query.phase {
        Some(JobPhase::Open) => sql.push(" AND job.finished IS NULL AND job.id > ''"),
        Some(JobPhase::Finished) => sql.push(" AND job.finished IS NOT NULL"),
        None => sql,
    };
}

pub(super) async fn results(store: &SqlStore, query: &ResultQuery) -> Result<Page<ResultRow>> {
    let bounds = scope::bounds_of(store, &query.scope).await?;
    let mut sql: QueryBuilder<Db> = QueryBuilder::new(
        "SELECT job_result.*, job.action, job.name, job.late
         FROM job_result JOIN job ON job.id = job_result.job WHERE 1 = 1",
    );
    if let Some(agentsn) = &query.agentsn {
        sql.push(" AND job_result.agentsn = ").push_bind(agentsn);
    }
    bounds.restrict(&mut sql, "job_result.agentsn");
    if let Some(since) = query.since {
        // As with events: found by number, from well before.
        sql.push(" AND job_result.finished >= ").push_bind(since);
        sql.push(" AND job_result.seq > coalesce((SELECT seq FROM job_result WHERE finished < ")
            .push_bind(since.saturating_sub(DISORDER_MILLIS));
        sql.push(" ORDER BY finished DESC, seq DESC LIMIT 1), 0)");
    }
    if let Some(after) = query.after {
        sql.push(" AND job_result.seq > ").push_bind(after);
    }
    sql.push(" ORDER BY job_result.seq");
    let key = |result: &ResultRow| result.seq.to_string();
    listing::page(store, "listing job results", sql, query.limit, result, key).await
}

fn read(row: &DbRow) -> Result<JobRow> {
    let step = "reading a job";
    let text = |column| {
        row.try_get::<Option<String>, _>(column)
            .map_err(failed(step))
    };
    let required = |column| row.try_get::<String, _>(column).map_err(failed(step));
    let time = |column| row.try_get::<Option<i64>, _>(column).map_err(failed(step));
    Ok(JobRow {
        id: required("id")?,
        agentsn: required("agentsn")?,
        action: required("action")?,
        name: text("name")?,
        version: text("version")?,
        package: text("package")?,
        body: from_json(step, &required("body")?)?,
        created: row.try_get("created").map_err(failed(step))?,
        expires: time("expires")?,
        sent: time("sent")?,
        accepted: time("accepted")?,
        finished: time("finished")?,
        late: is_late(row)?,
        offline_since: time("offline_since")?,
        errcode: time("errcode")?.map(error_code),
        message: text("message")?,
        result: text("result")?
            .map(|body| from_json(step, &body))
            .transpose()?,
    })
}

fn result(row: &DbRow) -> Result<ResultRow> {
    let step = "reading a job result";
    let required = |column| row.try_get::<String, _>(column).map_err(failed(step));
    let number = |column| row.try_get::<i64, _>(column).map_err(failed(step));
    Ok(ResultRow {
        seq: number("seq")?,
        id: required("job")?,
        agentsn: required("agentsn")?,
        action: required("action")?,
        name: row.try_get("name").map_err(failed(step))?,
        origin: required("origin")?,
        finished: number("finished")?,
        late: is_late(row)?,
        errcode: error_code(number("errcode")?),
        message: required("message")?,
        result: from_json(step, &required("body")?)?,
    })
}

fn is_late(row: &DbRow) -> Result<bool> {
    let late: i64 = row.try_get("late").map_err(failed("reading a job"))?;
    Ok(late != 0)
}

/// Codes are written from 16 bits, so they come back as 16 bits.
fn error_code(number: i64) -> ErrorCode {
    ErrorCode(u16::try_from(number).unwrap_or(u16::MAX))
}
