//! How hosts stand: the state in both tables, the history and the counters,
//! which always change together.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::{QueryBuilder, Row};

use super::lease::holds;
use super::scope::bounds_of;
use super::{Db, DbRow, SqlStore, Write, failed, listing, to_json};
use crate::fleet::presence::{self, Presence};
use crate::store::Result;
use crate::store::change::Topic;
use crate::store::host::{HostChange, HostChangeQuery, Looked};
use crate::store::lease::{Held, Lease};
use crate::store::page::Page;

/// Most hosts one look takes: its locks are short.
const MAX_LOOKED: i64 = 250;

/// A host that goes from one state to another.
#[derive(Debug, Serialize)]
pub(super) struct Move<'a> {
    pub(super) agentsn: &'a str,
    #[serde(skip)]
    pub(super) from: Option<Presence>,
    #[serde(skip)]
    pub(super) to: Presence,
    /// `to`, as it is written.
    pub(super) state: &'static str,
    /// When to look again.
    pub(super) due: Option<i64>,
    /// Why, for a person.
    pub(super) detail: &'a str,
}

impl<'a> Move<'a> {
    pub(super) fn new(agentsn: &'a str, from: Option<Presence>, to: Presence) -> Self {
        Self {
            agentsn,
            from,
            to,
            state: to.word(),
            due: None,
            detail: "",
        }
    }
}

/// Moves hosts. The counters come last: they are what everybody waits for.
pub(super) async fn set(tx: &mut Write, moves: &[Move<'_>], now: i64) -> Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    let step = "storing how hosts stand";
    let given = to_json(moves);
    sqlx::query(concat!(
        "UPDATE host_seen SET state = given.value ->> 'state',
                due = CAST(given.value ->> 'due' AS BIGINT)
         FROM ",
        given_rows!("$1"),
        " WHERE host_seen.agentsn = given.value ->> 'agentsn'"
    ))
    .bind(&given)
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    sqlx::query(concat!(
        "UPDATE host SET state = given.value ->> 'state', since = $2 FROM ",
        given_rows!("$1"),
        " WHERE host.agentsn = given.value ->> 'agentsn'"
    ))
    .bind(&given)
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    sqlx::query(concat!(
        "INSERT INTO host_change (agentsn, at, state, detail)
         SELECT given.value ->> 'agentsn', $2, given.value ->> 'state', given.value ->> 'detail'
         FROM ",
        given_rows!("$1")
    ))
    .bind(&given)
    .bind(now)
    .execute(&mut **tx)
    .await
    .map_err(failed(step))?;
    let mut differences = BTreeMap::new();
    for one in moves {
        tx.tell(Topic::Host, one.state, [one.agentsn]);
        *differences.entry(one.to).or_insert(0_i64) += 1;
        if let Some(from) = one.from {
            *differences.entry(from).or_insert(0_i64) -= 1;
        }
    }
    for (state, difference) in differences {
        count(tx, state, difference).await?;
    }
    Ok(())
}

/// So many more hosts are in a state.
pub(super) async fn count(tx: &mut Write, state: Presence, difference: i64) -> Result<()> {
    sqlx::query(
        "INSERT INTO host_count (state, hosts) VALUES ($1, $2)
         ON CONFLICT (state) DO UPDATE SET hosts = host_count.hosts + excluded.hosts",
    )
    .bind(state.word())
    .bind(difference)
    .execute(&mut **tx)
    .await
    .map_err(failed("counting hosts"))?;
    Ok(())
}

/// A host that is due, as it was read: who, its state, when it was seen, its interval.
type Due = (String, String, i64, i64);

/// Looks at the hosts that are due. Nobody looks at the others: a push leaves
/// `due` as it is, and who has pushed meanwhile is only put off. Of hosts that are up
/// that is nearly everybody, so only who is to be moved is locked.
pub(super) async fn look(store: &SqlStore, lease: &Lease, now: i64) -> Result<Held<Looked>> {
    let step = "looking for hosts that are late";
    let mut tx = store.write(step).await?;
    if !holds(&mut tx, lease).await? {
        return Ok(Held::Lost);
    }
    let back = beat(&mut tx, now).await?;
    let due: Vec<Due> = sqlx::query_as(
        "SELECT agentsn, state, coalesce(seen, 0), every FROM host_seen
         WHERE due <= $1 ORDER BY due LIMIT $2",
    )
    .bind(now)
    .bind(MAX_LOOKED)
    .fetch_all(&mut *tx)
    .await
    .map_err(failed(step))?;
    let (moves, mut put_off) = judge(&due, back, now);
    // In the order in which statuses lock hosts, so that nobody waits in a circle.
    put_off.sort_unstable();
    sqlx::query(concat!(
        "UPDATE host_seen SET due = CAST(given.value ->> 2 AS BIGINT) FROM ",
        given_rows!("$1"),
        " WHERE host_seen.agentsn = given.value ->> 0 AND host_seen.state = given.value ->> 1
             AND host_seen.due <= $2"
    ))
    .bind(to_json(&put_off))
    .bind(now)
    .execute(&mut *tx)
    .await
    .map_err(failed(step))?;
    tx.commit().await.map_err(failed(step))?;
    let agentsns: Vec<_> = moves.iter().map(|one| one.agentsn).collect();
    let moved = match agentsns.is_empty() {
        true => 0,
        false => match move_due(store, lease, &agentsns, back, now).await? {
            Held::Done(moved) => moved,
            Held::Lost => return Ok(Held::Lost),
        },
    };
    Ok(Held::Done(Looked {
        moved,
        is_full: i64::try_from(due.len()).unwrap_or(MAX_LOOKED) == MAX_LOOKED,
    }))
}

/// Moves those of the hosts that still are not as they should be. Returns how many.
async fn move_due(
    store: &SqlStore,
    lease: &Lease,
    agentsns: &[&str],
    back: i64,
    now: i64,
) -> Result<Held<usize>> {
    let step = "moving hosts that are late";
    let mut tx = store.write(step).await?;
    if !holds(&mut tx, lease).await? {
        return Ok(Held::Lost);
    }
    let due: Vec<Due> = sqlx::query_as(concat!(
        "SELECT agentsn, state, coalesce(seen, 0), every FROM host_seen
         JOIN ",
        given_texts!("$1"),
        " ON agentsn = given.value WHERE due <= $2",
        // Who is being written just now has been heard: later will do.
        skip_locked!()
    ))
    .bind(to_json(agentsns))
    .bind(now)
    .fetch_all(&mut *tx)
    .await
    .map_err(failed(step))?;
    let (moves, _) = judge(&due, back, now);
    set(&mut tx, &moves, now).await?;
    tx.commit().await.map_err(failed(step))?;
    Ok(Held::Done(moves.len()))
}

/// Who is put off, with the state it keeps and until when.
type PutOff<'a> = (&'a str, &'a str, Option<i64>);

/// Who is to be moved, and who is only put off.
fn judge(due: &[Due], back: i64, now: i64) -> (Vec<Move<'_>>, Vec<PutOff<'_>>) {
    let mut moves = Vec::new();
    let mut put_off = Vec::new();
    for (agentsn, state, seen, every) in due {
        let from = Presence::parse(state);
        let every = u64::try_from(*every).unwrap_or_default();
        let (to, due) = presence::judge(*seen, every, back, now);
        match from == Some(to) {
            true => put_off.push((agentsn.as_str(), state.as_str(), due)),
            false => moves.push(Move {
                due,
                ..Move::new(agentsn, from, to)
            }),
        }
    }
    (moves, put_off)
}

/// The platform's own sign of life. Returns since when it has been there.
async fn beat(tx: &mut Write, now: i64) -> Result<i64> {
    let step = "noting that the platform is there";
    let read: Vec<(String, String)> = sqlx::query_as(
        "SELECT key, value FROM setting WHERE key IN ('platform_alive', 'platform_back')",
    )
    .fetch_all(&mut **tx)
    .await
    .map_err(failed(step))?;
    let time = |wanted: &str| {
        let found = read.iter().find(|(key, _)| key == wanted);
        found.and_then(|(_, value)| value.parse::<i64>().ok())
    };
    let back = match (
        time("platform_back"),
        presence::was_away(time("platform_alive"), now),
    ) {
        (Some(back), false) => back,
        (_, true) | (None, false) => now,
    };
    for (key, value) in [("platform_alive", now), ("platform_back", back)] {
        sqlx::query(
            "INSERT INTO setting (key, value) VALUES ($1, $2)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )
        .bind(key)
        .bind(value.to_string())
        .execute(&mut **tx)
        .await
        .map_err(failed(step))?;
    }
    Ok(back)
}

pub(super) async fn counts(store: &SqlStore) -> Result<Vec<(Presence, i64)>> {
    let rows: Vec<(String, i64)> = sqlx::query_as("SELECT state, hosts FROM host_count")
        .fetch_all(&store.readers)
        .await
        .map_err(failed("reading how many hosts there are"))?;
    let count = |state: Presence| {
        let row = rows.iter().find(|(word, _)| word == state.word());
        (state, row.map_or(0, |(_, hosts)| *hosts))
    };
    Ok(Presence::ALL.map(count).to_vec())
}

pub(super) async fn changes(store: &SqlStore, query: &HostChangeQuery) -> Result<Page<HostChange>> {
    let step = "listing what became of a host";
    let bounds = bounds_of(store, &query.scope).await?;
    let mut sql: QueryBuilder<Db> =
        QueryBuilder::new("SELECT id, at, state, detail FROM host_change WHERE agentsn = ");
    sql.push_bind(&query.agentsn)
        .push(" AND id < ")
        .push_bind(query.before.unwrap_or(i64::MAX));
    bounds.restrict(&mut sql, "host_change.agentsn");
    sql.push(" ORDER BY id DESC");
    let read = |row: &DbRow| {
        let read = || -> std::result::Result<HostChange, sqlx::Error> {
            Ok(HostChange {
                id: row.try_get("id")?,
                at: row.try_get("at")?,
                state: row.try_get("state")?,
                detail: row.try_get("detail")?,
            })
        };
        read().map_err(failed(step))
    };
    let key = |change: &HostChange| change.id.to_string();
    listing::page(store, step, sql, query.limit, read, key).await
}
