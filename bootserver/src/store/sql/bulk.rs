//! One change of many hosts: who they are, and a part of them in one transaction.
//!
//! Each part writes its own audit row. The one rule: a host that is already as it
//! shall be is left alone, so that a change that broke off can be sent again.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sqlx::QueryBuilder;

use super::audit::{Deed, note};
use super::host_clue;
use super::host_filter::Conditions;
use super::lifecycle::{self, Leaving};
use super::scope::outside;
use super::{
    HOST_BY_AGENTSN, SqlStore, Write, failed, no_orders_come, one_at_a_time, push_by_index, to_json,
};
use crate::access::scope::Scope;
use crate::fleet::presence::Presence;
use crate::fleet::tags::{MAX_TAGS, Tags};
use crate::store::Result;
use crate::store::audit::By;
use crate::store::bulk::{BulkChange, BulkPart, PartChanged};
use crate::store::change::Topic;
use crate::store::host::HostQuery;

/// Hosts looked up at once: a read of its own each, so that no snapshot is held.
const LOOKED_UP: i64 = 5000;
/// Hosts that one condition leaves and that are asked instead of all.
const FEW: i64 = 20_000;

/// The agentsn of every host of a query, sorted; none when they are more than `most`.
pub(super) async fn agentsns(
    store: &SqlStore,
    query: &HostQuery,
    most: usize,
) -> Result<Option<Vec<String>>> {
    let conditions = Conditions::prepare(store, query).await?;
    let few = host_clue::narrowest(store, &conditions.clues(), FEW).await?;
    let mut all: Vec<String> = Vec::new();
    loop {
        let mut sql = QueryBuilder::new("SELECT host.agentsn FROM host");
        push_by_index(&mut sql, HOST_BY_AGENTSN);
        match few {
            Some(clue) => conditions.push_among(&mut sql, clue),
            None => conditions.push(&mut sql),
        }
        let last = all.last().cloned().unwrap_or_default();
        sql.push(" AND host.agentsn > ").push_bind(last);
        sql.push(" ORDER BY host.agentsn LIMIT ")
            .push_bind(LOOKED_UP);
        let found: Vec<String> = sql
            .build_query_scalar()
            .fetch_all(&store.readers)
            .await
            .map_err(failed("looking which hosts a query means"))?;
        let is_last = i64::try_from(found.len()).is_ok_and(|found| found < LOOKED_UP);
        all.extend(found);
        if all.len() > most {
            return Ok(None);
        }
        if is_last {
            return Ok(Some(all));
        }
    }
}

pub(super) async fn change(
    store: &SqlStore,
    change: &BulkChange,
    part: &BulkPart,
    scope: &Scope,
    by: &By,
) -> Result<PartChanged> {
    let mut tx = store.write("changing many hosts").await?;
    if let BulkChange::TakeOut(_) = change {
        one_at_a_time(&mut tx).await?;
        no_orders_come(&mut tx).await?;
    }
    // Another kind of lock than that of the hosts, and taken before it, as by whoever
    // names hosts of a group.
    if let BulkChange::Name(id) | BulkChange::NameNot(id) = change
        && !raise_version(&mut tx, id).await?
    {
        return Ok(PartChanged::NoGroup);
    }
    let agentsns: Vec<&String> = part.agentsns.iter().collect();
    let out: BTreeSet<String> = outside(&mut tx, scope, &agentsns)
        .await?
        .into_iter()
        .collect();
    let mut hosts = lifecycle::lock(&mut tx, &agentsns).await?;
    hosts.retain(|(agentsn, _)| !out.contains(agentsn));
    let locked: Vec<&str> = hosts.iter().map(|(agentsn, _)| agentsn.as_str()).collect();
    let changed = match change {
        BulkChange::Tag { set, unset } => {
            let changed = tag(&mut tx, &locked, set, unset).await?;
            let crowded = crowded(&mut tx, &changed).await?;
            if !crowded.is_empty() {
                return Ok(PartChanged::TooManyTags(crowded));
            }
            let leaving = outside(&mut tx, scope, &changed.iter().collect::<Vec<_>>()).await?;
            if !leaving.is_empty() {
                return Ok(PartChanged::LeavesScope(leaving));
            }
            changed
        }
        BulkChange::TakeOut(to) => {
            let nobodies = part.agentsns.iter().zip(&part.nobodies);
            let nobodies: std::collections::HashMap<_, _> = nobodies.collect();
            let leaving = hosts.iter().filter(|(_, from)| *from != Some(*to));
            let leaving: Vec<Leaving<'_>> = leaving
                .filter_map(|(agentsn, from)| {
                    Some(Leaving {
                        agentsn,
                        from: *from,
                        nobody: nobodies.get(agentsn)?.as_str(),
                    })
                })
                .collect();
            lifecycle::take_out(&mut tx, &leaving, *to, by).await?;
            leaving.iter().map(|host| host.agentsn.to_owned()).collect()
        }
        BulkChange::Name(id) => named(&mut tx, NAME, id, &locked).await?,
        BulkChange::NameNot(id) => named(&mut tx, NAME_NOT, id, &locked).await?,
    };
    // Without a change there is nothing to note, and no version was raised.
    if changed.is_empty() {
        return Ok(PartChanged::Done(0));
    }
    note(&mut tx, by, deed(change, &changed)).await?;
    match change {
        BulkChange::Tag { .. } => tx.tell(Topic::Host, "tagged", &changed),
        BulkChange::Name(id) | BulkChange::NameNot(id) => tx.tell(Topic::Group, "edited", [id]),
        // Told with what became of them.
        BulkChange::TakeOut(_) => {}
    }
    tx.commit().await.map_err(failed("changing many hosts"))?;
    Ok(PartChanged::Done(changed.len()))
}

/// What was done to which hosts; the target is the group, if there is one.
fn deed<'a>(change: &'a BulkChange, changed: &BTreeSet<String>) -> Deed<'a> {
    let hosts = |more: Value| {
        let mut detail = json!({ "changed": changed.len(), "hosts": changed });
        if let (Value::Object(detail), Value::Object(more)) = (&mut detail, more) {
            detail.extend(more);
        }
        detail
    };
    let (action, target, detail) = match change {
        BulkChange::Tag { set, unset } => {
            let tags = json!({ "set": set.to_string(), "unset": unset });
            ("host.bulk-tag", "", hosts(tags))
        }
        BulkChange::TakeOut(Presence::Deleted) => ("host.bulk-delete", "", hosts(Value::Null)),
        BulkChange::TakeOut(_) => ("host.bulk-revoke", "", hosts(Value::Null)),
        BulkChange::Name(id) => ("group.bulk-add", id.as_str(), hosts(Value::Null)),
        BulkChange::NameNot(id) => ("group.bulk-remove", id.as_str(), hosts(Value::Null)),
    };
    Deed {
        action,
        target,
        detail,
    }
}

/// Hosts whose tags are otherwise now.
async fn tag(
    tx: &mut Write,
    hosts: &[&str],
    set: &Tags,
    unset: &[String],
) -> Result<BTreeSet<String>> {
    let step = "storing the tags of many hosts";
    let given = to_json(hosts);
    let mut changed = BTreeSet::new();
    for key in unset {
        let gone: Vec<String> = sqlx::query_scalar(concat!(
            "DELETE FROM host_tag WHERE key = $2 AND agentsn IN (SELECT given.value FROM ",
            given_texts!("$1"),
            ") RETURNING agentsn"
        ))
        .bind(&given)
        .bind(key)
        .fetch_all(&mut **tx)
        .await
        .map_err(failed(step))?;
        changed.extend(gone);
    }
    for (key, value) in set.iter() {
        let got: Vec<String> = sqlx::query_scalar(concat!(
            "INSERT INTO host_tag (agentsn, key, value, origin)
             SELECT given.value, $2, $3, 'operator' FROM ",
            given_texts!("$1"),
            " WHERE TRUE ON CONFLICT (agentsn, key) DO UPDATE
                 SET value = excluded.value, origin = excluded.origin
                 WHERE host_tag.value <> excluded.value RETURNING agentsn"
        ))
        .bind(&given)
        .bind(key)
        .bind(value)
        .fetch_all(&mut **tx)
        .await
        .map_err(failed(step))?;
        changed.extend(got);
    }
    sqlx::query(concat!(
        "UPDATE host SET revision = revision + 1 WHERE agentsn IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ")"
    ))
    .bind(to_json(&changed))
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    Ok(changed)
}

/// Of these hosts, those with more tags than one may have.
async fn crowded(tx: &mut Write, hosts: &BTreeSet<String>) -> Result<Vec<String>> {
    sqlx::query_scalar(concat!(
        "SELECT agentsn FROM host_tag WHERE agentsn IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ") GROUP BY agentsn HAVING count(*) > $2 ORDER BY agentsn"
    ))
    .bind(to_json(hosts))
    .bind(i64::try_from(MAX_TAGS).unwrap_or(i64::MAX))
    .fetch_all(&mut **tx)
    .await
    .map_err(failed("counting the tags of many hosts"))
}

const NAME: &str = concat!(
    "INSERT INTO group_host (id, agentsn) SELECT $1, given.value FROM ",
    given_texts!("$2"),
    " WHERE TRUE ON CONFLICT (id, agentsn) DO NOTHING RETURNING agentsn"
);
const NAME_NOT: &str = concat!(
    "DELETE FROM group_host WHERE id = $1 AND agentsn IN (SELECT given.value FROM ",
    given_texts!("$2"),
    ") RETURNING agentsn"
);

/// Hosts a group names now, or names no longer.
async fn named(
    tx: &mut Write,
    sql: &'static str,
    id: &str,
    hosts: &[&str],
) -> Result<BTreeSet<String>> {
    let changed: Vec<String> = sqlx::query_scalar(sql)
        .bind(id)
        .bind(to_json(hosts))
        .fetch_all(&mut **tx)
        .await
        .map_err(failed("naming many hosts of a group"))?;
    Ok(changed.into_iter().collect())
}

/// Counts the change of a group, and keeps the group until the commit.
async fn raise_version(tx: &mut Write, id: &str) -> Result<bool> {
    let raised = sqlx::query("UPDATE host_group SET version = version + 1 WHERE id = $1")
        .bind(id)
        .execute(&mut **tx)
        .await
        .map_err(failed("naming many hosts of a group"))?;
    Ok(raised.rows_affected() > 0)
}
