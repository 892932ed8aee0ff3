//! Which hosts a query means, as conditions on the table `host`.

use sqlx::QueryBuilder;

use super::host_clue::{Clue, Column};
use super::member::{self, Within, push_groups, push_part};
use super::scope::{self, Bounds};
use super::{AMONG, Db, SqlStore, host_agent, search};
use crate::fleet::presence::Presence;
use crate::store::Result;
use crate::store::host::{HostQuery, SortKey};

/// What must hold of a host, once everything is known that takes a look.
pub(super) struct Conditions<'a> {
    query: &'a HostQuery,
    bounds: Bounds,
    within: Option<Within>,
}

/// An index that has hosts in the order of a list, those of one condition alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) index: &'static str,
    pub(super) of: Option<Clue<'a>>,
}

impl<'a> Conditions<'a> {
    /// Looks up what groups are made of.
    pub(super) async fn prepare(store: &SqlStore, query: &'a HostQuery) -> Result<Self> {
        let bounds = scope::bounds_of(store, &query.scope).await?;
        let within = match &query.group {
            Some(id) => Some(member::within_of(store, id).await?),
            None => None,
        };
        Ok(Self {
            query,
            bounds,
            within,
        })
    }

    /// All that has an index, what mostly leaves few hosts first.
    pub(super) fn clues(&self) -> Vec<Clue<'_>> {
        let query = self.query;
        let mut clues = Vec::new();
        clues.extend(query.search.as_deref().map(Clue::Search));
        clues.extend(query.ip.as_deref().map(Clue::Address));
        if !query.agent.is_empty() {
            clues.push(Clue::Agent(&query.agent));
        }
        clues.extend(query.hostname.as_deref().map(Clue::Hostname));
        clues.extend(self.reported());
        clues.extend(query.selector.parts().iter().filter_map(Clue::of_part));
        let tags = self.bounds.tags().iter();
        clues.extend(tags.map(|(key, value)| Clue::Tag(key, std::slice::from_ref(value))));
        let groups = self.bounds.groups().iter().chain(&self.within);
        clues.extend(groups.filter_map(Clue::of_groups));
        clues.extend(query.state.map(Clue::State));
        clues
    }

    /// The way through the hosts in the order of the list.
    pub(super) fn walk(&self) -> Walk<'_> {
        let of_state = self.query.state.map(Clue::State);
        let other = of_state.filter(|_| self.query.state != Some(Presence::Online));
        let (index, of) = match self.query.sort.key {
            SortKey::Created => ("host_by_created", None),
            SortKey::Since => match other {
                Some(state) => ("host_by_state_and_since", Some(state)),
                None => ("host_by_since", None),
            },
            SortKey::Hostname => match other.or(self.reported().next()).or(of_state) {
                Some(state @ Clue::State(_)) => ("host_by_state", Some(state)),
                Some(clue @ Clue::Reported(column, _)) => {
                    let index = match column {
                        Column::Version => "host_by_version_and_name",
                        Column::Os => "host_by_os_and_name",
                        Column::Arch => "host_by_arch_and_name",
                    };
                    (index, Some(clue))
                }
                _ => ("host_by_hostname", None),
            },
        };
        Walk { index, of }
    }

    /// Whether every host of this way fits, but for those that were deleted.
    pub(super) fn all_on(&self, walk: &Walk<'_>) -> bool {
        let by_name = self.query.sort.key == SortKey::Hostname;
        let is_kept = |clue: &Clue<'_>| {
            walk.of == Some(*clue) || by_name && matches!(clue, Clue::Hostname(_))
        };
        let parts = self.query.selector.parts();
        self.query.scope.is_fleet()
            && self.within.is_none()
            && parts.is_empty()
            && self.clues().iter().all(is_kept)
    }

    /// Whether a text to search for is all that is asked.
    pub(super) fn only_search(&self) -> Option<&'a str> {
        let is_only = self.query.scope.is_fleet()
            && self.within.is_none()
            && self.query.selector.is_empty()
            && self.clues().len() == 1;
        self.query.search.as_deref().filter(|_| is_only)
    }

    /// What hosts report, and what of it is asked for.
    fn reported(&self) -> impl Iterator<Item = Clue<'_>> {
        let query = self.query;
        let reported = [
            (Column::Version, &query.version),
            (Column::Os, &query.os),
            (Column::Arch, &query.arch),
        ];
        let clue = |(column, value): (_, &'a Option<String>)| {
            Some(Clue::Reported(column, value.as_deref()?))
        };
        reported.into_iter().filter_map(clue)
    }

    /// Adds the WHERE to a query of the table `host`.
    pub(super) fn push(&self, sql: &mut QueryBuilder<Db>) {
        sql.push(" WHERE TRUE");
        self.push_without(sql, None);
    }

    /// Adds the WHERE to a query of the table `host` that looks up those of a clue.
    pub(super) fn push_among(&self, sql: &mut QueryBuilder<Db>, clue: Clue<'_>) {
        let (open, close) = AMONG;
        sql.push(" WHERE host.agentsn").push(open);
        clue.push(sql);
        sql.push(close);
        self.push_without(sql, Some(clue));
    }

    /// Adds all conditions but the one a clue leaves nothing to ask of.
    pub(super) fn push_without(&self, sql: &mut QueryBuilder<Db>, clue: Option<Clue<'_>>) {
        let query = self.query;
        let whole = clue.filter(|clue| clue.is_whole());
        let is_asked = |condition: Clue<'_>| whole != Some(condition);
        if query.state.is_none() {
            sql.push(" AND host.state <> 'deleted'");
        }
        self.bounds.restrict(sql, "host.agentsn");
        for part in query.selector.parts() {
            if Clue::of_part(part).is_none_or(is_asked) {
                sql.push(" AND ");
                push_part(sql, part, "host.agentsn");
            }
        }
        if let Some(within) = &self.within
            && is_asked(Clue::Within(within))
        {
            push_groups(sql, within, "host.agentsn");
        }
        let own = self.reported();
        let own = own.chain(query.hostname.as_deref().map(Clue::Hostname));
        let own = own.chain(query.state.map(Clue::State));
        for condition in own.filter(|condition| is_asked(*condition)) {
            sql.push(" AND ");
            condition.push_own(sql);
        }
        if let Some(ip) = &query.ip
            && is_asked(Clue::Address(ip))
        {
            search::push_address(sql, ip);
        }
        if let Some(text) = &query.search
            && is_asked(Clue::Search(text))
        {
            search::push_look(sql, text);
        }
        if !query.agent.is_empty() && is_asked(Clue::Agent(&query.agent)) {
            sql.push(
                " AND EXISTS (SELECT 1 FROM host_agent WHERE host_agent.agentsn = host.agentsn",
            );
            host_agent::push(sql, &query.agent);
            sql.push(")");
        }
    }
}
