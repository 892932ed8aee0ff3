//! Telling a rollout or an assignment what to do.
//!
//! The one rule: what lets more happen is said of the thing as somebody saw it, by
//! `--revision` or by reading it first. What only stops something is for whatever
//! it has come to, unless `--revision` says otherwise.

use serde_json::Value;

use super::super::client::{Ask, Client, Content};
use super::super::failure::Failure;
use super::super::words::Said;

/// Says a word to the thing at `path` that lets more happen.
pub(super) fn go_on(
    client: &Client,
    said: &Said,
    path: &str,
    word: &str,
    content: &Content<'_>,
) -> Result<Value, Failure> {
    let revision = match said.revision()? {
        Some(revision) => Some(revision),
        None => client.call("GET", path, &Content::Nothing)?["revision"].as_i64(),
    };
    let path = format!("{path}{word}");
    client.ask(&Ask::new("POST", &path, content).of_revision(revision))
}

/// Says a word to the thing at `path` that stops something.
pub(super) fn hold(
    client: &Client,
    said: &Said,
    path: &str,
    method: &str,
    word: &str,
) -> Result<Value, Failure> {
    let path = format!("{path}{word}");
    client.ask(&Ask::new(method, &path, &Content::Nothing).of_revision(said.revision()?))
}
