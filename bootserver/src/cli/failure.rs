//! Why something was not done, and the exit code scripts tell it by.

use std::fmt;

use serde_json::Value;

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was not said rightly.
    Usage(String),
    /// The server refused.
    Refused(Box<Refusal>),
    /// There is no such thing, as far as we looked ourselves.
    Missing(String),
    /// No server was reached, or none that answered in time.
    Unreachable(anyhow::Error),
    /// The connection broke before the answer was whole: who knows what was done.
    Broken(anyhow::Error),
    /// Anything else.
    Failed(anyhow::Error),
}

/// A problem document and its status.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: u16,
    /// What the server said: a problem, or whatever stands between it and us said.
    pub(super) document: Value,
}

impl Failure {
    /// 1 refused or failed, 2 said wrongly, 3 not found, 4 not allowed, 5 not as things
    /// are now, 6 no server, or one that cannot answer now. In the help.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Missing(_) => 3,
            Self::Unreachable(_) | Self::Broken(_) => 6,
            Self::Refused(refusal) => match refusal.status {
                404 => 3,
                401 | 403 => 4,
                409 | 412 | 428 => 5,
                429 | 502..=504 => 6,
                _ => 1,
            },
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => write!(formatter, "{text}; bootserver -h explains"),
            Self::Missing(text) => formatter.write_str(text),
            Self::Unreachable(error) | Self::Broken(error) | Self::Failed(error) => {
                write!(formatter, "{error:#}")
            }
            Self::Refused(refusal) => refusal.fmt(formatter),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |key: &str| self.document[key].as_str();
        match (text("title"), text("detail")) {
            (Some(title), Some(detail)) => write!(formatter, "{title}: {detail}")?,
            // Not from our server: a proxy's page is no help in a terminal.
            _ => write!(formatter, "the server answered with status {}", self.status)?,
        }
        for single in self.document["errors"].as_array().into_iter().flatten() {
            write!(formatter, "; {}", single.as_str().unwrap_or_default())?;
        }
        match text("request_id") {
            Some(id) => write!(formatter, " (request {id})"),
            None => Ok(()),
        }
    }
}
