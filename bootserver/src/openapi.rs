//! The OpenAPI document: made from the handlers, committed as `openapi.json`.
//!
//! The types of the hosts' protocol live in a crate that knows nothing of
//! OpenAPI, so their schemas are written here; a test holds them against the
//! golden messages.

mod schema;

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{IntoResponses, Modify, OpenApi, PartialSchema, ToSchema};

use crate::problem::ProblemDocument;

pub use schema::{
    AgentReportSchema, EventSchema, JobResultSchema, JobSchema, LimitsReportSchema, LimitsSchema,
    RegisterReplySchema, RegisterRequestSchema, StatusReplySchema, StatusRequestSchema,
};

/// Answers any route can give.
#[derive(IntoResponses)]
pub enum Busy {
    /// The method is not one of this path
    #[response(status = 405, content_type = "application/problem+json")]
    Method(#[to_schema] ProblemDocument),
    /// The server failed; its log says how
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(#[to_schema] ProblemDocument),
    /// Later; Retry-After says when
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] ProblemDocument),
}

/// Answers of routes for hosts.
#[derive(IntoResponses)]
pub enum Guarded {
    /// No token, or none that is in force here
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] ProblemDocument),
    /// The method is not one of this path
    #[response(status = 405, content_type = "application/problem+json")]
    Method(#[to_schema] ProblemDocument),
    /// More than this kind of request has room for; Retry-After says when
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(#[to_schema] ProblemDocument),
    /// The server failed; its log says how
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(#[to_schema] ProblemDocument),
    /// Later; Retry-After says when
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] ProblemDocument),
}

/// Answers of routes for operators.
#[derive(IntoResponses)]
pub enum Allowed {
    /// No token, or none that is in force here
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] ProblemDocument),
    /// The token's role or scope does not allow this
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] ProblemDocument),
    /// The method is not one of this path
    #[response(status = 405, content_type = "application/problem+json")]
    Method(#[to_schema] ProblemDocument),
    /// More than this kind of request has room for; Retry-After says when
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(#[to_schema] ProblemDocument),
    /// The server failed; its log says how
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(#[to_schema] ProblemDocument),
    /// Later; Retry-After says when
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] ProblemDocument),
}

/// Answers of routes with a query.
#[derive(IntoResponses)]
pub enum BadQuery {
    /// The query has an unknown key or a value that cannot be
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] ProblemDocument),
}

/// Answers of routes with a body.
#[derive(IntoResponses)]
pub enum BadBody {
    /// Not well-formed
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(#[to_schema] ProblemDocument),
    /// The body did not arrive in time
    #[response(status = 408, content_type = "application/problem+json")]
    TimedOut(#[to_schema] ProblemDocument),
    /// Too large
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] ProblemDocument),
    /// Compressed, or of the wrong type
    #[response(status = 415, content_type = "application/problem+json")]
    Unsupported(#[to_schema] ProblemDocument),
    /// Well-formed, but a value cannot be
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(#[to_schema] ProblemDocument),
}

/// Answers of routes that name one thing.
#[derive(IntoResponses)]
pub enum Missing {
    /// There is no such thing
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] ProblemDocument),
}

/// Answers of routes that can come at the wrong time.
#[derive(IntoResponses)]
pub enum Conflicting {
    /// It cannot be as things are
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(#[to_schema] ProblemDocument),
}

/// Answers of routes that change what the caller has seen.
#[derive(IntoResponses)]
pub enum Precondition {
    /// If-Match names another revision: somebody else changed it meanwhile
    #[response(status = 412, content_type = "application/problem+json")]
    Changed(#[to_schema] ProblemDocument),
}

/// Answers of routes that want to know what the caller has seen.
#[derive(IntoResponses)]
pub enum Seen {
    /// If-Match names another revision: somebody else changed it meanwhile
    #[response(status = 412, content_type = "application/problem+json")]
    Changed(#[to_schema] ProblemDocument),
    /// If-Match is missing
    #[response(status = 428, content_type = "application/problem+json")]
    Required(#[to_schema] ProblemDocument),
}

/// Answers of routes that look at a password.
#[derive(IntoResponses)]
pub enum SignInRefused {
    /// The name or the password is wrong
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] ProblemDocument),
    /// Tried too often; Retry-After says when one more is allowed
    #[response(status = 429, content_type = "application/problem+json")]
    TooMany(#[to_schema] ProblemDocument),
}

/// Answers of routes that take a range.
#[derive(IntoResponses)]
pub enum Unsatisfiable {
    /// No byte of the range is there
    #[response(status = 416, content_type = "application/problem+json")]
    Range(#[to_schema] ProblemDocument),
}

/// Answers of routes that fill the disk.
#[derive(IntoResponses)]
pub enum Full {
    /// The server's disk is full
    #[response(status = 507, content_type = "application/problem+json")]
    Full(#[to_schema] ProblemDocument),
}

/// What the routes do not say themselves.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "bootserver",
        description = "The control platform of BootAgent. Times are unix milliseconds and durations \
            seconds unless a field says otherwise. Lists are paged: give `next` back as `cursor`. \
            Errors are problem documents (RFC 9457).",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "agent", description = "What hosts call"),
        (name = "enrolment tokens", description = "What lets hosts register"),
        (name = "hosts", description = "What the fleet is made of"),
        (name = "groups", description = "Hosts that belong together"),
        (name = "packages", description = "What hosts install"),
        (name = "jobs", description = "What hosts are ordered to do"),
        (name = "events", description = "What happened on hosts"),
        (name = "session", description = "Signing in and out"),
        (name = "users", description = "The people who operate"),
        (name = "API tokens", description = "What programs show"),
        (name = "audit", description = "Who did what"),
        (name = "health", description = "For load balancers")
    ),
    modifiers(&Tokens)
)]
pub struct Base;

struct Tokens;

impl Modify for Tokens {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = |description: &str| {
            let scheme = HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some(description));
            SecurityScheme::Http(scheme.build())
        };
        let components = openapi.components.get_or_insert_default();
        for (name, description) in [
            (
                "operator",
                "An API token or a session's. The requirement names the least role (viewer, operator, admin), and \
                 `fleet` where it must not be restricted to some hosts",
            ),
            ("enrolment", "An enrolment token"),
            ("host", "The secret a host got when it registered"),
        ] {
            components.add_security_scheme(name, bearer(description));
        }
    }
}

/// The document as it is committed.
pub fn document() -> String {
    let mut openapi = crate::router::openapi();
    share_problem(&mut openapi);
    let mut text = openapi
        .to_pretty_json()
        .expect("the document holds strings, lists and maps alone");
    text.push('\n');
    text
}

/// Every problem has one schema; the derive writes it out each time.
fn share_problem(openapi: &mut utoipa::openapi::OpenApi) {
    let name = ProblemDocument::name();
    let components = openapi.components.get_or_insert_default();
    components
        .schemas
        .insert(name.to_string(), ProblemDocument::schema());
    for item in openapi.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.patch,
            &mut item.post,
            &mut item.delete,
        ];
        for response in operations
            .into_iter()
            .flatten()
            .flat_map(|operation| operation.responses.responses.values_mut())
        {
            if let RefOr::T(response) = response
                && let Some(RefOr::T(content)) =
                    response.content.get_mut("application/problem+json")
            {
                content.schema = Some(RefOr::Ref(Ref::from_schema_name(name.as_ref())));
            }
        }
    }
}
