//! The directories a sub-agent is given.
//!
//! BootAgent and systemd name them in the environment alike; systemd may
//! join several with `:`, of which the first is meant.
//!
//! The one rule: a program that is given no directory gets no guess here.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Where a program keeps what must survive (`STATE_DIRECTORY`).
pub fn state() -> Option<PathBuf> {
    first("STATE_DIRECTORY")
}

/// Where a program keeps what may go at a reboot (`RUNTIME_DIRECTORY`).
pub fn runtime() -> Option<PathBuf> {
    first("RUNTIME_DIRECTORY")
}

/// Where a program writes its logs (`LOGS_DIRECTORY`).
pub fn logs() -> Option<PathBuf> {
    first("LOGS_DIRECTORY")
}

/// Where a program finds its configuration (`CONFIGURATION_DIRECTORY`).
pub fn configuration() -> Option<PathBuf> {
    first("CONFIGURATION_DIRECTORY")
}

fn first(variable: &str) -> Option<PathBuf> {
    first_of(&std::env::var_os(variable)?)
}

fn first_of(value: &OsStr) -> Option<PathBuf> {
    let first = value.as_bytes().split(|&byte| byte == b':').next()?;
    let path = PathBuf::from(OsString::from_vec(first.to_vec()));
    // A relative one would depend on where the program was started.
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_absolute_directory_is_taken() {
        let path = |text: &str| first_of(text.as_ref());
        assert_eq!(path("/var/lib/a:/var/lib/b"), Some("/var/lib/a".into()));
        assert_eq!(path("/var/lib/a"), Some("/var/lib/a".into()));
        assert_eq!(path(""), None);
        assert_eq!(path("relative"), None);
    }
}
