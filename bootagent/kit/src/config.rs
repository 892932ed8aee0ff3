//! Configuration files: read, checked, and either valid or refused.
//!
//! The file is TOML into a type with `#[serde(deny_unknown_fields)]`, so that
//! a misspelt key is an error and not a silent default. What the keys mean is
//! the program's business.
//!
//! The one rule: whoever holds a loaded value need not check it again, and
//! whoever gets an error knows file, line and key to correct.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::fs::{self, FsError};

/// Largest configuration file, in bytes, where a program has no other wish.
pub const MAX_CONFIG_BYTES: u64 = 256 * 1024;

/// Longest message of the TOML reader that is repeated, in bytes.
const MAX_MESSAGE_BYTES: usize = 400;

/// What makes a configuration valid beyond its types.
pub trait Validate {
    /// Checks ranges and combinations.
    fn validate(&self) -> Result<(), Invalid>;
}

/// A key whose value cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The key, with the tables before it: `restart.holdoff`.
    pub key: String,
    /// What is expected there: `1 to 604800 seconds`.
    pub expected: String,
}

impl Invalid {
    /// Names the key and what is expected there.
    pub fn new(key: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            expected: expected.into(),
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration cannot be read")]
    Read(#[from] FsError),
    /// The file is not text.
    #[error("{} is not UTF-8 text; write it again as such", .0.display())]
    NotText(PathBuf),
    /// The file is not TOML, or holds a key or type nobody knows.
    #[error("{}, line {line}{}: {message}; correct this line", .path.display(), at_key(.key))]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key on that line, if there is one.
        key: Option<String>,
        /// What is wrong there, in one line.
        message: String,
    },
    /// A value that cannot be.
    #[error("{}, key {key}: {expected} expected; correct this value", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is expected there.
        expected: String,
    },
}

fn at_key(key: &Option<String>) -> String {
    key.as_ref()
        .map_or(String::new(), |key| format!(", key {key}"))
}

/// Reads and checks a file of at most `limit` bytes that must exist.
pub fn load<T: DeserializeOwned + Validate>(path: &Path, limit: u64) -> Result<T, ConfigError> {
    let bytes = fs::read_limited(path, limit)?;
    let text = String::from_utf8(bytes).map_err(|_| ConfigError::NotText(path.to_owned()))?;
    parse(path, &text)
}

/// As [`load`]; a file that does not exist gives the defaults.
pub fn load_or_default<T>(path: &Path, limit: u64) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Validate + Default,
{
    match load(path, limit) {
        Err(ConfigError::Read(error)) if error.is_not_found() => Ok(T::default()),
        other => other,
    }
}

fn parse<T: DeserializeOwned + Validate>(path: &Path, text: &str) -> Result<T, ConfigError> {
    let value: T = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..offset]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        ConfigError::Line {
            path: path.to_owned(),
            line: line + 1,
            key: text.lines().nth(line).and_then(key_of).map(str::to_owned),
            message: bootagent_protocol::truncate(error.message(), MAX_MESSAGE_BYTES)
                .replace('\n', ", "),
        }
    })?;
    value.validate().map_err(|invalid| ConfigError::Value {
        path: path.to_owned(),
        key: invalid.key,
        expected: invalid.expected,
    })?;
    Ok(value)
}

/// What stands before the `=`. The value is not shown: it may be a secret.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    (!key.is_empty() && !key.starts_with('#')).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Sample {
        step: u32,
        restart: Restart,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Restart {
        holdoff: u32,
    }

    impl Validate for Sample {
        fn validate(&self) -> Result<(), Invalid> {
            match self.restart.holdoff {
                0..=100 => Ok(()),
                _ => Err(Invalid::new("restart.holdoff", "0 to 100 seconds")),
            }
        }
    }

    fn loaded(text: &[u8]) -> Result<Sample, ConfigError> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("sample.toml");
        std::fs::write(&path, text).expect("written");
        load(&path, 200)
    }

    #[test]
    fn a_file_is_read_and_what_is_absent_has_its_default() {
        let sample = loaded(b"# a comment\n[restart]\nholdoff = 7\n").expect("valid");
        assert_eq!((sample.step, sample.restart.holdoff), (0, 7));
        assert_eq!(loaded(b"").expect("valid"), Sample::default());
    }

    #[test]
    fn a_mistake_is_named_with_file_line_key_and_remedy() {
        for (text, parts) in [
            ("step = 1\n\nstpe = 2\n", ["line 3", "stpe"]),
            ("step = \"x\"\n", ["line 1, key step", "expected u32"]),
            ("step = -1\n", ["line 1, key step", "expected u32"]),
            ("\nstep = \n", ["line 2", "step"]),
            (
                "[restart]\nholdoff = 1\nholdoff = 2\n",
                ["line 3", "duplicate key"],
            ),
            (
                "[restart]\nholdoff = 101\n",
                ["restart.holdoff", "0 to 100"],
            ),
            ("step = 1 2\n", ["line 1", "step"]),
        ] {
            let error = loaded(text.as_bytes()).expect_err(text).to_string();
            for part in parts.into_iter().chain(["sample.toml", "correct"]) {
                assert!(error.contains(part), "{part:?} is not in {error:?}");
            }
            assert!(!error.contains('\n'), "{error:?}");
        }
    }

    #[test]
    fn a_secret_behind_a_misspelt_key_is_not_repeated() {
        let error = loaded(b"token = \"hunter2\"\n").expect_err("unknown key");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused() {
        assert!(matches!(loaded(&[b' '; 201]), Err(ConfigError::Read(_))));
        assert!(matches!(loaded(b"\xff\xfe"), Err(ConfigError::NotText(_))));
    }

    #[test]
    fn only_a_missing_file_gives_the_defaults() {
        let dir = tempfile::tempdir().expect("a directory");
        let absent = dir.path().join("absent.toml");
        assert!(load::<Sample>(&absent, 100).is_err());
        let sample: Sample = load_or_default(&absent, 100).expect("defaults");
        assert_eq!(sample, Sample::default());
        assert!(load_or_default::<Sample>(dir.path(), 100).is_err());
    }
}
