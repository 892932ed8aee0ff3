//! The engine's thread: hears, decides by `trace` and `pace`, sends, sleeps until something is due.
//!
//! While it is busy it works in ticks of a millisecond: what comes in meanwhile has the kernel's stamp and
//! loses nothing by waiting. While it is not, it sleeps until a probe is due or an answer comes.
//!
//! The one rule: whatever one trace does, the others are heard and sent in the same tick.

mod hear;
mod joint;
mod own;
mod ping;
mod post;
mod ring;
mod whole;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;

use super::fault::{Doubts, Quota, STARVED};
use super::{
    Command, Counters, End, Event, Handle, News, NotBegun, Results, Settings, Spec, Teller, Urgency,
};
use crate::clock::{self, Clock};
use crate::moment::Moment;
use crate::pace::{Class, Key, Pace};
use crate::packet::{Answer, Marks};
use crate::report::{Fault, PartName};
use crate::share::{Group, Share};
use crate::slots::Slots;
use crate::socket::ping::PingSocket;
use crate::socket::{Lane, Rights, Sockets};
use crate::sys::{self, Inbox};
use crate::trace::Trace;
use ping::{PINGED, Pinged};

/// While something happens, that much happens in one go.
const TICK: Duration = Duration::from_millis(1);

/// The same while there are only pings: nobody waits for their answers.
const TICK_OF_PINGS: Duration = Duration::from_millis(5);

/// A batch that took longer left nobody knows when.
const DOUBTFUL: Duration = Duration::from_millis(1);

/// Twice the longest time an answer is waited for.
const REST: Duration = Duration::from_secs(20);

/// Calls to receive in one tick, so that a flood does not keep us from sending.
const RECEIVES: usize = 64;

/// How old the quota's counter may be.
const QUOTA_AGE: Duration = Duration::from_millis(200);

/// A measurement that runs.
struct Live {
    handle: Handle,
    spec: Spec,
    trace: Trace,
    marks: Marks,
    /// The alarm that counts; earlier ones ring in vain.
    alarm: Option<Moment>,
    queued: Queued,
    /// The class of its first round, until that is over.
    opening: Option<Class>,
    doubts: Doubts,
    /// Its own, where we may not have raw ones.
    socket: Option<PingSocket>,
    /// The groups it shares rows with.
    joined: Vec<Group>,
    /// Who is told of its end, if not who is told of all.
    to: Option<Teller>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queued {
    No,
    Yes,
}

/// What the thread is given.
pub(super) struct Given {
    pub(super) sockets: Sockets,
    /// The process's word and its part of identifiers.
    pub(super) marks: (u32, u16),
    pub(super) commands: Receiver<Command>,
    pub(super) wake: Arc<EventFd>,
    pub(super) events: Sender<Event>,
    pub(super) backlog: Arc<AtomicUsize>,
}

/// Everything the thread owns.
pub(super) struct Run {
    rights: Rights,
    lanes: Vec<Lane>,
    receive_buffer: usize,
    inbox: Inbox,
    /// What the packets in the inbox are: empty, kept for its memory.
    answers: Vec<Understood>,
    magic: u32,
    base: u16,
    slots: Slots<Live>,
    ids: HashMap<Handle, u16>,
    /// How many of the measurements have large probes.
    large: usize,
    pace: Pace,
    /// Empty, kept for its memory.
    rung: Vec<(Key, Moment)>,
    share: Option<Share>,
    clock: Clock,
    quota: Quota,
    throttled: (Moment, Duration),
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
    /// Whether `wake` may have been written to.
    called: bool,
    events: Sender<Event>,
    counters: Counters,
    pinged: Vec<Pinged>,
    backlog: Arc<AtomicUsize>,
    listener: Option<Teller>,
    news: Vec<News>,
    news_at: Option<Moment>,
    /// How many of the news others said.
    heard_news: usize,
    /// What the kernel threw away on sockets that were closed.
    dropped_before: u64,
    /// Everything that came before this was read.
    heard: Moment,
}

/// What was read of what had come.
enum Heard {
    Everything,
    NotAll,
}

/// What a packet is.
enum Understood {
    Answer(Answer),
    /// What another node's ping says.
    Said,
    Foreign,
}

enum Next {
    GoOn,
    Shutdown,
}

impl Run {
    pub(super) fn new(settings: Settings, given: Given) -> Self {
        let Given {
            sockets,
            marks: (magic, base),
            commands,
            wake,
            events,
            backlog,
        } = given;
        let now = clock::now();
        let quota = Quota::find();
        let throttled = (now, quota.throttled());
        Self {
            rights: sockets.rights,
            lanes: sockets.lanes,
            receive_buffer: settings.receive_buffer,
            inbox: Inbox::new(),
            answers: Vec::new(),
            magic,
            base,
            slots: Slots::new(base, REST),
            ids: HashMap::new(),
            large: 0,
            pace: Pace::new(settings.budget, now),
            rung: Vec::new(),
            share: settings
                .responder_rate
                .map(|rate| Share::new(rate, sys::random())),
            clock: Clock::new(),
            quota,
            throttled,
            commands,
            wake,
            called: false,
            events,
            counters: Counters::default(),
            pinged: Vec::new(),
            backlog,
            listener: None,
            news: Vec::new(),
            news_at: None,
            heard_news: 0,
            dropped_before: 0,
            heard: now,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            if let Next::Shutdown = self.obey() {
                return;
            }
            let now = clock::now();
            if let Heard::Everything = self.hear() {
                self.heard = now;
            }
            self.ring();
            self.send();
            self.tell_news(now);
            self.sleep(now);
        }
    }

    fn obey(&mut self) -> Next {
        if std::mem::take(&mut self.called) {
            let _ = self.wake.read();
        }
        while let Ok(command) = self.commands.try_recv() {
            let now = clock::now();
            match command {
                Command::Begin(handle, spec, to) => self.begin(handle, *spec, to, now),
                Command::Ping(orders) => self.ping(orders),
                Command::Listen(to) => self.listener = Some(to),
                Command::Prolong(handle, rounds) => self.change(handle, now, |trace| {
                    trace.prolong(rounds);
                }),
                Command::Stop(handle) => {
                    if let Some(&id) = self.ids.get(&handle) {
                        self.end(id, End::Stopped, now);
                    }
                }
                Command::Budget(budget) => self.pace.allow(budget),
                Command::Results(handle, reply) => {
                    let live = self.ids.get(&handle).and_then(|&id| self.slots.get(id));
                    let results = live.is_some().then(|| self.results(handle, now));
                    let _ = reply.send(results.flatten());
                }
                Command::Counters(reply) => {
                    let _ = reply.send(Counters {
                        dropped: self.dropped(),
                        live: u64::try_from(self.slots.len()).unwrap_or(u64::MAX),
                        ..self.counters
                    });
                }
                Command::Shutdown => return Next::Shutdown,
            }
        }
        Next::GoOn
    }

    fn begin(&mut self, handle: Handle, spec: Spec, to: Option<Teller>, now: Moment) {
        let Some(id) = self.slots.next(now) else {
            return self.refuse(handle, NotBegun::Full, to);
        };
        let (socket, identifier) = match self.own_socket(&spec) {
            Ok(Some((socket, identifier))) => (Some(socket), identifier),
            Ok(None) => (None, id),
            Err(reason) => return self.refuse(handle, reason, to),
        };
        let phase = match spec.urgency {
            Urgency::Urgent => Duration::ZERO,
            Urgency::Usual => self.pace.phase(now, spec.plan.interval),
        };
        let doubts = Doubts {
            dropped_before: self.dropped(),
            throttled_before: self.throttled(now),
            ..Doubts::default()
        };
        let mut live = Live {
            handle,
            trace: Trace::new(spec.plan, now + phase),
            marks: Marks::new(identifier, self.magic, sys::random()),
            spec,
            alarm: None,
            queued: Queued::No,
            opening: None,
            doubts,
            socket,
            joined: Vec::new(),
            to,
        };
        let opening = class(&live);
        live.opening = Some(opening);
        self.pace.begins(opening);
        let is_large = live.is_large();
        if let Ok(id) = self.slots.insert(live, now) {
            self.ids.insert(handle, id);
            self.large += usize::from(is_large);
            self.split_or_not();
            self.look(id, now);
        }
    }

    fn refuse(&self, handle: Handle, reason: NotBegun, to: Option<Teller>) {
        let (end, results) = (End::NotBegun(reason), Box::default());
        let ended = Event::Ended {
            handle,
            end,
            results,
        };
        self.tell_end(to, ended);
    }

    fn change(&mut self, handle: Handle, now: Moment, change: impl FnOnce(&mut Trace)) {
        if let Some(&id) = self.ids.get(&handle)
            && let Some(live) = self.slots.get_mut(id)
        {
            change(&mut live.trace);
            self.look(id, now);
        }
    }

    /// Lets a trace do what is due, and sees to it that it is looked at again.
    fn look(&mut self, id: u16, now: Moment) {
        let Some(live) = self.slots.get_mut(id) else {
            return;
        };
        let mut lost = Vec::new();
        // Not now: after we were not run for long, answers in time may still wait to be read.
        live.trace
            .expire(self.heard, self.clock.wall(), |_, hop| lost.push(hop));
        for hop in lost {
            self.tell_group(id, hop, None);
        }
        let Some(live) = self.slots.get_mut(id) else {
            return;
        };
        if live.trace.is_over() {
            return self.end(id, End::Finished, now);
        }
        if !live.trace.is_in_first_round()
            && let Some(opening) = live.opening.take()
        {
            self.pace.began(opening);
        }
        let key: Key = (id, live.handle.0);
        if live.queued == Queued::No && live.trace.due().is_some_and(|due| due <= now) {
            live.queued = Queued::Yes;
            self.pace.wait(key, class(live));
        }
        // Who waits in line is looked at when its probe is sent.
        if live.queued == Queued::No
            && let Some(at) = live.trace.deadline()
            && live.alarm.is_none_or(|alarm| at < alarm)
        {
            live.alarm = Some(at);
            self.pace.alarm(key, at);
        }
    }

    fn end(&mut self, id: u16, end: End, now: Moment) {
        let Some(handle) = self.slots.get(id).map(|live| live.handle) else {
            return;
        };
        let results = Box::new(self.results(handle, now).unwrap_or_default());
        let to = self.slots.remove(id, now).and_then(|live| {
            if let Some(opening) = live.opening {
                self.pace.began(opening);
            }
            self.leave_groups(&live, id);
            self.large -= usize::from(live.is_large());
            self.dropped_before += live.socket.map_or(0, |socket| socket.dropped());
            live.to
        });
        self.ids.remove(&handle);
        self.split_or_not();
        self.tell_end(
            to,
            Event::Ended {
                handle,
                end,
                results,
            },
        );
    }

    fn tell_end(&self, to: Option<Teller>, event: Event) {
        match to {
            Some(tell) => tell(event),
            // Whoever started us may have gone; then we end soon.
            None => drop(self.events.send(event)),
        }
    }

    fn results(&mut self, handle: Handle, now: Moment) -> Option<Results> {
        let (dropped, throttled) = (self.dropped(), self.throttled(now));
        let live = self.ids.get(&handle).and_then(|&id| self.slots.get(id))?;
        let ordered = u64::try_from(live.spec.plan.interval.as_millis()).unwrap_or(u64::MAX);
        let interval = live.trace.mean_interval_ms();
        let mut faults = live.doubts.faults(dropped, throttled, ordered, interval);
        if live.socket.is_some() {
            faults.push(Fault::Unprivileged);
        }
        Some(Results {
            part: live.trace.part(PartName::Run, self.clock.wall()),
            timeline: live.trace.timeline(),
            faults,
        })
    }

    fn dropped(&self) -> u64 {
        let lanes = self.lanes.iter().map(Lane::all_dropped);
        let own = self.own_sockets().map(|(_, socket)| socket.dropped());
        self.dropped_before + lanes.chain(own).sum::<u64>()
    }

    fn throttled(&mut self, now: Moment) -> Duration {
        if now.since(self.throttled.0) > QUOTA_AGE {
            self.throttled = (now, self.quota.throttled());
        }
        self.throttled.1
    }

    /// Sleeps until something is to be done. First to the end of the tick, and nothing that comes in wakes it.
    fn sleep(&mut self, began: Moment) {
        let next = [self.pace.deadline(clock::now()), self.news_at];
        let next = next.into_iter().flatten().min();
        let tick = match self.slots.is_empty() && !self.pinged.is_empty() {
            true => TICK_OF_PINGS,
            false => TICK,
        };
        let tick = began + tick;
        let wake = PollFd::new(self.wake.as_fd(), PollFlags::POLLIN);
        self.called = poll(&mut [wake], Some(tick));
        if self.called || next.is_some_and(|next| next <= tick) {
            self.woke(next);
            return;
        }
        let wake = PollFd::new(self.wake.as_fd(), PollFlags::POLLIN);
        let lanes = self.lanes.iter();
        let mut all: Vec<_> = lanes
            .map(|lane| PollFd::new(lane.fd(), PollFlags::POLLIN))
            .collect();
        let own = self.own_sockets();
        all.extend(own.map(|(_, socket)| PollFd::new(socket.fd(), PollFlags::POLLIN)));
        all.push(wake);
        self.called = poll(&mut all, next);
        self.woke(next);
    }

    /// Notes if we were run much later than we wanted.
    fn woke(&mut self, next: Option<Moment>) {
        self.counters.wakes += 1;
        let Some(next) = next else {
            return;
        };
        let late = clock::now().since(next);
        if late >= STARVED {
            for live in self.slots.values_mut() {
                live.doubts.starved = live.doubts.starved.max(late);
            }
        }
    }
}

/// How urgent a measurement's next probe is.
fn class(live: &Live) -> Class {
    match (live.spec.urgency, live.trace.is_in_first_round()) {
        (Urgency::Urgent, true) => Class::Snapshot,
        (Urgency::Urgent, false) => Class::Urgent,
        (Urgency::Usual, true) => Class::First,
        (Urgency::Usual, false) if live.trace.is_target_next() => Class::Target,
        (Urgency::Usual, false) => Class::Hop,
    }
}

/// Waits until then or for ever; tells whether something came before.
fn poll(fds: &mut [PollFd<'_>], until: Option<Moment>) -> bool {
    let timeout = until.map(|until| TimeSpec::from_duration(until.since(clock::now())));
    match ppoll(fds, timeout, None) {
        Ok(count) => count > 0,
        Err(Errno::EINTR) => true,
        // No descriptor of ours is ever wrong.
        Err(_) => false,
    }
}
