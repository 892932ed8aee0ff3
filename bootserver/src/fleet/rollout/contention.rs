//! Whose turn it is at an agent of a host that several rollouts have to do with.
//!
//! The one rule: of two, only one waits or takes over, so that they never wait for each
//! other: the younger one, or that of an assignment. What is under way is waited for by
//! everybody.

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

/// Whose a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// An operator's, who wants it now.
    Operator,
    /// An assignment's, which puts hosts right when nobody else is at them.
    Assignment,
}

/// A rollout that has to do with a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// Its number; the lower one is the older.
    pub number: i64,
    /// Whose it is.
    pub owner: Owner,
}

/// Whose turn it is, by the state of the same agent of the host in another rollout that
/// has not ended.
pub fn between(own: Side, other: Side, contention: Contention, state: TargetState) -> Turn {
    let is_under_way = matches!(state, TargetState::Ordered | TargetState::Running);
    match (own.owner, other.owner) {
        (Owner::Operator, Owner::Operator) if other.number < own.number => turn(contention, state),
        (Owner::Operator, Owner::Operator) => Turn::Go,
        (Owner::Assignment, Owner::Operator) if state.is_open() => Turn::Wait,
        (_, Owner::Assignment) if is_under_way => Turn::Wait,
        (_, Owner::Assignment) | (Owner::Assignment, Owner::Operator) => Turn::Go,
    }
}

/// Whose turn it is, by the state of the same agent of the host in an older
/// rollout that has not ended. What was sent is never taken over: it may have begun.
fn turn(contention: Contention, older: TargetState) -> Turn {
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
    use proptest::prelude::*;
    use proptest::sample::select;

    fn side() -> impl Strategy<Value = Side> {
        let owner = select(vec![Owner::Operator, Owner::Assignment]);
        (0..100_i64, owner).prop_map(|(number, owner)| Side { number, owner })
    }

    proptest! {
        #[test]
        fn two_that_have_ordered_nothing_never_wait_for_each_other(
            sides in (side(), side()),
        ) {
            let (one, other) = sides;
            prop_assume!(one.number != other.number);
            let waits = |own, other| {
                between(own, other, Contention::Wait, TargetState::Waiting) == Turn::Wait
            };
            prop_assert!(!(waits(one, other) && waits(other, one)));
        }
    }

    #[test]
    fn an_assignment_leaves_a_host_to_rollouts_and_they_wait_only_for_what_it_ordered() {
        let operator = Side {
            number: 9,
            owner: Owner::Operator,
        };
        let assignment = Side {
            number: 1,
            owner: Owner::Assignment,
        };
        let check = |own, other, state| between(own, other, Contention::Wait, state);
        assert_eq!(
            check(assignment, operator, TargetState::Waiting),
            Turn::Wait
        );
        assert_eq!(check(operator, assignment, TargetState::Waiting), Turn::Go);
        assert_eq!(
            check(operator, assignment, TargetState::Ordered),
            Turn::Wait
        );
        let another = Side {
            number: 2,
            ..assignment
        };
        assert_eq!(check(assignment, another, TargetState::Waiting), Turn::Go);
        assert_eq!(check(assignment, another, TargetState::Running), Turn::Wait);
    }

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
