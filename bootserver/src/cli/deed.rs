//! What each verb does: which calls it makes, and how their answers are shown.

mod order;
mod page;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{Client, Content};
use super::failure::Failure;
use super::show::{self, As, Column};
use super::words::Said;
use crate::fleet::tags::{self, Tags};

pub(super) use order::job_create;
use page::{every, list};

/// Largest body from a file or standard input, in bytes: far above what the
/// server takes as JSON.
const MAX_BODY_BYTES: u64 = 16 << 20;

pub(super) fn host_list(client: &Client, said: &Said) -> Result<(), Failure> {
    const COLUMNS: [Column; 7] = [
        ("HOSTNAME", "hostname", As::Is),
        ("STATE", "state", As::Is),
        ("SEEN", "seen", As::Time),
        ("VERSION", "version", As::Is),
        ("IP", "ip", As::Is),
        ("TAGS", "tags", As::Is),
        ("AGENTSN", "agentsn", As::Is),
    ];
    list(client, said, "/api/v1/hosts", &said.query()?, &COLUMNS)
}

pub(super) fn host_show(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = host_path(client, &said.operands[0])?;
    let host = client.call("GET", &path, &Content::Nothing)?;
    if said.as_json {
        return show::json(&host);
    }
    let agents = host["agents"].as_array().cloned().unwrap_or_default();
    let mut rest = host;
    if let Some(rest) = rest.as_object_mut() {
        rest.remove("agents");
    }
    show::fields(&rest)?;
    if agents.is_empty() {
        return Ok(());
    }
    const COLUMNS: [Column; 5] = [
        ("AGENT", "name", As::Is),
        ("VERSION", "version", As::Is),
        ("STATE", "status", As::Is),
        ("WANTED", "wanted", As::Is),
        ("MESSAGE", "message", As::Is),
    ];
    show::print("\n")?;
    show::table(&agents, &COLUMNS)
}

pub(super) fn host_delete(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = host_path(client, &said.operands[0])?;
    delete(client, said, &path)
}

/// Adds to the tags there are: the API knows only all of them.
pub(super) fn tag_set(client: &Client, said: &Said) -> Result<(), Failure> {
    let new = Tags::parse(&said.operands[1]).map_err(|error| usage(&error))?;
    change_tags(client, said, |tags| {
        tags.extend(owned(&new));
    })
}

pub(super) fn tag_unset(client: &Client, said: &Said) -> Result<(), Failure> {
    let keys = said.operands[1..].iter().map(|key| tags::key(key));
    let keys: Vec<String> = keys
        .collect::<Result<_, _>>()
        .map_err(|error| usage(&error))?;
    change_tags(client, said, |tags| {
        tags.retain(|key, _| !keys.contains(key));
    })
}

fn owned(tags: &Tags) -> BTreeMap<String, String> {
    let tags = tags.iter();
    tags.map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn change_tags(
    client: &Client,
    said: &Said,
    change: impl FnOnce(&mut BTreeMap<String, String>),
) -> Result<(), Failure> {
    let path = host_path(client, &said.operands[0])?;
    let host = client.call("GET", &path, &Content::Nothing)?;
    let tags = host["tags"].as_str().unwrap_or_default();
    let tags = Tags::parse(tags).context("the host's tags")?;
    let mut tags = owned(&tags);
    change(&mut tags);
    let tags: Tags = tags.into_iter().collect();
    let body = json!({ "tags": tags.to_string() });
    let host = client.call("PUT", &format!("{path}/tags"), &Content::value(&body))?;
    match said.as_json {
        true => show::json(&host),
        false => show::print(&format!(
            "{}\n",
            show::visible(host["tags"].as_str().unwrap_or_default())
        )),
    }
}

/// Of which kind of token the first operand speaks.
fn token_path(said: &Said) -> Result<&'static str, Failure> {
    match said.operands[0].as_str() {
        "api" => Ok("/api/v1/api-tokens"),
        "enrolment" => Ok("/api/v1/enrolment-tokens"),
        other => {
            let text = format!("KIND: api or enrolment is expected, not {other:?}");
            Err(Failure::Usage(text))
        }
    }
}

pub(super) fn token_create(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = token_path(said)?;
    let mut body = said.fields()?;
    let belongs: &[&str] = match said.operands[0].as_str() {
        "api" => &["role", "scope", "expires_in"],
        _ => &["tags", "uses", "expires_in"],
    };
    if let Some(other) = body.keys().find(|key| !belongs.contains(&key.as_str())) {
        let text = format!("--{other} belongs to the other kind of token");
        return Err(Failure::Usage(text));
    }
    if belongs.contains(&"role") && !body.contains_key("role") {
        return Err(Failure::Usage("--role: what the token may do".into()));
    }
    body.insert("name".into(), json!(said.operands[1]));
    let made = client.call("POST", path, &Content::value(&Value::Object(body)))?;
    once(said, &made, "token")
}

pub(super) fn token_list(client: &Client, said: &Said) -> Result<(), Failure> {
    const API: [Column; 6] = [
        ("NAME", "name", As::Is),
        ("ROLE", "role", As::Is),
        ("USED", "used", As::Time),
        ("EXPIRES", "expires", As::Time),
        ("REVOKED", "revoked", As::Time),
        ("ID", "id", As::Is),
    ];
    const ENROLMENT: [Column; 7] = [
        ("NAME", "name", As::Is),
        ("TAGS", "tags", As::Is),
        ("USED", "used", As::Is),
        ("USES", "uses", As::Is),
        ("EXPIRES", "expires", As::Time),
        ("REVOKED", "revoked", As::Time),
        ("ID", "id", As::Is),
    ];
    let path = token_path(said)?;
    let columns: &[Column] = match said.operands[0].as_str() {
        "api" => &API,
        _ => &ENROLMENT,
    };
    list(client, said, path, &said.query()?, columns)
}

pub(super) fn token_revoke(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = format!("{}/{}", token_path(said)?, encoded(&said.operands[1]));
    delete(client, said, &path)
}

pub(super) fn package_add(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = format!("/api/v1/packages{}", query(&said.query()?));
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
    let path = format!("/api/v1/packages/{}", encoded(&said.operands[0]));
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
    let path = format!("/api/v1/jobs/{}", encoded(&said.operands[0]));
    one(said, &client.call("GET", &path, &Content::Nothing)?)
}

pub(super) fn job_cancel(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = format!("/api/v1/jobs/{}/cancel", encoded(&said.operands[0]));
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

pub(super) fn user_create(client: &Client, said: &Said) -> Result<(), Failure> {
    let mut body = said.fields()?;
    if !body.contains_key("role") {
        return Err(Failure::Usage("--role: what the user may do".into()));
    }
    body.insert("name".into(), json!(said.operands[0]));
    let made = client.call(
        "POST",
        "/api/v1/users",
        &Content::value(&Value::Object(body)),
    )?;
    once(said, &made, "one_time_password")
}

pub(super) fn user_list(client: &Client, said: &Said) -> Result<(), Failure> {
    const COLUMNS: [Column; 6] = [
        ("NAME", "name", As::Is),
        ("ROLE", "role", As::Is),
        ("DISPLAY NAME", "display_name", As::Is),
        ("DISABLED", "disabled", As::Is),
        ("SIGNED IN", "signed_in", As::Time),
        ("ID", "id", As::Is),
    ];
    list(client, said, "/api/v1/users", &said.query()?, &COLUMNS)
}

pub(super) fn user_reset(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = format!("{}/reset-password", user_path(client, &said.operands[0])?);
    let made = client.call("POST", &path, &Content::Nothing)?;
    once(said, &made, "one_time_password")
}

pub(super) fn user_delete(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = user_path(client, &said.operands[0])?;
    delete(client, said, &path)
}

pub(super) fn api(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = &said.operands[1];
    if !path.starts_with('/') {
        return Err(Failure::Usage("PATH: /api/v1/hosts, for example".into()));
    }
    let content = match said.option("data") {
        Some(text) => Content::Json(body_text(text)?),
        None => Content::Nothing,
    };
    client.pass(&said.operands[0].to_uppercase(), path, &content)
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

fn host_path(client: &Client, host: &str) -> Result<String, Failure> {
    Ok(format!(
        "/api/v1/hosts/{}",
        encoded(&agentsn(client, host)?)
    ))
}

/// Of a host that is named by its agentsn or by its whole host name, which
/// has to be the only one of that name.
fn agentsn(client: &Client, host: &str) -> Result<String, Failure> {
    if Uuid::try_parse(host).is_ok() {
        return Ok(host.to_owned());
    }
    let query = vec![("hostname".to_owned(), host.to_owned())];
    let (mut found, mut more) = (Vec::new(), 0_u32);
    every(client, "/api/v1/hosts", &query, |row| {
        // Names that only begin so come after those that are so.
        let is_it = row["hostname"] == host;
        if is_it && found.len() < 5 {
            found.push(row["agentsn"].as_str().unwrap_or_default().to_owned());
        } else if is_it {
            more += 1;
        }
        is_it
    })?;
    match &found[..] {
        [] => Err(Failure::Missing(format!("there is no host {host}"))),
        [one] => Ok(one.clone()),
        several => Err(Failure::Failed(anyhow::Error::msg(format!(
            "{} hosts are called {host}; name one by its agentsn: {}{}",
            several.len() + more as usize,
            several.join(", "),
            if more > 0 { ", ..." } else { "" }
        )))),
    }
}

fn user_path(client: &Client, name: &str) -> Result<String, Failure> {
    let mut id = None;
    // Names are kept in small letters.
    let small = name.to_lowercase();
    every(client, "/api/v1/users", &[], |row| {
        if row["name"] == small.as_str() || row["id"] == name {
            id = row["id"].as_str().map(str::to_owned);
        }
        id.is_none()
    })?;
    match id {
        Some(id) => Ok(format!("/api/v1/users/{}", encoded(&id))),
        None => Err(Failure::Missing(format!("there is no user {name}"))),
    }
}

/// Nothing is printed for people: it is done, as by rm.
fn delete(client: &Client, said: &Said, path: &str) -> Result<(), Failure> {
    let answer = client.call("DELETE", path, &Content::Nothing)?;
    match said.as_json {
        true => show::json(&answer),
        false => Ok(()),
    }
}

fn one(said: &Said, document: &Value) -> Result<(), Failure> {
    match said.as_json {
        true => show::json(document),
        false => show::fields(document),
    }
}

/// What is shown this once alone on standard output, so that `$(...)` has it;
/// the rest beside it.
fn once(said: &Said, document: &Value, secret: &str) -> Result<(), Failure> {
    if said.as_json {
        return show::json(document);
    }
    let id = document["id"].as_str().unwrap_or_default();
    eprintln!("bootserver: {id}; this is shown only once:");
    let text = document[secret].as_str().unwrap_or_default();
    show::print(&format!("{text}\n"))
}

fn usage(error: &dyn std::error::Error) -> Failure {
    Failure::Usage(error.to_string())
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
