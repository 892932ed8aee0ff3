//! Every measurement somebody ordered, from its acceptance to its report.
//!
//! One thread owns them all. An order is written down first, then answered, then its name is looked up,
//! then it joins a run of the engine's that is just like it or begins one of its own. What ends goes to the
//! archive, and stays here until it is there.
//!
//! The one rule: an id that was told to anybody ends in a report, and nobody but its own caller waits for it.

mod admission;
mod member;
mod refusal;
mod registry;
mod resolve;
mod runs;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bootagent_kit::thread;
use uuid::Uuid;

use crate::archive;
use crate::archive::query::{Page, Query};
use crate::archive::thread::Keeper;
use crate::config::Config;
use crate::engine::{Counters, Engine, Event};
use crate::order::Order;
use crate::problem::Problem;
use crate::report::Report;
use crate::socket::Rights;

use registry::Registry;

/// Measurements there may be at once. The engine stretches their intervals long before.
pub const MAX_LIVE: usize = 4_096;
/// How an answer is given.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// What there is to count.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Of the orders.
    pub orders: Tallies,
    /// Of the engine; absent when it does not answer.
    pub engine: Option<Counters>,
    /// What the engine may open.
    pub rights: Rights,
    /// Of the archive.
    pub archive: archive::Status,
}

/// What became of orders since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Accepted and not ended.
    pub live: u64,
    /// Runs of the engine's that they share.
    pub runs: u64,
    /// Accepted.
    pub accepted: u64,
    /// Refused because of too many.
    pub refused: u64,
    /// That joined a run which was there.
    pub joined: u64,
    /// Ended as ordered.
    pub finished: u64,
    /// Stopped by a caller, or by our end.
    pub stopped: u64,
    /// That could not be measured.
    pub failed: u64,
}

enum Message {
    Order(Box<Order>, Reply<Result<Uuid, Problem>>),
    Written(Uuid, Result<(), String>),
    Resolved(Uuid, Result<IpAddr, String>),
    Look(Uuid, Duration, Reply<Result<Box<Report>, Problem>>),
    Delete(Uuid, Reply<Result<(), Problem>>),
    Query(Box<Query>, Reply<Result<Page, Problem>>),
    Status(Reply<Status>),
    Configure(Box<Config>),
    Engine(Event),
    End,
}

/// The way to the thread.
#[derive(Clone)]
pub struct Measurements(Sender<Message>);

impl Measurements {
    /// Starts the thread, and one that hears the engine.
    pub fn start(
        config: Config,
        engine: Arc<Engine>,
        events: Receiver<Event>,
        keeper: Keeper,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, inbox) = channel();
        let to = sender.clone();
        thread::spawn("events", move || {
            while let Ok(event) = events.recv() {
                if to.send(Message::Engine(event)).is_err() {
                    return;
                }
            }
        })?;
        let registry = Registry::new(config, engine, keeper, sender.clone());
        let thread = thread::spawn("measurements", move || registry.run(&inbox))?;
        Ok((Self(sender), thread))
    }

    /// Orders a measurement; the reply comes once it is written down.
    pub fn order(&self, order: Order, reply: Reply<Result<Uuid, Problem>>) {
        self.send(Message::Order(Box::new(order), reply));
    }

    /// Asks for the report of an id, as it is once it ended or after `wait`.
    pub fn look(&self, id: Uuid, wait: Duration, reply: Reply<Result<Box<Report>, Problem>>) {
        self.send(Message::Look(id, wait, reply));
    }

    /// Stops one that runs, and keeps what there is; removes one that ended.
    pub fn delete(&self, id: Uuid, reply: Reply<Result<(), Problem>>) {
        self.send(Message::Delete(id, reply));
    }

    /// Asks the archive.
    pub fn query(&self, query: Query, reply: Reply<Result<Page, Problem>>) {
        self.send(Message::Query(Box::new(query), reply));
    }

    /// Asks everybody how he is.
    pub fn status(&self, reply: Reply<Status>) {
        self.send(Message::Status(reply));
    }

    /// From now on orders are understood so.
    pub fn configure(&self, config: Config) {
        self.send(Message::Configure(Box::new(config)));
    }

    /// Ends all measurements with what there is, and then the thread.
    pub fn end(&self) {
        self.send(Message::End);
    }

    fn send(&self, message: Message) {
        // Fails only once the thread is gone, and the process is about to be.
        let _ = self.0.send(message);
    }
}
