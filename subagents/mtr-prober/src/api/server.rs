//! The thread that has all connections.
//!
//! The one rule: it waits for nothing but its sockets, and each connection ends by a deadline.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};

use super::connection::{Awaited, Connection, Fate, State};
use super::listen::Place;
use super::metrics::{self, Served};
use super::request::{After, Parsed};
use super::route::{self, Action, Answered};
use super::{Access, Answer, Api, Message, guard, render};
use crate::archive::query::Page;
use crate::clock;
use crate::config::Listen;
use crate::measurements::{Measurements, Reply};
use crate::mesh::standing::Standing;
use crate::mesh::watch::{Detail, Watch};
use crate::moment::Moment;
use crate::problem::Problem;
use crate::status::Status;

/// Most connections; then the oldest idle one goes, or none is taken.
const MAX_CONNECTIONS: usize = 1_024;
/// Between attempts to have a place that is taken, or descriptors when there are none.
const RETRY: Duration = Duration::from_secs(5);
/// What an answer may take besides the wait that was asked for. It is there at once, unless the disk stalls;
/// who has less patience has gone by then, and his order holds all the same.
const ANSWER: Duration = Duration::from_secs(10);
/// Connections taken in one go.
const ACCEPTS: usize = 64;
/// Names of sockets for epoll: our wake-up, places from 1 on, connections from here on.
pub(super) const WAKE: u64 = 0;
const FIRST_CONNECTION: u64 = 1_000;

/// Everything the thread owns.
pub(super) struct Server {
    epoll: Epoll,
    us: Api,
    inbox: Receiver<Message>,
    measurements: Measurements,
    mesh: Watch,
    status: Status,
    access: Access,
    places: Vec<Place>,
    retry_at: Option<Moment>,
    /// Whether no connection is taken now.
    paused: bool,
    connections: HashMap<u64, Connection>,
    next: u64,
    served: Served,
}

impl Server {
    /// Has the places that are free. `epoll` knows our wake-up as [`WAKE`].
    pub(super) fn new(
        epoll: Epoll,
        us: Api,
        inbox: Receiver<Message>,
        (measurements, mesh): (Measurements, Watch),
        status: Status,
        access: Access,
        places: Vec<Listen>,
    ) -> Self {
        let mut server = Self {
            epoll,
            us,
            inbox,
            measurements,
            mesh,
            status,
            access,
            places: Vec::new(),
            retry_at: None,
            paused: false,
            connections: HashMap::new(),
            next: FIRST_CONNECTION,
            served: Served::default(),
        };
        server.settle(places);
        server
    }

    pub(super) fn run(mut self) {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                // No descriptor of ours is ever wrong.
                Err(error) => panic!("epoll: {error}"),
            };
            for event in &events[..count] {
                match event.data() {
                    WAKE => {
                        let _ = self.us.wake.read();
                    }
                    token if token < FIRST_CONNECTION => self.accept(token),
                    token => self.ready(token, event.events()),
                }
            }
            while let Ok(message) = self.inbox.try_recv() {
                match message {
                    Message::Answer(token, number, answer) => self.answer(token, number, answer),
                    Message::Configure(places, access) => {
                        self.access = *access;
                        self.settle(places);
                    }
                    Message::End => return,
                }
            }
            self.expire();
        }
    }

    /// Until something is due.
    fn timeout(&self) -> EpollTimeout {
        let deadlines = self.connections.values().map(|it| it.deadline);
        let Some(next) = deadlines.chain(self.retry_at).min() else {
            return EpollTimeout::NONE;
        };
        let millis = next.since(clock::now()).as_millis() + 1;
        EpollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
    }

    /// Has these places from now on, as far as they are free.
    fn settle(&mut self, wanted: Vec<Listen>) {
        // What is not wanted any more is free before anything is taken.
        let mut kept: Vec<Place> = Vec::new();
        for place in self.places.drain(..) {
            if let Some(fd) = place.fd() {
                let _ = self.epoll.delete(fd);
            }
            if wanted.contains(&place.listen) {
                kept.push(place);
            }
        }
        for listen in wanted {
            if !kept.iter().any(|place| place.listen == listen) {
                kept.push(Place::new(listen));
            }
        }
        self.places = kept;
        let open = 0..self.places.len();
        for index in open.filter(|&index| self.places[index].is_open()) {
            self.watch(index);
        }
        self.open();
    }

    /// Tries for the places we do not have, and says how it stands.
    fn open(&mut self) {
        for index in 0..self.places.len() {
            if !self.places[index].is_open() && self.places[index].open() {
                self.watch(index);
            }
        }
        let problems: Vec<&str> = self.places.iter().filter_map(Place::problem).collect();
        let missing = !problems.is_empty();
        self.retry_at = missing.then(|| clock::now() + RETRY);
        let open = self.places.iter().filter(|place| place.is_open());
        let open: Vec<String> = open.map(|place| place.listen.to_string()).collect();
        let open = match open.is_empty() {
            true => "listening nowhere".to_owned(),
            false => format!("listening on {}", open.join(", ")),
        };
        let said = problems
            .into_iter()
            .fold(open, |said, it| format!("{said}; {it}"));
        self.status.say("api", &said);
    }

    fn watch(&self, index: usize) {
        let events = match self.paused {
            true => EpollFlags::empty(),
            false => EpollFlags::EPOLLIN,
        };
        if let Some(fd) = self.places[index].fd() {
            let event = EpollEvent::new(events, index as u64 + 1);
            if let Err(error) = self.epoll.add(fd, event) {
                log::error!("{} is not listened at: {error}", self.places[index].listen);
            }
        }
    }

    /// Takes connections, or leaves them with the kernel until there is room.
    fn pause(&mut self, paused: bool) {
        if self.paused == paused {
            return;
        }
        self.paused = paused;
        for index in 0..self.places.len() {
            if let Some(fd) = self.places[index].fd() {
                let _ = self.epoll.delete(fd);
            }
            self.watch(index);
        }
    }

    fn accept(&mut self, token: u64) {
        let index = usize::try_from(token - 1).unwrap_or(usize::MAX);
        let now = clock::now();
        for _ in 0..ACCEPTS {
            if self.connections.len() >= MAX_CONNECTIONS && !self.drop_idle() {
                return self.pause(true);
            }
            let Some(place) = self.places.get(index) else {
                return;
            };
            match place.accept() {
                Ok((stream, peer)) => {
                    let token = self.next;
                    self.next += 1;
                    let event = EpollEvent::new(EpollFlags::EPOLLIN, token);
                    if self.epoll.add(&stream, event).is_ok() {
                        self.connections
                            .insert(token, Connection::new(stream, peer, now));
                        // The request is here with the connection, mostly.
                        self.ready(token, EpollFlags::EPOLLIN);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // The other end went away; or there are no descriptors, and one has to end first.
                    log::debug!("a connection was not taken: {error}");
                    let full = [Errno::EMFILE, Errno::ENFILE].map(|it| Some(it as i32));
                    if !full.contains(&error.raw_os_error()) {
                        return;
                    }
                    if !self.drop_idle() {
                        // Others of the machine may have them all.
                        self.retry_at = Some(now + RETRY);
                        return self.pause(true);
                    }
                }
            }
        }
    }

    /// Makes room; tells whether it could.
    fn drop_idle(&mut self) -> bool {
        let idle = self
            .connections
            .iter()
            .filter(|(_, it)| it.state == State::Idle);
        let oldest = idle
            .min_by_key(|(_, it)| it.deadline)
            .map(|(token, _)| *token);
        oldest.is_some_and(|token| self.connections.remove(&token).is_some())
    }

    fn ready(&mut self, token: u64, events: EpollFlags) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        // An error or a hang-up comes unasked: whatever was in work is done without a listener.
        if events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP)
            && !events.contains(EpollFlags::EPOLLIN)
        {
            self.close(token);
            return;
        }
        let reads = matches!(connection.state, State::Idle | State::Head);
        if reads && connection.read() == Fate::Close {
            return self.close(token);
        }
        self.go_on(token);
    }

    /// Serves what there is to be served on a connection, until it has to wait.
    fn go_on(&mut self, token: u64) {
        loop {
            let now = clock::now();
            let Some(connection) = self.connections.get_mut(&token) else {
                return;
            };
            match connection.state {
                State::Waiting(_) => return self.watch_for(token, EpollFlags::empty()),
                State::Sending => match connection.send() {
                    Err(_) => return self.close(token),
                    Ok(false) => return self.watch_for(token, EpollFlags::EPOLLOUT),
                    Ok(true) if connection.after == After::Close => return self.close(token),
                    // What he sent meanwhile is next.
                    Ok(true) => {
                        connection.state = State::Idle;
                        connection.deadline = now;
                        if connection.read() == Fate::Close {
                            return self.close(token);
                        }
                        connection.state = State::Sending;
                        if self.take_next(token, now) == Fate::Close {
                            return;
                        }
                    }
                },
                State::Idle | State::Head => {
                    if self.take_next(token, now) == Fate::Close {
                        return;
                    }
                }
            }
        }
    }

    /// Begins with the next request; `Close` when there is none now.
    fn take_next(&mut self, token: u64, now: Moment) -> Fate {
        let Some(connection) = self.connections.get_mut(&token) else {
            return Fate::Close;
        };
        match connection.next(now) {
            Parsed::Partial => {
                match connection.is_over() {
                    true => self.close(token),
                    false => self.watch_for(token, EpollFlags::EPOLLIN),
                }
                return Fate::Close;
            }
            Parsed::Bad(problem) => {
                self.served.requests += 1;
                self.refuse(token, &problem);
            }
            Parsed::Request(request, _) => {
                self.served.requests += 1;
                let peer = connection.peer;
                let action = guard::check(&request, peer, &self.access)
                    .and_then(|()| route::route(&request));
                match action {
                    Ok(action) => self.ask(token, action),
                    Err(problem) => self.refuse(token, &problem),
                }
            }
        }
        Fate::GoOn
    }

    /// Asks whoever knows.
    fn ask(&mut self, token: u64, action: Action) {
        let now = clock::now();
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let number = connection.number;
        let mut wait = Duration::ZERO;
        let us = self.us.clone();
        let say = move |answer| us.send(Message::Answer(token, number, answer));
        let awaited = match action {
            Action::Order(order, answered) => {
                let say = Box::new(move |ordered| say(Answer::Ordered(ordered)));
                self.measurements.order(*order, say);
                Awaited::Order(answered)
            }
            Action::Look(id, until, view) => {
                wait = until;
                let say = Box::new(move |found| say(Answer::Report(found)));
                self.measurements.look(id, wait, say);
                Awaited::Report(view)
            }
            Action::Delete(id) => {
                let say = Box::new(move |deleted| say(Answer::Deleted(deleted)));
                self.measurements.delete(id, say);
                Awaited::Deleted
            }
            Action::List(query, answered) => {
                let mesh = self.mesh.clone();
                let then: Reply<Result<Page, Problem>> = match answered {
                    Answered::ToProgram => Box::new(move |page| say(Answer::List(page))),
                    Answered::ToPerson => Box::new(move |page| {
                        let with = Box::new(move |it| say(Answer::Home(page, Box::new(it))));
                        mesh.standing(Detail::Troubled, with);
                    }),
                };
                self.measurements.query(*query, then);
                Awaited::List
            }
            Action::Mesh => {
                let say = Box::new(move |it| say(Answer::Mesh(Box::new(it))));
                self.mesh.standing(Detail::Everything, say);
                Awaited::Mesh
            }
            action @ (Action::Health | Action::Metrics) => {
                let mesh = self.mesh.clone();
                self.measurements.status(Box::new(move |status| {
                    let with = Box::new(move |it: Standing| {
                        say(Answer::Status(Box::new((status, it.counts))));
                    });
                    mesh.standing(Detail::Counts, with);
                }));
                match action {
                    Action::Health => Awaited::Health,
                    _ => Awaited::Metrics,
                }
            }
        };
        connection.state = State::Waiting(awaited);
        connection.deadline = now + wait + ANSWER;
    }

    fn answer(&mut self, token: u64, number: u64, answer: Answer) {
        let connection = self.connections.get(&token);
        let Some(connection) = connection.filter(|it| it.number == number) else {
            return;
        };
        let State::Waiting(awaited) = connection.state else {
            return;
        };
        let reply = match (answer, awaited) {
            (Answer::Ordered(Ok(id)), Awaited::Order(Answered::ToPerson)) => Ok(render::see(id)),
            (Answer::Ordered(ordered), _) => ordered.map(render::accepted),
            (Answer::Report(found), Awaited::Report(view)) => {
                found.map(|report| render::report(&report, view))
            }
            (Answer::Deleted(deleted), _) => deleted.map(|()| render::deleted()),
            (Answer::Home(page, mesh), _) => page.map(|page| render::home(&page, &mesh)),
            (Answer::Mesh(mesh), _) => Ok(render::mesh(&mesh)),
            (Answer::List(page), _) => page.map(|page| render::list(&page)),
            (Answer::Status(status), Awaited::Health) => Ok(render::health(&status.0)),
            (Answer::Status(status), _) => {
                let served = Served {
                    connections: self.connections.len() as u64,
                    ..self.served
                };
                Ok(render::metrics(metrics::text(&status.0, &status.1, served)))
            }
            // Only a look is answered with a report.
            (Answer::Report(_), _) => return,
        };
        match reply {
            Ok(reply) => self.reply(token, &reply),
            Err(problem) => self.refuse(token, &problem),
        }
        self.go_on(token);
    }

    fn refuse(&mut self, token: u64, problem: &Problem) {
        self.served.problems += 1;
        self.reply(token, &render::problem(problem));
    }

    fn reply(&mut self, token: u64, reply: &render::Reply) {
        if let Some(connection) = self.connections.get_mut(&token) {
            let (method, after) = (connection.method, connection.after);
            reply.write(method, after, connection.reply(clock::now()));
        }
    }

    fn watch_for(&mut self, token: u64, events: EpollFlags) {
        if let Some(connection) = self.connections.get(&token) {
            let mut event = EpollEvent::new(events, token);
            // Fails for no socket that is open and was added.
            let _ = self.epoll.modify(&connection.stream, &mut event);
        }
    }

    fn close(&mut self, token: u64) {
        self.connections.remove(&token);
        if self.paused {
            self.pause(false);
        }
    }

    /// Ends what took too long.
    fn expire(&mut self) {
        let now = clock::now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.pause(false);
            self.open();
        }
        let over = self.connections.iter().filter(|(_, it)| it.deadline <= now);
        let over: Vec<u64> = over.map(|(token, _)| *token).collect();
        for token in over {
            let Some(connection) = self.connections.get_mut(&token) else {
                continue;
            };
            match connection.state {
                State::Idle | State::Sending => self.close(token),
                State::Head => {
                    connection.after = After::Close;
                    let detail = "the request took longer than 5 s to come";
                    self.refuse(token, &Problem::new(408, "Too slow", detail));
                    self.go_on(token);
                }
                State::Waiting(_) => {
                    let detail = "the archive or the engine does not answer in time; look at the disk, and ask again";
                    self.refuse(token, &Problem::later(5, detail));
                    self.go_on(token);
                }
            }
        }
    }
}
