//! /api/v1/rollouts: one order over many hosts, in stages and within limits.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bootagent_protocol::Action;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::job_order::goods::{Fit, Ordered, ordered};
use super::job_order::{CreateJobs, JobPreview};
use super::list::{self, List};
use super::rollout_view::{RolloutView, TargetView};
use crate::access::scope::Scope;
use crate::app::App;
use crate::auth::{May, Operate, Operator, View};
use crate::clock::unix_millis;
use crate::extract::revision::etag;
use crate::extract::{JsonBody, Params, PathId};
use crate::fleet::rollout::plan::{Contention, Plan, Terms};
use crate::fleet::rollout::target::TargetState;
use crate::fleet::selector::Selector;
use crate::openapi::{Allowed, BadBody, BadQuery, Conflicting, Missing};
use crate::problem::Problem;
use crate::store::rollout::{
    Follows, MAX_NAMED, NewRollout, RolloutInserted, RolloutPhase, RolloutQuery, RolloutRow,
    TargetQuery, TargetSet,
};
use crate::wire;

/// Longest name and pattern, in bytes.
pub(super) const MAX_TEXT_BYTES: usize = 128;

/// A rollout to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateRollout {
    /// What people call it; without it, what it does.
    #[schema(max_length = 128, example = "flux-push 2.1")]
    name: Option<String>,
    /// What is ordered of each target, as of a single job; without hosts, selector, group,
    /// expected_hosts and expires_in.
    order: CreateJobs,
    /// Of which hosts.
    targets: Targets,
    /// How many hosts that must be; otherwise nothing is ordered (409).
    expected_hosts: Option<u64>,
    /// How it goes on.
    #[serde(default)]
    plan: Terms,
}

/// Hosts: either those of a list, or all that fit the rest.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Targets {
    /// These, by agentsn, in this order; at most 10000.
    hosts: Vec<String>,
    /// Hosts with these tags.
    #[schema(example = "svc=ecs,cmpt=DB")]
    selector: Option<String>,
    /// Hosts in the group of this id.
    group: Option<String>,
    /// Hosts whose name is so; `*` is any text and `?` any character.
    #[schema(max_length = 128, example = "db-*.example.org")]
    hostname: Option<String>,
    /// True for every host, where nothing else is said.
    all: bool,
}

impl Targets {
    /// The set this means.
    fn set(&self) -> Result<TargetSet, Problem> {
        let is_query = self.selector.is_some() || self.group.is_some() || self.hostname.is_some();
        match (self.hosts.is_empty(), is_query, self.all) {
            (false, false, false) => self.listed(),
            (true, true, false) | (true, false, true) => self.query(),
            _ => Err(Problem::invalid(
                "targets: either hosts, or selector, group and hostname, or all is expected",
            )),
        }
    }

    fn listed(&self) -> Result<TargetSet, Problem> {
        if self.hosts.len() > MAX_NAMED {
            return Err(Problem::invalid(&format!(
                "targets: at most {MAX_NAMED} hosts can be named; put them into a group"
            )));
        }
        let mut seen = std::collections::HashSet::new();
        let mut agentsns = Vec::new();
        let mut unknown = Vec::new();
        for text in &self.hosts {
            match wire::agentsn(text) {
                Ok(agentsn) if seen.insert(agentsn.clone()) => agentsns.push(agentsn),
                Ok(_) => {}
                Err(_) => unknown.push(bootagent_protocol::truncate(text, 80).to_owned()),
            }
        }
        match unknown.is_empty() {
            true => Ok(TargetSet::Hosts(agentsns)),
            false => Err(Problem::unknown_hosts(unknown)),
        }
    }

    fn query(&self) -> Result<TargetSet, Problem> {
        let selector = Selector::parse(self.selector.as_deref().unwrap_or_default())
            .map_err(|error| Problem::invalid(&format!("targets: selector: {error}")))?;
        if self.selector.is_some() && selector.is_empty() {
            return Err(Problem::invalid(
                "targets: an empty selector would mean every host; name a tag, or say all",
            ));
        }
        let hostname = self.hostname.as_deref();
        if hostname.is_some_and(|text| !(1..=MAX_TEXT_BYTES).contains(&text.len())) {
            return Err(Problem::invalid(&format!(
                "targets: hostname has 1 to {MAX_TEXT_BYTES} bytes"
            )));
        }
        Ok(TargetSet::Query {
            selector: selector.to_string(),
            group: self.group.clone(),
            hostname: self.hostname.clone(),
        })
    }
}

/// Which rollouts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RolloutParams {
    /// `active` or `ended`.
    phase: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Which targets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TargetParams {
    /// Only in this state, such as `waiting` or `failed` (indexed).
    state: Option<String>,
    /// Whether `total` shall say how many rows there are.
    total: Option<bool>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Rows, 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Begins a rollout. Its targets are those hosts as they are now: they are written down
/// first, and nothing is ordered before all of them are.
#[utoipa::path(
    operation_id = "create_rollout",
    post, path = "/api/v1/rollouts", tag = "rollouts", request_body = CreateRollout,
    params(("idempotency-key" = Option<String>, Header, description = "1 to 128 printable characters: sent again with the same key and body within 24 h, it is answered as before and not done again")),
    responses(
        (status = 201, description = "Ordered", body = RolloutView),
        BadBody, Missing, Conflicting, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn create(
    May { operator, .. }: May<Operate>,
    State(app): State<App>,
    JsonBody(body): JsonBody<CreateRollout>,
) -> Result<Response, Problem> {
    let ordered = ordered(&app, &body.order).await?;
    let begin = Begin {
        name: body.name,
        ordered,
        set: body.targets.set()?,
        terms: body.plan,
        expected_hosts: body.expected_hosts,
        follows: None,
        seen: None,
    };
    begin.done(&app, &operator).await
}

/// Looks at a rollout without beginning it: how many hosts it means, which file each of
/// them would get, and which have none.
#[utoipa::path(
    operation_id = "preview_rollout",
    post, path = "/api/v1/rollouts/preview", tag = "rollouts", request_body = CreateRollout,
    responses(
        (status = 200, description = "What it would do", body = JobPreview),
        BadBody, Missing, Conflicting, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn preview(
    May { operator, .. }: May<Operate>,
    State(app): State<App>,
    JsonBody(body): JsonBody<CreateRollout>,
) -> Result<Json<JobPreview>, Problem> {
    let ordered = ordered(&app, &body.order).await?;
    let set = body.targets.set()?;
    let plan = plan(body.plan, unix_millis())?;
    refuse_against(&app, &ordered, &set, &plan, &operator.scope).await?;
    let fit = fit(&app, &ordered, &set, body.expected_hosts, &operator.scope).await?;
    fit.preview(&app, &set, &operator.scope).await.map(Json)
}

/// Rollouts, newest first.
#[utoipa::path(
    operation_id = "list_rollouts",
    get, path = "/api/v1/rollouts", tag = "rollouts", params(RolloutParams),
    responses(
        (status = 200, description = "One page", body = List<RolloutView>), BadQuery, Allowed
    ),
    security(("operator" = ["viewer"]))
)]
pub async fn list(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    Params(params): Params<RolloutParams>,
) -> Result<Json<List<RolloutView>>, Problem> {
    let query = RolloutQuery {
        phase: match params.phase.as_deref() {
            None => None,
            Some("active") => Some(RolloutPhase::Active),
            Some("ended") => Some(RolloutPhase::Ended),
            Some(_) => return Err(Problem::malformed("phase: active or ended is expected")),
        },
        after: list::id_cursor(params.cursor)?,
        scope: operator.scope,
        limit: list::limit(params.limit)?,
    };
    let page = app.store.rollouts(&query).await?;
    Ok(Json(page.map(RolloutView::from).into()))
}

/// One rollout; the ETag says which revision.
#[utoipa::path(
    operation_id = "get_rollout",
    get, path = "/api/v1/rollouts/{id}", tag = "rollouts",
    params(("id" = String, Path, description = "The rollout")),
    responses((status = 200, description = "The rollout", body = RolloutView), Missing, Allowed),
    security(("operator" = ["viewer"]))
)]
pub async fn get(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    Ok(shown(found(&app, &id, &operator.scope).await?))
}

/// The targets of a rollout in their order, each with what it waits for.
#[utoipa::path(
    operation_id = "list_rollout_targets",
    get, path = "/api/v1/rollouts/{id}/targets", tag = "rollouts",
    params(("id" = String, Path, description = "The rollout"), TargetParams),
    responses(
        (status = 200, description = "One page", body = List<TargetView>),
        BadQuery, Missing, Allowed
    ),
    security(("operator" = ["viewer"]))
)]
pub async fn targets(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    PathId(id): PathId,
    Params(params): Params<TargetParams>,
) -> Result<Json<List<TargetView>>, Problem> {
    let rollout = found(&app, &id, &operator.scope).await?;
    let state = params.state.as_deref().map(|word| {
        TargetState::parse(word).ok_or_else(|| {
            let words = TargetState::ALL.map(TargetState::word).join(", ");
            Problem::malformed(&format!("state: one of {words} is expected"))
        })
    });
    let query = TargetQuery {
        rollout: rollout.number,
        state: state.transpose()?,
        after: list::cursor(params.cursor.as_deref())?,
        scope: operator.scope,
        count: list::count(params.total),
        limit: list::limit(params.limit)?,
    };
    let targets = u64::try_from(rollout.targets).unwrap_or_default();
    let stage_ends = rollout.plan.stage_ends(targets);
    let page = app.store.rollout_targets(&query).await?;
    let page = page.map(|row| TargetView::new(&rollout, &stage_ends, row));
    Ok(Json(page.into()))
}

/// A rollout about to begin.
pub(super) struct Begin {
    pub(super) name: Option<String>,
    pub(super) ordered: Ordered,
    pub(super) set: TargetSet,
    pub(super) terms: Terms,
    pub(super) expected_hosts: Option<u64>,
    pub(super) follows: Option<Follows>,
    /// The revision of the one it follows that was seen.
    pub(super) seen: Option<i64>,
}

impl Begin {
    /// Begins it.
    pub(super) async fn done(self, app: &App, operator: &Operator) -> Result<Response, Problem> {
        let now = unix_millis();
        let plan = plan(self.terms, now)?;
        let name = name(self.name, &self.ordered)?;
        let scope = &operator.scope;
        let fit = fit(app, &self.ordered, &self.set, self.expected_hosts, scope).await?;
        fit.refuse_without(app, &self.set, scope).await?;
        refuse_against(app, &self.ordered, &self.set, &plan, scope).await?;
        let Ordered {
            action,
            agent,
            version,
            goods,
        } = self.ordered;
        let new = NewRollout {
            id: Uuid::now_v7().to_string(),
            name,
            action,
            agent,
            version,
            goods,
            set: self.set,
            plan,
            author: person(operator),
            follows: self.follows,
            seen: self.seen,
            created: now,
        };
        match app.store.insert_rollout(&new, scope, &operator.by).await? {
            RolloutInserted::Done(row) => {
                tracing::info!(
                    id = row.id,
                    name = row.name,
                    hosts = fit.hosts,
                    "a rollout begins"
                );
                Ok((StatusCode::CREATED, shown(*row)).into_response())
            }
            RolloutInserted::UnknownHosts(agentsns) => Err(Problem::unknown_hosts(agentsns)),
            RolloutInserted::PackageGone => Err(Problem::conflict(
                "the package was deleted meanwhile; nothing was started",
            )),
            RolloutInserted::Stale => Err(stale()),
        }
    }
}

/// Refuses what assignments at work would put back, unless the rollout supersedes them.
async fn refuse_against(
    app: &App,
    ordered: &Ordered,
    set: &TargetSet,
    plan: &Plan,
    scope: &Scope,
) -> Result<(), Problem> {
    let changes = ordered.action.needs_package() || ordered.action == Action::Uninstall;
    if !changes || plan.terms().contention == Contention::Supersede {
        return Ok(());
    }
    let (agent, version) = (&ordered.agent, ordered.version.as_deref());
    let against = app
        .store
        .assignments_against(set, scope, agent, version)
        .await?;
    if against.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = against
        .iter()
        .map(|one| format!("{} ({} {})", one.id, one.agent, one.version))
        .collect();
    Err(Problem::conflict(&format!(
        "assignments would put hosts back when it is over: {}; pause or change them, or say          contention supersede; nothing was started",
        named.join(", ")
    )))
}

/// Whose a rollout is, or who agrees: the user, also by a token of theirs.
pub(super) fn person(operator: &Operator) -> String {
    match &operator.user {
        Some(user) => format!("user:{user}"),
        None => format!(
            "{}:{}",
            operator.by.actor.kind.as_str(),
            operator.by.actor.id
        ),
    }
}

pub(super) fn shown(row: RolloutRow) -> Response {
    (etag(row.revision), Json(RolloutView::from(row))).into_response()
}

pub(super) fn stale() -> Problem {
    Problem::precondition_failed("it was changed meanwhile; read it again")
}

pub(super) async fn found(app: &App, id: &str, scope: &Scope) -> Result<RolloutRow, Problem> {
    let row = app.store.rollout(id, scope).await?;
    row.ok_or_else(|| Problem::not_found("rollout"))
}

fn plan(mut terms: Terms, now: i64) -> Result<Plan, Problem> {
    // A rollout's targets say what a percentage is.
    for stage in &mut terms.stages {
        stage.hosts = None;
    }
    let invalid =
        |error: crate::fleet::rollout::plan::PlanError| Problem::invalid(&format!("plan: {error}"));
    let plan = Plan::try_from(terms).map_err(invalid)?;
    plan.begins_in_time(now).map_err(invalid)?;
    Ok(plan)
}

fn name(given: Option<String>, ordered: &Ordered) -> Result<String, Problem> {
    let Some(name) = given else {
        let words = [
            Some(ordered.action.as_str()),
            Some(&ordered.agent),
            ordered.version.as_deref(),
        ];
        return Ok(words.into_iter().flatten().collect::<Vec<_>>().join(" "));
    };
    let name = name.trim();
    let is_fine = (1..=MAX_TEXT_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    match is_fine {
        true => Ok(name.to_owned()),
        false => Err(Problem::invalid(&format!(
            "name: 1 to {MAX_TEXT_BYTES} bytes without control characters are expected"
        ))),
    }
}

/// How an order fits the hosts it means, if they are as many as were expected.
async fn fit(
    app: &App,
    ordered: &Ordered,
    set: &TargetSet,
    expected: Option<u64>,
    scope: &Scope,
) -> Result<Fit, Problem> {
    let systems = app.store.count_targets(set, scope).await?;
    let fit = Fit::of(&ordered.goods, &systems);
    let hosts = u64::try_from(fit.hosts).unwrap_or_default();
    match (hosts, expected) {
        // Unknown ones are named when it is stored.
        (0, _) if !matches!(set, TargetSet::Hosts(_)) => {
            Err(Problem::invalid("targets: there is no such host"))
        }
        (_, Some(expected)) if hosts != expected => Err(Problem::conflict(&format!(
            "{expected} hosts were expected and there are {hosts}; nothing was started"
        ))),
        _ => Ok(fit),
    }
}
