//! What a request asks for.
//!
//! The one rule: a parameter nobody knows is a problem, not a silence.

use std::time::Duration;

use uuid::Uuid;

use super::request::{Method, Request};
use crate::archive::query::{MAX_LIMIT, Query};
use crate::order::{self, Order};
use crate::problem::Problem;
use crate::verdict::Language;

/// Longest wait for an end, in seconds.
const MAX_WAIT: u64 = 60;
/// Reports of a page where nothing is said.
const LIMIT: usize = 100;
/// Reports the page for people shows.
const NEWEST: usize = 20;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Action {
    /// Measure; a person is then led to the page of it.
    Order(Box<Order>, Answered),
    /// Show a report.
    Look(Uuid, Duration, View),
    /// Stop or remove one.
    Delete(Uuid),
    /// List reports.
    List(Box<Query>, Answered),
    /// Say how the mesh stands.
    Mesh,
    /// Say whether we are well.
    Health,
    /// Say the numbers.
    Metrics,
}

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    ToProgram,
    ToPerson,
}

/// How a report is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Text,
    Wide,
    Csv,
    MtrJson,
    Json,
    Ticket(Language),
    /// For a person, with a ticket in it.
    Page,
}

/// Reads what is asked for.
pub(super) fn route(request: &Request) -> Result<Action, Problem> {
    let all = &request.parameters;
    let only_get = || match request.method {
        Method::Get | Method::Head => Ok(()),
        Method::Delete | Method::Other => Err(Problem::method("GET, HEAD")),
    };
    // HEAD promises to change nothing.
    let order = || match request.method {
        Method::Get => Ok(Box::new(Order::parse(all)?)),
        _ => Err(Problem::method("GET")),
    };
    match request.path.as_str() {
        "/api/mtr" => Ok(Action::Order(order()?, Answered::ToProgram)),
        "/measure" => Ok(Action::Order(order()?, Answered::ToPerson)),
        "/api/reports" => {
            only_get()?;
            Ok(Action::List(Box::new(query(all)?), Answered::ToProgram))
        }
        "/" => {
            only_get()?;
            let query = Query {
                limit: NEWEST,
                ..Query::default()
            };
            Ok(Action::List(Box::new(query), Answered::ToPerson))
        }
        "/api/mesh" => only_get().map(|()| Action::Mesh),
        "/healthz" => only_get().map(|()| Action::Health),
        "/metrics" => only_get().map(|()| Action::Metrics),
        path => {
            let nothing = || {
                let detail = "there are /api/mtr, /api/mtr/ID, /api/reports, /api/mesh, /healthz, /metrics and /";
                Problem::new(404, "Unknown", detail)
            };
            let (id, is_page) = match path.strip_prefix("/api/mtr/") {
                Some(id) => (id, false),
                None => (path.strip_prefix("/reports/").ok_or_else(nothing)?, true),
            };
            let unknown = |_| {
                Problem::new(
                    404,
                    "Unknown",
                    "an id looks like 019a8b1c-0000-7000-8000-000000000000",
                )
            };
            let id = Uuid::try_parse(id).map_err(unknown)?;
            match request.method {
                Method::Delete if !is_page => Ok(Action::Delete(id)),
                Method::Get | Method::Head if is_page => {
                    Ok(Action::Look(id, Duration::ZERO, View::Page))
                }
                Method::Get | Method::Head => {
                    let (wait, view) = look(all)?;
                    Ok(Action::Look(id, wait, view))
                }
                Method::Delete => Err(Problem::method("GET, HEAD")),
                Method::Other => Err(Problem::method("GET, HEAD, DELETE")),
            }
        }
    }
}

fn look(parameters: &[(String, String)]) -> Result<(Duration, View), Problem> {
    let (mut wait, mut view, mut language) = (Duration::ZERO, View::Json, Language::English);
    for (name, value) in parameters {
        let wrong = |expected: &str| {
            Problem::parameter(name, format!("`{name}` is {expected}, not {value:?}"))
        };
        match name.as_str() {
            "wait" => {
                let seconds = value.parse().ok().filter(|it| *it <= MAX_WAIT);
                wait = Duration::from_secs(seconds.ok_or_else(|| wrong("0 to 60 seconds"))?);
            }
            "format" => {
                view = match value.as_str() {
                    "text" => View::Text,
                    "wide" => View::Wide,
                    "csv" => View::Csv,
                    "mtr-json" => View::MtrJson,
                    "json" => View::Json,
                    "ticket" => View::Ticket(Language::English),
                    _ => return Err(wrong("text, wide, csv, mtr-json, json or ticket")),
                }
            }
            "lang" => {
                language = match value.as_str() {
                    "zh" => Language::Chinese,
                    "en" => Language::English,
                    _ => return Err(wrong("zh or en")),
                }
            }
            _ => return Err(order::unknown(name, "wait, format, lang")),
        }
    }
    if let View::Ticket(_) = view {
        view = View::Ticket(language);
    }
    Ok((wait, view))
}

fn query(parameters: &[(String, String)]) -> Result<Query, Problem> {
    let mut query = Query {
        limit: LIMIT,
        ..Query::default()
    };
    for (name, value) in parameters {
        let wrong = |expected: &str| {
            Problem::parameter(name, format!("`{name}` is {expected}, not {value:?}"))
        };
        let date = || {
            value
                .parse()
                .map_err(|_| wrong("a day in UTC, as 2026-11-22"))
        };
        match name.as_str() {
            "date" => {
                query.from = Some(date()?);
                query.to = query.from;
            }
            "from" => query.from = Some(date()?),
            "to" => query.to = Some(date()?),
            "target" => query.target = Some(value.clone()),
            "cause" => {
                query.cause = Some(
                    order::cause(value)
                        .ok_or_else(|| wrong("api, ticket, trigger, command or mesh"))?,
                );
            }
            "loss_min" => {
                let percent = value.parse().ok().filter(|it| (0.0..=100.0).contains(it));
                query.loss_min = Some(percent.ok_or_else(|| wrong("0 to 100 percent"))?);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|it| (1..=MAX_LIMIT).contains(it));
                query.limit = limit.ok_or_else(|| wrong("1 to 1000 reports"))?;
            }
            "cursor" => {
                let cursor = Uuid::try_parse(value);
                query.cursor = Some(cursor.map_err(|_| wrong("`next` of the page before"))?);
            }
            _ => {
                let known = "date, from, to, target, cause, loss_min, limit, cursor";
                return Err(order::unknown(name, known));
            }
        }
    }
    let named = |wanted: &str| parameters.iter().any(|(name, _)| name == wanted);
    if named("date") && (named("from") || named("to")) {
        let detail = "say `date`, or `from` and `to`";
        return Err(Problem::parameter("date", detail));
    }
    Ok(query)
}
