//! Measures the way to many targets at once and says truly what was lost where.
//!
//! `statistics` is what is kept of a hop's answers, `report` the document that a
//! finished measurement is. `packet` knows the bytes of probes and answers, `trace`
//! decides for one measurement, `pace` which of them may send and `share` which of them
//! may ask a router; `slots` says whose an answer is. All these are pure: what time it is they are told.
//!
//! `engine` does it all for every trace at once, over the sockets of `socket` and the
//! calls of `sys`.
//!
//! `format` shows a report as `mtr` would, `verdict` says what it means,
//! `ticket` is both for a carrier. `archive` keeps reports for weeks.
//! `mesh` pings peers all the time and looks into their trouble. `command` is `mtr-prober trace`.
//!
//! `order` is what somebody wants measured, `problem` what he is told when it cannot be. `measurements` owns
//! every order until it is a report, `api` serves HTTP, `config` says how, `check` is `-T`, `status` the
//! line that says how we are, and `daemon` starts it all.
//!
//! The one rule: a number that is not known is never shown as one.

pub mod api;
pub mod archive;
#[cfg(test)]
mod chance;
pub mod check;
pub mod clock;
pub mod command;
pub mod config;
pub mod daemon;
pub mod engine;
pub mod format;
pub mod measurements;
pub mod mesh;
pub mod moment;
pub mod order;
pub mod pace;
pub mod packet;
pub mod problem;
pub mod report;
pub mod share;
pub mod slots;
pub mod socket;
pub mod statistics;
pub mod status;
mod sys;
pub mod ticket;
pub mod trace;
pub mod verdict;
