//! `job create`: an order, put together from a document and options.

use serde_json::{Value, json};

use super::super::client::{Client, Content};
use super::super::failure::Failure;
use super::super::show::{self, As, Column};
use super::super::words::Said;
use super::group::group_id;
use super::{agentsn, body_text};

/// `-d` gives what there are no options for (envs, limits, ...); what is said
/// beside it wins.
pub(crate) fn job_create(client: &Client, said: &Said) -> Result<(), Failure> {
    let mut order = match said.option("data") {
        None => serde_json::Map::new(),
        Some(text) => serde_json::from_slice(&body_text(text)?)
            .map_err(|error| Failure::Usage(format!("--data: no JSON object: {error}")))?,
    };
    order.extend(said.fields()?);
    order.insert("action".into(), json!(said.operands[0]));
    if let Some(agent) = said.operands.get(1) {
        order.insert("name".into(), json!(agent));
    }
    let hosts = said.all("host").into_iter();
    let hosts: Vec<String> = hosts
        .map(|host| agentsn(client, host))
        .collect::<Result<_, _>>()?;
    if !hosts.is_empty() {
        order.insert("hosts".into(), json!(hosts));
    }
    if let Some(group) = said.option("group") {
        order.insert("group".into(), json!(group_id(client, group)?));
    }
    if !["hosts", "selector", "group"]
        .iter()
        .any(|key| order.contains_key(*key))
    {
        let text = "job create: --host, --selector or --group says on which hosts";
        return Err(Failure::Usage(text.into()));
    }
    let order = Value::Object(order);
    let made = client.call("POST", "/api/v1/jobs", &Content::value(&order))?;
    if said.as_json {
        return show::json(&made);
    }
    const COLUMNS: [Column; 3] = [
        ("ID", "id", As::Is),
        ("AGENTSN", "agentsn", As::Is),
        ("PACKAGE", "package", As::Is),
    ];
    let jobs = made["jobs"].as_array();
    show::table(jobs.map_or(&[], Vec::as_slice), &COLUMNS)
}
