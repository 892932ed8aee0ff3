//! Which file of a package each host gets, and which hosts have none.

use std::collections::BTreeMap;

use bootagent_protocol::Action;
use uuid::Uuid;

use super::CreateJobs;
use crate::app::App;
use crate::fleet::package_choice::{HostSystem, Offer, choose};
use crate::problem::Problem;
use crate::store::host::HostSummary;
use crate::store::package::{PackageQuery, PackageRow};
use crate::store::page::{Limit, MAX_LIMIT};

/// The hosts of an order.
pub(super) struct Fitted {
    /// By the file they get; without one, where the action needs none.
    pub(super) groups: Vec<(Option<PackageRow>, Vec<HostSummary>)>,
    /// Those for which the package has no file.
    pub(super) without: Vec<HostSummary>,
}

/// Sorts hosts by the package each of them gets.
pub(super) async fn with_packages(
    app: &App,
    order: &CreateJobs,
    action: Action,
    hosts: Vec<HostSummary>,
) -> Result<Fitted, Problem> {
    if !needs_upload(order, action)? {
        return Ok(Fitted {
            groups: vec![(None, hosts)],
            without: Vec::new(),
        });
    }
    let offers = offers(app, order).await?;
    let mut groups: BTreeMap<usize, Vec<HostSummary>> = BTreeMap::new();
    let rows: Vec<Offer<'_>> = offers.iter().map(PackageRow::offer).collect();
    let mut without = Vec::new();
    for host in hosts {
        let system = HostSystem {
            os: &host.reported.os,
            arch: &host.reported.arch,
        };
        match choose(&rows, system) {
            Some(index) => groups.entry(index).or_default().push(host),
            None => without.push(host),
        }
    }
    let groups = groups.into_iter();
    let groups = groups.map(|(index, hosts)| (offers.get(index).cloned(), hosts));
    Ok(Fitted {
        groups: groups.collect(),
        without,
    })
}

/// Whether an order is about an uploaded package.
pub(super) fn needs_upload(order: &CreateJobs, action: Action) -> Result<bool, Problem> {
    let is_elsewhere = order
        .url
        .as_deref()
        .is_some_and(|url| !url.starts_with('/'));
    if action.needs_package() && !is_elsewhere {
        return Ok(true);
    }
    match order.package {
        Some(_) => Err(Problem::invalid(
            "package: install and upgrade take one, without url",
        )),
        None => Ok(false),
    }
}

/// The files an order may mean: the one it names, or those of one version.
pub(super) async fn offers(app: &App, order: &CreateJobs) -> Result<Vec<PackageRow>, Problem> {
    let unknown = |what: &str| Problem::invalid(&format!("{what}: there is no such package"));
    if let Some(id) = &order.package {
        if order.url.is_some() {
            return Err(Problem::invalid("package: it has its own url"));
        }
        let package = match Uuid::try_parse(id) {
            Ok(id) => app.store.package(&id.hyphenated().to_string()).await?,
            Err(_) => None,
        };
        return Ok(vec![package.ok_or_else(|| unknown("package"))?]);
    }
    if let Some(url) = &order.url {
        let file = url.strip_prefix("/packages/").unwrap_or_default();
        let package = app.store.package_by_file(file).await?;
        return Ok(vec![package.ok_or_else(|| unknown("url"))?]);
    }
    let Some(name) = &order.name else {
        return Err(Problem::invalid(
            "package, url or name: one is needed to know what to install",
        ));
    };
    let limit = Limit::new(MAX_LIMIT).expect("the largest limit is allowed");
    let (name, version) = (Some(name.clone()), order.version.clone());
    let query = PackageQuery {
        name,
        version,
        limit,
        ..PackageQuery::default()
    };
    let mut packages = app.store.packages(&query).await?.items;
    // Newest first: without a version, that of the newest upload is meant.
    let Some(version) = packages.first().map(|newest| newest.version.clone()) else {
        return Err(unknown("name and version"));
    };
    packages.retain(|package| package.version == version);
    Ok(packages)
}
