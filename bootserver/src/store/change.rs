//! What changed, as those who follow the platform are told: a topic, what became
//! of it, and ids. Never contents: who hears of a change fetches what it may see.
//!
//! The one rule: it is told when it is committed, and not otherwise.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Most ids of one change; of more it is only said that there are some.
pub const MAX_IDS: usize = 100;
/// Most bytes of what one transaction tells: PostgreSQL's NOTIFY takes less than
/// 8000.
const MAX_TEXT: usize = 7900;

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Hosts, by agentsn: `new`, `online`, `late`, `offline`, `revoked`, `deleted`, `changed` by
    /// themselves, `edited` or `tagged` by operators.
    Host,
    /// Events of hosts, by number: `new`.
    Event,
    /// Jobs: `ordered`, `sent`, `accepted`, `finished`, `cancelling` or `cancelled`.
    Job,
    /// Packages: `new` or `deleted`.
    Package,
    /// Groups: `new`, `edited` or `deleted`.
    Group,
    /// Rollouts: `new`, `moved` where targets or its stage are elsewhere, `followed` by a retry
    /// or a way back, or what it is doing from now on: `unconfirmed`, `running`, `paused`, `stopping` or `ended`.
    Rollout,
    /// Assignments: `new`, `edited`, `deleted`, `moved`, or what one is doing from now on:
    /// `unconfirmed`, `running` or `paused`.
    Assignment,
}

impl Topic {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Host,
        Self::Event,
        Self::Job,
        Self::Package,
        Self::Group,
        Self::Rollout,
        Self::Assignment,
    ];

    /// As messages say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Event => "event",
            Self::Job => "job",
            Self::Package => "package",
            Self::Group => "group",
            Self::Rollout => "rollout",
            Self::Assignment => "assignment",
        }
    }

    /// Reads what [`Topic::as_str`] says.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.as_str() == text)
    }
}

/// Which things changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Which {
    /// These, at most [`MAX_IDS`].
    Ids(Vec<String>),
    /// More than are named.
    Many,
}

/// What became of some things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What they are.
    pub topic: Topic,
    /// What became of them, in one word.
    pub what: Cow<'static, str>,
    /// Which ones.
    pub which: Which,
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// From here on everything is heard; what was before may have been missed.
    Gap,
    /// What one transaction did.
    Changes(Vec<Change>),
}

/// What a transaction will tell once it is committed.
#[derive(Debug, Default)]
pub struct Told(Vec<Change>);

impl Told {
    /// Adds what became of some things.
    pub fn add<I>(&mut self, topic: Topic, what: &'static str, ids: I)
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let mut ids = ids.into_iter();
        let named: Vec<String> = ids.by_ref().take(MAX_IDS).map(Into::into).collect();
        if named.is_empty() {
            return;
        }
        let which = match ids.next() {
            Some(_) => Which::Many,
            None => Which::Ids(named),
        };
        let what = Cow::Borrowed(what);
        merge(&mut self.0, Change { topic, what, which });
    }

    /// All of it, no larger than a database takes; mostly nothing.
    pub fn finish(mut self) -> Vec<Change> {
        while !self.0.is_empty() && text(&self.0).len() > MAX_TEXT {
            // The largest says the least that is worth its room.
            let sized = self.0.iter_mut().filter(|one| one.which != Which::Many);
            let Some(largest) = sized.max_by_key(|one| text(&[(*one).clone()]).len()) else {
                break;
            };
            largest.which = Which::Many;
        }
        self.0
    }
}

/// As it goes from one server to the others.
pub fn text(changes: &[Change]) -> String {
    serde_json::to_string(changes).expect("words and ids always serialise")
}

impl Change {
    /// Whether somebody may not see things any more who could until now.
    pub fn hides(&self) -> bool {
        self.topic == Topic::Host && ["tagged", "deleted"].contains(&&*self.what)
    }
}

/// Reads it. A change this version does not know is about something nobody could
/// ask it for; nothing when not even a list can be read.
pub fn parse(text: &str) -> Option<Vec<Change>> {
    let changes: Vec<serde_json::Value> = serde_json::from_str(text).ok()?;
    let known = changes.into_iter();
    Some(
        known
            .filter_map(|one| serde_json::from_value(one).ok())
            .collect(),
    )
}

/// Adds a change to others, to one of its kind if there is one.
pub fn merge(changes: &mut Vec<Change>, new: Change) {
    let is_alike = |one: &&mut Change| one.topic == new.topic && one.what == new.what;
    let Some(known) = changes.iter_mut().find(is_alike) else {
        changes.push(new);
        return;
    };
    let (Which::Ids(ids), Which::Ids(more)) = (&mut known.which, new.which) else {
        known.which = Which::Many;
        return;
    };
    for id in more {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if ids.len() > MAX_IDS {
        known.which = Which::Many;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{n:036}")).collect()
    }

    #[test]
    fn changes_of_one_kind_are_one_and_many_are_not_named() {
        let mut told = Told::default();
        told.add(Topic::Host, "online", ["a"]);
        told.add(Topic::Host, "online", ["b", "a"]);
        told.add(Topic::Host, "late", Vec::<String>::new());
        told.add(Topic::Job, "sent", ids(MAX_IDS + 1));
        let changes = told.finish();
        assert_eq!(
            text(&changes),
            r#"[{"topic":"host","what":"online","which":["a","b"]},{"topic":"job","what":"sent","which":null}]"#
        );
        assert_eq!(parse(&text(&changes)), Some(changes));
    }

    #[test]
    fn what_a_transaction_tells_fits_one_notification() {
        let mut told = Told::default();
        for what in ["new", "online", "late", "offline", "changed"] {
            told.add(Topic::Host, what, ids(MAX_IDS));
        }
        told.add(Topic::Host, "edited", ["x".repeat(MAX_TEXT)]);
        let changes = told.finish();
        assert!(text(&changes).len() <= MAX_TEXT);
        assert_eq!(changes.len(), 6);
        let named = changes.iter().filter(|one| one.which != Which::Many);
        assert!(named.count() >= 1, "{changes:?}");
    }

    #[test]
    fn what_a_newer_version_tells_is_left_out() {
        let newer = r#"[{"topic":"task","what":"paused","which":["a"]},
                        {"topic":"host","what":"moved","which":["b"]}]"#;
        let known = parse(newer).expect("a list");
        assert_eq!(known.len(), 1);
        assert_eq!(known[0].what, "moved");
        assert_eq!(parse("no list"), None);
    }
}
