//! Hosts: what they are, what operators call them, and their tags.

use std::collections::BTreeMap;

use anyhow::Context;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::client::{Ask, Client, Content};
use super::super::failure::Failure;
use super::super::show::{self, As, Column};
use super::super::words::Said;
use super::group::group_id;
use super::page::{every, list};
use super::{delete, done, encoded, one, query, rewrite};
use crate::fleet::tags::{self, Tags};

pub(crate) fn host_list(client: &Client, said: &Said) -> Result<(), Failure> {
    const COLUMNS: [Column; 7] = [
        ("HOSTNAME", "hostname", As::Is),
        ("STATE", "state", As::Is),
        ("SEEN", "seen", As::Time),
        ("VERSION", "version", As::Is),
        ("IP", "ip", As::Is),
        ("TAGS", "tags", As::Is),
        ("AGENTSN", "agentsn", As::Is),
    ];
    let query = host_query(client, said)?;
    list(client, said, "/api/v1/hosts", &query, &COLUMNS)
}

/// As it comes: it may be larger than memory. One that ends early fails.
pub(crate) fn host_export(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = format!("/api/v1/exports/hosts{}", query(&host_query(client, said)?));
    client.pass(&Ask::raw("GET", &path, &Content::Nothing, HeaderMap::new()))
}

/// Of as many hosts as were seen before, and of none if they are others.
pub(crate) fn host_tag(client: &Client, said: &Said) -> Result<(), Failure> {
    let Some(expected) = said.fields()?.remove("expected_hosts") else {
        let text = "host tag: --expected-hosts says how many hosts are meant; \
                    bootserver host export with the same options shows them";
        return Err(Failure::Usage(text.into()));
    };
    let unset = said
        .all("unset")
        .into_iter()
        .flat_map(|keys| keys.split(','));
    let unset: Vec<String> = unset
        .map(tags::key)
        .collect::<Result<_, _>>()
        .map_err(|error| usage(&error))?;
    let mut change = json!({ "action": "tag", "expected_hosts": expected, "unset": unset });
    if let Some(set) = said.operands.first() {
        let set = Tags::parse(set).map_err(|error| usage(&error))?;
        change["set"] = json!(set.to_string());
    }
    let mut hosts = host_query(client, said)?;
    hosts.retain(|(key, _)| key != "expected_hosts");
    let path = format!("/api/v1/hosts/bulk{}", query(&hosts));
    one(said, &client.call("POST", &path, &Content::value(&change))?)
}

/// Which hosts the options say.
fn host_query(client: &Client, said: &Said) -> Result<Vec<(String, String)>, Failure> {
    let mut query = said.query()?;
    if let Some(group) = said.option("group") {
        query.push(("group".into(), group_id(client, group)?));
    }
    Ok(query)
}

pub(crate) fn host_show(client: &Client, said: &Said) -> Result<(), Failure> {
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

/// Whatever others wrote meanwhile: nobody has read it here.
pub(crate) fn host_edit(client: &Client, said: &Said) -> Result<(), Failure> {
    let edit = said.fields()?;
    if edit.is_empty() {
        let text = "host edit: --display-name or --notes says what changes";
        return Err(Failure::Usage(text.into()));
    }
    let path = host_path(client, &said.operands[0])?;
    let content = Content::value(&Value::Object(edit));
    let host = client.ask(&Ask::new("PATCH", &path, &content).of_revision(None))?;
    done(said, &host)
}

pub(crate) fn host_delete(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = host_path(client, &said.operands[0])?;
    delete(client, said, &path)
}

/// Adds to the tags there are: the API knows only all of them.
pub(crate) fn tag_set(client: &Client, said: &Said) -> Result<(), Failure> {
    let new = Tags::parse(&said.operands[1]).map_err(|error| usage(&error))?;
    change_tags(client, said, |tags| {
        tags.extend(owned(&new));
    })
}

pub(crate) fn tag_unset(client: &Client, said: &Said) -> Result<(), Failure> {
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
    change: impl Fn(&mut BTreeMap<String, String>),
) -> Result<(), Failure> {
    let path = host_path(client, &said.operands[0])?;
    let host = rewrite(client, &path, "/tags", "revision", |host| {
        let tags = host["tags"].as_str().unwrap_or_default();
        let tags = Tags::parse(tags).context("the host's tags")?;
        let mut tags = owned(&tags);
        change(&mut tags);
        let tags: Tags = tags.into_iter().collect();
        Ok(json!({ "tags": tags.to_string() }))
    })?;
    match said.as_json {
        true => show::json(&host),
        false => show::print(&format!(
            "{}\n",
            show::visible(host["tags"].as_str().unwrap_or_default())
        )),
    }
}

fn usage(error: &dyn std::error::Error) -> Failure {
    Failure::Usage(error.to_string())
}

fn host_path(client: &Client, host: &str) -> Result<String, Failure> {
    Ok(format!(
        "/api/v1/hosts/{}",
        encoded(&agentsn(client, host)?)
    ))
}

/// Of a host that is named by its agentsn or by its whole host name, which
/// has to be the only one of that name.
pub(super) fn agentsn(client: &Client, host: &str) -> Result<String, Failure> {
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
