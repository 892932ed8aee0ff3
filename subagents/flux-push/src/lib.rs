//! flux-push counts the traffic of one interface on the 5-minute grid.
//!
//! It reads the kernel's byte counters at :00, :05 and so on, keeps each
//! point durably in its state directory, and says how it stands. Pushing the
//! points to customer and platform builds on that store.
//!
//! In reading order: what a point is, where readings come from, where points
//! go, how it waits, and the loop that joins them.
//!
//! The one rule: a point that was told is on the disk.

pub mod series;

pub mod read;
pub mod store;
pub mod wait;

pub mod config;

pub mod check;
pub mod sample;
