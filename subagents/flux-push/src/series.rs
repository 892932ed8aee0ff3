//! What a reading of the counters means: its place on the grid, what was
//! transferred since the one before, and what was odd about it.
//!
//! No clock, no file and no interface is touched here. Points keep the raw
//! cumulative counters beside the difference, so that whoever pushes them may
//! send either.
//!
//! The one rule: a difference is between two readings of one counter that did
//! not restart in between; where that is not certain there is none. It is
//! never negative, never guessed and never repeated.

use serde::{Deserialize, Serialize};

/// A reading taken later than this after its grid time is marked, in
/// milliseconds.
const LATE_MS: u64 = 2_000;
/// Wall and boot clock drift apart while the wall clock is slewed; more than
/// this between two readings, in milliseconds, is a step.
const STEP_MS: u64 = 1_000;
/// And this share of the elapsed time on top: slewing is at most 0.1 percent
/// with the usual daemons.
const SLEW_DIVISOR: u64 = 1_000;

/// A moment on both clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Wall time, in milliseconds since 1970 UTC.
    pub wall_ms: u64,
    /// Time since boot, suspended time included, in milliseconds.
    pub boot_ms: u64,
}

/// Which interface, told apart from another of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name, such as `eth0`.
    pub name: String,
    /// The kernel's number for it; another one when it was made anew.
    pub index: u32,
    /// Its hardware address, `00:0c:29:80:25:45`; empty where it has none.
    pub mac: String,
}

/// One look at the counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// When.
    pub at: Moment,
    /// In which boot.
    pub boot_id: String,
    /// Of which interface.
    pub interface: Interface,
    /// Bytes received since the counter began.
    pub rx: u64,
    /// Bytes sent since the counter began.
    pub tx: u64,
}

/// What was odd about a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// The first one since the program started; not on the grid.
    Start,
    /// Read this many milliseconds after its grid time.
    Late(u64),
    /// This many grid times before it have no point.
    Missed(u64),
    /// The wall clock was set since the point before, by milliseconds.
    ClockStep(i64),
    /// The machine booted since the point before.
    Reboot,
    /// Another interface, or the same name made anew.
    InterfaceChanged,
    /// The counter is lower than before.
    CounterReset,
}

/// One recorded value. Its difference covers the time since the point before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Its place among all points of this store, from 1. Of two points with
    /// one grid time, after a clock step, the later one counts.
    pub number: u64,
    /// Its grid time, in seconds since 1970 UTC; none for an extra reading.
    pub grid: Option<u64>,
    /// When it was read, by the wall clock of that moment, in milliseconds.
    pub wall_ms: u64,
    /// When it was read, since boot, in milliseconds. With `boot_id` it tells
    /// the true order and distance whatever the wall clock did.
    pub boot_ms: u64,
    /// In which boot.
    pub boot_id: String,
    /// Of which interface.
    #[serde(flatten)]
    pub interface: Interface,
    /// The raw counter of received bytes.
    pub rx: u64,
    /// The raw counter of sent bytes.
    pub tx: u64,
    /// Bytes received since the point before, where that is certain.
    pub rx_delta: Option<u64>,
    /// Bytes sent since the point before, where that is certain.
    pub tx_delta: Option<u64>,
    /// Milliseconds since the point before, in the same boot.
    pub span_ms: Option<u64>,
    /// What was odd.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

/// Why a reading is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The program has just started.
    Start,
    /// A grid time has come.
    Grid,
}

/// The next grid time, in seconds since 1970 UTC: the first multiple of
/// `interval` seconds after `wall_ms`.
pub fn next_grid(wall_ms: u64, interval: u32) -> u64 {
    let interval = u64::from(interval.max(1));
    (wall_ms / 1000 / interval + 1).saturating_mul(interval)
}

/// Makes a reading a point.
///
/// 1. On the grid its label is the last grid time that has come, so that a
///    late wake-up belongs to the nearest one and those between are missed.
/// 2. Another boot, another interface or a lower counter has no difference.
/// 3. Grid times are counted as missed only within one boot and where the
///    wall clock was not set: otherwise their number means nothing.
pub fn point(
    previous: Option<&Point>,
    reading: Reading,
    occasion: Occasion,
    interval: u32,
) -> Point {
    let interval = u64::from(interval.max(1));
    let mut marks = Vec::new();
    let grid = match occasion {
        Occasion::Start => {
            marks.push(Mark::Start);
            None
        }
        Occasion::Grid => Some(reading.at.wall_ms / 1000 / interval * interval),
    };
    if let Some(grid) = grid {
        let late = reading.at.wall_ms - grid * 1000;
        if late > LATE_MS {
            marks.push(Mark::Late(late));
        }
    }
    let same_boot = previous.filter(|before| before.boot_id == reading.boot_id);
    if previous.is_some() && same_boot.is_none() {
        marks.push(Mark::Reboot);
    }
    let step = same_boot.and_then(|before| clock_step(before, reading.at));
    marks.extend(step.map(Mark::ClockStep));
    if step.is_none()
        && let (Some(before), Some(grid)) = (same_boot, grid)
    {
        marks.extend(missed(before, grid, interval).map(Mark::Missed));
    }
    let span_ms = same_boot.and_then(|before| reading.at.boot_ms.checked_sub(before.boot_ms));
    let (rx_delta, tx_delta) = match previous.map(|before| delta(before, &reading)) {
        None => (None, None),
        Some(Ok((rx, tx))) => (Some(rx), Some(tx)),
        Some(Err(mark)) => {
            // A reboot has been marked and explains a lower counter.
            if same_boot.is_some() || mark == Mark::InterfaceChanged {
                marks.push(mark);
            }
            (None, None)
        }
    };
    Point {
        number: previous.map_or(1, |before| before.number + 1),
        grid,
        wall_ms: reading.at.wall_ms,
        boot_ms: reading.at.boot_ms,
        boot_id: reading.boot_id,
        interface: reading.interface,
        rx: reading.rx,
        tx: reading.tx,
        rx_delta,
        tx_delta,
        span_ms,
        marks,
    }
}

/// What was received and sent since, or why nobody can tell.
fn delta(before: &Point, reading: &Reading) -> Result<(u64, u64), Mark> {
    // The kernel numbers interfaces anew at each boot; the address stays.
    let same_hardware = before.interface.name == reading.interface.name
        && before.interface.mac == reading.interface.mac;
    if !same_hardware {
        return Err(Mark::InterfaceChanged);
    }
    if before.boot_id != reading.boot_id {
        return Err(Mark::CounterReset);
    }
    if before.interface.index != reading.interface.index {
        return Err(Mark::InterfaceChanged);
    }
    let rx = reading.rx.checked_sub(before.rx);
    let tx = reading.tx.checked_sub(before.tx);
    // A 64-bit counter does not wrap: lower means it began anew, and both
    // directions with it.
    rx.zip(tx).ok_or(Mark::CounterReset)
}

/// By how much the wall clock was set, in milliseconds.
fn clock_step(before: &Point, at: Moment) -> Option<i64> {
    let elapsed = at.boot_ms.checked_sub(before.boot_ms)?;
    let expected = before.wall_ms.saturating_add(elapsed);
    let allowed = STEP_MS + elapsed / SLEW_DIVISOR;
    let step = i64::try_from(i128::from(at.wall_ms) - i128::from(expected)).unwrap_or(i64::MAX);
    (step.unsigned_abs() > allowed).then_some(step)
}

/// How many grid times lie strictly between a point and `grid`.
fn missed(before: &Point, grid: u64, interval: u64) -> Option<u64> {
    let from = before
        .grid
        .unwrap_or(before.wall_ms / 1000 / interval * interval);
    let between = (grid.checked_sub(from)? / interval).saturating_sub(1);
    (between > 0).then_some(between)
}

#[cfg(test)]
#[path = "series/tests.rs"]
mod tests;
