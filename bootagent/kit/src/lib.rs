//! How a host program does each thing, once.
//!
//! BootAgent and every sub-agent read their configuration, write files that
//! must survive, speak HTTP, log and keep time through this crate. It decides
//! nothing about jobs or children; it only does what it is asked, within a
//! size limit and a deadline.
//!
//! The one rule: nothing is loaded before it is needed, and nothing blocks
//! without a bound.

pub mod args;
pub mod check;
pub mod clock;
pub mod config;
pub mod date;
pub mod dirs;
pub mod fs;
pub mod http;
pub mod log;
pub mod notify;
pub mod secret;
pub mod servers;
pub mod spool;
mod sys;
pub mod thread;
pub mod uplink;

pub use secret::Secret;
pub use servers::{Server, ServerList};
pub use uplink::Uplink;
