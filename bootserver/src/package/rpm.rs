//! An rpm's name, version and architecture, from its header.
//!
//! Layout: a lead of 96 bytes, the signature header padded to 8, the main
//! header. A header is `8e ad e8 01`, four reserved bytes, the number of index
//! entries and of data bytes, entries of 16 bytes (tag, type, offset, count),
//! the data. All numbers are big-endian.

use std::io::Read;

use super::{InspectError, Inspected, damaged, read_up_to};
use crate::fleet::package_choice::PackageKind;

const LEAD_BYTES: usize = 96;
const HEADER_MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 0x01];
/// rpm's own bounds are larger; no agent comes near these.
const MAX_ENTRIES: usize = 64 * 1024;
const MAX_DATA_BYTES: usize = 32 << 20;

const TAG_NAME: u32 = 1000;
const TAG_VERSION: u32 = 1001;
const TAG_RELEASE: u32 = 1002;
const TAG_ARCH: u32 = 1022;

pub(super) fn inspect(reader: &mut impl Read) -> Result<Inspected, InspectError> {
    exactly(reader, LEAD_BYTES)?;
    let signature = Header::read(reader)?;
    exactly(reader, (8 - signature.data.len() % 8) % 8)?;
    let header = Header::read(reader)?;
    let version = header.text(TAG_VERSION);
    let release = header.text(TAG_RELEASE);
    Ok(Inspected {
        kind: PackageKind::Rpm,
        name: header.text(TAG_NAME),
        version: version
            .zip(release)
            .map(|(version, release)| format!("{version}-{release}")),
        arch: header.text(TAG_ARCH),
    })
}

struct Header {
    entries: Vec<u8>,
    data: Vec<u8>,
}

impl Header {
    fn read(reader: &mut impl Read) -> Result<Self, InspectError> {
        let intro = exactly(reader, 16)?;
        let count = number(&intro, 8).unwrap_or(u32::MAX) as usize;
        let bytes = number(&intro, 12).unwrap_or(u32::MAX) as usize;
        if !intro.starts_with(&HEADER_MAGIC) || count > MAX_ENTRIES || bytes > MAX_DATA_BYTES {
            return Err(damaged("rpm", "its header is none"));
        }
        Ok(Self {
            entries: exactly(reader, count * 16)?,
            data: exactly(reader, bytes)?,
        })
    }

    /// The text of a tag; it ends at a zero byte.
    fn text(&self, tag: u32) -> Option<String> {
        let entry = self
            .entries
            .chunks_exact(16)
            .find(|entry| number(entry, 0) == Some(tag))?;
        let start = number(entry, 8)? as usize;
        let text = self.data.get(start..)?.split(|&byte| byte == 0).next()?;
        String::from_utf8(text.to_vec()).ok()
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(
        four.try_into().expect("four bytes were taken"),
    ))
}

fn exactly(reader: &mut impl Read, bytes: usize) -> Result<Vec<u8>, InspectError> {
    let mut buffer = vec![0; bytes];
    match read_up_to(reader, &mut buffer) {
        Ok(read) if read == bytes => Ok(buffer),
        Ok(_) => Err(damaged("rpm", "it ends within its header")),
        Err(error) => Err(InspectError::Io(error)),
    }
}
