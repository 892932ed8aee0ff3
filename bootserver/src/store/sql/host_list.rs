//! Lists of hosts: in what order they are read.
//!
//! A page is found in one of three ways:
//! 1. Where every host of an index fits, the page is read from it.
//! 2. Where one condition leaves few hosts, they are looked up and sorted.
//! 3. Otherwise one goes through the list and asks each host, for so far that a page
//!    is full where one host in a hundred fits. Where it is not, since fewer do or since
//!    they stand together further on, those that one condition leaves are looked up
//!    and sorted, unless they are most of all hosts.
//!
//! The one rule: the answer is the same, whichever way it is found.

#[cfg(test)]
mod tests;

use sqlx::{QueryBuilder, Row};

use super::host::{columns, summaries};
use super::host_clue::{self, Clue};
use super::host_filter::{Conditions, Walk};
use super::member::push_given;
use super::{
    AMONG, Db, DbRow, HOST_BY_AGENTSN, SqlStore, failed, listing, push_by_index, search, to_json,
};
use crate::store::Result;
use crate::store::host::{Direction, HostQuery, HostSummary, SortKey, SortValue};
use crate::store::page::{Count, Page};

#[cfg(test)]
pub(in crate::store) use tests::{GROUP, every_query, plan};

const STEP: &str = "listing hosts";
/// Hosts that were found and then deleted, in a page of what was found.
const SPARE: i64 = 100;
/// A search by name need not look at the hosts it finds, so it goes less far in the
/// list before.
const LOOKED_AT: i64 = 5;

pub(super) async fn list(store: &SqlStore, query: &HostQuery) -> Result<Page<HostSummary>> {
    let conditions = Conditions::prepare(store, query).await?;
    let list = List {
        store,
        query,
        conditions: &conditions,
        clues: conditions.clues(),
    };
    let few = host_clue::few(store, list.looked_up(), query.reach.few).await?;
    let rows = list.rows(few).await?;
    let hosts = summaries(store, &rows).await?;
    let key = |host: &HostSummary| {
        let value = match query.sort.key {
            SortKey::Hostname => SortValue::Text(host.reported.hostname.clone()),
            SortKey::Created => SortValue::Time(host.created),
            SortKey::Since => SortValue::Time(host.since),
        };
        to_json(&(value, &host.agentsn))
    };
    let mut page = Page::cut(hosts, query.limit, key);
    if query.count == Count::All {
        page.total = Some(listing::total(store, list.all(few).await?).await?);
    }
    Ok(page)
}

struct List<'a> {
    store: &'a SqlStore,
    query: &'a HostQuery,
    conditions: &'a Conditions<'a>,
    clues: Vec<Clue<'a>>,
}

impl<'a> List<'a> {
    /// The clues that may leave few hosts, or none where an index has the very list.
    fn looked_up(&self) -> &[Clue<'a>] {
        match self.conditions.all_on(&self.conditions.walk()) {
            true => &[],
            false => &self.clues,
        }
    }

    /// The rows of the page and one more; `few` is a clue that leaves few hosts.
    async fn rows(&self, few: Option<Clue<'_>>) -> Result<Vec<DbRow>> {
        let walk = self.conditions.walk();
        if self.looked_up().is_empty() && self.conditions.all_on(&walk) {
            return self.fetch(self.walked(&walk, None)).await;
        }
        if let Some(clue) = few {
            return self.found(clue).await;
        }
        let Some(end) = self.end(&walk).await? else {
            return self.fetch(self.walked(&walk, None)).await;
        };
        let rows = self.fetch(self.walked(&walk, Some(&end))).await?;
        if self.is_full(rows.len()) {
            return Ok(rows);
        }
        let clue = match self.by_name() {
            // Sorting the names found takes less than any way through the list,
            // however many they are.
            Some(text) => Some(Clue::Search(text)),
            None => host_clue::narrowest(self.store, &self.clues, self.query.reach.many).await?,
        };
        match clue {
            Some(clue) => self.found(clue).await,
            None => self.fetch(self.walked(&walk, None)).await,
        }
    }

    /// Every host of the query, to be counted.
    async fn all(&self, few: Option<Clue<'_>>) -> Result<QueryBuilder<Db>> {
        let walk = self.conditions.walk();
        if self.conditions.all_on(&walk) {
            let mut sql = QueryBuilder::new("SELECT 1 FROM host");
            push_by_index(&mut sql, walk.index);
            self.conditions.push(&mut sql);
            return Ok(sql);
        }
        let clue = match (few, self.clues.as_slice()) {
            (Some(few), _) => Some(few),
            (None, [only]) => Some(*only),
            (None, _) => {
                host_clue::narrowest(self.store, &self.clues, self.query.reach.many).await?
            }
        };
        let Some(clue) = clue else {
            let mut sql = QueryBuilder::new("SELECT 1 FROM host");
            self.conditions.push(&mut sql);
            return Ok(sql);
        };
        // One by one, so that it ends where nobody counts any further.
        let mut sql = QueryBuilder::new("SELECT 1 FROM (");
        clue.push(&mut sql);
        sql.push(") AS found CROSS JOIN host WHERE host.agentsn = found.agentsn");
        self.conditions.push_without(&mut sql, Some(clue));
        Ok(sql)
    }

    /// The hosts a clue leaves, sorted.
    async fn found(&self, clue: Clue<'_>) -> Result<Vec<DbRow>> {
        if let Some(text) = self.by_name()
            && let Some(rows) = self.found_by_name(text).await?
        {
            return Ok(rows);
        }
        // Those of the page first: all else is looked up for them alone.
        let (open, close) = AMONG;
        let mut sql = select(HOST_BY_AGENTSN);
        sql.push(" WHERE host.agentsn").push(open);
        sql.push("SELECT host.agentsn FROM host");
        push_by_index(&mut sql, HOST_BY_AGENTSN);
        self.conditions.push_among(&mut sql, clue);
        self.push_after(&mut sql, self.column(), "host.agentsn");
        self.push_order(&mut sql, self.column(), "host.agentsn");
        sql.push(" LIMIT ").push_bind(self.query.limit.probe());
        sql.push(close);
        self.push_order(&mut sql, self.column(), "host.agentsn");
        self.fetch(sql).await
    }

    /// What is searched for, if that is all and the list is by name.
    fn by_name(&self) -> Option<&'a str> {
        let is_by_name = self.query.sort.key == SortKey::Hostname;
        self.conditions.only_search().filter(|_| is_by_name)
    }

    /// The same of a search by name, which need not look at all hosts it finds; none
    /// where too many of them were deleted.
    async fn found_by_name(&self, text: &str) -> Result<Option<Vec<DbRow>>> {
        let most = self.query.limit.probe() + SPARE;
        let mut sql = QueryBuilder::new("SELECT found.agentsn FROM (");
        if !search::push_find_names(&mut sql, text) {
            return Ok(None);
        }
        sql.push(") AS found WHERE TRUE");
        self.push_after(&mut sql, "found.hostname", "found.agentsn");
        self.push_order(&mut sql, "found.hostname", "found.agentsn");
        sql.push(" LIMIT ").push_bind(most);
        let found: Vec<String> = sql
            .build_query_scalar()
            .fetch_all(&self.store.readers)
            .await
            .map_err(failed(STEP))?;
        let mut sql = select(HOST_BY_AGENTSN);
        sql.push(" WHERE host.state <> 'deleted' AND host.agentsn IN (SELECT given.value FROM ");
        push_given(&mut sql, to_json(&found));
        sql.push(")");
        self.push_order(&mut sql, self.column(), "host.agentsn");
        let rows = self.fetch(sql).await?;
        let are_all = i64::try_from(found.len()).is_ok_and(|found| found < most);
        Ok((are_all || self.is_full(rows.len())).then_some(rows))
    }

    /// The hosts on this way that fit, in their order, as far as this one.
    fn walked(&self, walk: &Walk<'_>, end: Option<&(SortValue, String)>) -> QueryBuilder<Db> {
        let mut sql = select(walk.index);
        self.conditions.push(&mut sql);
        self.push_after(&mut sql, self.column(), "host.agentsn");
        if let Some(end) = end {
            let within = match self.query.sort.direction {
                Direction::Up => " <= (",
                Direction::Down => " >= (",
            };
            push_place(&mut sql, (self.column(), "host.agentsn"), within, end);
        }
        self.push_order(&mut sql, self.column(), "host.agentsn");
        sql
    }

    /// The host one goes as far as; none where the way ends before.
    async fn end(&self, walk: &Walk<'_>) -> Result<Option<(SortValue, String)>> {
        let mut sql = QueryBuilder::new("SELECT ");
        sql.push(self.column()).push(", host.agentsn FROM host");
        push_by_index(&mut sql, walk.index);
        sql.push(" WHERE ");
        match walk.of {
            Some(clue) => clue.push_own(&mut sql),
            None => _ = sql.push("TRUE"),
        }
        self.push_after(&mut sql, self.column(), "host.agentsn");
        self.push_order(&mut sql, self.column(), "host.agentsn");
        let steps = match self.by_name() {
            Some(_) => self.query.reach.steps / LOOKED_AT,
            None => self.query.reach.steps,
        };
        let steps = steps * self.query.limit.probe();
        sql.push(" LIMIT 1 OFFSET ").push_bind(steps);
        let row = sql
            .build()
            .fetch_optional(&self.store.readers)
            .await
            .map_err(failed(STEP))?;
        let Some(row) = row else { return Ok(None) };
        let value = match self.query.sort.key {
            SortKey::Hostname => row.try_get(0).map(SortValue::Text),
            SortKey::Created | SortKey::Since => row.try_get(0).map(SortValue::Time),
        };
        let value = value.map_err(failed(STEP))?;
        Ok(Some((value, row.try_get(1).map_err(failed(STEP))?)))
    }

    async fn fetch(&self, sql: QueryBuilder<Db>) -> Result<Vec<DbRow>> {
        listing::rows(self.store, STEP, sql, self.query.limit).await
    }

    fn is_full(&self, rows: usize) -> bool {
        i64::try_from(rows).is_ok_and(|rows| rows >= self.query.limit.probe())
    }

    fn column(&self) -> &'static str {
        match self.query.sort.key {
            SortKey::Hostname => "host.hostname",
            SortKey::Created => "host.created",
            SortKey::Since => "host.since",
        }
    }

    fn push_after(&self, sql: &mut QueryBuilder<Db>, column: &'static str, id: &'static str) {
        let beyond = match self.query.sort.direction {
            Direction::Up => " > (",
            Direction::Down => " < (",
        };
        if let Some(after) = &self.query.after {
            push_place(sql, (column, id), beyond, after);
        }
    }

    fn push_order(&self, sql: &mut QueryBuilder<Db>, column: &'static str, id: &'static str) {
        let direction = match self.query.sort.direction {
            Direction::Up => "",
            Direction::Down => " DESC",
        };
        sql.push(" ORDER BY ").push(column).push(direction);
        sql.push(", ").push(id).push(direction);
    }
}

fn select(index: &'static str) -> QueryBuilder<Db> {
    let mut sql = QueryBuilder::new(concat!("SELECT ", columns!(), " FROM host"));
    push_by_index(&mut sql, index);
    sql.push(" LEFT JOIN host_seen ON host_seen.agentsn = host.agentsn");
    sql
}

/// Adds a condition on where in a list a row is.
fn push_place(
    sql: &mut QueryBuilder<Db>,
    (column, id): (&'static str, &'static str),
    comparison: &'static str,
    (value, agentsn): &(SortValue, String),
) {
    sql.push(" AND (")
        .push(column)
        .push(", ")
        .push(id)
        .push(")");
    sql.push(comparison);
    match value {
        SortValue::Time(time) => sql.push_bind(*time),
        SortValue::Text(text) => sql.push_bind(text.clone()),
    };
    sql.push(", ").push_bind(agentsn.clone()).push(")");
}
