//! How a rollout stands, and what operators may say to it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::plan::{Confirmation, Limit, Plan};

/// How a rollout stands: with the plan and the states of its targets all there is
/// to know about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// What it is doing.
    pub phase: Phase,
    /// The stage whose hosts are released, from 0.
    pub stage: usize,
    /// The gate behind that stage.
    pub gate: Gate,
    /// When what has not begun does not begin any more, in unix milliseconds.
    pub expires: i64,
}

/// What a rollout is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its targets are being written down.
    Freezing,
    /// A second user must confirm it.
    Unconfirmed,
    /// It goes on.
    Running,
    /// Nothing is handed out; what is under way goes on.
    Paused(Pause),
    /// Nothing is handed out any more; what is under way goes on.
    Stopping(End),
    /// Every target ended.
    Ended(End),
}

impl Phase {
    /// The word in the API and in the store.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Freezing => "freezing",
            Self::Unconfirmed => "unconfirmed",
            Self::Running => "running",
            Self::Paused(_) => "paused",
            Self::Stopping(_) => "stopping",
            Self::Ended(_) => "ended",
        }
    }
}

/// Why a rollout is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// An operator said so.
    Operator,
    /// The gate behind its stage cannot open any more; an operator may go on.
    GateMissed,
    /// The database was put back from a copy, and nobody knows what was done since.
    Restored,
    /// More failures than an assignment allows, lately.
    FailCount,
    /// A higher rate of failures than an assignment allows, lately.
    FailRate,
}

impl From<Limit> for Pause {
    fn from(limit: Limit) -> Self {
        match limit {
            Limit::FailCount => Self::FailCount,
            Limit::FailRate => Self::FailRate,
        }
    }
}

/// How a rollout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It went through all targets.
    Done,
    /// Too many failed.
    Stopped(Limit),
    /// An operator said so.
    Aborted,
    /// Its time was over before it was through.
    Expired,
}

/// The gate behind a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Too few have succeeded.
    Closed,
    /// Enough have, since this time in unix milliseconds, and must stay so.
    Held(i64),
    /// An operator opened it.
    Waived,
}

/// What is said to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// All targets are written down.
    Frozen,
    /// A user agrees.
    Confirm {
        /// Who ordered it.
        author: &'a str,
        /// Who agrees.
        by: &'a str,
    },
    /// Hand out nothing for now.
    Pause,
    /// Go on.
    Resume,
    /// Hand out nothing any more.
    Abort,
    /// The database was put back from a copy.
    Restored,
}

/// Why a command is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has ended.
    #[error("the rollout has ended")]
    Ended,
    /// It is ending already.
    #[error("the rollout is stopping: what is under way goes on, and nothing else begins")]
    Stopping,
    /// It has not begun.
    #[error("the rollout has not begun")]
    NotBegun,
    /// It has begun.
    #[error("the rollout has begun already")]
    Begun,
    /// It is paused.
    #[error("the rollout is paused already")]
    Paused,
    /// It is not paused.
    #[error("the rollout is not paused")]
    NotPaused,
    /// The second user is the first.
    #[error("whoever ordered the rollout cannot confirm it; another user must")]
    SameUser,
}

impl Stand {
    /// How a rollout stands that was ordered at `created`.
    pub fn new(plan: &Plan, created: i64) -> Self {
        Self {
            phase: Phase::Freezing,
            stage: 0,
            gate: Gate::Closed,
            expires: plan.expires(created),
        }
    }

    /// How it stands after a command.
    pub fn take(&self, plan: &Plan, command: Command<'_>) -> Result<Self, Refusal> {
        let mut next = self.clone();
        next.phase = match command {
            Command::Frozen => self.frozen(plan)?,
            Command::Confirm { author, by } => self.confirmed(author, by)?,
            Command::Pause => self.paused()?,
            Command::Resume => {
                if self.phase == Phase::Paused(Pause::GateMissed) {
                    next.gate = Gate::Waived;
                }
                self.resumed()?
            }
            Command::Abort => self.aborted()?,
            Command::Restored => self.restored()?,
        };
        Ok(next)
    }

    /// Whether it holds its hosts against later rollouts.
    pub fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Ended(_))
    }

    fn frozen(&self, plan: &Plan) -> Result<Phase, Refusal> {
        match self.phase {
            Phase::Freezing => Ok(match plan.terms().confirmation {
                Confirmation::None => Phase::Running,
                Confirmation::SecondUser => Phase::Unconfirmed,
            }),
            Phase::Unconfirmed | Phase::Running | Phase::Paused(_) => Err(Refusal::Begun),
            Phase::Stopping(_) => Err(Refusal::Stopping),
            Phase::Ended(_) => Err(Refusal::Ended),
        }
    }

    fn confirmed(&self, author: &str, by: &str) -> Result<Phase, Refusal> {
        match self.phase {
            Phase::Unconfirmed if author == by => Err(Refusal::SameUser),
            Phase::Unconfirmed => Ok(Phase::Running),
            Phase::Freezing => Err(Refusal::NotBegun),
            Phase::Running | Phase::Paused(_) => Err(Refusal::Begun),
            Phase::Stopping(_) => Err(Refusal::Stopping),
            Phase::Ended(_) => Err(Refusal::Ended),
        }
    }

    fn paused(&self) -> Result<Phase, Refusal> {
        match self.phase {
            Phase::Running => Ok(Phase::Paused(Pause::Operator)),
            Phase::Freezing | Phase::Unconfirmed => Err(Refusal::NotBegun),
            Phase::Paused(_) => Err(Refusal::Paused),
            Phase::Stopping(_) => Err(Refusal::Stopping),
            Phase::Ended(_) => Err(Refusal::Ended),
        }
    }

    fn resumed(&self) -> Result<Phase, Refusal> {
        match self.phase {
            Phase::Paused(_) => Ok(Phase::Running),
            Phase::Freezing | Phase::Unconfirmed => Err(Refusal::NotBegun),
            Phase::Running => Err(Refusal::NotPaused),
            Phase::Stopping(_) => Err(Refusal::Stopping),
            Phase::Ended(_) => Err(Refusal::Ended),
        }
    }

    /// What was done since the copy may not be known here, so nothing goes on by
    /// itself: one that was being written down is given up, others wait for somebody.
    fn restored(&self) -> Result<Phase, Refusal> {
        match self.phase {
            Phase::Freezing => Ok(Phase::Stopping(End::Aborted)),
            Phase::Running => Ok(Phase::Paused(Pause::Restored)),
            Phase::Unconfirmed | Phase::Paused(_) | Phase::Stopping(_) => Ok(self.phase),
            Phase::Ended(_) => Err(Refusal::Ended),
        }
    }

    fn aborted(&self) -> Result<Phase, Refusal> {
        match self.phase {
            Phase::Freezing | Phase::Unconfirmed | Phase::Running | Phase::Paused(_) => {
                Ok(Phase::Stopping(End::Aborted))
            }
            Phase::Stopping(_) => Err(Refusal::Stopping),
            Phase::Ended(_) => Err(Refusal::Ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::rollout::plan::Terms;

    fn plan(confirmation: Confirmation) -> Plan {
        let terms = Terms {
            confirmation,
            ..Terms::default()
        };
        Plan::try_from(terms).expect("a plan")
    }

    const BY_B: Command<'_> = Command::Confirm {
        author: "a",
        by: "b",
    };

    /// The phase after commands, or what the last one is refused for.
    fn check(confirmation: Confirmation, commands: &[Command<'_>]) -> Result<Phase, Refusal> {
        let plan = plan(confirmation);
        let mut stand = Stand::new(&plan, 0);
        for command in commands {
            stand = stand.take(&plan, *command)?;
        }
        Ok(stand.phase)
    }

    #[test]
    fn one_that_needs_a_second_user_waits_for_another_one() {
        let own = Command::Confirm {
            author: "a",
            by: "a",
        };
        let check = |commands: &[Command<'_>]| check(Confirmation::SecondUser, commands);
        assert_eq!(check(&[Command::Frozen]), Ok(Phase::Unconfirmed));
        assert_eq!(check(&[Command::Frozen, own]), Err(Refusal::SameUser));
        assert_eq!(check(&[Command::Frozen, BY_B]), Ok(Phase::Running));
        assert_eq!(check(&[BY_B]), Err(Refusal::NotBegun));
        assert_eq!(
            check(&[Command::Frozen, Command::Pause]),
            Err(Refusal::NotBegun)
        );
        assert_eq!(check(&[Command::Frozen, BY_B, BY_B]), Err(Refusal::Begun));
    }

    #[test]
    fn it_is_paused_resumed_and_aborted() {
        use Command::{Abort, Frozen, Pause as Wait, Resume};
        let check = |commands: &[Command<'_>]| check(Confirmation::None, commands);
        assert_eq!(check(&[Frozen]), Ok(Phase::Running));
        assert_eq!(check(&[Frozen, Resume]), Err(Refusal::NotPaused));
        assert_eq!(check(&[Frozen, Wait]), Ok(Phase::Paused(Pause::Operator)));
        assert_eq!(check(&[Frozen, Wait, Wait]), Err(Refusal::Paused));
        assert_eq!(check(&[Frozen, Wait, Resume]), Ok(Phase::Running));
        for before in [&[][..], &[Frozen], &[Frozen, Wait]] {
            let commands = [before, &[Abort]].concat();
            assert_eq!(check(&commands), Ok(Phase::Stopping(End::Aborted)));
            let commands = [before, &[Abort, Abort]].concat();
            assert_eq!(check(&commands), Err(Refusal::Stopping));
        }
    }

    #[test]
    fn what_ended_takes_no_command() {
        let plan = plan(Confirmation::None);
        let ended = Stand {
            phase: Phase::Ended(End::Done),
            ..Stand::new(&plan, 0)
        };
        use Command::{Abort, Frozen, Pause as Wait, Resume};
        for command in [Frozen, BY_B, Wait, Resume, Abort] {
            assert_eq!(ended.take(&plan, command), Err(Refusal::Ended));
        }
        assert!(!ended.is_active());
    }

    #[test]
    fn after_a_restore_nothing_goes_on_by_itself() {
        use Command::{Frozen, Restored};
        let check = |commands: &[Command<'_>]| check(Confirmation::None, commands);
        assert_eq!(check(&[Restored]), Ok(Phase::Stopping(End::Aborted)));
        let paused = Ok(Phase::Paused(Pause::Restored));
        assert_eq!(check(&[Frozen, Restored]), paused);
        assert_eq!(
            check(&[Frozen, Restored, Command::Resume]),
            Ok(Phase::Running)
        );
    }

    #[test]
    fn going_on_behind_a_missed_gate_opens_it() {
        let plan = plan(Confirmation::None);
        let missed = Stand {
            phase: Phase::Paused(Pause::GateMissed),
            ..Stand::new(&plan, 0)
        };
        let next = missed.take(&plan, Command::Resume).expect("it goes on");
        assert_eq!((next.phase, next.gate), (Phase::Running, Gate::Waived));
    }
}
