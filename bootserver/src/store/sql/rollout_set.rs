//! Which hosts are targets: counted by what they are, and written down part by part.

use sqlx::QueryBuilder;

use super::host_filter::Conditions;
use super::member::{push_given, push_list};
use super::scope::{Bounds, bounds_of};
use super::{Db, SqlStore, failed, from_json, group, rollout_pack, to_json};
use crate::access::scope::Scope;
use crate::store::Result;
use crate::store::host::HostQuery;
use crate::store::rollout::{HostOfSet, SystemCount, TargetSet, Way};

/// Hosts of one part: statuses wait for the transaction that writes them.
const PART: usize = 24 * rollout_pack::HOSTS;

/// A part of a set, in its order.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Hosts, with the version each shall get in particular.
    pub(super) hosts: Vec<(String, Option<String>)>,
    /// Where the next part begins.
    pub(super) frozen_to: String,
    /// Whether it is the last one.
    pub(super) is_last: bool,
}

/// How many hosts a set has, by what they are.
pub(super) async fn count(
    store: &SqlStore,
    set: &TargetSet,
    scope: &Scope,
) -> Result<Vec<SystemCount>> {
    let query = host_query(set, scope)?;
    let look = Look::prepare(store, set, &query).await?;
    let rows: Vec<(String, String, Option<String>, i64)> = counted(&look)
        .build_query_as()
        .fetch_all(&store.readers)
        .await
        .map_err(failed("counting the hosts a rollout means"))?;
    let count = |(os, arch, version, hosts)| SystemCount {
        os,
        arch,
        version,
        hosts,
    };
    Ok(rows.into_iter().map(count).collect())
}

fn counted(look: &Look<'_>) -> QueryBuilder<Db> {
    // Not the bare column: SQLite would go by the index of systems, and from there to each
    // of a million hosts wherever it lies, which takes four times as long as all in a row.
    let mut sql = QueryBuilder::new("SELECT host.os || '', host.arch || '', ");
    sql.push(look.version()).push(" AS version, count(*)");
    look.push(&mut sql);
    // By their places: PostgreSQL takes a parameter for another one each time.
    sql.push(" GROUP BY 1, 2, 3 ORDER BY 1, 2, 3");
    sql
}

/// How the database would count all hosts.
#[cfg(test)]
pub(in crate::store) async fn plan_of_count(store: &SqlStore) -> String {
    let set = TargetSet::Query {
        selector: String::new(),
        group: None,
        hostname: None,
    };
    let query = host_query(&set, &Scope::fleet()).expect("a query");
    let look = Look::prepare(store, &set, &query).await.expect("a look");
    let text = format!("{}{}", super::EXPLAIN, counted(&look).sql().as_str());
    let rows = sqlx::query(sqlx::AssertSqlSafe(text))
        .fetch_all(&store.readers)
        .await
        .expect("a plan");
    let line = |row| sqlx::Row::get::<String, _>(row, super::PLAN_COLUMN);
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The first hosts of a set that are like one of these.
pub(super) async fn like(
    store: &SqlStore,
    set: &TargetSet,
    scope: &Scope,
    systems: &[SystemCount],
    most: usize,
) -> Result<Vec<HostOfSet>> {
    let query = host_query(set, scope)?;
    let look = Look::prepare(store, set, &query).await?;
    let mut hosts = Vec::new();
    for system in systems {
        let mut sql = QueryBuilder::new("SELECT host.agentsn, host.hostname, host.os, host.arch");
        look.push(&mut sql);
        sql.push(" AND host.os = ").push_bind(system.os.clone());
        sql.push(" AND host.arch = ").push_bind(system.arch.clone());
        if let Some(version) = &system.version {
            sql.push(" AND ").push(look.version()).push(" = ");
            sql.push_bind(version.clone());
        }
        let left = most.saturating_sub(hosts.len());
        sql.push(" ORDER BY host.agentsn LIMIT ")
            .push_bind(i64::try_from(left).unwrap_or(i64::MAX));
        let rows: Vec<(String, String, String, String)> = sql
            .build_query_as()
            .fetch_all(&store.readers)
            .await
            .map_err(failed("looking which hosts have no file"))?;
        let host = |(agentsn, hostname, os, arch)| HostOfSet {
            agentsn,
            hostname,
            os,
            arch,
        };
        hosts.extend(rows.into_iter().map(host));
    }
    Ok(hosts)
}

/// The part of a set that comes after what was written down.
pub(super) async fn part(
    store: &SqlStore,
    set: &TargetSet,
    scope: &Scope,
    frozen_to: &str,
) -> Result<Part> {
    let step = "looking which hosts a rollout means";
    let number = |text: &str| text.parse::<i64>().unwrap_or(-1);
    let most = i64::try_from(PART).unwrap_or(i64::MAX);
    let query = host_query(set, scope)?;
    let look = Look::prepare(store, set, &query).await?;
    let rows: Vec<(String, Option<String>, String)> = match set {
        TargetSet::Hosts(agentsns) => {
            let begin = usize::try_from(number(frozen_to) + 1).unwrap_or_default();
            let end = (begin + PART).min(agentsns.len());
            let part = agentsns.get(begin..end).unwrap_or_default();
            let place = |(place, agentsn): (usize, &String)| {
                (agentsn.clone(), None, (begin + place).to_string())
            };
            part.iter().enumerate().map(place).collect()
        }
        TargetSet::Query { .. } => {
            let mut sql = QueryBuilder::new(concat!("SELECT ", one_row!("agentsn")));
            sql.push(" FROM (SELECT host.agentsn");
            look.push(&mut sql);
            sql.push(" AND host.agentsn > ").push_bind(frozen_to);
            sql.push(" ORDER BY host.agentsn LIMIT ").push_bind(most);
            sql.push(") AS part");
            let found: String = sql
                .build_query_scalar()
                .fetch_one(&store.readers)
                .await
                .map_err(failed(step))?;
            let mut found: Vec<(String,)> = from_json(step, &found)?;
            found.sort_unstable();
            let host = |(agentsn,): (String,)| (agentsn.clone(), None, agentsn);
            found.into_iter().map(host).collect()
        }
        TargetSet::Former { .. } => {
            let mut sql = QueryBuilder::new("SELECT former.agentsn, ");
            sql.push(look.version())
                .push(", CAST(former.place AS TEXT)");
            look.push(&mut sql);
            sql.push(" AND former.place > ")
                .push_bind(number(frozen_to));
            sql.push(" ORDER BY former.place LIMIT ").push_bind(most);
            sql.build_query_as()
                .fetch_all(&store.readers)
                .await
                .map_err(failed(step))?
        }
    };
    let is_last = rows.len() < PART;
    let last = rows.last().map(|(_, _, key)| key.clone());
    Ok(Part {
        frozen_to: last.unwrap_or_else(|| frozen_to.to_owned()),
        is_last,
        hosts: rows
            .into_iter()
            .map(|(agentsn, version, _)| (agentsn, version))
            .collect(),
    })
}

/// A set, with what takes a look.
pub(super) enum Look<'a> {
    Hosts(&'a [String], Bounds),
    Query(Conditions<'a>, Option<&'a str>),
    Former(i64, Vec<String>, Way, Bounds),
}

impl<'a> Look<'a> {
    /// `query` is what [`host_query`] made of the set.
    pub(super) async fn prepare(
        store: &SqlStore,
        set: &'a TargetSet,
        query: &'a HostQuery,
    ) -> Result<Self> {
        Ok(match set {
            TargetSet::Hosts(agentsns) => {
                Self::Hosts(agentsns, bounds_of(store, &query.scope).await?)
            }
            TargetSet::Query { hostname, .. } => {
                let conditions = Conditions::prepare(store, query).await?;
                Self::Query(conditions, hostname.as_deref())
            }
            TargetSet::Former {
                rollout,
                states,
                way,
            } => {
                let states = states.iter().map(|state| state.word().to_owned());
                let bounds = bounds_of(store, &query.scope).await?;
                Self::Former(*rollout, states.collect(), *way, bounds)
            }
        })
    }

    /// The version each host shall get in particular.
    fn version(&self) -> &'static str {
        match self {
            Self::Hosts(..) | Self::Query(..) => "CAST(NULL AS TEXT)",
            Self::Former(_, _, Way::Again, _) => "former.version",
            Self::Former(_, _, Way::Back, _) => "coalesce(former.before, '')",
        }
    }

    /// Adds the FROM and the WHERE: hosts of the fleet.
    pub(super) fn push(&self, sql: &mut QueryBuilder<Db>) {
        match self {
            Self::Hosts(agentsns, bounds) => {
                sql.push(" FROM host WHERE host.agentsn IN (SELECT given.value FROM ");
                push_given(sql, to_json(agentsns));
                sql.push(")");
                bounds.restrict(sql, "host.agentsn");
                sql.push(" AND host.state <> 'deleted'");
            }
            Self::Query(conditions, hostname) => {
                sql.push(" FROM host");
                conditions.push(sql);
                if let Some(hostname) = hostname {
                    sql.push(" AND lower(host.hostname) LIKE ")
                        .push_bind(like_of(hostname))
                        .push(" ESCAPE '!'");
                }
            }
            Self::Former(rollout, states, way, bounds) => {
                sql.push(
                    " FROM rollout_target AS former
                      JOIN rollout AS source ON source.number = former.rollout
                      JOIN host ON host.agentsn = former.agentsn
                      WHERE host.state <> 'deleted' AND former.rollout = ",
                );
                sql.push_bind(*rollout).push(" AND former.state");
                push_list(sql, states);
                bounds.restrict(sql, "host.agentsn");
                if *way == Way::Back {
                    sql.push(
                        " AND coalesce(former.before, '')
                              <> coalesce(former.version, source.version, '')",
                    );
                }
            }
        }
        sql.push(" AND host.state <> 'revoked'");
    }
}

/// What a set asks of hosts, as their lists say it.
pub(super) fn host_query(set: &TargetSet, scope: &Scope) -> Result<HostQuery> {
    let mut query = HostQuery {
        scope: scope.clone(),
        ..HostQuery::default()
    };
    if let TargetSet::Query {
        selector, group, ..
    } = set
    {
        query.selector = group::selector(Some(selector))?.unwrap_or_default();
        query.group = group.clone();
    }
    Ok(query)
}

/// A text with `*` and `?` as LIKE says it; names of hosts know no large letters.
fn like_of(pattern: &str) -> String {
    let mut like = String::new();
    for character in pattern.to_ascii_lowercase().chars() {
        match character {
            '*' => like.push('%'),
            '?' => like.push('_'),
            '%' | '_' | '!' => like.extend(['!', character]),
            other => like.push(other),
        }
    }
    like
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_only_its_own_wildcards() {
        assert_eq!(like_of("DB-*_1?.50%!"), "db-%!_1_.50!%!!");
    }
}
