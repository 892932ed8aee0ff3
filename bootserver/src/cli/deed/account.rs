//! Who may do what: tokens, users. What is shown only once is alone on standard
//! output.

use serde_json::{Value, json};

use super::super::client::{Client, Content};
use super::super::failure::Failure;
use super::super::show::{self, As, Column};
use super::super::words::Said;
use super::page::{every, list};
use super::{delete, encoded, id};

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

pub(crate) fn token_create(client: &Client, said: &Said) -> Result<(), Failure> {
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

pub(crate) fn token_list(client: &Client, said: &Said) -> Result<(), Failure> {
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

pub(crate) fn token_revoke(client: &Client, said: &Said) -> Result<(), Failure> {
    let shown_by = format!("token list {}", said.operands[0]);
    let path = token_path(said)?;
    let path = format!("{path}/{}", id(&said.operands[1], &shown_by)?);
    delete(client, said, &path)
}

pub(crate) fn user_create(client: &Client, said: &Said) -> Result<(), Failure> {
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

pub(crate) fn user_list(client: &Client, said: &Said) -> Result<(), Failure> {
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

pub(crate) fn user_reset(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = format!("{}/reset-password", user_path(client, &said.operands[0])?);
    let made = client.call("POST", &path, &Content::Nothing)?;
    once(said, &made, "one_time_password")
}

pub(crate) fn user_delete(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = user_path(client, &said.operands[0])?;
    delete(client, said, &path)
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
