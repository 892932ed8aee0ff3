//! The way to a server: a Unix socket, TCP or TLS, and one request over it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::super::failure::Failure;
use super::super::place::{Place, Server};
use super::Body;

/// For a connection and its handshake.
const CONNECT: Duration = Duration::from_secs(10);

/// Bytes there and back.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection to the server.
pub(super) async fn connect(place: &Place) -> anyhow::Result<Box<dyn Stream>> {
    match &place.server {
        Server::Unix(path) => {
            let stream = timeout(CONNECT, UnixStream::connect(path)).await;
            Ok(Box::new(
                stream.context("connecting")?.context("connecting")?,
            ))
        }
        Server::Net {
            is_https,
            host,
            port,
        } => {
            let stream = timeout(CONNECT, TcpStream::connect((host.as_str(), *port))).await;
            let stream = stream.context("connecting")?.context("connecting")?;
            if !is_https {
                return Ok(Box::new(stream));
            }
            let name = ServerName::try_from(host.clone()).context("its name")?;
            let connector = connector(place.ca_file.as_deref())?;
            let stream = timeout(CONNECT, connector.connect(name, stream)).await;
            let stream = stream.context("the TLS handshake")?;
            Ok(Box::new(stream.map_err(with_remedy)?))
        }
    }
}

/// What failed in a handshake, and what helps where that is known.
fn with_remedy(error: io::Error) -> anyhow::Error {
    let cause = error.get_ref();
    let step = match cause.and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => {
            "the TLS handshake (http:// is for a server without TLS)"
        }
        Some(rustls::Error::InvalidCertificate(_)) => {
            "the TLS handshake (--ca-file names certificates to trust)"
        }
        _ => "the TLS handshake",
    };
    anyhow::Error::new(error).context(step)
}

/// Sends a request; the answer has begun.
pub(super) async fn speak(
    stream: Box<dyn Stream>,
    request: Request<Body>,
    patience: Duration,
) -> Result<Response<Incoming>, Failure> {
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake
        .context("speaking HTTP")
        .map_err(Failure::Broken)?;
    // Its end is seen where the answer is read.
    tokio::spawn(connection);
    let answer = timeout(patience, sender.send_request(request)).await;
    answer
        .with_context(|| format!("no answer in {} s", patience.as_secs()))
        .map_err(Failure::Unreachable)?
        .context("no whole answer")
        .map_err(Failure::Broken)
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
