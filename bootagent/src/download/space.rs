//! Whether a file will fit before it is written: bytes and inodes.
//!
//! The one rule: a full disk is found out before the download, not by it,
//! because whoever fills the root file system takes the host down with it.

use std::path::Path;

use bootagent_protocol::ErrorCode;
use nix::sys::statvfs::statvfs;

use super::Failure;

/// Left free for everybody else on that mount, in bytes.
const RESERVED_BYTES: u64 = 16 * 1024 * 1024;

/// What a file system has left for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// Bytes.
    pub bytes: u64,
    /// Inodes; none where the file system makes them as needed (btrfs).
    pub inodes: Option<u64>,
}

/// What the mount of `directory` has left.
pub fn free(directory: &Path) -> Result<Free, Failure> {
    let found = statvfs(directory)
        .map_err(|error| Failure::file("ask for free space in", directory, error.into()))?;
    // `as`: the types of these fields differ between architectures.
    #[expect(
        clippy::allow_attributes,
        reason = "which cast is useless depends on the target"
    )]
    #[allow(
        clippy::unnecessary_cast,
        reason = "which cast is useless depends on the target"
    )]
    let (blocks, size, files, inodes) = (
        found.blocks_available() as u64,
        found.fragment_size() as u64,
        found.files() as u64,
        found.files_available() as u64,
    );
    let inodes = (files > 0).then_some(inodes);
    Ok(Free {
        bytes: blocks.saturating_mul(size),
        inodes,
    })
}

/// Fails with 2004 unless `bytes` and `inodes` fit below `directory`.
pub fn require(directory: &Path, bytes: u64, inodes: u64) -> Result<(), Failure> {
    judge(free(directory)?, directory, bytes, inodes)
}

fn judge(free: Free, directory: &Path, bytes: u64, inodes: u64) -> Result<(), Failure> {
    let wanted = bytes.saturating_add(RESERVED_BYTES);
    let lacking = if free.bytes < wanted {
        format!(
            "{wanted} bytes are needed (16 MiB of them stay free), {} are free",
            free.bytes
        )
    } else if free.inodes.is_some_and(|left| left < inodes) {
        format!(
            "{inodes} inodes are needed, {} are free",
            free.inodes.unwrap_or(0)
        )
    } else {
        return Ok(());
    };
    Err(Failure::new(
        ErrorCode::NO_SPACE,
        format!(
            "no space in {}: {lacking}; free some and order it again",
            directory.display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1024 * 1024;

    fn code(bytes: u64, inodes: Option<u64>, wanted: u64) -> Option<ErrorCode> {
        let judged = judge(Free { bytes, inodes }, Path::new("/x"), wanted, 4);
        judged.err().map(|failure| failure.code)
    }

    #[test]
    fn bytes_and_inodes_must_both_be_free() {
        assert_eq!(code(100 * MEBIBYTE, Some(4), 84 * MEBIBYTE), None);
        assert_eq!(
            code(100 * MEBIBYTE, Some(4), 84 * MEBIBYTE + 1),
            Some(ErrorCode::NO_SPACE)
        );
        assert_eq!(code(100 * MEBIBYTE, Some(3), 1), Some(ErrorCode::NO_SPACE));
        assert_eq!(code(u64::MAX, Some(9), u64::MAX), None);
    }

    #[test]
    fn a_file_system_without_a_table_of_inodes_is_not_full() {
        assert_eq!(code(100 * MEBIBYTE, None, 1), None);
    }

    #[test]
    fn this_machine_can_be_asked() {
        let free = free(&std::env::temp_dir()).expect("the temporary directory can be asked");
        assert!(free.bytes > 0);
    }
}
