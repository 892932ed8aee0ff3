//! What an uploaded file says it is.
//!
//! Read from the file itself, because a job that names the wrong file costs a
//! trip to every host. A deb packed with xz or zstd keeps its name to itself;
//! the uploader must give it then.

mod bundle;
mod deb;
mod rpm;

use std::io::{self, Read, Seek, SeekFrom};

use crate::fleet::package_choice::PackageKind;

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// What it is.
    pub kind: PackageKind,
    /// The package's name.
    pub name: Option<String>,
    /// Its version; an rpm's is `VERSION-RELEASE`.
    pub version: Option<String>,
    /// The architecture it was built for, as its own world spells it.
    pub arch: Option<String>,
}

/// Why a file is no package.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Not the beginning of any kind.
    #[error("the file is no rpm, no deb and no .tar.gz")]
    NoPackage,
    /// The beginning of a kind, but not more.
    #[error("the {kind} is damaged: {what}")]
    Damaged {
        /// What it began as.
        kind: &'static str,
        /// What is missing or wrong.
        what: String,
    },
    /// The disk failed.
    #[error("reading the upload")]
    Io(#[source] io::Error),
}

fn damaged(kind: &'static str, what: impl Into<String>) -> InspectError {
    InspectError::Damaged {
        kind,
        what: what.into(),
    }
}

/// Looks into a file. Blocks; bounded in memory and in what it unpacks.
pub fn inspect(mut file: impl Read + Seek) -> Result<Inspected, InspectError> {
    let mut magic = [0; 8];
    let read = read_up_to(&mut file, &mut magic).map_err(InspectError::Io)?;
    file.seek(SeekFrom::Start(0)).map_err(InspectError::Io)?;
    match &magic[..read] {
        [0xed, 0xab, 0xee, 0xdb, ..] => rpm::inspect(&mut io::BufReader::new(file)),
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', b'\n'] => deb::inspect(&mut file),
        [0x1f, 0x8b, ..] => bundle::inspect(io::BufReader::new(file)),
        _ => Err(InspectError::NoPackage),
    }
}

/// Reads until `buffer` is full or the file ends.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
