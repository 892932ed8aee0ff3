//! The bytes of probes, and what the bytes that come back mean.
//!
//! A probe is an ICMP echo request. Its identifier is the trace's slot, its sequence
//! number says round and hop, so that an answer is found without a search. The first
//! word of its payload balances the sequence number: all probes of a trace have one
//! checksum, and routers that choose among lines by the first bytes of ICMP choose
//! one line for all of them (Paris traceroute).
//!
//! After that word the payload repeats the identifier, for translators that change it in
//! the header, then says whose probe this is: `magic` of this process, `cookie` of the
//! trace. What is believed of an answer is decided by `Marks::claim`.
//!
//! The one rule: whatever bytes come, nothing panics and nothing is guessed.

mod extension;
pub mod filter;
mod parse;

use std::net::IpAddr;

use crate::report::{Mpls, Unreachable};

pub use parse::{parse_error, parse_reply, parse_v4, parse_v6, said_v4, said_v6};

/// Hops a sequence number can tell apart.
pub const MAX_HOPS: u8 = 32;

/// Rounds a sequence number can tell apart; after these it begins anew.
pub const ROUNDS: u32 = 1 << 11;

/// Header of an echo request, and what of the payload is ours.
const ECHO_HEADER: usize = 8;
const OURS: usize = 12;

/// What a ping of the mesh says behind that: so many bytes, beginning with [`SAYS`].
pub const SAID: usize = 64;

/// How what a ping says begins. Requests with it are let in, so that a node hears its peers.
pub const SAYS: [u8; 4] = *b"MTRm";

/// Where in an echo message a ping says it.
const SAID_AT: usize = ECHO_HEADER + OURS;

/// The TTL of a ping.
pub const PING_TTL: u8 = 64;

/// The largest probe: what every Ethernet carries in one piece.
pub const MAX_SIZE: u16 = 1_500;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4, ICMP.
    V4,
    /// IPv6, ICMPv6.
    V6,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bytes of the IP header before a probe.
    #[must_use]
    pub fn ip_header(self) -> u16 {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// The smallest probe, its IP header included.
    #[must_use]
    pub fn min_size(self) -> u16 {
        self.ip_header() + 20
    }

    fn echo_request(self) -> u8 {
        match self {
            Self::V4 => 8,
            Self::V6 => 128,
        }
    }
}

/// The sequence number of a probe: the lower bits of its round, and its hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sequence(pub u16);

impl Sequence {
    /// That of the probe to hop `hop` (0 and up, below [`MAX_HOPS`]) in this round.
    #[must_use]
    pub fn new(round: u32, hop: u8) -> Self {
        debug_assert!(hop < MAX_HOPS);
        let round = u16::try_from(round % ROUNDS).expect("11 bits");
        Self(round << 5 | u16::from(hop % MAX_HOPS))
    }

    /// Which hop it was sent to, 0 and up.
    #[must_use]
    pub fn hop(self) -> u8 {
        u8::try_from(self.0 & 0x1f).expect("5 bits")
    }

    /// How many rounds before `round` it was sent, as far as its bits tell.
    #[must_use]
    pub fn age(self, round: u32) -> u32 {
        round.wrapping_sub(u32::from(self.0 >> 5)) % ROUNDS
    }
}

/// What makes the probes of one trace its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// The identifier: the trace's slot.
    pub id: u16,
    /// The checksum all its probes have; with IPv6, where addresses are summed up too, what is left
    /// of it without them. Neither 0 nor 0xffff, which are one number to this sum.
    pub checksum: u16,
    /// The process's word, not 0.
    pub magic: u32,
    /// The trace's word, not 0.
    pub cookie: u32,
}

/// Why an answer is not one to the trace that its identifier names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign;

impl Marks {
    /// Makes the marks of a trace from 64 random bits.
    #[must_use]
    pub fn new(id: u16, magic: u32, random: u64) -> Self {
        let [a, b, c, d, e, f, ..] = random.to_le_bytes();
        let cookie = u32::from_le_bytes([a, b, c, d]).max(1);
        let checksum = u16::from_le_bytes([e, f]).clamp(1, 0xfffe);
        Self {
            id,
            checksum,
            magic,
            cookie,
        }
    }

    /// Writes the probe with this sequence number into `buffer`, which becomes the ICMP part of an IP
    /// packet of `size` bytes.
    pub fn write(&self, buffer: &mut Vec<u8>, family: Family, size: u16, sequence: Sequence) {
        let size = size.clamp(family.min_size(), MAX_SIZE);
        buffer.clear();
        buffer.resize(usize::from(size - family.ip_header()), 0);
        self.fill(buffer, family, sequence);
    }

    /// Writes a ping that says this, or nothing, into `buffer`; all are of one length.
    pub fn write_ping(
        &self,
        buffer: &mut Vec<u8>,
        family: Family,
        sequence: Sequence,
        said: &[u8],
    ) {
        buffer.clear();
        buffer.resize(SAID_AT, 0);
        buffer.extend_from_slice(said);
        buffer.resize(SAID_AT + SAID, 0);
        self.fill(buffer, family, sequence);
    }

    fn fill(&self, buffer: &mut [u8], family: Family, sequence: Sequence) {
        buffer[0] = family.echo_request();
        buffer[2..4].copy_from_slice(&self.checksum.to_be_bytes());
        buffer[4..6].copy_from_slice(&self.id.to_be_bytes());
        buffer[6..8].copy_from_slice(&sequence.0.to_be_bytes());
        buffer[10..12].copy_from_slice(&self.id.to_be_bytes());
        buffer[12..16].copy_from_slice(&self.magic.to_be_bytes());
        buffer[16..20].copy_from_slice(&self.cookie.to_be_bytes());
        let balance = !sum(buffer);
        buffer[8..10].copy_from_slice(&balance.to_be_bytes());
        if family == Family::V6 {
            // The kernel sums up the addresses too and fills it in.
            buffer[2..4].fill(0);
        }
    }

    /// Decides whether an answer is to a probe of the trace to `target`:
    ///
    /// 1. An echo reply has the cookie, from whichever of its addresses the target sends it; a quote is of a packet
    ///    to the target.
    /// 2. A quote that has the cookie has ours.
    /// 3. A quote too short for it has our identifier, and with IPv4 our checksum.
    pub fn claim(&self, answer: &Answer, target: IpAddr) -> Result<(), Foreign> {
        let addressed = match answer.kind {
            Kind::Reply => answer.cookie.is_some(),
            Kind::TimeExceeded | Kind::Unreachable(_) => answer.quoted_target == Some(target),
        };
        let ours = match (answer.cookie, answer.quoted_checksum) {
            (Some(cookie), _) => cookie == self.cookie,
            (None, Some(checksum)) => answer.header_id == self.id && checksum == self.checksum,
            (None, None) => false,
        };
        if addressed && ours {
            Ok(())
        } else {
            Err(Foreign)
        }
    }
}

/// What kind of answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The target's echo reply.
    Reply,
    /// A router's "time exceeded".
    TimeExceeded,
    /// Somebody's "destination unreachable".
    Unreachable(Unreachable),
}

/// An answer to a probe, as far as its bytes tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Of what kind.
    pub kind: Kind,
    /// The identifier to look the trace up by: from our payload, where that came back whole.
    pub id: u16,
    /// The identifier in the ICMP header. Another one means that a translator changed it.
    pub header_id: u16,
    /// Which probe.
    pub sequence: Sequence,
    /// The trace's word, where the answer has our payload.
    pub cookie: Option<u32>,
    /// Where the quoted probe was going.
    pub quoted_target: Option<IpAddr>,
    /// The quoted probe's checksum (IPv4).
    pub quoted_checksum: Option<u16>,
    /// The label stack the probe had where it expired.
    pub mpls: Vec<Mpls>,
}

/// The one's complement sum of 16-bit words, the last one filled up with zero.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| match word {
        [high, low] => u16::from_be_bytes([*high, *low]),
        [high] => u16::from_be_bytes([*high, 0]),
        _ => 0,
    });
    let mut total: u64 = words.map(u64::from).sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::try_from(total).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests;
