//! The way from a sub-agent to the platform.
//!
//! BootAgent writes `uplink.json` and replaces it when identity, token or
//! servers change; it is read again for each request. The servers are tried
//! in order until one answers.
//!
//! The one rule: a token goes to the servers of its own `uplink.json` only.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bootagent_protocol::Uplink as Contents;

use crate::Secret;
use crate::fs::{self, FsError};
use crate::http::{Client, ClientOptions, HttpError, HttpErrorKind, Reply};
use crate::servers::{ServerList, ServerListError};

/// Names the file, set by BootAgent.
const VARIABLE: &str = "BOOTAGENT_UPLINK";
/// Largest `uplink.json`, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// The file cannot be read; BootAgent writes it once it runs.
    #[error("the uplink cannot be read; is bootagent running?")]
    Read(#[from] FsError),
    /// The file is not what BootAgent writes.
    #[error("{} is not an uplink; restart bootagent to write it again", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it stops being one.
        #[source]
        source: serde_json::Error,
    },
    /// Its server list is not one.
    #[error("the uplink's server list is not understood")]
    Servers(#[from] ServerListError),
    /// There is no server in it.
    #[error("the uplink names no server; give bootagent one with -S")]
    NoServer,
    /// No server answered; the cause is what the last one did.
    #[error("no server answered, {tried} tried")]
    NoAnswer {
        /// How many were tried.
        tried: usize,
        /// What the last one did.
        #[source]
        source: Box<Failure>,
    },
    /// The request cannot be made to any server.
    #[error("the request cannot be made")]
    Request(#[source] HttpError),
}

/// What a server did instead of answering.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No reply.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A 5xx that does not say when to come back.
    #[error("{server} answered with status {status}")]
    Status {
        /// The server.
        server: String,
        /// The status code.
        status: u16,
    },
}

/// What to do about the outcome of one try.
#[derive(Debug)]
pub enum Verdict {
    /// This is the answer, a refusal such as 404 included.
    Answer(Reply),
    /// The server is busy and lives: the same one, later.
    Later(Reply, Duration),
    /// This server is of no use now: the next one.
    Next(Failure),
}

/// Judges the outcome of a try: refused, timed out, garbage or a bare 5xx is
/// the next server's turn; 429 or 503 with `Retry-After` is the same one's,
/// later; everything else is the answer.
pub fn judge(server: &str, outcome: Result<Reply, HttpError>) -> Verdict {
    let reply = match outcome {
        Ok(reply) => reply,
        Err(error) => return Verdict::Next(Failure::Http(error)),
    };
    match (reply.status, reply.retry_after) {
        (429 | 503, Some(after)) => Verdict::Later(reply, after),
        (status @ 500..=599, _) => Verdict::Next(Failure::Status {
            server: server.to_owned(),
            status,
        }),
        _ => Verdict::Answer(reply),
    }
}

/// The way to the platform; holds no identity itself.
#[derive(Debug, Clone)]
pub struct Uplink {
    path: PathBuf,
    connect_timeout: Duration,
    total_timeout: Duration,
    user_agent: String,
}

impl Uplink {
    /// The way BootAgent offers, or `None` when it did not start us.
    /// `user_agent` is what servers are told we are: `flux-push/0.1.0`.
    pub fn from_env(user_agent: &str) -> Option<Self> {
        std::env::var_os(VARIABLE).map(|path| Self::new(Path::new(&path), user_agent))
    }

    /// The way a file describes; the file need not exist yet.
    pub fn new(path: &Path, user_agent: &str) -> Self {
        let ClientOptions {
            connect_timeout,
            total_timeout,
            ..
        } = ClientOptions::default();
        Self {
            path: path.to_owned(),
            connect_timeout,
            total_timeout,
            user_agent: user_agent.to_owned(),
        }
    }

    /// Sets the deadlines of one try: to connect, and in total.
    #[must_use]
    pub fn with_timeouts(mut self, connect: Duration, total: Duration) -> Self {
        self.connect_timeout = connect;
        self.total_timeout = total;
        self
    }

    /// Reads who we are and where the platform is, as of now.
    pub fn read(&self) -> Result<Contents, UplinkError> {
        let bytes = fs::read_limited(&self.path, MAX_BYTES)?;
        serde_json::from_slice(&bytes).map_err(|source| UplinkError::Malformed {
            path: self.path.clone(),
            source,
        })
    }

    /// Posts a JSON document to `path` (`/agent/mtr/`) on the first server
    /// that answers. A reply of 429 or 503 with `retry_after` comes back as
    /// it is: its server lives and wants to be asked later.
    pub fn request(&self, path: &str, body: &[u8], max_reply: u64) -> Result<Reply, UplinkError> {
        self.ask(|client, server, token| {
            client.post_json(&format!("{server}{path}"), token, body, max_reply)
        })
    }

    /// Gets a document from `path` (`/agent/peers/?version=3`) on the first
    /// server that answers; otherwise as [`Uplink::request`].
    pub fn fetch(&self, path: &str, max_reply: u64) -> Result<Reply, UplinkError> {
        self.ask(|client, server, token| client.fetch(&format!("{server}{path}"), token, max_reply))
    }

    /// Does `attempt` with one server after another until one answers.
    fn ask(
        &self,
        attempt: impl Fn(&Client, &str, Option<&Secret>) -> Result<Reply, HttpError>,
    ) -> Result<Reply, UplinkError> {
        let contents = self.read()?;
        let servers = ServerList::parse(&contents.svrlist)?;
        let token = contents.token.map(Secret::new);
        let client = Client::new(&ClientOptions {
            ca_file: contents.ca_file.map(PathBuf::from),
            connect_timeout: self.connect_timeout,
            total_timeout: self.total_timeout,
            user_agent: self.user_agent.clone(),
        })
        .map_err(UplinkError::Request)?;
        let mut last = None;
        for server in &servers {
            let outcome = attempt(&client, &server.base_url(), token.as_ref());
            match judge(&server.to_string(), outcome) {
                Verdict::Answer(reply) | Verdict::Later(reply, _) => return Ok(reply),
                // A request that cannot be made at all is no server's fault.
                Verdict::Next(Failure::Http(error)) if error.kind == HttpErrorKind::Request => {
                    return Err(UplinkError::Request(error));
                }
                Verdict::Next(failure) => last = Some(failure),
            }
        }
        match last {
            None => Err(UplinkError::NoServer),
            Some(failure) => Err(UplinkError::NoAnswer {
                tried: servers.len(),
                source: Box::new(failure),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
