//! GET /api/v1/exports/...: every row of a list in one answer, as NDJSON or CSV.
//!
//! The query is that of the list. Rows are read page by page while they are sent, so
//! an export holds no transaction and little memory; rows that move meanwhile may be
//! in it twice or not at all. The one rule: whatever ends it early breaks the
//! connection.

mod sheet;
mod stream;

use axum::Extension;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::audit::{AuditParams, AuditView};
use super::events::{ArrivalParams, EventView};
use super::host_query::HostParams;
use super::hosts::HostView;
use super::jobs::{JobParams, JobView};
use super::list;
use crate::app::App;
use crate::auth::{Administer, May, View};
use crate::budget::Place;
use crate::extract::Params;
use crate::openapi::{Allowed, BadQuery};
use crate::problem::Problem;
use crate::store::audit::AuditQuery;
use crate::store::event::EventQuery;
use crate::store::host::HostQuery;
use crate::store::job::JobQuery;
use crate::store::page::{Count, Limit, MAX_LIMIT, Page};
use sheet::{Format, Sheet};
use stream::{GivenUp, Sink};

/// Rows read at once where one may be large: a job holds what its host said.
const LARGE_ROWS: u32 = 100;

const HOST_COLUMNS: [&str; 13] = [
    "agentsn",
    "hostname",
    "display_name",
    "state",
    "since",
    "seen",
    "tags",
    "version",
    "os",
    "arch",
    "ip",
    "created",
    "registered",
];
const EVENT_COLUMNS: [&str; 12] = [
    "id",
    "agentsn",
    "received",
    "timestamp",
    "category",
    "subject",
    "version",
    "message",
    "tail",
    "source",
    "boot_id",
    "seq",
];
const JOB_COLUMNS: [&str; 17] = [
    "id",
    "agentsn",
    "action",
    "name",
    "version",
    "package",
    "state",
    "created",
    "expires",
    "sent",
    "accepted",
    "offline_since",
    "finished",
    "errcode",
    "message",
    "late",
    "result",
];
const AUDIT_COLUMNS: [&str; 11] = [
    "id",
    "at",
    "actor_kind",
    "actor",
    "actor_name",
    "action",
    "kind",
    "target",
    "detail",
    "request",
    "address",
];

/// How rows are written.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it documents what the extractor below reads")]
pub struct FormatParams {
    /// `ndjson` or `csv`; without it, what Accept asks for first, else `ndjson`.
    format: Option<String>,
}

/// The query of a list, and how its rows shall be written.
#[derive(Debug)]
pub struct Export<P> {
    format: Format,
    params: P,
}

impl<P: DeserializeOwned + Send> FromRequestParts<App> for Export<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let mut format = None;
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "format" => format = Some(Format::parse(value).ok_or_else(no_format)?),
                "limit" | "total" => {
                    return Err(Problem::malformed(
                        "limit and total make a page; an export has every row",
                    ));
                }
                _ => rest.push(pair),
            }
        }
        let format = format.unwrap_or_else(|| {
            let accept = parts.headers.get(header::ACCEPT);
            let accept = accept.and_then(|value| value.to_str().ok());
            Format::accepted(accept.unwrap_or_default())
        });
        let path = parts.uri.path();
        let uri = format!("{path}?{}", rest.join("&")).parse::<Uri>();
        parts.uri = uri.map_err(|_| Problem::malformed("the query is not valid"))?;
        let Params(params) = Params::from_request_parts(parts, app).await?;
        Ok(Self { format, params })
    }
}

fn no_format() -> Problem {
    Problem::malformed("format: ndjson or csv is expected")
}

/// All hosts of a query, in its order. It is that of the list, without `limit` and `total`.
#[utoipa::path(
    operation_id = "export_hosts",
    get, path = "/api/v1/exports/hosts", tag = "hosts", params(HostParams, FormatParams),
    responses(
        (status = 200, description = "Every row", content(
            (String = "application/x-ndjson"), (String = "text/csv")
        )),
        BadQuery, Allowed
    ),
    security(("operator" = ["viewer"]))
)]
pub async fn hosts(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    Extension(place): Extension<Place>,
    Export { format, params }: Export<HostParams>,
) -> Result<Response, Problem> {
    let source = Source::Hosts(Box::new(params.query(operator.scope)?));
    export(
        app,
        place,
        "hosts",
        Sheet::new(format, &HOST_COLUMNS),
        source,
    )
    .await
}

/// All events of a query, in order of arrival.
#[utoipa::path(
    operation_id = "export_events",
    get, path = "/api/v1/exports/events", tag = "events", params(ArrivalParams, FormatParams),
    responses(
        (status = 200, description = "Every row", content(
            (String = "application/x-ndjson"), (String = "text/csv")
        )),
        BadQuery, Allowed
    ),
    security(("operator" = ["viewer"]))
)]
pub async fn events(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    Extension(place): Extension<Place>,
    Export { format, params }: Export<ArrivalParams>,
) -> Result<Response, Problem> {
    let source = Source::Events(params.events(operator.scope)?);
    export(
        app,
        place,
        "events",
        Sheet::new(format, &EVENT_COLUMNS),
        source,
    )
    .await
}

/// All jobs of a query, newest first. In CSV without their orders as hosts get them.
#[utoipa::path(
    operation_id = "export_jobs",
    get, path = "/api/v1/exports/jobs", tag = "jobs", params(JobParams, FormatParams),
    responses(
        (status = 200, description = "Every row", content(
            (String = "application/x-ndjson"), (String = "text/csv")
        )),
        BadQuery, Allowed
    ),
    security(("operator" = ["viewer"]))
)]
pub async fn jobs(
    May { operator, .. }: May<View>,
    State(app): State<App>,
    Extension(place): Extension<Place>,
    Export { format, params }: Export<JobParams>,
) -> Result<Response, Problem> {
    let source = Source::Jobs(params.query(operator.scope)?);
    export(app, place, "jobs", Sheet::new(format, &JOB_COLUMNS), source).await
}

/// Everything that was done, of a query, newest first.
#[utoipa::path(
    operation_id = "export_audit",
    get, path = "/api/v1/exports/audit", tag = "audit", params(AuditParams, FormatParams),
    responses(
        (status = 200, description = "Every row", content(
            (String = "application/x-ndjson"), (String = "text/csv")
        )),
        BadQuery, Allowed
    ),
    security(("operator" = ["admin", "fleet"]))
)]
pub async fn audit(
    _: May<Administer>,
    State(app): State<App>,
    Extension(place): Extension<Place>,
    Export { format, params }: Export<AuditParams>,
) -> Result<Response, Problem> {
    let source = Source::Audit(params.query()?);
    export(
        app,
        place,
        "audit",
        Sheet::new(format, &AUDIT_COLUMNS),
        source,
    )
    .await
}

/// What is read, and how far it is.
enum Source {
    Hosts(Box<HostQuery>),
    Events(EventQuery),
    Jobs(JobQuery),
    Audit(AuditQuery),
}

/// Whether more follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    More,
    Nothing,
}

impl Source {
    /// Writes the next rows.
    async fn read(&mut self, app: &App, sheet: &mut Sheet) -> Result<Rest, Problem> {
        let (small, large) = (limit(MAX_LIMIT), limit(LARGE_ROWS));
        match self {
            Self::Hosts(query) => {
                (query.limit, query.count) = (small, Count::Not);
                let page = app.store.hosts(query).await?.map(HostView::from);
                query.after = list::cursor(page.next.as_deref())?;
                Ok(written(sheet, &page))
            }
            Self::Events(query) => {
                (query.limit, query.count) = (large, Count::Not);
                let page = app.store.events(query).await?.map(EventView::from);
                query.after = list::cursor(page.next.as_deref())?;
                Ok(written(sheet, &page))
            }
            Self::Jobs(query) => {
                (query.limit, query.count) = (large, Count::Not);
                let page = app.store.jobs(query).await?.map(JobView::from);
                query.after.clone_from(&page.next);
                Ok(written(sheet, &page))
            }
            Self::Audit(query) => {
                query.limit = large;
                let page = app.store.audit(query).await?.map(AuditView::from);
                query.after = list::cursor(page.next.as_deref())?;
                Ok(written(sheet, &page))
            }
        }
    }
}

fn limit(rows: u32) -> Limit {
    Limit::new(rows).expect("it is no larger than the largest")
}

fn written<T: serde::Serialize>(sheet: &mut Sheet, page: &Page<T>) -> Rest {
    for row in &page.items {
        sheet.push(row);
    }
    match page.next {
        Some(_) => Rest::More,
        None => Rest::Nothing,
    }
}

/// Reads the first rows, so that a refusal has its status, and sends the others as
/// they are read.
async fn export(
    app: App,
    place: Place,
    name: &'static str,
    mut sheet: Sheet,
    mut source: Source,
) -> Result<Response, Problem> {
    let rest = source.read(&app, &mut sheet).await?;
    let file = format!(
        "attachment; filename=\"{name}.{}\"",
        sheet.format().extension()
    );
    let file = HeaderValue::from_str(&file).expect("letters and quotes");
    let content_type = sheet.format().content_type();
    let (sink, body) = stream::body(app.bounds.request_timeout);
    tokio::spawn(async move {
        if send(&app, sink, sheet, source, rest).await.is_err() {
            tracing::warn!(
                name,
                "an export was given up; nobody took it, or it could not be read"
            );
        }
        drop(place);
    });
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_DISPOSITION, file),
    ];
    Ok((headers, body).into_response())
}

async fn send(
    app: &App,
    sink: Sink,
    mut sheet: Sheet,
    mut source: Source,
    mut rest: Rest,
) -> Result<(), GivenUp> {
    loop {
        sink.send(sheet.take()).await?;
        if rest == Rest::Nothing {
            return sink.end().await;
        }
        // Why it failed was logged where it did.
        rest = source.read(app, &mut sheet).await.map_err(|_| GivenUp)?;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_sheet_has_a_column_for_each_field_of_its_rows() {
        let document = crate::openapi::document();
        let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
        let job: Vec<&str> = JOB_COLUMNS.into_iter().chain(["body"]).collect();
        for (view, columns) in [
            ("HostView", &HOST_COLUMNS[..]),
            ("EventView", &EVENT_COLUMNS[..]),
            ("JobView", &job[..]),
            ("AuditView", &AUDIT_COLUMNS[..]),
        ] {
            let fields = &document["components"]["schemas"][view]["properties"];
            let fields: BTreeSet<&str> = fields
                .as_object()
                .expect("a schema")
                .keys()
                .map(String::as_str)
                .collect();
            assert_eq!(fields, columns.iter().copied().collect(), "{view}");
        }
    }
}
