//! Clues: conditions by whose index the hosts they leave are looked up.
//!
//! Where few hosts fit, or those that do stand together in the order of a list,
//! looking them up is quicker than going through the list. The one rule: a clue
//! finds every host its condition leaves, and no other if it says so.

use sqlx::QueryBuilder;

use super::member::{Within, push_list, push_tag};
use super::{Db, SqlStore, failed, host_agent, search};
use crate::fleet::presence::Presence;
use crate::fleet::selector::{Part, Selector};
use crate::store::Result;
use crate::store::host::AgentCondition;

/// Selectors of one group that are looked up; each takes a millisecond or two.
const MOST_LOOKED_UP: usize = 8;

/// One condition on hosts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Clue<'a> {
    /// This in names or addresses.
    Search(&'a str),
    /// This very address.
    Address(&'a str),
    /// Such a sub-agent.
    Agent(&'a AgentCondition),
    /// This column of `host`, which hosts report, is so.
    Reported(Column, &'a str),
    /// A tag with this key has one of these values, or any.
    Tag(&'a str, &'a [String]),
    /// In one of these groups.
    Within(&'a Within),
    /// The host name begins so.
    Hostname(&'a str),
    /// In this state.
    State(Presence),
}

/// What hosts report of which there is an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Version,
    Os,
    Arch,
}

impl Column {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Version => "host.version",
            Self::Os => "host.os",
            Self::Arch => "host.arch",
        }
    }
}

impl<'a> Clue<'a> {
    /// That a host's tags fit this part, if an index says who has such.
    pub(super) fn of_part(part: &'a Part) -> Option<Self> {
        match part {
            Part::In(key, values) => Some(Self::Tag(key, values)),
            Part::Has(key) => Some(Self::Tag(key, &[])),
            Part::Not(..) | Part::Lacks(_) => None,
        }
    }

    /// That a host is in one of these groups, if an index says who is.
    pub(super) fn of_groups(within: &'a Within) -> Option<Self> {
        let selectors = || within.iter().filter_map(|(_, selector)| selector.as_ref());
        let is_clear = !within.is_empty()
            && selectors().count() <= MOST_LOOKED_UP
            && selectors().all(|selector| of_selector(selector).is_some());
        is_clear.then_some(Self::Within(within))
    }

    /// Whether it finds no other hosts: of a selector only one part is looked up.
    pub(super) fn is_whole(self) -> bool {
        let Self::Within(within) = self else {
            return true;
        };
        let mut selectors = within.iter().filter_map(|(_, selector)| selector.as_ref());
        selectors.all(|selector| selector.parts().len() == 1)
    }

    /// Adds a query for the agentsn of these hosts, each of them once.
    pub(super) fn push(self, sql: &mut QueryBuilder<Db>) {
        match self {
            Self::Search(text) => search::push_find(sql, text),
            Self::Address(address) => {
                sql.push("SELECT agentsn FROM host_address WHERE address = ")
                    .push_bind(address.to_owned());
            }
            Self::Agent(condition) => host_agent::push_find(sql, condition),
            Self::Tag(key, values) => {
                sql.push("SELECT agentsn FROM host_tag WHERE TRUE");
                push_tag(sql, key, values);
            }
            Self::Within(within) => push_within(sql, within),
            Self::Reported(..) | Self::Hostname(_) | Self::State(_) => {
                sql.push("SELECT agentsn FROM host WHERE ");
                self.push_own(sql);
            }
        }
    }

    /// Adds the condition on columns of `host`; of what is elsewhere, nothing.
    pub(super) fn push_own(self, sql: &mut QueryBuilder<Db>) {
        match self {
            Self::Reported(column, value) => {
                sql.push(column.name())
                    .push(" = ")
                    .push_bind(value.to_owned());
            }
            Self::Hostname(prefix) => {
                // A range and not LIKE: it uses the index and knows no wildcards.
                sql.push("host.hostname >= ").push_bind(prefix.to_owned());
                sql.push(" AND host.hostname < ")
                    .push_bind(format!("{prefix}\u{10ffff}"));
            }
            Self::State(state) => {
                sql.push("host.state = ").push_bind(state.word());
                if state != Presence::Online {
                    // What the index of all other states says, to the letter.
                    sql.push(" AND host.state <> 'online'");
                }
            }
            Self::Search(_)
            | Self::Address(_)
            | Self::Agent(_)
            | Self::Tag(..)
            | Self::Within(_) => {
                sql.push("TRUE");
            }
        }
    }
}

/// Named by one of the groups, or with a tag that one of their selectors asks for.
fn push_within(sql: &mut QueryBuilder<Db>, within: &Within) {
    let ids: Vec<String> = within.iter().map(|(id, _)| id.clone()).collect();
    sql.push("SELECT agentsn FROM group_host WHERE id");
    push_list(sql, &ids);
    let selectors = within.iter().filter_map(|(_, selector)| selector.as_ref());
    for clue in selectors.filter_map(of_selector) {
        sql.push(" UNION ");
        clue.push(sql);
    }
}

fn of_selector(selector: &Selector) -> Option<Clue<'_>> {
    selector.parts().iter().find_map(Clue::of_part)
}

/// Of these, one that leaves at most so many hosts.
pub(super) async fn few<'a>(
    store: &SqlStore,
    clues: &[Clue<'a>],
    most: i64,
) -> Result<Option<Clue<'a>>> {
    for clue in clues {
        if count(store, *clue, most).await? <= most {
            return Ok(Some(*clue));
        }
    }
    Ok(None)
}

/// Of these, the one that leaves fewest hosts, if that is at most so many.
pub(super) async fn narrowest<'a>(
    store: &SqlStore,
    clues: &[Clue<'a>],
    most: i64,
) -> Result<Option<Clue<'a>>> {
    let mut narrowest = None;
    let mut bound = most;
    for clue in clues {
        let hosts = count(store, *clue, bound).await?;
        if hosts <= bound {
            narrowest = Some(*clue);
            bound = hosts - 1;
        }
    }
    Ok(narrowest)
}

/// How many hosts it leaves, as far as one more than `most`.
async fn count(store: &SqlStore, clue: Clue<'_>, most: i64) -> Result<i64> {
    let mut sql = QueryBuilder::new("SELECT count(*) FROM (");
    clue.push(&mut sql);
    sql.push(" LIMIT ").push_bind(most.saturating_add(1).max(0));
    sql.push(") AS found");
    sql.build_query_scalar()
        .fetch_one(&store.readers)
        .await
        .map_err(failed("counting the hosts one condition leaves"))
}
