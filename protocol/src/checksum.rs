//! `SHA256:hex`, as jobs and packages carry it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A SHA-256 in a job: 32 bytes, written `SHA256:` and 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum(pub [u8; 32]);

/// Why a text is no checksum.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid checksum {0:?}: SHA256: and 64 hexadecimal digits are expected")]
pub struct ChecksumError(String);

impl Checksum {
    /// Reads `SHA256:hex`; the word and the digits may be in either case.
    pub fn parse(text: &str) -> Result<Self, ChecksumError> {
        let fail = || ChecksumError(crate::truncate(text, 90).to_owned());
        let (kind, digits) = text.split_once(':').ok_or_else(fail)?;
        if !kind.eq_ignore_ascii_case("sha256") || digits.len() != 64 || !digits.is_ascii() {
            return Err(fail());
        }
        let mut sum = [0; 32];
        for (byte, pair) in sum.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let digit = |b: u8| char::from(b).to_digit(16);
            let (high, low) = digit(pair[0]).zip(digit(pair[1])).ok_or_else(fail)?;
            *byte = u8::try_from(high * 16 + low).expect("two hexadecimal digits fit a byte");
        }
        Ok(Self(sum))
    }

    /// The 64 lower-case digits alone.
    pub fn hex(&self) -> String {
        use fmt::Write;
        self.0
            .iter()
            .fold(String::with_capacity(64), |mut text, byte| {
                write!(text, "{byte:02x}").expect("writing to a string does not fail");
                text
            })
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", self.hex())
    }
}

impl TryFrom<String> for Checksum {
    type Error = ChecksumError;
    fn try_from(text: String) -> Result<Self, ChecksumError> {
        Self::parse(&text)
    }
}

impl From<Checksum> for String {
    fn from(sum: Checksum) -> String {
        sum.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_document_002_reads_and_writes_back() {
        let text = "SHA256:4a34b8d7d3009bb9ef9475fbf33e7bbe4a1e8db003aefc578a241c2f51c2c2f2";
        assert_eq!(
            Checksum::parse(text).map(|sum| sum.to_string()),
            Ok(text.to_owned())
        );
    }

    #[test]
    fn other_kinds_and_lengths_are_refused() {
        for bad in [
            "",
            "SHA256:",
            "MD5:00",
            "4a34",
            "SHA256:zz",
            &format!("SHA256:{}", "é".repeat(32)),
        ] {
            assert!(Checksum::parse(bad).is_err(), "{bad:?}");
        }
    }
}
