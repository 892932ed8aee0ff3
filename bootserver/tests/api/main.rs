//! The real program, its real database and real sockets.
#![expect(
    clippy::needless_pass_by_value,
    reason = "`json!` makes values, and calls read better with them in place"
)]

mod access;
mod assignments;
mod backup;
mod bad_input;
mod budgets;
mod bulk;
#[path = "../support/cluster.rs"]
mod cluster;
mod command_line;
mod crowd;
mod doors;
mod export;
mod groups;
mod harness;
mod hosts;
mod idempotency;
mod newer;
mod operators;
mod outage;
mod packages;
mod postgres;
mod revisions;
mod rollouts;
mod selftest;
mod serving;
mod sign_in;
mod standing;
mod stream;
mod telling;
mod users;
