//! What an operator orders, made into jobs, or only looked at: which hosts, which
//! file for each, and whether the wire allows it.

pub mod goods;
mod hosts;
mod packages;

use std::collections::BTreeMap;

use bootagent_protocol::{Action, Job};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::packages::PackageView;
use crate::access::scope::Scope;
use crate::app::App;
use crate::problem::Problem;
use crate::store::host::{HostSummary, Reported};
use crate::store::job::{JobGroup, NewJobs};
use crate::store::package::PackageRow;
use hosts::hosts;
use packages::{Fitted, with_packages};

/// How long an order may wait, in seconds: where nothing is said, and at most.
const EXPIRES_IN: u64 = 7 * 86_400;
const MAX_EXPIRES_IN: u64 = 366 * 86_400;

/// Most hosts without a file that are named.
const MAX_NAMED: usize = 100;

/// An order for many hosts. Which fields are needed depends on the action.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateJobs {
    /// `install`, `upgrade`, `uninstall`, `start`, `stop`, `restart` or `config`.
    #[schema(example = "install")]
    action: String,
    /// The hosts, by agentsn. Either this, or `selector` and `group`.
    #[serde(default)]
    hosts: Vec<String>,
    /// All hosts with these tags.
    #[schema(example = "svc=ecs,cmpt=DB")]
    selector: Option<String>,
    /// All hosts in the group of this id; with `selector`, those in both.
    group: Option<String>,
    /// How many hosts that must be; otherwise nothing is ordered (409).
    expected_hosts: Option<u64>,
    /// The sub-agent.
    name: Option<String>,
    /// Its version: the uploaded package of this version.
    version: Option<String>,
    /// The uploaded package, by id.
    package: Option<String>,
    /// A package elsewhere: http, https, ftp or file.
    url: Option<String>,
    /// The SHA-256 of that package, as `SHA256:hex`.
    checksum: Option<String>,
    /// minisign signature of the package, the text of its `.minisig`; without it
    /// that of the uploaded package.
    signature: Option<String>,
    /// The child's environment.
    envs: Option<BTreeMap<String, String>>,
    /// The child's limits.
    #[schema(value_type = Option<crate::openapi::LimitsSchema>)]
    limits: Option<Map<String, Value>>,
    /// BootAgent's server list (config without a name).
    #[schema(example = "192.168.9.1:1234,")]
    svrlist: Option<String>,
    /// Seconds between two statuses (config without a name).
    step: Option<u64>,
    /// Seconds a new version is watched before the old one is given up.
    watch: Option<u64>,
    /// Whether an older version may replace a newer one.
    downgrade: Option<bool>,
    /// Seconds from now until it must not begin any more; 7 days when it does not say.
    expires_in: Option<u64>,
}

/// Makes an order into jobs that are ready to be stored.
pub async fn prepare(
    app: &App,
    order: &CreateJobs,
    scope: &Scope,
    now: i64,
) -> Result<NewJobs, Problem> {
    let action = action(&order.action)?;
    let expires = expires(order.expires_in, now)?;
    let hosts = hosts(app, order, scope).await?;
    let count = hosts.len();
    let fitted = with_packages(app, order, action, hosts).await?;
    if !fitted.without.is_empty() {
        let detail = format!(
            "the package has no file for {} of the {count} hosts; nothing was started",
            fitted.without.len()
        );
        let named = fitted.without.iter().take(MAX_NAMED);
        let named = named.map(|host| {
            let Reported { os, arch, .. } = &host.reported;
            format!("{}: no file for {os} {arch}", host.agentsn)
        });
        return Err(Problem::invalid_list(&detail, named.collect()));
    }
    let mut groups = Vec::new();
    for (package, hosts) in fitted.groups {
        groups.push(group(order, action, expires, package.as_ref(), &hosts)?);
    }
    Ok(NewJobs {
        action,
        name: order_name(&groups),
        expires: Some(expires),
        created: now,
        groups,
    })
}

/// What an order would do.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobPreview {
    /// Hosts it means.
    hosts: usize,
    /// Which files they would get; none where the action needs none.
    files: Vec<FilePreview>,
    /// Hosts the package has no file for. With any, the order is refused.
    without_file: usize,
    /// The first 100 of them.
    without_file_hosts: Vec<HostWithoutFile>,
}

/// The hosts that would get one file.
#[derive(Debug, Serialize, ToSchema)]
pub struct FilePreview {
    /// The uploaded package.
    package: PackageView,
    /// How many hosts would get it.
    hosts: usize,
}

/// A host the package has no file for.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostWithoutFile {
    /// The host.
    agentsn: String,
    /// Its name.
    hostname: String,
    /// Its operating system.
    os: String,
    /// Its architecture.
    arch: String,
}

/// Looks at an order without giving it.
pub async fn preview(
    app: &App,
    order: &CreateJobs,
    scope: &Scope,
    now: i64,
) -> Result<JobPreview, Problem> {
    let action = action(&order.action)?;
    let expires = expires(order.expires_in, now)?;
    let hosts = hosts(app, order, scope).await?;
    let count = hosts.len();
    let Fitted { groups, without } = with_packages(app, order, action, hosts).await?;
    let mut files = Vec::new();
    for (package, hosts) in groups {
        group(order, action, expires, package.as_ref(), &hosts)?;
        files.extend(package.map(|package| FilePreview {
            package: package.into(),
            hosts: hosts.len(),
        }));
    }
    Ok(JobPreview {
        hosts: count,
        files,
        without_file: without.len(),
        without_file_hosts: without
            .into_iter()
            .take(MAX_NAMED)
            .map(|host| HostWithoutFile {
                agentsn: host.agentsn,
                hostname: host.reported.hostname,
                os: host.reported.os,
                arch: host.reported.arch,
            })
            .collect(),
    })
}

fn action(word: &str) -> Result<Action, Problem> {
    match Action::parse(word) {
        Some(Action::Cancel) => Err(Problem::invalid(
            "action: cancel a job by POST /api/v1/jobs/ID/cancel",
        )),
        Some(action) => Ok(action),
        None => Err(Problem::invalid(
            "action: install, upgrade, uninstall, start, stop, restart or config is expected",
        )),
    }
}

fn expires(seconds: Option<u64>, now: i64) -> Result<i64, Problem> {
    let seconds = seconds.unwrap_or(EXPIRES_IN);
    match i64::try_from(seconds) {
        Ok(signed) if (1..=MAX_EXPIRES_IN).contains(&seconds) => Ok(now + signed * 1000),
        Ok(_) | Err(_) => Err(Problem::invalid(&format!(
            "expires_in: 1 to {MAX_EXPIRES_IN} is expected"
        ))),
    }
}

fn group(
    order: &CreateJobs,
    action: Action,
    expires: i64,
    package: Option<&PackageRow>,
    hosts: &[HostSummary],
) -> Result<JobGroup, Problem> {
    let hosts: Vec<(String, String)> = hosts
        .iter()
        .map(|host| (Uuid::now_v7().to_string(), host.agentsn.clone()))
        .collect();
    let body = checked_body(order, action, expires, package)?;
    let package = package.map(|package| package.id.clone());
    Ok(JobGroup {
        version: text_of(&body, "version"),
        body: Value::Object(body),
        package,
        hosts,
    })
}

/// The order as on the wire, without its id, if hosts would take it.
fn checked_body(
    order: &CreateJobs,
    action: Action,
    expires: i64,
    package: Option<&PackageRow>,
) -> Result<Map<String, Value>, Problem> {
    let mut body = body(order, action, expires);
    if let Some(package) = package {
        let checksum = format!("SHA256:{}", package.sha256);
        agree("name", order.name.as_deref(), &package.name)?;
        agree("version", order.version.as_deref(), &package.version)?;
        agree_checksum(order.checksum.as_deref(), &checksum)?;
        let own = [
            ("name", package.name.clone()),
            ("version", package.version.clone()),
            ("url", package.url()),
            ("checksum", checksum),
        ];
        body.extend(own.map(|(key, value)| (key.to_owned(), Value::String(value))));
        // Who orders may have signed it themselves.
        if let (None, Some(signature)) = (&order.signature, &package.signature) {
            body.insert("signature".into(), Value::String(signature.clone()));
        }
    }
    // What goes out is checked as hosts check it, with an id of the same form.
    let mut on_the_wire = body.clone();
    on_the_wire.insert("id".into(), Value::String(Uuid::nil().to_string()));
    Job::parse(&Value::Object(on_the_wire)).map_err(|error| Problem::invalid(&error.message))?;
    Ok(body)
}

fn text_of(body: &Map<String, Value>, key: &str) -> Option<String> {
    body.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn body(order: &CreateJobs, action: Action, expires: i64) -> Map<String, Value> {
    let text = |value: &Option<String>| value.clone().map(Value::String);
    let fields = [
        ("action", Some(Value::String(action.as_str().into()))),
        ("name", text(&order.name)),
        ("version", text(&order.version)),
        ("url", text(&order.url)),
        ("checksum", text(&order.checksum)),
        ("signature", text(&order.signature)),
        (
            "envs",
            order.envs.as_ref().map(|envs| serde_json::json!(envs)),
        ),
        ("limits", order.limits.clone().map(Value::Object)),
        ("svrlist", text(&order.svrlist)),
        ("step", order.step.map(Value::from)),
        // The wire counts in seconds; a broken one is still in time.
        ("expires", Some(Value::from(expires.div_euclid(1000) + 1))),
        ("watch", order.watch.map(Value::from)),
        ("downgrade", order.downgrade.map(Value::from)),
    ];
    let given = fields
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    given.collect()
}

fn agree(field: &str, given: Option<&str>, own: &str) -> Result<(), Problem> {
    match given {
        Some(given) if given != own => Err(Problem::invalid(&format!(
            "{field}: the package says {own}"
        ))),
        _ => Ok(()),
    }
}

fn agree_checksum(given: Option<&str>, own: &str) -> Result<(), Problem> {
    match given {
        Some(given) if !given.eq_ignore_ascii_case(own) => Err(Problem::invalid(&format!(
            "checksum: the package's is {own}"
        ))),
        _ => Ok(()),
    }
}

fn order_name(groups: &[JobGroup]) -> Option<String> {
    let first = groups.first()?;
    first
        .body
        .get("name")
        .and_then(Value::as_str)
        .map(str::to_owned)
}
