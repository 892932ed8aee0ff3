//! A request to the server and its answer, over a Unix socket, TCP or TLS.
//!
//! One connection per request. What comes back has a bound, and so has every
//! wait: for the connection, for the answer, and for each next part of it.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use axum::body::Bytes;
use axum::http::{Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::failure::{Failure, Refusal};
use super::place::{Place, Server, bracketed};
use crate::file_body::FileBody;

/// For a connection and its handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Until an answer begins: the server ends what takes longer.
const ANSWER: Duration = Duration::from_secs(90);
/// The same after a file of any size.
const ANSWER_TO_FILE: Duration = Duration::from_secs(3600);
/// Between two parts of an answer; streams say something every few seconds.
const SILENCE: Duration = Duration::from_secs(120);
/// Largest answer that is kept in memory: 500 rows are far below.
const MAX_ANSWER_BYTES: usize = 64 << 20;

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

impl Client {
    pub(super) fn new(place: Place) -> Result<Self, Failure> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build();
        let runtime = runtime.context("starting the runtime")?;
        Ok(Self { place, runtime })
    }

    /// The answer as JSON, null when it is empty; a problem is an error.
    pub(super) fn call(
        &self,
        method: &str,
        path: &str,
        content: &Content<'_>,
    ) -> Result<Value, Failure> {
        self.runtime.block_on(async {
            let answer = self.send(method, path, content).await?;
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
    pub(super) fn pass(
        &self,
        method: &str,
        path: &str,
        content: &Content<'_>,
    ) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let answer = self.send(method, path, content).await?;
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
        let broken = |error| {
            let what = format!("{}: the answer broke off", self.place.server);
            Failure::Unreachable(anyhow::Error::context(error, what))
        };
        let mut body = answer.into_body();
        loop {
            let frame = timeout(SILENCE, body.frame()).await;
            let frame = frame.map_err(|late| broken(late.into()))?;
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|error| broken(error.into()))?;
            if let Some(part) = frame.data_ref() {
                take(part)?;
            }
        }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        content: &Content<'_>,
    ) -> Result<Response<Incoming>, Failure> {
        let request = self.request(method, path, content).await?;
        let patience = match content {
            Content::File(_) => ANSWER_TO_FILE,
            _ => ANSWER,
        };
        self.exchange(request, patience)
            .await
            .with_context(|| self.place.server.to_string())
            .map_err(Failure::Unreachable)
    }

    async fn request(
        &self,
        method: &str,
        path: &str,
        content: &Content<'_>,
    ) -> Result<Request<Body>, Failure> {
        let host = match &self.place.server {
            Server::Unix(_) => "localhost".to_owned(),
            Server::Net { host, port, .. } => format!("{}:{port}", bracketed(host)),
        };
        let method = Method::from_bytes(method.as_bytes());
        let method = method.map_err(|_| Failure::Usage("METHOD: GET, POST, ...".into()))?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, format!("bootserver/{}", crate::VERSION));
        if let Some(token) = &self.place.token {
            request = request.header(header::AUTHORIZATION, token.header());
        }
        let body = match content {
            Content::Nothing => whole(Bytes::new()),
            Content::Json(bytes) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                whole(Bytes::copy_from_slice(bytes))
            }
            Content::File(path) => {
                let opened = file(path).await;
                let (file, length) = opened.with_context(|| path.display().to_string())?;
                request = request.header(header::CONTENT_TYPE, "application/octet-stream");
                FileBody::new(file, length).boxed_unsync()
            }
        };
        request
            .body(body)
            .map_err(|error| Failure::Usage(format!("{path:?}: {error}")))
    }

    async fn exchange(
        &self,
        request: Request<Body>,
        patience: Duration,
    ) -> anyhow::Result<Response<Incoming>> {
        match &self.place.server {
            Server::Unix(path) => {
                let stream = timeout(CONNECT, UnixStream::connect(path)).await;
                let stream = stream.context("connecting")?.context("connecting")?;
                speak(stream, request, patience).await
            }
            Server::Net {
                is_https,
                host,
                port,
            } => {
                let stream = timeout(CONNECT, TcpStream::connect((host.as_str(), *port))).await;
                let stream = stream.context("connecting")?.context("connecting")?;
                if !is_https {
                    return speak(stream, request, patience).await;
                }
                let name = ServerName::try_from(host.clone()).context("its name")?;
                let connector = connector(self.place.ca_file.as_deref())?;
                let stream = timeout(CONNECT, connector.connect(name, stream)).await;
                let stream = stream.context("the TLS handshake")?;
                speak(stream.context("the TLS handshake")?, request, patience).await
            }
        }
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

async fn speak<S>(
    stream: S,
    request: Request<Body>,
    patience: Duration,
) -> anyhow::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .context("speaking HTTP")?;
    // Its end is seen where the answer is read.
    tokio::spawn(connection);
    let answer = timeout(patience, sender.send_request(request)).await;
    answer
        .with_context(|| format!("no answer in {} s", patience.as_secs()))?
        .context("no whole answer")
}

fn connector(ca_file: Option<&Path>) -> anyhow::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let context = || format!("reading certificates in {}", path.display());
        for certificate in CertificateDer::pem_file_iter(path).with_context(context)? {
            roots
                .add(certificate.with_context(context)?)
                .with_context(context)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choosing the versions of TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
