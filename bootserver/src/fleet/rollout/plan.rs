//! What an operator wants of a rollout: how many hosts at once, in which stages,
//! and when it stops by itself.
//!
//! [`Plan`] is made from [`Terms`] that were checked, and is stored as them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::tally::Tally;
use super::target::TargetState;
use super::window::{Window, WindowError, WindowTerms};

/// Hosts at once where nothing is said.
const PARALLEL: Amount = Amount::Hosts(50);
/// Of a stage's hosts, the part that must succeed where nothing is said, in percent.
const SUCCESS_PERCENT: u8 = 95;
/// Hosts that must have finished before a rate is one, where nothing is said.
const MIN_SAMPLE: u32 = 10;
/// How long a rollout may take, in seconds: where nothing is said, and bounds.
const EXPIRES_SECONDS: u64 = 7 * 86_400;
const EXPIRES_BOUNDS: (u64, u64) = (60, 366 * 86_400);
/// Most stages.
const MAX_STAGES: usize = 20;

/// A part of the targets: `5`, `"10%"` or `"all"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AmountText", into = "AmountText")]
pub enum Amount {
    /// So many.
    Hosts(u64),
    /// So many of a hundred.
    Percent(u8),
}

impl Amount {
    /// Every target.
    pub const ALL: Self = Self::Percent(100);

    /// Whether it is a percentage that is not all.
    pub fn is_part(self) -> bool {
        matches!(self, Self::Percent(percent) if percent < 100)
    }

    /// How many of `targets` that is: rounded up, and at least one if there is one.
    pub fn of(self, targets: u64) -> u64 {
        let hosts = match self {
            Self::Hosts(hosts) => hosts,
            Self::Percent(percent) => percent_of(targets, percent),
        };
        hosts.max(1).min(targets)
    }
}

/// So many percent of a number, rounded up.
pub(super) fn percent_of(number: u64, percent: u8) -> u64 {
    number.saturating_mul(u64::from(percent)).div_ceil(100)
}

/// An amount as it is written.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum AmountText {
    /// So many.
    Number(u64),
    /// A part such as `10%`, or `all`.
    Text(String),
}

impl From<Amount> for AmountText {
    fn from(amount: Amount) -> Self {
        match amount {
            Amount::Hosts(hosts) => Self::Number(hosts),
            Amount::Percent(percent) => Self::Text(format!("{percent}%")),
        }
    }
}

impl TryFrom<AmountText> for Amount {
    type Error = String;

    fn try_from(text: AmountText) -> Result<Self, String> {
        let amount = match &text {
            AmountText::Number(hosts) => Some(Self::Hosts(*hosts)),
            AmountText::Text(text) if text == "all" => Some(Self::ALL),
            AmountText::Text(text) => {
                let percent = text.strip_suffix('%').and_then(|text| text.parse().ok());
                percent.filter(|percent| *percent <= 100).map(Self::Percent)
            }
        };
        let amount = amount.filter(|amount| !matches!(amount, Self::Hosts(0) | Self::Percent(0)));
        amount.ok_or_else(|| {
            "a number from 1, a part such as \"10%\", or \"all\" is expected".to_owned()
        })
    }
}

/// One stage: hosts that come before others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// How many of all targets it and the stages before it are together.
    #[schema(value_type = AmountText)]
    pub upto: Amount,
    /// Of an assignment, what `upto` came to when it began; the server says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<u64>,
    /// Of its hosts, how many percent must have succeeded before the next stage;
    /// 95 when it does not say. Not for the last stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<u8>,
    /// Seconds that must stay so.
    #[serde(default)]
    pub soak: u64,
}

/// What counts as a failure only if one wants so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Doubtful {
    /// Nobody knows how it ended.
    Lost,
    /// It never began.
    Expired,
}

/// Whether somebody else must agree before it begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// It begins by itself.
    #[default]
    None,
    /// A second user must say so.
    SecondUser,
}

/// What happens where an older rollout has to do with the same agent of a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Contention {
    /// The host is left to the older one until that is through with it.
    #[default]
    Wait,
    /// The host is taken from the older one, unless it has begun.
    Supersede,
}

/// A plan as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = RolloutPlan)]
pub struct Terms {
    /// How many hosts at once.
    #[schema(value_type = AmountText)]
    pub parallel: Amount,
    /// The stages in order; none is one of all targets.
    pub stages: Vec<Stage>,
    /// More failures than this stop it; -1 for no such limit.
    pub fail_count: i64,
    /// More failures than so many percent of the finished stop it; 0 for no such
    /// limit.
    pub fail_rate: u8,
    /// How many must have finished before `fail_rate` counts; 10 when it does not
    /// say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_sample: Option<u32>,
    /// What counts as a failure beyond what always does.
    pub count_as_failed: BTreeSet<Doubtful>,
    /// When hosts may be ordered something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowTerms>,
    /// Whether somebody else must agree.
    pub confirmation: Confirmation,
    /// Seconds after which what has not begun does not begin any more.
    pub expires_in: u64,
    /// What happens where another rollout is at work.
    pub contention: Contention,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            parallel: PARALLEL,
            stages: Vec::new(),
            fail_count: 0,
            fail_rate: 0,
            min_sample: None,
            count_as_failed: BTreeSet::from([Doubtful::Lost]),
            window: None,
            confirmation: Confirmation::None,
            expires_in: EXPIRES_SECONDS,
            contention: Contention::Wait,
        }
    }
}

/// Why terms are no plan; each says the field and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too many stages.
    #[error("stages: at most {MAX_STAGES} are allowed")]
    TooManyStages,
    /// A stage that is not more than the one before.
    #[error("stages: each must be more than the one before, and number {0} is not")]
    StageNotMore(usize),
    /// The last one leaves hosts out.
    #[error("stages: the last one must be \"all\"; to leave hosts out, do not make them targets")]
    LastStageNotAll,
    /// A gate nobody goes through.
    #[error("stages: nothing comes after the last one; leave its success out")]
    GateAtTheEnd,
    /// A gate that is none.
    #[error("stages: success is 1 to 100 (percent), and that of number {0} is not")]
    NoSuccess(usize),
    /// Soaks that never end in time.
    #[error(
        "stages: their soaks are {soak} s together, and expires_in is {expires_in} s; make it longer than them"
    )]
    SoaksTooLong {
        /// All soaks, in seconds.
        soak: u64,
        /// What there is, in seconds.
        expires_in: u64,
    },
    /// A count below -1.
    #[error("fail_count: 0 or more is expected, or -1 for no limit")]
    FailCount,
    /// A rate that can never be exceeded.
    #[error(
        "fail_rate: 1 to 99 (percent) is expected, or 0 for no limit; more than 100 % can never fail"
    )]
    FailRate,
    /// A sample of nothing.
    #[error("min_sample: 1 or more is expected")]
    MinSample,
    /// A sample for no rate.
    #[error("min_sample: it belongs to fail_rate, which is 0; set that one or leave this one out")]
    SampleWithoutRate,
    /// Something that counts for no limit and no gate.
    #[error(
        "count_as_failed: with fail_count -1, fail_rate 0 and one stage nothing is counted; set a limit or leave it out"
    )]
    CountedForNothing,
    /// Out of bounds.
    #[error("expires_in: {} to {} s are expected", EXPIRES_BOUNDS.0, EXPIRES_BOUNDS.1)]
    ExpiresIn,
    /// A bad window.
    #[error("window: {0}")]
    Window(#[from] WindowError),
    /// A window that opens too late.
    #[error("window: it does not open before the rollout expires; make expires_in longer")]
    WindowOpensTooLate,
}

/// A plan that was checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Terms", into = "Terms")]
pub struct Plan {
    terms: Terms,
    window: Option<Window>,
}

impl TryFrom<Terms> for Plan {
    type Error = PlanError;

    fn try_from(terms: Terms) -> Result<Self, PlanError> {
        check_stages(&terms.stages)?;
        check_limits(&terms)?;
        let (least, most) = EXPIRES_BOUNDS;
        if !(least..=most).contains(&terms.expires_in) {
            return Err(PlanError::ExpiresIn);
        }
        let soaks = terms.stages.iter().map(|stage| stage.soak);
        let soak = soaks.fold(0, u64::saturating_add);
        if soak >= terms.expires_in {
            let expires_in = terms.expires_in;
            return Err(PlanError::SoaksTooLong { soak, expires_in });
        }
        let window = terms.window.as_ref().map(Window::new).transpose()?;
        Ok(Self { terms, window })
    }
}

impl From<Plan> for Terms {
    fn from(plan: Plan) -> Self {
        plan.terms
    }
}

fn check_stages(stages: &[Stage]) -> Result<(), PlanError> {
    if stages.len() > MAX_STAGES {
        return Err(PlanError::TooManyStages);
    }
    let Some((last, before)) = stages.split_last() else {
        return Ok(());
    };
    for (number, pair) in (2..).zip(stages.windows(2)) {
        let [first, second] = pair else { continue };
        // What is more of five and ten percent, only the targets can tell.
        let is_more = match (first.upto, second.upto) {
            (Amount::Percent(first), Amount::Percent(second)) => first < second,
            (Amount::Hosts(first), Amount::Hosts(second)) => first < second,
            (Amount::Percent(first), Amount::Hosts(_)) => first < 100,
            (Amount::Hosts(_), Amount::Percent(_)) => true,
        };
        if !is_more {
            return Err(PlanError::StageNotMore(number));
        }
    }
    let is_percent = |stage: &Stage| stage.success.is_none_or(|it| (1..=100).contains(&it));
    if let Some(place) = before.iter().position(|stage| !is_percent(stage)) {
        return Err(PlanError::NoSuccess(place + 1));
    }
    if last.upto != Amount::ALL {
        return Err(PlanError::LastStageNotAll);
    }
    match last.success {
        Some(_) => Err(PlanError::GateAtTheEnd),
        None => Ok(()),
    }
}

fn check_limits(terms: &Terms) -> Result<(), PlanError> {
    if terms.fail_count < -1 {
        return Err(PlanError::FailCount);
    }
    if terms.fail_rate > 99 {
        return Err(PlanError::FailRate);
    }
    match terms.min_sample {
        Some(0) => return Err(PlanError::MinSample),
        Some(_) if terms.fail_rate == 0 => return Err(PlanError::SampleWithoutRate),
        Some(_) | None => {}
    }
    let nothing_is_counted =
        terms.fail_count == -1 && terms.fail_rate == 0 && terms.stages.len() < 2;
    // What is counted when nothing is said is nobody's contradiction.
    let is_said = terms.count_as_failed.contains(&Doubtful::Expired);
    match nothing_is_counted && is_said {
        true => Err(PlanError::CountedForNothing),
        false => Ok(()),
    }
}

/// Which limit stopped a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// More failures than allowed.
    FailCount,
    /// A higher rate of failures than allowed.
    FailRate,
}

impl Plan {
    /// The terms it was made from.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// When it may go on, unless it always may.
    pub fn window(&self) -> Option<&Window> {
        self.window.as_ref()
    }

    /// Looks whether anything could begin in a rollout ordered at `now`.
    pub fn begins_in_time(&self, now: i64) -> Result<(), PlanError> {
        let Some(window) = &self.window else {
            return Ok(());
        };
        match window.opens(now).is_some_and(|at| at < self.expires(now)) {
            true => Ok(()),
            false => Err(PlanError::WindowOpensTooLate),
        }
    }

    /// When a rollout that was ordered at `created` expires, in milliseconds.
    pub fn expires(&self, created: i64) -> i64 {
        created.saturating_add(millis(self.terms.expires_in))
    }

    /// How many stages there are, at least one.
    pub fn stages(&self) -> usize {
        self.terms.stages.len().max(1)
    }

    /// Where each stage ends among `targets` in their order. One that would be
    /// less than the stage before it is empty.
    pub fn stage_ends(&self, targets: u64) -> Vec<u64> {
        let mut end = 0;
        let mut ends: Vec<u64> = Vec::with_capacity(self.stages());
        for stage in &self.terms.stages {
            let upto = stage.hosts.map_or(stage.upto, Amount::Hosts);
            end = upto.of(targets).max(end);
            ends.push(end);
        }
        if ends.is_empty() {
            ends.push(targets);
        }
        ends
    }

    /// Of a stage's hosts, how many percent must succeed.
    pub(super) fn success(&self, stage: usize) -> u8 {
        let stage = self.terms.stages.get(stage);
        stage
            .and_then(|stage| stage.success)
            .unwrap_or(SUCCESS_PERCENT)
    }

    /// How long a stage must stay good, in milliseconds.
    pub(super) fn soak(&self, stage: usize) -> i64 {
        let stage = self.terms.stages.get(stage);
        millis(stage.map_or(0, |stage| stage.soak))
    }

    /// How many failures there are among these.
    pub fn failures(&self, tally: &Tally) -> u64 {
        let failures = TargetState::ALL
            .into_iter()
            .filter(|state| self.is_failure(*state));
        failures.map(|state| tally.of(state)).sum()
    }

    /// Whether a target that ended so is a failure.
    pub fn is_failure(&self, state: TargetState) -> bool {
        let counts = |doubtful| self.terms.count_as_failed.contains(&doubtful);
        match state {
            TargetState::Failed
            | TargetState::TimedOut
            | TargetState::RolledBack
            | TargetState::CrashLooped => true,
            TargetState::Lost => counts(Doubtful::Lost),
            TargetState::Expired => counts(Doubtful::Expired),
            TargetState::Waiting
            | TargetState::Ordered
            | TargetState::Running
            | TargetState::Succeeded
            | TargetState::Cancelled
            | TargetState::Skipped => false,
        }
    }

    /// The limit that is exceeded, if one is:
    /// 1. more failures than `fail_count`;
    /// 2. of the finished, strictly more than `fail_rate` percent, once there are
    ///    `min_sample` of them, or all `hosts` when these are fewer.
    pub fn exceeded(&self, total: &Tally, hosts: u64) -> Option<Limit> {
        let failures = self.failures(total);
        if u64::try_from(self.terms.fail_count).is_ok_and(|most| failures > most) {
            return Some(Limit::FailCount);
        }
        let finished = failures + total.of(TargetState::Succeeded);
        let sample = u64::from(self.terms.min_sample.unwrap_or(MIN_SAMPLE)).min(hosts);
        let is_over = failures * 100 > finished * u64::from(self.terms.fail_rate);
        let is_rated = self.terms.fail_rate > 0 && finished >= sample;
        (is_rated && is_over).then_some(Limit::FailRate)
    }
}

fn millis(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
