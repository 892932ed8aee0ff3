//! What time it is: one clock to decide by, one to show.
//!
//! Ages and waits are on the boot clock, which counts suspended time and
//! never jumps. Wall time is for people and for the wire.
//!
//! The one rule: no decision compares two wall times.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::{fs, sys};

/// Time since boot, suspended time included.
pub fn boottime() -> Duration {
    // The clock exists since Linux 2.6.39 and its id is a constant.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the boot clock is always readable");
    Duration::from(now)
}

/// How long this machine was suspended since boot.
pub fn suspended() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("it is always readable");
    boottime().saturating_sub(Duration::from(now))
}

/// The id of this boot, a UUID; another one after each reboot.
pub fn boot_id() -> io::Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let bytes = fs::read_limited(path, 64).map_err(io::Error::other)?;
    let text = String::from_utf8(bytes).map_err(io::Error::other)?;
    Ok(text.trim().to_owned())
}

/// Seconds since 1970-01-01 00:00:00 UTC; 0 while the clock is before that.
pub fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A moment, shown as local time: `2024-07-10 06:05:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

impl Stamp {
    /// The present moment.
    pub fn now() -> Self {
        Self(unix_seconds())
    }

    /// A moment given in seconds since 1970 UTC.
    pub fn from_unix(seconds: u64) -> Self {
        Self(seconds)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(local) = sys::local_time(self.0) else {
            return write!(f, "@{}", self.0);
        };
        write!(
            f,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            local.year, local.month, local.day, local.hour, local.minute, local.second
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_agrees_with_proc_uptime() {
        let text = std::fs::read_to_string("/proc/uptime").expect("readable");
        let shown: f64 = text
            .split(' ')
            .next()
            .expect("a word")
            .parse()
            .expect("a number");
        let ours = boottime().as_secs_f64();
        assert!((ours - shown).abs() < 5.0, "{ours} against {shown}");
    }

    #[test]
    fn the_boot_id_is_a_uuid() {
        let id = boot_id().expect("readable");
        assert_eq!((id.len(), id.matches('-').count()), (36, 4), "{id}");
    }

    #[test]
    fn a_stamp_has_the_documented_shape_and_follows_date() {
        let shown = Stamp::from_unix(1_720_560_000).to_string();
        let date = std::process::Command::new("date")
            .args(["-d", "@1720560000", "+%Y-%m-%d %H:%M:%S"])
            .output()
            .expect("date runs");
        assert_eq!(shown, String::from_utf8_lossy(&date.stdout).trim());
    }

    #[test]
    fn a_moment_no_calendar_holds_is_shown_all_the_same() {
        assert_eq!(
            Stamp::from_unix(u64::MAX).to_string(),
            format!("@{}", u64::MAX)
        );
    }
}
