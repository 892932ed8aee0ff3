//! Where bytes come from: the seam between the transfer and the protocols.
//!
//! A source opens at an offset, is read, and is asked at its end whether that
//! was the end. What a failure means for the next try is part of it. The one
//! rule: a source never blocks longer than [`Ask::stall`] without a byte, and
//! never beyond [`Ask::deadline`].

use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use bootagent_kit::Secret;
use bootagent_kit::servers::Server;
use bootagent_protocol::ErrorCode;

use super::Failure;
use super::url::{Scheme, Url};
use super::{ftp, http, local};

/// What a source is asked for.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    /// What the server says about us and may be told: see [`super::Request`].
    pub(super) own_servers: &'a [Server],
    pub(super) token: Option<&'a Secret>,
    pub(super) ca_file: Option<&'a Path>,
    /// Where to begin, 0 for the whole.
    pub(super) offset: u64,
    /// Which content the bytes before `offset` are from.
    pub(super) validator: Option<&'a str>,
    /// Largest file, in bytes.
    pub(super) max_bytes: u64,
    /// When all is over.
    pub(super) deadline: Instant,
    /// Longest silence.
    pub(super) stall: Duration,
}

impl Ask<'_> {
    /// What is left until the deadline, at least a moment: a timeout of zero
    /// would mean none.
    pub(super) fn left(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.max(Duration::from_millis(1))
    }
}

/// An open source.
pub(super) struct Opened {
    /// The bytes from `starts_at` on.
    pub(super) reader: Box<dyn Source>,
    /// The offset that was asked for, or 0 where the source cannot resume.
    pub(super) starts_at: u64,
    /// Size of the whole file in bytes, where it is known.
    pub(super) total: Option<u64>,
    /// Tells this content from another under the same name (strong `ETag`,
    /// or time and size).
    pub(super) validator: Option<String>,
}

/// Bytes that are being fetched.
pub(super) trait Source: Read {
    /// At the end of the bytes: whether the other side calls it complete.
    fn finish(self: Box<Self>) -> Result<(), Trouble>;
}

/// What went wrong, by what can be done about it.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Trying again would not help.
    Final(Failure),
    /// It may go better next time.
    Again(Failure),
    /// What was fetched so far belongs to another content: begin anew.
    Afresh(Failure),
    /// The server is busy and asks for this long.
    Busy(Duration, Failure),
}

/// Opens `url`.
pub(super) fn open(url: &Url, ask: &Ask<'_>) -> Result<Opened, Trouble> {
    match url.scheme {
        Scheme::Http | Scheme::Https => http::open(url, ask),
        Scheme::Ftp => ftp::open(url, ask),
        Scheme::File => local::open(url, ask),
    }
}

/// What a read that failed in the middle means.
pub(super) fn read_trouble(url: &Url, error: io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
            let what = "stopped sending; look at the server or the line";
            Trouble::Again(fail(ErrorCode::DOWNLOAD_TIMED_OUT, url, what).because(error))
        }
        _ => {
            let what = "broke off";
            Trouble::Again(fail(ErrorCode::DOWNLOAD_FAILED, url, what).because(error))
        }
    }
}

/// `URL WHAT`, as every message here reads.
pub(super) fn fail(code: ErrorCode, url: &Url, what: impl std::fmt::Display) -> Failure {
    Failure::new(code, format!("{url} {what}"))
}
