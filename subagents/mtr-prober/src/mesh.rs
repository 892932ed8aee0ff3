//! Pinging peers all the time, and saying once when something is wrong.
//!
//! `detect` looks at one peer and `baseline` knows how it is normally; `guard` decides what of it all
//! a person is told, and `quiet` what he does not want to hear. `message` is what the pings of nodes of
//! one group say to each other, from which `both_ends` knows in which direction they are lost.
//! `peers` is the list as it is written, `roster` those who are on it, `episode` what an event needs until its report is
//! closed, `past` a peer's path before it. `list` reads the list's file, `watch` is the thread that does it all, `standing` how it stands for whoever asks.
//!
//! The one rule: what decides is pure. What time it is and what became of a ping is told.

pub mod baseline;
pub mod both_ends;
pub mod detect;
pub mod episode;
pub mod guard;
pub mod list;
pub mod message;
pub mod past;
pub mod peers;
pub mod quiet;
mod roster;
pub mod standing;
pub mod watch;
