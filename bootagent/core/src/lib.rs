//! Every decision of BootAgent, and nothing else.
//!
//! BootAgent runs children, calls a server, and chooses which one. What it
//! decides about them is here; what it does is in the daemon. A machine here
//! is told what happened, when, and where chance is wanted, a random number;
//! it answers with what to do and when it wants to be woken:
//!
//! ```text
//!             event, now                      effects
//!   daemon  ───────────────►  handle(...)  ──────────────►  daemon
//!      ▲                                                       │
//!      └───────────── sleeps until deadline() ◄────────────────┘
//! ```
//!
//! So every rule of the product that has to do with time can be written down
//! as a scenario, in `tests/scenarios/*.txt`, and a day of a host's life is
//! tried in a millisecond. A machine whose deadline is none costs nothing: a
//! host on which all is well wakes for its status, and for nothing else.
//!
//! How the daemon uses a machine:
//!
//! 1. Deliver what happened, in the order in which it happened.
//! 2. Do the effects in their order. What must be kept comes first, so that
//!    nothing is done which a crash would make us forget.
//! 3. When the earliest deadline has passed, and the inbox is empty, send a
//!    tick to the machine whose deadline it was. A tick too many is harmless.
//!
//! Contents, in reading order:
//!
//! - [`time`]: the only clock reading there is, as a value.
//! - [`restart`]: one child. Start, stop, kill, hold-off, fatal.
//! - [`schedule`]: when the server is called, and with what.
//! - [`failover`]: which server it is.
//! - [`takeover`]: whether a new BootAgent has taken over.
//! - [`version`]: which of two versions is newer.
//! - [`watch`]: a new version of one child, on trial.
//!
//! The rule of this crate is kept by the compiler: it is `no_std` and depends
//! on nothing, so it cannot read a clock, open a file or start a thread.
#![no_std]

extern crate alloc;

pub mod failover;
pub mod restart;
pub mod schedule;
pub mod takeover;
pub mod time;
pub mod version;
pub mod watch;
