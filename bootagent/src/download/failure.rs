//! Why fetching or installing a package failed, as it goes into a job result.
//!
//! One struct for both halves, because both end in the same place. The one
//! rule: `message` names what, where and the remedy, and never a secret.

use std::error::Error;
use std::io;
use std::path::Path;

use bootagent_kit::fs::FsError;
use bootagent_protocol::ErrorCode;

/// A failed step of a job: its code, and what a person needs to know.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The number of the job result.
    pub code: ErrorCode,
    /// What failed, where, and the remedy; without the cause.
    pub message: String,
    /// What the system said.
    #[source]
    pub cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure that needs no further cause.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            cause: None,
        }
    }

    /// The same with what the system said.
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// A failed operation on a file: see the conversion from [`FsError`].
    pub fn file(operation: &'static str, path: &Path, error: io::Error) -> Self {
        FsError::new(operation, path, error).into()
    }

    /// The whole chain in one line, for the job result.
    pub fn describe(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// 2004 when the disk, its inodes or the quota are used up, else 6002.
impl From<FsError> for Failure {
    fn from(error: FsError) -> Self {
        let code = match error.is_no_space() {
            true => ErrorCode::NO_SPACE,
            false => ErrorCode::NOT_PERSISTED,
        };
        Self {
            code,
            message: error.to_string(),
            cause: Some(error.source.into()),
        }
    }
}
