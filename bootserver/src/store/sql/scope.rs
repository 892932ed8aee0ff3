//! Keeping to a scope: what is outside is not there.
//!
//! Who is in a group is asked each time, so a scope is as its groups are now. The
//! one rule: a deleted host has lost its tags, and is in no scope for what it
//! lacks.

use sqlx::{Database, QueryBuilder};

use super::member::{self, Within, push_given, push_groups};
use super::{Db, SqlStore, Write, failed, group, to_json};
use crate::access::scope::{HostSet, Scope};
use crate::fleet::selector::{Part, Selector};
use crate::store::Result;

/// A scope, with what its groups are made of. All of it must hold.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    tags: Vec<(String, String)>,
    groups: Vec<Within>,
}

impl Bounds {
    /// Tags every host of the scope has.
    pub(super) fn tags(&self) -> &[(String, String)] {
        &self.tags
    }

    /// Groups every host of the scope is in.
    pub(super) fn groups(&self) -> &[Within] {
        &self.groups
    }

    /// Adds the condition that the host in this column is in the scope.
    pub(super) fn restrict(&self, sql: &mut QueryBuilder<Db>, agentsn: &'static str) {
        for (key, value) in &self.tags {
            let part = Part::In(key.clone(), vec![value.clone()]);
            sql.push(" AND ");
            member::push_part(sql, &part, agentsn);
        }
        for within in &self.groups {
            push_groups(sql, within, agentsn);
        }
        let selectors = self.groups.iter().flatten();
        let mut selectors = selectors.filter_map(|(_, selector)| selector.as_ref());
        if selectors.any(fits_without_tags) {
            sql.push(" AND EXISTS (SELECT 1 FROM host AS living WHERE living.agentsn = ")
                .push(agentsn)
                .push(" AND living.state <> 'deleted')");
        }
    }
}

fn fits_without_tags(selector: &Selector) -> bool {
    let is_negative = |part: &Part| matches!(part, Part::Not(..) | Part::Lacks(_));
    selector.parts().iter().all(is_negative)
}

/// What a scope means now.
pub(super) async fn bounds_of(store: &SqlStore, scope: &Scope) -> Result<Bounds> {
    if scope.groups().next().is_none() {
        return Ok(of_tags(scope));
    }
    let mut reader = store
        .readers
        .acquire()
        .await
        .map_err(failed("looking which groups are in a scope"))?;
    bounds(&mut reader, scope).await
}

async fn bounds(connection: &mut <Db as Database>::Connection, scope: &Scope) -> Result<Bounds> {
    let mut bounds = of_tags(scope);
    for id in scope.groups() {
        bounds.groups.push(member::within(connection, id).await?);
    }
    Ok(bounds)
}

fn of_tags(scope: &Scope) -> Bounds {
    let tags = scope.required_tags();
    Bounds {
        tags: tags
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        groups: Vec::new(),
    }
}

/// Of these hosts, those that are not in the scope.
pub(super) async fn outside(
    tx: &mut Write,
    scope: &Scope,
    agentsns: &[&String],
) -> Result<Vec<String>> {
    if scope.is_fleet() {
        return Ok(Vec::new());
    }
    let bounds = bounds(tx, scope).await?;
    let mut sql = QueryBuilder::new("SELECT given.value FROM ");
    push_given(&mut sql, to_json(agentsns));
    sql.push(" WHERE NOT (TRUE");
    bounds.restrict(&mut sql, "given.value");
    sql.push(")");
    sql.build_query_scalar()
        .fetch_all(&mut **tx)
        .await
        .map_err(failed("looking which hosts are in a scope"))
}

/// Whether a host is in the scope, as things are in this transaction.
pub(super) async fn in_scope(tx: &mut Write, scope: &Scope, agentsn: &str) -> Result<bool> {
    let outside = outside(tx, scope, &[&agentsn.to_owned()]).await?;
    Ok(outside.is_empty())
}

/// Makes sure that the groups of a scope stay until the commit, in which somebody
/// is restricted to it. Returns those that do not exist.
pub(super) async fn hold_groups(tx: &mut Write, scope: &Scope) -> Result<Vec<String>> {
    let ids: Vec<&str> = scope.groups().collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    group::lock_nesting(tx).await?;
    group::unknown(tx, &ids).await
}

/// Users and API tokens in force that are restricted to a group.
pub(super) async fn restricted_to(
    tx: &mut Write,
    group: &str,
    now: i64,
) -> Result<(Vec<String>, Vec<String>)> {
    let step = "looking whom a group restricts";
    let set = to_json(&HostSet::Group(group.to_owned()).to_string());
    let pattern = format!("%{set}%");
    let users = sqlx::query_scalar(
        "SELECT name FROM user_account WHERE scope LIKE $1 ORDER BY name LIMIT 20",
    )
    .bind(&pattern)
    .fetch_all(&mut **tx)
    .await
    .map_err(failed(step))?;
    let tokens = sqlx::query_scalar(
        "SELECT name FROM api_token WHERE scope LIKE $1 AND revoked IS NULL
             AND (expires IS NULL OR expires > $2) ORDER BY name, id LIMIT 20",
    )
    .bind(&pattern)
    .bind(now)
    .fetch_all(&mut **tx)
    .await
    .map_err(failed(step))?;
    Ok((users, tokens))
}
