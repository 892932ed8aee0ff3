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

/// What one target's way back is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revert<'a> {
    /// Upgrade to the version before, and let it be older.
    Upgrade(&'a str),
    /// The agent was not there.
    Uninstall,
    /// Nothing is to be done.
    Leave(Left),
}

/// Why a target is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nothing was ordered of it.
    Untouched,
    /// Its host went back by itself.
    WentBack,
    /// It had this version before.
    Same,
}

/// A target's way back from `version`; `before` is what its host said it had when
/// it was ordered, none when the agent was not there.
pub fn revert<'a>(state: TargetState, version: &str, before: Option<&'a str>) -> Revert<'a> {
    match state {
        TargetState::Waiting
        | TargetState::Ordered
        | TargetState::Expired
        | TargetState::Cancelled
        | TargetState::Skipped => Revert::Leave(Left::Untouched),
        TargetState::RolledBack => Revert::Leave(Left::WentBack),
        // A job that failed may have changed something, and one that is lost, too.
        TargetState::Running
        | TargetState::Succeeded
        | TargetState::Failed
        | TargetState::TimedOut
        | TargetState::CrashLooped
        | TargetState::Lost => match before {
            Some(before) if before == version => Revert::Leave(Left::Same),
            Some(before) => Revert::Upgrade(before),
            None => Revert::Uninstall,
        },
    }
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

    #[test]
    fn each_target_goes_back_to_what_it_had() {
        let check = |state, before| revert(state, "2.0", before);
        let succeeded = TargetState::Succeeded;
        assert_eq!(check(succeeded, Some("1.0")), Revert::Upgrade("1.0"));
        assert_eq!(check(succeeded, Some("1.5")), Revert::Upgrade("1.5"));
        assert_eq!(check(succeeded, None), Revert::Uninstall);
        assert_eq!(check(succeeded, Some("2.0")), Revert::Leave(Left::Same));
        let lost = check(TargetState::Lost, Some("1.0"));
        assert_eq!(lost, Revert::Upgrade("1.0"));
        let back = check(TargetState::RolledBack, Some("1.0"));
        assert_eq!(back, Revert::Leave(Left::WentBack));
        let skipped = check(TargetState::Skipped, Some("1.0"));
        assert_eq!(skipped, Revert::Leave(Left::Untouched));
    }
}
