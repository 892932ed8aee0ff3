//! Rollouts: one action over many hosts, in stages, within limits.
//!
//! `plan` is what an operator wants, `window` when it may go on, `target` what
//! becomes of one host, `facts` what follows from what is known of it, `goods` what
//! it gets, `tally` how many stand where, `stand` what operators may
//! still say, `step` what happens next, `contention` who has a host that two
//! want, `why` what a host waits for, `follow` the rollouts that come after one: a
//! retry or a way back, `standing` the one that an assignment goes on with.
//!
//! The one rule: whoever stops at any point and goes on from the stored plan,
//! stand and states of the targets, does the same as one who never stopped.

pub mod contention;
pub mod facts;
pub mod follow;
pub mod goods;
pub mod plan;
pub mod stand;
pub mod standing;
pub mod step;
pub mod tally;
pub mod target;
pub mod why;
pub mod window;

#[cfg(test)]
mod tests;
