//! Selectors over tags: `svc=ecs,cmpt!=DB,region in (eu,us),gpu,!old`.
//!
//! All parts must hold. A list of tags is a selector too, and means hosts that
//! have them all.

use std::fmt;

use super::tags::{self, TagsError};

/// Most parts of one selector.
const MAX_PARTS: usize = 32;
/// Most values of one `in`.
const MAX_VALUES: usize = 64;
/// Longest text of one, in bytes.
pub const MAX_SELECTOR_BYTES: usize = 4096;

/// What hosts must be like; empty means all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    parts: Vec<Part>,
}

/// One condition on one tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The tag has one of these values: `=` and `in`.
    In(String, Vec<String>),
    /// The tag is not there or has another value: `!=`.
    Not(String, String),
    /// The tag is there, whatever its value: `gpu`.
    Has(String),
    /// The tag is not there: `!old`.
    Lacks(String),
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// A part that is none of the forms.
    #[error(
        "invalid part {0:?}: KEY=VALUE, KEY!=VALUE, KEY in (VALUE,VALUE), KEY or !KEY is expected"
    )]
    Malformed(String),
    /// A key or value that no tag can have.
    #[error(transparent)]
    Tag(#[from] TagsError),
    /// Too long, or too many parts or values.
    #[error(
        "at most {MAX_SELECTOR_BYTES} bytes, {MAX_PARTS} parts and {MAX_VALUES} values of one part are allowed"
    )]
    TooLarge,
}

impl Selector {
    /// Reads a selector; blanks around parts and empty parts are ignored.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > MAX_SELECTOR_BYTES {
            return Err(SelectorError::TooLarge);
        }
        let parts = split(text)
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(Part::parse)
            .collect::<Result<Vec<_>, _>>()?;
        if parts.len() > MAX_PARTS {
            return Err(SelectorError::TooLarge);
        }
        Ok(Self { parts })
    }

    /// The conditions, all of which must hold.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether every host fits.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether a host with these tags fits.
    pub fn fits(&self, tags: &tags::Tags) -> bool {
        self.parts.iter().all(|part| match part {
            Part::In(key, values) => tags
                .get(key)
                .is_some_and(|value| values.iter().any(|wanted| wanted == value)),
            Part::Not(key, value) => tags.get(key) != Some(value),
            Part::Has(key) => tags.get(key).is_some(),
            Part::Lacks(key) => tags.get(key).is_none(),
        })
    }
}

impl Part {
    fn parse(text: &str) -> Result<Self, SelectorError> {
        if let Some(key) = text.strip_prefix('!') {
            return Ok(Self::Lacks(tags::key(key)?));
        }
        // The first one counts: a value may hold `!=` and `=`.
        if let Some((key, value)) = text.split_once('=') {
            let value = tags::value(value)?;
            return Ok(match key.strip_suffix('!') {
                Some(key) => Self::Not(tags::key(key)?, value),
                None => Self::In(tags::key(key)?, vec![value]),
            });
        }
        if let Some(inner) = text.strip_suffix(')') {
            let malformed =
                || SelectorError::Malformed(bootagent_protocol::truncate(text, 80).to_owned());
            let (head, list) = inner.split_once('(').ok_or_else(malformed)?;
            let key = head.trim_end().strip_suffix(" in").ok_or_else(malformed)?;
            let mut values = list
                .split(',')
                .map(tags::value)
                .collect::<Result<Vec<_>, _>>()?;
            values.sort_unstable();
            values.dedup();
            if values.len() > MAX_VALUES {
                return Err(SelectorError::TooLarge);
            }
            return Ok(Self::In(tags::key(key)?, values));
        }
        Ok(Self::Has(tags::key(text)?))
    }
}

/// Parts between commas that are not within parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |char| {
        match char {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        char == ',' && depth == 0
    })
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match part {
                Part::In(key, values) => match values.as_slice() {
                    [value] => write!(f, "{key}={value}")?,
                    values => write!(f, "{key} in ({})", values.join(","))?,
                },
                Part::Not(key, value) => write!(f, "{key}!={value}")?,
                Part::Has(key) => f.write_str(key)?,
                Part::Lacks(key) => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::tags::Tags;

    fn check(selector: &str, tags: &str) -> bool {
        let selector = Selector::parse(selector).expect("a selector");
        selector.fits(&Tags::parse(tags).expect("tags"))
    }

    #[test]
    fn every_form_selects_what_it_says() {
        let tags = "svc=ecs,cmpt=DB,region=eu";
        for fits in [
            "",
            "svc=ecs,cmpt=DB",
            "cmpt!=web",
            "nothing!=x",
            "region in (us, eu)",
            "region",
            "!gpu",
            " svc = ecs ,, region in (eu) ,!gpu",
        ] {
            assert!(check(fits, tags), "{fits}");
        }
        for fits_not in ["svc=web", "cmpt!=DB", "region in (us,cn)", "gpu", "!svc"] {
            assert!(!check(fits_not, tags), "{fits_not}");
        }
    }

    #[test]
    fn a_value_may_hold_what_stands_between_key_and_value() {
        assert!(check("a=b!=c", "a=b!=c"));
        assert!(!check("a!=b!=c", "a=b!=c"));
        assert!(check("a!=b!=c", "a=b"));
        assert!(check("a=b=c", "a=b=c"));
    }

    #[test]
    fn a_selector_reads_back_what_it_writes() {
        let text = "svc=ecs,cmpt!=DB,region in (cn,eu),gpu,!old";
        let selector = Selector::parse(text).expect("a selector");
        assert_eq!(selector.to_string(), text);
        assert_eq!(
            Selector::parse("region in (eu)").map(|s| s.to_string()),
            Ok("region=eu".into())
        );
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for bad in [
            "a b",
            "=x",
            "svc in eu)",
            "svc out (eu)",
            "(eu)",
            "!",
            "!a=b",
            "svc=a(b,c",
        ] {
            let parsed = Selector::parse(bad);
            assert!(parsed.is_err(), "{bad}: {parsed:?}");
        }
        let many: Vec<_> = (0..33).map(|n| format!("k{n}")).collect();
        assert_eq!(
            Selector::parse(&many.join(",")),
            Err(SelectorError::TooLarge)
        );
        let values: Vec<_> = (0..65).map(|n| n.to_string()).collect();
        let values = format!("k in ({})", values.join(","));
        assert_eq!(Selector::parse(&values), Err(SelectorError::TooLarge));
    }
}
