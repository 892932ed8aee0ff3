//! The calls no safe library offers: many packets in one call, with their stamps and their TTLs, and options
//! of sockets.
//!
//! The one rule: each `unsafe` block says why it is sound, and nothing else in this crate holds one.
#![expect(
    unsafe_code,
    reason = "sendmmsg and recvmmsg with control messages, socket filters, localtime_r and getrandom"
)]

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::{ptr, slice};

use crate::packet::filter::Instruction;
use crate::socket::Split;
use crate::socket::ping::Complaint;

/// Packets in one call to send: so few that all of them leave within an instant even where each is carried to
/// its end before the call returns, as between network namespaces.
pub(crate) const SEND_BATCH: usize = 16;

/// Packets in one call to receive.
const RECEIVE_BATCH: usize = 64;

/// Bytes of an answer that are read: an echo reply of the largest probe.
const PACKET_BYTES: usize = 1_600;

/// Room for control messages.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 256]);

/// Sets an option that is plain numbers.
pub(crate) fn set_option<T: Copy>(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(mem::size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `length` bytes of a live value.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_ref(value).cast(),
            length,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// How many packets the kernel has thrown away because the buffer was full; `None` before Linux 4.12.
pub(crate) fn dropped(fd: BorrowedFd<'_>) -> Option<u32> {
    const SO_MEMINFO: libc::c_int = 55;
    const DROPS: usize = 8;
    let mut values = [0_u32; DROPS + 1];
    let wanted = libc::socklen_t::try_from(mem::size_of_val(&values)).ok()?;
    let mut length = wanted;
    // SAFETY: the kernel writes at most `length` bytes into live numbers.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    (result == 0 && length == wanted).then_some(values[DROPS])
}

/// Lets the kernel pass only what the program passes.
pub(crate) fn attach_filter(fd: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
    let mut program: Vec<_> = program
        .iter()
        .map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
        .collect();
    let whole = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &whole)
}

/// Lets only these types of ICMPv6 through.
pub(crate) fn pass_icmp6(fd: BorrowedFd<'_>, types: &[u8]) -> io::Result<()> {
    const ICMP6_FILTER: libc::c_int = 1;
    let mut blocked = [u32::MAX; 8];
    for &kind in types {
        blocked[usize::from(kind / 32)] &= !(1 << (kind % 32));
    }
    set_option(fd, libc::IPPROTO_ICMPV6, ICMP6_FILTER, &blocked)
}

/// Whether IPv4 packets may be sent in pieces.
pub(crate) fn set_split(fd: BorrowedFd<'_>, split: Split) -> io::Result<()> {
    let value = match split {
        Split::WhereNeeded => libc::IP_PMTUDISC_WANT,
        Split::Never => libc::IP_PMTUDISC_PROBE,
    };
    set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &value)
}

/// Random bits from the kernel.
pub(crate) fn random() -> u64 {
    let mut value = 0_u64;
    // SAFETY: the kernel writes at most eight bytes into a live value of which every bit pattern is valid.
    let read = unsafe { libc::getrandom((&raw mut value).cast(), 8, 0) };
    assert_eq!(read, 8, "the kernel has random bits once it has booted");
    value
}

/// Seconds the local zone is east of UTC at this unix second.
pub(crate) fn zone(unix_seconds: i64) -> i32 {
    let seconds: libc::time_t = unix_seconds;
    // SAFETY: `tm` is plain numbers and a pointer, for which zero is valid.
    let mut broken_down: libc::tm = unsafe { mem::zeroed() };
    // SAFETY: both pointers are to live values of the right type, and localtime_r keeps neither of them.
    unsafe { libc::localtime_r(&raw const seconds, &raw mut broken_down) };
    i32::try_from(broken_down.tm_gmtoff).unwrap_or(0)
}

/// Where a packet goes, and by which way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) to: IpAddr,
    pub(crate) ttl: u8,
    pub(crate) source: Option<IpAddr>,
    pub(crate) interface: Option<u32>,
}

/// Packets to be sent in one call.
pub(crate) struct Outbox {
    letters: Vec<Letter>,
    filled: usize,
}

struct Letter {
    to: libc::sockaddr_storage,
    to_length: libc::socklen_t,
    control: Control,
    control_length: usize,
    bytes: Vec<u8>,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        let letter = || Letter {
            // SAFETY: plain numbers, for which zero is valid.
            to: unsafe { mem::zeroed() },
            to_length: 0,
            control: Control([0; 256]),
            control_length: 0,
            bytes: Vec::new(),
        };
        Self {
            letters: (0..SEND_BATCH).map(|_| letter()).collect(),
            filled: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    /// Adds a packet; there must be room. Gives the buffer for its bytes.
    pub(crate) fn add(&mut self, way: &Way) -> &mut Vec<u8> {
        let letter = &mut self.letters[self.filled];
        self.filled += 1;
        letter.address(way);
        &mut letter.bytes
    }

    /// Sends the packets from the given one on and tells how many the kernel took; an error is about the
    /// first of them.
    pub(crate) fn send(&mut self, fd: BorrowedFd<'_>, from: usize) -> io::Result<usize> {
        let mut vectors = [libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        }; SEND_BATCH];
        // SAFETY: plain numbers and pointers, for which zero is valid.
        let mut headers: [libc::mmsghdr; SEND_BATCH] = unsafe { mem::zeroed() };
        let letters = &mut self.letters[from..self.filled];
        let count = libc::c_uint::try_from(letters.len()).expect("a batch is small");
        for ((letter, vector), header) in letters.iter_mut().zip(&mut vectors).zip(&mut headers) {
            vector.iov_base = letter.bytes.as_mut_ptr().cast();
            vector.iov_len = letter.bytes.len();
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut letter.to).cast();
            header.msg_namelen = letter.to_length;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = letter.control.0.as_mut_ptr().cast();
            header.msg_controllen = letter.control_length as _;
        }
        // SAFETY: the first `count` headers point to live buffers of the lengths they say.
        let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, 0) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

impl Letter {
    fn address(&mut self, way: &Way) {
        let Way {
            to,
            ttl,
            source,
            interface,
        } = *way;
        let ttl = libc::c_int::from(ttl);
        let index = interface.unwrap_or(0);
        self.control_length = 0;
        match to {
            IpAddr::V4(to) => {
                // SAFETY: plain numbers, for which zero is valid.
                let mut name: libc::sockaddr_in = unsafe { mem::zeroed() };
                name.sin_family = libc::AF_INET as libc::sa_family_t;
                name.sin_addr = in_addr(to);
                self.set_name(name);
                self.add_control(libc::IPPROTO_IP, libc::IP_TTL, &ttl);
                let source = match source {
                    Some(IpAddr::V4(source)) => Some(source),
                    _ => None,
                };
                if source.is_some() || interface.is_some() {
                    let info = libc::in_pktinfo {
                        ipi_ifindex: libc::c_int::try_from(index).unwrap_or(0),
                        ipi_spec_dst: in_addr(source.unwrap_or(Ipv4Addr::UNSPECIFIED)),
                        ipi_addr: in_addr(Ipv4Addr::UNSPECIFIED),
                    };
                    self.add_control(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
                }
            }
            IpAddr::V6(to) => {
                // SAFETY: plain numbers, for which zero is valid.
                let mut name: libc::sockaddr_in6 = unsafe { mem::zeroed() };
                name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                name.sin6_addr.s6_addr = to.octets();
                name.sin6_scope_id = index;
                self.set_name(name);
                self.add_control(libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT, &ttl);
                let source = match source {
                    Some(IpAddr::V6(source)) => Some(source),
                    _ => None,
                };
                if source.is_some() || interface.is_some() {
                    let info = libc::in6_pktinfo {
                        ipi6_addr: libc::in6_addr {
                            s6_addr: source.unwrap_or(Ipv6Addr::UNSPECIFIED).octets(),
                        },
                        ipi6_ifindex: index as _,
                    };
                    self.add_control(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
                }
            }
        }
    }

    fn set_name<T: Copy>(&mut self, name: T) {
        const { assert!(mem::size_of::<T>() <= mem::size_of::<libc::sockaddr_storage>()) };
        // SAFETY: the storage is large enough for every socket address (checked above) and aligned for it.
        unsafe { ptr::from_mut(&mut self.to).cast::<T>().write(name) };
        self.to_length = libc::socklen_t::try_from(mem::size_of::<T>()).expect("small");
    }

    fn add_control<T: Copy>(&mut self, level: libc::c_int, kind: libc::c_int, value: &T) {
        let length = u32::try_from(mem::size_of::<T>()).expect("small");
        // SAFETY: these two only compute.
        let (space, whole) = unsafe { (libc::CMSG_SPACE(length), libc::CMSG_LEN(length)) };
        let at = self.control_length;
        let end = at + space as usize;
        let place = &mut self.control.0[at..end];
        place.fill(0);
        let header = place.as_mut_ptr().cast::<libc::cmsghdr>();
        // SAFETY: `place` holds a header and a value, and is aligned for both: the buffer is aligned to 8
        // and every space is a multiple of it.
        unsafe {
            (*header).cmsg_len = whole as _;
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            ptr::from_ref(value)
                .cast::<u8>()
                .copy_to_nonoverlapping(libc::CMSG_DATA(header), mem::size_of::<T>());
        }
        self.control_length = end;
    }
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from(address).to_be(),
    }
}

/// Packets received in one call.
pub(crate) struct Inbox {
    bytes: Vec<[u8; PACKET_BYTES]>,
    controls: Vec<Control>,
    arrivals: Vec<Arrival>,
}

/// Which of a socket's queues is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    Packets,
    /// What came back of packets it sent, where errors are asked for.
    Errors,
}

/// What the kernel says of a packet.
#[derive(Clone, Copy)]
struct Arrival {
    length: usize,
    from: Option<IpAddr>,
    controls: Controls,
}

/// What control messages tell.
#[derive(Clone, Copy, Default)]
struct Controls {
    stamp: Option<i64>,
    dropped: Option<u32>,
    complaint: Option<Complaint>,
}

/// A packet that came.
pub(crate) struct Received<'a> {
    pub(crate) bytes: &'a [u8],
    /// Who sent it; of an error, to whom the packet was sent that it is about.
    pub(crate) from: IpAddr,
    /// When the kernel got it, unix nanoseconds.
    pub(crate) stamp: Option<i64>,
    /// How many the socket had thrown away by then.
    pub(crate) dropped: Option<u32>,
    /// Set if it is from the queue of errors: the bytes are what was quoted.
    pub(crate) complaint: Option<Complaint>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![[0; PACKET_BYTES]; RECEIVE_BATCH],
            controls: vec![Control([0; 256]); RECEIVE_BATCH],
            arrivals: Vec::with_capacity(RECEIVE_BATCH),
        }
    }

    /// Whether the last call brought as many as one can.
    pub(crate) fn is_full(&self) -> bool {
        self.arrivals.len() == RECEIVE_BATCH
    }

    /// Takes what has come, without waiting. What was there before is forgotten.
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>, queue: Queue) -> io::Result<()> {
        self.arrivals.clear();
        let which = match queue {
            Queue::Packets => 0,
            Queue::Errors => libc::MSG_ERRQUEUE,
        };
        // SAFETY: plain numbers and pointers, for which zero is valid.
        let mut names: [libc::sockaddr_storage; RECEIVE_BATCH] = unsafe { mem::zeroed() };
        let mut vectors = [libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        }; RECEIVE_BATCH];
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; RECEIVE_BATCH] = unsafe { mem::zeroed() };
        for (at, header) in headers.iter_mut().enumerate() {
            vectors[at].iov_base = self.bytes[at].as_mut_ptr().cast();
            vectors[at].iov_len = PACKET_BYTES;
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut names[at]).cast();
            header.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[at];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[at].0.as_mut_ptr().cast();
            header.msg_controllen = mem::size_of::<Control>() as _;
        }
        // SAFETY: each header points to live buffers of the lengths it says; no timeout is given.
        let count = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr(),
                RECEIVE_BATCH as libc::c_uint,
                (libc::MSG_DONTWAIT | which) as _,
                ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (header, name) in headers[..count].iter().zip(&names) {
            self.arrivals.push(Arrival {
                length: usize::try_from(header.msg_len)
                    .map_or(0, |length| length.min(PACKET_BYTES)),
                from: address(name),
                controls: controls(&header.msg_hdr),
            });
        }
        Ok(())
    }

    /// What the last call brought.
    pub(crate) fn packets(&self) -> impl Iterator<Item = Received<'_>> {
        let arrivals = self.arrivals.iter().zip(&self.bytes);
        arrivals.filter_map(|(arrival, bytes)| {
            Some(Received {
                bytes: &bytes[..arrival.length],
                from: arrival.from?,
                stamp: arrival.controls.stamp,
                dropped: arrival.controls.dropped,
                complaint: arrival.controls.complaint,
            })
        })
    }
}

fn address(name: &libc::sockaddr_storage) -> Option<IpAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says what it is, and the storage is aligned for all of them.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            Some(Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            Some(Ipv6Addr::from(name.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// Reads the control messages the kernel wrote.
fn controls(header: &libc::msghdr) -> Controls {
    let mut found = Controls::default();
    // SAFETY: the kernel has set pointer and length to the messages it wrote.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: not null, so a whole header is there.
        let control = unsafe { &*next };
        // SAFETY: only computes.
        let data = unsafe { libc::CMSG_DATA(next) };
        match (control.cmsg_level, control.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                // SAFETY: this type's value is a timespec; it may stand at any address.
                let time = unsafe { data.cast::<libc::timespec>().read_unaligned() };
                found.stamp = Some(time.tv_sec * 1_000_000_000 + time.tv_nsec);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                // SAFETY: this type's value is a u32; it may stand at any address.
                found.dropped = Some(unsafe { data.cast::<u32>().read_unaligned() });
            }
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                // SAFETY: only computes.
                let head = unsafe { libc::CMSG_LEN(0) } as usize;
                let length = (control.cmsg_len as usize).saturating_sub(head);
                // SAFETY: the kernel wrote that many bytes there.
                let bytes = unsafe { slice::from_raw_parts(data, length) };
                found.complaint = Complaint::read(bytes);
            }
            _ => {}
        }
        // SAFETY: as for the first; it stays within the length.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    found
}
