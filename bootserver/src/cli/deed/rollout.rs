//! Rollouts: put together from options, shown, and told what to do.

use serde_json::{Map, Value, json};

use super::super::client::{Client, Content};
use super::super::failure::Failure;
use super::super::show::{As, Column};
use super::super::words::Said;
use super::group::group_id;
use super::page::list;
use super::{agentsn, body_text, id, one, steer};

const ROLLOUTS: &str = "/api/v1/rollouts";
/// Options that say of which hosts, and those that say how it goes on; the others
/// say what is ordered.
const OF_TARGETS: [&str; 3] = ["selector", "hostname", "all"];
const OF_PLAN: [&str; 4] = ["parallel", "fail_count", "fail_rate", "expires_in"];
const OF_ORDER: [&str; 7] = [
    "version",
    "package",
    "url",
    "checksum",
    "watch",
    "step",
    "downgrade",
];

/// `-d` gives what there are no options for (envs, limits, a window, ...); what is said
/// beside it wins.
pub(crate) fn rollout_create(client: &Client, said: &Said) -> Result<(), Failure> {
    let mut rollout = document(said)?;
    let mut fields = said.fields()?;
    let mut order = part(&rollout, "order");
    order.insert("action".into(), json!(said.operands[0]));
    if let Some(agent) = said.operands.get(1) {
        order.insert("name".into(), json!(agent));
    }
    order.extend(taken(&mut fields, &OF_ORDER));
    rollout.insert("order".into(), Value::Object(order));
    let targets = targets(client, said, part(&rollout, "targets"), &mut fields)?;
    rollout.insert("targets".into(), Value::Object(targets));
    plan_into(said, &mut rollout, &mut fields)?;
    let is_look = fields.remove("dry_run").is_some();
    rollout.extend(fields);
    let path = match is_look {
        true => format!("{ROLLOUTS}/preview"),
        false => ROLLOUTS.to_owned(),
    };
    let content = Content::value(&Value::Object(rollout));
    one(said, &client.call("POST", &path, &content)?)
}

pub(crate) fn rollout_list(client: &Client, said: &Said) -> Result<(), Failure> {
    const COLUMNS: [Column; 8] = [
        ("CREATED", "created", As::Time),
        ("PHASE", "phase", As::Is),
        ("REASON", "reason", As::Is),
        ("NAME", "name", As::Is),
        ("TARGETS", "targets", As::Is),
        ("FAILURES", "failures", As::Is),
        ("AUTHOR", "author", As::Is),
        ("ID", "id", As::Is),
    ];
    list(client, said, ROLLOUTS, &said.query()?, &COLUMNS)
}

pub(crate) fn rollout_show(client: &Client, said: &Said) -> Result<(), Failure> {
    let path = path(said, "")?;
    one(said, &client.call("GET", &path, &Content::Nothing)?)
}

pub(crate) fn rollout_targets(client: &Client, said: &Said) -> Result<(), Failure> {
    const COLUMNS: [Column; 8] = [
        ("STAGE", "stage", As::Is),
        ("HOSTNAME", "hostname", As::Is),
        ("STATE", "state", As::Is),
        ("SINCE", "since", As::Time),
        ("ERRCODE", "errcode", As::Is),
        ("REASON", "reason", As::Is),
        ("WAITS FOR", "waits_for", As::Is),
        ("AGENTSN", "agentsn", As::Is),
    ];
    list(
        client,
        said,
        &path(said, "/targets")?,
        &said.query()?,
        &COLUMNS,
    )
}

pub(crate) fn rollout_confirm(client: &Client, said: &Said) -> Result<(), Failure> {
    go_on(client, said, "/confirm")
}

pub(crate) fn rollout_pause(client: &Client, said: &Said) -> Result<(), Failure> {
    hold(client, said, "/pause")
}

pub(crate) fn rollout_resume(client: &Client, said: &Said) -> Result<(), Failure> {
    go_on(client, said, "/resume")
}

pub(crate) fn rollout_abort(client: &Client, said: &Said) -> Result<(), Failure> {
    hold(client, said, "/abort")
}

pub(crate) fn rollout_retry(client: &Client, said: &Said) -> Result<(), Failure> {
    follow(client, said, "/retry")
}

pub(crate) fn rollout_revert(client: &Client, said: &Said) -> Result<(), Failure> {
    follow(client, said, "/revert")
}

fn go_on(client: &Client, said: &Said, word: &str) -> Result<(), Failure> {
    let path = path(said, "")?;
    let rollout = steer::go_on(client, said, &path, word, &Content::Nothing)?;
    one(said, &rollout)
}

fn hold(client: &Client, said: &Said, word: &str) -> Result<(), Failure> {
    let rollout = steer::hold(client, said, &path(said, "")?, "POST", word)?;
    one(said, &rollout)
}

/// Another rollout after this one; without a plan of its own it has that one's.
fn follow(client: &Client, said: &Said, word: &str) -> Result<(), Failure> {
    let mut body = document(said)?;
    let mut fields = said.fields()?;
    plan_into(said, &mut body, &mut fields)?;
    body.extend(fields);
    let content = Content::value(&Value::Object(body));
    let rollout = steer::go_on(client, said, &path(said, "")?, word, &content)?;
    one(said, &rollout)
}

fn path(said: &Said, word: &str) -> Result<String, Failure> {
    let id = id(&said.operands[0], "rollout list")?;
    Ok(format!("{ROLLOUTS}/{id}{word}"))
}

pub(super) fn document(said: &Said) -> Result<Map<String, Value>, Failure> {
    match said.option("data") {
        None => Ok(Map::new()),
        Some(text) => serde_json::from_slice(&body_text(text)?)
            .map_err(|error| Failure::Usage(format!("--data: no JSON object: {error}"))),
    }
}

/// What a document says of this so far.
pub(super) fn part(document: &Map<String, Value>, key: &str) -> Map<String, Value> {
    let part = document.get(key).and_then(Value::as_object);
    part.cloned().unwrap_or_default()
}

/// These fields, which are taken out of the others.
fn taken(fields: &mut Map<String, Value>, keys: &[&str]) -> Map<String, Value> {
    let taken = keys.iter();
    taken
        .filter_map(|key| Some(((*key).to_owned(), fields.remove(*key)?)))
        .collect()
}

fn targets(
    client: &Client,
    said: &Said,
    mut targets: Map<String, Value>,
    fields: &mut Map<String, Value>,
) -> Result<Map<String, Value>, Failure> {
    targets.extend(taken(fields, &OF_TARGETS));
    let hosts = said.all("host").into_iter();
    let hosts: Vec<String> = hosts
        .map(|host| agentsn(client, host))
        .collect::<Result<_, _>>()?;
    if !hosts.is_empty() {
        targets.insert("hosts".into(), json!(hosts));
    }
    if let Some(group) = said.option("group") {
        targets.insert("group".into(), json!(group_id(client, group)?));
    }
    match targets.is_empty() {
        true => Err(Failure::Usage(
            "rollout create: --host, --selector, --group, --hostname or --all says of which hosts"
                .into(),
        )),
        false => Ok(targets),
    }
}

/// Puts a plan together, if anything is said of it.
pub(super) fn plan_into(
    said: &Said,
    body: &mut Map<String, Value>,
    fields: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let mut plan = part(body, "plan");
    plan.extend(taken(fields, &OF_PLAN));
    let soak = fields.remove("soak");
    if let Some(stages) = said.option("stages") {
        let stages = stages.split(',').map(|upto| {
            let mut stage = json!({ "upto": amount(upto.trim()) });
            // Behind the last one comes nothing.
            if let (Some(soak), false) = (&soak, upto.trim() == "all") {
                stage["soak"] = soak.clone();
            }
            stage
        });
        plan.insert("stages".into(), stages.collect());
    } else if soak.is_some() {
        return Err(Failure::Usage("--soak: it belongs to --stages".into()));
    }
    if let Some(parallel) = plan.get("parallel").and_then(Value::as_str) {
        let parallel = amount(parallel);
        plan.insert("parallel".into(), parallel);
    }
    if let Some(text) = plan.get("fail_count").and_then(Value::as_str) {
        let count: i64 = text
            .parse()
            .map_err(|_| Failure::Usage(format!("--fail-count: {text:?} is no whole number")))?;
        plan.insert("fail_count".into(), json!(count));
    }
    if fields.remove("second_user").is_some() {
        plan.insert("confirmation".into(), json!("second_user"));
    }
    if !plan.is_empty() {
        body.insert("plan".into(), Value::Object(plan));
    }
    Ok(())
}

/// `5`, `10%` or `all`, as the API has it.
fn amount(text: &str) -> Value {
    text.parse::<u64>()
        .map_or_else(|_| json!(text), |hosts| json!(hosts))
}
