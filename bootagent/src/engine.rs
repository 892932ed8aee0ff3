//! The supervisor: one thread that owns all state.
//!
//! It waits for signals, children, deadlines and messages, lets
//! `bootagent-core` decide, and does what was decided. It never waits for a
//! child, a disk queue or the network: pushing, journalling and the work of
//! jobs have threads of their own, which send it [`Message`]s.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, Sender};

use bootagent_core::restart;
use bootagent_core::time::Uptime;
use bootagent_protocol::AgentName;
use nix::fcntl::Flock;
use nix::sys::signal::Signal;

use crate::handover::Handover;
use crate::host::Host;
use crate::jobs::Order;
use crate::metafile::Metafile;
use crate::uplink::Attempted;

mod adopt;
mod candidate;
pub mod child;
mod control;
mod forks;
mod installed;
mod logger;
mod oneshot;
mod poller;
mod push;
mod reap;
mod reexec;
mod reload;
mod requests;
mod summary;
mod supervise;
mod trial;
pub mod waiter;
mod watch;

pub(crate) use adopt::{Loaded, scan};
pub use child::now;
pub use control::open_socket;
pub use installed::{Given, Known, Run};
pub use oneshot::{Leftovers, OneshotEnd, OneshotOrder};
pub use poller::handled_signals;
pub(crate) use push::server_list;
pub use reexec::Orderer;
pub use requests::{JobRequest, WantedChange};
pub use trial::Sighting;

use child::Child;
use logger::Logger;
use oneshot::Oneshot;
use poller::{Poller, Source};
use push::Push;

/// What other threads tell the engine.
pub enum Message {
    /// A server was asked.
    Attempted(Box<Attempted>),
    /// The job worker needs something done.
    Job(JobRequest),
    /// Something for the next status: push soon.
    News,
    /// The metafile was written after a registration.
    RegistrationSaved,
    /// The metafile with a new secret was written, or not; what the schedule
    /// is to hear of the answer that brought it.
    SecretSaved(
        Result<(), bootagent_kit::fs::FsError>,
        bootagent_core::schedule::Event,
    ),
    /// The program at our path was looked at.
    Checked(reexec::Checked),
}

/// How long a group that is being emptied is left alone between two looks.
const GONE_CHECK: std::time::Duration = std::time::Duration::from_millis(10);

/// Suspended for longer than this is suspended: the two clocks are not read
/// at the same moment.
const SUSPEND: std::time::Duration = std::time::Duration::from_millis(500);

/// How often the end of a process is looked for that the kernel cannot tell.
const UNWATCHED_CHECK: std::time::Duration = std::time::Duration::from_secs(1);

/// Quiet time after which memory is given back: once for a hundred children
/// that start together, and after the other threads are done as well. A turn
/// of the timer's alone gives back by itself when nothing follows this soon, so
/// that the watchdog's turns leave nothing behind and cost no further one.
const REST_AFTER: std::time::Duration = std::time::Duration::from_millis(500);

/// All state of the daemon.
pub struct Engine {
    host: Host,
    poller: Poller,
    inbox: Receiver<Message>,
    metafile: Metafile,
    children: BTreeMap<AgentName, Child>,
    /// What could not be loaded, by the path of its manifest.
    invalid: BTreeMap<String, String>,
    /// Why the configuration of the last SIGHUP was not taken.
    config_trouble: Option<String>,
    oneshots: HashMap<u32, Oneshot>,
    logger: Logger,
    push: Push,
    jobs: Sender<Order>,
    control: control::Control,
    /// Held for life, also by the program that is executed in our place.
    lock: Flock<File>,
    /// What an earlier BootAgent left to this one, until it is taken over.
    handover: Option<Handover>,
    /// A new program at our path is being looked at.
    is_checking: bool,
    /// Who waits for the end of that.
    next_reexec: Option<reexec::Orderer>,
    /// What systemd was told last.
    said: String,
    next_number: u32,
    started_at: Uptime,
    /// When children without cgroups were looked at.
    watched_at: Uptime,
    /// How long the machine was suspended, at the last look.
    suspended: std::time::Duration,
    is_leaving: bool,
    /// When it rests, unless more happens: much code ran that is not needed
    /// again soon.
    rests_at: Option<Uptime>,
}

/// What the engine begins with.
pub struct Parts {
    /// The host.
    pub host: Host,
    /// The end of [`Host::inbox`].
    pub inbox: Receiver<Message>,
    /// The metafile as it was read.
    pub metafile: Metafile,
    /// The control socket, listening.
    pub listener: UnixListener,
    /// The locked file.
    pub lock: Flock<File>,
    /// What was left by the program that executed this one in its place.
    pub handover: Option<Handover>,
    /// To the push thread.
    pub uplink: Sender<crate::uplink::Attempt>,
    /// To the job worker.
    pub jobs: Sender<Order>,
    /// The enrolment token, if one was given.
    pub enrolment_token: Option<bootagent_kit::Secret>,
}

impl Engine {
    /// Sets everything up; nothing is started yet.
    pub fn new(parts: Parts) -> std::io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(parts.host.inbox.bell(), Source::Inbox)?;
        poller.add(&parts.listener, Source::Listener)?;
        let now = now();
        let push = Push::new(&parts.metafile, parts.uplink, parts.enrolment_token, now);
        Ok(Self {
            host: parts.host,
            poller,
            inbox: parts.inbox,
            metafile: parts.metafile,
            children: BTreeMap::new(),
            invalid: BTreeMap::new(),
            config_trouble: None,
            oneshots: HashMap::new(),
            logger: Logger::default(),
            push,
            jobs: parts.jobs,
            control: control::Control::new(parts.listener),
            lock: parts.lock,
            handover: parts.handover,
            is_checking: false,
            next_reexec: None,
            said: String::new(),
            next_number: 0,
            started_at: now,
            watched_at: now,
            suspended: bootagent_kit::clock::suspended(),
            is_leaving: false,
            rests_at: Some(now + REST_AFTER),
        })
    }

    /// Runs until SIGTERM or SIGINT; `ready` is called once every child is
    /// known. Children go on running.
    pub fn run(&mut self, ready: impl FnOnce()) -> std::io::Result<()> {
        self.start_logger();
        self.adopt_all();
        self.write_uplink();
        ready();
        self.say_status();
        self.finish_handover();
        let mut by_timer = false;
        while !self.is_leaving {
            let deadline = self.deadline();
            self.poller.arm(deadline)?;
            if by_timer && deadline.is_none_or(|at| at > now() + REST_AFTER) {
                // The last step before the wait: whatever runs after it comes
                // back, with its neighbours.
                crate::sys::give_back_memory();
            }
            let sources = self.poller.wait()?;
            by_timer = sources == [Source::Timer];
            for source in sources {
                self.dispatch(source);
            }
            for pid in self.unwatched() {
                self.on_adopted_end(pid);
            }
            self.check_gone();
            self.notice_suspend();
            self.tick();
            self.say_status();
        }
        self.leave();
        Ok(())
    }

    fn dispatch(&mut self, source: Source) {
        match source {
            // What comes often and needs little is no reason to rest anew.
            Source::Timer | Source::Notify(_) | Source::Listener => {}
            Source::Signals | Source::Inbox | Source::Connection(_) | Source::Process(_) => {
                self.will_rest();
            }
        }
        match source {
            Source::Signals => {
                for signal in self.poller.signals() {
                    self.on_signal(signal);
                }
            }
            Source::Timer => self.poller.clear_timer(),
            Source::Inbox => {
                self.host.inbox.silence();
                while let Ok(message) = self.inbox.try_recv() {
                    self.on_message(message);
                }
            }
            Source::Listener => self.accept_control(),
            Source::Connection(number) => self.on_control(number),
            Source::Notify(number) => self.on_notify(number),
            Source::Process(pid) => self.on_adopted_end(pid),
        }
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::SIGCHLD => self.reap(),
            Signal::SIGHUP => self.reload(),
            Signal::SIGTERM | Signal::SIGINT => self.is_leaving = true,
            other => log::debug!("signal {other} is not handled"),
        }
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Attempted(attempted) => {
                self.on_attempted(*attempted);
            }
            Message::Job(request) => self.on_request(request),
            Message::News => self.on_schedule(bootagent_core::schedule::Event::Urgent),
            Message::RegistrationSaved => {
                self.on_schedule(bootagent_core::schedule::Event::Registered);
            }
            Message::SecretSaved(written, event) => self.on_secret_saved(written, event),
            Message::Checked(checked) => self.on_checked(&checked),
        }
    }

    /// When something is due next.
    fn deadline(&self) -> Option<Uptime> {
        let children = self
            .children
            .values()
            .flat_map(|child| [child.machine.deadline(), child.waiters.deadline()])
            .flatten();
        let leaving = self.children.values().any(|child| child.awaits_gone);
        let soon = leaving.then(|| now() + GONE_CHECK);
        let oneshots = self.oneshots.values().filter_map(Oneshot::deadline);
        let unwatched = (!self.unwatched().is_empty()).then(|| now() + UNWATCHED_CHECK);
        children
            .chain(soon)
            .chain(unwatched)
            .chain(oneshots)
            .chain(self.push.deadline())
            .chain(self.logger.retry_at)
            .chain(self.control.accepts_at)
            .chain(self.watch_deadline())
            .chain(self.watchdog_deadline())
            .chain(self.rests_at)
            .min()
    }

    /// Much is being done: a turn follows once it is quiet again, which gives
    /// memory back.
    fn will_rest(&mut self) {
        self.rests_at = Some(now() + REST_AFTER);
    }

    /// After a suspend nobody is condemned for what he could not do in it.
    fn notice_suspend(&mut self) {
        let suspended = bootagent_kit::clock::suspended();
        if suspended.saturating_sub(self.suspended) > SUSPEND {
            log::info!("the machine was suspended");
            let names: Vec<AgentName> = self.children.keys().cloned().collect();
            for name in names {
                self.tell(&name, restart::Event::Suspended);
            }
        }
        self.suspended = suspended;
    }

    /// Does what is due. Everything that had arrived was delivered before.
    fn tick(&mut self) {
        let now = now();
        let due: Vec<AgentName> = self
            .children
            .iter()
            .filter(|(_, child)| child.machine.deadline().is_some_and(|at| at <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            // What it said may have come since the wait ended, or be more
            // than one turn reads.
            self.hear(&name);
            self.tell(&name, restart::Event::Tick);
        }
        for child in self.children.values_mut() {
            let wanted = child.machine.wanted();
            child.waiters.tick(now, wanted, &child.limit_errors);
        }
        self.tick_oneshots(now);
        self.on_schedule(bootagent_core::schedule::Event::Tick);
        if self.logger.retry_at.is_some_and(|at| at <= now) {
            self.start_logger();
        }
        self.resume_control(now);
        self.watch();
        self.feed_watchdog(now);
        if self.rests_at.is_some_and(|at| at <= now) {
            self.rests_at = None;
        }
    }

    /// systemd's watchdog, fed from this loop and from nowhere else.
    fn watchdog_deadline(&self) -> Option<Uptime> {
        self.push.watchdog.map(|(_, at)| at)
    }

    fn feed_watchdog(&mut self, now: Uptime) {
        if let Some((interval, at)) = &mut self.push.watchdog
            && *at <= now
        {
            let _ = bootagent_kit::notify::watchdog();
            *at = now + *interval;
        }
    }

    fn free_number(&mut self) -> u32 {
        self.next_number = self.next_number.wrapping_add(1);
        self.next_number
    }

    /// The end of the daemon, not of its children.
    fn leave(&mut self) {
        let _ = bootagent_kit::notify::stopping();
        let running: Vec<_> = self
            .children
            .values()
            .filter(|child| child.running.is_some())
            .map(|child| child.name().to_string())
            .collect();
        if running.is_empty() {
            log::info!("bootagent ends; no child was running");
            for group in self
                .children
                .values()
                .filter_map(|child| child.group.as_ref())
            {
                let _ = group.remove();
            }
            self.host.cgroups.remove_if_empty();
            self.logger.end();
        } else {
            log::info!(
                "bootagent ends; its children go on running: {}",
                running.join(", ")
            );
        }
        let _ = std::fs::remove_file(self.host.paths.socket());
        // What was decided is on disk: an intent, a confirmation, an event.
        self.host.journal.wait(|_| ());
    }
}
