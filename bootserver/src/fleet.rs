//! Decisions about the fleet: pure, no clock, no store, no HTTP.
//!
//! Handlers and the store load facts, ask here, and do what is answered.

pub mod assignment;
pub mod clone;
pub mod enrol;
pub mod group;
pub mod handout;
pub mod job_lost;
pub mod job_state;
pub mod pace;
pub mod package_choice;
pub mod presence;
pub mod rollout;
pub mod secret;
pub mod selector;
pub mod tags;
