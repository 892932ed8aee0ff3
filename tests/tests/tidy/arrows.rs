//! Who may know whom: the arrows between our crates, and what only the server
//! may reach.

use cargo_metadata::{DependencyKind, Package};

use crate::{assert_none, metadata, package, reach, read, root};

/// What each crate may name of ours, tests of the crate included. A sub-agent
/// is any crate under subagents/.
const ARROWS: &[(&str, &[&str])] = &[
    ("bootagent-protocol", &[]),
    ("bootagent-core", &[]),
    ("bootagent-kit", &["bootagent-protocol"]),
    (
        "bootagent",
        &["bootagent-core", "bootagent-kit", "bootagent-protocol"],
    ),
    ("bootserver", &["bootagent-protocol"]),
    ("bootserver-sim", &["bootagent-core", "bootagent-protocol"]),
    ("e2e", &[]),
];
const ARROWS_OF_A_SUBAGENT: &[&str] = &["bootagent-kit", "bootagent-protocol"];

/// Crates that run futures. Hosts have threads and deadlines instead.
const ASYNC_RUNTIMES: &[&str] = &[
    "actix-rt",
    "async-executor",
    "async-io",
    "async-std",
    "futures-executor",
    "smol",
    "tokio",
];
/// The crates that may reach them.
const ASYNC_CRATES: [&str; 2] = ["bootserver", "bootserver-sim"];

fn is_subagent(package: &Package) -> bool {
    let path = package.manifest_path.as_std_path();
    path.starts_with(root().join("subagents"))
}

fn arrows_of(package: &Package) -> Option<&'static [&'static str]> {
    if is_subagent(package) {
        return Some(ARROWS_OF_A_SUBAGENT);
    }
    let row = ARROWS.iter().find(|row| row.0 == package.name.as_str())?;
    Some(row.1)
}

#[test]
fn our_crates_know_only_those_they_may_know() {
    let members = metadata().workspace_packages();
    let mut wrong = Vec::new();
    for member in &members {
        let Some(allowed) = arrows_of(member) else {
            wrong.push(format!("{} is in no row of ARROWS", member.name));
            continue;
        };
        for dependency in &member.dependencies {
            let name = dependency.name.as_str();
            let ours = members.iter().any(|other| other.name.as_str() == name);
            if ours && !allowed.contains(&name) {
                wrong.push(format!("{} -> {name}", member.name));
            }
        }
    }
    for (name, _) in ARROWS {
        if !members.iter().any(|member| member.name.as_str() == *name) {
            wrong.push(format!("{name} of ARROWS is no crate of ours"));
        }
    }
    assert_none(
        &wrong,
        "arrows that ARCHITECTURE.md does not have (reading: A -> B, A knows B)",
    );
}

#[test]
fn only_the_server_reaches_an_async_runtime() {
    let mut wrong = Vec::new();
    let mut reaching = Vec::new();
    for member in metadata().workspace_packages() {
        let reached = reach(&member.id, &[DependencyKind::Normal, DependencyKind::Build]);
        let runtimes = reached.iter().map(|id| package(id).name.as_str());
        let runtimes: Vec<_> = runtimes.filter(|it| ASYNC_RUNTIMES.contains(it)).collect();
        if ASYNC_CRATES.contains(&member.name.as_str()) {
            reaching.extend(runtimes.contains(&"tokio").then_some(&member.name));
        } else if !runtimes.is_empty() {
            wrong.push(format!("{} reaches {}", member.name, runtimes.join(", ")));
        }
    }
    assert_none(&wrong, "programs of a host have threads, no async runtime");
    // They do, so the search above finds what it looks for.
    assert_eq!(reaching.len(), ASYNC_CRATES.len(), "only {reaching:?} do");
}

#[test]
fn the_deciding_crate_has_neither_std_nor_dependencies() {
    let members = metadata().workspace_packages();
    let core = members
        .iter()
        .find(|member| member.name.as_str() == "bootagent-core");
    let core = core.expect("it is in ARROWS");
    let product = core.dependencies.iter();
    let product = product.filter(|it| it.kind != DependencyKind::Development);
    let named: Vec<_> = product.map(|it| it.name.clone()).collect();
    assert_none(&named, "bootagent-core decides with what the language has");

    let source = root().join("bootagent/core/src");
    let lib = read(&source.join("lib.rs"));
    assert!(
        lib.lines().any(|line| line == "#![no_std]"),
        "bootagent/core/src/lib.rs is not no_std: clocks, files and threads are in reach"
    );
    let mut wrong = Vec::new();
    for path in crate::files_ending_in(".rs") {
        if path.starts_with(&source) && read(&path).contains("extern crate std") {
            wrong.push(crate::shown(&path));
        }
    }
    assert_none(&wrong, "std brought back by the back door");
}
