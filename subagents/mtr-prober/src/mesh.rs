//! Pinging peers all the time, and saying once when something is wrong.
//!
//! `detect` looks at one peer and `baseline` knows how it is normally; `guard` decides what of it all
//! a person is told, and `quiet` what he does not want to hear. `message` is what the pings of nodes of
//! one group say to each other, from which `both_ends` knows in which direction they are lost.
//!
//! The one rule: all here is pure. What time it is and what became of a ping is told.

pub mod baseline;
pub mod both_ends;
pub mod detect;
pub mod guard;
pub mod message;
pub mod quiet;
