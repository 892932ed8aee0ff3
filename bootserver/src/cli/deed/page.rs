//! Lists: page after page, as many rows as are wanted.

use serde_json::{Value, json};

use super::super::client::{Client, Content};
use super::super::failure::Failure;
use super::super::show::{self, Column};
use super::super::words::Said;
use super::query;

/// Rows of a list unless more are asked for: enough for most, and no accident
/// with a million hosts.
const USUAL_ROWS: u64 = 1000;
/// Rows of one page, the most the API gives.
const PAGE_ROWS: u64 = 500;

/// Shows a list. That there is more is said beside a table and by `next` in
/// the document.
pub(super) fn list(
    client: &Client,
    said: &Said,
    path: &str,
    pairs: &[(String, String)],
    columns: &[Column],
) -> Result<(), Failure> {
    let limit = said.limit(USUAL_ROWS)?;
    let mut rows: Vec<Value> = Vec::new();
    let mut next = Value::Null;
    loop {
        let wanted = (limit - rows.len() as u64).min(PAGE_ROWS);
        let page = page(client, path, pairs, wanted, &next)?;
        rows.extend(page.0);
        next = page.1;
        if next.is_null() || rows.len() as u64 >= limit {
            break;
        }
    }
    if said.as_json {
        return show::json(&json!({ "items": rows, "next": next }));
    }
    show::table(&rows, columns)?;
    if !next.is_null() {
        eprintln!("bootserver: there are more than these {limit}; --limit shows more");
    }
    Ok(())
}

/// Gives every row to `take`, until it returns false or there is none left.
pub(super) fn every(
    client: &Client,
    path: &str,
    pairs: &[(String, String)],
    mut take: impl FnMut(&Value) -> bool,
) -> Result<(), Failure> {
    let mut next = Value::Null;
    loop {
        let (rows, after) = page(client, path, pairs, PAGE_ROWS, &next)?;
        if !rows.iter().all(&mut take) || after.is_null() {
            return Ok(());
        }
        next = after;
    }
}

fn page(
    client: &Client,
    path: &str,
    pairs: &[(String, String)],
    rows: u64,
    cursor: &Value,
) -> Result<(Vec<Value>, Value), Failure> {
    let mut pairs = pairs.to_vec();
    pairs.push(("limit".into(), rows.to_string()));
    if let Some(cursor) = cursor.as_str() {
        pairs.push(("cursor".into(), cursor.to_owned()));
    }
    let path = format!("{path}{}", query(&pairs));
    let mut page = client.call("GET", &path, &Content::Nothing)?;
    match page["items"].take() {
        Value::Array(rows) => Ok((rows, page["next"].take())),
        _ => {
            let error = anyhow::Error::msg("the answer is no list: is this a bootserver?");
            Err(Failure::Failed(error))
        }
    }
}
