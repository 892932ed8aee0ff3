//! `mtr-prober.toml`: every key is optional.
//!
//! The one rule: a value that passed [`Validate`] can be used as it is.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bootagent_kit::Secret;
use bootagent_kit::config::{Invalid, Validate};
use bootagent_kit::date::Date;
use bootagent_kit::fs;
use serde::Deserialize;

use crate::archive;
use crate::mesh::message::{self, GroupKey};
use crate::socket::{RouteError, Source};

/// The port of the API.
pub const PORT: u16 = 8081;
/// Most places to listen at.
const MAX_LISTEN: usize = 16;
/// Most lines a node may have.
const MAX_LINES: usize = 64;
/// Most windows of maintenance.
const MAX_WINDOWS: usize = 1_000;
/// Keys of the group at once, while it is changed.
const MAX_KEYS: usize = 4;
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

/// The mesh.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mesh {
    /// The list of peers; without it none is pinged.
    pub peers_file: Option<PathBuf>,
    /// A file with the group's key, which only its owner may read; several, one a line, while it is changed.
    pub key_file: Option<PathBuf>,
    /// Most events that are raised in an hour.
    pub events_per_hour: usize,
    /// When nothing is raised.
    pub maintenance: Vec<Maintenance>,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            peers_file: None,
            key_file: None,
            events_per_hour: 60,
            maintenance: Vec::new(),
        }
    }
}

/// A time in which nothing is raised.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// From then on,
    pub from: Minute,
    /// up to then.
    pub to: Minute,
    /// Of which peer, by its name or address; of all when absent.
    pub peer: Option<String>,
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

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// No file.
    #[error("the key of `mesh.key_file` cannot be read")]
    Read(#[from] fs::FsError),
    /// Others may read it.
    #[error("others may read {}; `chmod 600` it, and make a new key", .0.display())]
    Open(PathBuf),
    /// No key, or one that could be guessed.
    #[error("{} holds no key: {reason}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: message::KeyError,
    },
}

impl Mesh {
    /// The group's keys: the first seals, all open. None without a file.
    pub fn keys(&self) -> Result<Vec<GroupKey>, KeyFileError> {
        let Some(path) = &self.key_file else {
            return Ok(Vec::new());
        };
        let bytes = fs::read_limited(path, 4_096)?;
        let mode = std::fs::metadata(path).map(|it| it.permissions().mode());
        if mode.is_ok_and(|mode| mode & 0o077 != 0) {
            return Err(KeyFileError::Open(path.clone()));
        }
        let lines = bytes.split(|it| *it == b'\n').map(<[u8]>::trim_ascii);
        let mut lines: Vec<&[u8]> = lines.filter(|it| !it.is_empty()).take(MAX_KEYS).collect();
        if lines.is_empty() {
            lines.push(b"");
        }
        let keys = lines.into_iter().map(GroupKey::new);
        keys.collect::<Result<_, _>>()
            .map_err(|reason| KeyFileError::Unfit {
                path: path.clone(),
                reason,
            })
    }
}

/// A minute in UTC, `2026-12-01T22:00Z`, as its first unix second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Minute(pub i64);

impl TryFrom<String> for Minute {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = |text: &str, most: i64| -> Option<i64> {
            let is_plain = text.len() == 2 && text.bytes().all(|it| it.is_ascii_digit());
            let number = text.parse().ok()?;
            (is_plain && number <= most).then_some(number)
        };
        let parts = || {
            let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
            let date: Date = date.parse().ok()?;
            let (hour, minute) = time.split_once(':')?;
            Some(date.unix() + number(hour, 23)? * 3_600 + number(minute, 59)? * 60)
        };
        parts().map(Self).ok_or_else(|| {
            format!("{text:?} is no minute in UTC, write it as \"2026-12-01T22:00Z\"")
        })
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

/// A place where the API listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Listen {
    /// An address and port.
    Tcp(SocketAddr),
    /// A Unix socket, to be mounted into a container for instance.
    Unix(PathBuf),
}

impl Listen {
    /// Whether only this machine reaches it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse() {
            Ok(address) => Ok(Self::Tcp(address)),
            // The kernel's bound on a path is 107 bytes.
            Err(_) if text.starts_with('/') && text.len() <= 107 => Ok(Self::Unix(text.into())),
            Err(_) => Err(format!(
                "{text:?} is neither an address with a port, as \"127.0.0.1:8081\" or \"[::1]:8081\", nor the absolute path of a Unix socket"
            )),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A network: `192.0.2.0/24`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// Whether an address is in it.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        let same = |of_mine: u128, of_theirs: u128, bits: u8| {
            let shift = u32::from(bits - self.length);
            of_mine.checked_shr(shift) == of_theirs.checked_shr(shift)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(mine), IpAddr::V4(theirs)) => {
                same(mine.to_bits().into(), theirs.to_bits().into(), 32)
            }
            (IpAddr::V6(mine), IpAddr::V6(theirs)) => same(mine.to_bits(), theirs.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no prefix, write it as \"192.0.2.0/24\"");
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text.as_str(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        match length <= most {
            true => Ok(Self { address, length }),
            false => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_read_in_utc_and_nothing_else_is_one() {
        let read = |text: &str| Minute::try_from(text.to_owned());
        assert_eq!(read("1970-01-02T01:02Z"), Ok(Minute(90_120)));
        for wrong in [
            "2026-12-01",
            "2026-12-01T24:00Z",
            "2026-12-01T2:00Z",
            "2026-12-01T02:00+08:00",
            "2026-02-30T02:00Z",
        ] {
            assert!(
                read(wrong).is_err_and(|it| it.contains("2026-12-01T22:00Z")),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_key_that_others_may_read_or_guess_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        let mesh = Mesh {
            key_file: Some(path.clone()),
            ..Mesh::default()
        };
        let write = |text: &str, mode| {
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("set");
        };
        assert!(matches!(mesh.keys(), Err(KeyFileError::Read(_))));
        let good = "a key of the group\n\nthe one before it\n";
        write(good, 0o640);
        assert!(matches!(mesh.keys(), Err(KeyFileError::Open(_))));
        write(good, 0o600);
        assert_eq!(mesh.keys().map(|it| it.len()).ok(), Some(2));
        for unfit in ["", "too short\n"] {
            write(unfit, 0o600);
            assert!(
                matches!(mesh.keys(), Err(KeyFileError::Unfit { .. })),
                "{unfit:?}"
            );
        }
    }

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("mtr-prober.toml");
        std::fs::write(&path, text).expect("written");
        bootagent_kit::config::load(&path, 65_536)
            .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
    }

    #[test]
    fn the_defaults_are_local_and_valid() {
        let config = load("").expect("valid");
        assert_eq!(config, Config::default());
        let shown: Vec<String> = config.listen.iter().map(Listen::to_string).collect();
        assert_eq!(shown, ["127.0.0.1:8081", "[::1]:8081"]);
    }

    #[test]
    fn other_machines_are_served_only_with_a_token_or_a_list() {
        let open = "listen = [\"127.0.0.1:8081\", \"192.0.2.1:8081\"]\n";
        let error = load(open).expect_err("refused");
        assert!(error.contains("192.0.2.1:8081"), "{error}");
        assert!(
            error.contains("token_file") && error.contains("allow"),
            "{error}"
        );
        assert!(load(&format!("{open}allow = [\"192.0.2.0/24\"]")).is_ok());
        assert!(load(&format!("{open}token_file = \"/x\"")).is_ok());
        for local in [
            "127.3.2.1:1",
            "[::1]:1",
            "/run/x.sock",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(load(&format!("listen = [{local:?}]")).is_ok(), "{local}");
        }
        for open in ["0.0.0.0:1", "[::]:1"] {
            assert!(load(&format!("listen = [{open:?}]")).is_err(), "{open}");
        }
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, part) in [
            ("listne = []", "listne"),
            ("listen = [\"localhost:8081\"]", "neither an address"),
            ("allow = [\"10.0.0.0/33\"]", "no prefix"),
            ("allow = [\"ten\"]", "no prefix"),
            ("budget = 9", "budget"),
            ("archive_megabytes = 1", "archive_megabytes"),
            ("archive_days = 0", "archive_days"),
            ("node = \"\"", "node"),
            ("[lines.a]\nsource = \"\"", "lines.a"),
            ("[lines.a]\nsource = \"lo\"\ncolour = 1", "colour"),
        ] {
            let error = load(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_prefix_holds_its_addresses_and_no_others() {
        let prefix = |text: &str| Prefix::try_from(text.to_owned()).expect(text);
        let holds = |text, address: &str| prefix(text).holds(address.parse().expect(address));
        assert!(holds("192.0.2.0/24", "192.0.2.255"));
        assert!(!holds("192.0.2.0/24", "192.0.3.0"));
        assert!(holds("192.0.2.0/24", "::ffff:192.0.2.1"));
        assert!(holds("0.0.0.0/0", "203.0.113.1") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("::/0", "2001:db8::1"));
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.6"));
    }

    #[test]
    fn a_line_names_its_source_and_circuit() {
        let config = load("[lines.telecom]\nsource = \"lo\"\ncircuit = \"CT-1\"").expect("valid");
        let source = config.source(Some("telecom")).expect("known");
        assert_eq!(source.interface, Some(1));
        let (name, line) = config.line(Some("telecom")).expect("a line");
        assert_eq!(
            (name.as_str(), line.circuit.as_deref()),
            ("telecom", Some("CT-1"))
        );
        assert!(config.source(Some("unicom")).is_err());
    }
}
