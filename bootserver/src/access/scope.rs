//! Which hosts a user or a token may see: all, or those of a set.
//!
//! The one rule: a scope only narrows. A token holds where its own set and its
//! maker's both do, and whoever is restricted does nothing that concerns hosts
//! outside.

use std::fmt;

use uuid::Uuid;

use crate::fleet::tags::{Tags, TagsError};

/// A set of hosts somebody may be restricted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostSet {
    /// Those with all of these tags, at least one.
    Tags(Tags),
    /// Those in the group of this id, as it is at the time.
    Group(String),
}

/// Why a text is no set of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostSetError {
    /// No kind we know.
    #[error("no kind of host set is known by this name")]
    UnknownKind,
    /// What is no id of a group.
    #[error("the id of a group is expected")]
    NoGroup,
    /// No tags.
    #[error("an empty selector would mean every host; name a tag")]
    Empty,
    /// More than anybody needs.
    #[error("at most {MAX_SETS} sets of hosts are allowed")]
    TooMany,
    /// Tags that cannot be.
    #[error(transparent)]
    Tags(#[from] TagsError),
}

impl HostSet {
    /// The hosts a selector means.
    pub fn tags(selector: &str) -> Result<Self, HostSetError> {
        let tags = Tags::parse(selector)?;
        match tags.is_empty() {
            true => Err(HostSetError::Empty),
            false => Ok(Self::Tags(tags)),
        }
    }

    /// The hosts in a group.
    pub fn group(id: &str) -> Result<Self, HostSetError> {
        let id = Uuid::try_parse(id).map_err(|_| HostSetError::NoGroup)?;
        Ok(Self::Group(id.hyphenated().to_string()))
    }

    /// Reads what [`fmt::Display`] wrote, for the store.
    pub fn parse(text: &str) -> Result<Self, HostSetError> {
        match text.split_once(':') {
            Some(("tags", selector)) => Self::tags(selector),
            Some(("group", id)) => Self::group(id),
            _ => Err(HostSetError::UnknownKind),
        }
    }
}

impl fmt::Display for HostSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tags(tags) => write!(f, "tags:{tags}"),
            Self::Group(id) => write!(f, "group:{id}"),
        }
    }
}

/// Most sets of one scope.
const MAX_SETS: usize = 16;

/// The hosts somebody may see: those in every one of some sets. Without a set
/// that is the whole fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope(Vec<HostSet>);

impl Scope {
    /// Every host.
    pub fn fleet() -> Self {
        Self::default()
    }

    /// The hosts that are in all of these sets.
    pub fn of(sets: impl IntoIterator<Item = HostSet>) -> Result<Self, HostSetError> {
        let scope = sets.into_iter().fold(Self::fleet(), Self::with);
        match scope.0.len() > MAX_SETS {
            true => Err(HostSetError::TooMany),
            false => Ok(scope),
        }
    }

    /// Reads what [`Scope::to_texts`] wrote, for the store.
    pub fn from_texts(texts: &[String]) -> Result<Self, HostSetError> {
        let sets: Result<Vec<_>, _> = texts.iter().map(|text| HostSet::parse(text)).collect();
        Ok(Self(sets?))
    }

    /// Its sets as text.
    pub fn to_texts(&self) -> Vec<String> {
        self.0.iter().map(HostSet::to_string).collect()
    }

    /// The hosts that are in both.
    pub fn and(self, other: Self) -> Self {
        other.0.into_iter().fold(self, Self::with)
    }

    fn with(mut self, set: HostSet) -> Self {
        if !self.0.contains(&set) {
            self.0.push(set);
        }
        self
    }

    /// Whether it restricts nothing.
    pub fn is_fleet(&self) -> bool {
        self.0.is_empty()
    }

    /// The sets a host must be in, all of them.
    pub fn sets(&self) -> &[HostSet] {
        &self.0
    }

    /// The tags a host must have, as the pairs that must all be there. Two
    /// values of one key leave no host.
    pub fn required_tags(&self) -> impl Iterator<Item = (&str, &str)> {
        let tags = self.0.iter().filter_map(|set| match set {
            HostSet::Tags(tags) => Some(tags.iter()),
            HostSet::Group(_) => None,
        });
        tags.flatten()
    }

    /// The groups a host must be in, all of them, by id.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|set| match set {
            HostSet::Tags(_) => None,
            HostSet::Group(id) => Some(id.as_str()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(selector: &str) -> Scope {
        Scope::of([HostSet::tags(selector).expect("a selector")]).expect("one set")
    }

    #[test]
    fn a_set_reads_and_writes_back() {
        let set = HostSet::tags("svc=ecs,cmpt=DB").expect("a selector");
        assert_eq!(set.to_string(), "tags:cmpt=DB,svc=ecs");
        assert_eq!(HostSet::parse(&set.to_string()), Ok(set));
    }

    #[test]
    fn a_set_that_would_mean_every_host_is_refused() {
        assert_eq!(HostSet::tags(" , "), Err(HostSetError::Empty));
        assert_eq!(HostSet::parse("tags:"), Err(HostSetError::Empty));
        assert_eq!(HostSet::parse("all"), Err(HostSetError::UnknownKind));
        assert!(matches!(
            HostSet::parse("tags:x"),
            Err(HostSetError::Tags(_))
        ));
    }

    #[test]
    fn a_group_has_one_spelling() {
        let id = "0198C0DE-0000-7000-8000-00000000000A";
        let set = HostSet::group(id).expect("an id");
        assert_eq!(set.to_string(), format!("group:{}", id.to_lowercase()));
        assert_eq!(HostSet::parse(&set.to_string()), Ok(set));
        assert_eq!(HostSet::group("databases"), Err(HostSetError::NoGroup));
    }

    #[test]
    fn two_scopes_together_require_what_both_require() {
        let group = HostSet::group("0198c0de-0000-7000-8000-00000000000a").expect("an id");
        let group = Scope::of([group]).expect("one set");
        let all = scope("svc=ecs").and(group).and(scope("cmpt=DB"));
        let tags: Vec<_> = all.required_tags().collect();
        assert_eq!(tags, [("svc", "ecs"), ("cmpt", "DB")]);
        assert_eq!(all.groups().count(), 1);
        assert_eq!(Scope::from_texts(&all.to_texts()), Ok(all));
        assert_eq!(Scope::fleet().and(scope("svc=ecs")), scope("svc=ecs"));
        assert!(!scope("svc=ecs").and(Scope::fleet()).is_fleet());
        assert_eq!(scope("svc=ecs").and(scope("svc=ecs")), scope("svc=ecs"));
    }

    #[test]
    fn two_values_of_one_key_are_both_required() {
        let none = scope("svc=ecs").and(scope("svc=web"));
        assert_eq!(none.required_tags().count(), 2);
        assert!(!none.is_fleet());
    }
}
