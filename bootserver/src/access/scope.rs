//! Which hosts a user or a token may see: all, or those of a set.
//!
//! The one rule: a scope only narrows. A token holds where its own set and its
//! maker's both do, and whoever is restricted does nothing that concerns hosts
//! outside.

use std::fmt;

use crate::fleet::tags::{Tags, TagsError};

/// A set of hosts somebody may be restricted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostSet {
    /// Those with all of these tags, at least one.
    Tags(Tags),
}

/// Why a text is no set of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostSetError {
    /// No kind we know.
    #[error("no kind of host set is known by this name")]
    UnknownKind,
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

    /// Reads what [`fmt::Display`] wrote, for the store.
    pub fn parse(text: &str) -> Result<Self, HostSetError> {
        match text.split_once(':') {
            Some(("tags", selector)) => Self::tags(selector),
            _ => Err(HostSetError::UnknownKind),
        }
    }
}

impl fmt::Display for HostSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tags(tags) => write!(f, "tags:{tags}"),
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
        self.0.iter().flat_map(|set| match set {
            HostSet::Tags(tags) => tags.iter(),
        })
    }

    /// Whether a host with these tags is in it.
    pub fn holds(&self, tags: &Tags) -> bool {
        self.required_tags()
            .all(|(key, value)| tags.get(key) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(selector: &str) -> Scope {
        Scope::of([HostSet::tags(selector).expect("a selector")]).expect("one set")
    }

    fn tags(text: &str) -> Tags {
        Tags::parse(text).expect("tags")
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
    fn two_scopes_together_hold_what_both_hold() {
        let both = scope("svc=ecs").and(scope("cmpt=DB"));
        assert!(both.holds(&tags("svc=ecs,cmpt=DB,rack=7")));
        assert!(!both.holds(&tags("svc=ecs")));
        assert!(!both.holds(&tags("cmpt=DB")));
        let texts = both.to_texts();
        assert_eq!(texts, ["tags:svc=ecs", "tags:cmpt=DB"]);
        assert_eq!(Scope::from_texts(&texts), Ok(both));
        assert!(Scope::fleet().and(scope("svc=ecs")).holds(&tags("svc=ecs")));
        assert!(!scope("svc=ecs").and(Scope::fleet()).is_fleet());
        assert_eq!(scope("svc=ecs").and(scope("svc=ecs")), scope("svc=ecs"));
    }

    #[test]
    fn two_values_of_one_key_leave_no_host() {
        let none = scope("svc=ecs").and(scope("svc=web"));
        assert!(!none.holds(&tags("svc=ecs")) && !none.holds(&tags("svc=web")));
        assert!(!none.is_fleet());
    }
}
