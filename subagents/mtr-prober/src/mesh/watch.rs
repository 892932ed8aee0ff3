//! The thread of the mesh: orders each ping when it is due, hears what became of it, and makes a report of each
//! event.
//!
//! What trouble is, `detect` and `guard` decide; what an event needs, `episode`; who said what, `roster`. Here is only what
//! follows: pings and traces ordered from the engine, reports handed to the archive.
//!
//! The one rule: nobody is waited for, and without peers nothing wakes it.

mod event;
mod settle;
mod show;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bootagent_kit::thread;

use super::detect::Outcome;
use super::episode::Episode;
use super::guard::Guard;
use super::list::List;
use super::past;
use super::roster::Roster;
use super::standing::{Counts, Standing};
use crate::archive::thread::Keeper;
use crate::clock::{self, Clock};
use crate::config::Config;
use crate::engine::{Engine, Event, Fate, Handle, News, Ping, Results, Spec, Teller, Urgency};
use crate::measurements::Reply;
use crate::moment::Moment;
use crate::order::{LAST_TTL, SIZE};
use crate::report::PartName;
use crate::status::Status;
use crate::trace::{Keep, Plan};

/// Pings due within this long are ordered together.
const TOGETHER: Duration = Duration::from_millis(5);
/// While so many wait for the budget, no more are ordered: intervals stretch.
const MAX_BACKLOG: usize = 64;
const STRETCH: Duration = Duration::from_millis(20);
/// How often the list's file is looked at.
const LOOK_AT_LIST: Duration = Duration::from_secs(5);
/// How often events are looked at.
const LOOK_AT_EVENTS: Duration = Duration::from_millis(500);
/// How many are looked at for one whose path may be measured.
const LOOKED_AT: usize = 64;
/// A probe that is not answered by then is lost.
const TIMEOUT: Duration = Duration::from_secs(2);
/// What was sent so long before the kernel threw packets away may have been answered.
const DOUBTFUL: Duration = Duration::from_secs(2);

/// What the thread is told.
enum Message {
    Engine(Event),
    Standing(Detail, Reply<Standing>),
    Configure(Box<Config>),
    End,
}

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// The numbers.
    Counts,
    /// What is in trouble.
    Troubled,
    /// Every peer.
    Everything,
}

/// The way to the thread.
#[derive(Clone)]
pub struct Watch(Sender<Message>);

impl Watch {
    /// Starts the thread. The last good list is kept in `state`.
    pub fn start(
        config: Config,
        engine: Arc<Engine>,
        keeper: Keeper,
        status: Status,
        state: PathBuf,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, inbox) = channel();
        let to = sender.clone();
        let tell: Teller = Arc::new(move |event| {
            // Fails only once the thread is gone.
            let _ = to.send(Message::Engine(event));
        });
        let run = Run::new(engine, keeper, status, tell, state);
        let thread = thread::spawn("mesh", move || run.run(config, &inbox))?;
        Ok((Self(sender), thread))
    }

    /// Asks how it stands.
    pub fn standing(&self, detail: Detail, reply: Reply<Standing>) {
        self.send(Message::Standing(detail, reply));
    }

    /// From now on it goes by this; the list is read again.
    pub fn configure(&self, config: Config) {
        self.send(Message::Configure(Box::new(config)));
    }

    /// Closes the reports of what lasts still, and ends.
    pub fn end(&self) {
        self.send(Message::End);
    }

    fn send(&self, message: Message) {
        let _ = self.0.send(message);
    }
}

/// What a trace of the engine's is for.
enum Purpose {
    /// A part of an event's.
    Part(usize, PartName),
    /// A peer's normal path.
    Path(u16),
}

/// Everything the thread owns.
struct Run {
    config: Config,
    engine: Arc<Engine>,
    keeper: Keeper,
    status: Status,
    tell: Teller,
    state: PathBuf,
    list: Option<List>,
    list_at: Moment,
    roster: Roster,
    guard: Guard,
    /// When which peer is to be pinged; one that says another time than the peer rings in vain.
    due: BinaryHeap<Reverse<(Moment, u16)>>,
    /// By the number of their events.
    episodes: HashMap<usize, Episode>,
    next_event: usize,
    episodes_at: Moment,
    traces: HashMap<Handle, Purpose>,
    path_at: Moment,
    clock: Clock,
    counts: Counts,
    /// Packets the kernel has thrown away, and when that was last more than before.
    dropped: (u64, Option<Moment>),
}

impl Run {
    fn new(
        engine: Arc<Engine>,
        keeper: Keeper,
        status: Status,
        tell: Teller,
        state: PathBuf,
    ) -> Self {
        let now = clock::now();
        Self {
            config: Config::default(),
            engine,
            keeper,
            status,
            tell,
            state,
            list: None,
            list_at: now,
            roster: Roster::new(),
            guard: Guard::new(1),
            due: BinaryHeap::new(),
            episodes: HashMap::new(),
            next_event: 0,
            episodes_at: now,
            traces: HashMap::new(),
            path_at: now,
            clock: Clock::new(),
            counts: Counts::default(),
            dropped: (0, None),
        }
    }

    fn run(mut self, config: Config, inbox: &Receiver<Message>) {
        // The engine has just begun: it takes it.
        let _ = self.engine.listen(self.tell.clone());
        self.configure(config);
        loop {
            let message = match self.deadline() {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => inbox.recv_timeout(at.since(clock::now())),
            };
            let mut next = match message {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            self.clock.look();
            while let Some(message) = next {
                match message {
                    Message::Engine(event) => self.hear(event),
                    Message::Standing(detail, reply) => reply(self.standing(detail)),
                    Message::Configure(config) => self.configure(*config),
                    Message::End => return self.end(),
                }
                next = inbox.try_recv().ok();
            }
            self.act(clock::now());
        }
    }

    /// When something is to be done by ourselves.
    fn deadline(&self) -> Option<Moment> {
        let list = self.list.as_ref().map(|_| self.list_at);
        let events = (!self.episodes.is_empty()).then_some(self.episodes_at);
        let path = (self.roster.len() > 0).then_some(self.path_at);
        let ping = self.due.peek().map(|Reverse((at, _))| *at);
        [list, events, path, ping].into_iter().flatten().min()
    }

    /// Does what is due.
    fn act(&mut self, now: Moment) {
        self.ping(now);
        if self.list.is_some() && self.list_at <= now {
            self.list_at = now + LOOK_AT_LIST;
            self.look_at_list();
        }
        if self.path_at <= now && self.roster.len() > 0 {
            self.path_at = now + past::next_peer(self.config.budget);
            self.measure_path(now);
        }
        if self.episodes_at <= now {
            self.episodes_at = now + LOOK_AT_EVENTS;
            self.look_at_events(now);
        }
    }

    /// Orders the pings that are due.
    fn ping(&mut self, now: Moment) {
        let mut orders = Vec::new();
        let is_full = self.engine.backlog() > MAX_BACKLOG;
        while let Some(Reverse((at, number))) = self.due.peek().copied()
            && at <= now + TOGETHER
        {
            self.due.pop();
            let Some(peer) = self.roster.get_mut(number).filter(|it| it.next == at) else {
                continue;
            };
            let (Some(source), Some(detector)) =
                (peer.source, self.guard.detector(usize::from(number)))
            else {
                peer.next = now + LOOK_AT_LIST;
                self.due.push(Reverse((peer.next, number)));
                continue;
            };
            let interval = detector.interval(now);
            let next = match is_full {
                true => now + STRETCH,
                // On a grid, unless it is much too late.
                false if now.since(at) < interval => at + interval,
                false => now + interval,
            };
            peer.next = next;
            self.due.push(Reverse((next, number)));
            if is_full {
                continue;
            }
            let (target, patience) = (peer.entry.address, detector.patience());
            let (tag, message) = self.roster.next_ping(number, now);
            let said = message.zip(self.roster.keys.first());
            orders.push(Ping {
                peer: number,
                target,
                source,
                patience,
                tag,
                said: said.map(|(message, key)| message.seal(key)),
            });
        }
        if orders.is_empty() {
            return;
        }
        let numbers: Vec<u16> = orders.iter().map(|it| it.peer).collect();
        if self.engine.ping(orders).is_err() {
            numbers
                .iter()
                .for_each(|number| self.roster.count_anew(*number));
        }
    }

    fn hear(&mut self, event: Event) {
        let now = clock::now();
        match event {
            Event::Pings { news, dropped } => {
                if dropped > self.dropped.0 {
                    self.dropped = (dropped, Some(now));
                }
                for it in news {
                    match it {
                        News::Fate {
                            peer,
                            tag,
                            left,
                            fate,
                        } => self.fate(peer, tag, left, fate, now),
                        News::Said(bytes) if self.roster.keys.is_empty() => drop(bytes),
                        News::Said(bytes) => match self.roster.hear(&bytes[..], now) {
                            true => self.counts.heard += 1,
                            false => self.counts.disbelieved += 1,
                        },
                    }
                }
            }
            Event::Ended {
                handle,
                end,
                results,
            } => match self.traces.remove(&handle) {
                Some(Purpose::Part(event, name)) => self.part(event, name, end, *results, now),
                Some(Purpose::Path(number)) => self.swept(number, *results, now),
                None => {}
            },
        }
    }

    /// What became of a ping.
    fn fate(&mut self, number: u16, tag: u32, left: Moment, fate: Fate, now: Moment) {
        let Some(peer) = self.roster.get_mut(number) else {
            return;
        };
        let outcome = match fate {
            Fate::Answered(micros) => {
                peer.sent.answered(tag);
                Outcome::Answered(micros)
            }
            // The answer may be among what the kernel threw away.
            Fate::Lost if self.dropped.1.is_some_and(|it| it <= left + DOUBTFUL) => return,
            Fate::Lost => Outcome::Lost,
            Fate::Unsent => {
                self.counts.unsent += 1;
                return self.roster.count_anew(number);
            }
        };
        let lost = u32::from(outcome == Outcome::Lost);
        self.counts.pings += 1;
        self.counts.lost += u64::from(lost);
        let wall = self.clock.wall();
        let second = wall.second(left);
        peer.count(second, lost);
        let line = peer.line;
        if !self.episodes.is_empty() {
            self.count_in_events(number, line, second, lost);
        }
        let index = usize::from(number);
        let notices = self.guard.heard(index, outcome, now, wall.second(now));
        if let (Some(peer), Some(detector)) =
            (self.roster.get_mut(number), self.guard.detector(index))
        {
            // A burst begins at once, not with the next plain ping.
            let hastened = now + detector.interval(now);
            if hastened < peer.next {
                peer.next = hastened;
                self.due.push(Reverse((hastened, number)));
            }
        }
        for notice in notices {
            self.notice(number, &notice, now);
        }
    }

    /// Begins a trace of the engine's; whether it does.
    fn trace(
        &mut self,
        number: u16,
        rounds: Option<u32>,
        urgency: Urgency,
        purpose: Purpose,
    ) -> bool {
        let Some(peer) = self.roster.get(number) else {
            return false;
        };
        let spec = Spec {
            plan: Plan {
                target: peer.entry.address,
                first_ttl: 1,
                last_ttl: LAST_TTL,
                rounds,
                interval: super::episode::CYCLE,
                timeout: TIMEOUT,
                keep: Keep::Sums,
            },
            source: peer.source.unwrap_or_default(),
            size: SIZE.max(crate::packet::Family::of(peer.entry.address).min_size()),
            urgency,
        };
        let tell = self.tell.clone();
        match self.engine.begin_telling(spec, tell) {
            Ok(handle) => {
                self.traces.insert(handle, purpose);
                true
            }
            Err(error) => {
                log::warn!("a path is not measured: {error}");
                false
            }
        }
    }

    /// Measures the path of the next whose turn it is and who is well, once.
    fn measure_path(&mut self, now: Moment) {
        for _ in 0..LOOKED_AT.min(self.roster.len()) {
            let Some(number) = self.roster.next_in_turn() else {
                return;
            };
            let detector = self.guard.detector(usize::from(number));
            let is_well = detector
                .is_some_and(|it| it.has_answered() && !it.is_suspect() && !it.is_troubled());
            let Some(peer) = self.roster.get_mut(number) else {
                return;
            };
            let interval = peer.past.next();
            if is_well && peer.swept.is_none_or(|it| now.since(it) >= interval) {
                peer.swept = Some(now);
                self.trace(number, Some(1), Urgency::Usual, Purpose::Path(number));
                return;
            }
        }
    }

    /// A peer's path was measured; what it was in trouble is not how it is normally.
    fn swept(&mut self, number: u16, results: Results, now: Moment) {
        let detector = self.guard.detector(usize::from(number));
        let is_normal = detector.is_some_and(|it| !it.is_troubled());
        if let (Some(peer), Some(part), true) =
            (self.roster.get_mut(number), results.part, is_normal)
        {
            peer.past.add(&part, now);
        }
    }
}
