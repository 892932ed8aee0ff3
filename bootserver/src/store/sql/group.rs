//! Groups: stored, nested, and the hosts they name.
//!
//! Who changes how groups are nested holds the row of the setting
//! `group_nesting`, so that two changes never make a circle together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sqlx::{QueryBuilder, Row};

use super::audit::{Deed, note};
use super::{DbRow, SqlStore, Write, failed, listing, scope, to_json};
use crate::fleet::group::{self, Edges};
use crate::fleet::selector::Selector;
use crate::fleet::tags::Tags;
use crate::store::audit::By;
use crate::store::change::Topic;
use crate::store::group::{
    Group, GroupDeleted, GroupQuery, GroupStored, GroupTerms, Named, Naming,
};
use crate::store::host::GroupOfHost;
use crate::store::page::Page;
use crate::store::{Failure, Result, StoreError};

/// Hosts of one change that the audit names.
const NOTED: usize = 20;

macro_rules! select {
    () => {
        "SELECT host_group.*, (SELECT count(*) FROM group_host WHERE group_host.id = host_group.id)
             AS named
         FROM host_group"
    };
}

pub(super) async fn list(store: &SqlStore, query: &GroupQuery) -> Result<Page<Group>> {
    let step = "listing groups";
    let mut sql = QueryBuilder::new(concat!(select!(), " WHERE name > "));
    sql.push_bind(query.after.as_deref().unwrap_or_default());
    sql.push(" ORDER BY name");
    let edges: Vec<(String, String)> = sqlx::query_as("SELECT id, child FROM group_child")
        .fetch_all(&store.readers)
        .await
        .map_err(failed(step))?;
    let edges = edges_of(edges);
    let key = |group: &Group| to_json(&group.name);
    listing::page(store, step, sql, query.limit, |row| read(row, &edges), key).await
}

pub(super) async fn by_id(store: &SqlStore, id: &str) -> Result<Option<Group>> {
    let step = "looking up a group";
    let mut reader = store.readers.acquire().await.map_err(failed(step))?;
    find(&mut reader, id).await
}

pub(super) async fn insert(store: &SqlStore, terms: &GroupTerms, by: &By) -> Result<GroupStored> {
    let step = "storing a group";
    let mut tx = store.write(step).await?;
    let edges = lock_nesting(&mut tx).await?;
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM host_group")
        .fetch_one(&mut *tx)
        .await
        .map_err(failed(step))?;
    if usize::try_from(count).is_ok_and(|count| count >= group::MAX_GROUPS) {
        return Ok(GroupStored::TooMany);
    }
    if let Some(refused) = refusal(&mut tx, &edges, terms).await? {
        return Ok(refused);
    }
    let inserted = sqlx::query(
        "INSERT INTO host_group (id, name, description, selector, created, version)
         VALUES ($1, $2, $3, $4, $5, 1) ON CONFLICT (name) DO NOTHING",
    )
    .bind(&terms.id)
    .bind(&terms.name)
    .bind(&terms.description)
    .bind(terms.selector.as_ref().map(ToString::to_string))
    .bind(terms.now)
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    if inserted.rows_affected() == 0 {
        return Ok(GroupStored::NameTaken);
    }
    store_children(&mut tx, terms).await?;
    note(&mut tx, by, deed("group.create", terms)).await?;
    tx.tell(Topic::Group, "new", [&terms.id]);
    stored(tx, &terms.id).await
}

pub(super) async fn update(
    store: &SqlStore,
    terms: &GroupTerms,
    version: Option<i64>,
    by: &By,
) -> Result<GroupStored> {
    let step = "storing a group";
    let mut tx = store.write(step).await?;
    let edges = lock_nesting(&mut tx).await?;
    let Some(known) = find(&mut tx, &terms.id).await? else {
        return Ok(GroupStored::Unknown);
    };
    if version.is_some_and(|version| version != known.version) {
        return Ok(GroupStored::Changed);
    }
    if let Some(refused) = refusal(&mut tx, &edges, terms).await? {
        return Ok(refused);
    }
    let is_taken: Option<i64> =
        sqlx::query_scalar("SELECT version FROM host_group WHERE name = $1 AND id <> $2")
            .bind(&terms.name)
            .bind(&terms.id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed(step))?;
    if is_taken.is_some() {
        return Ok(GroupStored::NameTaken);
    }
    sqlx::query(
        "UPDATE host_group SET name = $2, description = $3, selector = $4, version = version + 1
         WHERE id = $1",
    )
    .bind(&terms.id)
    .bind(&terms.name)
    .bind(&terms.description)
    .bind(terms.selector.as_ref().map(ToString::to_string))
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    store_children(&mut tx, terms).await?;
    note(&mut tx, by, deed("group.change", terms)).await?;
    tx.tell(Topic::Group, "edited", [&terms.id]);
    stored(tx, &terms.id).await
}

pub(super) async fn delete(
    store: &SqlStore,
    id: &str,
    version: Option<i64>,
    by: &By,
) -> Result<GroupDeleted> {
    let step = "deleting a group";
    let mut tx = store.write(step).await?;
    lock_nesting(&mut tx).await?;
    let Some(known) = find(&mut tx, id).await? else {
        return Ok(GroupDeleted::Unknown);
    };
    if version.is_some_and(|version| version != known.version) {
        return Ok(GroupDeleted::Changed);
    }
    let holders: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM host_group JOIN group_child USING (id) WHERE child = $1 ORDER BY name",
    )
    .bind(id)
    .fetch_all(&mut *tx)
    .await
    .map_err(failed(step))?;
    if !holders.is_empty() {
        return Ok(GroupDeleted::InUse(holders));
    }
    let assignments: Vec<String> =
        sqlx::query_scalar("SELECT name FROM assignment WHERE host_group = $1 ORDER BY name")
            .bind(id)
            .fetch_all(&mut *tx)
            .await
            .map_err(failed(step))?;
    if !assignments.is_empty() {
        return Ok(GroupDeleted::Assigned(assignments));
    }
    let (users, api_tokens) = scope::restricted_to(&mut tx, id, by.at).await?;
    if !users.is_empty() || !api_tokens.is_empty() {
        return Ok(GroupDeleted::IsScope { users, api_tokens });
    }
    let deleted: Option<(String, Option<String>)> =
        sqlx::query_as("DELETE FROM host_group WHERE id = $1 RETURNING name, selector")
            .bind(id)
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed(step))?;
    let Some((name, selector)) = deleted else {
        return Ok(GroupDeleted::Unknown);
    };
    let deed = Deed {
        action: "group.delete",
        target: id,
        detail: json!({ "name": name, "selector": selector }),
    };
    note(&mut tx, by, deed).await?;
    tx.tell(Topic::Group, "deleted", [id]);
    tx.commit().await.map_err(failed(step))?;
    Ok(GroupDeleted::Done)
}

pub(super) async fn name_hosts(store: &SqlStore, naming: &Naming, by: &By) -> Result<Named> {
    let step = "naming the hosts of a group";
    let mut tx = store.write(step).await?;
    let changed = sqlx::query("UPDATE host_group SET version = version + 1 WHERE id = $1")
        .bind(&naming.id)
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    if changed.rows_affected() == 0 {
        return Ok(Named::Unknown);
    }
    let unknown: Vec<String> = sqlx::query_scalar(concat!(
        "SELECT given.value FROM ",
        given_texts!("$1"),
        " WHERE NOT EXISTS (
             SELECT 1 FROM host WHERE host.agentsn = given.value AND host.state <> 'deleted')"
    ))
    .bind(to_json(&naming.add))
    .fetch_all(&mut *tx)
    .await
    .map_err(failed(step))?;
    if !unknown.is_empty() {
        return Ok(Named::UnknownHosts(unknown));
    }
    sqlx::query(concat!(
        "DELETE FROM group_host WHERE id = $1 AND agentsn IN (SELECT given.value FROM ",
        given_texts!("$2"),
        ")"
    ))
    .bind(&naming.id)
    .bind(to_json(&naming.remove))
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    sqlx::query(concat!(
        "INSERT INTO group_host (id, agentsn) SELECT $1, given.value FROM ",
        given_texts!("$2"),
        " WHERE TRUE ON CONFLICT (id, agentsn) DO NOTHING"
    ))
    .bind(&naming.id)
    .bind(to_json(&naming.add))
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    let deed = Deed {
        action: "group.name-hosts",
        target: &naming.id,
        detail: json!({
            "added": naming.add.len(),
            "removed": naming.remove.len(),
            "hosts_added": naming.add.iter().take(NOTED).collect::<Vec<_>>(),
            "hosts_removed": naming.remove.iter().take(NOTED).collect::<Vec<_>>(),
        }),
    };
    note(&mut tx, by, deed).await?;
    tx.tell(Topic::Group, "edited", [&naming.id]);
    match stored(tx, &naming.id).await? {
        GroupStored::Done(group) => Ok(Named::Done(group)),
        _ => Ok(Named::Unknown),
    }
}

fn deed<'a>(action: &'static str, terms: &'a GroupTerms) -> Deed<'a> {
    let selector = terms.selector.as_ref().map(ToString::to_string);
    Deed {
        action,
        target: &terms.id,
        detail: json!({ "name": terms.name, "selector": selector, "groups": terms.groups }),
    }
}

/// The groups a host with these tags is in, by name.
pub(super) async fn of_host(
    store: &SqlStore,
    agentsn: &str,
    tags: &Tags,
) -> Result<Vec<GroupOfHost>> {
    let step = "looking which groups a host is in";
    let groups: Vec<(String, String, Option<String>)> =
        sqlx::query_as("SELECT id, name, selector FROM host_group ORDER BY name")
            .fetch_all(&store.readers)
            .await
            .map_err(failed(step))?;
    let named: Vec<String> = sqlx::query_scalar("SELECT id FROM group_host WHERE agentsn = $1")
        .bind(agentsn)
        .fetch_all(&store.readers)
        .await
        .map_err(failed(step))?;
    let edges: Vec<(String, String)> = sqlx::query_as("SELECT id, child FROM group_child")
        .fetch_all(&store.readers)
        .await
        .map_err(failed(step))?;
    let mut direct: BTreeSet<String> = named.into_iter().collect();
    for (id, _, text) in &groups {
        if selector(text.as_deref())?.is_some_and(|selector| selector.fits(tags)) {
            direct.insert(id.clone());
        }
    }
    let all = group::around(&edges_of(edges), direct);
    let groups = groups.into_iter();
    let groups = groups.filter(|(id, ..)| all.contains(id));
    Ok(groups
        .map(|(id, name, _)| GroupOfHost { id, name })
        .collect())
}

/// Nobody else changes the nesting until the commit; how it is.
pub(super) async fn lock_nesting(tx: &mut Write) -> Result<Edges> {
    let step = "looking how groups are nested";
    sqlx::query(
        "INSERT INTO setting (key, value) VALUES ('group_nesting', '')
         ON CONFLICT (key) DO UPDATE SET value = excluded.value",
    )
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    let edges: Vec<(String, String)> = sqlx::query_as("SELECT id, child FROM group_child")
        .fetch_all(&mut **tx)
        .await
        .map_err(failed(step))?;
    Ok(edges_of(edges))
}

fn edges_of(pairs: Vec<(String, String)>) -> Edges {
    let mut edges: Edges = BTreeMap::new();
    for (id, child) in pairs {
        edges.entry(id).or_default().insert(child);
    }
    edges
}

/// Of these groups, those that do not exist.
pub(super) async fn unknown(tx: &mut Write, ids: &[&str]) -> Result<Vec<String>> {
    sqlx::query_scalar(concat!(
        "SELECT given.value FROM ",
        given_texts!("$1"),
        " WHERE NOT EXISTS (SELECT 1 FROM host_group WHERE host_group.id = given.value)"
    ))
    .bind(to_json(ids))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("looking for groups"))
}

async fn refusal(tx: &mut Write, edges: &Edges, terms: &GroupTerms) -> Result<Option<GroupStored>> {
    let groups: Vec<&str> = terms.groups.iter().map(String::as_str).collect();
    let unknown = unknown(tx, &groups).await?;
    if !unknown.is_empty() {
        return Ok(Some(GroupStored::UnknownGroups(unknown)));
    }
    let nested = group::nest(edges, &terms.id, &terms.groups);
    Ok(nested.err().map(GroupStored::Nesting))
}

async fn store_children(tx: &mut Write, terms: &GroupTerms) -> Result<()> {
    let step = "storing which groups are in one";
    sqlx::query("DELETE FROM group_child WHERE id = $1")
        .bind(&terms.id)
        .execute(&mut **tx)
        .await
        .map_err(failed(step))?;
    sqlx::query(concat!(
        "INSERT INTO group_child (id, child) SELECT $1, given.value FROM ",
        given_texts!("$2")
    ))
    .bind(&terms.id)
    .bind(to_json(&terms.groups))
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    Ok(())
}

async fn stored(mut tx: Write, id: &str) -> Result<GroupStored> {
    let group = find(&mut tx, id).await?;
    tx.commit().await.map_err(failed("storing a group"))?;
    Ok(group.map_or(GroupStored::Unknown, GroupStored::Done))
}

async fn find(
    connection: &mut <super::Db as sqlx::Database>::Connection,
    id: &str,
) -> Result<Option<Group>> {
    let step = "looking up a group";
    let row = sqlx::query(concat!(select!(), " WHERE host_group.id = $1"))
        .bind(id)
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed(step))?;
    let Some(row) = row else { return Ok(None) };
    let children: Vec<String> = sqlx::query_scalar("SELECT child FROM group_child WHERE id = $1")
        .bind(id)
        .fetch_all(connection)
        .await
        .map_err(failed(step))?;
    let children: BTreeSet<String> = children.into_iter().collect();
    let edges = BTreeMap::from([(id.to_owned(), children)]);
    read(&row, &edges).map(Some)
}

fn read(row: &DbRow, edges: &Edges) -> Result<Group> {
    let step = "reading a group";
    let text = |column| row.try_get::<String, _>(column).map_err(failed(step));
    let number = |column| row.try_get::<i64, _>(column).map_err(failed(step));
    let id = text("id")?;
    let selected: Option<String> = row.try_get("selector").map_err(failed(step))?;
    Ok(Group {
        name: text("name")?,
        description: text("description")?,
        selector: selector(selected.as_deref())?,
        groups: edges.get(&id).cloned().unwrap_or_default(),
        named: number("named")?,
        created: number("created")?,
        version: number("version")?,
        id,
    })
}

/// A selector we wrote ourselves.
pub(super) fn selector(text: Option<&str>) -> Result<Option<Selector>> {
    let parsed = text.map(Selector::parse).transpose();
    parsed.map_err(|error| StoreError {
        step: "reading a selector",
        failure: Failure::Rejected,
        source: Box::new(error),
    })
}
