//! What is forgotten some day.

/// What has an end of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Events, by the time they arrived.
    Events,
    /// Finished jobs with their results, by the time of the result.
    Jobs,
    /// Rollouts that ended, with their targets, by the time of that; counted by
    /// targets.
    Rollouts,
    /// Answers to requests with a key, by when these began.
    Answers,
    /// Who did what, by its time.
    Audit,
    /// What became of hosts, by its time.
    Changes,
    /// Hosts that were deleted, by the time of that. One stays as long as
    /// anything that happened to it is kept.
    Hosts,
}
