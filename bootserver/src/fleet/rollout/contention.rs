//! Whose turn it is at an agent of a host that several rollouts have to do with.
//!
//! The one rule: of two, only the younger one waits or takes over, so that they
//! never wait for each other.

use super::plan::Contention;
use super::target::TargetState;

/// What a rollout may do at a host an older one has to do with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Order it.
    Go,
    /// Wait for the older one.
    Wait,
    /// Take the host from the older one, whose target is then skipped.
    TakeOver,
}

/// Whose turn it is, by the state of the same agent of the host in an older
/// rollout that has not ended. What was sent is never taken over: it may have begun.
pub fn turn(contention: Contention, older: TargetState) -> Turn {
    match (older, contention) {
        (TargetState::Waiting | TargetState::Ordered, Contention::Supersede) => Turn::TakeOver,
        (TargetState::Waiting | TargetState::Ordered, Contention::Wait) => Turn::Wait,
        (TargetState::Running, Contention::Wait | Contention::Supersede) => Turn::Wait,
        (
            TargetState::Succeeded
            | TargetState::Failed
            | TargetState::TimedOut
            | TargetState::RolledBack
            | TargetState::CrashLooped
            | TargetState::Lost
            | TargetState::Expired
            | TargetState::Cancelled
            | TargetState::Skipped,
            Contention::Wait | Contention::Supersede,
        ) => Turn::Go,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rollout::target::{News, after};

    #[test]
    fn the_younger_waits_or_takes_what_was_not_sent() {
        use Contention::{Supersede, Wait};
        for open in [TargetState::Waiting, TargetState::Ordered] {
            assert_eq!(turn(Wait, open), Turn::Wait);
            assert_eq!(turn(Supersede, open), Turn::TakeOver);
            // What is taken over can be skipped.
            assert_eq!(after(open, News::Passed), Some(TargetState::Skipped));
        }
        assert_eq!(turn(Supersede, TargetState::Running), Turn::Wait);
        let ended = TargetState::ALL
            .into_iter()
            .filter(|state| !state.is_open());
        for (state, contention) in ended.flat_map(|state| [(state, Wait), (state, Supersede)]) {
            assert_eq!(turn(contention, state), Turn::Go, "{state:?}");
        }
    }
}
