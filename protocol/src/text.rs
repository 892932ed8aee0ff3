//! Small rules about text that both sides share.

use serde::{Deserialize, Deserializer};

/// Longest secret of a host, in bytes.
pub const MAX_TOKEN_BYTES: usize = 1024;

/// Whether `text` can be sent as a secret: visible ASCII, which no header has
/// to escape, and not without end.
pub fn is_token(text: &str) -> bool {
    (1..=MAX_TOKEN_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reads a secret a server gives. An empty one is none; one that no later call
/// could carry makes the whole reply unreadable. The error does not repeat it.
pub(crate) fn token<'de, D: Deserializer<'de>>(source: D) -> Result<Option<String>, D::Error> {
    match Option::<String>::deserialize(source)? {
        Some(token) if is_token(&token) => Ok(Some(token)),
        Some(token) if !token.is_empty() => Err(serde::de::Error::custom(
            "token: 1 to 1024 visible ASCII characters are expected",
        )),
        Some(_) | None => Ok(None),
    }
}

/// Whether `text` holds U+0000, which PostgreSQL cannot store: refused at the
/// wire, so that both databases behave alike.
pub fn contains_nul(text: &str) -> bool {
    text.contains('\0')
}

/// The first `max_bytes` bytes of `text`, cut at a character boundary.
pub fn truncate(text: &str, max_bytes: usize) -> &str {
    if text.len() <= max_bytes {
        return text;
    }
    let mut end = max_bytes;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_what_a_header_can_carry() {
        assert!(is_token("aZ09-_.~+/=") && is_token(&"x".repeat(MAX_TOKEN_BYTES)));
        let long = "x".repeat(MAX_TOKEN_BYTES + 1);
        for bad in [
            "",
            "a b",
            "a\r\nX-Forged: 1",
            "a\0",
            "\u{1b}[2J",
            "密",
            &long,
        ] {
            assert!(!is_token(bad), "{bad:?}");
        }
        let read = |token: &str| {
            let reply = serde_json::json!({ "status": 0, "token": token }).to_string();
            serde_json::from_str::<crate::RegisterReply>(&reply)
        };
        assert_eq!(read("good").expect("valid").token.as_deref(), Some("good"));
        assert_eq!(read("").expect("none is given").token, None);
        let error = read("hunter2\r\n").expect_err("refused").to_string();
        assert!(
            error.contains("token") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(truncate("流量", 4), "流");
        assert_eq!(truncate("abc", 3), "abc");
        assert_eq!(truncate("abc", 0), "");
    }
}
