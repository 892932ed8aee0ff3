//! Sending an answer to `bootctl`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, send, shutdown};

use super::{MAX_ANSWER_BYTES, MAX_PACKET_BYTES, Reply};

/// How long somebody may take to read a long answer.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// Sends `reply` without waiting: what one packet does not hold is sent by a
/// thread. A `bootctl` that went away is nobody's problem.
pub fn answer(connection: &Arc<OwnedFd>, reply: &Reply) {
    let mut answer = serde_json::to_vec(reply).expect("keys are strings");
    if answer.len() > MAX_ANSWER_BYTES {
        let text = Reply::Failed("the answer is too long".into());
        answer = serde_json::to_vec(&text).expect("keys are strings");
    }
    if answer.len() <= MAX_PACKET_BYTES {
        let _ = send(connection.as_raw_fd(), &answer, MsgFlags::MSG_NOSIGNAL);
        // Somebody else may have it open: the end of the answer must be seen.
        let _ = shutdown(connection.as_raw_fd(), Shutdown::Write);
        return;
    }
    let connection = Arc::clone(connection);
    let sender = bootagent_kit::thread::spawn("bootctl", move || {
        if let Err(error) = send_all(&connection, &answer) {
            log::debug!("an answer to bootctl was not read: {error}");
        }
    });
    if let Err(error) = sender {
        log::error!("bootctl cannot be answered: {error}");
    }
}

fn send_all(connection: &OwnedFd, answer: &[u8]) -> Result<(), Errno> {
    let end = Instant::now() + READ_WITHIN;
    for packet in answer.chunks(MAX_PACKET_BYTES) {
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
