//! A throwaway Debian machine in namespaces, to install real packages in.
//!
//! The tree comes from `contrib/tree.sh` (cached), the machine from
//! `tree/machine.sh`: its own mounts, process ids, cgroups and network, with
//! systemd or a shell as first process. What a test does in it is its own
//! affair. The one rule: when a [`Machine`] is dropped, or the test dies,
//! nothing of it is left.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

/// How long one script may run in a machine, in seconds.
const SCRIPT_DEADLINE: u32 = 180;
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(100);

/// What a machine's first process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// systemd, as on a host: services run.
    Systemd,
    /// A shell: as in a chroot or an image being built.
    Shell,
}

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    keeper: Child,
    init: u32,
    console: PathBuf,
    _folder: tempfile::TempDir,
}

/// How a script in a machine ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; 124 when it was ended at its deadline.
    pub code: i32,
    /// What it printed on both outputs.
    pub output: String,
}

/// The folder of the repository.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the crate lies in the repository")
        .to_path_buf()
}

/// Why machines cannot be made here, if they cannot.
pub fn obstacle() -> Option<String> {
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|id| id.stdout == b"0\n");
    if !root {
        return Some("making a machine needs root".to_owned());
    }
    let unshared = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "true"])
        .output();
    match unshared {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Some(format!("namespaces cannot be made here ({reason})"))
        }
        Err(error) => Some(format!(
            "unshare cannot be run ({error}); install util-linux"
        )),
    }
}

/// The cached Debian tree, made if need be (some minutes, once).
///
/// # Errors
/// When `contrib/tree.sh` fails; what it said is in the error.
pub fn debian() -> Result<PathBuf> {
    let output = Command::new(repository().join("contrib/tree.sh"))
        .stdin(Stdio::null())
        .output()
        .context("running contrib/tree.sh")?;
    if !output.status.success() {
        bail!(
            "contrib/tree.sh failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

impl Machine {
    /// Starts one and waits until it takes commands; with systemd until that
    /// has started everything.
    ///
    /// # Errors
    /// With what its first process printed.
    pub fn start(first: First) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let console = folder.path().join("console");
        let word = match first {
            First::Systemd => "systemd",
            First::Shell => "shell",
        };
        let mut keeper = Command::new("bash")
            .arg(repository().join("tests/src/tree/machine.sh"))
            .arg(debian()?)
            .arg(word)
            .arg(&console)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting machine.sh")?;
        let mut line = String::new();
        let stdout = keeper.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line)?;
        let init = line
            .strip_prefix("init ")
            .and_then(|pid| pid.trim_end().parse().ok());
        let Some(init) = init else {
            let said = std::fs::read_to_string(&console).unwrap_or_default();
            keeper.wait()?;
            bail!("the machine did not come up: {line}{said}");
        };
        let machine = Self {
            keeper,
            init,
            console,
            _folder: folder,
        };
        match first {
            First::Systemd => machine.wait_until(
                "systemctl is-system-running 2>&1 | grep -qE '^(running|degraded)$'",
                Duration::from_secs(90),
            )?,
            First::Shell => machine.succeed("ip link set lo up").map(drop)?,
        }
        Ok(machine)
    }

    /// Runs a shell script in the machine. What it leaves running goes on.
    ///
    /// # Errors
    /// Only when it could not be run at all.
    pub fn run(&self, script: &str) -> Result<Outcome> {
        self.execute(script, Stdio::null())
    }

    /// Runs a shell script that must succeed, and returns its output.
    ///
    /// # Errors
    /// When it fails, with its output.
    pub fn succeed(&self, script: &str) -> Result<String> {
        let outcome = self.run(script)?;
        if outcome.code != 0 {
            bail!("exit {} of: {script}\n{}", outcome.code, outcome.output);
        }
        Ok(outcome.output)
    }

    /// Copies a file into the machine.
    ///
    /// # Errors
    /// When it cannot be read here or written there.
    pub fn put(&self, source: &Path, destination: &str) -> Result<()> {
        let file = File::open(source).with_context(|| format!("opening {}", source.display()))?;
        let outcome = self.execute(&format!("cat > '{destination}'"), file.into())?;
        if outcome.code != 0 {
            bail!("writing {destination}: {}", outcome.output);
        }
        Ok(())
    }

    /// Where a file of the machine is on this one.
    pub fn path(&self, below: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init)).join(below)
    }

    /// Runs `work` in the machine's network: what it listens on, the machine
    /// reaches at 127.0.0.1.
    ///
    /// # Panics
    /// When the network cannot be entered, or as `work` does.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network = format!("/proc/{}/ns/net", self.init);
        let network = File::open(&network).expect("the machine runs");
        // A network belongs to a thread; this one ends with the work.
        let done = std::thread::scope(|scope| {
            let worker = scope.spawn(move || {
                setns(network, CloneFlags::CLONE_NEWNET).expect("root may enter");
                work()
            });
            worker.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Waits until a script succeeds.
    ///
    /// # Errors
    /// When it still fails at the end of `limit`, with what it last printed
    /// and the end of the console.
    pub fn wait_until(&self, script: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let outcome = self.run(script)?;
            if outcome.code == 0 {
                return Ok(());
            }
            if Instant::now() > end {
                let console = std::fs::read_to_string(&self.console).unwrap_or_default();
                let lines: Vec<_> = console.lines().rev().take(20).collect();
                let last: Vec<_> = lines.into_iter().rev().collect();
                bail!(
                    "after {limit:?} still exit {} of: {script}\n{}\nconsole:\n{}",
                    outcome.code,
                    outcome.output,
                    last.join("\n"),
                );
            }
            std::thread::sleep(LOOK);
        }
    }

    fn execute(&self, script: &str, stdin: Stdio) -> Result<Outcome> {
        // A file and not a pipe: a service that the script starts would hold
        // a pipe open, and we would wait for its end.
        let mut output = tempfile::tempfile()?;
        let status = Command::new("timeout")
            .args(["--kill-after=5", &SCRIPT_DEADLINE.to_string(), "nsenter"])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"])
            .args(["--target", &self.init.to_string()])
            .args([
                "/usr/bin/env",
                "-i",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/root",
            ])
            .args(["LC_ALL=C.UTF-8", "/bin/sh", "-c", script])
            .stdin(stdin)
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .status()
            .context("running nsenter")?;
        let mut text = Vec::new();
        output.rewind()?;
        output.read_to_end(&mut text)?;
        Ok(Outcome {
            code: status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&text).into_owned(),
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The end of its stdin is what it ends at; it also cleans up then.
        drop(self.keeper.stdin.take());
        if let Err(error) = self.keeper.wait() {
            eprintln!("waiting for the end of a machine: {error}");
        }
    }
}
