//! `flux-push.toml`: every key is optional.
//!
//! The one rule: a value that passed [`Validate`] can be used as it is.

use bootagent_kit::config::{Invalid, Validate};
use serde::Deserialize;

/// The longest interface name the kernel takes, in bytes.
const MAX_NAME_BYTES: usize = 15;
/// One hour, into which whole intervals must fit: the grid begins anew with
/// each.
const HOUR: u32 = 3600;

/// The configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The interface to count; that of the default route when absent.
    pub interface: Option<String>,
    /// Seconds between two points.
    pub interval: u32,
    /// Days points are kept.
    pub keep_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interface: None,
            interval: 300,
            keep_days: 60,
        }
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        if let Some(name) = &self.interface {
            let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
            let fits = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed);
            if !fits || name.starts_with('.') {
                return Err(Invalid::new("interface", "a name that `ip link` shows"));
            }
        }
        if !HOUR.is_multiple_of(self.interval) {
            let expected = "seconds that divide an hour, such as 60 or 300, are";
            return Err(Invalid::new("interval", expected));
        }
        match self.keep_days {
            1..=3660 => Ok(()),
            _ => Err(Invalid::new("keep_days", "1 to 3660 days are")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalid_key(change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config = Config::default();
        change(&mut config);
        config.validate().err().map(|invalid| invalid.key)
    }

    #[test]
    fn the_defaults_are_the_documented_ones_and_valid() {
        assert_eq!(invalid_key(|_| {}), None);
        let config = Config::default();
        assert_eq!((config.interface, config.interval), (None, 300));
    }

    #[test]
    fn a_value_that_cannot_be_is_named() {
        for interval in [0, 7, 3601, u32::MAX] {
            assert_eq!(
                invalid_key(|c| c.interval = interval).as_deref(),
                Some("interval")
            );
        }
        for interval in [1, 60, 300, 3600] {
            assert_eq!(invalid_key(|c| c.interval = interval), None);
        }
        for name in ["", "..", "a/b", "a b", "sixteen-letters0"] {
            let key = invalid_key(|c| c.interface = Some(name.to_owned()));
            assert_eq!(key.as_deref(), Some("interface"), "{name:?}");
        }
        assert_eq!(
            invalid_key(|c| c.interface = Some("eth0.100@x".to_owned())),
            None
        );
        assert_eq!(
            invalid_key(|c| c.keep_days = 0).as_deref(),
            Some("keep_days")
        );
    }
}
