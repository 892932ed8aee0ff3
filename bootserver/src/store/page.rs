//! Keyset paging: a page, and the key it ended at.

/// Most rows of one page.
pub const MAX_LIMIT: u32 = 500;
/// Rows of a page nobody gave a size for.
pub const DEFAULT_LIMIT: u32 = 100;

/// As far as the rows of a whole list are counted.
pub const MAX_TOTAL: i64 = 10_000;

/// How much later than its neighbours something may have got its number: it
/// arrives, waits for its batch, and is numbered when that is written. A list
/// by number from a time on begins so much before.
pub const DISORDER_MILLIS: i64 = 120_000;

/// Rows of one page, 1 to [`MAX_LIMIT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u32);

impl Limit {
    /// The limit asked for, if it is allowed.
    pub fn new(rows: u32) -> Option<Self> {
        (1..=MAX_LIMIT).contains(&rows).then_some(Self(rows))
    }

    /// The number of rows.
    pub fn rows(self) -> usize {
        self.0 as usize
    }

    /// One more than the page, to see whether there is a next one.
    pub fn probe(self) -> i64 {
        i64::from(self.0) + 1
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(DEFAULT_LIMIT)
    }
}

/// Some rows and the key to go on after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// The key of the last one, if more follow.
    pub next: Option<String>,
    /// How many rows the whole list has, if that was asked.
    pub total: Option<Total>,
}

/// How many rows a list has, on all of its pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    /// At most [`MAX_TOTAL`].
    pub rows: i64,
    /// Whether there are more than that.
    pub is_capped: bool,
}

impl Total {
    /// Of as many rows as were found, at most one more than [`MAX_TOTAL`].
    pub fn of(found: usize) -> Self {
        let found = i64::try_from(found).unwrap_or(i64::MAX);
        Self {
            rows: found.min(MAX_TOTAL),
            is_capped: found > MAX_TOTAL,
        }
    }
}

/// Whether somebody wants to know how many rows there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Count {
    /// Only the page.
    #[default]
    Not,
    /// Also the total.
    All,
}

impl<T> Page<T> {
    /// Makes a page of rows fetched with [`Limit::probe`].
    pub fn cut(mut rows: Vec<T>, limit: Limit, key: impl Fn(&T) -> String) -> Self {
        let more = rows.len() > limit.rows();
        rows.truncate(limit.rows());
        let next = rows.last().filter(|_| more).map(key);
        Self {
            items: rows,
            next,
            total: None,
        }
    }

    /// The same page of other things.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(convert).collect(),
            next: self.next,
            total: self.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_counted_as_far_as_anybody_looks() {
        let rows = usize::try_from(MAX_TOTAL).expect("a small number");
        assert!(!Total::of(rows).is_capped);
        let more = Total::of(rows + 1);
        assert_eq!((more.rows, more.is_capped), (MAX_TOTAL, true));
    }
}
