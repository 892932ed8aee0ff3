//! Something that happened on a host.

use serde::{Deserialize, Serialize};

use crate::truncate;

/// Most lines of a child's output an event carries.
pub const MAX_TAIL_LINES: usize = 20;
/// Longest text field of an event, in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;
/// Longest name-like field of an event, in bytes.
pub const MAX_FIELD_BYTES: usize = 128;

/// An event, stored once by (agentsn, source, boot_id, seq). Within a status
/// the source is BootAgent and boot_id is the status's, unless named here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up by one per source and boot; a gap shows that events were lost.
    pub seq: u64,
    /// Wall time in seconds since 1970, only to be shown.
    pub timestamp: i64,
    /// What kind of thing happened, such as `crash`, `fatal`, `job`, `metafile`.
    pub category: String,
    /// What it happened to, mostly an agent's name.
    #[serde(default)]
    pub subject: String,
    /// The subject's version at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What happened, for a person.
    pub message: String,
    /// The last lines the subject printed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tail: Vec<String>,
    /// The boot the event happened in, if not the status's own: events that
    /// waited on disk over a reboot keep their first boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

/// Why an event is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// A field is too long.
    #[error("{field} of event {seq} is longer than {max} bytes")]
    TooLong {
        /// The field's name.
        field: &'static str,
        /// The event's number.
        seq: u64,
        /// The bound.
        max: usize,
    },
}

impl Event {
    /// Cuts every text to its bound and replaces U+0000, which no database of
    /// ours takes: one odd event must not hold back a status for ever.
    pub fn fit(&mut self) {
        let fit = |text: &mut String, max: usize| {
            *text = truncate(&text.replace('\0', "\u{fffd}"), max).to_owned();
        };
        fit(&mut self.category, MAX_FIELD_BYTES);
        fit(&mut self.subject, MAX_FIELD_BYTES);
        fit(&mut self.message, MAX_TEXT_BYTES);
        for text in [&mut self.version, &mut self.boot_id].into_iter().flatten() {
            fit(text, MAX_FIELD_BYTES);
        }
        self.tail.truncate(MAX_TAIL_LINES);
        for line in &mut self.tail {
            fit(line, MAX_TEXT_BYTES);
        }
    }

    /// Checks the sizes; everything else is free text.
    pub fn validate(&self) -> Result<(), EventError> {
        let short = [
            ("category", self.category.as_str()),
            ("subject", self.subject.as_str()),
            ("version", self.version.as_deref().unwrap_or_default()),
            ("boot_id", self.boot_id.as_deref().unwrap_or_default()),
        ];
        let too_long = |field, max| EventError::TooLong {
            field,
            seq: self.seq,
            max,
        };
        for (field, text) in short {
            if text.len() > MAX_FIELD_BYTES {
                return Err(too_long(field, MAX_FIELD_BYTES));
            }
        }
        if self.message.len() > MAX_TEXT_BYTES {
            return Err(too_long("message", MAX_TEXT_BYTES));
        }
        if self.tail.len() > MAX_TAIL_LINES || self.tail.iter().any(|l| l.len() > MAX_TEXT_BYTES) {
            return Err(too_long("tail", MAX_TEXT_BYTES));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_was_fitted_is_valid_whatever_it_held() {
        let long = "x\0".repeat(MAX_TEXT_BYTES);
        let mut event = Event {
            category: long.clone(),
            subject: long.clone(),
            version: Some(long.clone()),
            message: long.clone(),
            tail: vec![long; 2 * MAX_TAIL_LINES],
            ..Event::default()
        };
        assert!(event.validate().is_err());
        event.fit();
        assert_eq!(event.validate(), Ok(()));
        assert!(
            !serde_json::to_string(&event)
                .expect("text")
                .contains("\\u0000")
        );
    }
}
