//! Groups, as the store takes and gives them.

use std::collections::BTreeSet;

use crate::fleet::group::NestingError;
use crate::fleet::selector::Selector;

use super::page::Limit;

/// A group of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its id.
    pub id: String,
    /// Its name, which no other group has.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The hosts it selects by their tags, if it does.
    pub selector: Option<Selector>,
    /// The groups directly in it.
    pub groups: BTreeSet<String>,
    /// How many hosts it names one by one.
    pub named: i64,
    /// When it was made.
    pub created: i64,
    /// Up by one with every change.
    pub version: i64,
}

/// What a group shall be.
#[derive(Debug, Clone)]
pub struct GroupTerms {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The hosts it selects by their tags.
    pub selector: Option<Selector>,
    /// The groups directly in it.
    pub groups: BTreeSet<String>,
    /// When.
    pub now: i64,
}

/// What came of storing a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupStored {
    /// It is stored; how it is now.
    Done(Group),
    /// There is no such group.
    Unknown,
    /// Somebody has changed it meanwhile.
    Changed,
    /// Another group has the name.
    NameTaken,
    /// Groups that shall be in it do not exist.
    UnknownGroups(Vec<String>),
    /// It cannot be nested so.
    Nesting(NestingError),
    /// There are as many groups as there may be.
    TooMany,
}

/// Hosts that a group names from now on, or no longer.
#[derive(Debug, Clone, Default)]
pub struct Naming {
    /// The group.
    pub id: String,
    /// Hosts to name.
    pub add: Vec<String>,
    /// Hosts to name no longer.
    pub remove: Vec<String>,
}

/// What came of naming hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// It is so; how the group is now.
    Done(Group),
    /// There is no such group.
    Unknown,
    /// These are no hosts of the fleet; nothing was changed.
    UnknownHosts(Vec<String>),
}

/// What came of deleting a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupDeleted {
    /// It is gone; its hosts are not.
    Done,
    /// There is no such group.
    Unknown,
    /// Somebody has changed it meanwhile.
    Changed,
    /// These groups have it in them.
    InUse(Vec<String>),
    /// These assignments are for its hosts.
    Assigned(Vec<String>),
    /// Somebody is restricted to it, by name; some of them when they are many.
    IsScope {
        /// Users.
        users: Vec<String>,
        /// API tokens in force.
        api_tokens: Vec<String>,
    },
}

/// Which groups, by name.
#[derive(Debug, Clone, Default)]
pub struct GroupQuery {
    /// After this name.
    pub after: Option<String>,
    /// At most so many.
    pub limit: Limit,
}
