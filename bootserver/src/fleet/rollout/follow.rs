//! The rollouts that come after one: a retry of what failed, and the way back.
//!
//! Each is a rollout of its own, with its own plan and limits: what one has
//! counted is never changed by what comes after it.

use bootagent_protocol::Action;

use super::plan::Plan;
use super::stand::{Phase, Stand};
use super::target::TargetState;

/// Why nothing can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotFollow {
    /// It is still at work.
    #[error("the rollout has not ended; abort it, or wait until what is under way has ended")]
    NotEnded,
    /// It brought no version.
    #[error("only an install or upgrade can be reverted: {} leaves no version behind", .0.as_str())]
    NoVersion(Action),
}

/// Looks whether what failed can be tried again.
pub fn can_retry(stand: &Stand) -> Result<(), CannotFollow> {
    match stand.phase {
        Phase::Ended(_) => Ok(()),
        Phase::Freezing
        | Phase::Unconfirmed
        | Phase::Running
        | Phase::Paused(_)
        | Phase::Stopping(_) => Err(CannotFollow::NotEnded),
    }
}

/// Looks whether a rollout of this action can be reverted.
pub fn can_revert(stand: &Stand, action: Action) -> Result<(), CannotFollow> {
    can_retry(stand)?;
    match action.needs_package() {
        true => Ok(()),
        false => Err(CannotFollow::NoVersion(action)),
    }
}

/// Whether a target is tried again: what the rollout counted as a failure, and
/// what nobody knows.
pub fn is_retried(plan: &Plan, state: TargetState) -> bool {
    plan.is_failure(state) || state == TargetState::Lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rollout::plan::{Doubtful, Terms};
    use crate::fleet::rollout::stand::End;

    fn plan(count_as_failed: &[Doubtful]) -> Plan {
        let terms = Terms {
            count_as_failed: count_as_failed.iter().copied().collect(),
            ..Terms::default()
        };
        Plan::try_from(terms).expect("a plan")
    }

    #[test]
    fn only_what_ended_is_followed() {
        let mut stand = Stand::new(&plan(&[]), 0);
        assert_eq!(can_retry(&stand), Err(CannotFollow::NotEnded));
        stand.phase = Phase::Ended(End::Aborted);
        assert_eq!(can_retry(&stand), Ok(()));
        assert_eq!(can_revert(&stand, Action::Upgrade), Ok(()));
        let refused = can_revert(&stand, Action::Restart).expect_err("no version");
        assert!(refused.to_string().contains("restart"), "{refused}");
    }

    #[test]
    fn a_retry_takes_what_failed_or_is_lost() {
        let retried = |plan: &Plan| {
            let retried = TargetState::ALL.into_iter();
            retried
                .filter(|state| is_retried(plan, *state))
                .collect::<Vec<_>>()
        };
        use TargetState::{CrashLooped, Expired, Failed, Lost, RolledBack, TimedOut};
        let always = [Failed, TimedOut, RolledBack, CrashLooped, Lost];
        assert_eq!(retried(&plan(&[])), always);
        let with_expired = [&always[..], &[Expired]].concat();
        assert_eq!(retried(&plan(&[Doubtful::Expired])), with_expired);
    }
}
