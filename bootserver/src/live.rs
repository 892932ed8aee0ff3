//! Live changes: what the store tells, passed on to everybody who follows it.
//!
//! In reading order: `message` is what they are sent, `pass` is how long they
//! may listen, `talk` sends it to one of them. Here is what all share: the
//! last messages, for who comes back, and one channel per scope. The one rule:
//! who may have missed something is told so (`reset`), and nobody waits for
//! anybody: a channel drops what its slowest listener did not take.

mod message;
mod pass;
mod talk;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use tokio::time::sleep;

use crate::access::scope::Scope;
use crate::metrics::StreamMetrics;
use crate::problem::chain;
use crate::store::change::{self, Change, Heard, Topic, Which};
use crate::store::{Result, Store};

pub use message::{ChangeView, MessageId, ResetView, StreamMessage};
pub use pass::Pass;
pub use talk::{Stream, Wish};

use message::Message;
use pass::Passes;

/// How long changes are gathered: a busy fleet is told a few times a second.
const LINGER: Duration = Duration::from_millis(100);
/// Messages kept for those who come back.
const KEPT: usize = 256;
/// Messages a listener may be behind.
const BEHIND: usize = 256;
/// Transactions that wait to be passed on.
const QUEUE: usize = 256;

/// Passes changes on; cheap to clone.
#[derive(Clone)]
pub struct Live {
    store: Arc<dyn Store>,
    state: Arc<Mutex<State>>,
    passes: Arc<Passes>,
    metrics: StreamMetrics,
}

struct State {
    /// Of which of all messages there ever were the numbers are: this run's.
    run: u32,
    /// The last message's.
    number: u64,
    /// The newest one before which something may have been missed.
    reset: u64,
    kept: VecDeque<(u64, Change)>,
    channels: HashMap<Vec<String>, Channel>,
    /// Streams of each operator.
    seats: HashMap<String, usize>,
}

/// The way to all who have one scope.
struct Channel {
    scope: Scope,
    sender: broadcast::Sender<Message>,
}

/// What somebody who begins to listen gets.
struct Following {
    /// What they missed, if that is known; otherwise all they know is old.
    missed: Option<Vec<(MessageId, Change)>>,
    /// The message after which they listen.
    id: MessageId,
    receiver: broadcast::Receiver<Message>,
}

impl Live {
    /// Nothing is passed on before [`Live::run`].
    pub fn new(store: Arc<dyn Store>, metrics: StreamMetrics) -> Self {
        let state = State {
            run: crate::auth::random(),
            number: 0,
            reset: 0,
            kept: VecDeque::new(),
            channels: HashMap::new(),
            seats: HashMap::new(),
        };
        Self {
            store,
            state: Arc::new(Mutex::new(state)),
            passes: Arc::default(),
            metrics,
        }
    }

    /// Passes on what the store tells, and looks who may still listen, for as long
    /// as it is polled.
    pub async fn run(self) {
        let (listener, heard) = mpsc::channel(QUEUE);
        let passes = self.passes.clone();
        tokio::join!(
            self.store.hear(listener),
            self.pass_on(heard),
            passes.keep(self.store.as_ref()),
        );
    }

    async fn pass_on(&self, mut heard: mpsc::Receiver<Heard>) {
        while let Some(first) = heard.recv().await {
            sleep(LINGER).await;
            let mut changes = Vec::new();
            let mut next = Some(first);
            while let Some(one) = next {
                match one {
                    Heard::Gap => {
                        changes.clear();
                        self.reset();
                    }
                    Heard::Changes(more) => {
                        for one in more {
                            change::merge(&mut changes, one);
                        }
                    }
                }
                next = heard.try_recv().ok();
            }
            self.tell(&changes).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everybody may have missed something.
    fn reset(&self) {
        let mut state = self.state();
        state.number += 1;
        state.reset = state.number;
        state.kept.clear();
        let message = Message::reset(state.id(state.number));
        for channel in state.channels.values() {
            channel.send(message.clone());
        }
    }

    async fn tell(&self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let scopes: Vec<Scope> = {
            let mut state = self.state();
            let channels = &mut state.channels;
            channels.retain(|_, channel| channel.sender.receiver_count() > 0);
            let scopes = channels.values().map(|channel| channel.scope.clone());
            scopes.filter(|scope| !scope.is_fleet()).collect()
        };
        // What each of them may hear of; nobody waits for the database meanwhile.
        let mut seen: HashMap<Vec<String>, Vec<Option<Change>>> = HashMap::new();
        for scope in scopes {
            match visible(self.store.as_ref(), &scope, changes).await {
                Ok(visible) => {
                    seen.insert(scope.to_texts(), visible);
                }
                Err(error) => tracing::warn!(
                    error = chain(&error),
                    "who may hear of changes is not known: they are told to look"
                ),
            }
        }
        let mut state = self.state();
        let first = state.number + 1;
        for one in changes {
            state.number += 1;
            let number = state.number;
            state.kept.push_back((number, one.clone()));
        }
        let over = state.kept.len().saturating_sub(KEPT);
        state.kept.drain(..over);
        let is_regrouped = changes.iter().any(|one| one.topic == Topic::Group);
        for (key, channel) in &state.channels {
            let whole = || changes.iter().cloned().map(Some).collect();
            let seen = match channel.scope.is_fleet() {
                true => Some(whole()),
                // They may see other hosts now.
                false if is_regrouped && channel.scope.groups().next().is_some() => None,
                false => seen.remove(key),
            };
            // Nor was asked for somebody who came in the middle.
            let Some(seen) = seen else {
                channel.send(Message::reset(state.id(state.number)));
                continue;
            };
            for (number, one) in (first..).zip(seen) {
                if let Some(one) = one {
                    channel.send(Message::change(state.id(number), one));
                }
            }
        }
    }

    /// Begins to listen, after the message with this id if it is still known.
    fn follow(&self, scope: &Scope, after: Option<MessageId>) -> Following {
        let mut state = self.state();
        let channel = state
            .channels
            .entry(scope.to_texts())
            .or_insert_with(|| Channel {
                scope: scope.clone(),
                sender: broadcast::channel(BEHIND).0,
            });
        let receiver = channel.sender.subscribe();
        Following {
            missed: after.and_then(|after| state.since(after)),
            id: state.id(state.number),
            receiver,
        }
    }

    /// A seat for one more stream of an operator, who has at most so many.
    fn seat(&self, who: &str, most: usize) -> Option<Seat> {
        let mut state = self.state();
        let taken = state.seats.entry(who.to_owned()).or_default();
        if *taken >= most {
            return None;
        }
        *taken += 1;
        self.metrics.open.inc();
        Some(Seat {
            live: self.clone(),
            who: who.to_owned(),
        })
    }
}

impl State {
    fn id(&self, number: u64) -> MessageId {
        MessageId {
            run: self.run,
            number,
        }
    }

    /// What came after a message; nothing when that is not all known any more.
    fn since(&self, after: MessageId) -> Option<Vec<(MessageId, Change)>> {
        let oldest = self.kept.front().map_or(self.number + 1, |(n, _)| *n);
        let is_known = after.run == self.run
            && (self.reset..=self.number).contains(&after.number)
            && after.number + 1 >= oldest;
        let later = self.kept.iter().filter(|(n, _)| *n > after.number);
        is_known.then(|| later.map(|(n, one)| (self.id(*n), one.clone())).collect())
    }
}

impl Channel {
    /// That nobody listens just now is no failure.
    fn send(&self, message: Message) {
        let _ = self.sender.send(message);
    }
}

/// The place of one stream, as long as its connection lives.
struct Seat {
    live: Live,
    who: String,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.live.state();
        if let Some(taken) = state.seats.get_mut(&self.who) {
            *taken -= 1;
            if *taken == 0 {
                state.seats.remove(&self.who);
            }
        }
        self.live.metrics.open.dec();
    }
}

/// Each change as somebody with this scope may hear of it.
async fn visible(
    store: &dyn Store,
    scope: &Scope,
    changes: &[Change],
) -> Result<Vec<Option<Change>>> {
    let mut seen = Vec::with_capacity(changes.len());
    for one in changes {
        seen.push(match &one.which {
            Which::Many if one.topic == Topic::Group && !scope.is_fleet() => None,
            Which::Many => Some(one.clone()),
            Which::Ids(ids) => {
                let seen = store.visible(one.topic, ids, scope).await?;
                let which = match (one.hides(), seen.len()) {
                    // Theirs or not: they may have lost a host, and its name is not told.
                    (true, count) if count < ids.len() => Some(Which::Many),
                    (_, 0) => None,
                    _ => Some(Which::Ids(seen)),
                };
                which.map(|which| Change {
                    which,
                    ..one.clone()
                })
            }
        });
    }
    Ok(seen)
}
