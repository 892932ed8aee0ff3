//! Assignments: made, shown, changed, and told what to do.

use serde_json::{Map, Value, json};

use super::super::client::{Ask, Client, Content};
use super::super::failure::Failure;
use super::super::show::{As, Column};
use super::super::words::Said;
use super::group::group_id;
use super::page::list;
use super::rollout::{document, part, plan_into};
use super::{agentsn, done, id, one, steer};

const ASSIGNMENTS: &str = "/api/v1/assignments";

/// `-d` gives what there are no options for, such as a window; what is said beside it wins.
pub(crate) fn assignment_create(client: &Client, said: &Said) -> Result<(), Failure> {
    let mut body = document(said)?;
    let mut fields = said.fields()?;
    body.insert("agent".into(), json!(said.operands[0]));
    if let Some(group) = said.option("group") {
        body.insert("group".into(), json!(group_id(client, group)?));
    }
    priority_into(&mut fields)?;
    plan_into(said, &mut body, &mut fields)?;
    let is_look = fields.remove("dry_run").is_some();
    body.extend(fields);
    for field in ["group", "version"] {
        if !body.contains_key(field) {
            let text = format!("assignment create: --{field} is needed");
            return Err(Failure::Usage(text));
        }
    }
    let path = match is_look {
        true => format!("{ASSIGNMENTS}/preview"),
        false => ASSIGNMENTS.to_owned(),
    };
    let content = Content::value(&Value::Object(body));
    one(said, &client.call("POST", &path, &content)?)
}

pub(crate) fn assignment_list(client: &Client, said: &Said) -> Result<(), Failure> {
    const COLUMNS: [Column; 10] = [
        ("GROUP", "group_name", As::Is),
        ("AGENT", "agent", As::Is),
        ("VERSION", "version", As::Is),
        ("PRIORITY", "priority", As::Is),
        ("STATE", "state", As::Is),
        ("REASON", "reason", As::Is),
        ("HOSTS", "hosts", As::Is),
        ("RIGHT", "right", As::Is),
        ("WINS", "wins", As::Is),
        ("ID", "id", As::Is),
    ];
    let mut query = said.query()?;
    if let Some(host) = said.option("host") {
        query.push(("host".into(), agentsn(client, host)?));
    }
    list(client, said, ASSIGNMENTS, &query, &COLUMNS)
}

pub(crate) fn assignment_show(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = path(said)?;
    one(said, &client.call("GET", &path, &Content::Nothing)?)
}

pub(crate) fn assignment_hosts(client: &Client, said: &Said) -> Result<(), Failure> {
    const COLUMNS: [Column; 9] = [
        ("HOSTNAME", "hostname", As::Is),
        ("HAS", "has", As::Is),
        ("STATE", "state", As::Is),
        ("SINCE", "since", As::Time),
        ("ATTEMPTS", "attempts", As::Is),
        ("ERRCODE", "errcode", As::Is),
        ("REASON", "reason", As::Is),
        ("WAITS FOR", "waits_for", As::Is),
        ("AGENTSN", "agentsn", As::Is),
    ];
    list(
        client,
        said,
        &format!("{}/hosts", path(said)?),
        &said.query()?,
        &COLUMNS,
    )
}

/// What is said of the plan changes it, and the rest of it stays.
pub(crate) fn assignment_change(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = path(said)?;
    let mut body = document(said)?;
    let mut fields = said.fields()?;
    priority_into(&mut fields)?;
    let known = client.call("GET", &path, &Content::Nothing)?;
    plan_into(said, &mut body, &mut fields)?;
    if body.contains_key("plan") {
        let mut plan: Map<String, Value> = known["plan"].as_object().cloned().unwrap_or_default();
        plan.extend(part(&body, "plan"));
        body.insert("plan".into(), Value::Object(plan));
    }
    body.extend(fields);
    if body.is_empty() {
        let text = "assignment change: --version, --priority, --name or a plan says what changes";
        return Err(Failure::Usage(text.into()));
    }
    let content = Content::value(&Value::Object(body));
    let ask = Ask::new("PATCH", &path, &content)
        .of_revision(said.revision()?.or(known["revision"].as_i64()));
    one(said, &client.ask(&ask)?)
}

pub(crate) fn assignment_confirm(client: &Client, said: &Said) -> Result<(), Failure> {
    go_on(client, said, "/confirm")
}

pub(crate) fn assignment_pause(client: &Client, said: &Said) -> Result<(), Failure> {
    let assignment = steer::hold(client, said, &path(said)?, "POST", "/pause")?;
    one(said, &assignment)
}

pub(crate) fn assignment_resume(client: &Client, said: &Said) -> Result<(), Failure> {
    go_on(client, said, "/resume")
}

pub(crate) fn assignment_retry(client: &Client, said: &Said) -> Result<(), Failure> {
    go_on(client, said, "/retry")
}

pub(crate) fn assignment_delete(client: &Client, said: &Said) -> Result<(), Failure> {
    done(
        said,
        &steer::hold(client, said, &path(said)?, "DELETE", "")?,
    )
}

/// A number below 0 looks like an option, so it comes as a text.
fn priority_into(fields: &mut Map<String, Value>) -> Result<(), Failure> {
    let Some(text) = fields.get("priority").and_then(Value::as_str) else {
        return Ok(());
    };
    let number: i64 = text
        .parse()
        .map_err(|_| Failure::Usage(format!("--priority: {text:?} is no whole number")))?;
    fields.insert("priority".into(), json!(number));
    Ok(())
}

fn go_on(client: &Client, said: &Said, word: &str) -> Result<(), Failure> {
    let assignment = steer::go_on(client, said, &path(said)?, word, &Content::Nothing)?;
    one(said, &assignment)
}

fn path(said: &Said) -> Result<String, Failure> {
    let id = id(&said.operands[0], "assignment list")?;
    Ok(format!("{ASSIGNMENTS}/{id}"))
}
