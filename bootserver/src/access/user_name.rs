//! The name a user signs in with.

use std::fmt;

/// Longest name, in bytes.
const MAX_BYTES: usize = 64;

/// A name in its one spelling: `Ann` and `ann` are one user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserName(String);

/// A text that is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("1 to {MAX_BYTES} of a-z 0-9 . _ - @ are expected, a letter or digit first")]
pub struct UserNameError;

impl UserName {
    /// Reads a name; capitals become small.
    pub fn parse(text: &str) -> Result<Self, UserNameError> {
        let name = text.to_ascii_lowercase();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
        let begins = name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        match begins && name.len() <= MAX_BYTES && name.bytes().all(allowed) {
            true => Ok(Self(name)),
            false => Err(UserNameError),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        assert_eq!(
            UserName::parse("Ann.Lee@example.org"),
            UserName::parse("ann.lee@EXAMPLE.org")
        );
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", ".x", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert_eq!(UserName::parse(bad), Err(UserNameError), "{bad:?}");
        }
    }
}
