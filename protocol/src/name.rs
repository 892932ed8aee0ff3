//! Names that become file names, cgroup names and map keys.
//!
//! A value of these types is safe in a path by construction: whoever holds
//! one need not check again.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest agent name, in bytes.
const MAX_NAME_BYTES: usize = 50;
/// Longest version, in bytes.
const MAX_VERSION_BYTES: usize = 64;

/// Why a text is no agent name or no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a name of an agent.
    #[error("invalid agent name {0:?}: 1 to 50 of A-Z a-z 0-9 _ - are allowed")]
    Name(String),
    /// Not a version.
    #[error(
        "invalid version {0:?}: 1 to 64 of A-Z a-z 0-9 . _ + ~ : - are allowed, beginning with a letter or digit"
    )]
    Version(String),
}

/// The name of a sub-agent: 1 to 50 bytes of `[A-Za-z0-9_-]`, unique on a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentName(String);

impl AgentName {
    /// Checks `text` and makes it a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let fits = !text.is_empty() && text.len() <= MAX_NAME_BYTES;
        // A leading `-` would read as an option where a name stands in an argv.
        if fits && text.bytes().all(allowed) && !text.starts_with('-') {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Name(crate::truncate(text, 80).to_owned()))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for AgentName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<AgentName> for String {
    fn from(name: AgentName) -> String {
        name.0
    }
}

/// The version of a package: what rpm and dpkg take, without `/` and blanks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

impl Version {
    /// Checks `text` and makes it a version.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~:-".contains(&byte);
        let begins = text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric());
        if begins && text.len() <= MAX_VERSION_BYTES && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Version(crate::truncate(text, 80).to_owned()))
        }
    }

    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Version {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_leave_its_directory_is_refused() {
        for bad in [
            "",
            "..",
            "a/b",
            "a b",
            ".hidden",
            "a\0",
            "-rf",
            "é",
            &"x".repeat(51),
        ] {
            assert!(AgentName::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["BasicAgent", "flux-push", "a_1", &"x".repeat(50)] {
            assert_eq!(
                AgentName::parse(good).map(String::from),
                Ok((*good).to_owned())
            );
        }
    }

    #[test]
    fn a_version_is_what_rpm_and_dpkg_take() {
        for good in ["1.2.1-1", "0.1.0-0.x86_64", "2:1.0~rc1+git-3"] {
            assert!(Version::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "..", "../1", "1/2", "1 2", "-1", ".1"] {
            assert!(Version::parse(bad).is_err(), "{bad:?}");
        }
    }
}
