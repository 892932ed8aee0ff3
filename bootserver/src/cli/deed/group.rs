//! Groups of hosts.

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::client::{Client, Content};
use super::super::failure::Failure;
use super::super::show::{As, Column};
use super::super::words::Said;
use super::host::agentsn;
use super::page::{every, list};
use super::{delete, done, encoded, one, rewrite};

pub(crate) fn group_list(client: &Client, said: &Said) -> Result<(), Failure> {
    const COLUMNS: [Column; 5] = [
        ("NAME", "name", As::Is),
        ("SELECTOR", "selector", As::Is),
        ("NAMED", "named", As::Is),
        ("DESCRIPTION", "description", As::Is),
        ("ID", "id", As::Is),
    ];
    list(client, said, "/api/v1/groups", &said.query()?, &COLUMNS)
}

pub(crate) fn group_show(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = group_path(client, &said.operands[0])?;
    one(said, &client.call("GET", &path, &Content::Nothing)?)
}

pub(crate) fn group_create(client: &Client, said: &Said) -> Result<(), Failure> {
    let mut group = said.fields()?;
    group.insert("name".into(), json!(said.operands[0]));
    let content = Content::value(&Value::Object(group));
    one(said, &client.call("POST", "/api/v1/groups", &content)?)
}

pub(crate) fn group_edit(client: &Client, said: &Said) -> Result<(), Failure> {
    let mut edit = said.fields()?;
    if edit.is_empty() {
        let text = "group edit: --name, --selector or --description says what changes";
        return Err(Failure::Usage(text.into()));
    }
    if edit.get("selector").is_some_and(|text| text == "") {
        edit.insert("selector".into(), Value::Null);
    }
    let path = group_path(client, &said.operands[0])?;
    let group = rewrite(client, &path, "", "version", |group| {
        let mut terms = terms(group);
        for (key, value) in &edit {
            terms[key] = value.clone();
        }
        Ok(terms)
    })?;
    done(said, &group)
}

pub(crate) fn group_add(client: &Client, said: &Said) -> Result<(), Failure> {
    change_members(client, said, "add", |groups, id| {
        if !groups.contains(&id) {
            groups.push(id);
        }
    })
}

pub(crate) fn group_remove(client: &Client, said: &Said) -> Result<(), Failure> {
    change_members(client, said, "remove", |groups, id| {
        groups.retain(|known| *known != id);
    })
}

/// Hosts first, then groups: either is done whole, and both may be said again.
fn change_members(
    client: &Client,
    said: &Said,
    change_of_hosts: &str,
    change: impl Fn(&mut Vec<Value>, Value),
) -> Result<(), Failure> {
    let (hosts, groups) = (&said.operands[1..], said.all("group"));
    if hosts.is_empty() && groups.is_empty() {
        let text = format!("group {change_of_hosts}: a HOST or --group says who");
        return Err(Failure::Usage(text));
    }
    let path = group_path(client, &said.operands[0])?;
    let hosts = hosts.iter().map(|host| agentsn(client, host));
    let hosts: Vec<String> = hosts.collect::<Result<_, _>>()?;
    let groups = groups.into_iter().map(|group| group_id(client, group));
    let groups: Vec<String> = groups.collect::<Result<_, _>>()?;
    let mut group = Value::Null;
    if !hosts.is_empty() {
        let content = Content::value(&json!({ change_of_hosts: hosts }));
        group = client.call("POST", &format!("{path}/hosts"), &content)?;
    }
    if !groups.is_empty() {
        group = rewrite(client, &path, "", "version", |group| {
            let mut terms = terms(group);
            let mut within = terms["groups"].as_array().cloned().unwrap_or_default();
            for id in &groups {
                change(&mut within, json!(id));
            }
            terms["groups"] = json!(within);
            Ok(terms)
        })?;
    }
    done(said, &group)
}

pub(crate) fn group_delete(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = group_path(client, &said.operands[0])?;
    delete(client, said, &path)
}

/// What a group is made of, without what the server says of it.
fn terms(group: &Value) -> Value {
    json!({
        "name": group["name"],
        "description": group["description"],
        "selector": group["selector"],
        "groups": group["groups"],
    })
}

fn group_path(client: &Client, group: &str) -> Result<String, Failure> {
    let id = group_id(client, group)?;
    Ok(format!("/api/v1/groups/{}", encoded(&id)))
}

/// Of a group that is named by its id or its name, which no other has.
pub(super) fn group_id(client: &Client, group: &str) -> Result<String, Failure> {
    if let Ok(id) = Uuid::try_parse(group) {
        return Ok(id.hyphenated().to_string());
    }
    let mut id = None;
    every(client, "/api/v1/groups", &[], |row| {
        if row["name"] == group {
            id = row["id"].as_str().map(str::to_owned);
        }
        id.is_none()
    })?;
    id.ok_or_else(|| Failure::Missing(format!("there is no group {group}")))
}
