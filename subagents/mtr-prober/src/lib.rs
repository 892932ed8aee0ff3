//! Measures the way to many targets at once and says truly what was lost where.
//!
//! `statistics` is what is kept of a hop's answers, `report` the document that a
//! finished measurement is. `packet` knows the bytes of probes and answers.
//!
//! The one rule: a number that is not known is never shown as one.

pub mod packet;
pub mod report;
pub mod statistics;
