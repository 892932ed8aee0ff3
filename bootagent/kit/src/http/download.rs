//! A reply that is read piece by piece: a package, an installer, an output.
//!
//! The one rule: reading ends, by the end of the body, by a deadline or by
//! the size limit, and a body shorter than announced is an error.

use std::io::{self, Read};
use std::time::Duration;

use ureq::http::{HeaderMap, Response};
use ureq::{Body, BodyReader};

use super::error::{HttpError, HttpErrorKind};
use super::reply::retry_after;

/// Bounds of one download.
#[derive(Debug, Clone, Copy)]
pub struct GetOptions {
    /// For the whole download, from the name to the last byte.
    pub total_timeout: Duration,
    /// Longest silence of the server.
    pub idle_timeout: Duration,
    /// Largest body; one byte more is an error of kind
    /// [`io::ErrorKind::FileTooLarge`].
    pub max_bytes: u64,
}

/// An answer whose body is still on its way. Reading it may fail with
/// [`io::ErrorKind::TimedOut`], [`io::ErrorKind::FileTooLarge`] or
/// [`io::ErrorKind::UnexpectedEof`].
#[derive(Debug)]
pub struct Download {
    /// The status code, such as 200 or 206; not necessarily a success.
    pub status: u16,
    host: String,
    headers: HeaderMap,
    length: Option<u64>,
    left: u64,
    reader: Reader,
}

/// `BodyReader` has no `Debug`.
struct Reader(BodyReader<'static>);

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BodyReader")
    }
}

impl Download {
    pub(super) fn new(host: String, response: Response<Body>, max_bytes: u64) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            status: parts.status.as_u16(),
            host,
            headers: parts.headers,
            length: body.content_length(),
            left: max_bytes,
            reader: Reader(body.into_reader()),
        }
    }

    /// A header by its name in any case; `None` also when it is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The announced length of this body in bytes (of the part, for a 206).
    pub fn content_length(&self) -> Option<u64> {
        self.length
    }

    /// When the server asks us to come back, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.0.read(buffer).map_err(|error| {
            let error = HttpError::from_io(&self.host, error);
            let kind = match error.kind {
                HttpErrorKind::Timeout => io::ErrorKind::TimedOut,
                HttpErrorKind::Lost => io::ErrorKind::UnexpectedEof,
                _ => io::ErrorKind::InvalidData,
            };
            io::Error::new(kind, error)
        })?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                let error = HttpError::new(
                    HttpErrorKind::TooLarge,
                    &self.host,
                    "the download is longer than allowed",
                );
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
            }
        }
        Ok(count)
    }
}
