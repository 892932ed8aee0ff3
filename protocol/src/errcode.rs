//! The one table of error codes: what a job result's `errcode` means.
//!
//! Agent, server and console read this table; nobody else makes up a number.

use serde::{Deserialize, Serialize};

/// A number in a job result. Codes this version does not know are carried
/// unchanged, so that an old server shows a new agent's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorCode(pub u16);

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCodeEntry {
    /// The number.
    pub code: ErrorCode,
    /// What it means, in a few words.
    pub meaning: &'static str,
}

macro_rules! table {
    ($($name:ident = $code:literal, $meaning:literal;)*) => {
        impl ErrorCode {
            $(#[doc = $meaning] pub const $name: ErrorCode = ErrorCode($code);)*

            /// Every known code with its meaning, by number.
            pub const TABLE: &'static [ErrorCodeEntry] = &[
                $(ErrorCodeEntry { code: ErrorCode($code), meaning: $meaning },)*
            ];
        }
    };
}

table! {
    SUCCESS = 0, "success";
    MALFORMED_JOB = 1001, "malformed job";
    UNKNOWN_ACTION = 1002, "unknown action";
    UNKNOWN_AGENT = 1003, "unknown agent";
    ID_REUSED = 1004, "id reused with another body";
    EXPIRED = 1005, "expired";
    CANCELLED = 1006, "cancelled";
    RESTORED = 1007, "outcome unknown since the server was restored";
    LOST = 1008, "outcome unknown: its host does not know the job any more";
    DOWNLOAD_FAILED = 2001, "download failed";
    NOT_FOUND = 2002, "not found";
    TOO_LARGE = 2003, "too large";
    NO_SPACE = 2004, "no space (bytes or inodes)";
    DOWNLOAD_TIMED_OUT = 2005, "timed out";
    CHECKSUM_MISMATCH = 3001, "checksum mismatch";
    SIGNATURE_MISSING = 3002, "signature missing";
    SIGNATURE_INVALID = 3003, "signature invalid";
    PACKAGE_MISMATCH = 3004, "package is not what the job says";
    PACKAGE_KIND_UNSUPPORTED = 3005, "package kind not supported on this host";
    INSTALLER_FAILED = 4001, "installer failed";
    INSTALLER_TIMED_OUT = 4002, "installer timed out";
    PACKAGE_MANAGER_LOCKED = 4003, "package manager locked";
    MANIFEST_INVALID = 4004, "manifest invalid";
    CONFIG_CHECK_FAILED = 4005, "config check failed";
    ROLLED_BACK = 4006, "rolled back";
    DID_NOT_START = 5001, "did not start";
    STOP_KILLED = 5002, "did not stop in time and was killed";
    LIMIT_NOT_ENFORCED = 5003, "limit could not be enforced";
    CONFIGURATION_INVALID = 6001, "configuration invalid";
    NOT_PERSISTED = 6002, "could not persist";
    SCRIPT_FAILED = 7001, "script failed";
    SCRIPT_TIMED_OUT = 7002, "script timed out";
    RUN_LOST = 7003, "run lost";
}

impl ErrorCode {
    /// What the code means, if this version knows it.
    pub fn meaning(self) -> Option<&'static str> {
        let row = Self::TABLE.iter().find(|row| row.code == self)?;
        Some(row.meaning)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_has_no_number_twice() {
        assert!(
            ErrorCode::TABLE
                .windows(2)
                .all(|pair| pair[0].code < pair[1].code)
        );
    }

    #[test]
    fn an_unknown_code_is_carried_unchanged() {
        let code: ErrorCode = serde_json::from_str("9999").expect("a number");
        assert_eq!(
            (code.meaning(), serde_json::to_string(&code).ok()),
            (None, Some("9999".into()))
        );
    }
}
