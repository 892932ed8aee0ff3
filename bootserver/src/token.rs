//! Bearer tokens: made here, shown once, kept only as SHA-256.
//!
//! A token carries 256 random bits, so its plain SHA-256 is as good as a slow
//! hash and is looked up by index. The one rule: the text of a token never
//! reaches a log or the store.

use std::fmt;

use sha2::{Digest, Sha256};

/// Longest token that is looked at, in bytes; ours have 70.
const MAX_TOKEN_BYTES: usize = 256;

/// What a token is for; the word stands at its beginning, so that a person
/// sees which one is in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Lets a host register.
    Enrolment,
    /// Lets an operator use the API.
    Api,
    /// One host's own.
    Host,
    /// A user's, from signing in to signing out.
    Session,
}

impl TokenKind {
    fn word(self) -> &'static str {
        match self {
            Self::Enrolment => "enrol",
            Self::Api => "api",
            Self::Host => "host",
            Self::Session => "session",
        }
    }
}

/// A token's text. Debug shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// SHA-256 of a token, as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenDigest(String);

impl Token {
    /// A new random token.
    pub fn generate(kind: TokenKind) -> Self {
        let mut random = [0; 32];
        getrandom::fill(&mut random).expect("the kernel gives random bytes once it has booted");
        Self(format!("{}-{}", kind.word(), hex(&random)))
    }

    /// The token in an `Authorization` header's value, if it has the form of
    /// one. Whether it is known is the store's to say.
    pub fn from_bearer(value: &str) -> Option<Self> {
        let (scheme, token) = value.split_once(' ')?;
        match scheme.eq_ignore_ascii_case("bearer") {
            true => Self::parse(token.trim()),
            false => None,
        }
    }

    /// A text that has the form of a token.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= MAX_TOKEN_BYTES;
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        (fits && printable).then(|| Self(text.to_owned()))
    }

    /// What it says it is for; none for a token that was not made here.
    pub fn kind(&self) -> Option<TokenKind> {
        let word = self.0.split('-').next()?;
        [
            TokenKind::Enrolment,
            TokenKind::Api,
            TokenKind::Host,
            TokenKind::Session,
        ]
        .into_iter()
        .find(|kind| kind.word() == word)
    }

    /// What the store keeps of it.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(hex(&Sha256::digest(self.0.as_bytes())))
    }

    /// The text, to hand it out this once.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

impl TokenDigest {
    /// The hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let mut text = String::with_capacity(bytes.len() * 2);
    text.extend(digits.map(digit));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tokens_differ_and_say_what_they_are_for() {
        let (one, two) = (
            Token::generate(TokenKind::Enrolment),
            Token::generate(TokenKind::Enrolment),
        );
        assert_ne!(one, two);
        assert!(one.expose().starts_with("enrol-"));
        assert_eq!(one.expose().len(), "enrol-".len() + 64);
        assert_eq!(one.kind(), Some(TokenKind::Enrolment));
        assert_eq!(Token::parse("abc").and_then(|token| token.kind()), None);
    }

    #[test]
    fn a_digest_is_the_sha256_of_the_text() {
        let token = Token::from_bearer("Bearer abc").expect("a bearer token");
        assert_eq!(
            token.digest().as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn what_is_no_bearer_token_is_refused() {
        let long = format!("Bearer {}", "x".repeat(257));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Basic abc",
            "Bearer a\u{e9}",
            &long,
        ] {
            assert_eq!(Token::from_bearer(bad), None, "{bad:?}");
        }
        assert!(Token::from_bearer("bearer abc").is_some());
    }

    #[test]
    fn debug_output_hides_the_token() {
        let token = Token::generate(TokenKind::Api);
        assert_eq!(format!("{token:?}"), "Token(***)");
    }
}
