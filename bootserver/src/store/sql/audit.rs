//! What was changed by whom.

use serde_json::Value;
use sqlx::{QueryBuilder, Row};

use super::{Db, DbRow, SqlStore, Write, failed, from_json, listing, to_json};
use crate::store::Result;
use crate::store::audit::{Actor, ActorKind, AuditQuery, AuditRow, By};
use crate::store::page::Page;

/// How much older than its neighbours a change may say it is, in milliseconds: as
/// far as the clocks of replicas may be apart.
const DISORDER: i64 = 86_400_000;

/// A change, as it is written down in its own transaction.
pub(super) struct Deed<'a> {
    /// What was done, such as `user.create`; the kind of thing stands before the dot.
    pub(super) action: &'static str,
    /// To which, by id.
    pub(super) target: &'a str,
    /// What was before and is now, in brief and without secrets.
    pub(super) detail: Value,
}

pub(super) async fn note(tx: &mut Write, by: &By, deed: Deed<'_>) -> Result<()> {
    let kind = deed.action.split('.').next().unwrap_or_default();
    sqlx::query(
        "INSERT INTO audit
             (at, actor_kind, actor, actor_name, action, kind, target, detail, request, address)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(by.at)
    .bind(by.actor.kind.as_str())
    .bind(&by.actor.id)
    .bind(&by.actor.name)
    .bind(deed.action)
    .bind(kind)
    .bind(deed.target)
    .bind(to_json(&deed.detail))
    .bind(&by.request)
    .bind(&by.address)
    .execute(&mut **tx)
    .await
    .map_err(failed("writing down who did what"))?;
    Ok(())
}

pub(super) async fn list(store: &SqlStore, query: &AuditQuery) -> Result<Page<AuditRow>> {
    let mut sql: QueryBuilder<Db> = QueryBuilder::new("SELECT * FROM audit WHERE 1 = 1");
    let texts = [
        (" AND actor = ", &query.actor),
        (" AND target = ", &query.target),
        (" AND action = ", &query.action),
    ];
    for (condition, value) in texts {
        if let Some(value) = value {
            sql.push(condition).push_bind(value);
        }
    }
    // The way to a time is by number, as with events: a condition on the time alone
    // would have all of its rows sorted.
    if let Some(since) = query.since {
        sql.push(" AND at >= ").push_bind(since);
        sql.push(" AND id > coalesce((SELECT id FROM audit WHERE at < ")
            .push_bind(since.saturating_sub(DISORDER));
        sql.push(" ORDER BY at DESC, id DESC LIMIT 1), 0)");
    }
    if let Some(until) = query.until {
        sql.push(" AND at < ").push_bind(until);
        sql.push(" AND id < coalesce((SELECT id FROM audit WHERE at >= ")
            .push_bind(until.saturating_add(DISORDER));
        sql.push(" ORDER BY at, id LIMIT 1), 9223372036854775807)");
    }
    if let Some(after) = query.after {
        sql.push(" AND id < ").push_bind(after);
    }
    sql.push(" ORDER BY id DESC");
    let key = |row: &AuditRow| row.id.to_string();
    listing::page(store, "listing who did what", sql, query.limit, read, key).await
}

fn read(row: &DbRow) -> Result<AuditRow> {
    let step = "reading who did what";
    let text = |column| row.try_get::<String, _>(column).map_err(failed(step));
    let maybe = |column| {
        row.try_get::<Option<String>, _>(column)
            .map_err(failed(step))
    };
    let number = |column| row.try_get::<i64, _>(column).map_err(failed(step));
    Ok(AuditRow {
        id: number("id")?,
        by: By {
            actor: Actor {
                // A kind of a later version is shown as one on this machine.
                kind: ActorKind::parse(&text("actor_kind")?).unwrap_or(ActorKind::Local),
                id: text("actor")?,
                name: text("actor_name")?,
            },
            request: maybe("request")?,
            address: maybe("address")?,
            at: number("at")?,
        },
        action: text("action")?,
        kind: text("kind")?,
        target: text("target")?,
        detail: from_json(step, &text("detail")?)?,
    })
}
