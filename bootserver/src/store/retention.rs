//! What is forgotten some day.

/// What has an end of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Events, by the time they arrived.
    Events,
    /// Finished jobs with their results, by the time of the result.
    Jobs,
    /// Who did what, by its time.
    Audit,
}
