//! What an operator asks of the server: jobs ordered during a run, and at its
//! end the lists of events and results.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http::{Broken, Connection, Reuse, Target};
use crate::ledger::EventKey;

/// Rows of a page.
const PAGE: u32 = 500;
/// How often something is asked for before it counts as failed; the server may
/// just be starting again.
const ATTEMPTS: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// The operator's side.
#[derive(Clone)]
pub(crate) struct Operator {
    target: Arc<Target>,
    token: Arc<str>,
}

impl Operator {
    pub(crate) fn new(target: Arc<Target>, token: &str) -> Self {
        Self {
            target,
            token: token.into(),
        }
    }

    /// Orders a restart of one sub-agent of each host; returns the jobs.
    /// Nothing is tried twice: an order whose answer was lost may hold.
    pub(crate) async fn order(
        &self,
        hosts: Vec<(Uuid, u32)>,
    ) -> anyhow::Result<Vec<(String, u32)>> {
        let names: Vec<String> = hosts
            .iter()
            .map(|(agentsn, _)| agentsn.to_string())
            .collect();
        let order = json!({ "action": "restart", "name": "flux-push", "hosts": names });
        let mut connection = None;
        let made = self
            .ask(
                &mut connection,
                "POST",
                "/api/v1/jobs",
                &order.to_string(),
                1,
            )
            .await?;
        let by_name: HashMap<String, u32> = names
            .into_iter()
            .zip(hosts.iter().map(|(_, host)| *host))
            .collect();
        let jobs = made["jobs"]
            .as_array()
            .context("no list of jobs came back")?;
        jobs.iter()
            .map(|job| {
                let id = job["id"].as_str().context("a job has no id")?;
                let agentsn = job["agentsn"].as_str().context("a job has no host")?;
                let host = by_name
                    .get(agentsn)
                    .context("a job is for a host that was not named")?;
                Ok((id.to_owned(), *host))
            })
            .collect()
    }

    /// Every event of a run that the server has.
    pub(crate) async fn events(&self, run: u64) -> anyhow::Result<Vec<EventKey>> {
        let rows = self.list("events").await?;
        let key = |row: &Value| EventKey::read(run, row["boot_id"].as_str()?, row["seq"].as_u64()?);
        Ok(rows.iter().filter_map(key).collect())
    }

    /// Every result of a host that the server has: its job, its host and its code.
    pub(crate) async fn results(&self) -> anyhow::Result<Vec<(String, Uuid, u16)>> {
        let rows = self.list("job-results").await?;
        let of_hosts = rows.iter().filter(|row| row["origin"] == "host");
        of_hosts
            .map(|row| {
                let id = row["id"].as_str().context("a result has no job")?;
                let agentsn = row["agentsn"].as_str().context("a result has no host")?;
                let errcode = row["errcode"].as_u64().context("a result has no code")?;
                Ok((
                    id.to_owned(),
                    Uuid::try_parse(agentsn)?,
                    u16::try_from(errcode)?,
                ))
            })
            .collect()
    }

    async fn list(&self, what: &str) -> anyhow::Result<Vec<Value>> {
        let mut connection = None;
        let mut rows = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/api/v1/{what}?limit={PAGE}{cursor}");
            let mut page = self
                .ask(&mut connection, "GET", &path, "", ATTEMPTS)
                .await?;
            let Value::Array(items) = page["items"].take() else {
                bail!("{path}: no list came back");
            };
            rows.extend(items);
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={}", escaped(next)),
                None => return Ok(rows),
            }
        }
    }

    async fn ask(
        &self,
        connection: &mut Option<Connection>,
        method: &str,
        path: &str,
        body: &str,
        attempts: u32,
    ) -> anyhow::Result<Value> {
        let bearer = |bytes: &mut Vec<u8>| bytes.extend_from_slice(self.token.as_bytes());
        let request = self
            .target
            .request(method, path, bearer, body.as_bytes(), Reuse::Always);
        let what = || format!("{method} {}", path.split('?').next().unwrap_or_default());
        let mut attempt = 1;
        loop {
            let asked = async {
                let mut open = match connection.take() {
                    Some(open) => open,
                    None => self.target.connect().await?,
                };
                let (reply, more) = open.exchange(&request).await?;
                *connection = more.then_some(open);
                Ok::<_, Broken>(reply)
            };
            match asked.await {
                Ok(reply) if matches!(reply.status, 429 | 503) && attempt < attempts => {}
                Ok(reply) => {
                    let said = String::from_utf8_lossy(&reply.body);
                    ensure!(
                        (200..300).contains(&reply.status),
                        "{}: status {} {said}",
                        what(),
                        reply.status
                    );
                    return serde_json::from_slice(&reply.body)
                        .with_context(|| format!("{}: the reply is no JSON", what()));
                }
                Err(broken) => ensure!(attempt < attempts, "{}: {broken:?}", what()),
            }
            attempt += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether the token holds.
    pub(crate) async fn check(&self) -> anyhow::Result<()> {
        self.ask(&mut None, "GET", "/api/v1/hosts?limit=1", "", 1)
            .await
            .map(drop)
    }
}

/// As a query wants it.
fn escaped(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::new(), |mut query, byte| {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' => query.push(char::from(byte)),
            _ => write!(query, "%{byte:02X}").expect("a string takes it"),
        }
        query
    })
}
