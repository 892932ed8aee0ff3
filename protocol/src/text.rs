//! Small rules about text that both sides share.

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
    fn a_cut_never_splits_a_character() {
        assert_eq!(truncate("流量", 4), "流");
        assert_eq!(truncate("abc", 3), "abc");
        assert_eq!(truncate("abc", 0), "");
    }
}
