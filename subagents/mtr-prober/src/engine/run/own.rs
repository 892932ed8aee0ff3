//! Traces with a socket of their own each, where raw ones are not allowed.
//!
//! The one rule: whose an answer is says the socket it came on; what it answers say its bytes.

use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;

use super::{DOUBTFUL, Run};
use crate::clock;
use crate::engine::{Letter, NotBegun, Of, Spec, UNPRIVILEGED};
use crate::packet::{Answer, Family, Sequence, parse_error, parse_reply};
use crate::socket::Rights;
use crate::socket::ping::PingSocket;
use crate::sys::Received;

/// Reads what came on the socket of a trace.
pub(super) fn read(packet: &Received<'_>, id: u16, magic: u32) -> Option<Answer> {
    let target = packet.from;
    let answer = match packet.complaint {
        Some(it) => parse_error((it.kind, it.code), target, packet.bytes, magic),
        None => parse_reply(packet.bytes, Family::of(target), magic),
    };
    answer.map(|answer| Answer { id, ..answer })
}

impl Run {
    /// The socket of a measurement that begins and the identifier its probes will have, if it needs one.
    pub(super) fn own_socket(&self, spec: &Spec) -> Result<Option<(PingSocket, u16)>, NotBegun> {
        if self.rights == Rights::Raw {
            return Ok(None);
        }
        if self.slots.len() >= UNPRIVILEGED {
            return Err(NotBegun::Unprivileged);
        }
        let family = Family::of(spec.plan.target);
        let opened = PingSocket::open(family, spec.source, self.receive_buffer);
        let named = opened.and_then(|socket| {
            let identifier = socket.identifier()?;
            Ok((socket, identifier))
        });
        let reason =
            |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        named
            .map(Some)
            .map_err(|error| NotBegun::NoSocket(reason(error)))
    }

    /// The sockets of traces, with the traces they are of.
    pub(super) fn own_sockets(&self) -> impl Iterator<Item = (u16, &PingSocket)> {
        // Nothing is looked through where there are none.
        let slots = (self.rights == Rights::Ping).then(|| self.slots.iter());
        let sockets = slots.into_iter().flatten();
        sockets.filter_map(|(id, live)| Some((id, live.socket.as_ref()?)))
    }

    /// The traces on whose sockets something has come.
    pub(super) fn own_that_heard(&self) -> Vec<u16> {
        let (ids, mut fds): (Vec<_>, Vec<_>) = self
            .own_sockets()
            .map(|(id, socket)| (id, PollFd::new(socket.fd(), PollFlags::POLLIN)))
            .unzip();
        let at_once = TimeSpec::from_duration(Duration::ZERO);
        if fds.is_empty() || !matches!(nix::poll::ppoll(&mut fds, Some(at_once), None), Ok(1..)) {
            return Vec::new();
        }
        let found = ids.into_iter().zip(fds);
        found
            .filter(|(_, fd)| fd.any().unwrap_or(false))
            .map(|(id, _)| id)
            .collect()
    }

    /// Sends a probe of a trace by its own socket.
    pub(super) fn post_own(&mut self, id: u16, sequence: Sequence, ttl: u8) {
        let Some(live) = self.slots.get_mut(id) else {
            return;
        };
        let Some(socket) = &mut live.socket else {
            return;
        };
        self.pace.spent();
        let target = live.spec.plan.target;
        let mut bytes = Vec::new();
        live.marks
            .write(&mut bytes, socket.family(), live.spec.size, sequence);
        let letter = Letter {
            id,
            sequence,
            of: Of::Trace,
        };
        let before = clock::now();
        let result = socket.send(&bytes, target, ttl);
        let after = clock::now();
        match result {
            Ok(()) => {
                let known = after.since(before) <= DOUBTFUL;
                self.posted(letter, known.then_some(before), after);
            }
            Err(error) => self.refused(letter, &error, after),
        }
    }
}
