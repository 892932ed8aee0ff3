//! The two sockets all probes leave by and all answers come in on, and which way a packet would go. Where raw
//! sockets are not allowed, `ping` is one for each measurement.
//!
//! The one rule: what this machine does not let us do is said with what would let us.

pub(crate) mod ping;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, getsockopt, setsockopt, socket, sockopt,
};

use crate::packet::{Family, filter};
use crate::sys::{self, Outbox};
use ping::PingSocket;

/// The kernel did not open a socket, and not for want of a privilege.
#[derive(Debug, thiserror::Error)]
#[error("opening the {0} socket")]
pub struct OpenError(&'static str, #[source] io::Error);

/// What this process may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rights {
    /// Raw sockets: it has CAP_NET_RAW, or is root.
    Raw,
    /// A ping socket for each measurement: it has a group of `net.ipv4.ping_group_range`.
    Ping,
    /// Neither.
    #[default]
    Nothing,
}

impl Rights {
    /// What would let us do more.
    pub const REMEDY: &str = "give the program CAP_NET_RAW (`setcap cap_net_raw+ep`, or `capabilities` of its \
        manifest or unit), or its group a place in `sysctl net.ipv4.ping_group_range`, and start it again";
}

/// The sockets there are to begin with.
pub(crate) struct Sockets {
    pub(crate) rights: Rights,
    /// The raw ones.
    pub(crate) lanes: Vec<Lane>,
    pub(crate) families: Vec<Family>,
    /// The size of a receive buffer that the kernel gives.
    pub(crate) receive_buffer: usize,
}

impl Sockets {
    /// Opens what is allowed. IPv6 may be switched off on a machine; IPv4 may not. The receive buffers are of so
    /// many bytes, or of as many as the kernel allows.
    pub(crate) fn open(magic: u32, base: u16, receive_buffer: usize) -> Result<Self, OpenError> {
        let raw = |family| Lane::open(family, magic, base, receive_buffer);
        let ping = |family| PingSocket::open(family, Source::default(), receive_buffer);
        let mut sockets = Self {
            rights: Rights::Nothing,
            lanes: Vec::new(),
            families: Vec::new(),
            receive_buffer: 0,
        };
        if let Some(lane) = allowed(Family::V4, raw(Family::V4))? {
            sockets.receive_buffer = received_at_once(lane.fd());
            sockets.rights = Rights::Raw;
            sockets.lanes.push(lane);
        } else if let Some(socket) = allowed(Family::V4, ping(Family::V4))? {
            sockets.receive_buffer = received_at_once(socket.fd());
            sockets.rights = Rights::Ping;
        } else {
            return Ok(sockets);
        }
        sockets.families.push(Family::V4);
        let second = match sockets.rights {
            Rights::Raw => raw(Family::V6).map(|lane| sockets.lanes.push(lane)),
            Rights::Ping | Rights::Nothing => ping(Family::V6).map(drop),
        };
        match second {
            Ok(()) => sockets.families.push(Family::V6),
            Err(error) => log::warn!("only IPv4 is measured: opening the IPv6 socket: {error}"),
        }
        Ok(sockets)
    }
}

/// What was opened; nothing if that is not permitted.
fn allowed<T>(family: Family, opened: io::Result<T>) -> Result<Option<T>, OpenError> {
    match opened {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(OpenError(name(family), error)),
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// A socket for ICMP of either kind. It neither blocks nor is inherited.
fn icmp_socket(family: Family, kind: SockType) -> io::Result<OwnedFd> {
    let (domain, protocol) = match family {
        Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
        Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(domain, kind, flags, protocol)?)
}

/// The bytes of answers the kernel keeps for us, in its own counting.
fn received_at_once(fd: BorrowedFd<'_>) -> usize {
    getsockopt(&fd, sockopt::RcvBuf).unwrap_or(0)
}

/// Where a measurement goes out. Nothing set: as the kernel's routes say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Source {
    /// The address probes carry; policy routes choose by it.
    pub address: Option<IpAddr>,
    /// The index of the interface they leave by.
    pub interface: Option<u32>,
}

/// Why nothing can be sent to a target.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// No such interface.
    #[error("there is no interface {0:?} and it is no address of this machine")]
    NoSource(String),
    /// The source address is of the other family.
    #[error("{0} and the target are of different families")]
    Families(IpAddr),
    /// The kernel knows no way.
    #[error("no route to {0}")]
    NoRoute(IpAddr, #[source] io::Error),
}

/// The socket of one family, and what is to leave by it.
pub(crate) struct Lane {
    pub(crate) family: Family,
    pub(crate) fd: OwnedFd,
    pub(crate) outbox: Outbox,
    /// The probes in the outbox.
    pub(crate) letters: Vec<crate::engine::Letter>,
    /// Packets the kernel threw away, as far as control messages tell.
    pub(crate) dropped: u32,
    split: Split,
}

/// Whether the kernel may send a probe in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// Where a line is too narrow for it; each IPv4 packet gets a number for that, which takes the kernel a tenth of the time
    /// a probe takes.
    WhereNeeded,
    /// Never.
    Never,
}

impl Lane {
    fn open(family: Family, magic: u32, base: u16, receive_buffer: usize) -> io::Result<Self> {
        let fd = icmp_socket(family, SockType::Raw)?;
        let program = match family {
            Family::V4 => filter::v4(magic, base),
            Family::V6 => filter::v6(magic),
        };
        sys::attach_filter(fd.as_fd(), &program)?;
        if family == Family::V6 {
            sys::pass_icmp6(fd.as_fd(), &[1, 3, 128, 129])?;
        }
        prepare(fd.as_fd(), receive_buffer)?;
        Ok(Self {
            family,
            fd,
            outbox: Outbox::new(),
            letters: Vec::with_capacity(sys::SEND_BATCH),
            dropped: 0,
            split: Split::WhereNeeded,
        })
    }

    /// From now on probes are sent in pieces or not.
    pub(crate) fn split(&mut self, split: Split) {
        if self.family != Family::V4 || self.split == split {
            return;
        }
        // Where it fails, the kernel goes on as before.
        if sys::set_split(self.fd.as_fd(), split).is_ok() {
            self.split = split;
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Packets the kernel threw away since the socket was opened.
    pub(crate) fn all_dropped(&self) -> u64 {
        sys::dropped(self.fd())
            .unwrap_or(0)
            .max(self.dropped)
            .into()
    }
}

/// Has the kernel stamp what comes, count what it throws away, and keep much.
fn prepare(fd: BorrowedFd<'_>, receive_buffer: usize) -> io::Result<()> {
    let on: libc::c_int = 1;
    sys::set_option(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &on)?;
    sys::set_option(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &on)?;
    // Beyond the system's bound only with CAP_NET_ADMIN.
    setsockopt(&fd, sockopt::RcvBufForce, &receive_buffer)
        .or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &receive_buffer))?;
    Ok(())
}

impl Source {
    /// Reads an address of this machine or the name of an interface.
    pub fn parse(text: &str) -> Result<Self, RouteError> {
        if let Ok(address) = text.parse() {
            return Ok(Self {
                address: Some(address),
                interface: None,
            });
        }
        match if_nametoindex(text) {
            Ok(index) => Ok(Self {
                address: None,
                interface: Some(index),
            }),
            Err(_) => Err(RouteError::NoSource(text.to_owned())),
        }
    }

    /// The address the kernel would put into a packet to `target`, if there is a route.
    pub fn address_to(&self, target: IpAddr) -> Result<IpAddr, RouteError> {
        if let Some(address) = self.address
            && address.is_ipv4() != target.is_ipv4()
        {
            return Err(RouteError::Families(address));
        }
        let unspecified = match target {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let ask = || {
            let socket = UdpSocket::bind(SocketAddr::new(self.address.unwrap_or(unspecified), 0))?;
            if let Some(name) = self.interface.and_then(interface_name) {
                setsockopt(&socket, sockopt::BindToDevice, &name.into())?;
            }
            // No packet leaves: the kernel only looks up the route. Any port will do.
            socket.connect(SocketAddr::new(target, 9))?;
            socket.local_addr()
        };
        let address = ask().map_err(|error| RouteError::NoRoute(target, error))?;
        Ok(address.ip())
    }
}

/// The interface that has this address.
#[must_use]
pub fn interface_of(address: IpAddr) -> Option<String> {
    let found = getifaddrs().ok()?.find(|interface| {
        let Some(storage) = &interface.address else {
            return false;
        };
        let v4 = storage.as_sockaddr_in().map(|name| IpAddr::from(name.ip()));
        let v6 = storage
            .as_sockaddr_in6()
            .map(|name| IpAddr::from(name.ip()));
        v4.or(v6) == Some(address)
    });
    found.map(|interface| interface.interface_name)
}

fn interface_name(index: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(index).ok()?;
    name.into_string().ok()
}
