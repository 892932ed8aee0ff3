//! Packs archives with raw headers, because no tar program writes what an
//! attacker does, and unpacks them into a folder of bundles.

#![allow(dead_code, reason = "each test program uses another part of it")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bootagent::package::archive::Bounds;
use bootagent::package::{Bundles, Expected};
use bootagent_protocol::{AgentName, ErrorCode, Version};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

pub(crate) const SCRIPT: &[u8] = b"#!/bin/sh\nexit 0\n";

/// An archive in the making: what `tar::Builder` refuses can be written too.
#[derive(Default)]
pub(crate) struct Pack(pub(crate) Vec<u8>);

impl Pack {
    /// An honest agent `a` of this version.
    pub(crate) fn agent(version: &str) -> Self {
        let manifest = format!(r#"{{"name":"a","version":"{version}","exec":["./run"]}}"#);
        Self::default()
            .folder("./")
            .file("./agent.json", 0o644, manifest.as_bytes())
            .file("./run", 0o755, SCRIPT)
    }

    pub(crate) fn entry(
        mut self,
        name: &[u8],
        kind: EntryType,
        mode: u32,
        size: u64,
        bytes: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(1234);
        header.set_gid(1234);
        header.set_size(size);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, mode: u32, bytes: &[u8]) -> Self {
        self.entry(
            name.as_bytes(),
            EntryType::Regular,
            mode,
            bytes.len() as u64,
            bytes,
        )
    }

    pub(crate) fn folder(self, name: &str) -> Self {
        self.entry(name.as_bytes(), EntryType::Directory, 0o755, 0, b"")
    }

    pub(crate) fn link(mut self, name: &str, kind: EntryType, target: &str) -> Self {
        let at = self.0.len();
        self = self.entry(name.as_bytes(), kind, 0o777, 0, b"");
        let mut header = Header::from_byte_slice(&self.0[at..at + 512]).clone();
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        self.0[at..at + 512].copy_from_slice(header.as_bytes());
        self
    }

    pub(crate) fn long_name(self, name: &str) -> Self {
        let mut bytes = name.as_bytes().to_vec();
        bytes.push(0);
        self.entry(
            b"././@LongLink",
            EntryType::GNULongName,
            0o644,
            bytes.len() as u64,
            &bytes,
        )
    }

    pub(crate) fn pax(self, key: &str, value: &str) -> Self {
        let rest = format!(" {key}={value}\n");
        let mut total = rest.len() + 1;
        while total != total.to_string().len() + rest.len() {
            total = total.to_string().len() + rest.len();
        }
        let record = format!("{total}{rest}");
        self.entry(
            b"pax",
            EntryType::XHeader,
            0o644,
            record.len() as u64,
            record.as_bytes(),
        )
    }

    pub(crate) fn packed(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&self.0).expect("packed");
        encoder.finish().expect("packed")
    }
}

/// A folder for bundles with a helper for each step.
pub(crate) struct Host {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) bundles: Bundles,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::bounded(Bounds::default())
    }

    pub(crate) fn bounded(bounds: Bounds) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bundles = Bundles::new(&folder.path().join("bundles"), bounds);
        Self { folder, bundles }
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join("package");
        fs::write(&path, bytes).expect("written");
        path
    }

    pub(crate) fn unpack(&self, pack: Pack) -> Result<PathBuf, (ErrorCode, String)> {
        self.unpack_bytes(&pack.packed())
    }

    pub(crate) fn unpack_bytes(&self, bytes: &[u8]) -> Result<PathBuf, (ErrorCode, String)> {
        let package = self.write(bytes);
        let unpacked = self.bundles.unpack(&package, &expected(None));
        unpacked
            .map(|unpacked| unpacked.folder)
            .map_err(|f| (f.code, f.describe()))
    }

    pub(crate) fn install(&self, pack: Pack) -> PathBuf {
        let folder = self.unpack(pack).expect("unpacked");
        self.bundles.switch(&name(), &folder).expect("switched");
        folder
    }

    /// Every path below `bundles`, with the target of a link.
    pub(crate) fn tree(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().join("bundles")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.expect("listed").path();
                let target = fs::read_link(&path).ok();
                let shown = path
                    .strip_prefix(self.folder.path())
                    .expect("below")
                    .display();
                match target {
                    Some(target) => found.push(format!("{shown} -> {}", target.display())),
                    None => {
                        found.push(shown.to_string());
                        if path.is_dir() {
                            folders.push(path.clone());
                        }
                    }
                }
            }
        }
        found.sort();
        found
    }
}

pub(crate) fn name() -> AgentName {
    AgentName::parse("a").expect("valid")
}

pub(crate) fn expected(version: Option<&str>) -> Expected {
    let version = version.map(|version| Version::parse(version).expect("valid"));
    Expected {
        name: name(),
        version,
    }
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o7777
}
