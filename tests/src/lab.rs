//! A Debian guest in QEMU: real systemd, cgroup v2, a disk that can be cut off.
//!
//! Software emulation, so it runs wherever QEMU does, slowly. `lab/image.sh`
//! makes the disk (the cached tree of `contrib/tree.sh` with our package in
//! it), [`cut`] what a power cut leaves of one, `lab/serve.sh` is the guest's side: it runs the scripts it is sent over
//! a virtio port. The one rule: a guest that hangs or dies is an error with the
//! end of its console, at a deadline, and nothing of it outlives the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::tree::repository;

pub mod cut;
mod guest;

pub use guest::{Guest, Verdict};

/// What the lab's programs are packaged as.
const VERSION: &str = "1.2.1-1";
/// What must be installed, by program: Debian's package.
const NEEDS: [(&str, &str); 5] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mke2fs", "e2fsprogs"),
    ("debugfs", "e2fsprogs"),
    ("unshare", "util-linux"),
    ("cpio", "cpio"),
];

/// Why there can be no lab here, if there cannot.
pub fn obstacle() -> Option<String> {
    if let Some(reason) = crate::tree::obstacle() {
        return Some(reason);
    }
    let missing = NEEDS.iter().find(|(program, _)| {
        let found = Command::new("sh")
            .args(["-c", "command -v \"$0\"", program])
            .output();
        !found.is_ok_and(|output| output.status.success())
    });
    missing.map(|(program, package)| format!("{program} is missing; install {package}"))
}

/// A folder that goes with this process, and the disk every guest begins with.
pub struct Lab {
    folder: PathBuf,
    image: PathBuf,
    kernel: PathBuf,
    initrd: PathBuf,
    _keeper: Child,
}

impl Lab {
    /// The lab of this process, made at the first call.
    ///
    /// # Panics
    /// When it cannot be made, with what was said.
    pub fn get() -> &'static Self {
        static LAB: OnceLock<Result<Lab, String>> = OnceLock::new();
        match LAB.get_or_init(|| Self::make().map_err(|error| format!("{error:#}"))) {
            Ok(lab) => lab,
            Err(error) => panic!("the lab could not be made: {error}"),
        }
    }

    fn make() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("lab").tempdir()?.keep();
        let keeper = keep()
            .arg("folder")
            .arg(&folder)
            .stdin(Stdio::piped())
            .spawn()
            .context("starting keep.sh")?;
        let tree = crate::tree::debian()?;
        let (image, initrd) = (folder.join("image"), folder.join("initrd"));
        let programs = std::env::var_os("E2E_BINARIES").unwrap_or_default();
        let made = Command::new("bash")
            .arg(repository().join("tests/src/lab/image.sh"))
            .args([&tree, &crate::own_package::deb(VERSION)?])
            .arg(programs)
            .arg(crate::binaries::mtr_prober())
            .args([&image, &initrd])
            .stdin(Stdio::null())
            .output()
            .context("running image.sh")?;
        let said = String::from_utf8_lossy(&made.stderr);
        ensure!(made.status.success(), "image.sh failed: {said}");
        Ok(Self {
            kernel: newest(&tree.join("boot"), "vmlinuz-")?,
            image,
            initrd,
            folder,
            _keeper: keeper,
        })
    }

    /// A path in the lab's folder that nobody else was given.
    pub fn path(&self, what: &str) -> PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("{number}-{what}"))
    }
}

/// What becomes of a guest's writes. Those to its own disk are always gone
/// with it.
#[derive(Debug, Clone, Copy)]
pub enum Disk<'a> {
    /// There is no other disk.
    Throwaway,
    /// What BootAgent keeps is on this disk.
    State(&'a Path),
    /// The same, and each write and flush is noted in the second file.
    LoggedState(&'a Path, &'a Path),
}

impl Disk<'_> {
    /// What the guest's kernel, and so its units, are told of it.
    fn words(self) -> &'static str {
        match self {
            Disk::Throwaway => "",
            Disk::State(_) | Disk::LoggedState(..) => "lab.state",
        }
    }
}

fn keep() -> Command {
    let mut command = Command::new("bash");
    command.arg(repository().join("tests/src/lab/keep.sh"));
    command
}

/// The file in `folder` whose name begins so.
fn newest(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut found: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(prefix))
        })
        .collect();
    found.sort();
    match found.pop() {
        Some(path) => Ok(path),
        None => bail!("{} holds no {prefix}*", folder.display()),
    }
}

/// Starts `program` so that it ends with this process; its pid.
fn start_kept(program: &Command, log: &Path) -> Result<(Child, i32)> {
    let mut keeper = keep()
        .arg("run")
        .arg(log)
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting keep.sh")?;
    let mut line = String::new();
    let stdout = keeper.stdout.take().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut line)?;
    let pid = line.trim().parse().context("keep.sh prints a pid")?;
    Ok((keeper, pid))
}

/// The time left until `end`; an error when there is none.
fn left(end: Instant) -> Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    ensure!(!left.is_zero(), "the deadline has passed");
    Ok(left)
}
