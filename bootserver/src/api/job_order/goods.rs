//! What a rollout orders, made of the same order as single jobs; and of a way back.

use std::collections::BTreeMap;

use bootagent_protocol::Action;

use super::packages::{needs_upload, offers};
use super::{CreateJobs, FilePreview, HostWithoutFile, JobPreview, MAX_NAMED};
use super::{action, checked_body, text_of};
use crate::access::scope::Scope;
use crate::app::App;
use crate::fleet::package_choice::HostSystem;
use crate::fleet::rollout::goods::{File, Goods, Variant};
use crate::problem::Problem;
use crate::store::package::PackageRow;
use crate::store::rollout::{SystemCount, TargetSet};

/// What BootAgent's own configuration concerns.
const BOOTAGENT: &str = "bootagent";

/// What is ordered, and of what.
pub struct Ordered {
    /// What to do.
    pub action: Action,
    /// The agent it concerns.
    pub agent: String,
    /// The version it brings.
    pub version: Option<String>,
    /// What targets get.
    pub goods: Goods,
}

/// What an order means for any host.
pub async fn ordered(app: &App, order: &CreateJobs) -> Result<Ordered, Problem> {
    refuse_targets(order)?;
    let action = action(&order.action)?;
    let variants = match needs_upload(order, action)? {
        false => vec![variant(order, action, None, None)?],
        true => {
            let packages = offers(app, order).await?;
            let variants = packages.iter();
            let variants = variants.map(|package| variant(order, action, Some(package), None));
            variants.collect::<Result<_, _>>()?
        }
    };
    let first = variants.first();
    let agent = first.and_then(|first: &Variant| text_of(&first.body, "name"));
    Ok(Ordered {
        action,
        agent: agent.unwrap_or_else(|| BOOTAGENT.to_owned()),
        version: first.and_then(|first| first.version.clone()),
        goods: Goods { variants },
    })
}

/// What hosts get that shall have this version of a sub-agent, whatever they have.
pub async fn assigned(
    app: &App,
    agent: &str,
    version: &str,
    watch: Option<u64>,
) -> Result<Goods, Problem> {
    if agent == BOOTAGENT {
        return Err(Problem::invalid(
            "agent: BootAgent itself is not assigned; upgrade it by a rollout",
        ));
    }
    let order = CreateJobs {
        action: Action::Install.as_str().to_owned(),
        name: Some(agent.to_owned()),
        version: Some(version.to_owned()),
        downgrade: Some(true),
        watch,
        ..CreateJobs::default()
    };
    Ok(ordered(app, &order).await?.goods)
}

/// What takes targets of these kinds back: an upgrade to the version each had, or the
/// removal of what was not there. An upgrade is watched as long as the one before.
pub async fn way_back(
    app: &App,
    agent: &str,
    former: &Goods,
    systems: &[SystemCount],
) -> Result<Ordered, Problem> {
    let watch = former.variants.first();
    let watch = watch.and_then(|variant| variant.body.get("watch")?.as_u64());
    let mut versions: Vec<&str> = systems
        .iter()
        .filter_map(|system| system.version.as_deref())
        .collect();
    versions.sort_unstable();
    versions.dedup();
    let mut variants = Vec::new();
    let mut missing = Vec::new();
    for version in versions {
        if version.is_empty() {
            let order = CreateJobs {
                name: Some(agent.to_owned()),
                ..CreateJobs::default()
            };
            variants.push(variant(&order, Action::Uninstall, None, Some(version))?);
            continue;
        }
        let order = CreateJobs {
            name: Some(agent.to_owned()),
            version: Some(version.to_owned()),
            downgrade: Some(true),
            watch,
            ..CreateJobs::default()
        };
        match offers(app, &order).await {
            Ok(packages) => {
                for package in &packages {
                    let back = variant(&order, Action::Upgrade, Some(package), Some(version))?;
                    variants.push(back);
                }
            }
            Err(_) => missing.push(format!("{agent} {version}")),
        }
    }
    if !missing.is_empty() {
        let detail = "some hosts had versions that are not there any more; upload them again";
        return Err(Problem::invalid_list(detail, missing));
    }
    Ok(Ordered {
        action: Action::Upgrade,
        agent: agent.to_owned(),
        version: None,
        goods: Goods { variants },
    })
}

/// What a rollout's order does not say itself.
fn refuse_targets(order: &CreateJobs) -> Result<(), Problem> {
    let is_said = !order.hosts.is_empty()
        || order.selector.is_some()
        || order.group.is_some()
        || order.expected_hosts.is_some()
        || order.expires_in.is_some();
    match is_said {
        true => Err(Problem::invalid(
            "order: hosts, selector, group and expected_hosts belong to targets, expires_in to plan",
        )),
        false => Ok(()),
    }
}

fn variant(
    order: &CreateJobs,
    action: Action,
    package: Option<&PackageRow>,
    only_for: Option<&str>,
) -> Result<Variant, Problem> {
    // The end depends on when it is handed out.
    let mut body = checked_body(order, action, 0, package)?;
    body.remove("expires");
    Ok(Variant {
        only_for: only_for.map(str::to_owned),
        file: package.map(|package| File {
            id: package.id.clone(),
            os: package.os.clone(),
            arch: package.arch.clone(),
            kind: package.kind,
        }),
        action,
        version: text_of(&body, "version"),
        body,
    })
}

/// How an order fits the hosts of a set.
pub struct Fit {
    /// How many there are.
    pub hosts: i64,
    /// Those there is no file for.
    pub without: Vec<SystemCount>,
    files: BTreeMap<String, i64>,
}

impl Fit {
    /// Looks what hosts of these kinds would get.
    pub fn of(goods: &Goods, systems: &[SystemCount]) -> Self {
        let mut fit = Self {
            hosts: 0,
            without: Vec::new(),
            files: BTreeMap::new(),
        };
        for system in systems {
            fit.hosts += system.hosts;
            let host = HostSystem {
                os: &system.os,
                arch: &system.arch,
            };
            match goods.pick(system.version.as_deref(), host) {
                Some(Variant {
                    file: Some(file), ..
                }) => *fit.files.entry(file.id.clone()).or_default() += system.hosts,
                Some(_) => {}
                None => fit.without.push(system.clone()),
            }
        }
        fit
    }

    /// The same for people, who want to know whom it leaves out.
    pub async fn preview(
        self,
        app: &App,
        set: &TargetSet,
        scope: &Scope,
    ) -> Result<JobPreview, Problem> {
        let mut files = Vec::new();
        for (id, hosts) in self.files {
            if let Some(package) = app.store.package(&id).await? {
                files.push(FilePreview {
                    package: package.into(),
                    hosts: number(hosts),
                });
            }
        }
        let named = app.store.hosts_like(set, scope, &self.without, MAX_NAMED);
        let named = named.await?.into_iter().map(|host| HostWithoutFile {
            agentsn: host.agentsn,
            hostname: host.hostname,
            os: host.os,
            arch: host.arch,
        });
        Ok(JobPreview {
            hosts: number(self.hosts),
            files,
            without_file: number(self.without.iter().map(|system| system.hosts).sum()),
            without_file_hosts: named.collect(),
        })
    }

    /// Refuses an order that leaves hosts without a file, and names some.
    pub async fn refuse_without(
        &self,
        app: &App,
        set: &TargetSet,
        scope: &Scope,
    ) -> Result<(), Problem> {
        if self.without.is_empty() {
            return Ok(());
        }
        let without: i64 = self.without.iter().map(|system| system.hosts).sum();
        let detail = format!(
            "the package has no file for {without} of the {} hosts; nothing was started",
            self.hosts
        );
        let named = app.store.hosts_like(set, scope, &self.without, MAX_NAMED);
        let named = named.await?.into_iter();
        let named =
            named.map(|host| format!("{}: no file for {} {}", host.agentsn, host.os, host.arch));
        Err(Problem::invalid_list(&detail, named.collect()))
    }
}

fn number(hosts: i64) -> usize {
    usize::try_from(hosts).unwrap_or_default()
}
