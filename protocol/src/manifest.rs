//! `agent.json`: how a sub-agent is run. One per package.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AgentName, Limits, Version, contains_nul};

/// Largest manifest, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 64 * 1024;
/// Longest argv and longest word of it.
const MAX_ARGV: usize = 64;
const MAX_WORD_BYTES: usize = 4096;
/// Signals a child may be asked to stop with, without `SIG`.
const STOP_SIGNALS: [&str; 7] = ["TERM", "HUP", "INT", "QUIT", "KILL", "USR1", "USR2"];

/// Why a manifest is refused: the key, and what is expected.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or a key of the wrong type; the text names line and key.
    #[error("not a valid manifest")]
    Json(#[source] serde_json::Error),
    /// A value that cannot be.
    #[error("{key}: {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is expected there.
        expected: &'static str,
    },
}

/// When a child counts as up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentType {
    /// Up when alive 5 s after exec.
    #[default]
    Simple,
    /// Up at READY=1.
    Notify,
    /// Runs once and ends.
    Oneshot,
}

/// Overrides of the restart policy, in seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartOverrides {
    /// Seconds after an abnormal end before the next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holdoff: Option<u64>,
    /// Seconds of running after which anomalies are forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<u64>,
    /// Anomalies in a row that are still tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_anomalies: Option<u32>,
}

/// A sub-agent's manifest; valid once [`Manifest::parse`] returned it.
/// Unknown keys are errors: a misspelt limit must not run unlimited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The agent's name.
    pub name: AgentName,
    /// The agent's version.
    pub version: Version,
    /// What to run; the first word is absolute or relative to the manifest.
    pub exec: Vec<String>,
    /// The agent's own configuration test, run before an old version stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Vec<String>>,
    /// When it counts as up.
    #[serde(rename = "type", default)]
    pub agent_type: AgentType,
    /// Seconds a `notify` child has to say READY=1.
    #[serde(default = "sixty")]
    pub start_timeout: u64,
    /// Who it runs as; absent, the user of the host's configuration, which is
    /// `bootagent` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its group; the user's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Capabilities it keeps, such as `CAP_NET_RAW`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// Its environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub envs: BTreeMap<String, String>,
    /// Whether it is wanted running as soon as it is installed.
    #[serde(default = "yes")]
    pub autostart: bool,
    /// Exit codes that are normal ends.
    #[serde(default = "zero")]
    pub exit_codes: Vec<u8>,
    /// The signal that asks it to stop, such as `TERM`.
    #[serde(default = "term")]
    pub stop_signal: String,
    /// Seconds it has to stop before it is killed.
    #[serde(default = "stop_timeout")]
    pub stop_timeout: u64,
    /// Seconds between two WATCHDOG=1 before it counts as hung.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<u64>,
    /// What it may use.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Overrides of the restart policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartOverrides>,
}

fn sixty() -> u64 {
    60
}
fn stop_timeout() -> u64 {
    10
}
fn yes() -> bool {
    true
}
fn zero() -> Vec<u8> {
    vec![0]
}
fn term() -> String {
    "TERM".into()
}

impl Manifest {
    /// Reads and checks a manifest of at most [`MAX_MANIFEST_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ManifestError::Value {
                key: "agent.json",
                expected: "at most 64 KiB",
            });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The argv of [`Manifest::exec`] and of [`Manifest::check`] are non-empty
    /// and the numbers are in their bounds.
    fn validate(&self) -> Result<(), ManifestError> {
        let need = |valid: bool, key, expected| match valid {
            true => Ok(()),
            false => Err(ManifestError::Value { key, expected }),
        };
        let argv_expected = "a list of 1 to 64 words without NUL is expected";
        need(argv_is_valid(&self.exec), "exec", argv_expected)?;
        need(
            self.check.as_ref().is_none_or(|argv| argv_is_valid(argv)),
            "check",
            argv_expected,
        )?;
        let account = |text: &str| {
            !text.is_empty() && text.len() <= 32 && text.bytes().all(|b| b.is_ascii_graphic())
        };
        need(
            self.user.as_deref().is_none_or(account),
            "user",
            "the name of an account is expected",
        )?;
        let group = self.group.as_deref();
        need(
            group.is_none_or(account),
            "group",
            "the name of a group is expected",
        )?;
        let day = 1..=86_400;
        need(
            day.contains(&self.start_timeout),
            "start_timeout",
            "1 to 86400 seconds",
        )?;
        need(
            day.contains(&self.stop_timeout),
            "stop_timeout",
            "1 to 86400 seconds",
        )?;
        need(
            self.watchdog.is_none_or(|w| day.contains(&w)),
            "watchdog",
            "1 to 86400 seconds",
        )?;
        let signal = self
            .stop_signal
            .strip_prefix("SIG")
            .unwrap_or(&self.stop_signal);
        let signals = "one of TERM HUP INT QUIT KILL USR1 USR2 is expected";
        need(STOP_SIGNALS.contains(&signal), "stop_signal", signals)?;
        let envs_valid = |(key, value): (&String, &String)| {
            !key.is_empty() && !key.contains('=') && !contains_nul(key) && !contains_nul(value)
        };
        need(
            self.envs.iter().all(envs_valid),
            "envs",
            "names without = and NUL are expected",
        )?;
        let restart = self.restart.clone().unwrap_or_default();
        let week = |seconds: Option<u64>| seconds.is_none_or(|s| (1..=604_800).contains(&s));
        need(
            week(restart.holdoff),
            "restart.holdoff",
            "1 to 604800 seconds",
        )?;
        need(
            week(restart.stable),
            "restart.stable",
            "1 to 604800 seconds",
        )
    }
}

fn argv_is_valid(argv: &[String]) -> bool {
    let word = |word: &String| word.len() <= MAX_WORD_BYTES && !contains_nul(word);
    (1..=MAX_ARGV).contains(&argv.len()) && argv.iter().all(word) && !argv[0].is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_manifest_has_the_documented_defaults() {
        let text = br#"{"name":"a","version":"1","exec":["./a"]}"#;
        let manifest = Manifest::parse(text).expect("valid");
        assert_eq!(manifest.agent_type, AgentType::Simple);
        assert_eq!((manifest.start_timeout, manifest.stop_timeout), (60, 10));
        assert_eq!((manifest.user, manifest.exit_codes), (None, vec![0]));
        assert!(manifest.autostart);
    }

    #[test]
    fn a_wrong_manifest_names_its_key() {
        for (text, key) in [
            (r#"{"version":"1","exec":["a"]}"#, "name"),
            (r#"{"name":"../a","version":"1","exec":["a"]}"#, "name"),
            (r#"{"name":"a","version":"1","exec":[]}"#, "exec"),
            (
                r#"{"name":"a","version":"1","exec":["a"],"limit":{}}"#,
                "limit",
            ),
            (
                r#"{"name":"a","version":"1","exec":["a"],"limits":{"memory":"1T"}}"#,
                "memory",
            ),
            (
                r#"{"name":"a","version":"1","exec":["a"],"stop_signal":"BANG"}"#,
                "stop_signal",
            ),
            (
                r#"{"name":"a","version":"1","exec":["a"],"type":"fork"}"#,
                "fork",
            ),
            (
                r#"{"name":"a","version":"1","exec":["a"],"check":[""]}"#,
                "check",
            ),
            (
                r#"{"name":"a","version":"1","exec":["a"],"stop_timeout":0}"#,
                "stop_timeout",
            ),
        ] {
            let error = Manifest::parse(text.as_bytes()).expect_err("refused");
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let shown = format!("{error}: {}", source.unwrap_or_default());
            assert!(shown.contains(key), "{key} is not named in {shown:?}");
        }
    }
}
