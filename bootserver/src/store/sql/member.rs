//! Which hosts a selector or a group means, as conditions on a column that holds
//! their agentsn.

use sqlx::{Database, QueryBuilder};

use super::group::selector;
use super::{Db, SqlStore, failed};
use crate::fleet::selector::{Part, Selector};
use crate::store::Result;

/// A group with all that are in it: ids and selectors. Empty when there is no
/// such group.
pub(super) type Within = Vec<(String, Option<Selector>)>;

/// What a group is made of.
pub(super) async fn within_of(store: &SqlStore, id: &str) -> Result<Within> {
    let mut reader = store
        .readers
        .acquire()
        .await
        .map_err(failed("looking which groups are in one"))?;
    within(&mut reader, id).await
}

/// The same, as things are in this transaction.
pub(super) async fn within(
    connection: &mut <Db as Database>::Connection,
    id: &str,
) -> Result<Within> {
    let rows: Vec<(String, Option<String>)> = sqlx::query_as(
        "WITH RECURSIVE within (id) AS (
             SELECT id FROM host_group WHERE id = $1
             UNION SELECT child FROM group_child JOIN within ON group_child.id = within.id)
         SELECT id, selector FROM host_group JOIN within USING (id) ORDER BY id",
    )
    .bind(id)
    .fetch_all(connection)
    .await
    .map_err(failed("looking which groups are in one"))?;
    let read = |(id, text): (String, Option<String>)| Ok((id, selector(text.as_deref())?));
    rows.into_iter().map(read).collect()
}

/// In the group: named by one of them, or selected by one of them.
pub(super) fn push_groups(sql: &mut QueryBuilder<Db>, within: &Within, agentsn: &'static str) {
    let ids: Vec<String> = within.iter().map(|(id, _)| id.clone()).collect();
    if ids.is_empty() {
        sql.push(" AND FALSE");
        return;
    }
    sql.push(" AND (EXISTS (SELECT 1 FROM group_host WHERE group_host.agentsn = ");
    sql.push(agentsn).push(" AND group_host.id");
    push_list(sql, &ids);
    sql.push(")");
    for selector in within.iter().filter_map(|(_, selector)| selector.as_ref()) {
        sql.push(" OR (TRUE");
        for part in selector.parts() {
            sql.push(" AND ");
            push_part(sql, part, agentsn);
        }
        sql.push(")");
    }
    sql.push(")");
}

/// The host's tags fit this part of a selector.
pub(super) fn push_part(sql: &mut QueryBuilder<Db>, part: &Part, agentsn: &'static str) {
    let (is_negated, key, values) = match part {
        Part::In(key, values) => (false, key, values.as_slice()),
        Part::Not(key, value) => (true, key, std::slice::from_ref(value)),
        Part::Has(key) => (false, key, &[][..]),
        Part::Lacks(key) => (true, key, &[][..]),
    };
    if is_negated {
        sql.push("NOT ");
    }
    sql.push("EXISTS (SELECT 1 FROM host_tag WHERE host_tag.agentsn = ");
    sql.push(agentsn);
    push_tag(sql, key, values);
    sql.push(")");
}

/// A row of `host_tag` has this key and one of these values, or any.
pub(super) fn push_tag(sql: &mut QueryBuilder<Db>, key: &str, values: &[String]) {
    sql.push(" AND host_tag.key = ").push_bind(key.to_owned());
    if values.is_empty() {
        return;
    }
    sql.push(" AND host_tag.value");
    push_list(sql, values);
}

/// What stands before is one of these.
pub(super) fn push_list(sql: &mut QueryBuilder<Db>, values: &[String]) {
    sql.push(" IN (");
    for (index, value) in values.iter().enumerate() {
        sql.push(if index > 0 { ", " } else { "" });
        sql.push_bind(value.clone());
    }
    sql.push(")");
}

/// A list of texts as a table: `given_texts!` for a value that is pushed.
pub(super) fn push_given(sql: &mut QueryBuilder<Db>, json: String) {
    // Parted at the place of the parameter.
    let (before, after) = given_texts!("$1").split_once("$1").unwrap_or_default();
    sql.push(before).push_bind(json).push(after);
}

/// Likewise `given_rows!`.
pub(super) fn push_given_rows(sql: &mut QueryBuilder<Db>, json: String) {
    let (before, after) = given_rows!("$1").split_once("$1").unwrap_or_default();
    sql.push(before).push_bind(json).push(after);
}
