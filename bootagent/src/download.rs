//! Fetches a package: resumed, bounded, verified while it streams.
//!
//! [`fetch`] blocks until the file is there and is what the job says, or says
//! why not; it is called from the job worker, never from the supervisor. What
//! a package is and how it is installed is not known here. The one rule: a
//! name without `.part` is only ever given to a file that is complete,
//! verified and on the disk.

mod failure;
mod ftp;
mod http;
mod local;
mod part;
mod source;
pub mod space;
mod transfer;
mod url;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootagent_kit::Secret;
use bootagent_kit::servers::Server;
use bootagent_protocol::{Checksum, ErrorCode};

pub use failure::Failure;
pub use transfer::fetch;
pub use url::{Login, Scheme, Url, UrlError};

/// What is fetched, from where, to where.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// http, https, ftp, file, or a path beginning with `/`.
    pub url: &'a str,
    /// The server that gave the job: what a path is relative to.
    pub base: Option<&'a Server>,
    /// The servers that may see the token; nobody else ever does.
    pub own_servers: &'a [Server],
    /// The host's token.
    pub token: Option<&'a Secret>,
    /// What the file must have. Without one nothing is verified but its
    /// length, and nothing is resumed that could have changed.
    pub checksum: Option<Checksum>,
    /// Where the file goes. Files of earlier downloads there are removed, so
    /// what was fetched is moved or used up before the next one.
    pub directory: &'a Path,
    /// PEM file to verify `https://` with; the system's roots otherwise.
    pub ca_file: Option<&'a Path>,
}

/// How much and how long.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest file, in bytes.
    pub max_bytes: u64,
    /// For everything, waiting for a busy server included.
    pub deadline: Duration,
    /// Longest silence before a connection is given up.
    pub stall: Duration,
    /// Bytes per second that are not exceeded on average.
    pub rate: Option<NonZeroU64>,
    /// Tries in a row that bring nothing new before it is given up.
    pub tries: u32,
    /// Pause after the first of them; doubles with each, up to a minute.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 1024 * 1024 * 1024,
            deadline: Duration::from_secs(6 * 3600),
            stall: Duration::from_secs(60),
            rate: None,
            tries: 5,
            pause: Duration::from_secs(1),
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes on the disk.
    pub received: u64,
    /// Bytes of the whole, where they are known.
    pub total: Option<u64>,
}

/// What the caller wants, asked between two chunks and while waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// Stop now: 1006. What is there can be resumed by the same request.
    Cancel,
}

/// A file that is complete and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Where it is, in the directory of the request.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, whether or not one was asked for.
    pub checksum: Checksum,
}

/// Looks once more, right before `path` is installed: a file that was fetched
/// or cached earlier may have been changed or damaged since.
///
/// # Errors
/// 3001 for another checksum than `wanted`, 6002 when it cannot be read.
pub fn verify(path: &Path, wanted: &Checksum) -> Result<(), Failure> {
    let (size, checksum) =
        part::checksum_of(path).map_err(|error| Failure::file("read", path, error))?;
    if checksum == *wanted {
        return Ok(());
    }
    let path = path.display();
    Err(Failure::new(
        ErrorCode::CHECKSUM_MISMATCH,
        format!("{path} has {checksum} and {size} bytes, not {wanted}; order it again"),
    ))
}
