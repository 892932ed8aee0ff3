//! What comes in with a request: JSON bodies, queries and ids in paths, each
//! with its bound and its problem.

pub mod revision;

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bootagent_protocol::MAX_STATUS_BYTES;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use uuid::Uuid;

use crate::app::App;
use crate::problem::Problem;

/// Largest JSON body, in bytes. A list of the most hosts one order may name
/// fits as well as the largest status.
const MAX_JSON_BYTES: usize = MAX_STATUS_BYTES;

/// A JSON body from an operator, said to be JSON.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

/// A JSON body from a host. What it says it is does not matter: a bare 002
/// agent says nothing.
#[derive(Debug)]
pub struct HostBody<T>(pub T);

/// A query whose keys are all known.
#[derive(Debug)]
pub struct Params<T>(pub T);

/// The UUID in a path, in its one spelling. A text that is none names nothing.
#[derive(Debug)]
pub struct PathId(pub String);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|value| value.split(';').next().unwrap_or_default().trim())
            .is_some_and(|value| value.eq_ignore_ascii_case("application/json"));
        if !json {
            let detail = "the header Content-Type: application/json is expected";
            return Err(Problem::unsupported_media_type(detail));
        }
        read_json(request, app.bounds.request_timeout)
            .await
            .map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<App> for HostBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        read_json(request, app.bounds.request_timeout)
            .await
            .map(Self)
    }
}

impl<T: DeserializeOwned> FromRequestParts<App> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(Problem::malformed("the query holds the character U+0000"));
        }
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(rejection) => Err(Problem::malformed(&format!(
                "the query is not valid: {rejection}"
            ))),
        }
    }
}

impl FromRequestParts<App> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Path(text): Path<String> = Path::from_request_parts(parts, app)
            .await
            .map_err(|_| Problem::not_found("thing"))?;
        let id = Uuid::try_parse(&text).map_err(|_| Problem::not_found("thing"))?;
        Ok(Self(id.hyphenated().to_string()))
    }
}

/// Refuses bodies that are packed: a small one could unpack to any size.
pub fn refuse_compressed(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(Problem::unsupported_media_type(
            "a compressed body is not accepted; send it without Content-Encoding",
        )),
        _ => Ok(()),
    }
}

async fn read_json<T: DeserializeOwned>(
    request: Request,
    deadline: Duration,
) -> Result<T, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = read(&parts.headers, body, deadline).await?;
    if holds_escaped_nul(&bytes) {
        return Err(Problem::malformed("the body holds the character U+0000"));
    }
    parse(&bytes)
}

/// The whole body, if it comes in time and is no longer than JSON may be.
pub async fn read(headers: &HeaderMap, body: Body, deadline: Duration) -> Result<Bytes, Problem> {
    refuse_compressed(headers)?;
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    let too_large = || Problem::too_large(MAX_JSON_BYTES as u64);
    if declared.is_some_and(|length| length > MAX_JSON_BYTES as u64) {
        return Err(too_large());
    }
    timeout(deadline, to_bytes(body, MAX_JSON_BYTES))
        .await
        .map_err(|_| Problem::timed_out())?
        .map_err(|error| match is_length_limit(&error) {
            true => too_large(),
            false => Problem::malformed("the body ended before its length"),
        })
}

/// The whole text as one value; a wrong field is named by its path.
fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Problem> {
    // A struct would also be read from a list of its fields' values.
    if json.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::invalid("a JSON object is expected, not a list"));
    }
    // Keeping the path takes as long again as reading, so only a text that is
    // wrong is read with it.
    if let Ok(value) = serde_json::from_slice(json) {
        return Ok(value);
    }
    let mut text = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut text).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner();
        match cause.classify() {
            serde_json::error::Category::Data if path == "." => {
                Problem::invalid(&cause.to_string())
            }
            serde_json::error::Category::Data => Problem::invalid(&format!("{path}: {cause}")),
            _ => not_json(&cause),
        }
    })?;
    text.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::malformed(&format!("the body is no JSON: {error}"))
}

fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

/// Whether JSON text says `\u0000` anywhere. PostgreSQL cannot store it and
/// SQLite cuts at it, so it stops here.
fn holds_escaped_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        rest = &rest[at + 1..];
        if rest.starts_with(b"u0000") {
            return true;
        }
        // The escaped character is over, so that `\\u0000` is a backslash.
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_nul_is_seen_and_an_escaped_backslash_is_not_one() {
        assert!(holds_escaped_nul(br#"{"a":"x\u0000"}"#));
        assert!(holds_escaped_nul(br#"{"a":"\\\u0000"}"#));
        assert!(!holds_escaped_nul(br#"{"a":"\\u0000"}"#));
        assert!(!holds_escaped_nul(br#"{"a":"\u0001"}"#));
        assert!(!holds_escaped_nul(br"\"));
    }
}
