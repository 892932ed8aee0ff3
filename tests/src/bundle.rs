//! Bundles of test sub-agents: a manifest, and a script that becomes the
//! program of `bin/child.rs`.
//!
//! The one rule: a bundle is what a real one is; only its child is ours.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::binaries;

/// A bundle being put together.
#[derive(Debug, Clone)]
pub struct Bundle {
    manifest: Value,
    files: Vec<(String, Vec<u8>, u32)>,
    links: Vec<(String, String)>,
}

impl Bundle {
    /// An agent that runs until it is asked to stop. `flags` are those of
    /// `bin/child.rs`.
    pub fn new(name: &str, version: &str, flags: &[&str]) -> Self {
        let mut exec = vec![
            "./run".to_owned(),
            "--marker".to_owned(),
            version.to_owned(),
        ];
        exec.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let program = binaries::child();
        // `exec`: the child is the process that was started.
        let script = format!("#!/bin/sh\nexec '{}' \"$@\"\n", program.display());
        Self {
            manifest: json!({ "name": name, "version": version, "exec": exec }),
            files: Vec::new(),
            links: Vec::new(),
        }
        .file("run", script.as_bytes(), 0o755)
    }

    /// An agent with this manifest and no files.
    pub fn of_manifest(manifest: Value) -> Self {
        Self {
            manifest,
            files: Vec::new(),
            links: Vec::new(),
        }
    }

    /// Up only once it says READY=1.
    pub fn notify(self) -> Self {
        self.key("type", json!("notify"))
    }

    /// One more key of the manifest, or another value for one.
    pub fn key(mut self, key: &str, value: Value) -> Self {
        self.manifest[key] = value;
        self
    }

    /// One more file.
    pub fn file(mut self, path: &str, content: &[u8], mode: u32) -> Self {
        self.files.push((path.to_owned(), content.to_vec(), mode));
        self
    }

    /// A symbolic link, which no bundle may have.
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.links.push((path.to_owned(), target.to_owned()));
        self
    }

    /// Puts it into `folder` as a package would, manifest and files.
    ///
    /// # Panics
    /// When that cannot be written.
    pub fn place(&self, folder: &Path) {
        std::fs::create_dir_all(folder).expect("a folder");
        let manifest = self.manifest.to_string();
        std::fs::write(folder.join("agent.json"), manifest).expect("a manifest");
        for (path, content, mode) in &self.files {
            let path = folder.join(path);
            std::fs::write(&path, content).expect("a file");
            let mode = Permissions::from_mode(*mode);
            std::fs::set_permissions(&path, mode).expect("its mode");
        }
    }

    /// The archive.
    ///
    /// # Panics
    /// When a path is none.
    pub fn build(&self) -> Vec<u8> {
        let gzip = GzEncoder::new(Vec::new(), Compression::fast());
        let mut archive = tar::Builder::new(gzip);
        let manifest = self.manifest.to_string().into_bytes();
        let manifest = ("agent.json".to_owned(), manifest, 0o644);
        for (path, content, mode) in std::iter::once(&manifest).chain(&self.files) {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(*mode);
            archive
                .append_data(&mut header, path, content.as_slice())
                .expect("a valid entry");
        }
        for (path, target) in &self.links {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            header.set_mode(0o777);
            archive
                .append_link(&mut header, path, target)
                .expect("a valid link");
        }
        archive
            .into_inner()
            .and_then(GzEncoder::finish)
            .expect("writing to memory")
    }
}

/// The checksum of `bytes` as a job says it.
pub fn checksum(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("SHA256:{hex}")
}
