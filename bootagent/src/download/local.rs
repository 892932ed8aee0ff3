//! `file://`: a package that is already on this host, copied like any other.
//!
//! The one rule: only a regular file is read. A FIFO or a device would be a
//! download without an end.

use std::fs::{self, File};
use std::io::{self, Read};

use bootagent_protocol::ErrorCode;

use super::source::{Ask, Opened, Source, Trouble, fail};
use super::url::Url;

struct Local(File);

impl Read for Local {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Source for Local {
    fn finish(self: Box<Self>) -> Result<(), Trouble> {
        Ok(())
    }
}

/// Opens the file. It is cheap to read again, so it never resumes.
pub(super) fn open(url: &Url, _ask: &Ask<'_>) -> Result<Opened, Trouble> {
    let failed = |code, what: &str| Trouble::Final(fail(code, url, what));
    let path = url.file_path().map_err(|error| {
        Trouble::Final(fail(ErrorCode::DOWNLOAD_FAILED, url, "cannot be read").because(error))
    })?;
    // Looked at before it is opened: opening a FIFO waits for its writer.
    let opened = fs::metadata(&path).and_then(|metadata| match metadata.is_file() {
        true => File::open(&path).map(|file| (file, metadata.len())),
        false => Err(io::Error::other("it is no regular file")),
    });
    match opened {
        Ok((file, length)) => Ok(Opened {
            reader: Box::new(Local(file)),
            starts_at: 0,
            total: Some(length),
            validator: None,
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(failed(ErrorCode::NOT_FOUND, "does not exist on this host"))
        }
        Err(error) => Err(Trouble::Final(
            fail(ErrorCode::DOWNLOAD_FAILED, url, "cannot be read").because(error),
        )),
    }
}
