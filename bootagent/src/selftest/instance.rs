//! Whether a BootAgent runs with this root already.
//!
//! The one rule: the lock is never taken, not even for a moment: a daemon
//! that starts at that moment must get it. The kernel's table is read instead.

use std::os::unix::fs::MetadataExt;

use bootagent_kit::fs::read_limited;
use nix::sys::stat::{major, minor};

use super::Check;
use crate::paths::Paths;

/// The kernel's table of locks, in bytes; a line has about 60.
const MAX_TABLE_BYTES: u64 = 4 << 20;

/// Looks for the holder of the lock. A daemon that runs is no fault: its
/// configuration is tested before it is restarted.
pub(super) fn other_instance(paths: &Paths) -> Vec<Check> {
    vec![match holder_of(paths) {
        Some(pid) => {
            let text = format!(
                "bootagent runs with this root already, pid {pid}; a second would not start"
            );
            Check::ok("instance", text)
        }
        None => Check::ok("instance", "no bootagent runs with this root"),
    }]
}

/// The process that runs with this root, if one does.
pub(crate) fn holder_of(paths: &Paths) -> Option<i32> {
    let path = paths.lock();
    let metadata = std::fs::metadata(&path).ok()?;
    let table = read_limited("/proc/locks".as_ref(), MAX_TABLE_BYTES).ok()?;
    let noted = read_limited(&path, 64).unwrap_or_default();
    let noted = String::from_utf8_lossy(&noted).trim().parse().ok();
    let device = (major(metadata.dev()), minor(metadata.dev()));
    let table = String::from_utf8_lossy(&table);
    holder(&table, device, metadata.ino(), noted)
}

/// The process that holds a flock on the file. On some file systems (btrfs,
/// overlay) the table has another device than `stat`: there the pid that is
/// noted in the file decides.
fn holder(table: &str, device: (u64, u64), inode: u64, noted: Option<i32>) -> Option<i32> {
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        if fields.next()? != "FLOCK" {
            return None;
        }
        let pid: i32 = fields.nth(2)?.parse().ok()?;
        let mut place = fields.next()?.split(':');
        let mut hexadecimal = || u64::from_str_radix(place.next()?, 16).ok();
        let found = (hexadecimal()?, hexadecimal()?);
        let is_same_file = place.next()?.parse() == Ok(inode);
        (is_same_file && (found == device || Some(pid) == noted)).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_device_and_inode_or_by_its_note() {
        let table = "1: POSIX  ADVISORY  WRITE 7 fe:00:10 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 8 fe:00:10 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 9 fe:00:10 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 5 00:1f:20 0 EOF\n";
        assert_eq!(holder(table, (0xfe, 0), 10, None), Some(9));
        assert_eq!(holder(table, (0xfe, 0), 11, None), None);
        assert_eq!(holder(table, (0xfe, 0), 20, None), None);
        assert_eq!(holder(table, (0xfe, 0), 20, Some(5)), Some(5));
    }
}
