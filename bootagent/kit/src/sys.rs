//! The calls no safe library offers.
//!
//! The one rule: each `unsafe` block says why it is sound, and nothing else
//! in this crate holds one.
#![expect(
    unsafe_code,
    reason = "localtime_r has no safe wrapper without a time zone library"
)]

use nix::libc;

/// A moment on the local calendar.
pub(crate) struct LocalTime {
    pub(crate) year: i64,
    pub(crate) month: i32,
    pub(crate) day: i32,
    pub(crate) hour: i32,
    pub(crate) minute: i32,
    pub(crate) second: i32,
}

/// Puts seconds since 1970 UTC on the local calendar; `None` where the year
/// does not fit.
pub(crate) fn local_time(unix_seconds: u64) -> Option<LocalTime> {
    let seconds = libc::time_t::try_from(unix_seconds).ok()?;
    // SAFETY: `tm` is plain numbers and a pointer, for which zero is valid.
    let mut broken_down: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right type, and
    // localtime_r keeps neither of them.
    let result = unsafe { libc::localtime_r(&raw const seconds, &raw mut broken_down) };
    if result.is_null() {
        return None;
    }
    Some(LocalTime {
        year: i64::from(broken_down.tm_year) + 1900,
        month: broken_down.tm_mon + 1,
        day: broken_down.tm_mday,
        hour: broken_down.tm_hour,
        minute: broken_down.tm_min,
        second: broken_down.tm_sec,
    })
}
