//! Where everything lives below one prefix (design, section 4).
//!
//! Pure: a `Paths` only names places. Creating them is `ensure`.

use std::path::{Path, PathBuf};

use bootagent_kit::fs::{FsError, ensure_dir};
use bootagent_protocol::AgentName;

/// The host's layout below `root`.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The layout below `root`, `/` on a host.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    /// The prefix itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the prefix is `/`: only then rpm and dpkg install for us.
    pub fn is_system(&self) -> bool {
        self.root == Path::new("/")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The optional configuration file.
    pub fn config(&self) -> PathBuf {
        self.at("etc/bootagent/bootagent.toml")
    }

    /// Configuration of one sub-agent.
    pub fn agent_config(&self, name: &AgentName) -> PathBuf {
        self.at("etc/bootagent/agents").join(name.as_str())
    }

    /// Sub-agents that came as rpm or deb, one folder each.
    pub fn packaged_agents(&self) -> PathBuf {
        self.at("usr/lib/bootagent/agents")
    }

    /// State that survives a reboot.
    pub fn state(&self) -> PathBuf {
        self.at("var/lib/bootagent")
    }

    /// Sub-agents that came as bundles, one folder each.
    pub fn bundles(&self) -> PathBuf {
        self.state().join("bundles")
    }

    /// Identity and intent; its absence means first start.
    pub fn metafile(&self) -> PathBuf {
        self.state().join("metafile.json")
    }

    /// Jobs, outcomes and events.
    pub fn journal(&self) -> PathBuf {
        self.state().join("journal")
    }

    /// Downloads and unpacking.
    pub fn tmp(&self) -> PathBuf {
        self.state().join("tmp")
    }

    /// Cached packages.
    pub fn packages(&self) -> PathBuf {
        self.state().join("packages")
    }

    /// How far an upgrade of BootAgent itself is.
    pub fn takeover(&self) -> PathBuf {
        self.state().join("takeover")
    }

    /// The program that watches such an upgrade, and that can be put back. Not
    /// in /var, where a program may be forbidden.
    pub fn saved_program(&self) -> PathBuf {
        self.at("usr/lib/bootagent/bootagent.saved")
    }

    /// A sub-agent's own state.
    pub fn agent_state(&self, name: &AgentName) -> PathBuf {
        self.state().join("agents").join(name.as_str())
    }

    /// Our logs.
    pub fn logs(&self) -> PathBuf {
        self.at("var/log/bootagent")
    }

    /// What sub-agents print, one file each, and a folder each for their own.
    pub fn agent_logs(&self) -> PathBuf {
        self.logs().join("agents")
    }

    /// What one sub-agent prints.
    pub fn agent_log(&self, name: &str) -> PathBuf {
        self.agent_logs().join(format!("{name}.log"))
    }

    /// The folder one sub-agent may write logs of its own into.
    pub fn agent_log_folder(&self, name: &AgentName) -> PathBuf {
        self.agent_logs().join(name.as_str())
    }

    /// State that does not survive a reboot.
    pub fn run(&self) -> PathBuf {
        self.at("run/bootagent")
    }

    /// Held for life, so that there is one BootAgent per root.
    pub fn lock(&self) -> PathBuf {
        self.run().join("lock")
    }

    /// Held while an upgrade is watched.
    pub fn watcher_lock(&self) -> PathBuf {
        self.run().join("watcher.lock")
    }

    /// Where `bootctl` speaks to us.
    pub fn socket(&self) -> PathBuf {
        self.run().join("bootagent.sock")
    }

    /// A socket per child, where it speaks to us (READY=1, STATUS=).
    pub fn notify_sockets(&self) -> PathBuf {
        self.run().join("notify")
    }

    /// What sub-agents learn about the platform.
    pub fn uplink(&self) -> PathBuf {
        self.run().join("uplink.json")
    }

    /// A run record per process we started.
    pub fn records(&self) -> PathBuf {
        self.run().join("children")
    }

    /// Output FIFOs, watched by the logger.
    pub fn outputs(&self) -> PathBuf {
        self.run().join("output")
    }

    /// A sub-agent's own run-time folder.
    pub fn agent_run(&self, name: &AgentName) -> PathBuf {
        self.run().join("agents").join(name.as_str())
    }

    /// Every folder the daemon needs, with its mode.
    pub fn folders(&self) -> Vec<(PathBuf, u32)> {
        vec![
            (self.state(), 0o755),
            (self.bundles(), 0o755),
            (self.journal(), 0o700),
            (self.tmp(), 0o700),
            (self.packages(), 0o700),
            (self.state().join("agents"), 0o755),
            (self.logs(), 0o755),
            (self.agent_logs(), 0o755),
            (self.run(), 0o755),
            (self.records(), 0o700),
            (self.outputs(), 0o755),
            (self.notify_sockets(), 0o755),
            (self.run().join("agents"), 0o755),
        ]
    }

    /// Creates what is missing.
    pub fn ensure(&self) -> Result<(), FsError> {
        self.folders()
            .iter()
            .try_for_each(|(path, mode)| ensure_dir(path, *mode))
    }
}
