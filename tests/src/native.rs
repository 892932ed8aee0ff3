//! Rpms and debs of test sub-agents, around the program of `bin/child.rs` where
//! a machine has it.
//!
//! The one rule: they are made by rpmbuild and dpkg-deb; only their child is
//! ours.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// Where a machine has the program of `bin/child.rs`.
pub const CHILD: &str = "/usr/local/bin/e2e-child";

/// Who installs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// rpm.
    Rpm,
    /// dpkg.
    Deb,
}

/// A package being put together.
#[derive(Debug, Clone)]
pub struct Native {
    name: String,
    version: String,
    manifest: Value,
    script: String,
    filler: usize,
}

impl Native {
    /// Version `version` of an agent whose child gets `flags`.
    pub fn new(name: &str, version: &str, flags: &[&str]) -> Self {
        let version = format!("{version}-1");
        let mut exec = vec![CHILD, "--marker", &version];
        exec.extend(flags);
        Self {
            manifest: json!({ "name": name, "version": version, "type": "notify", "exec": exec }),
            name: name.to_owned(),
            version,
            script: String::new(),
            filler: 0,
        }
    }

    /// Its version and release.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// One more key of the manifest.
    pub fn key(mut self, key: &str, value: Value) -> Self {
        self.manifest[key] = value;
        self
    }

    /// What runs after its files were put in place.
    pub fn after_install(mut self, script: &str) -> Self {
        script.clone_into(&mut self.script);
        self
    }

    /// So many bytes more, which no packer makes smaller.
    pub fn filler(mut self, bytes: usize) -> Self {
        self.filler = bytes;
        self
    }

    /// The package, made below `folder`; the second time the same file.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn build(&self, kind: Kind, folder: &Path) -> PathBuf {
        let mut hash = DefaultHasher::new();
        (self.manifest.to_string(), &self.script, self.filler).hash(&mut hash);
        let top = folder.join(format!("{kind:?}-{:016x}", hash.finish()));
        let package = match kind {
            Kind::Rpm => {
                let version = self.version.trim_end_matches("-1");
                top.join(format!("RPMS/noarch/{}-{version}-1.noarch.rpm", self.name))
            }
            Kind::Deb => top.join(format!("{}_{}_all.deb", self.name, self.version)),
        };
        if package.exists() {
            return package;
        }
        let files = top.join("root/usr/lib/bootagent/agents").join(&self.name);
        fs::create_dir_all(&files).expect("made");
        fs::write(files.join("agent.json"), self.manifest.to_string()).expect("written");
        if self.filler > 0 {
            fs::write(files.join("filler"), noise(self.filler)).expect("written");
        }
        match kind {
            Kind::Rpm => self.rpm(&top),
            Kind::Deb => self.deb(&top, &package),
        }
        package
    }

    fn rpm(&self, top: &Path) {
        let (name, root) = (&self.name, top.join("root"));
        let version = self.version.trim_end_matches("-1");
        let post = match self.script.as_str() {
            "" => String::new(),
            script => format!("%post\n{script}\n"),
        };
        let spec = format!(
            "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: x\nLicense: MIT\n\
             BuildArch: noarch\n%description\nx\n%install\ncp -a {}/. %{{buildroot}}\n{post}\
             %files\n/usr/lib/bootagent/agents/{name}\n",
            root.display()
        );
        fs::write(top.join("a.spec"), spec).expect("written");
        succeed(
            Command::new("rpmbuild")
                .args(["-bb", "--quiet", "--define", "_binary_payload w1.gzdio"])
                .arg(format!("--define=_topdir {}", top.display()))
                .arg(top.join("a.spec")),
        );
    }

    fn deb(&self, top: &Path, package: &Path) {
        let (name, version, root) = (&self.name, &self.version, top.join("root"));
        let control = root.join("DEBIAN");
        fs::create_dir_all(&control).expect("made");
        let text = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: all\n\
             Maintainer: x <x@example.com>\nDescription: x\n"
        );
        fs::write(control.join("control"), text).expect("written");
        if !self.script.is_empty() {
            let script = control.join("postinst");
            fs::write(&script, format!("#!/bin/sh\n{}\n", self.script)).expect("written");
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("ours");
        }
        succeed(
            Command::new("dpkg-deb")
                .args(["--root-owner-group", "-Zgzip", "-b"])
                .arg(&root)
                .arg(package),
        );
    }
}

/// So many bytes that no packer makes smaller, always the same.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    });
    next.take(bytes).collect()
}

fn succeed(command: &mut Command) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
