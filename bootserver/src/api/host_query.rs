//! Which hosts a query means, from what stands in a URL.

use std::net::IpAddr;

use serde::Deserialize;
use utoipa::IntoParams;

use super::list;
use crate::access::scope::Scope;
use crate::fleet::presence::Presence;
use crate::fleet::selector::Selector;
use crate::problem::Problem;
use crate::store::host::{
    AgentCondition, Direction, HostQuery, HostSort, MIN_SEARCH_CHARS, Reach, SortKey, SortValue,
};

/// Most characters one may search for.
const MAX_SEARCH_CHARS: usize = 128;

/// Which hosts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HostParams {
    /// Only hosts with such tags (indexed): `KEY=VALUE`, `KEY!=VALUE`,
    /// `KEY in (VALUE,VALUE)`, `KEY` and `!KEY`, all of which must hold.
    #[param(example = "svc=ecs,cmpt!=DB,region in (cn,eu)")]
    selector: Option<String>,
    /// Only hosts in the group of this id (indexed); an unknown one has none.
    group: Option<String>,
    /// Only host names that begin so (indexed).
    hostname: Option<String>,
    /// Only hosts with a sub-agent of this name (indexed).
    agent: Option<String>,
    /// Only hosts with a sub-agent of this version (with `agent`, the same one; indexed with it).
    agent_version: Option<String>,
    /// Only hosts with a sub-agent in this state (`running`, `stoped`, `fatal` or `killed`; with
    /// `agent`, the same one; indexed).
    agent_state: Option<String>,
    /// Only hosts of this `ID VERSION_ID`, to the letter (indexed).
    os: Option<String>,
    /// Only hosts of this architecture (indexed).
    arch: Option<String>,
    /// Only hosts with this `bootagent-VERSION-ARCH` (indexed).
    version: Option<String>,
    /// Only hosts with this very address (indexed).
    ip: Option<String>,
    /// Only hosts in this state (indexed): `new`, `online`, `late`, `offline`,
    /// `revoked` or `deleted`. Without it, all but deleted ones.
    state: Option<String>,
    /// Only hosts with this in their host name, display name or addresses
    /// (indexed), or with this agentsn. Case of ASCII letters does not matter.
    #[param(min_length = 3, max_length = 128)]
    search: Option<String>,
    /// `hostname` (the default), `created` or `since`; with `-` before it, the
    /// largest first (all indexed).
    #[param(example = "-created")]
    sort: Option<String>,
    /// Whether `total` shall say how many rows there are.
    total: Option<bool>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

impl HostParams {
    /// The query of all of its hosts, for a change of them: what makes a page of it is
    /// a mistake there, and what was deleted is not changed.
    pub fn filter(self, scope: Scope) -> Result<HostQuery, Problem> {
        let is_page = self.sort.is_some()
            || self.total.is_some()
            || self.cursor.is_some()
            || self.limit.is_some();
        if is_page {
            return Err(Problem::malformed(
                "sort, total, cursor and limit make a page; a change is for all hosts of the query",
            ));
        }
        let query = self.query(scope)?;
        match query.state {
            Some(Presence::Deleted) => Err(Problem::malformed(
                "state: a host that was deleted is not changed",
            )),
            _ => Ok(query),
        }
    }

    /// The query, restricted to a scope.
    pub fn query(self, scope: Scope) -> Result<HostQuery, Problem> {
        let selector = Selector::parse(self.selector.as_deref().unwrap_or_default())
            .map_err(|error| Problem::malformed(&format!("selector: {error}")))?;
        let sort = sort(self.sort.as_deref())?;
        let after: Option<(SortValue, String)> = list::cursor(self.cursor.as_deref())?;
        if after
            .as_ref()
            .is_some_and(|(value, _)| !value.fits(sort.key))
        {
            return Err(list::bad_cursor());
        }
        let agent = AgentCondition {
            name: self.agent,
            version: self.agent_version,
            state: self.agent_state,
        };
        if agent.version.is_some() && agent.name.is_none() {
            return Err(Problem::malformed("agent_version: name the agent, too"));
        }
        if self
            .ip
            .as_ref()
            .is_some_and(|ip| ip.parse::<IpAddr>().is_err())
        {
            return Err(Problem::malformed("ip: one whole address is expected"));
        }
        Ok(HostQuery {
            selector,
            group: self.group,
            hostname: self.hostname.filter(|prefix| !prefix.is_empty()),
            state: self.state.as_deref().map(state).transpose()?,
            scope,
            search: self.search.map(search).transpose()?,
            sort,
            after,
            count: list::count(self.total),
            limit: list::limit(self.limit)?,
            agent,
            os: self.os,
            arch: self.arch,
            version: self.version,
            ip: self.ip,
            reach: Reach::default(),
        })
    }
}

fn state(word: &str) -> Result<Presence, Problem> {
    Presence::parse(word).ok_or_else(|| {
        let words = Presence::ALL.map(Presence::word).join(", ");
        Problem::malformed(&format!("state: one of {words} is expected"))
    })
}

/// A text one can search for.
fn search(text: String) -> Result<String, Problem> {
    let length = text.chars().count();
    match (MIN_SEARCH_CHARS..=MAX_SEARCH_CHARS).contains(&length)
        && !text.chars().any(char::is_control)
    {
        true => Ok(text),
        false => Err(Problem::malformed(&format!(
            "search: {MIN_SEARCH_CHARS} to {MAX_SEARCH_CHARS} characters are expected"
        ))),
    }
}

fn sort(text: Option<&str>) -> Result<HostSort, Problem> {
    let text = text.unwrap_or("hostname");
    let (direction, word) = match text.strip_prefix('-') {
        Some(word) => (Direction::Down, word),
        None => (Direction::Up, text),
    };
    let key = match word {
        "hostname" => SortKey::Hostname,
        "created" => SortKey::Created,
        "since" => SortKey::Since,
        _ => {
            return Err(Problem::malformed(
                "sort: hostname, created or since is expected, or one with - before it",
            ));
        }
    };
    Ok(HostSort { key, direction })
}
