//! Groups of hosts: named one by one, by a selector, and by other groups.
//!
//! A host is in a group when any of the three says so. The one rule: no group is
//! in itself, over however many others.

use std::collections::{BTreeMap, BTreeSet};

/// Most groups there are.
pub const MAX_GROUPS: usize = 1000;
/// Most groups within one, over all levels.
pub const MAX_WITHIN: usize = 64;
/// Most groups that are directly in one.
pub const MAX_DIRECT: usize = 32;
/// Most hosts named in one change.
pub const MAX_NAMED: usize = 10_000;

/// Which group has which others directly.
pub type Edges = BTreeMap<String, BTreeSet<String>>;

/// Why groups cannot be nested so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NestingError {
    /// The group would be in itself.
    #[error("group {0} would be in itself")]
    Cycle(String),
    /// A group with too many others in it.
    #[error(
        "group {0} would have more than {MAX_WITHIN} groups in it, or {MAX_DIRECT} of them directly"
    )]
    TooMany(String),
}

/// A group and all that are in it, over all levels.
pub fn within(edges: &Edges, group: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::from([group.to_owned()]);
    let mut next = vec![group.to_owned()];
    while let Some(group) = next.pop() {
        for child in edges.get(&group).into_iter().flatten() {
            if found.insert(child.clone()) {
                next.push(child.clone());
            }
        }
    }
    found
}

/// These groups and all that they are in, over all levels.
pub fn around(edges: &Edges, groups: BTreeSet<String>) -> BTreeSet<String> {
    let mut found = groups;
    loop {
        let holders = edges.iter();
        let holders = holders.filter(|(_, children)| !children.is_disjoint(&found));
        let more: BTreeSet<String> = holders
            .map(|(holder, _)| holder)
            .filter(|holder| !found.contains(*holder))
            .cloned()
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Whether `group` may have these groups directly: no group is in itself, and
/// neither it nor one it is in becomes too large.
pub fn nest(edges: &Edges, group: &str, children: &BTreeSet<String>) -> Result<(), NestingError> {
    let mut edges = edges.clone();
    edges.insert(group.to_owned(), children.clone());
    let reaches_itself = |child: &String| within(&edges, child).contains(group);
    if children.iter().any(reaches_itself) {
        return Err(NestingError::Cycle(group.to_owned()));
    }
    if children.len() > MAX_DIRECT {
        return Err(NestingError::TooMany(group.to_owned()));
    }
    let holders = edges.keys().filter(|holder| {
        let all = within(&edges, holder);
        all.contains(group) && all.len() > MAX_WITHIN + 1
    });
    match holders.min() {
        Some(holder) => Err(NestingError::TooMany(holder.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(pairs: &[(&str, &[&str])]) -> Edges {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let pairs = pairs.iter();
        pairs
            .map(|(group, children)| ((*group).to_owned(), set(children)))
            .collect()
    }

    fn check(
        pairs: &[(&str, &[&str])],
        group: &str,
        children: &[&str],
    ) -> Result<(), NestingError> {
        let children = children.iter().map(|name| (*name).to_owned()).collect();
        nest(&edges(pairs), group, &children)
    }

    #[test]
    fn a_group_is_in_those_that_have_it_over_all_levels() {
        let edges = edges(&[
            ("top", &["mid", "other"]),
            ("mid", &["low"]),
            ("far", &["x"]),
        ]);
        let of = |group: &str| around(&edges, BTreeSet::from([group.to_owned()]));
        assert_eq!(
            of("low").into_iter().collect::<Vec<_>>(),
            ["low", "mid", "top"]
        );
        assert_eq!(of("top").len(), 1);
        assert!(around(&edges, BTreeSet::new()).is_empty());
    }

    #[test]
    fn a_group_is_never_in_itself() {
        let cycle = |name: &str| Err(NestingError::Cycle(name.into()));
        assert_eq!(check(&[], "a", &["a"]), cycle("a"));
        assert_eq!(
            check(&[("b", &["c"]), ("c", &["a"])], "a", &["b"]),
            cycle("a")
        );
        assert_eq!(
            check(&[("b", &["c"]), ("c", &["d"])], "a", &["b", "c", "d"]),
            Ok(())
        );
        // What the group had before does not count.
        assert_eq!(check(&[("a", &["b"])], "b", &["a"]), cycle("b"));
        assert_eq!(check(&[("a", &["b"]), ("b", &["c"])], "b", &[]), Ok(()));
    }

    #[test]
    fn all_levels_are_within() {
        let edges = edges(&[
            ("a", &["b", "c"]),
            ("b", &["d"]),
            ("c", &["d"]),
            ("x", &["a"]),
        ]);
        let all: Vec<String> = within(&edges, "a").into_iter().collect();
        assert_eq!(all, ["a", "b", "c", "d"]);
        assert_eq!(within(&edges, "unknown").len(), 1);
    }

    #[test]
    fn a_group_that_others_make_too_large_is_named() {
        let names: Vec<String> = (0..MAX_DIRECT * 3).map(|n| format!("g{n:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (first, rest) = names.split_at(MAX_DIRECT);
        let (second, third) = rest.split_at(MAX_DIRECT - 2);
        let pairs: [(&str, &[&str]); 2] = [("a", &["b", "c"]), ("b", first)];
        assert_eq!(check(&pairs, "c", second), Ok(()));
        let more = &third[..MAX_DIRECT];
        assert_eq!(
            check(&pairs, "c", more),
            Err(NestingError::TooMany("a".into()))
        );
        assert_eq!(
            check(&[], "a", &names),
            Err(NestingError::TooMany("a".into()))
        );
    }
}
