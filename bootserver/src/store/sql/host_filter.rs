//! Which hosts a query means, as conditions on the table `host`.
//!
//! A page comes in the order of names, so the database goes through the names
//! and asks each host. That is quick when many fit. The one rule: where few do,
//! they are looked up first, by the index of what makes them few.

use sqlx::QueryBuilder;

use super::member::{self, Within, push_given, push_groups, push_list, push_part, push_tag};
use super::scope::{self, Bounds};
use super::{Db, SqlStore, failed, host_agent, search, to_json};
use crate::fleet::selector::{Part, Selector};
use crate::store::Result;
use crate::store::host::{HostQuery, SortKey};

/// Hosts that are few: of a million, a page is found among more of them after
/// some ten thousand names.
const FEW: i64 = 2000;
/// The same of hosts found by a text: looking at one host's texts takes longer
/// than at its tag.
const FEW_FOUND: i64 = 10_000;
/// Selectors of one group that are looked up; each takes a millisecond or two.
const MOST_LOOKED_UP: usize = 8;

/// What must hold of a host, once everything is known that takes a look.
pub(super) struct Conditions<'a> {
    query: &'a HostQuery,
    bounds: Bounds,
    within: Option<Within>,
    few: Option<Vec<String>>,
}

impl<'a> Conditions<'a> {
    /// Looks up what is in the group, and the hosts where one condition leaves few.
    pub(super) async fn prepare(store: &SqlStore, query: &'a HostQuery) -> Result<Self> {
        let bounds = scope::bounds_of(store, &query.scope).await?;
        let within = match &query.group {
            Some(id) => Some(member::within_of(store, id).await?),
            None => None,
        };
        let few = few(store, query, within.as_ref(), &bounds).await?;
        Ok(Self {
            query,
            bounds,
            within,
            few,
        })
    }

    /// Adds the WHERE to a query of the table `host`.
    pub(super) fn push(&self, sql: &mut QueryBuilder<Db>) {
        let query = self.query;
        match query.state {
            Some(state) => sql.push(" WHERE host.state = ").push_bind(state.word()),
            None => sql.push(" WHERE host.state <> 'deleted'"),
        };
        self.bounds.restrict(sql, "host.agentsn");
        if let Some(few) = &self.few {
            sql.push(" AND host.agentsn IN (SELECT given.value FROM ");
            push_given(sql, to_json(few));
            sql.push(")");
        }
        for part in query.selector.parts() {
            sql.push(" AND ");
            push_part(sql, part, "host.agentsn");
        }
        if let Some(within) = &self.within {
            push_groups(sql, within, "host.agentsn");
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

/// The hosts that are left by one condition, when they are few.
async fn few(
    store: &SqlStore,
    query: &HostQuery,
    within: Option<&Within>,
    bounds: &Bounds,
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
    if let Some(few) = few_selected(store, &query.selector).await? {
        return Ok(Some(few));
    }
    for (key, value) in bounds.tags() {
        let value = std::slice::from_ref(value);
        if let Some(few) = few_tagged(store, key, value).await? {
            return Ok(Some(few));
        }
    }
    for within in bounds.groups().iter().chain(within) {
        if let Some(few) = few_within(store, within).await? {
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
    Ok(None)
}

/// The hosts a group has, when they are few: named, and by each of its selectors.
async fn few_within(store: &SqlStore, within: &Within) -> Result<Option<Vec<String>>> {
    let selectors: Vec<_> = within
        .iter()
        .filter_map(|(_, text)| text.as_ref())
        .collect();
    if within.is_empty() || selectors.len() > MOST_LOOKED_UP {
        return Ok(None);
    }
    let ids: Vec<String> = within.iter().map(|(id, _)| id.clone()).collect();
    let mut sql = QueryBuilder::new("SELECT agentsn FROM group_host WHERE id");
    push_list(&mut sql, &ids);
    let Some(mut found) = at_most(store, sql, FEW).await? else {
        return Ok(None);
    };
    for selector in selectors {
        let Some(few) = few_selected(store, selector).await? else {
            return Ok(None);
        };
        found.extend(few);
    }
    Ok(Some(found))
}

/// The hosts with one of a selector's tags, when they are few.
async fn few_selected(store: &SqlStore, selector: &Selector) -> Result<Option<Vec<String>>> {
    for part in selector.parts() {
        let Part::In(key, values) = part else {
            continue;
        };
        if let Some(few) = few_tagged(store, key, values).await? {
            return Ok(Some(few));
        }
    }
    Ok(None)
}

async fn few_tagged(store: &SqlStore, key: &str, values: &[String]) -> Result<Option<Vec<String>>> {
    let mut sql = QueryBuilder::new("SELECT agentsn FROM host_tag WHERE 1 = 1");
    push_tag(&mut sql, key, values);
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
