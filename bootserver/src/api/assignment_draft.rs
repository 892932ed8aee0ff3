//! What an assignment shall be: made of what an operator said, and checked.

use bootagent_protocol::AgentName;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::job_order::goods::assigned;
use super::rollouts::{MAX_TEXT_BYTES, person};
use crate::app::App;
use crate::auth::Operator;
use crate::fleet::rollout::plan::{Plan, Terms};
use crate::fleet::rollout::standing::{can_stand, settled};
use crate::problem::{Problem, chain};
use crate::store::assignment::{AssignmentChange, AssignmentRow, Course, NewAssignment};
use crate::store::rollout::TargetSet;

/// The bounds of a priority.
const PRIORITIES: std::ops::RangeInclusive<i64> = -1_000_000..=1_000_000;

/// An assignment to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAssignment {
    /// What people call it; without it, the agent and its version.
    #[schema(max_length = 128, example = "flux-push everywhere")]
    name: Option<String>,
    /// The group whose hosts it means, by id: those that are in it, and those that will be.
    group: String,
    /// The sub-agent.
    #[schema(example = "flux-push")]
    agent: String,
    /// Its version, of which a package was uploaded.
    version: String,
    /// Seconds the version is watched on a host before the one before is given up.
    watch: Option<u64>,
    /// Of several assignments of an agent that mean a host, the highest has it, of equal ones
    /// the oldest.
    #[serde(default)]
    #[schema(minimum = -1000000, maximum = 1000000)]
    priority: i64,
    /// How it goes on: `parallel` is a part of the group's hosts, limits look at what ended in
    /// the last 24 hours, `expires_in` is for each job. A stage of percent is so many of
    /// the hosts the group has when it begins (`hosts` of the stage says how many these were);
    /// who comes later comes behind them.
    #[serde(default)]
    plan: Terms,
}

impl CreateAssignment {
    /// The same, if it can be one.
    pub(super) async fn checked(
        self,
        app: &App,
        operator: &Operator,
    ) -> Result<NewAssignment, Problem> {
        if let Err(error) = AgentName::parse(&self.agent) {
            return Err(Problem::invalid(&format!("agent: {}", chain(&error))));
        }
        let named = match &self.name {
            Some(text) => name(text)?,
            None => {
                let text = format!("{} {}", self.agent, self.version);
                bootagent_protocol::truncate(&text, MAX_TEXT_BYTES).to_owned()
            }
        };
        let priority = priority(self.priority)?;
        let (whose, version) = ((self.group.as_str(), self.agent.as_str()), self.version);
        let course = course(app, operator, whose, version, self.watch, self.plan).await?;
        Ok(NewAssignment {
            id: Uuid::now_v7().to_string(),
            name: named,
            group: self.group,
            agent: self.agent,
            priority,
            course,
        })
    }
}

/// A change of an assignment; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeAssignment {
    /// What people call it.
    #[schema(max_length = 128)]
    name: Option<String>,
    /// Which comes before which.
    #[schema(minimum = -1000000, maximum = 1000000)]
    priority: Option<i64>,
    /// Another version. With it, watch or plan all begins anew.
    version: Option<String>,
    /// Seconds the version is watched.
    watch: Option<u64>,
    /// How it goes on.
    plan: Option<Terms>,
}

impl ChangeAssignment {
    /// What this changes of an assignment.
    pub(super) async fn checked(
        self,
        app: &App,
        operator: &Operator,
        known: AssignmentRow,
    ) -> Result<AssignmentChange, Problem> {
        let is_other = self.version.is_some() || self.watch.is_some() || self.plan.is_some();
        let course = match is_other {
            false => None,
            true => {
                let whose = (known.group.as_str(), known.agent.as_str());
                let version = self.version.unwrap_or(known.version);
                let terms = self.plan.unwrap_or_else(|| known.rollout.plan.into());
                let watch = self.watch.or(known.watch);
                Some(course(app, operator, whose, version, watch, terms).await?)
            }
        };
        Ok(AssignmentChange {
            name: self.name.as_deref().map(name).transpose()?,
            priority: self.priority.map(priority).transpose()?,
            course,
        })
    }
}

/// How it goes on from now on, for hosts of this group and this agent of theirs.
async fn course(
    app: &App,
    operator: &Operator,
    (group, agent): (&str, &str),
    version: String,
    watch: Option<u64>,
    terms: Terms,
) -> Result<Course, Problem> {
    let invalid = |error: &dyn std::fmt::Display| Problem::invalid(&format!("plan: {error}"));
    can_stand(&terms).map_err(|error| invalid(&error))?;
    let hosts = match terms.stages.iter().any(|stage| stage.upto.is_part()) {
        true => hosts_of(app, operator, group).await?,
        false => 0,
    };
    let plan = Plan::try_from(settled(terms, hosts)).map_err(|error| invalid(&error))?;
    Ok(Course {
        goods: assigned(app, agent, &version, watch).await?,
        version,
        watch,
        plan,
        author: person(operator),
    })
}

/// How many hosts a group has now.
async fn hosts_of(app: &App, operator: &Operator, group: &str) -> Result<u64, Problem> {
    let set = TargetSet::Query {
        selector: String::new(),
        group: Some(group.to_owned()),
        hostname: None,
    };
    let systems = app.store.count_targets(&set, &operator.scope).await?;
    let hosts: i64 = systems.iter().map(|system| system.hosts).sum();
    Ok(u64::try_from(hosts).unwrap_or_default())
}

fn name(text: &str) -> Result<String, Problem> {
    let name = text.trim();
    let is_fine = (1..=MAX_TEXT_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    match is_fine {
        true => Ok(name.to_owned()),
        false => Err(Problem::invalid(&format!(
            "name: 1 to {MAX_TEXT_BYTES} bytes without control characters are expected"
        ))),
    }
}

fn priority(number: i64) -> Result<i64, Problem> {
    match PRIORITIES.contains(&number) {
        true => Ok(number),
        false => Err(Problem::invalid(&format!(
            "priority: {} to {} is expected",
            PRIORITIES.start(),
            PRIORITIES.end()
        ))),
    }
}
