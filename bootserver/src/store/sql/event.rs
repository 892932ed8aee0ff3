//! Events, read. They are written with the status that brings them.

use sqlx::{QueryBuilder, Row};

use super::scope::{self, Bounds};
use super::{Db, DbRow, SqlStore, failed, from_json, listing};
use crate::store::Result;
use crate::store::event::{EventQuery, EventRow};
use crate::store::page::{Count, DISORDER_MILLIS, Page};

pub(super) async fn list(store: &SqlStore, query: &EventQuery) -> Result<Page<EventRow>> {
    let bounds = scope::bounds_of(store, &query.scope).await?;
    let mut sql = QueryBuilder::new("SELECT * FROM event WHERE 1 = 1");
    filter(&mut sql, query, &bounds);
    if let Some(after) = query.after {
        sql.push(" AND id > ").push_bind(after);
    }
    sql.push(" ORDER BY id");
    let key = |event: &EventRow| event.id.to_string();
    let mut page = listing::page(store, "listing events", sql, query.limit, event, key).await?;
    if query.count == Count::All {
        let mut sql = QueryBuilder::new("SELECT 1 FROM event WHERE 1 = 1");
        filter(&mut sql, query, &bounds);
        page.total = Some(listing::total(store, sql).await?);
    }
    Ok(page)
}

fn filter(sql: &mut QueryBuilder<Db>, query: &EventQuery, bounds: &Bounds) {
    if let Some(agentsn) = &query.agentsn {
        sql.push(" AND agentsn = ").push_bind(agentsn);
    }
    bounds.restrict(sql, "event.agentsn");
    if let Some(since) = query.since {
        // A condition on the time alone would read the whole table, so the way
        // to it is by id: after the last one that arrived well before.
        sql.push(" AND received >= ").push_bind(since);
        sql.push(" AND id > coalesce((SELECT id FROM event WHERE received < ")
            .push_bind(since.saturating_sub(DISORDER_MILLIS));
        sql.push(" ORDER BY received DESC, id DESC LIMIT 1), 0)");
    }
}

fn event(row: &DbRow) -> Result<EventRow> {
    let read = || -> std::result::Result<(EventRow, String), sqlx::Error> {
        let event = EventRow {
            id: row.try_get("id")?,
            agentsn: row.try_get("agentsn")?,
            source: row.try_get("source")?,
            boot_id: row.try_get("boot_id")?,
            seq: row.try_get("seq")?,
            received: row.try_get("received")?,
            timestamp: row.try_get("timestamp")?,
            category: row.try_get("category")?,
            subject: row.try_get("subject")?,
            version: row.try_get("version")?,
            message: row.try_get("message")?,
            tail: Vec::new(),
        };
        Ok((event, row.try_get("tail")?))
    };
    let (mut event, tail) = read().map_err(failed("reading an event"))?;
    event.tail = from_json("reading an event's last lines", &tail)?;
    Ok(event)
}
