//! A socket that may be had without any capability: for echo requests only, of one measurement.
//!
//! The kernel chooses its identifier, gives it the replies that have it, and keeps what routers quote of its
//! requests in a queue of errors. Options of the socket say TTL and way, not messages beside each packet: for IPv6
//! kernels before 5.18 overlook these.
//!
//! The one rule: an error about an earlier probe is never taken for one of the next.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{
    MsgFlags, SockType, SockaddrStorage, bind, getsockname, sendto, setsockopt, sockopt,
};

use super::{Source, icmp_socket, prepare};
use crate::packet::Family;
use crate::sys;

/// How often a probe is handed over. The kernel tells an error about an earlier one instead of sending, each once;
/// a second one may come meanwhile.
const TRIES: usize = 4;

/// The socket of a measurement.
#[derive(Debug)]
pub(crate) struct PingSocket {
    family: Family,
    fd: OwnedFd,
    interface: u32,
    /// What its next packet will have.
    ttl: Option<u8>,
}

impl PingSocket {
    /// Opens one for probes by this way.
    pub(crate) fn open(family: Family, source: Source, receive_buffer: usize) -> io::Result<Self> {
        let fd = icmp_socket(family, SockType::Datagram)?;
        let interface = source.interface.unwrap_or(0);
        let (level, errors, by, from) = match family {
            Family::V4 => (
                libc::IPPROTO_IP,
                libc::IP_RECVERR,
                libc::IP_UNICAST_IF,
                IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ),
            Family::V6 => (
                libc::IPPROTO_IPV6,
                libc::IPV6_RECVERR,
                libc::IPV6_UNICAST_IF,
                IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            ),
        };
        let on: libc::c_int = 1;
        sys::set_option(fd.as_fd(), level, errors, &on)?;
        // Not bound to the interface: answers may come back by another one.
        sys::set_option(fd.as_fd(), level, by, &interface.to_be())?;
        prepare(fd.as_fd(), receive_buffer)?;
        let from = source.address.unwrap_or(from);
        bind(fd.as_raw_fd(), &name(from, 0, interface))?;
        Ok(Self {
            family,
            fd,
            interface,
            ttl: None,
        })
    }

    /// The identifier its probes have.
    pub(crate) fn identifier(&self) -> io::Result<u16> {
        let own: SockaddrStorage = getsockname(self.fd.as_raw_fd())?;
        let v4 = own.as_sockaddr_in().map(|own| own.port());
        let v6 = own.as_sockaddr_in6().map(|own| own.port());
        v4.or(v6).ok_or_else(|| io::Error::other("it has no name"))
    }

    pub(crate) fn family(&self) -> Family {
        self.family
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Packets the kernel threw away since it was opened.
    pub(crate) fn dropped(&self) -> u64 {
        sys::dropped(self.fd()).unwrap_or(0).into()
    }

    /// Sends a probe; an error is about this one.
    pub(crate) fn send(&mut self, bytes: &[u8], to: IpAddr, ttl: u8) -> io::Result<()> {
        if self.ttl != Some(ttl) {
            match self.family {
                Family::V4 => setsockopt(&self.fd, sockopt::Ipv4Ttl, &ttl.into()),
                Family::V6 => setsockopt(&self.fd, sockopt::Ipv6Ttl, &ttl.into()),
            }?;
            self.ttl = Some(ttl);
        }
        let to = name(to, 0, self.interface);
        let mut tries = 1;
        loop {
            match sendto(self.fd.as_raw_fd(), bytes, &to, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(error) if tries == TRIES => return Err(error.into()),
                Err(_) => tries += 1,
            }
        }
    }
}

fn name(address: IpAddr, port: u16, interface: u32) -> SockaddrStorage {
    match address {
        IpAddr::V4(_) => SocketAddr::new(address, port).into(),
        IpAddr::V6(address) => {
            SocketAddr::V6(SocketAddrV6::new(address, port, 0, interface)).into()
        }
    }
}

/// An ICMP error about a probe: who says it, and its type and code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) by: IpAddr,
    pub(crate) kind: u8,
    pub(crate) code: u8,
}

impl Complaint {
    /// Reads a `sock_extended_err` and the address behind it; `None` for an error of this machine's own.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        const ADDRESS: usize = size_of::<libc::sock_extended_err>();
        let &[_, _, _, _, origin, kind, code, ..] = bytes else {
            return None;
        };
        let octets = |at: usize, count: usize| bytes.get(ADDRESS + at..ADDRESS + at + count);
        let by: IpAddr = match origin {
            libc::SO_EE_ORIGIN_ICMP => <[u8; 4]>::try_from(octets(4, 4)?).ok()?.into(),
            libc::SO_EE_ORIGIN_ICMP6 => <[u8; 16]>::try_from(octets(8, 16)?).ok()?.into(),
            _ => return None,
        };
        (!by.is_unspecified()).then_some(Self { by, kind, code })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_who_says_it_and_one_of_our_own_is_nobodys() {
        let mut v4 = vec![0; 32];
        v4[4..7].copy_from_slice(&[libc::SO_EE_ORIGIN_ICMP, 11, 0]);
        v4[20..24].copy_from_slice(&[192, 0, 2, 1]);
        let by = IpAddr::from([192, 0, 2, 1]);
        let expected = Complaint {
            by,
            kind: 11,
            code: 0,
        };
        assert_eq!(Complaint::read(&v4), Some(expected));
        assert_eq!(Complaint::read(&v4[..23]), None);
        v4[4] = libc::SO_EE_ORIGIN_LOCAL;
        assert_eq!(Complaint::read(&v4), None);

        let mut v6 = vec![0; 44];
        v6[4..7].copy_from_slice(&[libc::SO_EE_ORIGIN_ICMP6, 1, 3]);
        assert_eq!(Complaint::read(&v6), None);
        v6[39] = 1;
        let found = Complaint::read(&v6).map(|it| (it.by, it.kind, it.code));
        assert_eq!(found, Some((IpAddr::V6(Ipv6Addr::LOCALHOST), 1, 3)));
    }
}
