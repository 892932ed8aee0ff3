//! Waiting for conditions, never for time.
//!
//! The one rule: every wait has a bound, and says what did not come.

use std::time::{Duration, Instant};

/// No condition takes longer on the slowest machine we test on.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until there is something, at most [`PATIENCE`].
///
/// # Panics
/// When it does not come.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// The same with a bound of its own.
///
/// # Panics
/// When it does not come.
pub fn within<T>(bound: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            begun.elapsed() < bound,
            "{what} did not come within {} s",
            bound.as_secs_f32()
        );
        std::thread::sleep(LOOK);
    }
}

/// Waits until it is so, at most [`PATIENCE`].
///
/// # Panics
/// When it does not come.
pub fn until_true(what: &str, mut look: impl FnMut() -> bool) {
    until(what, || look().then_some(()));
}
