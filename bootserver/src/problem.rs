//! Errors as RFC 9457 problem documents, made by constructors.
//!
//! The one rule: a handler fails with one of these and with nothing else, and
//! what a database or the disk said goes to the log, never to the caller.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::blob::BlobError;
use crate::store::{Failure, StoreError};

/// Seconds after which a busy server is worth another try.
const RETRY_AFTER_SECONDS: u64 = 10;

/// The body of every answer from 400 on.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ProblemDocument {
    /// Which kind of problem, for programs.
    #[serde(rename = "type")]
    #[schema(example = "urn:bootagent:problem:not-found")]
    pub kind: String,
    /// The kind for a person.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time and what helps.
    pub detail: String,
    /// The single things that are wrong, when there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// By which the server's log tells more; also in the header X-Request-Id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// An answer that is a problem.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Set when the database is to blame.
    store: Option<Failure>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: &str) -> Self {
        let detail = detail.to_owned();
        Self {
            status,
            kind,
            title,
            detail,
            errors: Vec::new(),
            headers: Vec::new(),
            store: None,
        }
    }

    /// 400: this is no JSON, no valid query, or no HTTP we understand.
    pub fn malformed(detail: &str) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "malformed",
            "Malformed request",
            detail,
        )
    }

    /// 401: no token, or none that is in force here.
    pub fn unauthorized(detail: &str) -> Self {
        let title = "No valid token";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", title, detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 403: who calls is known, and may not do this.
    pub fn forbidden(detail: &str) -> Self {
        let title = "Not allowed";
        Self::new(StatusCode::FORBIDDEN, "forbidden", title, detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(what: &str) -> Self {
        let detail = format!("there is no such {what}");
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", &detail)
    }

    /// 404: some of the things that were named do not exist.
    pub fn unknown_hosts(agentsns: Vec<String>) -> Self {
        let detail = format!(
            "{} of the hosts are unknown; nothing was started",
            agentsns.len()
        );
        let mut problem = Self::new(
            StatusCode::NOT_FOUND,
            "unknown-hosts",
            "Unknown hosts",
            &detail,
        );
        problem.errors = agentsns;
        problem
    }

    /// 405: the path is right, the method is not.
    pub fn method_not_allowed() -> Self {
        let title = "Method not allowed";
        let detail = "the Allow header names the methods this path has";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            title,
            detail,
        )
    }

    /// 408: the request took too long to arrive.
    pub fn timed_out() -> Self {
        let detail = "the request did not arrive in time";
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "timed-out",
            "Timed out",
            detail,
        )
    }

    /// 409: it cannot be as things are.
    pub fn conflict(detail: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", "Conflict", detail)
    }

    /// 412: it is not any more what the caller saw.
    pub fn precondition_failed(detail: &str) -> Self {
        let status = StatusCode::PRECONDITION_FAILED;
        Self::new(status, "changed-meanwhile", "Changed meanwhile", detail)
    }

    /// 413: larger than this path takes.
    pub fn too_large(max_bytes: u64) -> Self {
        let detail = format!("at most {max_bytes} bytes are accepted here");
        let title = "Too large";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", title, &detail)
    }

    /// 415: not in a form this path reads.
    pub fn unsupported_media_type(detail: &str) -> Self {
        let title = "Unsupported media type";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Self::new(status, "unsupported-media-type", title, detail)
    }

    /// 416: no byte of that range is there.
    pub fn range_not_satisfiable(length: u64) -> Self {
        let detail = format!("the file has {length} bytes");
        let title = "Range not satisfiable";
        let problem = Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "range-not-satisfiable",
            title,
            &detail,
        );
        match HeaderValue::from_str(&format!("bytes */{length}")) {
            Ok(value) => problem.with_header(header::CONTENT_RANGE, value),
            Err(_) => problem,
        }
    }

    /// 422: well-formed, but a value cannot be.
    pub fn invalid(detail: &str) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid",
            "Invalid value",
            detail,
        )
    }

    /// 422 with everything that is wrong.
    pub fn invalid_list(detail: &str, errors: Vec<String>) -> Self {
        let mut problem = Self::invalid(detail);
        problem.errors = errors;
        problem
    }

    /// 428: a change must say of what.
    pub fn precondition_required() -> Self {
        let detail = "the header If-Match is expected: the ETag of what you have seen, or *";
        let status = StatusCode::PRECONDITION_REQUIRED;
        Self::new(status, "revision-required", "Revision required", detail)
    }

    /// 429: passwords were tried too often; after so long one more may be.
    pub fn too_many_attempts(millis: i64) -> Self {
        let seconds = millis.max(1).unsigned_abs().div_ceil(1000);
        let detail = format!("too many attempts to sign in; wait {seconds} s");
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, "too-many-attempts", "Too many attempts", &detail)
            .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// 500: our fault, and again the next time.
    pub fn internal() -> Self {
        let detail = "the server's log says what went wrong";
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "internal", "Internal error", detail)
    }

    /// 503: later, and not all at the same time.
    pub fn unavailable(detail: &str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Unavailable",
            detail,
        )
        .with_retry_after(getrandom::u32().unwrap_or_default())
    }

    /// 503: as the others do just now, and not all at the same time later;
    /// `chance` spreads them.
    pub fn busy(chance: u32) -> Self {
        let detail = "too many requests of this kind are being answered";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "unavailable", "Unavailable", detail).with_retry_after(chance)
    }

    /// 429: more often than this kind of request may come; `chance` spreads
    /// those who come again.
    pub fn too_many(chance: u32) -> Self {
        let detail = "too many requests of this kind come in";
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::new(status, "too-many-requests", "Too many requests", detail).with_retry_after(chance)
    }

    /// 507: the server's disk is full.
    pub fn insufficient_storage(detail: &str) -> Self {
        let title = "Insufficient storage";
        Self::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "insufficient-storage",
            title,
            detail,
        )
    }

    /// The same, of a request of which so much was done before.
    pub fn after(mut self, done: usize, all: usize) -> Self {
        if done > 0 {
            let before = format!("; before that, {done} of {all} hosts were done");
            self.detail.push_str(&before);
        }
        self
    }

    fn with_retry_after(self, chance: u32) -> Self {
        let seconds = RETRY_AFTER_SECONDS + u64::from(chance) % (2 * RETRY_AFTER_SECONDS);
        self.with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = chain(&error), "the store failed");
        let mut problem = match error.failure {
            Failure::Unavailable => Self::unavailable("the database does not answer"),
            Failure::Rejected => Self::internal(),
        };
        problem.store = Some(error.failure);
        problem
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        if error.is_disk_full() {
            tracing::error!(error = chain(&error), "the bytes of packages have no room");
            let detail = "the disk is full; delete old packages";
            return Self::insufficient_storage(detail);
        }
        match error {
            BlobError::Store(error) => error.into(),
            BlobError::File { .. } | BlobError::Missing { .. } => {
                tracing::error!(error = chain(&error), "the bytes of packages failed");
                Self::internal()
            }
        }
    }
}

/// An error and its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let document = ProblemDocument {
            kind: format!("urn:bootagent:problem:{}", self.kind),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            errors: self.errors,
            request_id: crate::request_id::current(),
        };
        let mut response = (self.status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        if let Some(failure) = self.store {
            response.extensions_mut().insert(failure);
        }
        response
    }
}
