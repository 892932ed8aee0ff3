//! The one thread that sends every probe and hears every answer.
//!
//! Whoever wants something measured says `begin` and is told the end on the channel he gave at `start`;
//! meanwhile `results` shows what there is. A trace of a path and a ping that never ends are the same thing
//! to it: see `trace::Plan`. Pings of the mesh are a kind of
//! their own: each is ordered by `ping` with what it says, and whoever `listen`s is told what became of it and what
//! others' pings say.
//!
//! The one rule: the thread waits for nobody. It holds nothing that others lock, commands come over a
//! bounded channel, and what it tells goes over one that never blocks.

mod fault;
mod flight;
mod run;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bootagent_kit::thread;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::moment::Moment;
use crate::packet::{Family, MAX_HOPS, MAX_SIZE, SAID, Sequence};
use crate::report::{Fault, Part, Second};
use crate::socket::{OpenError, Rights, Sockets, Source};
use crate::sys;
use crate::trace::Plan;

/// Commands that wait for the engine. It takes them within milliseconds.
const COMMANDS: usize = 4_096;

/// Measurements there may be at once without CAP_NET_RAW, where each needs a socket of its own.
pub const UNPRIVILEGED: usize = 50;

/// How long an answer of the engine's may take on a machine that is not stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many can be pinged.
pub const MAX_PINGED: u16 = crate::slots::SLOTS;

/// How an engine works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Probes per second for everything together.
    pub budget: u32,
    /// Probes per second for each router that answers, above which traces share rows; `None`: they never do.
    pub responder_rate: Option<u32>,
    /// Bytes of each socket's receive buffer; the kernel may give less.
    pub receive_buffer: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            budget: 2_000,
            responder_rate: Some(1),
            receive_buffer: 4 << 20,
        }
    }
}

/// What is to be measured, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Where, how often, how far.
    pub plan: Plan,
    /// From where.
    pub source: Source,
    /// Bytes of a probe, its IP header included; within [`Family::min_size`] and [`MAX_SIZE`].
    pub size: u16,
    /// How urgent it is.
    pub urgency: Urgency,
}

/// How urgent a measurement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// As others.
    Usual,
    /// A loss triggered it or a ticket waits for it: it begins at once, and its probes go first.
    Urgent,
}

/// A measurement of an engine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(u64);

/// What the engine tells by itself.
#[derive(Debug)]
pub enum Event {
    /// A measurement ended. Each that has begun ends once.
    Ended {
        /// Which.
        handle: Handle,
        /// Why.
        end: End,
        /// What it found.
        results: Box<Results>,
    },
    /// What is new of pings.
    Pings {
        /// In the order in which it came; of one peer in the order in which they left.
        news: Vec<News>,
        /// Packets the kernel has thrown away since the start: if this grows, answers may be among them.
        dropped: u64,
    },
}

/// A ping that is to be sent.
#[derive(Debug, Clone)]
pub struct Ping {
    /// To whom: a number below [`MAX_PINGED`]. Only one ping of his may wait for its turn.
    pub peer: u16,
    /// His address.
    pub target: IpAddr,
    /// From where.
    pub source: Source,
    /// How long an answer is waited for.
    pub patience: Duration,
    /// What the caller calls it.
    pub tag: u32,
    /// What it says.
    pub said: Option<[u8; SAID]>,
}

/// What is new of pings.
#[derive(Debug, Clone)]
pub enum News {
    /// What became of one.
    Fate {
        /// To whom it was.
        peer: u16,
        /// What its caller calls it.
        tag: u32,
        /// When it left.
        left: Moment,
        /// What became of it.
        fate: Fate,
    },
    /// The ping of another node says this. Nobody has checked it.
    Said(Box<[u8; SAID]>),
}

/// Why a measurement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All rounds are done.
    Finished,
    /// It was stopped.
    Stopped,
    /// It did not even begin.
    NotBegun(NotBegun),
}

/// Why a measurement that was accepted did not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotBegun {
    /// There is no identifier left.
    #[error("the engine measures as many targets as it can")]
    Full,
    /// There are no more sockets for it.
    #[error("{UNPRIVILEGED} targets are measured, no more can be without CAP_NET_RAW")]
    Unprivileged,
    /// The kernel did not open a socket.
    #[error("the kernel opens no socket for it: {0}")]
    NoSocket(Errno),
}

/// What became of a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was answered, after so many microseconds where that is known.
    Answered(Option<u32>),
    /// It was not answered in time.
    Lost,
    /// This machine did not send it.
    Unsent,
}

/// What a measurement has found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Results {
    /// Its rows; absent before the first probe left.
    pub part: Option<Part>,
    /// Probes to the target and losses by the second, if they are kept.
    pub timeline: Vec<Second>,
    /// What this machine did to it.
    pub faults: Vec<Fault>,
}

/// Why a measurement did not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// There is no privilege to measure anything.
    #[error("nothing can be measured here: {}", Rights::REMEDY)]
    NotPermitted,
    /// There is no socket for such addresses.
    #[error("this machine has no sockets for {0:?}")]
    NoSocket(Family),
    /// The plan is none.
    #[error(
        "a measurement needs 1 to 32 hops, a time between rounds, and probes of {0} to 1500 bytes"
    )]
    Plan(u16),
    /// Thousands of commands wait.
    #[error("the engine has too much to do; try again in a second")]
    Busy,
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No socket.
    #[error(transparent)]
    Socket(#[from] OpenError),
    /// No thread, or no wake-up for it.
    #[error("starting the engine")]
    Thread(#[source] io::Error),
}

/// Whom the engine tells: it must not block.
pub type Teller = Arc<dyn Fn(Event) + Send + Sync>;

/// A running engine. It ends, and its measurements with it, when this is dropped.
#[derive(Debug)]
pub struct Engine {
    commands: SyncSender<Command>,
    wake: Arc<EventFd>,
    next: AtomicU64,
    /// Pings that wait for their turn.
    backlog: Arc<AtomicUsize>,
    rights: Rights,
    families: Vec<Family>,
    receive_buffer: usize,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Begin(Handle, Box<Spec>, Option<Teller>),
    Ping(Vec<Ping>),
    Listen(Teller),
    Prolong(Handle, u32),
    Stop(Handle),
    Budget(u32),
    Results(Handle, SyncSender<Option<Results>>),
    Counters(SyncSender<Counters>),
    Shutdown,
}

/// What the engine has done since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Probes the kernel took.
    pub sent: u64,
    /// Packets that came in.
    pub received: u64,
    /// Packets that came in and were no answers to a probe of ours.
    pub foreign: u64,
    /// Packets the kernel threw away.
    pub dropped: u64,
    /// How often the thread woke.
    pub wakes: u64,
    /// Measurements that run.
    pub live: u64,
}

/// A probe in a batch that is being sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Letter {
    id: u16,
    sequence: Sequence,
    of: Of,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Trace,
    Ping,
}

impl Engine {
    /// Opens the sockets and starts the thread. It works in the network namespace of whoever calls this.
    ///
    /// Where this process may open no socket it starts all the same, and nothing can begin; `rights` tells.
    pub fn start(settings: Settings) -> Result<(Self, Receiver<Event>), StartError> {
        let magic = u32::try_from(sys::random() >> 32).expect("32 bits").max(1);
        // Not 0: identifiers of programs that count from 1, as in containers, are below.
        let base = u16::try_from(sys::random() % 7 + 1).expect("3 bits") << 13;
        let sockets = Sockets::open(magic, base, settings.receive_buffer)?;
        let (rights, receive_buffer) = (sockets.rights, sockets.receive_buffer);
        let families = sockets.families.clone();
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|error| StartError::Thread(error.into()))?;
        let wake = Arc::new(wake);
        let (commands, inbox) = sync_channel(COMMANDS);
        let (events, told) = channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        let owned = run::Given {
            sockets,
            marks: (magic, base),
            commands: inbox,
            wake: wake.clone(),
            events,
            backlog: backlog.clone(),
        };
        let engine = run::Run::new(settings, owned);
        let thread = thread::spawn("engine", move || engine.run()).map_err(StartError::Thread)?;
        let engine = Self {
            commands,
            wake,
            next: AtomicU64::new(1),
            backlog,
            rights,
            families,
            receive_buffer,
            thread: Some(thread),
        };
        Ok((engine, told))
    }

    /// Begins a measurement.
    pub fn begin(&self, spec: Spec) -> Result<Handle, BeginError> {
        self.begin_for(spec, None)
    }

    /// Begins a measurement whose end is told to him, and not on the channel of the start.
    pub fn begin_telling(&self, spec: Spec, to: Teller) -> Result<Handle, BeginError> {
        self.begin_for(spec, Some(to))
    }

    fn begin_for(&self, spec: Spec, to: Option<Teller>) -> Result<Handle, BeginError> {
        let family = Family::of(spec.plan.target);
        if self.rights == Rights::Nothing {
            return Err(BeginError::NotPermitted);
        }
        if !self.families.contains(&family) {
            return Err(BeginError::NoSocket(family));
        }
        let Plan {
            first_ttl: first,
            last_ttl: last,
            interval,
            ..
        } = spec.plan;
        let hops = first >= 1 && last >= first && last - first < MAX_HOPS;
        let size = (family.min_size()..=MAX_SIZE).contains(&spec.size);
        if !hops || !size || interval.is_zero() {
            return Err(BeginError::Plan(family.min_size()));
        }
        let handle = Handle(self.next.fetch_add(1, Ordering::Relaxed));
        self.command(Command::Begin(handle, Box::new(spec), to))?;
        Ok(handle)
    }

    /// From now on what is new of pings is told to him.
    pub fn listen(&self, to: Teller) -> Result<(), BeginError> {
        self.command(Command::Listen(to))
    }

    /// Sends pings, before everything else and within the budget. Each ends in one [`News::Fate`].
    pub fn ping(&self, pings: Vec<Ping>) -> Result<(), BeginError> {
        let count = pings.len();
        self.backlog.fetch_add(count, Ordering::Relaxed);
        self.command(Command::Ping(pings)).inspect_err(|_| {
            self.backlog.fetch_sub(count, Ordering::Relaxed);
        })
    }

    /// Pings that wait for their turn: more than a few when the budget is too small for them.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Lets a measurement go on until it has had so many rounds.
    pub fn prolong(&self, handle: Handle, rounds: u32) -> Result<(), BeginError> {
        self.command(Command::Prolong(handle, rounds))
    }

    /// Ends a measurement; the event tells what there was.
    pub fn stop(&self, handle: Handle) -> Result<(), BeginError> {
        self.command(Command::Stop(handle))
    }

    /// From now on so many probes per second leave at most.
    pub fn allow(&self, budget: u32) -> Result<(), BeginError> {
        self.command(Command::Budget(budget))
    }

    /// What a running measurement has found so far; `None` when it does not run.
    #[must_use]
    pub fn results(&self, handle: Handle) -> Option<Results> {
        self.ask(|reply| Command::Results(handle, reply)).flatten()
    }

    /// What the engine has done; `None` when it does not answer.
    #[must_use]
    pub fn counters(&self) -> Option<Counters> {
        self.ask(Command::Counters)
    }

    /// What it may open.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// How many measurements there may be at once.
    #[must_use]
    pub fn at_once(&self) -> usize {
        match self.rights {
            Rights::Ping => UNPRIVILEGED,
            Rights::Raw | Rights::Nothing => crate::slots::SLOTS.into(),
        }
    }

    /// The size of the receive buffer that the kernel gave, in its own counting.
    #[must_use]
    pub fn receive_buffer(&self) -> usize {
        self.receive_buffer
    }

    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> Option<T> {
        let (reply, answer) = sync_channel(1);
        self.command(command(reply)).ok()?;
        answer.recv_timeout(PATIENCE).ok()
    }

    fn command(&self, command: Command) -> Result<(), BeginError> {
        match self.commands.try_send(command) {
            // The thread ends only with the process or with us.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => return Err(BeginError::Busy),
        }
        // Only fails when it was written to 2^64 times and never read.
        let _ = self.wake.write(1);
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Waits for a place if need be: the thread empties the channel.
        let _ = self.commands.send(Command::Shutdown);
        let _ = self.wake.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
