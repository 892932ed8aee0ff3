//! /api/v1/rollouts/{id}/...: what operators say to a rollout that is there, and the
//! rollouts that come after it.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::job_order::goods::{Ordered, way_back};
use super::rollout_view::RolloutView;
use super::rollouts::{Begin, found, person, shown, stale};
use crate::access::scope::Scope;
use crate::app::App;
use crate::auth::{May, Operate, Operator};
use crate::extract::revision::IfMatch;
use crate::extract::{JsonBody, PathId};
use crate::fleet::rollout::follow::{can_retry, can_revert, is_retried};
use crate::fleet::rollout::plan::{Confirmation, Terms};
use crate::fleet::rollout::target::TargetState;
use crate::openapi::{Allowed, BadBody, Conflicting, Missing, Precondition};
use crate::problem::Problem;
use crate::store::rollout::{Follows, Order, Ordered as Told, RolloutRow, TargetSet, Way};
use bootagent_protocol::Action;

/// A rollout that comes after another one.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FollowRollout {
    /// What people call it.
    #[schema(max_length = 128)]
    name: Option<String>,
    /// How many hosts that must be; otherwise nothing is ordered (409).
    expected_hosts: Option<u64>,
    /// How it goes on; as the one before, when it does not say.
    plan: Option<Terms>,
}

/// Agrees to a rollout, as somebody else than who ordered it.
#[utoipa::path(
    operation_id = "confirm_rollout",
    post, path = "/api/v1/rollouts/{id}/confirm", tag = "rollouts",
    params(
        ("id" = String, Path, description = "The rollout"),
        ("if-match" = Option<String>, Header, description = "The ETag of what was seen")
    ),
    responses(
        (status = 200, description = "The rollout as it is now", body = RolloutView),
        Missing, Conflicting, Precondition, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn confirm(
    May { operator, .. }: May<Operate>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    let by = person(&operator);
    tell(&app, &operator, &id, &Order::Confirm { by }, revision).await
}

/// Pauses a rollout: what was not sent is taken back, what was goes on.
#[utoipa::path(
    operation_id = "pause_rollout",
    post, path = "/api/v1/rollouts/{id}/pause", tag = "rollouts",
    params(
        ("id" = String, Path, description = "The rollout"),
        ("if-match" = Option<String>, Header, description = "The ETag of what was seen")
    ),
    responses(
        (status = 200, description = "The rollout as it is now", body = RolloutView),
        Missing, Conflicting, Precondition, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn pause(
    May { operator, .. }: May<Operate>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    tell(&app, &operator, &id, &Order::Pause, revision).await
}

/// Goes on with a paused rollout, also behind a gate that cannot open any more.
#[utoipa::path(
    operation_id = "resume_rollout",
    post, path = "/api/v1/rollouts/{id}/resume", tag = "rollouts",
    params(
        ("id" = String, Path, description = "The rollout"),
        ("if-match" = Option<String>, Header, description = "The ETag of what was seen")
    ),
    responses(
        (status = 200, description = "The rollout as it is now", body = RolloutView),
        Missing, Conflicting, Precondition, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn resume(
    May { operator, .. }: May<Operate>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    tell(&app, &operator, &id, &Order::Resume, revision).await
}

/// Ends a rollout: nothing more is ordered, what was not sent is taken back, what was
/// goes on to its end.
#[utoipa::path(
    operation_id = "abort_rollout",
    post, path = "/api/v1/rollouts/{id}/abort", tag = "rollouts",
    params(
        ("id" = String, Path, description = "The rollout"),
        ("if-match" = Option<String>, Header, description = "The ETag of what was seen")
    ),
    responses(
        (status = 200, description = "The rollout as it is now", body = RolloutView),
        Missing, Conflicting, Precondition, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn abort(
    May { operator, .. }: May<Operate>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
) -> Result<Response, Problem> {
    tell(&app, &operator, &id, &Order::Abort, revision).await
}

/// Begins another rollout over the targets of one that ended which failed or are lost.
#[utoipa::path(
    operation_id = "retry_rollout",
    post, path = "/api/v1/rollouts/{id}/retry", tag = "rollouts", request_body = FollowRollout,
    params(
        ("id" = String, Path, description = "The rollout"),
        ("if-match" = Option<String>, Header, description = "The ETag of what was seen"),
        ("idempotency-key" = Option<String>, Header, description = "1 to 128 printable characters: sent again with the same key and body within 24 h, it is answered as before and not done again")
    ),
    responses(
        (status = 201, description = "The new rollout", body = RolloutView),
        BadBody, Missing, Conflicting, Precondition, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn retry(
    May { operator, .. }: May<Operate>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
    JsonBody(body): JsonBody<FollowRollout>,
) -> Result<Response, Problem> {
    let former = former(&app, &id, revision, &operator.scope).await?;
    can_retry(&former.stand).map_err(|error| Problem::conflict(&error.to_string()))?;
    let states = TargetState::ALL.into_iter();
    let states = states.filter(|state| is_retried(&former.plan, *state));
    let goods = app.store.rollout_goods(former.number).await?;
    let ordered = Ordered {
        action: action(&former)?,
        agent: former.agent.clone(),
        version: former.version.clone(),
        goods,
    };
    let set = TargetSet::Former {
        rollout: former.number,
        states: states.collect(),
        way: Way::Again,
    };
    let begin = begin(former, body, ordered, set, Way::Again, revision);
    begin.done(&app, &operator).await
}

/// Begins another rollout that takes each target of one that ended back to the version
/// it had.
#[utoipa::path(
    operation_id = "revert_rollout",
    post, path = "/api/v1/rollouts/{id}/revert", tag = "rollouts", request_body = FollowRollout,
    params(
        ("id" = String, Path, description = "The rollout"),
        ("if-match" = Option<String>, Header, description = "The ETag of what was seen"),
        ("idempotency-key" = Option<String>, Header, description = "1 to 128 printable characters: sent again with the same key and body within 24 h, it is answered as before and not done again")
    ),
    responses(
        (status = 201, description = "The new rollout", body = RolloutView),
        BadBody, Missing, Conflicting, Precondition, Allowed
    ),
    security(("operator" = ["operator"]))
)]
pub async fn revert(
    May { operator, .. }: May<Operate>,
    IfMatch(revision): IfMatch,
    State(app): State<App>,
    PathId(id): PathId,
    JsonBody(body): JsonBody<FollowRollout>,
) -> Result<Response, Problem> {
    let former = former(&app, &id, revision, &operator.scope).await?;
    let refused = can_revert(&former.stand, action(&former)?);
    refused.map_err(|error| Problem::conflict(&error.to_string()))?;
    let states = TargetState::ALL.into_iter();
    let set = TargetSet::Former {
        rollout: former.number,
        states: states.filter(|state| state.may_have_changed()).collect(),
        way: Way::Back,
    };
    let systems = app.store.count_targets(&set, &operator.scope).await?;
    let goods = app.store.rollout_goods(former.number).await?;
    let ordered = way_back(&app, &former.agent, &goods, &systems).await?;
    let begin = begin(former, body, ordered, set, Way::Back, revision);
    begin.done(&app, &operator).await
}

/// The rollout that comes after another one, if that is what was seen.
fn begin(
    former: RolloutRow,
    body: FollowRollout,
    ordered: Ordered,
    set: TargetSet,
    way: Way,
    seen: Option<i64>,
) -> Begin {
    let verb = match way {
        Way::Again => "retry of",
        Way::Back => "way back from",
    };
    let name = format!("{verb} {}", former.name);
    let terms = body.plan.unwrap_or_else(|| Terms {
        // A way back is for when it is urgent.
        confirmation: match way {
            Way::Again => former.plan.terms().confirmation,
            Way::Back => Confirmation::None,
        },
        ..former.plan.terms().clone()
    });
    Begin {
        name: Some(
            body.name
                .unwrap_or_else(|| bootagent_protocol::truncate(&name, 128).to_owned()),
        ),
        ordered,
        set,
        terms,
        expected_hosts: body.expected_hosts,
        follows: Some(Follows { id: former.id, way }),
        seen,
    }
}

/// The rollout that another one comes after. Whoever has seen something else is told so
/// before anything else; who is first of those that have seen this, storing finds out.
async fn former(
    app: &App,
    id: &str,
    revision: Option<i64>,
    scope: &Scope,
) -> Result<RolloutRow, Problem> {
    let row = found(app, id, scope).await?;
    match revision.is_some_and(|seen| seen != row.revision) {
        true => Err(stale()),
        false => Ok(row),
    }
}

fn action(rollout: &RolloutRow) -> Result<Action, Problem> {
    Action::parse(&rollout.action).ok_or_else(|| {
        Problem::conflict("a newer server ordered it, and this one does not know the action")
    })
}

async fn tell(
    app: &App,
    operator: &Operator,
    id: &str,
    order: &Order,
    revision: Option<i64>,
) -> Result<Response, Problem> {
    let (scope, by) = (&operator.scope, &operator.by);
    match app
        .store
        .order_rollout(id, order, revision, scope, by)
        .await?
    {
        Told::Done(row) => {
            tracing::info!(
                id,
                phase = row.stand.phase.word(),
                "a rollout was told something"
            );
            Ok(shown(*row))
        }
        Told::Unknown => Err(Problem::not_found("rollout")),
        Told::Stale => Err(stale()),
        Told::Refused(refusal) => Err(Problem::conflict(&refusal.to_string())),
    }
}
