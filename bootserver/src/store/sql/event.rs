//! Events, read. They are written with the status that brings them.

use sqlx::{QueryBuilder, Row};

use super::scope::restrict;
use super::{Db, DbRow, SqlStore, failed, from_json};
use crate::store::Result;
use crate::store::event::{EventQuery, EventRow};
use crate::store::page::{DISORDER_MILLIS, Page};

pub(super) async fn list(store: &SqlStore, query: &EventQuery) -> Result<Page<EventRow>> {
    let mut sql: QueryBuilder<Db> = QueryBuilder::new("SELECT * FROM event WHERE 1 = 1");
    if let Some(agentsn) = &query.agentsn {
        sql.push(" AND agentsn = ").push_bind(agentsn);
    }
    restrict(&mut sql, &query.scope, "event.agentsn");
    if let Some(since) = query.since {
        // A condition on the time alone would read the whole table, so the way
        // to it is by id: after the last one that arrived well before.
        sql.push(" AND received >= ").push_bind(since);
        sql.push(" AND id > coalesce((SELECT id FROM event WHERE received < ")
            .push_bind(since.saturating_sub(DISORDER_MILLIS));
        sql.push(" ORDER BY received DESC, id DESC LIMIT 1), 0)");
    }
    if let Some(after) = query.after {
        sql.push(" AND id > ").push_bind(after);
    }
    sql.push(" ORDER BY id LIMIT ")
        .push_bind(query.limit.probe());
    let rows = sql
        .build()
        .fetch_all(&store.readers)
        .await
        .map_err(failed("listing events"))?;
    let events = rows.iter().map(event).collect::<Result<_>>()?;
    Ok(Page::cut(events, query.limit, |event: &EventRow| {
        event.id.to_string()
    }))
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
