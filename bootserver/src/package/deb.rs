//! A deb's name, version and architecture, from its control file.
//!
//! An `ar` archive: `debian-binary`, then `control.tar` packed in one of
//! several ways, then the data. Only gzip and no packing are read here.

use std::io::{Read, Seek, SeekFrom};

use flate2::read::MultiGzDecoder;

use super::{InspectError, Inspected, damaged, read_up_to};
use crate::fleet::package_choice::PackageKind;

const MAGIC_BYTES: u64 = 8;
const ENTRY_BYTES: usize = 60;
/// Members before the control archive: one, by the format's rules.
const MAX_MEMBERS: usize = 4;
/// Largest control file and control archive that are looked at.
const MAX_CONTROL_BYTES: u64 = 1 << 20;
const MAX_UNPACKED_BYTES: u64 = 64 << 20;

pub(super) fn inspect(file: &mut (impl Read + Seek)) -> Result<Inspected, InspectError> {
    let mut at = MAGIC_BYTES;
    for _ in 0..MAX_MEMBERS {
        file.seek(SeekFrom::Start(at)).map_err(InspectError::Io)?;
        let mut entry = [0; ENTRY_BYTES];
        if read_up_to(file, &mut entry).map_err(InspectError::Io)? < ENTRY_BYTES {
            return Err(damaged("deb", "it ends before its control archive"));
        }
        let name = String::from_utf8_lossy(&entry[..16]);
        let name = name.trim_end().trim_end_matches('/').to_owned();
        let size: u64 = String::from_utf8_lossy(&entry[48..58])
            .trim_end()
            .parse()
            .map_err(|_| damaged("deb", "a member has no size"))?;
        if name.starts_with("control.tar") {
            let member = file.take(size);
            return Ok(match name.as_str() {
                "control.tar.gz" => control(MultiGzDecoder::new(member))?,
                "control.tar" => control(member)?,
                _ => unnamed(),
            });
        }
        at += ENTRY_BYTES as u64 + size + size % 2;
    }
    Err(damaged("deb", "it has no control archive"))
}

/// A deb whose control archive is packed in a way we do not read.
fn unnamed() -> Inspected {
    Inspected {
        kind: PackageKind::Deb,
        name: None,
        version: None,
        arch: None,
    }
}

fn control(archive: impl Read) -> Result<Inspected, InspectError> {
    let mut archive = tar::Archive::new(archive.take(MAX_UNPACKED_BYTES));
    let bad = |error: std::io::Error| damaged("deb", error.to_string());
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let path = entry.path().map_err(bad)?;
        if path.strip_prefix(".").unwrap_or(&path) != std::path::Path::new("control") {
            continue;
        }
        let mut text = String::new();
        entry
            .by_ref()
            .take(MAX_CONTROL_BYTES)
            .read_to_string(&mut text)
            .map_err(bad)?;
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        return Ok(Inspected {
            name: field("Package"),
            version: field("Version"),
            arch: field("Architecture"),
            ..unnamed()
        });
    }
    Err(damaged("deb", "its control archive has no control file"))
}
