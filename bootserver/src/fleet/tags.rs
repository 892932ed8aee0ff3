//! Tags of a host and selectors over them, both written `svc=ecs,cmpt=DB`.

use std::collections::BTreeMap;
use std::fmt;

/// Most tags of one host.
pub const MAX_TAGS: usize = 64;
/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 64;
/// Longest value, in bytes.
const MAX_VALUE_BYTES: usize = 128;

/// A host's tags, one value per key. As a selector: hosts that have them all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags(BTreeMap<String, String>);

/// Why a text is no list of tags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagsError {
    /// A part without `=`, or with a key or value that cannot be.
    #[error(
        "invalid tag {0:?}: KEY=VALUE is expected, the key 1 to 64 of A-Z a-z 0-9 . _ - /, the value at most 128 bytes without comma or control characters"
    )]
    Malformed(String),
    /// One key twice.
    #[error("tag {0:?} is given twice")]
    Twice(String),
    /// Too many.
    #[error("at most {MAX_TAGS} tags are allowed")]
    TooMany,
}

impl Tags {
    /// Reads `svc=ecs,cmpt=DB`; blanks around parts and empty parts are
    /// ignored, as in a server list.
    pub fn parse(text: &str) -> Result<Self, TagsError> {
        let mut tags = BTreeMap::new();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (text, value_text) = part.split_once('=').ok_or_else(|| malformed(part))?;
            let (key, value) = (key(text), value(value_text));
            let (Ok(key), Ok(value)) = (key, value) else {
                return Err(malformed(part));
            };
            if tags.contains_key(&key) {
                return Err(TagsError::Twice(key));
            }
            tags.insert(key, value);
            if tags.len() > MAX_TAGS {
                return Err(TagsError::TooMany);
            }
        }
        Ok(Self(tags))
    }

    /// The tags in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The value of one key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A tag's key, without the blanks around it.
pub fn key(text: &str) -> Result<String, TagsError> {
    let key = text.trim();
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    let fits = (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(is_allowed);
    fits.then(|| key.to_owned()).ok_or_else(|| malformed(text))
}

/// A tag's value, without the blanks around it.
pub fn value(text: &str) -> Result<String, TagsError> {
    let value = text.trim();
    let fits = value.len() <= MAX_VALUE_BYTES
        && !value.chars().any(|char| char.is_control() || char == ',');
    fits.then(|| value.to_owned())
        .ok_or_else(|| malformed(text))
}

fn malformed(text: &str) -> TagsError {
    TagsError::Malformed(bootagent_protocol::truncate(text, 80).to_owned())
}

impl FromIterator<(String, String)> for Tags {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tags_of_document_002_read_and_write_back() {
        let tags = Tags::parse("svc=ecs,cmpt=DB").expect("valid tags");
        assert_eq!(tags.get("cmpt"), Some("DB"));
        assert_eq!(tags.to_string(), "cmpt=DB,svc=ecs");
        assert_eq!(Tags::parse(" svc = ecs ,, "), Tags::parse("svc=ecs"));
        assert!(Tags::parse("").expect("no tags").is_empty());
    }

    #[test]
    fn what_is_no_tag_is_named() {
        for bad in [
            "svc",
            "=x",
            "a b=c",
            "a=\u{1}",
            &format!("{}=x", "k".repeat(65)),
        ] {
            assert!(
                matches!(Tags::parse(bad), Err(TagsError::Malformed(_))),
                "{bad:?}"
            );
        }
        assert_eq!(Tags::parse("a=1,a=2"), Err(TagsError::Twice("a".into())));
        let many: Vec<_> = (0..65).map(|n| format!("k{n}=v")).collect();
        assert_eq!(Tags::parse(&many.join(",")), Err(TagsError::TooMany));
    }
}
