//! Which hosts a query means, as conditions on the table `host`.
//!
//! A page comes in the order of names, so the database goes through the names
//! and asks each host. That is quick when many fit. The one rule: where few do,
//! they are looked up first, by the index of what makes them few.

use sqlx::QueryBuilder;

use super::scope::restrict;
use super::{Db, SqlStore, failed, group, host_agent, search, to_json};
use crate::fleet::selector::{Part, Selector};
use crate::store::Result;
use crate::store::host::{HostQuery, SortKey};

/// Hosts that are few: of a million, a page is found among more of them after
/// some ten thousand names.
const FEW: i64 = 2000;
/// The same of hosts found by a text: looking at one host's texts takes longer
/// than at its tag.
const FEW_FOUND: i64 = 10_000;

/// A group with all that are in it: ids and selectors.
type Within = Vec<(String, Option<Selector>)>;

/// What must hold of a host, once everything is known that takes a look.
pub(super) struct Conditions<'a> {
    query: &'a HostQuery,
    within: Option<Within>,
    few: Option<Vec<String>>,
}

impl<'a> Conditions<'a> {
    /// Looks up what is in the group, and the hosts where one condition leaves few.
    pub(super) async fn prepare(store: &SqlStore, query: &'a HostQuery) -> Result<Self> {
        let within = match &query.group {
            Some(id) => Some(group::within(store, id).await?),
            None => None,
        };
        let few = few(store, query, within.as_ref()).await?;
        Ok(Self { query, within, few })
    }

    /// Adds the WHERE to a query of the table `host`.
    pub(super) fn push(&self, sql: &mut QueryBuilder<Db>) {
        let query = self.query;
        match query.state {
            Some(state) => sql.push(" WHERE host.state = ").push_bind(state.word()),
            None => sql.push(" WHERE host.state <> 'deleted'"),
        };
        restrict(sql, &query.scope, "host.agentsn");
        if let Some(few) = &self.few {
            sql.push(" AND host.agentsn IN (SELECT given.value FROM ");
            push_given(sql, to_json(few));
            sql.push(")");
        }
        for part in query.selector.parts() {
            sql.push(" AND ");
            push_part(sql, part);
        }
        if let Some(within) = &self.within {
            push_groups(sql, within);
        }
        if let Some(prefix) = &query.hostname {
            // A range and not LIKE: it uses the index and knows no wildcards.
            sql.push(" AND host.hostname >= ").push_bind(prefix.clone());
            sql.push(" AND host.hostname < ")
                .push_bind(format!("{prefix}\u{10ffff}"));
        }
        for (column, value) in reported(query) {
            if let Some(value) = value {
                sql.push(" AND ")
                    .push(column)
                    .push(" = ")
                    .push_bind(value.clone());
            }
        }
        if let Some(ip) = &query.ip {
            search::push_address(sql, ip);
        }
        if let Some(text) = &query.search {
            search::push_look(sql, text);
        }
        if !query.agent.is_empty() {
            sql.push(
                " AND EXISTS (SELECT 1 FROM host_agent WHERE host_agent.agentsn = host.agentsn",
            );
            host_agent::push(sql, &query.agent);
            sql.push(")");
        }
    }
}

/// What hosts report, and what of it is asked for.
fn reported(query: &HostQuery) -> [(&'static str, &Option<String>); 3] {
    [
        ("host.os", &query.os),
        ("host.arch", &query.arch),
        ("host.version", &query.version),
    ]
}

/// A list of texts as a table: `given_texts!` for a value that is pushed.
fn push_given(sql: &mut QueryBuilder<Db>, json: String) {
    // Parted at the place of the parameter.
    let (before, after) = given_texts!("$1").split_once("$1").unwrap_or_default();
    sql.push(before).push_bind(json).push(after);
}

fn push_part(sql: &mut QueryBuilder<Db>, part: &Part) {
    let (is_negated, key, values) = match part {
        Part::In(key, values) => (false, key, values.as_slice()),
        Part::Not(key, value) => (true, key, std::slice::from_ref(value)),
        Part::Has(key) => (false, key, &[][..]),
        Part::Lacks(key) => (true, key, &[][..]),
    };
    if is_negated {
        sql.push("NOT ");
    }
    sql.push("EXISTS (SELECT 1 FROM host_tag WHERE host_tag.agentsn = host.agentsn");
    push_tag(sql, key, values);
    sql.push(")");
}

fn push_tag(sql: &mut QueryBuilder<Db>, key: &str, values: &[String]) {
    sql.push(" AND host_tag.key = ").push_bind(key.to_owned());
    if values.is_empty() {
        return;
    }
    sql.push(" AND host_tag.value");
    push_list(sql, values);
}

fn push_list(sql: &mut QueryBuilder<Db>, values: &[String]) {
    sql.push(" IN (");
    for (index, value) in values.iter().enumerate() {
        sql.push(if index > 0 { ", " } else { "" });
        sql.push_bind(value.clone());
    }
    sql.push(")");
}

/// In the group: named by one of them, or selected by one of them.
fn push_groups(sql: &mut QueryBuilder<Db>, within: &Within) {
    let ids: Vec<String> = within.iter().map(|(id, _)| id.clone()).collect();
    if ids.is_empty() {
        sql.push(" AND FALSE");
        return;
    }
    sql.push(" AND (EXISTS (SELECT 1 FROM group_host WHERE group_host.agentsn = host.agentsn");
    sql.push(" AND group_host.id");
    push_list(sql, &ids);
    sql.push(")");
    for selector in within.iter().filter_map(|(_, selector)| selector.as_ref()) {
        sql.push(" OR (TRUE");
        for part in selector.parts() {
            sql.push(" AND ");
            push_part(sql, part);
        }
        sql.push(")");
    }
    sql.push(")");
}

/// The hosts that are left by one condition, when they are few.
async fn few(
    store: &SqlStore,
    query: &HostQuery,
    within: Option<&Within>,
) -> Result<Option<Vec<String>>> {
    if let Some(text) = &query.search
        && let Some(few) = at_most(store, search::find(text), FEW_FOUND).await?
    {
        return Ok(Some(few));
    }
    if let Some(ip) = &query.ip
        && let Some(few) = at_most(store, search::find_address(ip), FEW_FOUND).await?
    {
        return Ok(Some(few));
    }
    if !query.agent.is_empty() {
        let mut sql = QueryBuilder::new("SELECT DISTINCT agentsn FROM host_agent WHERE 1 = 1");
        host_agent::push(&mut sql, &query.agent);
        if let Some(few) = at_most(store, sql, FEW).await? {
            return Ok(Some(few));
        }
    }
    for (column, value) in reported(query) {
        let Some(value) = value else { continue };
        let mut sql = QueryBuilder::new("SELECT agentsn FROM host WHERE ");
        sql.push(column).push(" = ").push_bind(value.clone());
        if let Some(few) = at_most(store, sql, FEW).await? {
            return Ok(Some(few));
        }
    }
    for part in query.selector.parts() {
        let Part::In(key, values) = part else {
            continue;
        };
        let mut sql = QueryBuilder::new("SELECT agentsn FROM host_tag WHERE 1 = 1");
        push_tag(&mut sql, key, values);
        if let Some(few) = at_most(store, sql, FEW).await? {
            return Ok(Some(few));
        }
    }
    // There is an index by state and name; other orders look the few up.
    if let Some(state) = query.state
        && query.sort.key != SortKey::Hostname
    {
        let mut sql = QueryBuilder::new("SELECT agentsn FROM host WHERE state = ");
        sql.push_bind(state.word());
        if let Some(few) = at_most(store, sql, FEW).await? {
            return Ok(Some(few));
        }
    }
    let Some(within) = within else {
        return Ok(None);
    };
    if within.is_empty() || within.iter().any(|(_, selector)| selector.is_some()) {
        return Ok(None);
    }
    let ids: Vec<String> = within.iter().map(|(id, _)| id.clone()).collect();
    let mut sql = QueryBuilder::new("SELECT agentsn FROM group_host WHERE id");
    push_list(&mut sql, &ids);
    at_most(store, sql, FEW).await
}

async fn at_most(
    store: &SqlStore,
    mut sql: QueryBuilder<Db>,
    few: i64,
) -> Result<Option<Vec<String>>> {
    sql.push(" LIMIT ").push_bind(few + 1);
    let found: Vec<String> = sql
        .build_query_scalar()
        .fetch_all(&store.readers)
        .await
        .map_err(failed("looking up hosts by what few have"))?;
    let is_few = i64::try_from(found.len()).is_ok_and(|found| found <= few);
    Ok(is_few.then_some(found))
}
