//! Lists: `limit` and `cursor` in, `items` and `next` out.

use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::store::page::{Count, Limit, MAX_LIMIT, Page, Total};

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Give this as `cursor` for the rows that follow; null at the end.
    pub next: Option<String>,
    /// Rows on all pages, if `total=true` was given.
    pub total: Option<TotalView>,
}

/// How many rows a list has.
#[derive(Debug, Serialize, ToSchema)]
pub struct TotalView {
    /// At most 10000: nobody counts further.
    rows: i64,
    /// Whether there are more than that.
    more: bool,
}

impl From<Total> for TotalView {
    fn from(total: Total) -> Self {
        Self {
            rows: total.rows,
            more: total.is_capped,
        }
    }
}

impl<T> From<Page<T>> for List<T> {
    fn from(page: Page<T>) -> Self {
        Self {
            items: page.items,
            next: page.next,
            total: page.total.map(TotalView::from),
        }
    }
}

/// The limit asked for.
pub fn limit(rows: Option<u32>) -> Result<Limit, Problem> {
    let Some(rows) = rows else {
        return Ok(Limit::default());
    };
    Limit::new(rows)
        .ok_or_else(|| Problem::malformed(&format!("limit: 1 to {MAX_LIMIT} is expected")))
}

/// Whether the total is asked for.
pub fn count(total: Option<bool>) -> Count {
    match total {
        Some(true) => Count::All,
        Some(false) | None => Count::Not,
    }
}

/// The key a cursor holds. Cursors are ours to make: what does not parse was
/// not made here.
pub fn cursor<T: DeserializeOwned>(text: Option<&str>) -> Result<Option<T>, Problem> {
    match text {
        Some(text) if text.contains("\\u0000") => Err(bad_cursor()),
        text => text
            .map(serde_json::from_str)
            .transpose()
            .map_err(|_| bad_cursor()),
    }
}

/// The UUID a cursor is.
pub fn id_cursor(text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if uuid::Uuid::try_parse(&text).is_err() => Err(bad_cursor()),
        other => Ok(other),
    }
}

/// 400: this is no cursor of this list.
pub fn bad_cursor() -> Problem {
    Problem::malformed("cursor: the value of next of the page before is expected")
}
