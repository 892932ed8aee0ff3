//! HTTP/1.1 over a socket, as cheap as it can be: the same cores run the
//! server that is measured.
//!
//! Every reply has a length and a bound; what has not is broken.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bootagent_protocol::MAX_REPLY_BYTES;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// As BootAgent's own: to be connected, and for the whole exchange.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
pub(crate) const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// What a download reads at once, in bytes.
const PIECE_BYTES: usize = 256 * 1024;
/// Largest head of a reply, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Most headers of a reply.
const MAX_HEADERS: usize = 64;

/// The server, as it was named.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    authority: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Whether a connection serves one exchange or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// As BootAgent does it.
    Never,
    /// As a proxy in between would.
    Always,
}

/// Why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Broken {
    /// No connection, or none with TLS.
    Refused,
    /// Not in time.
    TimedOut,
    /// The connection ended before the reply did.
    Cut,
    /// No HTTP, or no JSON where JSON belongs.
    Unreadable,
    /// Cut by ourselves.
    Injected,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
    closes: bool,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open connection.
pub(crate) struct Connection(Box<dyn Stream>);

impl Target {
    /// Reads `[http[s]://]HOST[:PORT]` and looks the name up, once.
    pub(crate) async fn resolve(url: &str, ca_file: Option<&Path>) -> anyhow::Result<Self> {
        let (secure, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) => bail!("--server: {scheme}:// is neither http:// nor https://"),
            None => (false, url),
        };
        let authority = rest.trim_end_matches('/');
        let usual = if secure { 443 } else { 80 };
        let (host, port) = split_port(authority, usual)
            .with_context(|| format!("--server: {url:?} is no [http[s]://]HOST[:PORT]"))?;
        let address = tokio::net::lookup_host((host, port))
            .await
            .with_context(|| format!("--server: looking up {host}"))?
            .next()
            .with_context(|| format!("--server: {host} has no address"))?;
        let tls = match (secure, ca_file) {
            (false, None) => None,
            (false, Some(_)) => bail!("--ca-file is for https:// servers only"),
            (true, None) => bail!("--ca-file: https:// needs the certificate to trust"),
            (true, Some(file)) => {
                let name = ServerName::try_from(host.to_owned())
                    .with_context(|| format!("--server: {host} is no name for TLS"))?;
                Some((connector(file)?, name))
            }
        };
        Ok(Self {
            address,
            authority: authority.to_owned(),
            tls,
        })
    }

    pub(crate) async fn connect(&self) -> Result<Connection, Broken> {
        let connecting = async {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(match &self.tls {
                None => Connection(Box::new(stream)),
                Some((tls, name)) => Connection(Box::new(tls.connect(name.clone(), stream).await?)),
            })
        };
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Err(_) => Err(Broken::TimedOut),
            Ok(Err(_)) => Err(Broken::Refused),
            Ok(Ok(connection)) => Ok(connection),
        }
    }

    /// A whole request; `token` is written by `bearer`.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        bearer: impl FnOnce(&mut Vec<u8>),
        body: &[u8],
        reuse: Reuse,
    ) -> Vec<u8> {
        let connection = match reuse {
            Reuse::Never => "Connection: close\r\n",
            Reuse::Always => "",
        };
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{connection}User-Agent: bootserver-sim/{}\r\n\
             Accept: */*\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Authorization: Bearer ",
            self.authority,
            env!("CARGO_PKG_VERSION"),
            body.len(),
        )
        .into_bytes();
        bearer(&mut bytes);
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.extend_from_slice(body);
        bytes
    }
}

/// Host and port; an IPv6 address stands in brackets.
fn split_port(authority: &str, usual: u16) -> Option<(&str, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, usual),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty() && !host.contains('/')).then_some((host, port))
}

/// TLS that trusts one file and never resumes: a host that pushes every ten
/// minutes would not either.
fn connector(ca_file: &Path) -> anyhow::Result<TlsConnector> {
    let shown = ca_file.display();
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca_file)
        .with_context(|| format!("--ca-file: reading {shown}"))?;
    for certificate in certificates {
        let certificate = certificate.with_context(|| format!("--ca-file: {shown} is no PEM"))?;
        roots
            .add(certificate)
            .with_context(|| format!("--ca-file: a certificate in {shown}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("the versions of TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Connection {
    /// Sends a request and reads its reply; true if another may follow.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<(Reply, bool), Broken> {
        let exchanged = async {
            self.send(request).await?;
            self.reply().await
        };
        let reply = in_time(exchanged).await?;
        let open = !reply.closes;
        Ok((reply, open))
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.0.write_all(bytes).await.map_err(|_| Broken::Cut)?;
        self.0.flush().await.map_err(|_| Broken::Cut)
    }

    pub(crate) async fn reply(&mut self) -> Result<Reply, Broken> {
        let mut bytes = Vec::with_capacity(1024);
        let (mut reply, length) = self.head(&mut bytes).await?;
        if length > MAX_REPLY_BYTES {
            return Err(Broken::Unreadable);
        }
        while bytes.len() < length {
            self.read(&mut bytes).await?;
        }
        if bytes.len() > length {
            return Err(Broken::Unreadable);
        }
        reply.body = bytes;
        Ok(reply)
    }

    /// Sends a request and hands the body of its reply on, piece by piece. Each
    /// piece has its own deadline: how long a package takes is the line's business.
    pub(crate) async fn fetch(
        &mut self,
        request: &[u8],
        mut on_piece: impl FnMut(&[u8]),
    ) -> Result<Reply, Broken> {
        let mut bytes = Vec::with_capacity(PIECE_BYTES);
        let begun = async {
            self.send(request).await?;
            self.head(&mut bytes).await
        };
        let (reply, mut left) = in_time(begun).await?;
        loop {
            left = left.checked_sub(bytes.len()).ok_or(Broken::Unreadable)?;
            on_piece(&bytes);
            if left == 0 {
                return Ok(reply);
            }
            bytes.clear();
            in_time(self.read(&mut bytes)).await?;
        }
    }

    /// Reads the head; what came with it of the body stays in `bytes`.
    async fn head(&mut self, bytes: &mut Vec<u8>) -> Result<(Reply, usize), Broken> {
        loop {
            self.read(bytes).await?;
            if let Some((head, reply, length)) = head(bytes)? {
                bytes.drain(..head);
                return Ok((reply, length));
            }
            if bytes.len() > MAX_HEAD_BYTES {
                return Err(Broken::Unreadable);
            }
        }
    }

    async fn read(&mut self, bytes: &mut Vec<u8>) -> Result<(), Broken> {
        match self.0.read_buf(bytes).await {
            Ok(0) | Err(_) => Err(Broken::Cut),
            Ok(_) => Ok(()),
        }
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Broken>>) -> Result<T, Broken> {
    timeout(TOTAL_TIMEOUT, work)
        .await
        .unwrap_or(Err(Broken::TimedOut))
}

/// The head, if all of it is there: its length, what it says, and how long the
/// body is.
fn head(bytes: &[u8]) -> Result<Option<(usize, Reply, usize)>, Broken> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let size = match response.parse(bytes) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Broken::Unreadable),
    };
    let status = response.code.ok_or(Broken::Unreadable)?;
    let value = |name: &str| {
        let header = response.headers.iter();
        let mut header = header.filter(|header| header.name.eq_ignore_ascii_case(name));
        header
            .next()
            .and_then(|it| std::str::from_utf8(it.value).ok())
    };
    let length = match value("content-length") {
        Some(length) => length.trim().parse().map_err(|_| Broken::Unreadable)?,
        None if status == 204 => 0,
        None => return Err(Broken::Unreadable),
    };
    let reply = Reply {
        status,
        retry_after: value("retry-after")
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs),
        body: Vec::new(),
        closes: value("connection").is_some_and(|it| it.eq_ignore_ascii_case("close")),
    };
    Ok(Some((size, reply, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        assert_eq!(split_port("a:81", 80), Some(("a", 81)));
        assert_eq!(split_port("a", 443), Some(("a", 443)));
        assert_eq!(split_port("[::1]:81", 80), Some(("::1", 81)));
        assert_eq!(split_port("[::1]", 80), Some(("::1", 80)));
        for bad in ["", ":80", "a:b", "a/b"] {
            assert_eq!(split_port(bad, 80), None, "{bad}");
        }
    }

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let text =
            b"HTTP/1.1 503 x\r\nRetry-After: 7\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
        for cut in 1..text.len() - 2 {
            assert!(head(&text[..cut]).expect("no error").is_none(), "{cut}");
        }
        let (size, reply, length) = head(text).expect("valid").expect("whole");
        assert_eq!((size, reply.status, length), (text.len() - 2, 503, 2));
        assert_eq!(reply.retry_after, Some(Duration::from_secs(7)));
        assert!(reply.closes);
        for bad in [
            "x\r\n\r\n",
            "HTTP/1.1 200 x\r\n\r\n",
            "HTTP/1.1 200 x\r\nContent-Length: x\r\n\r\n",
        ] {
            assert_eq!(
                head(bad.as_bytes()).err(),
                Some(Broken::Unreadable),
                "{bad}"
            );
        }
    }
}
