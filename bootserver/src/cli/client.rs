//! A request to the server and its answer.
//!
//! One connection per request; `connection` makes it. What comes back has a
//! bound, and so has every wait: for the connection, for the answer, and for each
//! next part of it. The one rule: what is asked once more because a connection
//! broke is nothing that would then be done twice.

mod connection;
mod file_body;
mod follow;

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use uuid::Uuid;

use super::failure::{Failure, Refusal};
use super::place::{Place, Server, bracketed};
use file_body::FileBody;

/// Until an answer begins: the server ends what takes longer.
const ANSWER: Duration = Duration::from_secs(90);
/// The same after a file of any size.
const ANSWER_TO_FILE: Duration = Duration::from_secs(3600);
/// Between two parts of an answer; streams say something every few seconds.
const SILENCE: Duration = Duration::from_secs(120);
/// Largest answer that is kept in memory: 500 rows are far below.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Before what broke off is asked once more: a server that restarts is away for
/// about as long.
const PAUSE: Duration = Duration::from_secs(1);

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Asks one server.
#[derive(Debug)]
pub(super) struct Client {
    place: Place,
    runtime: Runtime,
}

/// What a request carries.
#[derive(Debug)]
pub(super) enum Content<'a> {
    /// Nothing.
    Nothing,
    /// JSON, or what somebody takes for it.
    Json(Vec<u8>),
    /// A file.
    File(&'a Path),
}

impl Content<'_> {
    /// A value as JSON.
    pub(super) fn value(value: &Value) -> Self {
        Self::Json(value.to_string().into_bytes())
    }
}

/// What is asked of the server.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    method: &'a str,
    path: &'a str,
    content: &'a Content<'a>,
    headers: HeaderMap,
}

impl<'a> Ask<'a> {
    /// What makes something names itself, so that asking twice does it once.
    pub(super) fn new(method: &'a str, path: &'a str, content: &'a Content<'a>) -> Self {
        let mut headers = HeaderMap::new();
        if method == "POST" && !matches!(content, Content::File(_)) {
            let key = HeaderValue::from_str(&Uuid::new_v4().to_string());
            headers.insert("idempotency-key", key.expect("a UUID is plain text"));
        }
        Self {
            method,
            path,
            content,
            headers,
        }
    }

    /// Exactly this, with these headers.
    pub(super) fn raw(
        method: &'a str,
        path: &'a str,
        content: &'a Content<'a>,
        headers: HeaderMap,
    ) -> Self {
        Self {
            method,
            path,
            content,
            headers,
        }
    }

    /// Only while the thing is of this revision, and whichever it is when there is
    /// none.
    pub(super) fn of_revision(mut self, revision: Option<i64>) -> Self {
        let value = match revision {
            Some(revision) => HeaderValue::from_str(&format!("\"{revision}\"")),
            None => Ok(HeaderValue::from_static("*")),
        };
        let value = value.expect("digits and quotes are allowed in a header");
        self.headers.insert(header::IF_MATCH, value);
        self
    }
}

impl Client {
    pub(super) fn new(place: Place) -> Result<Self, Failure> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build();
        let runtime = runtime.context("starting the runtime")?;
        Ok(Self { place, runtime })
    }

    /// The answer to a plain question or order.
    pub(super) fn call(
        &self,
        method: &str,
        path: &str,
        content: &Content<'_>,
    ) -> Result<Value, Failure> {
        self.ask(&Ask::new(method, path, content))
    }

    /// The answer as JSON, null when it is empty; a problem is an error. When the
    /// connection breaks before the answer is whole, it is asked once more.
    pub(super) fn ask(&self, ask: &Ask<'_>) -> Result<Value, Failure> {
        match self.ask_once(ask) {
            // A file is too much to send twice unasked.
            Err(Failure::Broken(error)) if !matches!(ask.content, Content::File(_)) => {
                eprintln!("bootserver: {error:#}; asking once more");
                std::thread::sleep(PAUSE);
                match self.ask_once(ask) {
                    // The first one has done it.
                    Err(Failure::Refused(refusal))
                        if ask.method == "DELETE" && refusal.status == 404 =>
                    {
                        Ok(Value::Null)
                    }
                    answered => answered,
                }
            }
            answered => answered,
        }
    }

    fn ask_once(&self, ask: &Ask<'_>) -> Result<Value, Failure> {
        self.runtime.block_on(async {
            let answer = self.send(ask).await?;
            let status = answer.status().as_u16();
            let mut bytes = Vec::new();
            self.read(answer, |part| {
                if bytes.len() + part.len() > MAX_ANSWER_BYTES {
                    bail!("the answer is larger than {MAX_ANSWER_BYTES} bytes");
                }
                bytes.extend_from_slice(part);
                Ok(())
            })
            .await?;
            let document = match bytes.is_empty() {
                true => Ok(Value::Null),
                false => serde_json::from_slice(&bytes),
            };
            match (status, document) {
                (200..=299, Ok(document)) => Ok(document),
                (200..=299, Err(error)) => Err(Failure::Failed(
                    anyhow!(error).context(format!("{}: its answer", self.place.server)),
                )),
                (_, document) => Err(refused(status, document.unwrap_or_default())),
            }
        })
    }

    /// The answer as it comes, whatever it is, to standard output.
    pub(super) fn pass(&self, ask: &Ask<'_>) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let answer = self.send(ask).await?;
            let status = answer.status().as_u16();
            let mut out = io::stdout().lock();
            let mut kept = Vec::new();
            let read = self.read(answer, |part| {
                if status >= 400 && kept.len() < MAX_ANSWER_BYTES {
                    kept.extend_from_slice(part);
                }
                let written = out.write_all(part).and_then(|()| out.flush());
                written.context("writing to standard output")
            });
            match read.await {
                // Whoever read has enough, of a stream that may never end too.
                Err(Failure::Failed(error)) if is_broken_pipe(&error) => {}
                read => read?,
            }
            match status {
                200..=399 => Ok(()),
                _ => Err(refused(
                    status,
                    serde_json::from_slice(&kept).unwrap_or_default(),
                )),
            }
        })
    }

    async fn read(
        &self,
        answer: Response<Incoming>,
        mut take: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> Result<(), Failure> {
        let broken = |error: anyhow::Error| {
            error.context(format!("{}: the answer broke off", self.place.server))
        };
        let mut body = answer.into_body();
        loop {
            let frame = timeout(SILENCE, body.frame()).await;
            let frame = frame.map_err(|late| Failure::Unreachable(broken(late.into())))?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|error| Failure::Broken(broken(error.into())))?;
            if let Some(part) = frame.data_ref() {
                take(part)?;
            }
        }
    }

    async fn send(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, Failure> {
        let request = self.request(ask).await?;
        let patience = match ask.content {
            Content::File(_) => ANSWER_TO_FILE,
            _ => ANSWER,
        };
        let server = || self.place.server.to_string();
        let stream = connection::connect(&self.place).await;
        let stream = stream.with_context(server).map_err(Failure::Unreachable)?;
        match connection::speak(stream, request, patience).await {
            Err(Failure::Broken(error)) => {
                let is_plain = matches!(
                    &self.place.server,
                    Server::Net {
                        is_https: false,
                        ..
                    }
                );
                let hint = if is_plain {
                    " (https:// if it speaks TLS)"
                } else {
                    ""
                };
                let error = error.context(format!("{}{hint}", server()));
                Err(Failure::Broken(error))
            }
            Err(Failure::Unreachable(error)) => Err(Failure::Unreachable(error.context(server()))),
            answered => answered,
        }
    }

    async fn request(&self, ask: &Ask<'_>) -> Result<Request<Body>, Failure> {
        let host = match &self.place.server {
            Server::Unix(_) => "localhost".to_owned(),
            Server::Net { host, port, .. } => format!("{}:{port}", bracketed(host)),
        };
        let method = Method::from_bytes(ask.method.as_bytes());
        let method = method.map_err(|_| Failure::Usage("METHOD: GET, POST, ...".into()))?;
        let mut request = Request::builder()
            .method(method)
            .uri(ask.path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, format!("bootserver/{}", crate::VERSION));
        if let Some(token) = &self.place.token {
            request = request.header(header::AUTHORIZATION, token.header());
        }
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        let (body, kind) = match ask.content {
            Content::Nothing => (whole(Bytes::new()), None),
            Content::Json(bytes) => (
                whole(Bytes::copy_from_slice(bytes)),
                Some("application/json"),
            ),
            Content::File(path) => {
                let opened = file(path).await;
                let (file, length) = opened.with_context(|| path.display().to_string())?;
                let body = FileBody::new(file, length).boxed_unsync();
                (body, Some("application/octet-stream"))
            }
        };
        if let Some(kind) = kind
            && !ask.headers.contains_key(header::CONTENT_TYPE)
        {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        request
            .body(body)
            .map_err(|error| Failure::Usage(format!("{:?}: {error}", ask.path)))
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn refused(status: u16, document: Value) -> Failure {
    Failure::Refused(Box::new(Refusal { status, document }))
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

async fn file(path: &Path) -> anyhow::Result<(tokio::fs::File, u64)> {
    let file = tokio::fs::File::open(path).await.context("opening it")?;
    let found = file.metadata().await.context("opening it")?;
    match found.is_file() {
        true => Ok((file, found.len())),
        false => bail!("it is no file"),
    }
}
