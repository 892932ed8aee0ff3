//! Why a request failed: at which step, with whom.
//!
//! The one rule: no text here comes from a URL or a header, except the host
//! and the port.

use std::error::Error;
use std::io;

use super::resolve::Unresolved;

/// The step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpErrorKind {
    /// The request itself cannot be made; another server would not help.
    Request,
    /// The name has no address.
    Resolve,
    /// Nobody takes the connection.
    Connect,
    /// A deadline passed.
    Timeout,
    /// There is no TLS session, or it cannot be trusted.
    Tls,
    /// The connection ended before the answer did.
    Lost,
    /// The answer is larger than the caller can take.
    TooLarge,
    /// The answer is not HTTP.
    Protocol,
}

/// A request without an answer.
#[derive(Debug, thiserror::Error)]
#[error("{}", describe(*.kind, .host))]
pub struct HttpError {
    /// The step that failed.
    pub kind: HttpErrorKind,
    /// `host` or `host:port` as the URL names it.
    pub host: String,
    /// What is known beyond that.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

fn describe(kind: HttpErrorKind, host: &str) -> String {
    match kind {
        HttpErrorKind::Request => format!("cannot make the request to {host}"),
        HttpErrorKind::Resolve => format!("cannot resolve {host}"),
        HttpErrorKind::Connect => format!("cannot connect to {host}"),
        HttpErrorKind::Timeout => format!("no answer from {host} in time"),
        HttpErrorKind::Tls => format!("no trusted TLS session with {host}"),
        HttpErrorKind::Lost => format!("the connection to {host} ended early"),
        HttpErrorKind::TooLarge => format!("the answer of {host} is too large"),
        HttpErrorKind::Protocol => format!("the answer of {host} is not HTTP"),
    }
}

impl HttpError {
    pub(super) fn new(
        kind: HttpErrorKind,
        host: &str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            host: host.to_owned(),
            source: Some(source.into()),
        }
    }

    pub(super) fn request(host: &str, reason: &'static str) -> Self {
        Self::new(HttpErrorKind::Request, host, reason)
    }

    pub(super) fn too_large(host: &str, max_bytes: u64) -> Self {
        let reason = format!("more than {max_bytes} bytes");
        Self::new(HttpErrorKind::TooLarge, host, reason)
    }

    /// Names the step an error of the HTTP library belongs to.
    pub(super) fn from_ureq(host: &str, error: ureq::Error) -> Self {
        let kind = match error {
            ureq::Error::Io(error) => return Self::from_io(host, error),
            ureq::Error::Other(other) => {
                return match other.downcast::<Unresolved>() {
                    Ok(unresolved) => Self::new(HttpErrorKind::Resolve, host, unresolved),
                    Err(other) => Self::new(HttpErrorKind::Protocol, host, other),
                };
            }
            // The text of this one holds the URL.
            ureq::Error::BadUri(_) => return Self::request(host, "the URL is not usable"),
            ureq::Error::Http(_) => HttpErrorKind::Request,
            ureq::Error::HostNotFound => HttpErrorKind::Resolve,
            ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
            ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
            ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) => {
                HttpErrorKind::Tls
            }
            ureq::Error::LargeResponseHeader(..) | ureq::Error::BodyExceedsLimit(_) => {
                HttpErrorKind::TooLarge
            }
            _ => HttpErrorKind::Protocol,
        };
        Self::new(kind, host, error)
    }

    /// Names the step an IO error belongs to.
    pub(super) fn from_io(host: &str, error: io::Error) -> Self {
        let error = match error.downcast::<ureq::Error>() {
            Ok(ureq::Error::Io(inner)) => inner,
            Ok(inner) => return Self::from_ureq(host, inner),
            Err(error) => error,
        };
        let is_tls = error
            .get_ref()
            .is_some_and(|inner| inner.is::<rustls::Error>());
        let kind = match error.kind() {
            _ if is_tls => HttpErrorKind::Tls,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => HttpErrorKind::Timeout,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => HttpErrorKind::Lost,
            io::ErrorKind::InvalidData => HttpErrorKind::Protocol,
            // Refused, unreachable, no local address, no descriptors left.
            _ => HttpErrorKind::Connect,
        };
        Self::new(kind, host, error)
    }
}
