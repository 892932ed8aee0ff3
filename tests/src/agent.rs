//! A host: a real bootagent with a root of its own.
//!
//! The one rule: when it is dropped, nothing it started is left: no daemon,
//! no logger, no child, no cgroup.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{self, Process};
use crate::{binaries, control_group, server::Server, wait};

/// How long `bootctl stop --all` may take when a host is taken down.
const TAKE_DOWN: Duration = Duration::from_secs(15);

/// A host.
#[derive(Debug)]
pub struct Agent {
    daemon: Option<Child>,
    folder: TempDir,
    servers: String,
    launcher: Vec<String>,
    cgroup: String,
    program: PathBuf,
}

/// What a host begins with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `-S`.
    pub servers: String,
    /// The content of the file of `-E`; none means no such file.
    pub enrolment_token: Option<String>,
    /// `trusted_keys`.
    pub keys: Vec<String>,
    /// Lines of `[push]`.
    pub push: String,
    /// Further tables of bootagent.toml, such as `[restart]`.
    pub tables: String,
    /// Words the daemon's command line begins with: a program that becomes it.
    pub launcher: Vec<String>,
}

impl Settings {
    /// Those for a host of the server at `servers`.
    pub fn new(servers: &str) -> Self {
        Self {
            servers: servers.to_owned(),
            enrolment_token: Some("a-token-to-enrol-with".into()),
            keys: Vec::new(),
            push: "step = 1\nmin_step = 1\nconnect_timeout = 2\ntimeout = 5\n".into(),
            tables: String::new(),
            launcher: Vec::new(),
        }
    }

    /// Those for a host of a real server, which is never silent: it has the time
    /// a busy machine needs.
    pub fn of(server: &Server) -> Self {
        Self {
            enrolment_token: Some(server.enrolment_token.clone()),
            push: "step = 1\nmin_step = 1\nconnect_timeout = 10\ntimeout = 30\n".into(),
            ..Self::new(&server.address.to_string())
        }
    }

    /// With further tables of bootagent.toml.
    pub fn with(mut self, tables: &str) -> Self {
        self.tables.push_str(tables);
        self
    }
}

impl Agent {
    /// A host that runs and is confirmed by `server`.
    pub fn of(server: &Server) -> Self {
        let agent = Self::start(&Settings::of(server));
        agent.until_confirmed();
        agent
    }

    /// A host whose daemon was started.
    pub fn start(settings: &Settings) -> Self {
        let mut agent = Self::prepare(settings);
        agent.run();
        agent
    }

    /// A host whose files are there; nothing was started.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn prepare(settings: &Settings) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("root");
        std::fs::create_dir(&root).expect("a root");
        // A name of its own, known to us: what is in it is ours to kill.
        let name = folder.path().file_name().unwrap_or_default();
        let cgroup: String = name
            .to_string_lossy()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        let cgroup = format!("e2e-{cgroup}");
        let user = if is_root() { "root" } else { "bootagent" };
        let config = format!(
            "root = {root:?}\nagent_user = {user:?}\ncgroup = {cgroup:?}\n\
             trusted_keys = {:?}\n[push]\n{}\n{}\n",
            settings.keys, settings.push, settings.tables
        );
        std::fs::write(folder.path().join("bootagent.toml"), config).expect("a configuration");
        if let Some(token) = &settings.enrolment_token {
            std::fs::write(folder.path().join("enrolment"), format!("{token}\n")).expect("a token");
        }
        Self {
            daemon: None,
            servers: settings.servers.clone(),
            launcher: settings.launcher.clone(),
            program: binaries::bootagent(),
            folder,
            cgroup,
        }
    }

    /// The arguments the daemon is started with.
    fn arguments(&self) -> Vec<String> {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let mut arguments = vec![
            "-l".into(),
            "debug".into(),
            "-c".into(),
            path("bootagent.toml"),
        ];
        arguments.extend(["-E".into(), path("enrolment")]);
        if !self.servers.is_empty() {
            arguments.extend(["-S".into(), self.servers.clone()]);
        }
        arguments
    }

    /// The daemon's program becomes a file of its own, which a test may
    /// replace; returns where it is.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn copy_program(&mut self) -> PathBuf {
        self.program = self.folder.path().join("bootagent");
        copy_executable(&binaries::bootagent(), &self.program);
        self.program.clone()
    }

    /// Starts the daemon.
    ///
    /// # Panics
    /// When it runs already.
    pub fn run(&mut self) {
        let output = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("output"))
            .expect("a file for its output");
        self.run_with_output(output);
    }

    /// Starts the daemon, which prints into `output`.
    ///
    /// # Panics
    /// When it runs already.
    pub fn run_with_output(&mut self, output: std::fs::File) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let errors = output.try_clone().expect("a second descriptor");
        let program = self.program.clone().into_os_string();
        let mut words = self.launcher.iter().map(OsString::from).chain([program]);
        let daemon = Command::new(words.next().unwrap_or_default())
            .args(words)
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .expect("bootagent can be run");
        self.daemon = Some(daemon);
    }

    /// Runs `bootagent` with the same arguments until it ends.
    pub fn run_to_its_end(&self) -> Output {
        Command::new(binaries::bootagent())
            .args(self.arguments())
            .stdin(Stdio::null())
            .output()
            .expect("bootagent can be run")
    }

    /// Other servers for `-S` at the next start.
    pub fn name_servers(&mut self, servers: &str) {
        self.servers = servers.to_owned();
    }

    /// The root everything lives below.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// A path below the root.
    pub fn path(&self, below: &str) -> PathBuf {
        self.root().join(below)
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("bootagent.toml")
    }

    /// Name of the cgroup of this host's children.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// The daemon's pid.
    ///
    /// # Panics
    /// When it was not started.
    pub fn pid(&self) -> i32 {
        let daemon = self.daemon.as_ref().expect("the daemon was started");
        i32::try_from(daemon.id()).expect("a pid")
    }

    /// Signals the daemon.
    ///
    /// # Panics
    /// When it was not started.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the daemon is ours");
    }

    /// Kills the daemon, as a crash does.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// Asks the daemon to end, and waits for it.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended()
    }

    /// Waits until the daemon has ended.
    ///
    /// # Panics
    /// When it does not end, or was not started.
    pub fn ended(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("the daemon was started");
        let status = wait::until("the end of the daemon", || daemon.try_wait().ok().flatten());
        // A logger that is about to end is no matter of ours.
        status
    }

    /// Whether the daemon runs.
    pub fn is_running(&mut self) -> bool {
        let daemon = self.daemon.as_mut();
        daemon.is_some_and(|daemon| matches!(daemon.try_wait(), Ok(None)))
    }

    /// Runs `bootctl`.
    pub fn bootctl(&self, words: &[&str]) -> Output {
        Command::new(binaries::bootctl())
            .arg("-r")
            .arg(self.root())
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("bootctl can be run")
    }

    /// What `bootctl` prints; it must succeed.
    ///
    /// # Panics
    /// When it fails.
    pub fn ask(&self, words: &[&str]) -> String {
        let output = self.bootctl(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "bootctl {words:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The daemon's own view of the host; `None` while it does not answer.
    pub fn status(&self) -> Option<Value> {
        let output = self.bootctl(&["--json", "status"]);
        let reply: Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(reply["status"].clone())
    }

    /// The daemon's own view of one child.
    pub fn child(&self, name: &str) -> Option<Value> {
        let status = self.status()?;
        let mut agents = status["agents"].as_array()?.iter();
        agents.find(|agent| agent["name"] == name).cloned()
    }

    /// The main process of a child.
    pub fn process(&self, name: &str) -> Option<Process> {
        Process::of(i32::try_from(self.child(name)?["pid"].as_i64()?).ok()?)
    }

    /// Waits until a server has confirmed this host, and that is on disk;
    /// returns its agentsn.
    pub fn until_confirmed(&self) -> String {
        wait::until("the confirmation by a server", || {
            let status = self.status()?;
            let is_confirmed = status["confirmed"] == true && self.metafile()["confirmed"] == true;
            is_confirmed.then(|| status["agentsn"].as_str().map(str::to_owned))?
        })
    }

    /// Its identity, from the metafile.
    ///
    /// # Panics
    /// When there is no metafile.
    pub fn agentsn(&self) -> String {
        let metafile = self.metafile();
        metafile["agentsn"].as_str().expect("an agentsn").to_owned()
    }

    /// Its metafile.
    ///
    /// # Panics
    /// When there is none.
    pub fn metafile(&self) -> Value {
        let bytes = std::fs::read(self.path("var/lib/bootagent/metafile.json"));
        serde_json::from_slice(&bytes.expect("a metafile")).expect("JSON")
    }

    /// What its daemons logged and printed so far.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.path("var/log/bootagent/bootagent.log")).unwrap_or_default();
        let output = std::fs::read(self.folder.path().join("output")).unwrap_or_default();
        [log, output]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .concat()
    }

    /// What a child wrote into `file` of its state folder, if it did.
    pub fn child_file(&self, name: &str, file: &str) -> Option<String> {
        let folder = self.path("var/lib/bootagent/agents").join(name);
        std::fs::read_to_string(folder.join(file)).ok()
    }

    /// What a child printed, as the logger wrote it.
    pub fn child_log(&self, name: &str) -> String {
        let path = self
            .path("var/log/bootagent/agents")
            .join(format!("{name}.log"));
        String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
    }

    /// The processes of this host's run records.
    pub fn recorded(&self) -> Vec<Process> {
        process::recorded(&self.path("run/bootagent/children"))
    }

    /// Puts `bundle` in place as the packaged sub-agent `name`.
    pub fn package(&self, name: &str, bundle: &crate::bundle::Bundle) {
        bundle.place(&self.path("usr/lib/bootagent/agents").join(name));
    }

    /// The most memory the daemon has had at once, in KiB.
    ///
    /// # Panics
    /// When it does not run.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the daemon runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|text| text.parse().ok()).expect("a number")
    }

    /// What is left in the folder for downloads and unpacking.
    pub fn temporary_files(&self) -> Vec<PathBuf> {
        files_below(&self.path("var/lib/bootagent/tmp"))
    }

    fn take_down(&mut self) {
        if self.is_running() {
            let stopping = Command::new(binaries::bootctl())
                .arg("-r")
                .arg(self.root())
                .args(["stop", "--all"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            if let Ok(mut stopping) = stopping {
                let begun = Instant::now();
                while matches!(stopping.try_wait(), Ok(None)) && begun.elapsed() < TAKE_DOWN {
                    std::thread::sleep(Duration::from_millis(10));
                }
                let _ = stopping.kill();
                let _ = stopping.wait();
            }
        }
        self.kill();
        for process in self.recorded() {
            // Each child leads a session of its own.
            let _ = nix::sys::signal::killpg(Pid::from_raw(process.pid), Signal::SIGKILL);
            process.signal(Signal::SIGKILL);
        }
        control_group::remove(&self.cgroup);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.take_down();
        if std::thread::panicking() {
            // It logs to its file and to its output; what is only printed stands here.
            let output = std::fs::read(self.folder.path().join("output")).unwrap_or_default();
            let output = String::from_utf8_lossy(&output);
            eprintln!(
                "the output of the host in {}:\n{output}",
                self.root().display()
            );
        }
    }
}

/// Copies a file that is to be executed. By a program of its own: while this
/// process had it open for writing, another test could start something that
/// has it open too, and nobody could execute it.
///
/// # Panics
/// When it cannot be copied.
pub fn copy_executable(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status();
    assert!(copied.expect("cp can be run").success());
    let copied = Command::new("chmod").arg("755").arg(to).status();
    assert!(copied.expect("chmod can be run").success());
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Every file and folder below `folder`.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files_below(&path));
        }
        found.push(path);
    }
    found
}
