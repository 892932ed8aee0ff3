//! The calls alone: as many packets as the engine sends and hears, in batches and ticks as it has them, by a loop that
//! decides and counts nothing. What is left of the engine's figure is its own; this depends on the machine.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType,
    SockaddrIn, recvmmsg, sendmmsg, setsockopt, socket, sockopt,
};

/// As the engine sends and receives them.
const SENT_AT_ONCE: usize = 16;
const RECEIVED_AT_ONCE: usize = 64;
const TICK: Duration = Duration::from_millis(1);

/// Bytes of a probe without its IP header.
const PROBE: usize = 44;

/// Sends so many packets a second to so many targets for so long; tells how many it sent and how many came.
pub(crate) fn exchange(rate: u64, targets: u16, long: Duration) -> (u64, u64) {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(
        AddressFamily::Inet,
        SockType::Raw,
        flags,
        SockProtocol::Icmp,
    )
    .expect("root");
    setsockopt(&fd, sockopt::ReceiveTimestampns, &true).expect("a socket");
    setsockopt(&fd, sockopt::RcvBufForce, &(4 << 20)).expect("root");
    let (mut sent, mut received) = (0, 0);
    let began = Instant::now();
    let mut tick = began;
    while began.elapsed() < long {
        let due = u64::try_from(began.elapsed().as_micros()).expect("seconds") * rate / 1_000_000;
        while sent < due {
            sent += send(&fd, sent, targets);
        }
        while let taken @ 1.. = receive(&fd) {
            received += taken;
        }
        tick += TICK;
        std::thread::sleep(tick.saturating_duration_since(Instant::now()));
    }
    (sent, received)
}

fn send(fd: &OwnedFd, number: u64, targets: u16) -> u64 {
    let mut probe = [0_u8; PROBE];
    probe[0] = 8;
    let ttl = libc::c_int::try_from(number % 30 + 1).expect("small");
    let addresses: [Option<SockaddrIn>; SENT_AT_ONCE] = std::array::from_fn(|at| {
        let target = (number + at as u64) % u64::from(targets) + 1;
        let [high, low] = u16::try_from(target).expect("few").to_be_bytes();
        Some(SocketAddrV4::new([10, 99, high, low].into(), 0).into())
    });
    let slices = [[IoSlice::new(&probe)]; SENT_AT_ONCE];
    let space = nix::cmsg_space!(libc::c_int);
    let mut headers = MultiHeaders::preallocate(SENT_AT_ONCE, Some(space));
    let ttl = [ControlMessage::Ipv4Ttl(&ttl)];
    let flags = MsgFlags::empty();
    let sent = sendmmsg(fd.as_raw_fd(), &mut headers, &slices, addresses, ttl, flags);
    sent.map_or(0, |sent| sent.count() as u64)
}

fn receive(fd: &OwnedFd) -> u64 {
    let mut bytes = [[0_u8; 256]; RECEIVED_AT_ONCE];
    let mut slices: Vec<_> = bytes.iter_mut().map(|it| [IoSliceMut::new(it)]).collect();
    let space = nix::cmsg_space!(libc::timespec);
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(RECEIVED_AT_ONCE, Some(space));
    let received = recvmmsg(
        fd.as_raw_fd(),
        &mut headers,
        slices.iter_mut(),
        MsgFlags::MSG_DONTWAIT,
        None,
    );
    received.map_or(0, |received| received.count() as u64)
}
