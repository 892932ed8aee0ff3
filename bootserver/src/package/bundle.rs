//! A bundle: `.tar.gz` with `agent.json` at its top.

use std::io::Read;
use std::path::{Component, Path};

use bootagent_protocol::{MAX_MANIFEST_BYTES, Manifest};
use flate2::read::MultiGzDecoder;

use super::{InspectError, Inspected, damaged};
use crate::fleet::package_choice::PackageKind;

/// Most entries that are looked at for the manifest.
const MAX_ENTRIES: usize = 100_000;
/// Most bytes that are unpacked for it: a bomb ends here.
const MAX_UNPACKED_BYTES: u64 = 4 << 30;

pub(super) fn inspect(file: impl Read) -> Result<Inspected, InspectError> {
    let unpacked = MultiGzDecoder::new(file).take(MAX_UNPACKED_BYTES);
    let mut archive = tar::Archive::new(unpacked);
    let entries = archive
        .entries()
        .map_err(|error| damaged("bundle", error.to_string()))?;
    for entry in entries.take(MAX_ENTRIES) {
        let mut entry = entry.map_err(|error| damaged("bundle", error.to_string()))?;
        let path = entry
            .path()
            .map_err(|error| damaged("bundle", error.to_string()))?;
        if !is_manifest(&path) {
            continue;
        }
        let mut text = Vec::new();
        entry
            .by_ref()
            .take(MAX_MANIFEST_BYTES + 1)
            .read_to_end(&mut text)
            .map_err(|error| damaged("bundle", error.to_string()))?;
        let manifest = Manifest::parse(&text).map_err(|error| {
            damaged(
                "bundle",
                format!("agent.json: {}", crate::problem::chain(&error)),
            )
        })?;
        return Ok(Inspected {
            kind: PackageKind::Bundle,
            name: Some(manifest.name.to_string()),
            version: Some(manifest.version.to_string()),
            // A bundle does not say what it was built for.
            arch: None,
        });
    }
    Err(damaged("bundle", "there is no agent.json at its top"))
}

fn is_manifest(path: &Path) -> bool {
    let mut parts = path.components().filter(|part| *part != Component::CurDir);
    parts.next() == Some(Component::Normal("agent.json".as_ref())) && parts.next().is_none()
}
