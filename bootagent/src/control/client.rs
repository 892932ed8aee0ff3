//! Asking the daemon of this host.
//!
//! The one rule: a daemon that hangs costs no more than the deadline.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use super::{MAX_ANSWER_BYTES, MAX_PACKET_BYTES, Request};

/// How long an answer that has begun may take to end.
const REST_WITHIN: Duration = Duration::from_secs(REST_SECONDS as u64);
const REST_SECONDS: u8 = 30;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens, or not for us.
    #[error("no bootagent answers at {} (is it running, and may you ask it?)", .path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: Errno,
    },
    /// Somebody listens and says nothing.
    #[error("bootagent does not answer within {} s; see its log", .0.as_secs())]
    Silent(Duration),
    /// It went away.
    #[error("bootagent ended before it had answered")]
    Ended,
    /// It says too much, or too slowly.
    #[error("bootagent's answer does not end; see its log")]
    Endless,
    /// The exchange broke off.
    #[error("asking bootagent")]
    Broken(#[source] Errno),
}

/// Asks the daemon at `path`; its answer as it came, whole.
///
/// # Errors
/// When there is none within `deadline`.
pub fn ask(path: &Path, request: &Request, deadline: Duration) -> Result<Vec<u8>, AskError> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket =
        socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(AskError::Broken)?;
    let limit = TimeVal::new(i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX), 0);
    // A full backlog of a daemon that hangs holds up connect too.
    setsockopt(&socket, sockopt::SendTimeout, &limit).map_err(AskError::Broken)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &limit).map_err(AskError::Broken)?;
    let fail = |errno| match errno {
        Errno::EAGAIN | Errno::EINPROGRESS => AskError::Silent(deadline),
        Errno::ECONNRESET | Errno::EPIPE => AskError::Ended,
        errno => AskError::Broken(errno),
    };
    let connected = UnixAddr::new(path).and_then(|at| connect(socket.as_raw_fd(), &at));
    match connected {
        Ok(()) => {}
        Err(Errno::EAGAIN) => return Err(AskError::Silent(deadline)),
        Err(source) => {
            let path = path.to_owned();
            return Err(AskError::Unreachable { path, source });
        }
    }
    let words = serde_json::to_vec(request).expect("keys are strings");
    send(socket.as_raw_fd(), &words, MsgFlags::MSG_NOSIGNAL).map_err(fail)?;
    let (mut answer, mut packet) = (Vec::new(), vec![0; MAX_PACKET_BYTES]);
    // Once it has begun to answer, the rest is there or it hangs.
    let mut end = None;
    loop {
        let length = match recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            Err(Errno::EAGAIN) if end.is_some() => return Err(AskError::Endless),
            received => received.map_err(fail)?,
        };
        if length == 0 {
            break;
        }
        answer.extend_from_slice(&packet[..length]);
        let now = Instant::now();
        if answer.len() > MAX_ANSWER_BYTES || now > *end.get_or_insert(now + REST_WITHIN) {
            return Err(AskError::Endless);
        }
        let limit = TimeVal::new(REST_SECONDS.into(), 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit).map_err(AskError::Broken)?;
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(&answer) {
        Err(error) if error.is_eof() => Err(AskError::Ended),
        _ => Ok(answer),
    }
}
