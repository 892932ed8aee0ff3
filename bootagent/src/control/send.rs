//! Sending an answer to `bootctl`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};

use super::{MAX_ANSWER_BYTES, Reply};

/// How long somebody may take to read a long answer.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of a packet that a socket takes also where its buffer is a small one.
const PACKET_BYTES: usize = 32 * 1024;
/// Most long answers that are being read at once: each has a thread and up to
/// [`MAX_ANSWER_BYTES`] of memory.
const MAX_SENDERS: usize = 8;

/// Long answers that are being read.
static SENDERS: AtomicUsize = AtomicUsize::new(0);

/// Sends `reply` without waiting: what one packet does not hold is sent by a
/// thread. A `bootctl` that went away is nobody's problem.
pub fn answer(connection: &Arc<OwnedFd>, reply: &Reply) {
    let mut answer = serde_json::to_vec(reply).expect("keys are strings");
    if answer.len() > MAX_ANSWER_BYTES {
        let text = Reply::Failed("the answer is too long".into());
        answer = serde_json::to_vec(&text).expect("keys are strings");
    }
    if answer.len() <= PACKET_BYTES {
        return send_packet(connection, &answer);
    }
    let Some(place) = Place::take() else {
        let text = format!(
            "{MAX_SENDERS} others have not read their long answers yet; try again in {} s",
            READ_WITHIN.as_secs()
        );
        let refusal = serde_json::to_vec(&Reply::Failed(text)).expect("keys are strings");
        return send_packet(connection, &refusal);
    };
    let connection = Arc::clone(connection);
    let sender = bootagent_kit::thread::spawn("bootctl", move || {
        let _place = place;
        if let Err(error) = send_all(&connection, &answer) {
            log::debug!("an answer to bootctl was not read: {error}");
        }
    });
    if let Err(error) = sender {
        log::error!("bootctl cannot be answered: {error}");
    }
}

/// One of [`MAX_SENDERS`], until it is dropped.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let next = |taken: usize| (taken < MAX_SENDERS).then_some(taken + 1);
        SENDERS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
            .then(|| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        SENDERS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn send_packet(connection: &OwnedFd, answer: &[u8]) {
    let _ = send(connection.as_raw_fd(), answer, MsgFlags::MSG_NOSIGNAL);
    // Somebody else may have it open: the end of the answer must be seen.
    let _ = shutdown(connection.as_raw_fd(), Shutdown::Write);
}

fn send_all(connection: &OwnedFd, answer: &[u8]) -> Result<(), Errno> {
    let end = Instant::now() + READ_WITHIN;
    for packet in answer.chunks(PACKET_BYTES) {
        while let Err(errno) = send(connection.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL) {
            match errno {
                Errno::EAGAIN => await_room(connection, end)?,
                Errno::EINTR => {}
                errno => return Err(errno),
            }
        }
    }
    shutdown(connection.as_raw_fd(), Shutdown::Write)
}

fn await_room(connection: &OwnedFd, end: Instant) -> Result<(), Errno> {
    let left = end.saturating_duration_since(Instant::now()).as_millis();
    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let mut waiting = [PollFd::new(connection.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut waiting, left) {
        Ok(0) => Err(Errno::ETIMEDOUT),
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, recv, setsockopt, socketpair, sockopt,
    };

    use super::*;

    /// The daemon's end, with the smallest of buffers, and that of `bootctl`.
    fn connected() -> (Arc<OwnedFd>, OwnedFd) {
        let (daemon, bootctl) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .expect("a pair");
        // The kernel doubles it; a packet needs some more than its bytes.
        setsockopt(&daemon, sockopt::SndBuf, &(24 * 1024)).expect("set");
        (Arc::new(daemon), bootctl)
    }

    fn read(bootctl: &OwnedFd) -> Reply {
        let (mut answer, mut packet) = (Vec::new(), vec![0; super::super::MAX_PACKET_BYTES]);
        loop {
            match recv(bootctl.as_raw_fd(), &mut packet, MsgFlags::empty()).expect("read") {
                0 => return serde_json::from_slice(&answer).expect("a whole answer"),
                length => answer.extend_from_slice(&packet[..length]),
            }
        }
    }

    #[test]
    fn long_answers_arrive_whole_by_small_packets_and_few_are_on_their_way_at_once() {
        let long = Reply::Done("x".repeat(100_000));
        let waiting: Vec<_> = (0..MAX_SENDERS).map(|_| connected()).collect();
        for (daemon, _) in &waiting {
            answer(daemon, &long);
        }
        let (daemon, bootctl) = connected();
        answer(&daemon, &long);
        let Reply::Failed(text) = read(&bootctl) else {
            panic!("no refusal");
        };
        assert!(text.contains("try again"), "{text}");
        for (_, bootctl) in &waiting {
            assert_eq!(read(bootctl), long);
        }
        let end = Instant::now() + Duration::from_secs(60);
        while SENDERS.load(Ordering::Relaxed) > 0 {
            assert!(Instant::now() < end, "a place is not given back");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
