//! Replies: their bytes.

use std::fmt::Write as _;

use serde::Serialize;
use uuid::Uuid;

use super::page;
use super::request::{After, Method};
use super::route::View;
use crate::archive::query::Page;
use crate::archive::summary::Summary;
use crate::engine::BeginError;
use crate::format::text::{self, Labels, Width};
use crate::format::{Numbers, csv, main_part, mtr_json};
use crate::measurements::Status;
use crate::mesh::standing::Standing;
use crate::problem::Problem;
use crate::report::{PartName, Report};
use crate::socket::Rights;
use crate::ticket;
use crate::verdict::{self, Language, Verdict};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// A reply.
#[derive(Debug)]
pub(super) struct Reply {
    status: u16,
    kind: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn new(status: u16, kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            kind,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    fn json(status: u16, value: &impl Serialize) -> Self {
        let mut body = serde_json::to_vec(value).expect("our values are always JSON");
        body.push(b'\n');
        Self::new(status, JSON, body)
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Appends it as it goes over the wire.
    pub(super) fn write(&self, method: Method, after: After, out: &mut Vec<u8>) {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nServer: mtr-prober/{}\r\nContent-Type: {}\r\n{}\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
            self.status,
            reason(self.status),
            env!("CARGO_PKG_VERSION"),
            self.kind,
            match self.status {
                204 => String::new(),
                _ => format!("Content-Length: {}\r\n", self.body.len()),
            }
        );
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if after == After::Close {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        out.extend_from_slice(head.as_bytes());
        if method != Method::Head {
            out.extend_from_slice(&self.body);
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        303 => "See Other",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

/// A problem document.
pub(super) fn problem(problem: &Problem) -> Reply {
    let mut reply = Reply::json(problem.status, problem);
    reply.kind = "application/problem+json";
    if let Some(seconds) = problem.retry_after {
        reply = reply.with("Retry-After", seconds.to_string());
    }
    if let Some(allow) = problem.allow {
        reply = reply.with("Allow", allow);
    }
    if problem.status == 401 {
        reply = reply.with("WWW-Authenticate", "Bearer");
    }
    reply
}

/// An order was accepted.
pub(super) fn accepted(id: Uuid) -> Reply {
    #[derive(Serialize)]
    struct Accepted {
        id: Uuid,
        state: &'static str,
        url: String,
    }
    let url = format!("/api/mtr/{id}");
    let body = Accepted {
        id,
        state: "accepted",
        url: url.clone(),
    };
    Reply::json(202, &body).with("Location", url)
}

/// A person's order was accepted: to its page.
pub(super) fn see(id: Uuid) -> Reply {
    Reply::new(303, TEXT, "").with("Location", format!("/reports/{id}"))
}

/// It was stopped or removed.
pub(super) fn deleted() -> Reply {
    Reply::new(204, TEXT, "")
}

/// Reports in a list.
pub(super) fn list(page: &Page) -> Reply {
    #[derive(Serialize)]
    struct List<'a> {
        items: &'a [Summary],
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<Uuid>,
    }
    let list = List {
        items: &page.items,
        next: page.next,
    };
    Reply::json(200, &list)
}

/// How the mesh stands.
pub(super) fn mesh(standing: &Standing) -> Reply {
    Reply::json(200, standing)
}

/// The page for people.
pub(super) fn home(newest: &Page, mesh: &Standing) -> Reply {
    html(page::home(newest, mesh))
}

fn html(body: String) -> Reply {
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'";
    Reply::new(200, HTML, body).with("Content-Security-Policy", policy)
}

/// Whether we are well.
pub(super) fn health(status: &Status) -> Reply {
    #[derive(Serialize)]
    struct Health<'a> {
        status: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
    }
    let trouble = status.archive.trouble.as_deref();
    let dead = status
        .engine
        .is_none()
        .then_some("the engine does not answer; look at the log");
    let barred = BeginError::NotPermitted.to_string();
    let barred = (status.rights == Rights::Nothing).then_some(barred.as_str());
    let detail = dead.or(barred).or(trouble);
    let (code, word) = match detail {
        None => (200, "ok"),
        Some(_) => (503, "failing"),
    };
    let health = Health {
        status: word,
        detail,
    };
    Reply::json(code, &health)
}

/// Numbers for Prometheus.
pub(super) fn metrics(text: String) -> Reply {
    Reply::new(200, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// A report as it is to be shown.
pub(super) fn report(report: &Report, view: View) -> Reply {
    let part = main_part(report);
    let numbers = Numbers::Own;
    let table = |width| {
        let start = part.map(|it| it.started_at).or(report.started_at);
        text::table(&report.node, start, part, numbers, width, Labels::Hidden)
    };
    match view {
        View::Text => Reply::new(200, TEXT, table(Width::Narrow)),
        View::Wide => Reply::new(200, TEXT, table(Width::Wide)),
        View::Csv => Reply::new(
            200,
            "text/csv; charset=utf-8",
            csv::table(report, part, numbers),
        ),
        View::MtrJson => Reply::new(200, JSON, mtr_json::document(report, part, numbers)),
        View::Json => Reply::json(200, &document(report)),
        View::Ticket(language) => Reply::new(
            200,
            TEXT,
            ticket::ticket(report, report.both_ends(), language),
        ),
        View::Page => html(page::report(report, found(report).as_ref())),
    }
}

/// A report and what it means.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<Said>,
}

#[derive(Serialize)]
struct Said {
    zh: String,
    en: String,
    found: Verdict,
}

fn document(report: &Report) -> Document<'_> {
    let verdict = found(report).map(|found| Said {
        zh: found.sentence(Language::Chinese),
        en: found.sentence(Language::English),
        found,
    });
    Document { report, verdict }
}

fn found(report: &Report) -> Option<Verdict> {
    let part = main_part(report)?;
    let baseline = report.parts.iter().find(|it| it.name == PartName::Before);
    Some(verdict::decide(
        part,
        baseline,
        &report.faults,
        report.both_ends(),
    ))
}
