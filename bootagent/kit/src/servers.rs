//! Server lists: `HOST:PORT,HOST2`, in the order they are tried.
//!
//! An entry may carry `http://` or `https://`; no port means 80, with
//! `https://` 443; blanks and empty entries are ignored; an IPv6 address
//! stands in brackets. Nothing is resolved or contacted here.
//!
//! The one rule: order and repetition are kept. Who lists a server twice
//! wants it tried twice.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Most entries of a list.
pub const MAX_SERVERS: usize = 64;
/// Longest host name, in bytes: the limit of DNS.
const MAX_HOST_BYTES: usize = 253;

/// Why a text is no server list: which entry, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerListError {
    /// An entry that is no server.
    #[error("server {entry:?}: {expected}; write HOST:PORT,HOST2")]
    Entry {
        /// The entry, shortened, without a user name or password.
        entry: String,
        /// What is wrong with it.
        expected: &'static str,
    },
    /// More entries than anybody has servers.
    #[error("more than 64 servers; leave the ones that matter")]
    TooMany,
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP in TLS, verified.
    Https,
}

impl Scheme {
    /// The port where none is written.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Name or address, an IPv6 address without its brackets.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
}

impl Server {
    /// What a path beginning with `/` is appended to: `http://host:8080`.
    pub fn base_url(&self) -> String {
        format!("{}://{}", self.scheme.as_str(), Authority(self))
    }
}

/// Host and port as they stand in a URL, the default port left out.
struct Authority<'a>(&'a Server);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.0;
        if server.host.contains(':') {
            write!(f, "[{}]", server.host)?;
        } else {
            f.write_str(&server.host)?;
        }
        if server.port == server.scheme.default_port() {
            return Ok(());
        }
        write!(f, ":{}", server.port)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Scheme::Http => write!(f, "{}", Authority(self)),
            Scheme::Https => write!(f, "https://{}", Authority(self)),
        }
    }
}

impl FromStr for Server {
    type Err = ServerListError;

    fn from_str(text: &str) -> Result<Self, ServerListError> {
        let entry = text.trim();
        let fail = |expected| ServerListError::Entry {
            entry: shown(entry),
            expected,
        };
        let (scheme, rest) = match entry.split_once("://") {
            None => (Scheme::Http, entry),
            Some((word, rest)) if word.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
            Some((word, rest)) if word.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
            Some(_) => return Err(fail("only http:// and https:// are known")),
        };
        // People paste `http://host/`; a real path would never be asked for.
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_port(rest).map_err(fail)?;
        let port = match port {
            None => scheme.default_port(),
            Some(digits) => parse_port(digits).ok_or_else(|| fail("a port is 1 to 65535"))?,
        };
        Ok(Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`; the host is checked.
fn split_port(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("the ] is missing")?;
        host.parse::<Ipv6Addr>()
            .map_err(|_| "no IPv6 address in the brackets")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err("only :PORT may follow the ]"),
        };
    }
    let (host, port) = match text.split_once(':') {
        None => (text, None),
        Some((_, port)) if port.contains(':') => {
            return Err("an IPv6 address stands in [brackets]");
        }
        Some((host, port)) => (host, Some(port)),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.len() > MAX_HOST_BYTES {
        return Err("a host name has at most 253 bytes");
    }
    if !host.bytes().all(allowed) || host.starts_with(['-', '.']) {
        return Err("a host name has only letters, digits, - . and _");
    }
    Ok((host, port))
}

fn parse_port(digits: &str) -> Option<u16> {
    // `u16::from_str` would also take `+80`.
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain
        .then(|| digits.parse().ok())
        .flatten()
        .filter(|&port| port != 0)
}

/// An entry for an error message. What stands before an `@` is no part of a
/// server and may be a password.
fn shown(entry: &str) -> String {
    let visible = entry.rsplit_once('@').map_or(entry, |(_, host)| host);
    bootagent_protocol::truncate(visible, 80).to_owned()
}

/// Servers in the order they are tried; may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerList(Vec<Server>);

impl ServerList {
    /// Reads a list; a text of blanks and commas is an empty one.
    pub fn parse(text: &str) -> Result<Self, ServerListError> {
        let mut servers = Vec::new();
        for entry in text.split(',').filter(|entry| !entry.trim().is_empty()) {
            if servers.len() == MAX_SERVERS {
                return Err(ServerListError::TooMany);
            }
            servers.push(entry.parse()?);
        }
        Ok(Self(servers))
    }

    /// This list followed by another one, nothing left out.
    #[must_use]
    pub fn followed_by(mut self, other: &Self) -> Self {
        self.0.extend_from_slice(&other.0);
        self
    }

    /// The servers in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Server> {
        self.0.iter()
    }

    /// How many servers there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a ServerList {
    type Item = &'a Server;
    type IntoIter = std::slice::Iter<'a, Server>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromStr for ServerList {
    type Err = ServerListError;

    fn from_str(text: &str) -> Result<Self, ServerListError> {
        Self::parse(text)
    }
}

impl fmt::Display for ServerList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, server) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{server}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
