//! Lists: `limit` and `cursor` in, `items` and `next` out.

use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::store::page::{Limit, MAX_LIMIT, Page};

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct List<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Give this as `cursor` for the rows that follow; null at the end.
    pub next: Option<String>,
}

impl<T> From<Page<T>> for List<T> {
    fn from(page: Page<T>) -> Self {
        Self {
            items: page.items,
            next: page.next,
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

fn bad_cursor() -> Problem {
    Problem::malformed("cursor: the value of next of the page before is expected")
}
