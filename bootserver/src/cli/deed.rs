//! What each verb does: which calls it makes, and how their answers are shown.

mod account;
mod assignment;
mod follow;
mod group;
mod host;
mod order;
mod page;
mod raw;
mod rollout;
mod steer;

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;
use uuid::Uuid;

use super::client::{Ask, Client, Content};
use super::failure::Failure;
use super::show::{self, As, Column};
use super::words::Said;

pub(super) use account::{
    token_create, token_list, token_revoke, user_create, user_delete, user_list, user_reset,
};
pub(super) use assignment::{
    assignment_change, assignment_confirm, assignment_create, assignment_delete, assignment_hosts,
    assignment_list, assignment_pause, assignment_resume, assignment_retry, assignment_show,
};
pub(super) use follow::event_follow;
pub(super) use group::{
    group_add, group_create, group_delete, group_edit, group_list, group_remove, group_show,
};
use host::agentsn;
pub(super) use host::{
    host_delete, host_edit, host_export, host_list, host_show, host_tag, tag_set, tag_unset,
};
pub(super) use order::job_create;
use page::list;
pub(super) use raw::api;
pub(super) use rollout::{
    rollout_abort, rollout_confirm, rollout_create, rollout_list, rollout_pause, rollout_resume,
    rollout_retry, rollout_revert, rollout_show, rollout_targets,
};

/// Largest body from a file or standard input, in bytes: far above what the
/// server takes as JSON.
const MAX_BODY_BYTES: u64 = 16 << 20;
/// How often a thing is read and changed at most while others change it, too: each
/// time somebody got through.
const MOST_TRIES: u32 = 20;

pub(super) fn package_add(client: &Client, said: &Said) -> Result<(), Failure> {
    let mut fields = said.query()?;
    let signature = format!("{}.minisig", said.operands[0]);
    match std::fs::read_to_string(&signature) {
        Ok(text) => fields.push(("signature".into(), text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Failure::Usage(format!("reading {signature}: {error}"))),
    }
    let path = format!("/api/v1/packages{}", query(&fields));
    let file = &Content::File(Path::new(&said.operands[0]));
    let package = client.call("POST", &path, file)?;
    one(said, &package)
}

pub(super) fn package_list(client: &Client, said: &Said) -> Result<(), Failure> {
    const COLUMNS: [Column; 8] = [
        ("NAME", "name", As::Is),
        ("VERSION", "version", As::Is),
        ("KIND", "kind", As::Is),
        ("OS", "os", As::Is),
        ("ARCH", "arch", As::Is),
        ("SIZE", "size", As::Size),
        ("CREATED", "created", As::Time),
        ("ID", "id", As::Is),
    ];
    list(client, said, "/api/v1/packages", &said.query()?, &COLUMNS)
}

pub(super) fn package_delete(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = format!(
        "/api/v1/packages/{}",
        id(&said.operands[0], "package list")?
    );
    delete(client, said, &path)
}

pub(super) fn job_list(client: &Client, said: &Said) -> Result<(), Failure> {
    const COLUMNS: [Column; 8] = [
        ("CREATED", "created", As::Time),
        ("STATE", "state", As::Is),
        ("ACTION", "action", As::Is),
        ("AGENT", "name", As::Is),
        ("VERSION", "version", As::Is),
        ("ERRCODE", "errcode", As::Is),
        ("AGENTSN", "agentsn", As::Is),
        ("ID", "id", As::Is),
    ];
    let query = of_host(client, said)?;
    list(client, said, "/api/v1/jobs", &query, &COLUMNS)
}

pub(super) fn job_show(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = format!("/api/v1/jobs/{}", id(&said.operands[0], "job list")?);
    one(said, &client.call("GET", &path, &Content::Nothing)?)
}

pub(super) fn job_cancel(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = format!("/api/v1/jobs/{}/cancel", id(&said.operands[0], "job list")?);
    one(said, &client.call("POST", &path, &Content::Nothing)?)
}

pub(super) fn event_list(client: &Client, said: &Said) -> Result<(), Failure> {
    const COLUMNS: [Column; 6] = [
        ("RECEIVED", "received", As::Time),
        ("CATEGORY", "category", As::Is),
        ("SUBJECT", "subject", As::Is),
        ("VERSION", "version", As::Is),
        ("MESSAGE", "message", As::Is),
        ("AGENTSN", "agentsn", As::Is),
    ];
    let query = of_host(client, said)?;
    list(client, said, "/api/v1/events", &query, &COLUMNS)
}

/// A body as `-d` gives it: itself, a file's content or standard input.
fn body_text(text: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let (mut from, name): (Box<dyn Read>, &str) = match text.strip_prefix('@') {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("reading {path}"))?;
            (Box::new(file), path)
        }
        None if text == "-" => (Box::new(std::io::stdin()), "standard input"),
        None => return Ok(text.as_bytes().to_vec()),
    };
    let read = from
        .by_ref()
        .take(MAX_BODY_BYTES + 1)
        .read_to_end(&mut bytes);
    read.with_context(|| format!("reading {name}"))?;
    if bytes.len() as u64 > MAX_BODY_BYTES {
        let text = format!("{name} is larger than {MAX_BODY_BYTES} bytes");
        return Err(Failure::Failed(anyhow::Error::msg(text)));
    }
    Ok(bytes)
}

/// The query of a list that may be one host's.
fn of_host(client: &Client, said: &Said) -> Result<Vec<(String, String)>, Failure> {
    let mut query = said.query()?;
    match said.all("host")[..] {
        [] => {}
        [host] => query.push(("host".into(), agentsn(client, host)?)),
        _ => return Err(Failure::Usage("--host: one is expected".into())),
    }
    Ok(query)
}

/// An id as the API has it: what is none never is the id of a thing.
fn id(text: &str, shown_by: &str) -> Result<String, Failure> {
    let id = Uuid::try_parse(text).map(|id| id.hyphenated().to_string());
    id.map_err(|_| Failure::Missing(format!("{text:?} is no id; {shown_by} shows them")))
}

/// Nothing is printed for people: it is done, as by rm.
fn delete(client: &Client, said: &Said, path: &str) -> Result<(), Failure> {
    done(said, &client.call("DELETE", path, &Content::Nothing)?)
}

/// The same of a change.
fn done(said: &Said, document: &Value) -> Result<(), Failure> {
    match said.as_json {
        true => show::json(document),
        false => Ok(()),
    }
}

/// Reads a thing, and writes what `change` makes of it to `place` below it: only
/// while it is of the revision that was read, and from the start when somebody else
/// was quicker.
fn rewrite(
    client: &Client,
    path: &str,
    place: &str,
    revision: &str,
    change: impl Fn(&Value) -> Result<Value, Failure>,
) -> Result<Value, Failure> {
    let target = format!("{path}{place}");
    let mut tries = 1;
    loop {
        let found = client.call("GET", path, &Content::Nothing)?;
        let content = Content::value(&change(&found)?);
        let ask = Ask::new("PUT", &target, &content).of_revision(found[revision].as_i64());
        match client.ask(&ask) {
            Err(Failure::Refused(refusal)) if refusal.status == 412 && tries < MOST_TRIES => {
                tries += 1;
            }
            answered => return answered,
        }
    }
}

fn one(said: &Said, document: &Value) -> Result<(), Failure> {
    match said.as_json {
        true => show::json(document),
        false => show::fields(document),
    }
}

/// A part of a path or query, percent-encoded.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// `?a=b&c=d`, or nothing.
fn query(pairs: &[(String, String)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(&format!("{}={}", encoded(key), encoded(value)));
    }
    text
}
