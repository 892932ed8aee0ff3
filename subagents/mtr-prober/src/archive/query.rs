//! Which reports somebody wants to see.

use bootagent_kit::date::Date;
use uuid::Uuid;

use super::summary::Summary;
use crate::report::Cause;

/// Most reports of one page.
pub const MAX_LIMIT: usize = 1000;

/// What is asked for; what is absent matches everything.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Accepted on this day, in UTC, or later.
    pub from: Option<Date>,
    /// Accepted on this day or earlier.
    pub to: Option<Date>,
    /// The target as it was asked for, or its address.
    pub target: Option<String>,
    /// Who wanted it.
    pub cause: Option<Cause>,
    /// The target lost at least this many percent; where nothing is known of it, it did not.
    pub loss_min: Option<f32>,
    /// At most so many; [`MAX_LIMIT`] at most.
    pub limit: usize,
    /// Older than this one: where the page before ended.
    pub cursor: Option<Uuid>,
}

/// What was found, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The reports.
    pub items: Vec<Summary>,
    /// Where the next page begins, if there is one.
    pub next: Option<Uuid>,
}

impl Query {
    /// The ids there may be: from the first, up to and not including the second. Ids are UUIDv7 and
    /// begin with the moment of acceptance.
    pub(super) fn ids(&self) -> (Uuid, Uuid) {
        let first_of = |date: Date| {
            let millis = u128::try_from(date.unix()).unwrap_or(0) * 1000;
            Uuid::from_u128(millis << 80)
        };
        let from = self.from.map_or(Uuid::nil(), first_of);
        let to = self
            .to
            .map_or(Uuid::max(), |date| first_of(date.plus_days(1)));
        (from, self.cursor.map_or(to, |cursor| cursor.min(to)))
    }

    pub(super) fn matches(&self, it: &Summary) -> bool {
        let (from, to) = self.ids();
        let is_target = |target: &String| {
            it.target == *target || it.address.is_some_and(|it| it.to_string() == *target)
        };
        let lost = |least: f32| it.loss.is_some_and(|loss| loss >= least);
        (from..to).contains(&it.id)
            && self.target.as_ref().is_none_or(is_target)
            && self.cause.is_none_or(|cause| cause == it.cause)
            && self.loss_min.is_none_or(lost)
    }
}

/// The newest of what is shown to it, a page of them.
#[derive(Debug)]
pub(super) struct Newest {
    limit: usize,
    kept: std::collections::BTreeMap<Uuid, Summary>,
}

impl Newest {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit: limit.clamp(1, MAX_LIMIT),
            kept: std::collections::BTreeMap::new(),
        }
    }

    /// Whether anything with ids up to this one could still be on the page.
    pub(super) fn may_take(&self, newest: Uuid) -> bool {
        let oldest = self.kept.first_key_value().map(|it| *it.0);
        self.kept.len() <= self.limit || oldest.is_none_or(|oldest| newest > oldest)
    }

    pub(super) fn show(&mut self, summary: Summary) {
        self.kept.insert(summary.id, summary);
        // One more than the page has tells whether there is another.
        if self.kept.len() > self.limit + 1 {
            self.kept.pop_first();
        }
    }

    pub(super) fn page(mut self) -> Page {
        let more = self.kept.len() > self.limit;
        if more {
            self.kept.pop_first();
        }
        let items: Vec<Summary> = self.kept.into_values().rev().collect();
        let next = items.last().map(|it| it.id).filter(|_| more);
        Page { items, next }
    }
}
