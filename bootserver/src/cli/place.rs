//! Where the server is, and by which token it knows us.
//!
//! The one rule: no token stands in a command line, where everybody may read
//! it; a file or the environment is for it.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use axum::http::Uri;

use super::failure::Failure;
use super::words::Said;

/// Where a package has the server listen for root of this machine.
pub(super) const SOCKET: &str = "/run/bootserver/api.sock";
/// Largest file with a token, in bytes.
const MAX_TOKEN_BYTES: u64 = 4096;

/// A server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// On this machine.
    Unix(PathBuf),
    /// Anywhere.
    Net {
        /// Whether TLS is spoken.
        is_https: bool,
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
}

/// Whom to ask, and as who.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) server: Server,
    pub(super) token: Option<Token>,
    /// Certificates to trust beside the system's.
    pub(super) ca_file: Option<PathBuf>,
}

/// A token, which is never printed.
pub(super) struct Token(String);

impl Token {
    /// What the header says.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "{}", path.display()),
            Self::Net {
                is_https,
                host,
                port,
            } => {
                let scheme = if *is_https { "https" } else { "http" };
                write!(formatter, "{scheme}://{}:{port}", bracketed(host))
            }
        }
    }
}

/// A host as it stands in a URL.
pub(super) fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

impl Server {
    /// Reads `http://HOST:PORT`, `https://HOST`, `HOST:PORT` or the path of a
    /// Unix socket.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let wrong = || {
            Failure::Usage(format!(
                "--server: {text:?} is neither http://HOST:PORT, https://HOST nor the path of a socket"
            ))
        };
        let whole = match text.contains("://") {
            true => text.to_owned(),
            false => format!("http://{text}"),
        };
        let uri: Uri = whole.parse().map_err(|_| wrong())?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        // What would be left out silently is wrong.
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !is_bare || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        // The library takes a port that is no number for none.
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => Some(if is_https { 443 } else { 80 }),
            Some(port) => port.strip_prefix(':').and_then(|port| port.parse().ok()),
            None => None,
        };
        let port = port.ok_or_else(wrong)?;
        Ok(Self::Net {
            is_https,
            host,
            port,
        })
    }
}

/// What was said, else the environment, else this machine's.
pub(super) fn find(said: &Said) -> Result<Place, Failure> {
    let environment = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let server = said.server.clone();
    let server = match server.or_else(|| environment("BOOTSERVER_URL")) {
        Some(text) => Server::parse(&text)?,
        None => Server::Unix(SOCKET.into()),
    };
    let file = said.token_file.clone();
    let file = file.or_else(|| environment("BOOTSERVER_TOKEN_FILE").map(PathBuf::from));
    let token = match file {
        Some(path) => Some(from_file(&path)?),
        None => environment("BOOTSERVER_TOKEN")
            .map(|text| checked(&text, "BOOTSERVER_TOKEN"))
            .transpose()?,
    };
    let ca_file = said.ca_file.clone();
    let ca_file = ca_file.or_else(|| environment("BOOTSERVER_CA_FILE").map(PathBuf::from));
    Ok(Place {
        server,
        token,
        ca_file,
    })
}

fn from_file(path: &Path) -> Result<Token, Failure> {
    let shown = path.display();
    let context = || format!("reading the token in {shown}");
    let found = std::fs::metadata(path).with_context(context)?;
    if found.len() > MAX_TOKEN_BYTES {
        let text = format!("{shown} is larger than {MAX_TOKEN_BYTES} bytes: is it a token?");
        return Err(Failure::Failed(anyhow::Error::msg(text)));
    }
    if found.is_file() && found.permissions().mode() & 0o007 != 0 {
        eprintln!("bootserver: everybody may read the token in {shown}; chmod 600 it");
    }
    let text = std::fs::read_to_string(path).with_context(context)?;
    checked(text.lines().next().unwrap_or_default(), &shown.to_string())
}

/// Never repeats what is there, which may be a secret with a slip in it.
fn checked(text: &str, from: &str) -> Result<Token, Failure> {
    let text = text.trim();
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(Token(text.to_owned())),
        false => Err(Failure::Failed(anyhow::Error::msg(format!(
            "{from}: a token is one word of letters, digits and signs"
        )))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_url_an_address_or_a_socket() {
        for (text, shown) in [
            ("http://boot:8080", "http://boot:8080"),
            ("https://boot", "https://boot:443"),
            ("https://boot/", "https://boot:443"),
            ("boot:8080", "http://boot:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("127.0.0.1", "http://127.0.0.1:80"),
            ("/run/api.sock", "/run/api.sock"),
        ] {
            let server = Server::parse(text).expect(text);
            assert_eq!(server.to_string(), shown, "{text}");
        }
        for wrong in [
            "",
            "ftp://boot",
            "http://",
            "http://boot/api",
            "http://boot?x",
            "http://me:pw@boot",
            "boot:port",
            "a b",
        ] {
            assert!(Server::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_one_word_and_is_not_shown() {
        let token = checked(" bsa_secret\n", "here").expect("a token");
        assert_eq!(token.header(), "Bearer bsa_secret");
        assert!(!format!("{token:?}").contains("secret"));
        for wrong in ["", "two words", "schlüssel", "a\r\nX: y"] {
            let error = checked(wrong, "here").expect_err("no token").to_string();
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
    }
}
