//! What the compiler cannot see: who may know whom, what is taken from
//! outside, and that the documents tell of files that exist.
//!
//! The rules are CONTRIBUTING.md's and ARCHITECTURE.md's; here they are only
//! kept. Every exception is a row with its reason, and a row that is no longer
//! needed fails like a broken rule.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/licences.rs"]
mod licences;
#[path = "tidy/versions.rs"]
mod versions;

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in a folder of the repository")
}

/// What cargo knows about the workspace, asked once and without network.
fn metadata() -> &'static Metadata {
    static METADATA: OnceLock<Metadata> = OnceLock::new();
    METADATA.get_or_init(|| {
        // What only other systems need was not downloaded for this build.
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let options = ["--offline", "--locked", "--filter-platform", &platform];
        MetadataCommand::new()
            .manifest_path(root().join("Cargo.toml"))
            .other_options(options.map(str::to_owned))
            .exec()
            .expect("cargo metadata runs on what has been downloaded for this build")
    })
}

/// A package by its id.
fn package(id: &PackageId) -> &'static Package {
    static BY_ID: OnceLock<HashMap<PackageId, &'static Package>> = OnceLock::new();
    let by_id = BY_ID.get_or_init(|| {
        let packages = metadata().packages.iter();
        packages.map(|it| (it.id.clone(), it)).collect()
    });
    by_id[id]
}

/// Everything that `start` needs, over dependencies of these kinds, itself
/// included.
fn reach(start: &PackageId, kinds: &[DependencyKind]) -> BTreeSet<PackageId> {
    let resolve = metadata().resolve.as_ref().expect("asked for");
    let nodes: HashMap<_, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut found = BTreeSet::new();
    let mut waiting = vec![start];
    while let Some(id) = waiting.pop() {
        if found.insert(id.clone()) {
            let needed = nodes[id].deps.iter();
            let needed = needed.filter(|it| it.dep_kinds.iter().any(|k| kinds.contains(&k.kind)));
            waiting.extend(needed.map(|it| &it.pkg));
        }
    }
    found
}

/// Everything that any crate of the workspace needs.
fn reach_of_all(kinds: &[DependencyKind]) -> BTreeSet<PackageId> {
    let members = metadata().workspace_members.iter();
    members.flat_map(|id| reach(id, kinds)).collect()
}

/// Every file of the repository whose name ends in `ending`, sorted; what is
/// built or hidden is left out.
fn files_ending_in(ending: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("folders of the repository are readable") {
            let entry = entry.expect("readable");
            let name = entry.file_name().into_string().expect("names are UTF-8");
            let kind = entry.file_type().expect("readable");
            let built = ["target", "build", "node_modules"].contains(&name.as_str());
            if kind.is_dir() && !built && !name.starts_with('.') {
                walk(&entry.path(), ending, found);
            } else if kind.is_file() && name.ends_with(ending) {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), ending, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no file ends in {ending}");
    found
}

/// A file of the repository as text.
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A path as it is written in documents.
fn shown(path: &Path) -> String {
    let relative = path.strip_prefix(root()).unwrap_or(path);
    relative.display().to_string()
}

/// Fails with all that is wrong at once.
fn assert_none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n  {}", wrong.join("\n  "));
}
