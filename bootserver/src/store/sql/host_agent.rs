//! The sub-agents of hosts as a table one can ask: name, version and state.
//!
//! It says what is in the hosts' states again, so it is compared first and
//! written only where it differs; most statuses change neither.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sqlx::QueryBuilder;

use super::{Db, Write, failed, from_json, to_json};
use crate::store::Result;
use crate::store::batch::StateRow;
use crate::store::host::AgentCondition;

/// A host and one of its agents.
type Key = (String, String);
/// Its version and state.
type Said = (String, String);

/// Brings the agents of these hosts up to date. Their rows in `host_seen` are
/// locked, so nobody else writes them meanwhile.
pub(super) async fn note(tx: &mut Write, hosts: &[&StateRow<'_>]) -> Result<()> {
    let step = "storing the agents of hosts";
    if hosts.is_empty() {
        return Ok(());
    }
    let agentsns: Vec<&str> = hosts.iter().map(|row| row.agentsn).collect();
    let rows: String = sqlx::query_scalar(concat!(
        "SELECT ",
        one_row!("agentsn, name, version, state"),
        " FROM host_agent WHERE agentsn IN (SELECT given.value FROM ",
        given_texts!("$1"),
        ")"
    ))
    .bind(to_json(&agentsns))
    .fetch_one(&mut **tx)
    .await
    .map_err(failed(step))?;
    let rows: Vec<(String, String, String, String)> = from_json(step, &rows)?;
    let before: BTreeMap<Key, Said> = rows
        .into_iter()
        .map(|(agentsn, name, version, state)| ((agentsn, name), (version, state)))
        .collect();
    let after = agents(hosts);
    let gone: BTreeSet<&Key> = before
        .keys()
        .filter(|key| !after.contains_key(key))
        .collect();
    let changed: Vec<_> = after
        .iter()
        .filter(|(key, said)| before.get(key) != Some(said))
        .map(|((agentsn, name), (version, state))| json!([agentsn, name, version, state]))
        .collect();
    if !gone.is_empty() {
        sqlx::query(concat!(
            "DELETE FROM host_agent WHERE (agentsn, name) IN
             (SELECT given.value ->> 0, given.value ->> 1 FROM ",
            given_rows!("$1"),
            ")"
        ))
        .bind(to_json(&gone))
        .execute(&mut **tx)
        .await
        .map_err(failed(step))?;
    }
    if !changed.is_empty() {
        sqlx::query(concat!(
            "INSERT INTO host_agent (agentsn, name, version, state)
             SELECT given.value ->> 0, given.value ->> 1, given.value ->> 2, given.value ->> 3 FROM ",
            given_rows!("$1"),
            " WHERE TRUE ON CONFLICT (agentsn, name) DO UPDATE
                  SET version = excluded.version, state = excluded.state"
        ))
        .bind(to_json(&changed))
        .execute(&mut **tx)
        .await
        .map_err(failed(step))?;
    }
    Ok(())
}

fn agents(hosts: &[&StateRow<'_>]) -> BTreeMap<Key, Said> {
    let agents = hosts.iter().flat_map(|host| {
        let agents = host.body.agents.iter();
        agents.map(|agent| {
            let key = (host.agentsn.to_owned(), agent.name.clone());
            (
                key,
                (agent.version.clone(), agent.status.as_str().to_owned()),
            )
        })
    });
    agents.collect()
}

/// The state of most, which no index of states has.
const RUNNING: &str = "running";

/// Adds what must hold of a row, but for whose it is.
pub(super) fn push(sql: &mut QueryBuilder<Db>, condition: &AgentCondition) {
    for (column, value) in [
        (" AND host_agent.name = ", &condition.name),
        (" AND host_agent.version = ", &condition.version),
        (" AND host_agent.state = ", &condition.state),
    ] {
        if let Some(value) = value {
            sql.push(column).push_bind(value.clone());
        }
    }
}

/// Adds a query for the hosts with such a sub-agent.
pub(super) fn push_find(sql: &mut QueryBuilder<Db>, condition: &AgentCondition) {
    sql.push("SELECT DISTINCT agentsn FROM host_agent WHERE TRUE");
    push(sql, condition);
    if condition
        .state
        .as_deref()
        .is_some_and(|state| state != RUNNING)
    {
        // What the index of all other states says, to the letter.
        sql.push(" AND host_agent.state <> 'running'");
    }
}
