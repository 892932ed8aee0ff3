//! HTTP for whoever wants something measured: one thread for all connections.
//!
//! `request` reads bytes, `guard` says whose requests are served, `route` what they ask for; the
//! measurements' thread answers, and `render` writes it. `listen` has the places. Requests of a connection
//! are served one after the other.
//!
//! The one rule: the thread waits for nothing but its sockets, and each connection ends by a deadline.

mod connection;
mod guard;
pub mod listen;
mod metrics;
mod page;
mod render;
mod request;
mod route;
mod server;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use bootagent_kit::thread;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};
use uuid::Uuid;

use crate::archive::query::Page;
use crate::config::Listen;
use crate::measurements::{Measurements, Status};
use crate::mesh::standing::{Counts, Standing};
use crate::mesh::watch::Watch;
use crate::problem::Problem;
use crate::report::Report;
use crate::status;

pub use guard::Access;
use request::Parsed;
use server::{Server, WAKE};

/// What bytes that came are.
#[derive(Debug)]
pub enum Read {
    /// The beginning of a request.
    Partial,
    /// A request of so many bytes, and what is wrong with it, if something is.
    Request(usize, Result<(), Problem>),
    /// None, and nothing behind it can be trusted.
    Bad(Problem),
}

/// Reads the first request of a client on this machine, and asks nobody.
#[must_use]
pub fn read(bytes: &[u8]) -> Read {
    let access = Access {
        names: Vec::new(),
        token: None,
        allow: Vec::new(),
    };
    match request::parse(bytes) {
        Parsed::Partial => Read::Partial,
        Parsed::Bad(problem) => Read::Bad(problem),
        Parsed::Request(request, length) => {
            let allowed = guard::check(&request, None, &access);
            let routed = allowed.and_then(|()| route::route(&request).map(|_| ()));
            Read::Request(length, routed)
        }
    }
}

/// What the thread is told.
enum Message {
    Answer(u64, u64, Answer),
    Configure(Vec<Listen>, Box<Access>),
    End,
}

enum Answer {
    Ordered(Result<Uuid, Problem>),
    Report(Result<Box<Report>, Problem>),
    Deleted(Result<(), Problem>),
    List(Result<Page, Problem>),
    Home(Result<Page, Problem>, Box<Standing>),
    Mesh(Box<Standing>),
    Status(Box<(Status, Counts)>),
}

/// The way to the thread.
#[derive(Clone)]
pub struct Api {
    sender: Sender<Message>,
    wake: Arc<EventFd>,
}

impl Api {
    /// Takes the places that are free and starts the thread, which goes on trying for the others.
    pub fn start(
        places: Vec<Listen>,
        access: Access,
        whom: (Measurements, Watch),
        status: status::Status,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let (sender, inbox) = channel();
        let api = Self {
            sender,
            wake: Arc::new(wake),
        };
        let server = Server::new(epoll, api.clone(), inbox, whom, status, access, places);
        let thread = thread::spawn("api", move || server.run())?;
        Ok((api, thread))
    }

    /// From now on requests come in there and are served so.
    pub fn configure(&self, places: Vec<Listen>, access: Access) {
        self.send(Message::Configure(places, Box::new(access)));
    }

    /// Closes everything.
    pub fn end(&self) {
        self.send(Message::End);
    }

    fn send(&self, message: Message) {
        // Fails only once the thread is gone.
        let _ = self.sender.send(message);
        let _ = self.wake.write(1);
    }
}
