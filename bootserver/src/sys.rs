//! The calls no safe library offers.
//!
//! The one rule: each `unsafe` block says why it is sound, and nothing else
//! in this crate holds one.
#![expect(unsafe_code, reason = "setpriority has no safe wrapper here")]

use std::io;

use nix::libc;

/// Has this thread stand back by `niceness`, 0 to 19; Linux counts it per thread.
pub(crate) fn stand_back(niceness: i32) -> io::Result<()> {
    // SAFETY: it takes numbers and touches no memory of ours.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
