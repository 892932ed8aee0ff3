//! `mtr-prober.toml`: every key is optional.
//!
//! The one rule: a value that passed [`Validate`] can be used as it is.

mod listen;
mod mesh;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use bootagent_kit::Secret;
use bootagent_kit::config::{Invalid, Validate};
use bootagent_kit::fs;
use serde::Deserialize;

use crate::archive;
use crate::socket::{RouteError, Source};

pub use listen::{Listen, Prefix};
pub use mesh::{KeyFileError, Maintenance, Mesh, Minute};

/// The port of the API.
pub const PORT: u16 = 8081;
/// Most places to listen at.
const MAX_LISTEN: usize = 16;
/// Most lines a node may have.
const MAX_LINES: usize = 64;
/// Most windows of maintenance.
const MAX_WINDOWS: usize = 1_000;
/// Longest name of a node, line or circuit, in bytes.
const MAX_NAME_BYTES: usize = 64;
/// Lengths of a token, in bytes: short ones can be guessed.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=256;

/// The configuration.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This node's name in reports; the host's when absent.
    pub node: Option<String>,
    /// Where the API listens.
    pub listen: Vec<Listen>,
    /// A file with the token that requests from other machines carry.
    pub token_file: Option<PathBuf>,
    /// Other machines whose requests need no token.
    pub allow: Vec<Prefix>,
    /// Probes per second for everything together.
    pub budget: u32,
    /// Cap of the archive.
    pub archive_megabytes: u64,
    /// Days reports are kept at most.
    pub archive_days: i64,
    /// The node's lines to the world by their names.
    pub lines: BTreeMap<String, Line>,
    /// The mesh.
    pub mesh: Mesh,
}

/// One line to the world.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// An address of this machine or an interface.
    pub source: String,
    /// The carrier's name for it, for tickets.
    pub circuit: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        let options = archive::Options::default();
        Self {
            node: None,
            listen: vec![
                Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))),
                Listen::Tcp(SocketAddr::from((Ipv6Addr::LOCALHOST, PORT))),
            ],
            token_file: None,
            allow: Vec::new(),
            budget: 2_000,
            archive_megabytes: options.max_bytes >> 20,
            archive_days: options.max_days,
            lines: BTreeMap::new(),
            mesh: Mesh::default(),
        }
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        let is_name = |name: &str| {
            (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
        };
        if self.node.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(Invalid::new("node", "1 to 64 bytes of text"));
        }
        if self.listen.len() > MAX_LISTEN {
            return Err(Invalid::new("listen", "at most 16 places"));
        }
        let is_open = |listen: &&Listen| !listen.is_local();
        if let Some(place) = self.listen.iter().find(is_open)
            && self.token_file.is_none()
            && self.allow.is_empty()
        {
            let expected = format!(
                "other machines reach {place}: a `token_file`, or `allow` with their prefixes, or only addresses of loopback, is"
            );
            return Err(Invalid::new("listen", expected));
        }
        if !(10..=1_000_000).contains(&self.budget) {
            return Err(Invalid::new("budget", "10 to 1000000 probes per second"));
        }
        if !(8..=1_048_576).contains(&self.archive_megabytes) {
            let expected = "8 to 1048576 megabytes";
            return Err(Invalid::new("archive_megabytes", expected));
        }
        if !(1..=3_660).contains(&self.archive_days) {
            return Err(Invalid::new("archive_days", "1 to 3660 days"));
        }
        if !(1..=10_000).contains(&self.mesh.events_per_hour) {
            return Err(Invalid::new("mesh.events_per_hour", "1 to 10000 events"));
        }
        if self.mesh.maintenance.len() > MAX_WINDOWS {
            return Err(Invalid::new("mesh.maintenance", "at most 1000 windows"));
        }
        if self.mesh.maintenance.iter().any(|it| it.from >= it.to) {
            let expected = "windows whose `from` is before their `to`";
            return Err(Invalid::new("mesh.maintenance", expected));
        }
        if self.lines.len() > MAX_LINES {
            return Err(Invalid::new("lines", "at most 64 lines"));
        }
        for (name, line) in &self.lines {
            let circuit = line.circuit.as_deref().unwrap_or("-");
            if !is_name(name) || !is_name(&line.source) || !is_name(circuit) {
                let key = format!("lines.{name}");
                return Err(Invalid::new(key, "names of 1 to 64 bytes of text"));
            }
        }
        Ok(())
    }
}

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No file.
    #[error("the token of `token_file` cannot be read")]
    Read(#[from] fs::FsError),
    /// Not a token.
    #[error("{} does not hold a token: one line of 16 to 256 visible characters", .0.display())]
    Unfit(PathBuf),
}

impl Config {
    /// The node's name.
    #[must_use]
    pub fn node_name(&self) -> String {
        let host = || nix::unistd::gethostname().ok()?.into_string().ok();
        self.node.clone().or_else(host).unwrap_or_default()
    }

    /// The token, if there is to be one.
    pub fn token(&self) -> Result<Option<Secret>, TokenError> {
        self.token_file.as_deref().map(read_token).transpose()
    }

    /// How the archive is to be.
    #[must_use]
    pub fn archive(&self) -> archive::Options {
        archive::Options {
            max_bytes: self.archive_megabytes << 20,
            max_days: self.archive_days,
            ..archive::Options::default()
        }
    }

    /// The line of this name, if it is one.
    #[must_use]
    pub fn line(&self, asked: Option<&str>) -> Option<(&String, &Line)> {
        self.lines.get_key_value(asked?)
    }

    /// What a measurement's source means: a line's name, an address or an interface.
    pub fn source(&self, asked: Option<&str>) -> Result<Source, RouteError> {
        let of_line = self.line(asked).map(|(_, line)| line.source.as_str());
        of_line
            .or(asked)
            .map_or(Ok(Source::default()), Source::parse)
    }
}

fn read_token(path: &Path) -> Result<Secret, TokenError> {
    let bytes = fs::read_limited(path, 4_096)?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    let token = text.trim_end();
    let fits = TOKEN_BYTES.contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    match fits {
        true => Ok(Secret::new(token)),
        false => Err(TokenError::Unfit(path.to_owned())),
    }
}
