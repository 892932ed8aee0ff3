//! The four kinds of URL a job may name, and what may be shown of them.
//!
//! Pure text: nothing is resolved or contacted. The one rule: `Display` shows
//! neither user, password nor query, since each may be a secret, so that an
//! [`Url`] can stand in any message.

use std::fmt;
use std::path::PathBuf;

use bootagent_kit::Secret;
use bootagent_kit::servers::{Scheme as ServerScheme, Server};

/// Longest URL, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// How a package is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP in TLS.
    Https,
    /// FTP, passive.
    Ftp,
    /// A file on this host.
    File,
}

impl Scheme {
    fn parse(word: &str) -> Option<Self> {
        let all = [Self::Http, Self::Https, Self::Ftp, Self::File];
        all.into_iter()
            .find(|scheme| scheme.as_str().eq_ignore_ascii_case(word))
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ftp => "ftp",
            Self::File => "file",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Ftp => 21,
            Self::File => 0,
        }
    }
}

/// A user and a password from a URL, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: Secret,
    /// The password; empty when the URL has none.
    pub password: Secret,
}

/// Why a text is no URL we can fetch. The text itself is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the url is not usable: {0}")]
pub struct UrlError(&'static str);

/// A URL a package can be fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// How.
    pub scheme: Scheme,
    /// Who we are there.
    pub login: Option<Login>,
    /// Name or address, IPv6 without brackets; empty for a file.
    pub host: String,
    /// TCP port; 0 for a file.
    pub port: u16,
    /// Path and query as written, beginning with `/`.
    pub path: String,
}

impl Url {
    /// Reads a job's `url`. One that begins with `/` is at `base`, the server
    /// that gave the job.
    pub fn parse(text: &str, base: Option<&Server>) -> Result<Self, UrlError> {
        if text.len() > MAX_URL_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlError(
                "at most 2048 printable characters without blanks are expected",
            ));
        }
        if text.starts_with('/') && !text.starts_with("//") {
            let base = base.ok_or(UrlError("it is relative, but no server gave this job"))?;
            return Self::parse(&format!("{}{text}", base.base_url()), None);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError(
            "http://, https://, ftp://, file:// or a path beginning with / is expected",
        ))?;
        let scheme =
            Scheme::parse(scheme).ok_or(UrlError("only http, https, ftp and file are known"))?;
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = match path.as_bytes().first() {
            Some(b'/') => path.to_owned(),
            _ => format!("/{path}"),
        };
        if scheme == Scheme::File {
            if !authority.is_empty() && !authority.eq_ignore_ascii_case("localhost") {
                return Err(UrlError(
                    "file:// is followed by a path on this host: file:///path",
                ));
            }
            return Ok(Self {
                scheme,
                login: None,
                host: String::new(),
                port: 0,
                path,
            });
        }
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(parse_login(login)?), place),
            None => (None, authority),
        };
        let (host, port) = parse_place(place)?;
        let port = port.unwrap_or(scheme.default_port());
        Ok(Self {
            scheme,
            login,
            host,
            port,
            path,
        })
    }

    /// Where a redirect leads. The login stays behind: it was for this host.
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        if location.contains("://") {
            return Self::parse(location, None);
        }
        let place = self.place();
        let scheme = self.scheme.as_str();
        let absolute = if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{place}{location}")
        } else if location.starts_with('?') {
            format!("{scheme}://{place}{}{location}", self.path_only())
        } else {
            let folder = self
                .path_only()
                .rsplit_once('/')
                .map_or("", |(folder, _)| folder);
            format!("{scheme}://{place}{folder}/{location}")
        };
        Self::parse(&absolute, None)
    }

    /// The whole URL but the login: what an HTTP client is given.
    pub fn without_login(&self) -> String {
        format!("{}://{}{}", self.scheme.as_str(), self.place(), self.path)
    }

    /// Whether the URL is on `server`: same scheme, host and port.
    pub fn is_on(&self, server: &Server) -> bool {
        let scheme = match server.scheme {
            ServerScheme::Http => Scheme::Http,
            ServerScheme::Https => Scheme::Https,
        };
        let same_host = self.host.eq_ignore_ascii_case(&server.host);
        self.scheme == scheme && same_host && self.port == server.port
    }

    /// The path with its %xx decoded; a query belongs to it, since neither
    /// FTP nor a file system knows queries.
    pub fn decoded_path(&self) -> Result<String, UrlError> {
        let path = decode(&self.path)?;
        match path.chars().any(char::is_control) {
            true => Err(UrlError("its path has control characters")),
            false => Ok(path),
        }
    }

    /// The path of a `file://` URL.
    pub fn file_path(&self) -> Result<PathBuf, UrlError> {
        self.decoded_path().map(PathBuf::from)
    }

    fn path_only(&self) -> &str {
        self.path.split('?').next().unwrap_or(&self.path)
    }

    fn place(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port == self.scheme.default_port() {
            true => host,
            false => format!("{host}:{}", self.port),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = bootagent_protocol::truncate(self.path_only(), 300);
        write!(f, "{}://{}{path}", self.scheme.as_str(), self.place())
    }
}

fn parse_login(text: &str) -> Result<Login, UrlError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let (user, password) = (decode(user)?, decode(password)?);
    if user.chars().chain(password.chars()).any(char::is_control) {
        return Err(UrlError("its user or password has control characters"));
    }
    Ok(Login {
        user: Secret::new(user),
        password: Secret::new(password),
    })
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`.
fn parse_place(text: &str) -> Result<(String, Option<u16>), UrlError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(UrlError("the ] is missing"))?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| UrlError("there is no IPv6 address in the brackets"))?;
            (
                host,
                after
                    .strip_prefix(':')
                    .or((!after.is_empty()).then_some("x")),
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
        return Err(UrlError("a host is expected after the //"));
    }
    let port = match port {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port = digits.parse().ok().filter(|&port| port != 0);
            Some(port.ok_or(UrlError("a port is 1 to 65535"))?)
        }
        Some(_) => return Err(UrlError("a port is 1 to 65535")),
        None => None,
    };
    Ok((host.to_ascii_lowercase(), port))
}

fn decode(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit(), digit());
        let value = high
            .zip(low)
            .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(value.ok_or(UrlError("after % two hexadecimal digits are expected"))?);
    }
    String::from_utf8(bytes).map_err(|_| UrlError("its decoded text is not UTF-8"))
}

#[cfg(test)]
#[path = "url/tests.rs"]
mod tests;
