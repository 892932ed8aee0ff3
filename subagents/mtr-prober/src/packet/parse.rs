//! Reads what came in on a raw ICMP socket.
//!
//! The one rule: every field is looked at only where the bytes reach it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Answer, ECHO_HEADER, Family, Kind, OURS, SAID, SAID_AT, SAYS, Sequence, extension};
use crate::report::{Mpls, Unreachable};

/// ICMP's protocol numbers.
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Reads an IPv4 packet with its header, as a raw socket gives it. `None` for what is no answer to an
/// echo request, or to one that is not `magic`'s.
#[must_use]
pub fn parse_v4(packet: &[u8], magic: u32) -> Option<Answer> {
    let icmp = after_v4_header(packet)?;
    let (&code, kind) = (icmp.get(1)?, *icmp.first()?);
    match kind {
        0 => reply(icmp, magic),
        _ => quote(icmp, error(Family::V4, kind, code)?, Family::V4, magic),
    }
}

/// Reads an ICMPv6 message, which a raw socket gives without its IP header.
#[must_use]
pub fn parse_v6(icmp: &[u8], magic: u32) -> Option<Answer> {
    let (&code, kind) = (icmp.get(1)?, *icmp.first()?);
    match kind {
        129 => reply(icmp, magic),
        _ => quote(icmp, error(Family::V6, kind, code)?, Family::V6, magic),
    }
}

/// Reads what a ping socket gives: without IP header, and for a probe of its own.
#[must_use]
pub fn parse_reply(icmp: &[u8], family: Family, magic: u32) -> Option<Answer> {
    match (family, icmp.first()?) {
        (Family::V4, 0) | (Family::V6, 129) => reply(icmp, magic),
        _ => None,
    }
}

/// Reads an ICMP error as a ping socket's queue has it: type, code and the quoted packet's target, then what was
/// quoted from its ICMP header on.
#[must_use]
pub fn parse_error(
    (kind, code): (u8, u8),
    target: IpAddr,
    quoted: &[u8],
    magic: u32,
) -> Option<Answer> {
    let family = Family::of(target);
    let kind = error(family, kind, code)?;
    let mpls = extension::behind(quoted, family);
    quoted_echo(kind, family, target, quoted, mpls, magic)
}

/// What a type and a code of ICMP say, if that is an answer to an echo request.
fn error(family: Family, kind: u8, code: u8) -> Option<Kind> {
    let reason = match (family, kind) {
        // Code 1 says that fragments were not put together in time.
        (Family::V4, 11) | (Family::V6, 3) => return (code == 0).then_some(Kind::TimeExceeded),
        (Family::V4, 3) => match code {
            0 | 6 | 11 => Unreachable::Network,
            1 | 7 | 12 => Unreachable::Host,
            9 | 10 | 13 => Unreachable::Prohibited,
            other => Unreachable::Other(other),
        },
        (Family::V6, 1) => match code {
            0 => Unreachable::Network,
            3 => Unreachable::Host,
            1 | 5 | 6 => Unreachable::Prohibited,
            other => Unreachable::Other(other),
        },
        _ => return None,
    };
    Some(Kind::Unreachable(reason))
}

/// What the ping of another node says, in an IPv4 packet with its header; nothing is said of who may say it.
#[must_use]
pub fn said_v4(packet: &[u8]) -> Option<[u8; SAID]> {
    said(after_v4_header(packet)?, Family::V4)
}

/// The same in an ICMPv6 message.
#[must_use]
pub fn said_v6(icmp: &[u8]) -> Option<[u8; SAID]> {
    said(icmp, Family::V6)
}

fn said(icmp: &[u8], family: Family) -> Option<[u8; SAID]> {
    let is_request = icmp.first() == Some(&family.echo_request()) && icmp.get(1) == Some(&0);
    let said: &[u8; SAID] = icmp.get(SAID_AT..SAID_AT + SAID)?.try_into().ok()?;
    (is_request && said.starts_with(&SAYS)).then_some(*said)
}

fn reply(icmp: &[u8], magic: u32) -> Option<Answer> {
    let echo = Echo::read(icmp, magic)?;
    let (id, cookie) = echo.payload?;
    Some(Answer {
        kind: Kind::Reply,
        id,
        header_id: echo.id,
        sequence: echo.sequence,
        cookie: Some(cookie),
        quoted_target: None,
        quoted_checksum: None,
        mpls: Vec::new(),
    })
}

fn quote(icmp: &[u8], kind: Kind, family: Family, magic: u32) -> Option<Answer> {
    let body = icmp.get(ECHO_HEADER..)?;
    let (quoted, mpls) = extension::split(icmp, body, family);
    let (target, inner) = match family {
        Family::V4 => quoted_v4(quoted)?,
        Family::V6 => quoted_v6(quoted)?,
    };
    quoted_echo(kind, family, target, inner, mpls, magic)
}

/// Reads the quoted probe, from its ICMP header on.
fn quoted_echo(
    kind: Kind,
    family: Family,
    target: IpAddr,
    inner: &[u8],
    mpls: Vec<Mpls>,
    magic: u32,
) -> Option<Answer> {
    if inner.first() != Some(&family.echo_request()) || inner.get(1) != Some(&0) {
        return None;
    }
    let echo = Echo::read(inner, magic)?;
    Some(Answer {
        kind,
        id: echo.payload.map_or(echo.id, |(id, _)| id),
        header_id: echo.id,
        sequence: echo.sequence,
        cookie: echo.payload.map(|(_, cookie)| cookie),
        quoted_target: Some(target),
        quoted_checksum: (family == Family::V4).then_some(echo.checksum),
        mpls,
    })
}

/// What an echo message says of itself.
struct Echo {
    checksum: u16,
    id: u16,
    sequence: Sequence,
    /// Identifier and cookie, where the payload is there.
    payload: Option<(u16, u32)>,
}

impl Echo {
    /// `None` when the header is not whole, or the payload is somebody else's. A payload of zeros is one
    /// that a router cut off and filled up.
    fn read(icmp: &[u8], magic: u32) -> Option<Self> {
        let payload = match icmp.get(ECHO_HEADER..ECHO_HEADER + OURS) {
            None => None,
            Some(ours) => match be32(ours, 4)? {
                word if word == magic => Some((be16(ours, 2)?, be32(ours, 8)?)),
                0 => None,
                _ => return None,
            },
        };
        Some(Self {
            checksum: be16(icmp, 2)?,
            id: be16(icmp, 4)?,
            sequence: Sequence(be16(icmp, 6)?),
            payload,
        })
    }
}

/// What follows an IPv4 header that is there as a whole.
fn after_v4_header(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let length = usize::from(first & 0xf) * 4;
    (first >> 4 == 4 && length >= 20)
        .then(|| packet.get(length..))
        .flatten()
}

fn quoted_v4(quoted: &[u8]) -> Option<(IpAddr, &[u8])> {
    let inner = after_v4_header(quoted)?;
    let fragment = be16(quoted, 6)? & 0x1fff;
    let octets: [u8; 4] = quoted.get(16..20)?.try_into().ok()?;
    (quoted[9] == ICMP && fragment == 0).then(|| (IpAddr::V4(Ipv4Addr::from(octets)), inner))
}

fn quoted_v6(quoted: &[u8]) -> Option<(IpAddr, &[u8])> {
    let inner = quoted.get(40..)?;
    let octets: [u8; 16] = quoted.get(24..40)?.try_into().ok()?;
    (quoted[0] >> 4 == 6 && quoted[6] == ICMPV6)
        .then(|| (IpAddr::V6(Ipv6Addr::from(octets)), inner))
}

/// Two bytes in network order.
pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(two.try_into().ok()?))
}

/// Four bytes in network order.
pub(super) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}
