//! The two sockets all probes leave by and all answers come in on, and which way a packet would go.
//!
//! The one rule: what this machine does not let us do is said with what would let us.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{setsockopt, sockopt};

use crate::packet::{Family, filter};
use crate::sys::{self, Outbox};

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither capability nor root.
    #[error("no raw socket is allowed here; give the program CAP_NET_RAW, or run it as root")]
    NotPermitted(#[source] io::Error),
    /// Something else.
    #[error("opening the {0} socket")]
    Failed(&'static str, #[source] io::Error),
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
}

impl Lane {
    /// Opens the socket of a family. Its receive buffer is of so many bytes, or of as many as the kernel allows.
    pub(crate) fn open(
        family: Family,
        magic: u32,
        base: u16,
        receive_buffer: usize,
    ) -> Result<Self, OpenError> {
        let (name, domain, protocol) = match family {
            Family::V4 => ("IPv4", libc::AF_INET, libc::IPPROTO_ICMP),
            Family::V6 => ("IPv6", libc::AF_INET6, libc::IPPROTO_ICMPV6),
        };
        let fd = sys::raw_socket(domain, protocol).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => OpenError::NotPermitted(error),
            _ => OpenError::Failed(name, error),
        })?;
        prepare(fd.as_fd(), family, magic, base, receive_buffer)
            .map_err(|error| OpenError::Failed(name, error))?;
        Ok(Self {
            family,
            fd,
            outbox: Outbox::new(),
            letters: Vec::with_capacity(sys::SEND_BATCH),
            dropped: 0,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The size of the receive buffer that the kernel gives.
    pub(crate) fn receive_buffer(&self) -> usize {
        sys::receive_buffer(self.fd()).unwrap_or(0)
    }

    /// Packets the kernel threw away since the socket was opened.
    pub(crate) fn all_dropped(&self) -> u64 {
        sys::dropped(self.fd())
            .unwrap_or(0)
            .max(self.dropped)
            .into()
    }
}

fn prepare(
    fd: BorrowedFd<'_>,
    family: Family,
    magic: u32,
    base: u16,
    receive_buffer: usize,
) -> io::Result<()> {
    let program = match family {
        Family::V4 => filter::v4(magic, base),
        Family::V6 => filter::v6(magic),
    };
    sys::attach_filter(fd, &program)?;
    if family == Family::V6 {
        sys::pass_icmp6(fd, &[1, 3, 128, 129])?;
    }
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
