//! Which hosts an order means.

use std::collections::HashSet;

use super::CreateJobs;
use crate::access::scope::Scope;
use crate::api::list;
use crate::app::App;
use crate::fleet::selector::Selector;
use crate::problem::Problem;
use crate::store::host::{Direction, HostQuery, HostSort, HostSummary, SortKey};
use crate::store::page::{Limit, MAX_LIMIT};
use crate::wire;

/// Most hosts of one order; a rollout is for more.
const MAX_HOSTS: usize = 10_000;

/// The hosts an order means, each once.
pub(super) async fn hosts(
    app: &App,
    order: &CreateJobs,
    scope: &Scope,
) -> Result<Vec<HostSummary>, Problem> {
    let is_query = order.selector.is_some() || order.group.is_some();
    let hosts = match (is_query, order.hosts.is_empty()) {
        (true, true) => selected(app, order, scope).await,
        (false, false) => listed(app, &order.hosts, scope).await,
        (true, false) | (false, true) => Err(Problem::invalid(
            "either hosts, or selector and group, is expected, and not both",
        )),
    }?;
    match order.expected_hosts {
        Some(expected) if usize::try_from(expected) != Ok(hosts.len()) => {
            Err(Problem::conflict(&format!(
                "{expected} hosts were expected and there are {}; nothing was started",
                hosts.len()
            )))
        }
        Some(_) | None => Ok(hosts),
    }
}

async fn selected(
    app: &App,
    order: &CreateJobs,
    scope: &Scope,
) -> Result<Vec<HostSummary>, Problem> {
    let selector = Selector::parse(order.selector.as_deref().unwrap_or_default())
        .map_err(|error| Problem::invalid(&format!("selector: {error}")))?;
    if order.selector.is_some() && selector.is_empty() {
        return Err(Problem::invalid(
            "selector: an empty one would mean every host; name a tag",
        ));
    }
    let limit = Limit::new(MAX_LIMIT).expect("the largest limit is allowed");
    let mut query = HostQuery {
        selector,
        group: order.group.clone(),
        scope: scope.clone(),
        limit,
        // What never changes, so that a host that is renamed meanwhile is neither
        // left out nor there twice.
        sort: HostSort {
            key: SortKey::Created,
            direction: Direction::Up,
        },
        ..HostQuery::default()
    };
    let mut hosts = Vec::new();
    loop {
        let page = app.store.hosts(&query).await?;
        let members = page.items.into_iter();
        hosts.extend(members.filter(|host| host.state.is_member()));
        if hosts.len() > MAX_HOSTS {
            return Err(too_many());
        }
        let Some(next) = page.next else { break };
        query.after = list::cursor(Some(&next))?;
    }
    match hosts.is_empty() {
        true => Err(Problem::invalid(
            "selector and group: there is no such host",
        )),
        false => Ok(hosts),
    }
}

async fn listed(
    app: &App,
    agentsns: &[String],
    scope: &Scope,
) -> Result<Vec<HostSummary>, Problem> {
    if agentsns.len() > MAX_HOSTS {
        return Err(too_many());
    }
    let mut wanted = Vec::with_capacity(agentsns.len());
    let mut unknown = Vec::new();
    for text in agentsns {
        match wire::agentsn(text) {
            Ok(agentsn) => wanted.push(agentsn),
            Err(_) => unknown.push(bootagent_protocol::truncate(text, 80).to_owned()),
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    let mut hosts = app.store.hosts_by_agentsn(&wanted, scope).await?;
    hosts.retain(|host| host.state.is_member());
    let known: HashSet<&str> = hosts.iter().map(|host| host.agentsn.as_str()).collect();
    unknown.extend(
        wanted
            .iter()
            .filter(|agentsn| !known.contains(agentsn.as_str()))
            .cloned(),
    );
    match unknown.is_empty() {
        true => Ok(hosts),
        false => Err(Problem::unknown_hosts(unknown)),
    }
}

fn too_many() -> Problem {
    Problem::invalid(&format!(
        "one order may name at most {MAX_HOSTS} hosts; narrow it"
    ))
}
