//! Live changes, as server-sent events.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::app::App;
use crate::auth::operator::Shown;
use crate::auth::{May, View};
use crate::extract::Params;
use crate::life::Phase;
use crate::live::{MessageId, Pass, StreamMessage, Wish};
use crate::openapi::{Allowed, BadQuery};
use crate::problem::Problem;
use crate::store::change::Topic;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Which changes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamParams {
    /// Only of these topics, with commas: host, event, job, package, group, rollout, assignment. All by default.
    #[param(example = "host,job")]
    topics: Option<String>,
}

/// What changes from now on: which things, and what became of them, for the caller to fetch what
/// it may see. Groups are told to who may see every host. The stream ends with the server, and
/// within 5 s when the token or session does or may something else.
#[utoipa::path(
    operation_id = "follow_changes",
    get, path = "/api/v1/stream", tag = "events",
    params(
        StreamParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last message: what came since follows while it is known, else a reset"),
    ),
    responses(
        (status = 200, description = "Server-sent events; comments keep the connection alive", body = StreamMessage, content_type = "text/event-stream"),
        BadQuery, Allowed,
    ),
    security(("operator" = ["viewer"]))
)]
pub async fn follow(
    May { operator, .. }: May<View>,
    Shown(shown): Shown,
    State(app): State<App>,
    Params(params): Params<StreamParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let topics = topics(params.topics.as_deref())?;
    let life = app.edge.life.clone();
    if life.phase() != Phase::Serving {
        return Err(Problem::unavailable("this server is about to end"));
    }
    // Of an earlier run, or made up: both know nothing of what came since.
    let after = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let after: Option<MessageId> = after.and_then(|id| id.parse().ok());
    let pass = shown.and_then(|token| {
        Some(Pass {
            kind: token.kind()?,
            digest: token.digest(),
            role: operator.role,
            scope: operator.scope.clone(),
        })
    });
    let wish = Wish {
        topics,
        scope: operator.scope,
        after,
        who: operator.by.actor.id,
        pass,
    };
    let most = app.edge.budgets.streams_per_operator;
    let Some(stream) = app.live.stream(wish, most, life) else {
        return Err(Problem::too_many(crate::auth::random()));
    };
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        // nginx would gather what is sent.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value)));
    Ok((headers, Body::new(stream)).into_response())
}

fn topics(text: Option<&str>) -> Result<Vec<Topic>, Problem> {
    let Some(text) = text else {
        return Ok(Topic::ALL.to_vec());
    };
    let topics = text.split(',').map(|word| Topic::parse(word.trim()));
    topics.collect::<Option<_>>().ok_or_else(|| {
        let known = Topic::ALL.map(Topic::as_str).join(", ");
        Problem::malformed(&format!("topics: some of {known} are expected"))
    })
}
