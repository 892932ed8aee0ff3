//! What `serve` is told: the file first, then the flags.

mod network;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::budget::Shares;
use crate::signature::TrustedKeys;
use crate::store::address::{Address, AddressText};
pub use network::{Block, Listen, OneOrMany, Scheme, TlsFiles};

/// All addresses, because hosts are elsewhere.
const DEFAULT_LISTEN: &str = "0.0.0.0:8080";
/// Where a package puts the data directory.
const DEFAULT_DATA: &str = "/var/lib/bootserver";
/// Days events are kept: long enough to compare with last month.
const DEFAULT_EVENT_DAYS: u32 = 90;
/// Days finished jobs are kept: who ordered what is asked for longer.
const DEFAULT_JOB_DAYS: u32 = 365;
/// Days it is kept who did what: two years, which auditors often ask for.
const DEFAULT_AUDIT_DAYS: u32 = 730;
/// Days what became of hosts is kept.
const DEFAULT_HOST_DAYS: u32 = 365;
/// Most days anything is kept for, other than for ever.
const MAX_DAYS: u32 = 36_500;
/// How long proxies are given to see /readyz; without one nobody looks.
const PROXY_DRAIN_SECONDS: u64 = 5;
/// Largest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// What was said, in a file or by flags; absent is not said.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Addresses and ports to listen on; port 0 takes a free one. `http://` or
    /// `https://` may stand before each.
    pub listen: Option<OneOrMany>,
    /// The server's certificate chain, PEM. With it TLS is spoken.
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate, PEM.
    pub tls_key: Option<PathBuf>,
    /// Blocks of addresses whose X-Forwarded-For and X-Forwarded-Proto count.
    pub trusted_proxy: Option<OneOrMany>,
    /// A Unix socket on which root of this machine needs no token.
    pub socket: Option<PathBuf>,
    /// Where /metrics is served without a token.
    pub metrics_listen: Option<String>,
    /// The data directory.
    pub data: Option<PathBuf>,
    /// A SQLite file, if not `bootserver.db` in the data directory, or a
    /// PostgreSQL server, as `postgres://USER@HOST/DATABASE`.
    pub database: Option<AddressText>,
    /// A file whose first line says the same.
    pub database_file: Option<PathBuf>,
    /// What is forgotten when.
    pub retention: Option<RetentionSettings>,
    /// A file that is given the address once it is listened on.
    pub address_file: Option<PathBuf>,
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as
    /// `info,bootserver=debug`.
    pub log_level: Option<String>,
    /// `text` or `json`.
    pub log_format: Option<LogFormat>,
    /// Largest package, in bytes.
    pub max_package_bytes: Option<u64>,
    /// minisign public keys. With any, only packages they signed are taken.
    pub trusted_keys: Option<Vec<String>>,
    /// Seconds the body of a request may take to arrive; twice that to be
    /// answered.
    pub request_timeout: Option<u64>,
    /// Seconds the head of a request may take to arrive.
    pub header_timeout: Option<u64>,
    /// Connections at once on each address; more wait in the kernel's queue.
    pub max_connections: Option<usize>,
    /// Seconds from SIGTERM, which /readyz tells at once, until no new
    /// connections are taken: how long load balancers need to notice.
    pub drain_delay: Option<u64>,
    /// How much each class of routes may take.
    pub budget: Option<Shares>,
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => anyhow::bail!("log_format: {text:?} is neither text nor json"),
        }
    }
}

/// Days things are kept; 0 is for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionSettings {
    /// Events.
    pub events: Option<u32>,
    /// Finished jobs and their results.
    pub jobs: Option<u32>,
    /// Who did what.
    pub audit: Option<u32>,
    /// What became of hosts, and hosts that were deleted.
    pub hosts: Option<u32>,
}

/// How long things are kept; nothing is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Events.
    pub events: Option<Duration>,
    /// Finished jobs and their results.
    pub jobs: Option<Duration>,
    /// Who did what.
    pub audit: Option<Duration>,
    /// What became of hosts, and hosts that were deleted.
    pub hosts: Option<Duration>,
}

/// Sizes and deadlines handlers keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Largest package, in bytes.
    pub max_package_bytes: u64,
    /// How long a body may take to arrive; twice that for the answer.
    pub request_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_package_bytes: 1 << 30,
            request_timeout: Duration::from_secs(30),
        }
    }
}

/// Everything `serve` needs, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<Listen>,
    /// What TLS is spoken with.
    pub tls: Option<TlsFiles>,
    /// Who may say for whom it asks.
    pub trusted_proxies: Vec<Block>,
    /// The socket of local root.
    pub socket: Option<PathBuf>,
    /// Where /metrics needs no token.
    pub metrics_listen: Option<SocketAddr>,
    /// The data directory.
    pub data: PathBuf,
    /// Where the database is.
    pub database: Address,
    /// A file that is given the address.
    pub address_file: Option<PathBuf>,
    /// What is logged.
    pub log_level: String,
    /// How it is written.
    pub log_format: LogFormat,
    /// What handlers keep to.
    pub bounds: Bounds,
    /// Who must have signed packages.
    pub trusted_keys: TrustedKeys,
    /// How long things are kept.
    pub retention: Retention,
    /// How long the head of a request may take.
    pub header_timeout: Duration,
    /// Connections at once on each address.
    pub max_connections: usize,
    /// From SIGTERM until no new connections are taken.
    pub drain_delay: Duration,
    /// How much each class of routes may take.
    pub budget: Shares,
}

impl Settings {
    /// Reads a file. Unknown keys are errors.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let size = std::fs::metadata(path)
            .with_context(|| format!("reading {shown}"))?
            .len();
        ensure!(
            size <= MAX_FILE_BYTES,
            "{shown} is larger than {MAX_FILE_BYTES} bytes"
        );
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
        toml::from_str(&text).with_context(|| format!("{shown} is no valid configuration"))
    }

    /// What `self` does not say, `other` may.
    pub fn or(self, other: Self) -> Self {
        // Two ways to say one thing: who says either has said it.
        let says_database = self.database.is_some() || self.database_file.is_some();
        let (database, database_file) = match says_database {
            true => (self.database, self.database_file),
            false => (other.database, other.database_file),
        };
        Self {
            listen: self.listen.or(other.listen),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
            trusted_proxy: self.trusted_proxy.or(other.trusted_proxy),
            socket: self.socket.or(other.socket),
            metrics_listen: self.metrics_listen.or(other.metrics_listen),
            data: self.data.or(other.data),
            database,
            database_file,
            retention: self.retention.or(other.retention),
            address_file: self.address_file.or(other.address_file),
            log_level: self.log_level.or(other.log_level),
            log_format: self.log_format.or(other.log_format),
            max_package_bytes: self.max_package_bytes.or(other.max_package_bytes),
            trusted_keys: self.trusted_keys.or(other.trusted_keys),
            request_timeout: self.request_timeout.or(other.request_timeout),
            header_timeout: self.header_timeout.or(other.header_timeout),
            max_connections: self.max_connections.or(other.max_connections),
            drain_delay: self.drain_delay.or(other.drain_delay),
            budget: self.budget.or(other.budget),
        }
    }

    /// Fills in defaults and checks.
    pub fn into_config(self) -> anyhow::Result<Config> {
        let tls = TlsFiles::from_pair(self.tls_cert, self.tls_key)?;
        let usual = match tls {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        };
        let listen = self
            .listen
            .unwrap_or_else(|| OneOrMany::One(DEFAULT_LISTEN.into()));
        let listen = listen.as_slice().iter();
        let listen: Vec<_> = listen
            .map(|text| Listen::parse(text, usual))
            .collect::<anyhow::Result<_>>()?;
        ensure!(!listen.is_empty(), "listen: at least one is expected");
        let proxies = self.trusted_proxy.as_ref().map(OneOrMany::as_slice);
        let trusted_proxies: Vec<Block> = proxies
            .unwrap_or_default()
            .iter()
            .map(|text| text.parse())
            .collect::<anyhow::Result<_>>()?;
        let metrics_listen = self
            .metrics_listen
            .map(|text| {
                text.parse()
                    .with_context(|| format!("metrics_listen: {text:?} is no ADDRESS:PORT"))
            })
            .transpose()?;
        let drain_delay = self
            .drain_delay
            .unwrap_or(match trusted_proxies.is_empty() {
                true => 0,
                false => PROXY_DRAIN_SECONDS,
            });
        ensure!(
            drain_delay <= 600,
            "drain_delay: 0 to 600 seconds are expected"
        );
        let data = self.data.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA));
        let seconds = |name: &str, value: Option<u64>, default: u64| {
            let value = value.unwrap_or(default);
            ensure!(
                (1..=3600).contains(&value),
                "{name}: 1 to 3600 seconds are expected"
            );
            Ok(Duration::from_secs(value))
        };
        let bounds = Bounds::default();
        let max_package_bytes = self.max_package_bytes.unwrap_or(bounds.max_package_bytes);
        ensure!(
            max_package_bytes > 0,
            "max_package_bytes: at least 1 is expected"
        );
        let max_connections = self.max_connections.unwrap_or(8192);
        ensure!(
            max_connections > 0,
            "max_connections: at least 1 is expected"
        );
        let kept = self.retention.unwrap_or_default();
        let days = |name: &str, value: Option<u32>, default: u32| {
            let value = value.unwrap_or(default);
            ensure!(
                value <= MAX_DAYS,
                "retention.{name}: 0 (for ever) to {MAX_DAYS} days are expected"
            );
            let seconds = u64::from(value) * 24 * 3600;
            Ok((value > 0).then(|| Duration::from_secs(seconds)))
        };
        let retention = Retention {
            events: days("events", kept.events, DEFAULT_EVENT_DAYS)?,
            jobs: days("jobs", kept.jobs, DEFAULT_JOB_DAYS)?,
            audit: days("audit", kept.audit, DEFAULT_AUDIT_DAYS)?,
            hosts: days("hosts", kept.hosts, DEFAULT_HOST_DAYS)?,
        };
        let request_timeout = bounds.request_timeout.as_secs();
        let request_timeout = seconds("request_timeout", self.request_timeout, request_timeout)?;
        let budget = self.budget.unwrap_or_default();
        budget.check()?;
        Ok(Config {
            listen,
            tls,
            trusted_proxies,
            socket: self.socket,
            metrics_listen,
            database: database(self.database, self.database_file.as_deref(), &data)?,
            data,
            address_file: self.address_file,
            log_level: self.log_level.unwrap_or_else(|| "info".into()),
            log_format: self.log_format.unwrap_or_default(),
            bounds: Bounds {
                max_package_bytes,
                request_timeout,
            },
            trusted_keys: TrustedKeys::parse(&self.trusted_keys.unwrap_or_default())?,
            retention,
            header_timeout: seconds("header_timeout", self.header_timeout, 10)?,
            max_connections,
            drain_delay: Duration::from_secs(drain_delay),
            budget,
        })
    }
}

fn database(
    said: Option<AddressText>,
    file: Option<&Path>,
    data: &Path,
) -> anyhow::Result<Address> {
    let (text, place) = match (said, file) {
        (Some(_), Some(_)) => bail!("database and database_file: only one is expected"),
        (Some(text), None) => (text, "database".to_owned()),
        (None, Some(file)) => {
            let place = format!("database_file {}", file.display());
            (first_line(file).with_context(|| place.clone())?, place)
        }
        (None, None) => return Ok(Address::Sqlite(data.join("bootserver.db"))),
    };
    text.parse().context(place)
}

fn first_line(file: &Path) -> anyhow::Result<AddressText> {
    let size = std::fs::metadata(file).context("reading it")?.len();
    ensure!(
        size <= MAX_FILE_BYTES,
        "it is larger than {MAX_FILE_BYTES} bytes"
    );
    let text = std::fs::read_to_string(file).context("reading it")?;
    let line = text.lines().next().unwrap_or_default().trim();
    ensure!(!line.is_empty(), "its first line is empty");
    Ok(AddressText::private(line))
}

#[cfg(test)]
mod tests;
