//! The look at all hosts of an assignment, a part at a time: who does not have the
//! version it shall have.
//!
//! The one rule: a part is so many hosts, whether they fit or not, so it takes the same
//! time whatever it finds.

use sqlx::{Database, QueryBuilder};

use super::assignment::{self, earlier};
use super::member::{self, Within, push_given, push_groups};
use super::rollout::target_state;
use super::{Db, HOST_BY_AGENTSN, SqlStore, bulk, failed, push_by_index, to_json};
use crate::fleet::assignment::{Claim, Member, Tried};
use crate::fleet::presence::Presence;
use crate::store::Result;
use crate::store::assignment::{AssignmentRow, Sweep};
use crate::store::host::HostQuery;

/// Hosts of a part: statuses wait for the transaction that writes what it found.
const PART: i64 = 1500;
/// A group of at most so many hosts is one part.
const FEW: usize = 1500;

/// What is known of an assignment before its turn.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) assignment: AssignmentRow,
    /// A part of its hosts, if it is time for one.
    pub(super) part: Option<Part>,
}

/// A part of the hosts of an assignment.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) members: Vec<MemberRow>,
    /// Where the next part begins; none after the last one.
    pub(super) to: Option<String>,
}

/// A host of the group.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct MemberRow {
    pub(super) agentsn: String,
    presence: String,
    seen: Option<i64>,
    has: Option<String>,
    taken: i64,
    pub(super) place: Option<i64>,
    state: Option<String>,
    attempts: Option<i64>,
    since: Option<i64>,
}

impl MemberRow {
    /// The same for who decides.
    pub(super) fn member(&self) -> Result<Member<'_>> {
        let tried = match &self.state {
            Some(state) => Some(Tried {
                state: target_state(state)?,
                attempts: self.attempts.unwrap_or_default(),
                since: self.since.unwrap_or_default(),
            }),
            None => None,
        };
        Ok(Member {
            claim: match self.taken {
                0 => Claim::Own,
                _ => Claim::Another,
            },
            // One that this version does not know is left alone.
            presence: Presence::parse(&self.presence).unwrap_or(Presence::New),
            seen: self.seen,
            has: self.has.as_deref(),
            tried,
        })
    }
}

/// Looks at the next part of the hosts of an assignment that goes on with this rollout,
/// if one does and it is time.
pub(super) async fn look(store: &SqlStore, number: i64, now: i64) -> Result<Option<Look>> {
    let Some(assignment) = assignment::by_rollout(store, number).await? else {
        return Ok(None);
    };
    let is_due = assignment.sweep_due <= now && assignment.rollout.stand.is_active();
    let part = match is_due {
        true => Some(part(store, &assignment).await?),
        false => None,
    };
    Ok(Some(Look { assignment, part }))
}

async fn part(store: &SqlStore, assignment: &AssignmentRow) -> Result<Part> {
    let step = "looking at the hosts of an assignment";
    if assignment.sweep.is_none()
        && let Some(few) = few(store, &assignment.group).await?
    {
        let mut reader = store.readers.acquire().await.map_err(failed(step))?;
        let members = members(&mut reader, assignment, &Which::These(&few)).await?;
        return Ok(Part { members, to: None });
    }
    let after = assignment.sweep.as_ref().map_or("", |Sweep { to, .. }| to);
    let to = end_of_part(store, after).await?;
    let mut reader = store.readers.acquire().await.map_err(failed(step))?;
    let which = Which::Between(after, to.as_deref());
    let members = members(&mut reader, assignment, &which).await?;
    Ok(Part { members, to })
}

/// The hosts of a group, if they are few.
pub(super) async fn few(store: &SqlStore, group: &str) -> Result<Option<Vec<String>>> {
    let query = HostQuery {
        group: Some(group.to_owned()),
        ..HostQuery::default()
    };
    bulk::agentsns(store, &query, FEW).await
}

/// The last host of the part that begins after this one; none if it is the last part.
pub(super) async fn end_of_part(store: &SqlStore, after: &str) -> Result<Option<String>> {
    sqlx::query_scalar(
        "SELECT agentsn FROM host WHERE agentsn > $1 ORDER BY agentsn LIMIT 1 OFFSET $2",
    )
    .bind(after)
    .bind(PART - 1)
    .fetch_optional(&store.readers)
    .await
    .map_err(failed("looking where a part of the hosts ends"))
}

/// Which hosts are looked at.
pub(super) enum Which<'a> {
    /// These.
    These(&'a [String]),
    /// Those after one and up to another.
    Between(&'a str, Option<&'a str>),
}

impl Which<'_> {
    /// Adds it as a condition.
    pub(super) fn push(&self, sql: &mut QueryBuilder<Db>) {
        match self {
            Which::These(agentsns) => {
                sql.push(" AND host.agentsn IN (SELECT given.value FROM ");
                push_given(sql, to_json(agentsns));
                sql.push(")");
            }
            Which::Between(after, to) => {
                sql.push(" AND host.agentsn > ")
                    .push_bind((*after).to_owned());
                if let Some(to) = to {
                    sql.push(" AND host.agentsn <= ")
                        .push_bind((*to).to_owned());
                }
            }
        }
    }
}

/// Of these hosts, those of the group.
pub(super) async fn members(
    connection: &mut <Db as Database>::Connection,
    assignment: &AssignmentRow,
    which: &Which<'_>,
) -> Result<Vec<MemberRow>> {
    let within = member::within(&mut *connection, &assignment.group).await?;
    let (id, agent) = (&assignment.id, &assignment.agent);
    let claims = claims(&mut *connection, agent, assignment.priority, id).await?;
    let number = assignment.rollout.number;
    let mut sql = QueryBuilder::new("");
    push_select(&mut sql, agent, number, which, &within, &claims);
    let mut members: Vec<MemberRow> = sql
        .build_query_as()
        .fetch_all(connection)
        .await
        .map_err(failed("looking which hosts are in an assignment"))?;
    // Not by the database, which might take another way for it.
    members.sort_by(|one, other| one.agentsn.cmp(&other.agentsn));
    Ok(members)
}

fn push_select(
    sql: &mut QueryBuilder<Db>,
    agent: &str,
    number: i64,
    which: &Which<'_>,
    within: &Within,
    claims: &[Within],
) {
    sql.push(
        "SELECT host.agentsn, host.state AS presence, host_seen.seen, host_agent.version AS has, ",
    );
    push_taken(sql, claims);
    sql.push(" AS taken, target.place, target.state, target.attempts, target.since FROM host");
    push_by_index(sql, HOST_BY_AGENTSN);
    sql.push(
        " LEFT JOIN host_seen ON host_seen.agentsn = host.agentsn
          LEFT JOIN host_agent
              ON host_agent.agentsn = host.agentsn AND host_agent.name = ",
    );
    sql.push_bind(agent.to_owned());
    // SQLite would go through all targets of the rollout for each host.
    sql.push(concat!(
        " LEFT JOIN rollout_target AS target",
        by_index!("rollout_target_by_host"),
        " ON target.agentsn = host.agentsn AND target.rollout = "
    ));
    sql.push_bind(number);
    sql.push(" WHERE host.state NOT IN ('revoked', 'deleted')");
    which.push(sql);
    push_groups(sql, within, "host.agentsn");
}

/// How the database would look at a part of the hosts.
#[cfg(test)]
pub(in crate::store) async fn plan_of_look(store: &SqlStore) -> String {
    let mut reader = store.readers.acquire().await.expect("a connection");
    let within = member::within(&mut reader, "g").await.expect("a group");
    let mut sql = QueryBuilder::new(super::EXPLAIN);
    let which = Which::Between("a", Some("b"));
    push_select(&mut sql, "a", 1, &which, &within, &[]);
    let rows = sql.build().fetch_all(&mut *reader).await.expect("a plan");
    let line = |row| sqlx::Row::get::<String, _>(row, super::PLAN_COLUMN);
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What the assignments of this agent that come before another one are made of.
pub(super) async fn claims(
    connection: &mut <Db as Database>::Connection,
    agent: &str,
    priority: i64,
    id: &str,
) -> Result<Vec<Within>> {
    let mut claims = Vec::new();
    for group in earlier(&mut *connection, agent, priority, id).await? {
        claims.push(member::within(&mut *connection, &group).await?);
    }
    Ok(claims)
}

/// Adds a column: 1 where the host is in one of these, else 0.
pub(super) fn push_taken(sql: &mut QueryBuilder<Db>, claims: &[Within]) {
    sql.push("CAST(CASE WHEN FALSE");
    for within in claims {
        sql.push(" OR (TRUE");
        push_groups(sql, within, "host.agentsn");
        sql.push(")");
    }
    sql.push(" THEN 1 ELSE 0 END AS BIGINT)");
}
