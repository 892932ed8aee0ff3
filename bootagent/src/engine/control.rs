//! Answering `bootctl`.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bootagent_core::time::Uptime;
use bootagent_protocol::AgentName;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, listen, recv,
    socket,
};

use super::waiter::Settled;
use super::{Engine, Source, WantedChange, now};
use crate::control::send::answer;
use crate::control::{HostStatus, MAX_PACKET_BYTES, Reply, Request};
use crate::host;
use crate::journal::thread::JournalHandle;

/// Most `bootctl` at once; more wait in the backlog.
const MAX_CONNECTIONS: usize = 32;
/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Rows of `bootctl jobs` and `bootctl events`.
const ROWS: usize = 50;

/// The control socket and who is connected.
pub(super) struct Control {
    listener: UnixListener,
    connections: HashMap<u32, Arc<OwnedFd>>,
    /// When it listens again after a failure.
    pub(super) accepts_at: Option<Uptime>,
}

impl Control {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self {
            listener,
            connections: HashMap::new(),
            accepts_at: None,
        }
    }

    /// The listening socket.
    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// The listening socket at `path`; one that a dead daemon left is replaced.
pub fn open_socket(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let bound = bind(socket.as_raw_fd(), &UnixAddr::new(path)?);
    nix::sys::stat::umask(mask);
    bound?;
    listen(&socket, Backlog::new(64)?)?;
    Ok(UnixListener::from(socket))
}

impl Engine {
    pub(super) fn accept_control(&mut self) {
        let listener = self.control.listener.as_fd().as_raw_fd();
        if self.control.connections.len() >= MAX_CONNECTIONS {
            // Whoever connected first and says nothing makes room.
            if let Some(oldest) = self.control.connections.keys().min().copied() {
                self.control.connections.remove(&oldest);
            }
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let descriptor = match accept4(listener, flags) {
            Ok(descriptor) => descriptor,
            // Whoever it was has gone again.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => return,
            Err(errno) => return self.pause_control(errno),
        };
        let connection = crate::sys::own_descriptor(descriptor);
        let number = self.free_number();
        if self
            .poller
            .add(&connection, Source::Connection(number))
            .is_ok()
        {
            self.control
                .connections
                .insert(number, Arc::new(connection));
        }
    }

    /// No descriptor or no memory is left: who connects stays in the backlog,
    /// and looking again at once would never end.
    fn pause_control(&mut self, errno: Errno) {
        log::error!("bootctl has to wait: {}", errno.desc());
        self.poller.remove(self.control.listener.as_fd());
        self.control.accepts_at = Some(now() + ACCEPT_PAUSE);
    }

    /// Listens again after a pause.
    pub(super) fn resume_control(&mut self, now: Uptime) {
        if self.control.accepts_at.is_none_or(|at| at > now) {
            return;
        }
        self.control.accepts_at = match self.poller.add(&self.control.listener, Source::Listener) {
            Ok(()) => None,
            Err(_) => Some(now + ACCEPT_PAUSE),
        };
    }

    pub(super) fn on_control(&mut self, number: u32) {
        let Some(connection) = self.control.connections.remove(&number) else {
            return;
        };
        let mut packet = vec![0; MAX_PACKET_BYTES];
        let length = match recv(connection.as_raw_fd(), &mut packet, MsgFlags::MSG_TRUNC) {
            Ok(0) | Err(_) => return,
            Ok(length) => length,
        };
        self.poller.remove(connection.as_fd());
        let request = match packet.get(..length).map(serde_json::from_slice::<Request>) {
            Some(Ok(request)) => request,
            Some(Err(error)) => {
                return answer(
                    &connection,
                    &Reply::Failed(format!("not a request: {error}")),
                );
            }
            None => {
                return answer(
                    &connection,
                    &Reply::Failed("the request is too long".into()),
                );
            }
        };
        self.on_control_request(connection, request);
    }

    fn on_control_request(&mut self, connection: Arc<OwnedFd>, request: Request) {
        match request {
            Request::Status => answer(&connection, &Reply::Status(Box::new(self.host_status()))),
            Request::Jobs => self.host.journal.later(move |journal| {
                answer(&connection, &Reply::Jobs(journal.recent(ROWS)));
            }),
            Request::Events => self.host.journal.later(move |journal| {
                answer(&connection, &Reply::Events(journal.waiting_events(ROWS)));
            }),
            Request::Start { name } => self.control_want(connection, &name, WantedChange::Start),
            Request::Stop { name } => self.control_want(connection, &name, WantedChange::Stop),
            Request::Restart { name } => {
                self.control_want(connection, &name, WantedChange::Restart);
            }
            Request::StopAll => self.stop_all(connection),
            Request::Call => {
                self.on_schedule(bootagent_core::schedule::Event::Changed);
                self.on_schedule(bootagent_core::schedule::Event::Urgent);
                answer(&connection, &Reply::Done("the servers are called".into()));
            }
            Request::Reexec => self.reexec(super::Orderer::Bootctl(connection)),
        }
    }

    fn control_want(&mut self, connection: Arc<OwnedFd>, name: &AgentName, change: WantedChange) {
        let (reply, settled) = channel();
        let (known, shown) = (self.names(), name.clone());
        let journal = self.host.journal.clone();
        // The engine must not wait: a thread does, and ends with the answer.
        let waiter = bootagent_kit::thread::spawn("bootctl", move || {
            let text = match settled.recv() {
                Ok(Some(settled)) => settled_reply(&shown, settled),
                _ => Reply::Failed(format!(
                    "there is no agent {shown} here; there are: {known}"
                )),
            };
            answer(&connection, &once_kept(&journal, text));
        });
        if let Err(error) = waiter {
            log::error!("bootctl cannot be answered: {error}");
        }
        self.want(name, change, reply);
    }

    fn stop_all(&mut self, connection: Arc<OwnedFd>) {
        let names: Vec<AgentName> = self.children.keys().cloned().collect();
        let (reply, settled) = channel();
        for name in &names {
            self.want(name, WantedChange::Stop, reply.clone());
        }
        drop(reply);
        let journal = self.host.journal.clone();
        let waiter = bootagent_kit::thread::spawn("bootctl", move || {
            let ends: Vec<Settled> = settled.iter().flatten().collect();
            let killed = ends.iter().filter(|end| **end == Settled::Killed).count();
            let text = format!(
                "{} agents are stopped, {killed} had to be killed",
                ends.len()
            );
            answer(&connection, &once_kept(&journal, Reply::Done(text)));
        });
        if let Err(error) = waiter {
            log::error!("bootctl cannot be answered: {error}");
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.children.keys().map(AgentName::as_str).collect();
        if names.is_empty() {
            "none".into()
        } else {
            names.join(", ")
        }
    }

    fn host_status(&self) -> HostStatus {
        let now = now();
        let status = self.status_request();
        HostStatus {
            version: host::wire_version(),
            pid: std::process::id(),
            config: self.host.config_path.clone(),
            agentsn: self.metafile.agentsn.clone(),
            confirmed: self.metafile.confirmed,
            uptime: status.uptime,
            servers: self
                .push
                .servers()
                .iter()
                .map(ToString::to_string)
                .collect(),
            server: self.push.server().map(ToString::to_string),
            answered_ago: self.push.answered_at.map(|at| now.since(at).as_secs()),
            next_in: self.push.deadline().map(|at| at.since(now).as_secs()),
            problem: self.push.problem.clone(),
            step: self.metafile.step,
            tags: self.metafile.tags.clone(),
            notices: status.notices,
            agents: status.agents,
        }
    }
}

/// What is wanted from now on is on disk before it is said to be done; where it
/// is not, the next start would undo what was done.
fn once_kept(journal: &JournalHandle, reply: Reply) -> Reply {
    match (journal.wait_for(|keeper| keeper.metafile_kept()), reply) {
        (Err(why), Reply::Done(text)) => Reply::Failed(format!(
            "{text}, but only until bootagent starts anew: {why} (it is tried again until it is \
             written; bootagentctl status tells while it is not)"
        )),
        (_, reply) => reply,
    }
}

fn settled_reply(name: &AgentName, settled: Settled) -> Reply {
    match settled {
        Settled::Up => Reply::Done(format!("{name} is up")),
        Settled::UpWithoutLimits(why) => {
            Reply::Failed(format!("{name} is up without limits: {why}"))
        }
        Settled::Stopped => Reply::Done(format!("{name} is stopped")),
        Settled::Killed => Reply::Done(format!("{name} is stopped; it had to be killed")),
        Settled::Failed(why) => Reply::Failed(format!("{name}: {why}")),
    }
}
