//! Hosts and their tags.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Row};

use super::member::push_given;
use super::{DbRow, SqlStore, Write, failed, from_json, group, scope, to_json};
use crate::access::scope::Scope;
use crate::fleet::presence::Presence;
use crate::fleet::tags::Tags;
use crate::store::Result;
use crate::store::host::{HostDetail, HostState, HostSummary, Reported};
use crate::store::status::{Readings, StateBody};
use crate::wire;

/// What [`summary`] reads.
macro_rules! columns {
    () => {
        "host.agentsn, host.created, host.registered, host.hostname, host.version, host.os,
         host.arch, host.ip, host.machine_id, host.boot_id, host.display_name,
         host.revision, host.state, host.since, host_seen.seen"
    };
}
pub(super) use columns;

pub(super) async fn by_agentsn(
    store: &SqlStore,
    agentsns: &[String],
    scope: &Scope,
) -> Result<Vec<HostSummary>> {
    let bounds = scope::bounds_of(store, scope).await?;
    let mut sql = QueryBuilder::new(concat!(
        "SELECT ",
        columns!(),
        " FROM host LEFT JOIN host_seen ON host_seen.agentsn = host.agentsn"
    ));
    sql.push(" WHERE host.agentsn IN (SELECT given.value FROM ");
    push_given(&mut sql, to_json(agentsns));
    sql.push(")");
    bounds.restrict(&mut sql, "host.agentsn");
    let rows = sql
        .build()
        .fetch_all(&store.readers)
        .await
        .map_err(failed("looking up hosts"))?;
    summaries(store, &rows).await
}

pub(super) async fn detail(
    store: &SqlStore,
    agentsn: &str,
    scope: &Scope,
) -> Result<Option<HostDetail>> {
    let step = "looking up a host";
    let Some(summary) = by_agentsn(store, &[agentsn.to_owned()], scope).await?.pop() else {
        return Ok(None);
    };
    let row = sqlx::query(
        "SELECT reported, uptime, readings, changed, body
         FROM host_seen JOIN host_state USING (agentsn) WHERE agentsn = $1",
    )
    .bind(agentsn)
    .fetch_optional(&store.readers)
    .await
    .map_err(failed(step))?;
    let state = row.as_ref().map(state).transpose()?;
    let open_jobs = sqlx::query_scalar(
        "SELECT count(*) FROM job WHERE agentsn = $1 AND agentsn > '' AND finished IS NULL",
    )
    .bind(agentsn)
    .fetch_one(&store.readers)
    .await
    .map_err(failed(step))?;
    let notes = sqlx::query_scalar("SELECT notes FROM host WHERE agentsn = $1")
        .bind(agentsn)
        .fetch_one(&store.readers)
        .await
        .map_err(failed(step))?;
    let origins: Vec<(String, String)> =
        sqlx::query_as("SELECT key, origin FROM host_tag WHERE agentsn = $1")
            .bind(agentsn)
            .fetch_all(&store.readers)
            .await
            .map_err(failed(step))?;
    let mut groups = group::of_host(store, agentsn, &summary.tags).await?;
    // Who is restricted to some hosts knows of groups those that restrict them.
    groups.retain(|group| scope.is_fleet() || scope.groups().any(|id| id == group.id));
    Ok(Some(HostDetail {
        summary,
        state,
        open_jobs,
        notes,
        tag_origins: origins.into_iter().collect(),
        groups,
    }))
}

pub(super) async fn tags_of(tx: &mut Write, agentsn: &str) -> Result<Tags> {
    let pairs: Vec<(String, String)> =
        sqlx::query_as("SELECT key, value FROM host_tag WHERE agentsn = $1")
            .bind(agentsn)
            .fetch_all(&mut **tx)
            .await
            .map_err(failed("reading a host's tags"))?;
    Ok(pairs.into_iter().collect())
}

pub(super) async fn summaries(store: &SqlStore, rows: &[DbRow]) -> Result<Vec<HostSummary>> {
    let step = "reading a host";
    let agentsns: Vec<String> = rows
        .iter()
        .map(|row| row.try_get("agentsn"))
        .collect::<std::result::Result<_, _>>()
        .map_err(failed(step))?;
    let triples: Vec<(String, String, String)> = sqlx::query_as(concat!(
        "SELECT agentsn, key, value FROM host_tag WHERE agentsn IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ")"
    ))
    .bind(to_json(&agentsns))
    .fetch_all(&store.readers)
    .await
    .map_err(failed("reading the tags of hosts"))?;
    let mut tags: HashMap<String, Vec<(String, String)>> = HashMap::new();
    for (agentsn, key, value) in triples {
        tags.entry(agentsn).or_default().push((key, value));
    }
    rows.iter()
        .map(|row| {
            let mut host = summary(row)?;
            host.tags = tags
                .remove(&host.agentsn)
                .unwrap_or_default()
                .into_iter()
                .collect();
            Ok(host)
        })
        .collect()
}

fn summary(row: &DbRow) -> Result<HostSummary> {
    let read = || -> std::result::Result<(HostSummary, String), sqlx::Error> {
        let reported = Reported {
            hostname: row.try_get("hostname")?,
            version: row.try_get("version")?,
            os: row.try_get("os")?,
            arch: row.try_get("arch")?,
            ip: Vec::new(),
            machine_id: row.try_get("machine_id")?,
            boot_id: row.try_get("boot_id")?,
        };
        let host = HostSummary {
            agentsn: row.try_get("agentsn")?,
            reported,
            display_name: row.try_get("display_name")?,
            tags: Tags::default(),
            revision: row.try_get("revision")?,
            created: row.try_get("created")?,
            registered: row.try_get("registered")?,
            seen: row.try_get("seen")?,
            state: Presence::parse(row.try_get("state")?).unwrap_or(Presence::New),
            since: row.try_get("since")?,
        };
        Ok((host, row.try_get("ip")?))
    };
    let (mut host, ip) = read().map_err(failed("reading a host"))?;
    host.reported.ip = from_json("reading a host's addresses", &ip)?;
    Ok(host)
}

fn state(row: &DbRow) -> Result<HostState> {
    let step = "reading a host's state";
    let text = |column| row.try_get::<String, _>(column).map_err(failed(step));
    let number = |column| row.try_get::<i64, _>(column).map_err(failed(step));
    let body: StateBody = from_json(step, &text("body")?)?;
    let readings: Vec<Readings> = from_json(step, &text("readings")?)?;
    Ok(HostState {
        timestamp: number("reported")?,
        uptime: number("uptime")?,
        changed: number("changed")?,
        step: body.step,
        agents: wire::merge_readings(body.agents, readings),
        notices: body.notices,
    })
}
