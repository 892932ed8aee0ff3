//! Leases: of several servers on one database, one does a piece of background
//! work.
//!
//! The one rule: a write under a lease happens only while the lease holds, by
//! the database's clock, whatever the server that holds it believes. Each time
//! a lease changes hands its epoch counts up, so one that slept through the end
//! of its lease cannot write any more.

/// The right to a piece of background work until it ends or is taken again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The work.
    pub name: &'static str,
    /// Who has it.
    pub holder: String,
    /// How often it changed hands.
    pub epoch: i64,
}

/// What came of a write under a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held<T> {
    /// The lease held; this was done.
    Done(T),
    /// It did not hold any more; nothing was done.
    Lost,
}
