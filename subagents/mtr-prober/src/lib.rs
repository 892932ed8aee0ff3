//! Measures the way to many targets at once and says truly what was lost where.
//!
//! `statistics` is what is kept of a hop's answers, `report` the document that a
//! finished measurement is. `packet` knows the bytes of probes and answers, `trace`
//! decides for one measurement and `pace` which of them may send; `slots` says
//! whose an answer is. All these are pure: what time it is they are told.
//!
//! `format` shows a report as `mtr` would, `verdict` says what it means,
//! `ticket` is both for a carrier.
//!
//! The one rule: a number that is not known is never shown as one.

pub mod format;
pub mod moment;
pub mod pace;
pub mod packet;
pub mod report;
pub mod slots;
pub mod statistics;
pub mod ticket;
pub mod trace;
pub mod verdict;
