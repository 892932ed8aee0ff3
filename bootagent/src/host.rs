//! What every part of the daemon needs to know about this host. Fixed for the
//! life of the process, except for what a SIGHUP reads again.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use bootagent_kit::clock;
use bootagent_kit::servers::ServerList;
use bootagent_protocol::{ARCH, Event};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::cgroup::Cgroups;
use crate::config::Config;
use crate::engine::Message;
use crate::journal::thread::JournalHandle;
use crate::paths::Paths;
use crate::spawn::Privilege;

/// This version, given at build time by the packaging.
pub const VERSION: &str = match option_env!("BOOTAGENT_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Servers that can never be removed, given at build time.
pub const COMPILED_SERVERS: &str = match option_env!("BOOT_SERVER_ADDR") {
    Some(servers) => servers,
    None => "",
};

/// What `version` says on the wire.
pub fn wire_version() -> String {
    format!("bootagent-{VERSION}-{ARCH}")
}

/// The compiled-in servers.
pub fn compiled_servers() -> ServerList {
    ServerList::parse(COMPILED_SERVERS).unwrap_or_default()
}

/// The host as one value.
pub struct Host {
    /// The configuration.
    pub config: Config,
    /// Where it was read.
    pub config_path: PathBuf,
    /// The layout.
    pub paths: Paths,
    /// Where children's cgroups are.
    pub cgroups: Cgroups,
    /// How children get their account.
    pub privilege: Privilege,
    /// This boot.
    pub boot_id: String,
    /// The journal.
    pub journal: JournalHandle,
    /// The engine's inbox.
    pub inbox: Inbox,
}

impl Host {
    /// Whether children live in a systemd scope.
    pub fn uses_scope(&self) -> bool {
        self.paths.is_system()
            && self.privilege != Privilege::Ourselves
            && crate::cgroup::scope::is_used()
    }

    /// Journals an event that no child's output belongs to, and pushes it.
    pub fn event(&self, category: &str, subject: &str, message: String) {
        self.store(new_event(category, subject, message), None);
    }

    /// Journals an event and pushes it.
    pub fn store(&self, event: Event, output: Option<crate::journal::tail::OutputPlace>) {
        let inbox = self.inbox.clone();
        self.journal
            .event(event, output, move || inbox.send(Message::News));
    }
}

/// An event of now.
pub fn new_event(category: &str, subject: &str, message: String) -> Event {
    Event {
        timestamp: i64::try_from(clock::unix_seconds()).unwrap_or(i64::MAX),
        category: category.to_owned(),
        subject: subject.to_owned(),
        message,
        ..Event::default()
    }
}

/// Where other threads put messages for the engine. Cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    sender: Sender<Message>,
    bell: Arc<EventFd>,
}

impl Inbox {
    /// An inbox and its receiving end.
    pub fn new() -> io::Result<(Self, std::sync::mpsc::Receiver<Message>)> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok((
            Self {
                sender,
                bell: Arc::new(bell),
            },
            receiver,
        ))
    }

    /// Puts a message in and wakes the engine.
    pub fn send(&self, message: Message) {
        // The engine ends only with the process.
        let _ = self.sender.send(message);
        let _ = self.bell.write(1);
    }

    /// Readable while the engine has not looked.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Silences the bell before the messages are read.
    pub fn silence(&self) {
        let _ = self.bell.read();
    }
}

/// The host name, as the kernel has it.
pub fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(
        |_| "localhost".into(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// /etc/machine-id, if there is one.
pub fn machine_id() -> Option<String> {
    let text = std::fs::read_to_string("/etc/machine-id").ok()?;
    let id = text.trim();
    (!id.is_empty() && id.len() <= 64).then(|| id.to_owned())
}

/// `ID VERSION_ID` of os-release, such as `debian 12`.
pub fn os() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let fields: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let field = |key| fields.get(key).map(|value: &&str| value.trim_matches('"'));
    let id = field("ID")?;
    Some(
        format!("{id} {}", field("VERSION_ID").unwrap_or_default())
            .trim()
            .to_owned(),
    )
}

/// Addresses of this host, without loopback and link-local ones.
pub fn addresses() -> Vec<String> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let mut addresses: Vec<String> = interfaces
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address
                .as_sockaddr_in()
                .map(|a| std::net::IpAddr::V4(a.ip()));
            v4.or_else(|| {
                address
                    .as_sockaddr_in6()
                    .map(|a| std::net::IpAddr::V6(a.ip()))
            })
        })
        .filter(|ip| match ip {
            std::net::IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            std::net::IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        })
        .map(|ip| ip.to_string())
        .collect();
    addresses.truncate(64);
    addresses
}

/// Any number, another one each time.
pub fn random() -> u32 {
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
