//! From names to addresses, beside everything else.
//!
//! The system's resolver cannot be interrupted. A few threads ask it, are there only while names wait,
//! and take no name whose asker has given up.
//!
//! The one rule: nobody waits for a name server but these threads.

use std::collections::VecDeque;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock;
use crate::moment::Moment;
use crate::order::is_one_host;
use crate::packet::Family;

/// Threads that ask at most.
const MAX_THREADS: usize = 8;
/// Name service modules need more of a stack than our own code.
const STACK_BYTES: usize = 512 * 1024;

/// A name somebody waits for.
pub(super) struct Question {
    pub(super) name: String,
    pub(super) family: Option<Family>,
    /// When he gives up.
    pub(super) until: Moment,
    pub(super) done: Box<dyn FnOnce(Result<IpAddr, String>) + Send>,
}

#[derive(Default)]
struct Shared {
    waiting: VecDeque<Question>,
    threads: usize,
}

/// The way to the threads.
#[derive(Clone, Default)]
pub(super) struct Resolver(Arc<Mutex<Shared>>);

impl Resolver {
    /// Asks; `done` is called with the answer, or not at all when it came too late.
    pub(super) fn ask(&self, question: Question) {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shared.waiting.push_back(question);
        if shared.threads < MAX_THREADS {
            shared.threads += 1;
            let resolver = self.clone();
            let thread = std::thread::Builder::new()
                .name("resolve".into())
                .stack_size(STACK_BYTES);
            if let Err(error) = thread.spawn(move || resolver.run()) {
                shared.threads -= 1;
                let refused = shared.waiting.pop_back();
                drop(shared);
                if let Some(question) = refused {
                    (question.done)(Err(format!("no thread can be started to ask: {error}")));
                }
            }
        }
    }

    fn run(&self) {
        while let Some(question) = self.next() {
            (question.done)(look_up(&question.name, question.family));
        }
    }

    /// The next name; without one the thread is over.
    fn next(&self) -> Option<Question> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        shared.waiting.retain(|question| question.until > now);
        let next = shared.waiting.pop_front();
        if next.is_none() {
            shared.threads -= 1;
        }
        next
    }
}

fn look_up(name: &str, family: Option<Family>) -> Result<IpAddr, String> {
    let found = (name, 0).to_socket_addrs();
    let found = found.map_err(|error| {
        format!("the name {name:?} cannot be resolved ({error}); look at the name or at /etc/resolv.conf")
    })?;
    let mut addresses = found.map(|it| it.ip().to_canonical());
    let wanted = |address: &IpAddr| family.is_none_or(|family| Family::of(*address) == family);
    let address = addresses.find(wanted);
    let address =
        address.ok_or_else(|| format!("{name} has no address of this family; say `family`"))?;
    is_one_host(address).map(|()| address)
}
