//! Keeping to a scope: what is outside is not there.

use std::collections::HashMap;

use sqlx::QueryBuilder;

use super::{Db, Write, failed, host, to_json};
use crate::access::scope::Scope;
use crate::fleet::tags::Tags;
use crate::store::Result;

/// Adds the condition that the host in this column is in the scope.
pub(super) fn restrict(sql: &mut QueryBuilder<Db>, scope: &Scope, agentsn: &'static str) {
    for (key, value) in scope.required_tags() {
        sql.push(" AND EXISTS (SELECT 1 FROM host_tag WHERE host_tag.agentsn = ")
            .push(agentsn)
            .push(" AND host_tag.key = ")
            .push_bind(key.to_owned())
            .push(" AND host_tag.value = ")
            .push_bind(value.to_owned())
            .push(")");
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
    let rows: Vec<(String, String, String)> = sqlx::query_as(concat!(
        "SELECT agentsn, key, value FROM host_tag WHERE agentsn IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ")"
    ))
    .bind(to_json(agentsns))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("reading the tags of hosts"))?;
    let mut tags: HashMap<String, Vec<(String, String)>> = HashMap::new();
    for (agentsn, key, value) in rows {
        tags.entry(agentsn).or_default().push((key, value));
    }
    let is_outside = |agentsn: &&&String| {
        let tags: Tags = tags
            .get(**agentsn)
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .collect();
        !scope.holds(&tags)
    };
    Ok(agentsns
        .iter()
        .filter(is_outside)
        .map(|agentsn| (*agentsn).clone())
        .collect())
}

/// Whether a host is in the scope, as things are in this transaction.
pub(super) async fn in_scope(tx: &mut Write, scope: &Scope, agentsn: &str) -> Result<bool> {
    Ok(scope.is_fleet() || scope.holds(&host::tags_of(tx, agentsn).await?))
}
