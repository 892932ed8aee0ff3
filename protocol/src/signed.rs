//! What a signature says it signs.

use crate::{AgentName, Version};

/// Agent and version in the trusted comment of a package's minisign signature:
/// words `key=value`, of which others are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedAs {
    /// The agent.
    pub name: AgentName,
    /// Its version.
    pub version: Version,
}

impl SignedAs {
    /// Reads a trusted comment; nothing when it does not say both, once each.
    pub fn parse(comment: &str) -> Option<Self> {
        let value = |key: &str| {
            let values = comment
                .split_ascii_whitespace()
                .filter_map(|word| word.split_once('='))
                .filter_map(|(found, value)| (found == key).then_some(value));
            let mut values = values.fuse();
            // Said twice is said by nobody.
            values.next().filter(|_| values.next().is_none())
        };
        Some(Self {
            name: AgentName::parse(value("name")?).ok()?,
            version: Version::parse(value("version")?).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_names_agent_and_version_once_each() {
        let parse = |text: &str| {
            let signed = SignedAs::parse(text)?;
            Some((signed.name.to_string(), signed.version.to_string()))
        };
        let named = Some(("flux-push".to_owned(), "1.2.3-1".to_owned()));
        for good in [
            "name=flux-push version=1.2.3-1",
            "version=1.2.3-1\tname=flux-push",
            "timestamp:1700000000 name=flux-push version=1.2.3-1 built=by=hand",
        ] {
            assert_eq!(parse(good), named, "{good:?}");
        }
        for bad in [
            "",
            "flux-push 1.2.3-1",
            "name=flux-push",
            "version=1.2.3-1",
            "name=flux-push version=",
            "name=../x version=1",
            "name=a name=b version=1",
            "name=a version=1 version=2",
            "Name=a version=1",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
