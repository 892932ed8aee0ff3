//! GET /packages/NAME/FILE: what a job's `url` names.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use crate::app::App;
use crate::auth::Reader;
use crate::openapi::{Allowed, Missing, Unsatisfiable};
use crate::problem::Problem;
use crate::range::{Wanted, wanted};
use crate::store::package::PackageRow;

/// The bytes of a package. HEAD gives the headers alone.
#[utoipa::path(
    operation_id = "download_package",
    get, path = "/packages/{name}/{file}", tag = "packages",
    params(
        ("name" = String, Path, description = "The agent"),
        ("file" = String, Path, description = "The file"),
        ("range" = Option<String>, Header, description = "One range, such as bytes=100-"),
        ("if-range" = Option<String>, Header, description = "The ETag the range belongs to"),
        ("if-none-match" = Option<String>, Header, description = "ETags that need no body")
    ),
    responses(
        (status = 200, description = "The whole file", content_type = "application/octet-stream"),
        (status = 206, description = "A part of it", content_type = "application/octet-stream"),
        (status = 304, description = "If-None-Match names this file"),
        Missing, Unsatisfiable, Allowed
    ),
    security(("host" = []), ("operator" = ["viewer"]))
)]
pub async fn download(
    _: Reader,
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // A path that is no text names nothing.
    let Ok(Path((name, file))) = path else {
        return Err(Problem::not_found("package"));
    };
    let file = format!("{name}/{file}");
    if file.contains('\0') {
        return Err(Problem::not_found("package"));
    }
    let package = app.store.package_by_file(&file).await?;
    let package = package.ok_or_else(|| Problem::not_found("package"))?;
    let etag = format!("\"{}\"", package.sha256);
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if header(header::IF_NONE_MATCH).is_some_and(|tags| none_match_names(tags, &etag)) {
        return reply(StatusCode::NOT_MODIFIED, &etag, Body::empty());
    }
    let length = u64::try_from(package.size).unwrap_or_default();
    match wanted(
        header(header::RANGE),
        header(header::IF_RANGE),
        &etag,
        length,
    ) {
        Wanted::Whole => send(&app, &package, &etag, 0, length).await,
        Wanted::Part { start, end } => {
            let mut response = send(&app, &package, &etag, start, end).await?;
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let last = end.saturating_sub(1);
            insert(
                &mut response,
                header::CONTENT_RANGE,
                &format!("bytes {start}-{last}/{length}"),
            )?;
            Ok(response)
        }
        Wanted::NotSatisfiable => Err(Problem::range_not_satisfiable(length)),
    }
}

async fn send(
    app: &App,
    package: &PackageRow,
    etag: &str,
    start: u64,
    end: u64,
) -> Result<Response, Problem> {
    let body = app.blobs.body(&package.sha256, start, end).await;
    let body = body.inspect_err(|_| tracing::error!(file = package.file, "its bytes failed"))?;
    let length = end - start;
    let mut response = reply(StatusCode::OK, etag, body)?;
    insert(&mut response, header::CONTENT_LENGTH, &length.to_string())?;
    insert(
        &mut response,
        header::CONTENT_TYPE,
        "application/octet-stream",
    )?;
    Ok(response)
}

fn reply(status: StatusCode, etag: &str, body: Body) -> Result<Response, Problem> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    insert(&mut response, header::ETAG, etag)?;
    insert(&mut response, header::ACCEPT_RANGES, "bytes")?;
    // The same path may hold other bytes once the package was deleted and
    // uploaded again, and it is not for shared caches.
    insert(&mut response, header::CACHE_CONTROL, "private, no-cache")?;
    Ok(response)
}

fn insert(response: &mut Response, name: header::HeaderName, value: &str) -> Result<(), Problem> {
    let value = HeaderValue::from_str(value).map_err(|_| Problem::internal())?;
    response.headers_mut().insert(name, value);
    Ok(())
}

fn none_match_names(tags: &str, etag: &str) -> bool {
    let mut tags = tags
        .split(',')
        .map(|tag| tag.trim().trim_start_matches("W/"));
    tags.any(|tag| tag == "*" || tag == etag)
}
