//! HTTP as a host speaks it: short, bounded, one request per connection.
//!
//! One blocking client for posts to a server and for downloads. It resolves,
//! connects, sends and reads within deadlines and size limits, and says which
//! step failed. It does not follow redirects, retry, or choose a server:
//! those are decisions of its callers.
//!
//! The one rule: a request ends within its deadline whatever the other side
//! does, and no token, user name or password gets into an error.

mod download;
mod error;
mod reply;
mod resolve;
mod tls;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE};
use ureq::http::{HeaderValue, Response, Uri};
use ureq::tls::TlsConfig;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, RequestBuilder};

use crate::Secret;
pub use download::{Download, GetOptions};
pub use error::{HttpError, HttpErrorKind};
pub use reply::Reply;
pub use resolve::addresses;
pub use tls::{RootsError, count_roots};

/// Longest URL, in bytes.
const MAX_URL_BYTES: usize = 8 * 1024;
/// Longest response header, in bytes.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// Buffers of a connection, in bytes: status messages are small, and a
/// download reads into its own.
const BUFFER_BYTES: usize = 16 * 1024;

/// How a [`Client`] behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// PEM file to verify `https://` servers with; the system roots otherwise.
    pub ca_file: Option<PathBuf>,
    /// For resolving the name, and again for connecting, TLS included.
    pub connect_timeout: Duration,
    /// For a whole post, from the name to the last byte of the reply.
    pub total_timeout: Duration,
    /// What the server is told we are.
    pub user_agent: String,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            ca_file: None,
            connect_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(30),
            user_agent: concat!("bootagent/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// The client. Cheap until its first `https://` request, which loads the root
/// certificates; they are freed with the client.
#[derive(Debug)]
pub struct Client {
    options: ClientOptions,
    tls: OnceLock<TlsConfig>,
}

/// The parts of a checked URL that are needed besides the text itself.
struct Target {
    uri: Uri,
    /// `host:port`, nothing else: safe to show.
    host: String,
}

impl Client {
    /// Checks the options; loads and contacts nothing.
    pub fn new(options: &ClientOptions) -> Result<Self, HttpError> {
        if HeaderValue::from_str(&options.user_agent).is_err() {
            let reason = "the user agent has bytes a header cannot hold";
            return Err(HttpError::request("?", reason));
        }
        if options.connect_timeout.is_zero() || options.total_timeout.is_zero() {
            return Err(HttpError::request("?", "a timeout of 0 cannot be met"));
        }
        Ok(Self {
            options: options.clone(),
            tls: OnceLock::new(),
        })
    }

    /// Posts a JSON document and reads the whole reply, of any status, at
    /// most `max_reply` bytes of it. A longer one is an error.
    pub fn post_json(
        &self,
        url: &str,
        bearer: Option<&Secret>,
        body: &[u8],
        max_reply: u64,
    ) -> Result<Reply, HttpError> {
        let target = check_url(url)?;
        let request = self.agent(&target)?.post(target.uri.clone());
        let request = request.header(CONTENT_TYPE, "application/json");
        let response = with_headers(request, &target, bearer)?.send(body);
        read_whole(&target, response, max_reply)
    }

    /// Gets a document and reads the whole reply, of any status, at most
    /// `max_reply` bytes of it. A longer one is an error.
    pub fn fetch(
        &self,
        url: &str,
        bearer: Option<&Secret>,
        max_reply: u64,
    ) -> Result<Reply, HttpError> {
        let target = check_url(url)?;
        let request = self.agent(&target)?.get(target.uri.clone());
        let response = with_headers(request, &target, bearer)?.call();
        read_whole(&target, response, max_reply)
    }

    /// Asks for a file and hands back its reader.
    ///
    /// Any status comes back, a redirect with its `Location` too: whether the
    /// token may go to another host is the caller's decision.
    pub fn get(
        &self,
        url: &str,
        bearer: Option<&Secret>,
        headers: &[(&str, &str)],
        options: &GetOptions,
    ) -> Result<Download, HttpError> {
        let target = check_url(url)?;
        let config = self
            .config(&target)?
            .timeout_global(Some(options.total_timeout))
            .timeout_per_read(Some(options.idle_timeout));
        let mut request = agent(config.build()).get(target.uri.clone());
        for &(name, value) in headers {
            request = request.header(name, value);
        }
        match with_headers(request, &target, bearer)?.call() {
            Ok(response) => Ok(Download::new(target.host, response, options.max_bytes)),
            Err(error) => Err(HttpError::from_ureq(&target.host, error)),
        }
    }

    /// An agent for one exchange of two documents.
    fn agent(&self, target: &Target) -> Result<Agent, HttpError> {
        let config = self
            .config(target)?
            .timeout_global(Some(self.options.total_timeout));
        Ok(agent(config.build()))
    }

    fn config(
        &self,
        target: &Target,
    ) -> Result<ureq::config::ConfigBuilder<ureq::typestate::AgentScope>, HttpError> {
        let mut config = Config::builder()
            // Every status is an answer; what it means is decided above.
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // An environment variable must not choose who reads our tokens.
            .proxy(None)
            .user_agent(&self.options.user_agent)
            .max_response_header_size(MAX_HEADER_BYTES)
            .input_buffer_size(BUFFER_BYTES)
            .output_buffer_size(BUFFER_BYTES)
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            .timeout_resolve(Some(self.options.connect_timeout))
            .timeout_connect(Some(self.options.connect_timeout));
        if target.uri.scheme_str() == Some("https") {
            config = config.tls_config(self.tls(&target.host)?);
        }
        Ok(config)
    }

    /// The TLS settings, loaded at the first use.
    fn tls(&self, host: &str) -> Result<TlsConfig, HttpError> {
        if let Some(loaded) = self.tls.get() {
            return Ok(loaded.clone());
        }
        let loaded = tls::load(self.options.ca_file.as_deref())
            .map_err(|error| HttpError::new(HttpErrorKind::Tls, host, error))?;
        Ok(self.tls.get_or_init(|| loaded).clone())
    }
}

/// An agent for one request: nothing is kept between two.
fn agent(config: Config) -> Agent {
    Agent::with_parts(config, DefaultConnector::default(), resolve::Bounded)
}

/// The headers every request has.
fn with_headers<B>(
    request: RequestBuilder<B>,
    target: &Target,
    bearer: Option<&Secret>,
) -> Result<RequestBuilder<B>, HttpError> {
    let request = request.header(CONNECTION, "close");
    Ok(match bearer {
        Some(token) => request.header(AUTHORIZATION, bearer_header(target, token)?),
        None => request,
    })
}

fn read_whole(
    target: &Target,
    response: Result<Response<Body>, ureq::Error>,
    max_reply: u64,
) -> Result<Reply, HttpError> {
    let response = response.map_err(|error| HttpError::from_ureq(&target.host, error))?;
    reply::read(&target.host, response, max_reply)
}

fn bearer_header(target: &Target, token: &Secret) -> Result<HeaderValue, HttpError> {
    let text = format!("Bearer {}", token.expose());
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        let reason = "the token has bytes a header cannot hold";
        HttpError::request(&target.host, reason)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Takes `http://` and `https://` URLs with a host.
fn check_url(url: &str) -> Result<Target, HttpError> {
    // The URL itself is not repeated: it may hold a password.
    if url.len() > MAX_URL_BYTES {
        return Err(HttpError::request("?", "the URL is longer than 8 KiB"));
    }
    let uri: Uri = url
        .parse()
        .map_err(|_| HttpError::request("?", "this is not a URL"))?;
    let host = match uri.authority() {
        Some(authority) if !authority.host().is_empty() => match authority.port() {
            Some(port) => format!("{}:{port}", authority.host()),
            None => authority.host().to_owned(),
        },
        _ => return Err(HttpError::request("?", "the URL names no host")),
    };
    match uri.scheme_str() {
        Some("http" | "https") => Ok(Target { uri, host }),
        _ => Err(HttpError::request(
            &host,
            "the URL begins neither with http:// nor with https://",
        )),
    }
}

#[cfg(test)]
pub(crate) mod tests;
