//! Where the programs under test are; they are built once per test run.
//!
//! The one rule: what is tested is what the sources say now. `E2E_BINARIES`
//! names a folder with programs built elsewhere (as for a release), which are
//! then taken as they are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Names a folder with programs that shall not be built again.
const GIVEN: &str = "E2E_BINARIES";
/// The packages whose programs the scenarios run.
const PACKAGES: [&str; 5] = [
    "bootagent",
    "bootserver",
    "bootserver-sim",
    "flux-push",
    "mtr-prober",
];

/// The daemon.
pub fn bootagent() -> PathBuf {
    folder().join("bootagent")
}

/// Its control program.
pub fn bootctl() -> PathBuf {
    folder().join("bootctl")
}

/// The platform.
pub fn bootserver() -> PathBuf {
    folder().join("bootserver")
}

/// The simulated fleet.
pub fn bootserver_sim() -> PathBuf {
    folder().join("bootserver-sim")
}

/// A real sub-agent.
pub fn flux_push() -> PathBuf {
    folder().join("flux-push")
}

/// Another one.
pub fn mtr_prober() -> PathBuf {
    folder().join("mtr-prober")
}

/// The child of the test bundles. Cargo builds it with the tests.
pub fn child() -> PathBuf {
    beside_this_test().join("e2e-child")
}

/// What runs a program as on an old kernel. Cargo builds it with the tests.
pub fn old_kernel() -> PathBuf {
    beside_this_test().join("e2e-old-kernel")
}

/// The folder of the programs.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| match std::env::var_os(GIVEN) {
        Some(given) => PathBuf::from(given),
        None => build(),
    })
}

/// The folder cargo puts programs into: this test is in its `deps`.
fn beside_this_test() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let deps = test.parent().expect("a program lies in a folder");
    let folder = deps.parent().expect("deps lies in the profile's folder");
    folder.to_path_buf()
}

fn build() -> PathBuf {
    let folder = beside_this_test();
    let target = folder.parent().expect("the profile lies in the target");
    for package in PACKAGES {
        // One by one, as they are built alone: their features stay their own.
        let output = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--package", package])
            .arg("--target-dir")
            .arg(target)
            .current_dir(crate::tree::repository())
            .output()
            .expect("cargo can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo build -p {package}: {said}");
    }
    // A test built in another profile runs programs of the usual one.
    target.join("debug")
}
