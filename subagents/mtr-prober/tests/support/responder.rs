//! A made-up network behind a tun device: who answers which probe after how long is a function.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::sys::attach_tun;
use crate::world::Node;

/// A probe as a router sees it.
pub(crate) struct Probe {
    pub(crate) to: Ipv4Addr,
    pub(crate) ttl: u8,
    /// What routers hash that know nothing of ICMP: type, code and checksum.
    pub(crate) first: [u8; 4],
}

/// What somebody answers.
pub(crate) enum Reply {
    Echo,
    /// With these MPLS labels.
    Exceeded(Vec<u32>),
}

/// Who answers, what, after how long.
pub(crate) type Fate = Option<(Ipv4Addr, Reply, Duration)>;

/// A responder; it ends with this value, and the device with it.
pub(crate) struct Responder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Starts one in a namespace, whose default route it becomes.
    pub(crate) fn start(
        node: &Node,
        mut fate: impl FnMut(&Probe) -> Fate + Send + 'static,
    ) -> Self {
        let file = node.within(|| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open("/dev/net/tun")
                .expect("a tun device");
            attach_tun(&file, "tun0").expect("root");
            file
        });
        node.sh("ip link set lo up; ip addr add 10.200.0.1/24 dev tun0; \
             ip link set tun0 txqueuelen 20000 up; ip route add default dev tun0; \
             for dev in /proc/sys/net/ipv4/conf/*; do echo 0 >$dev/rp_filter; done");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || serve(file, &stopped, &mut fate));
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut file: File, stop: &AtomicBool, fate: &mut dyn FnMut(&Probe) -> Fate) {
    let mut late: BinaryHeap<Reverse<(Instant, Vec<u8>)>> = BinaryHeap::new();
    let mut packet = [0; 2_048];
    while !stop.load(Ordering::Relaxed) {
        while let Ok(length) = file.read(&mut packet) {
            let at = Instant::now();
            if let Some((answer, after)) = answer(&packet[..length], fate) {
                late.push(Reverse((at + after, answer)));
            }
        }
        let now = Instant::now();
        while late.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            if let Some(Reverse((_, answer))) = late.pop() {
                file.write_all(&answer).expect("the device takes it");
            }
        }
        let next = late
            .peek()
            .map(|Reverse((at, _))| at.saturating_duration_since(now));
        let wait = next.map_or(20, |next| next.as_millis().min(20) as u16);
        let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(wait));
    }
}

fn answer(packet: &[u8], fate: &mut dyn FnMut(&Probe) -> Fate) -> Option<(Vec<u8>, Duration)> {
    if packet.len() < 28 || packet[0] != 0x45 || packet[9] != 1 || packet[20] != 8 {
        return None;
    }
    let octets: [u8; 4] = packet[16..20].try_into().ok()?;
    let (from, reply, after) = fate(&Probe {
        to: octets.into(),
        ttl: packet[8],
        first: packet[20..24].try_into().ok()?,
    })?;
    let icmp = match reply {
        Reply::Echo => {
            let mut icmp = packet[20..].to_vec();
            icmp[0] = 0;
            icmp
        }
        Reply::Exceeded(labels) if labels.is_empty() => {
            // As old routers quote: the header and eight bytes.
            let mut icmp = vec![11, 0, 0, 0, 0, 0, 0, 0];
            icmp.extend(&packet[..28]);
            icmp
        }
        Reply::Exceeded(labels) => {
            let mut icmp = vec![11, 0, 0, 0, 0, 32, 0, 0];
            icmp.extend(packet);
            icmp.resize(8 + 128, 0);
            let length = u8::try_from(4 + labels.len() * 4).ok()?;
            icmp.extend([0x20, 0, 0, 0, 0, length, 1, 1]);
            labels
                .iter()
                .for_each(|label| icmp.extend(label.to_be_bytes()));
            icmp
        }
    };
    Some((wrap(from, &packet[12..16], icmp), after))
}

/// Puts an IP header before an ICMP message, and the sums into both.
fn wrap(from: Ipv4Addr, to: &[u8], mut icmp: Vec<u8>) -> Vec<u8> {
    icmp[2..4].fill(0);
    let checksum = !sum(&icmp);
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    let length = u16::try_from(20 + icmp.len()).expect("short");
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0];
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet.extend(from.octets());
    packet.extend(to);
    let checksum = !sum(&packet);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(icmp);
    packet
}

fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| {
        let low = word.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([word[0], low]))
    });
    let mut total: u32 = words.sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::try_from(total).expect("folded")
}
