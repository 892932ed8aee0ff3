//! One version of everything, chosen in one table, from one place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::DependencyKind;
use toml::{Table, Value};

use crate::{assert_none, metadata, package, reach_of_all, read, root, shown};

/// Crates of which two versions are built, and why that is borne. A row goes
/// as soon as it can.
const TWICE: &[(&str, &str)] = &[
    (
        "base64",
        "sqlx 0.9 has 0.22, ureq 3.5 has 0.23; server and hosts never share a program",
    ),
    ("block-buffer", "below digest, see there"),
    ("cpufeatures", "below sha2, see there"),
    ("crypto-common", "below digest, see there"),
    ("digest", "below sha2, see there"),
    (
        "getrandom",
        "ring 0.17 has 0.2, everything else 0.4; ring 0.18 is not out",
    ),
    (
        "hashbrown",
        "hashlink and sqlx-core have 0.16, indexmap has 0.17; server only",
    ),
    (
        "sha2",
        "sqlx-core 0.9 has 0.10 (for its migrations), ours is 0.11; server only",
    ),
    (
        "syn",
        "macros of sqlx and tracing have 2, those of serde and thiserror 3; while building only",
    ),
];

#[test]
fn two_versions_of_a_crate_have_a_reason() {
    let kinds = [
        DependencyKind::Normal,
        DependencyKind::Build,
        DependencyKind::Development,
    ];
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for id in reach_of_all(&kinds) {
        let package = package(&id);
        let known = versions.entry(package.name.as_str()).or_default();
        known.insert(package.version.to_string());
    }
    versions.retain(|_, known| known.len() > 1);
    let mut wrong = Vec::new();
    for (name, known) in &versions {
        if !TWICE.iter().any(|row| row.0 == *name) {
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            let known = known.join(" and ");
            wrong.push(format!(
                "{name} {known}: `cargo tree -i {name}@VERSION` says through whom"
            ));
        }
    }
    for (name, _) in TWICE {
        if !versions.contains_key(name) {
            wrong.push(format!(
                "{name}: only one version is left, the row of TWICE can go"
            ));
        }
    }
    assert_none(&wrong, "crates in two versions");
}

/// The dependency tables of a manifest: normal, for tests, for build scripts.
fn dependencies(manifest: &Table) -> Vec<(&str, &Value)> {
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = tables.iter().filter_map(|name| manifest.get(*name));
    let rows = tables.filter_map(Value::as_table).flatten();
    rows.map(|(name, value)| (name.as_str(), value)).collect()
}

fn manifest(path: &Path) -> Table {
    let text = read(path);
    text.parse()
        .unwrap_or_else(|error| panic!("{}: {error}", shown(path)))
}

#[test]
fn the_one_version_table_is_used_by_all_and_has_no_row_too_many() {
    let workspace = manifest(&root().join("Cargo.toml"));
    let table = workspace["workspace"]["dependencies"].as_table();
    let table = table.expect("the root manifest has the table");
    let mut used = BTreeSet::new();
    let mut wrong = Vec::new();
    for member in metadata().workspace_packages() {
        let path = member.manifest_path.as_std_path();
        for (name, value) in dependencies(&manifest(path)) {
            let inherited = value.get("workspace").and_then(Value::as_bool);
            if inherited != Some(true) {
                let path = shown(path);
                wrong.push(format!(
                    "{path}: {name} has a version of its own; write {name}.workspace = true"
                ));
            }
            used.insert(name.to_owned());
        }
    }
    let rows = table.keys();
    let idle = rows.filter(|name| !used.contains(*name));
    wrong.extend(idle.map(|name| format!("Cargo.toml: {name} is used by no crate")));
    assert_none(&wrong, "the version table of the root Cargo.toml");
}

#[test]
fn the_lock_file_names_one_registry_and_no_folder_of_this_machine() {
    const REGISTRY: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let lock = read(&root().join("Cargo.lock"));
    let sources: Vec<_> = lock
        .lines()
        .filter(|line| line.starts_with("source"))
        .collect();
    assert!(
        sources.len() > 50,
        "only {} sources were found",
        sources.len()
    );
    // Anything else with a slash is another registry, an address or a path.
    let lines = lock.lines().filter(|line| !line.starts_with('#'));
    let slashed = lines.filter(|line| line.contains('/') && *line != REGISTRY);
    let wrong: Vec<String> = slashed.map(str::to_owned).collect();
    assert_none(&wrong, "Cargo.lock must be the same on every machine");
}

#[test]
fn the_toolchain_of_the_workspace_is_installed() {
    let file = manifest(&root().join("rust-toolchain.toml"));
    let channel = file["toolchain"]["channel"].as_str();
    let channel = channel.expect("rust-toolchain.toml names a channel");
    let workspace = manifest(&root().join("Cargo.toml"));
    let rust_version = workspace["workspace"]["package"]["rust-version"].as_str();
    let rust_version = rust_version.expect("the workspace names its Rust");
    assert!(
        channel.starts_with(rust_version),
        "rust-toolchain.toml has {channel}, but rust-version is {rust_version}"
    );
    let installed = std::process::Command::new("rustup")
        .args(["toolchain", "list"])
        .output();
    let installed = match installed {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => {
            println!("SKIPPED: rustup does not run ({error}), so nobody says what is installed");
            return;
        }
    };
    assert!(
        installed.lines().any(|line| line.starts_with(channel)),
        "{channel} of rust-toolchain.toml is not installed; there is: {installed}"
    );
}
