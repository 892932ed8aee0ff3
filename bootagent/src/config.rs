//! `bootagent.toml`: what an operator may set on a host.
//!
//! Every key is optional and an unknown one is an error. What is typed here is
//! checked once; afterwards a `Config` cannot be invalid.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bootagent_core::restart::Policy;
use bootagent_kit::config::{ConfigError, Invalid, Validate, load_or_default};
use serde::Deserialize;

use crate::package::signature::TrustedKeys;

/// Largest configuration file, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a configuration is not taken while another one is in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It cannot be read, or is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It is missing or sets nothing.
    #[error(
        "{} is missing or sets nothing; write it again, or restart bootagent if the defaults are \
         meant", .0.display()
    )]
    SaysNothing(PathBuf),
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The prefix everything lives below.
    pub root: PathBuf,
    /// PEM file `https://` servers are verified with, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// File with the token a new host enrols with.
    pub enrolment_token_file: Option<PathBuf>,
    /// minisign public keys. With any, only packages they signed are installed.
    pub trusted_keys: Vec<String>,
    /// Whom a sub-agent runs as whose manifest names no user.
    pub agent_user: String,
    /// Name of the cgroup that holds the children's; by default `bootagent`,
    /// and one of its own for another root.
    pub cgroup: Option<String>,
    /// Restart policy.
    pub restart: RestartConfig,
    /// Statuses.
    pub push: PushConfig,
    /// Downloads.
    pub download: DownloadConfig,
    /// Logs, our own and the children's.
    pub logs: LogsConfig,
    /// Jobs.
    pub jobs: JobsConfig,
}

/// `[restart]`: the four numbers of document 002, in seconds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestartConfig {
    /// Seconds between two looks.
    pub check: u64,
    /// Seconds after an abnormal end without a start.
    pub holdoff: u64,
    /// Seconds of running that make an end no anomaly.
    pub stable: u64,
    /// Anomalies in a row that are tried again.
    pub max_anomalies: u32,
}

/// `[push]`: when and how a status is sent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PushConfig {
    /// Seconds between two statuses of a new host.
    pub step: u64,
    /// Smallest step a `config` job may set, in seconds.
    pub min_step: u64,
    /// Seconds a server has to take a connection.
    pub connect_timeout: u64,
    /// Seconds a whole exchange may take.
    pub timeout: u64,
}

/// `[download]`: bounds of a package.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DownloadConfig {
    /// Largest package, in bytes.
    pub max_bytes: u64,
    /// Bytes per second; 0 is as fast as it goes.
    pub rate: u64,
    /// Seconds a download may take, waiting for a busy server included.
    pub timeout: u64,
    /// Seconds without a byte before the connection is given up.
    pub stall_timeout: u64,
}

/// `[logs]`: sizes of log files.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogsConfig {
    /// Bytes before a child's log is rotated.
    pub max_bytes: u64,
    /// Old files kept of each log.
    pub keep: u32,
    /// Bytes per second a child may print in the long run; more is dropped
    /// and counted.
    pub rate: u64,
}

/// `[jobs]`: deadlines of what a job runs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobsConfig {
    /// Seconds rpm or dpkg may take.
    pub installer_timeout: u64,
    /// Seconds a sub-agent's own check may take.
    pub check_timeout: u64,
    /// Seconds a new BootAgent may take until a server has answered it.
    pub confirm_timeout: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/"),
            ca_file: None,
            enrolment_token_file: None,
            trusted_keys: Vec::new(),
            agent_user: "bootagent".into(),
            cgroup: None,
            restart: RestartConfig::default(),
            push: PushConfig::default(),
            download: DownloadConfig::default(),
            logs: LogsConfig::default(),
            jobs: JobsConfig::default(),
        }
    }
}

impl Default for RestartConfig {
    fn default() -> Self {
        let policy = Policy::DEFAULT;
        Self {
            check: policy.check().as_secs(),
            holdoff: policy.holdoff().as_secs(),
            stable: policy.stable().as_secs(),
            max_anomalies: policy.max_anomalies(),
        }
    }
}

impl Default for PushConfig {
    fn default() -> Self {
        Self {
            step: 600,
            min_step: 60,
            connect_timeout: 10,
            timeout: 30,
        }
    }
}

impl Default for DownloadConfig {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 30,
            rate: 0,
            timeout: 7200,
            stall_timeout: 60,
        }
    }
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self {
            max_bytes: 10 << 20,
            keep: 5,
            rate: 1 << 20,
        }
    }
}

impl Default for JobsConfig {
    fn default() -> Self {
        Self {
            installer_timeout: 600,
            check_timeout: 30,
            confirm_timeout: 300,
        }
    }
}

impl Config {
    /// Reads `path`; a missing file means every default.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        load_or_default(path, MAX_BYTES)
    }

    /// Reads the file again for a BootAgent that runs with `self`. One that
    /// says nothing any more is refused: an editor on a full disk leaves such a
    /// file, and the keys packages are signed with would go with it. One that
    /// spells defaults says something.
    pub fn load_again(&self, path: &Path) -> Result<Self, ReloadError> {
        let read = Self::load(path)?;
        match read == Self::default() && *self != read && !sets_a_key(path) {
            true => Err(ReloadError::SaysNothing(path.to_owned())),
            false => Ok(read),
        }
    }

    /// The restart policy.
    pub fn policy(&self) -> Policy {
        self.restart
            .policy()
            .expect("checked when the configuration was read")
    }

    /// Whose signatures packages need.
    pub fn trusted_keys(&self) -> TrustedKeys {
        TrustedKeys::parse(&self.trusted_keys).expect("checked when the configuration was read")
    }

    /// Name of the cgroup that holds the children's groups. Another root gets
    /// one of its own, so that two daemons on one machine stay apart.
    pub fn cgroup_name(&self) -> String {
        match &self.cgroup {
            Some(name) => name.clone(),
            None if self.root == Path::new("/") => "bootagent".into(),
            None => {
                use std::os::unix::ffi::OsStrExt;
                format!(
                    "bootagent-{:08x}",
                    crc32fast::hash(self.root.as_os_str().as_bytes())
                )
            }
        }
    }
}

/// Whether a file that was read and is valid has a key at all.
fn sets_a_key(path: &Path) -> bool {
    let bytes = bootagent_kit::fs::read_limited(path, MAX_BYTES).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines().map(str::trim_start);
    lines.any(|line| !line.starts_with('#') && line.contains('='))
}

impl RestartConfig {
    fn policy(&self) -> Result<Policy, Invalid> {
        let seconds = Duration::from_secs;
        let (check, holdoff) = (seconds(self.check), seconds(self.holdoff));
        Policy::new(check, holdoff, seconds(self.stable), self.max_anomalies)
            .map_err(|error| Invalid::new(format!("restart.{}", error.key), error.expected))
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        let need = |valid: bool, key: &str, expected: &str| {
            if valid {
                Ok(())
            } else {
                Err(Invalid::new(key, expected))
            }
        };
        need(self.root.is_absolute(), "root", "an absolute path")?;
        TrustedKeys::parse(&self.trusted_keys)?;
        let plain = |name: &str| bootagent_protocol::AgentName::parse(name).is_ok();
        let name = self.cgroup.as_deref();
        need(
            name.is_none_or(plain),
            "cgroup",
            "1 to 50 of A-Z a-z 0-9 _ -",
        )?;
        need(
            !self.agent_user.is_empty(),
            "agent_user",
            "the name of an account",
        )?;
        self.restart.policy()?;
        let push = &self.push;
        need(
            (1..=3600).contains(&push.min_step),
            "push.min_step",
            "1 to 3600 seconds",
        )?;
        let step = push.min_step..=3600;
        need(
            step.contains(&push.step),
            "push.step",
            "push.min_step to 3600 seconds",
        )?;
        let connect = 1..=300;
        need(
            connect.contains(&push.connect_timeout),
            "push.connect_timeout",
            "1 to 300 seconds",
        )?;
        need(
            (1..=600).contains(&push.timeout),
            "push.timeout",
            "1 to 600 seconds",
        )?;
        let download = &self.download;
        need(
            download.max_bytes > 0,
            "download.max_bytes",
            "at least 1 byte",
        )?;
        let week = 1..=604_800;
        need(
            week.contains(&download.timeout),
            "download.timeout",
            "1 to 604800 seconds",
        )?;
        let hour = 1..=3600;
        need(
            hour.contains(&download.stall_timeout),
            "download.stall_timeout",
            "1 to 3600 seconds",
        )?;
        need(
            self.logs.max_bytes >= 4096,
            "logs.max_bytes",
            "at least 4096 bytes",
        )?;
        need(
            (1..=100).contains(&self.logs.keep),
            "logs.keep",
            "1 to 100 files",
        )?;
        need(
            self.logs.rate >= 1024,
            "logs.rate",
            "at least 1024 bytes per second",
        )?;
        let (day, jobs) = (1..=86_400, &self.jobs);
        need(
            day.contains(&jobs.installer_timeout),
            "jobs.installer_timeout",
            "1 to 86400 seconds",
        )?;
        need(
            day.contains(&jobs.check_timeout),
            "jobs.check_timeout",
            "1 to 86400 seconds",
        )?;
        need(
            (5..=86_400).contains(&jobs.confirm_timeout),
            "jobs.confirm_timeout",
            "5 to 86400 seconds",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bootagent.toml");
        std::fs::write(&path, text).expect("writable");
        Config::load(&path).map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }

    #[test]
    fn a_missing_or_empty_file_means_the_defaults_of_document_002() {
        let missing = Config::load(Path::new("/nonexistent/bootagent.toml")).expect("defaults");
        assert_eq!(load("").as_ref(), Ok(&missing));
        assert_eq!((missing.push.step, missing.push.min_step), (600, 60));
        assert_eq!(missing.policy(), Policy::DEFAULT);
    }

    #[test]
    fn a_file_that_says_nothing_any_more_is_refused_where_another_is_in_force() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bootagent.toml");
        let defaults = Config::default();
        let running = Config {
            trusted_keys: vec!["a key".into()],
            ..Config::default()
        };
        let missing = running.load_again(&path).expect_err("refused").to_string();
        assert!(missing.contains("bootagent.toml is missing"), "{missing}");
        for text in ["", "\n\n", "# trusted_keys = []\n", " # step = 1\n[push]\n"] {
            std::fs::write(&path, text).expect("writable");
            let refused = running.load_again(&path);
            assert!(
                matches!(refused, Err(ReloadError::SaysNothing(_))),
                "{text:?}"
            );
            assert_eq!(defaults.load_again(&path).ok().as_ref(), Some(&defaults));
        }
        std::fs::write(&path, "[push]\nstep = 600\n").expect("writable");
        assert_eq!(running.load_again(&path).expect("taken"), defaults);
        std::fs::write(&path, "[push]\nstep = 700\n").expect("writable");
        assert_eq!(running.load_again(&path).expect("taken").push.step, 700);
    }

    #[test]
    fn a_wrong_key_or_value_names_file_and_key() {
        for (text, named) in [
            ("rot = \"/\"", "rot"),
            ("root = \"relative\"", "root"),
            ("[restart]\ncheck = 0", "restart.check"),
            ("[restart]\nchek = 1", "chek"),
            ("[push]\nstep = 5", "push.step"),
            ("[logs]\nkeep = \"many\"", "keep"),
            ("cgroup = \"../x\"", "cgroup"),
            ("trusted_keys = [\"RWQ\"]", "trusted_keys[0]"),
        ] {
            let error = load(text).expect_err("refused");
            assert!(
                error.contains(named) && error.contains("bootagent.toml"),
                "{error}"
            );
        }
    }

    #[test]
    fn another_root_has_a_cgroup_of_its_own() {
        let at = |root: &str| {
            Config {
                root: root.into(),
                ..Config::default()
            }
            .cgroup_name()
        };
        assert_eq!(at("/"), "bootagent");
        assert_ne!(at("/a"), at("/b"));
    }
}
