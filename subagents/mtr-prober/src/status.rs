//! The one line that says how we are, made of what several threads say.
//!
//! The one rule: who says something does not take back what others said.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bootagent_kit::notify;

/// The line. Its parts are sorted by who says them.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Status {
    /// Says this from now on; nothing, if it is empty.
    pub fn say(&self, who: &'static str, text: &str) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match text.is_empty() {
            true => parts.remove(who),
            false => parts.insert(who, text.to_owned()),
        };
        if before.as_deref().unwrap_or_default() != text {
            let line = parts.values().cloned().collect::<Vec<_>>().join("; ");
            // A listener that does not hear us is no reason not to go on.
            let _ = notify::status(&line);
        }
    }
}
