//! A bundle, as a host unpacks it and as the server looks at it. What does not
//! begin as gzip is taken for the archive in it, and its headers get their
//! right sums: a random change should reach more than the first check.
#![no_main]

use std::fs;
use std::io::Write;
use std::path::Path;

use bootagent::package::archive::Bounds;
use bootagent::package::{Bundles, Expected};
use bootagent_protocol::AgentName;
use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;

const BLOCK: usize = 512;

/// Gives every header of the archive its right sum.
fn repair(archive: &mut [u8]) {
    let mut at: usize = 0;
    while let Some(block) = archive.get_mut(at..at.saturating_add(BLOCK)) {
        let block: &mut [u8; BLOCK] = block.try_into().expect("one block");
        let mut size = 0;
        if block.iter().any(|byte| *byte != 0) {
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(block);
            header.set_cksum();
            size = header.entry_size().unwrap_or(0);
            block.copy_from_slice(header.as_bytes());
        }
        let blocks = usize::try_from(size).unwrap_or(usize::MAX).div_ceil(BLOCK);
        at = at.saturating_add(blocks.saturating_add(1).saturating_mul(BLOCK));
    }
}

/// Everything unpacked is a plain file or folder with a mode of ours.
fn check(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        let found = fs::symlink_metadata(&path).expect("there");
        let mode = found.permissions().mode() & 0o7777;
        assert!(found.is_dir() || found.is_file(), "{}", path.display());
        assert!([0o755, 0o644].contains(&mode), "{mode:o}");
        if found.is_dir() {
            check(&path);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let package = fuzz::folder().join("package");
    if data.starts_with(&[0x1f, 0x8b]) {
        fs::write(&package, data).expect("writable");
    } else {
        let mut archive = data.to_vec();
        repair(&mut archive);
        let file = fs::File::create(&package).expect("writable");
        let mut packed = GzEncoder::new(file, Compression::none());
        packed.write_all(&archive).expect("written");
        packed.finish().expect("written");
    }
    let bounds = Bounds {
        entries: 100,
        unpacked_bytes: 1 << 20,
        ratio: 100,
        ratio_from: 1 << 18,
    };
    let directory = fuzz::folder().join("bundles");
    let bundles = Bundles::new(&directory, bounds);
    let expected = Expected {
        name: AgentName::parse("a").expect("valid"),
        version: None,
    };
    match bundles.unpack(&package, &expected) {
        Ok(unpacked) => {
            assert_eq!(unpacked.manifest.name, expected.name);
            check(&unpacked.folder);
            bundles
                .switch(&expected.name, &unpacked.folder)
                .expect("it can be used");
            assert_eq!(bundles.current(&expected.name), Some(unpacked.folder));
            bundles.remove(&expected.name).expect("removable");
        }
        // Nothing is left of what was refused.
        Err(_) => assert!(!directory.join("a").exists()),
    }
    for entry in fs::read_dir(fuzz::folder()).expect("readable") {
        let name = entry.expect("readable").file_name();
        assert!(
            name == "package" || name == "bundles",
            "{name:?} was written beside it"
        );
    }
});
