//! What operators say of a host: its name and notes, and its tags.
//!
//! The row of `host` is locked first; a change names the revision it saw, or
//! that any will do.

use serde_json::json;

use super::audit::{Deed, note};
use super::host::tags_of;
use super::scope::in_scope;
use super::{SqlStore, Write, failed, to_json};
use crate::access::scope::Scope;
use crate::fleet::tags::Tags;
use crate::store::Result;
use crate::store::audit::By;
use crate::store::change::Topic;
use crate::store::host::{HostEdit, HostEdited, TagsSet};

/// What operators said so far.
#[derive(sqlx::FromRow)]
struct Known {
    display_name: String,
    notes: String,
    revision: i64,
}

impl Known {
    fn fits(&self, revision: Option<i64>) -> bool {
        revision.is_none_or(|revision| revision == self.revision)
    }
}

pub(super) async fn edit(
    store: &SqlStore,
    agentsn: &str,
    edit: &HostEdit,
    revision: Option<i64>,
    scope: &Scope,
    by: &By,
) -> Result<HostEdited> {
    let step = "storing what operators say of a host";
    let mut tx = store.write(step).await?;
    let Some(known) = known(&mut tx, agentsn).await? else {
        return Ok(HostEdited::Unknown);
    };
    if !in_scope(&mut tx, scope, agentsn).await? {
        return Ok(HostEdited::Unknown);
    }
    if !known.fits(revision) {
        return Ok(HostEdited::Stale);
    }
    let display_name = edit.display_name.as_ref().unwrap_or(&known.display_name);
    let notes = edit.notes.as_ref().unwrap_or(&known.notes);
    sqlx::query("UPDATE host SET display_name = $2, notes = $3 WHERE agentsn = $1")
        .bind(agentsn)
        .bind(display_name)
        .bind(notes)
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    raise_revision(&mut tx, agentsn).await?;
    // What did not change says nothing, and notes may be long: what they are now
    // is with the host, or with the next change.
    let mut detail = json!({ "before": {}, "after": {} });
    if *display_name != known.display_name {
        detail["before"]["display_name"] = json!(known.display_name);
        detail["after"]["display_name"] = json!(display_name);
    }
    if *notes != known.notes {
        detail["before"]["notes"] = json!(known.notes);
    }
    let deed = Deed {
        action: "host.edit",
        target: agentsn,
        detail,
    };
    note(&mut tx, by, deed).await?;
    tx.tell(Topic::Host, "edited", [agentsn]);
    tx.commit().await.map_err(failed(step))?;
    Ok(HostEdited::Done)
}

/// Tags that stay as they were keep their origin.
pub(super) async fn set_tags(
    store: &SqlStore,
    agentsn: &str,
    tags: &Tags,
    revision: Option<i64>,
    scope: &Scope,
    by: &By,
) -> Result<TagsSet> {
    let step = "storing a host's tags";
    let mut tx = store.write(step).await?;
    let Some(known) = known(&mut tx, agentsn).await? else {
        return Ok(TagsSet::Unknown);
    };
    if !in_scope(&mut tx, scope, agentsn).await? {
        return Ok(TagsSet::Unknown);
    }
    if !known.fits(revision) {
        return Ok(TagsSet::Stale);
    }
    let before = tags_of(&mut tx, agentsn).await?;
    let wanted: Vec<_> = tags.iter().collect();
    sqlx::query(concat!(
        "DELETE FROM host_tag WHERE agentsn = $1 AND (key, value) NOT IN
         (SELECT given.value ->> 0, given.value ->> 1 FROM ",
        given_rows!("$2"),
        ")"
    ))
    .bind(agentsn)
    .bind(to_json(&wanted))
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    for (key, value) in wanted {
        sqlx::query(
            "INSERT INTO host_tag (agentsn, key, value, origin) VALUES ($1, $2, $3, 'operator')
             ON CONFLICT (agentsn, key) DO NOTHING",
        )
        .bind(agentsn)
        .bind(key)
        .bind(value)
        .execute(&mut *tx)
        .await
        .map_err(failed(step))?;
    }
    if !in_scope(&mut tx, scope, agentsn).await? {
        return Ok(TagsSet::LeavesScope);
    }
    raise_revision(&mut tx, agentsn).await?;
    let deed = Deed {
        action: "host.set-tags",
        target: agentsn,
        detail: json!({ "before": before.to_string(), "after": tags.to_string() }),
    };
    note(&mut tx, by, deed).await?;
    tx.tell(Topic::Host, "tagged", [agentsn]);
    tx.commit().await.map_err(failed(step))?;
    Ok(TagsSet::Done)
}

async fn known(tx: &mut Write, agentsn: &str) -> Result<Option<Known>> {
    sqlx::query_as(concat!(
        "SELECT display_name, notes, revision FROM host
         WHERE agentsn = $1 AND state <> 'deleted'",
        for_update!()
    ))
    .bind(agentsn)
    .fetch_optional(&mut **tx)
    .await
    .map_err(failed("looking for a host to edit"))
}

async fn raise_revision(tx: &mut Write, agentsn: &str) -> Result<()> {
    sqlx::query("UPDATE host SET revision = revision + 1 WHERE agentsn = $1")
        .bind(agentsn)
        .execute(&mut **tx)
        .await
        .map_err(failed("counting the changes of a host"))?;
    Ok(())
}
