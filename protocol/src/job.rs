//! One order for one host, and its one result.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{AgentName, Checksum, ErrorCode, Limits, Version, contains_nul, truncate};

/// Largest single job, in bytes of JSON.
pub const MAX_JOB_BYTES: usize = 64 * 1024;
/// Longest job id, in bytes.
const MAX_ID_BYTES: usize = 127;
/// Longest url, in bytes.
const MAX_URL_BYTES: usize = 2048;
/// Largest environment: entries, and bytes of one entry.
const MAX_ENVS: usize = 256;
const MAX_ENV_BYTES: usize = 32 * 1024;
/// Longest message of a result, in bytes.
const MAX_MESSAGE_BYTES: usize = 4096;
/// Bounds of `step`, in seconds. A test may go below by configuration.
pub const STEP_SECONDS: std::ops::RangeInclusive<u64> = 1..=3600;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Install a sub-agent; on an installed one, the same as upgrade.
    Install,
    /// Replace a sub-agent's version.
    Upgrade,
    /// Stop and remove a sub-agent.
    Uninstall,
    /// Want a sub-agent running.
    Start,
    /// Want a sub-agent stopped.
    Stop,
    /// Stop and start a sub-agent.
    Restart,
    /// Change a sub-agent's environment and limits, or, without a name,
    /// BootAgent's own configuration.
    Config,
    /// Withdraw a job that has not begun.
    Cancel,
}

impl Action {
    /// All actions, in the order of the documents.
    pub const ALL: [Action; 8] = [
        Action::Install,
        Action::Upgrade,
        Action::Uninstall,
        Action::Start,
        Action::Stop,
        Action::Restart,
        Action::Config,
        Action::Cancel,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade",
            Self::Uninstall => "uninstall",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Config => "config",
            Self::Cancel => "cancel",
        }
    }

    /// The action a word means.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == word)
    }

    /// Whether the job brings a package.
    pub fn needs_package(self) -> bool {
        matches!(self, Self::Install | Self::Upgrade)
    }
}

/// A valid job. [`Job::parse`] is the only way in from the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The server's id, at most 127 bytes; the key of its one result.
    pub id: String,
    /// What to do.
    pub action: Action,
    /// Everything else.
    #[serde(flatten)]
    pub terms: JobTerms,
}

/// What a job says beyond its id and action; which fields must be there
/// depends on the action.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobTerms {
    /// The sub-agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<AgentName>,
    /// The version the package must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Where the package is: http, https, ftp, file, or relative to the
    /// server that gave the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The package's SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// minisign signature of the package, the whole text of a `.minisig`;
    /// needed where the host trusts certain keys only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The child's environment; replaces an earlier job's whole map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envs: Option<BTreeMap<String, String>>,
    /// The child's limits; replace an earlier job's whole map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// BootAgent's server list (config without a name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub svrlist: Option<String>,
    /// Seconds between two statuses (config without a name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Wall time in seconds since 1970 after which the job must not begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// The id of the job to withdraw (cancel).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancels: Option<String>,
    /// Seconds a new version is watched before the old one is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<u64>,
    /// Whether an older version may replace a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downgrade: Option<bool>,
}

/// Why a job is refused, as it goes into its result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JobError {
    /// The job's id, if it could be read: without one there is no result.
    pub id: Option<String>,
    /// 1001 or 1002.
    pub code: ErrorCode,
    /// What is wrong, where, and what is expected.
    pub message: String,
}

/// Whether `id` can be a job's id: 1 to 127 printable ASCII bytes.
pub fn job_id_is_valid(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

impl Job {
    /// Reads one element of a reply's `jobs[]`.
    pub fn parse(value: &Value) -> Result<Self, JobError> {
        let id = value
            .get("id")
            .and_then(Value::as_str)
            .filter(|id| job_id_is_valid(id));
        let refuse = |code, message: String| JobError {
            id: id.map(str::to_owned),
            code,
            message,
        };
        let malformed = |message: String| refuse(ErrorCode::MALFORMED_JOB, message);
        if !value.is_object() {
            return Err(malformed("a job must be an object".into()));
        }
        if id.is_none() {
            return Err(malformed(
                "id: 1 to 127 printable characters are expected".into(),
            ));
        }
        let word = value
            .get("action")
            .and_then(Value::as_str)
            .ok_or_else(|| malformed("action: a word such as \"install\" is expected".into()))?;
        if Action::parse(word).is_none() {
            let words: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
            let message = format!(
                "action {:?} is not one of {}",
                truncate(word, 40),
                words.join(", ")
            );
            return Err(refuse(ErrorCode::UNKNOWN_ACTION, message));
        }
        if value.to_string().len() > MAX_JOB_BYTES {
            return Err(malformed(format!(
                "a job may have at most {MAX_JOB_BYTES} bytes"
            )));
        }
        let job = Self::deserialize(value).map_err(|error| malformed(error.to_string()))?;
        job.validate().map_err(malformed)?;
        Ok(job)
    }

    /// Checks what belongs together; the message names field and remedy.
    pub fn validate(&self) -> Result<(), String> {
        let terms = &self.terms;
        let need = |there: bool, field: &str| match there {
            true => Ok(()),
            false => Err(format!(
                "{field}: missing, action {} needs it",
                self.action.as_str()
            )),
        };
        match self.action {
            Action::Install | Action::Upgrade => {
                need(terms.name.is_some(), "name")?;
                need(terms.url.is_some(), "url")?;
            }
            Action::Uninstall | Action::Start | Action::Stop | Action::Restart => {
                need(terms.name.is_some(), "name")?;
            }
            Action::Cancel => need(terms.cancels.is_some(), "cancels")?,
            Action::Config if terms.name.is_some() => {
                need(
                    terms.envs.is_some() || terms.limits.is_some(),
                    "envs or limits",
                )?;
            }
            Action::Config => {
                need(
                    terms.svrlist.is_some() || terms.step.is_some(),
                    "svrlist or step",
                )?;
            }
        }
        if let Some(url) = &terms.url {
            validate_url(url)?;
        }
        if let Some(envs) = &terms.envs {
            validate_envs(envs)?;
        }
        if terms.step.is_some_and(|step| !STEP_SECONDS.contains(&step)) {
            return Err("step: 60 to 3600 seconds are expected".into());
        }
        if terms.watch.is_some_and(|watch| watch > 3600) {
            return Err("watch: 0 to 3600 seconds are expected".into());
        }
        if terms
            .svrlist
            .as_ref()
            .is_some_and(|list| list.len() > 4096 || contains_nul(list))
        {
            return Err("svrlist: at most 4096 bytes of HOST:PORT,HOST2 are expected".into());
        }
        Ok(())
    }

    /// SHA-256 of the job as it came: the same id with another digest is an
    /// error (1004). Key order does not matter.
    pub fn digest(value: &Value) -> [u8; 32] {
        // A `Value` keeps its keys sorted, so its text is canonical.
        Sha256::digest(value.to_string().as_bytes()).into()
    }
}

fn validate_url(url: &str) -> Result<(), String> {
    let scheme_known = match url.split_once("://") {
        Some((scheme, _)) => ["http", "https", "ftp", "file"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known)),
        None => url.starts_with('/') && !url.starts_with("//"),
    };
    let printable = url.bytes().all(|b| b.is_ascii_graphic());
    if scheme_known && printable && url.len() <= MAX_URL_BYTES {
        return Ok(());
    }
    Err("url: at most 2048 characters of http://, https://, ftp://, file:// or a path beginning with / are expected".into())
}

fn validate_envs(envs: &BTreeMap<String, String>) -> Result<(), String> {
    if envs.len() > MAX_ENVS {
        return Err(format!("envs: at most {MAX_ENVS} variables are allowed"));
    }
    for (key, value) in envs {
        let key_valid = !key.is_empty() && !key.contains('=') && !contains_nul(key);
        if !key_valid || contains_nul(value) || key.len() + value.len() > MAX_ENV_BYTES {
            let key = truncate(key, 40);
            return Err(format!(
                "envs: {key:?} is no variable, or longer than {MAX_ENV_BYTES} bytes"
            ));
        }
    }
    Ok(())
}

/// The one result of a job. The first three fields are document 002's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// The job.
    pub id: String,
    /// What came of it.
    pub errcode: ErrorCode,
    /// The same for a person.
    #[serde(default)]
    pub message: String,
    /// The version that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<String>,
    /// The version that runs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// Why `tried` is not `running`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

impl JobResult {
    /// A result with a message, cut to the bound and without U+0000.
    pub fn new(id: &str, errcode: ErrorCode, message: &str) -> Self {
        let message = message.replace('\0', "\u{fffd}");
        let message = truncate(&message, MAX_MESSAGE_BYTES).to_owned();
        Self {
            id: id.to_owned(),
            errcode,
            message,
            tried: None,
            running: None,
            cause: None,
        }
    }
}

#[cfg(test)]
#[path = "job/tests.rs"]
mod tests;
