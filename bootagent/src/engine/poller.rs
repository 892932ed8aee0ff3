//! The one place the engine waits: signals, a timer on the boot clock, its
//! inbox, the control socket, the children's notify sockets and the pidfds of
//! adopted processes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use bootagent_core::time::Uptime;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Most sources handled per wake-up.
const BATCH: usize = 64;

/// What became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A signal.
    Signals,
    /// The timer.
    Timer,
    /// The inbox.
    Inbox,
    /// A new `bootctl`.
    Listener,
    /// A `bootctl` by the number it was registered with.
    Connection(u32),
    /// The notify socket of a child, by its number.
    Notify(u32),
    /// An adopted process ended, by its pid.
    Process(i32),
}

impl Source {
    fn to_token(self) -> u64 {
        let (kind, number) = match self {
            Self::Signals => (0, 0),
            Self::Timer => (1, 0),
            Self::Inbox => (2, 0),
            Self::Listener => (3, 0),
            Self::Connection(number) => (4, number),
            Self::Notify(number) => (5, number),
            Self::Process(pid) => (6, pid.cast_unsigned()),
        };
        kind << 32 | u64::from(number)
    }

    fn from_token(token: u64) -> Self {
        let number = u32::try_from(token & 0xffff_ffff).expect("masked to 32 bits");
        match token >> 32 {
            0 => Self::Signals,
            1 => Self::Timer,
            2 => Self::Inbox,
            3 => Self::Listener,
            4 => Self::Connection(number),
            5 => Self::Notify(number),
            _ => Self::Process(number.cast_signed()),
        }
    }
}

/// epoll with a signalfd and a timerfd.
pub(super) struct Poller {
    epoll: Epoll,
    signals: SignalFd,
    timer: TimerFd,
    armed: Option<Uptime>,
}

/// The signals the daemon takes, to be blocked before any thread exists.
pub fn handled_signals() -> SigSet {
    [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
    ]
    .into_iter()
    .collect()
}

impl Poller {
    /// Waits for signals and the timer at first.
    pub(super) fn new() -> io::Result<Self> {
        let signals = SignalFd::with_flags(
            &handled_signals(),
            SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
        )?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let poller = Self {
            epoll,
            signals,
            timer,
            armed: None,
        };
        poller.add(poller.signals.as_fd(), Source::Signals)?;
        poller.add(poller.timer.as_fd(), Source::Timer)?;
        Ok(poller)
    }

    /// Watches one more descriptor; closing it ends the watch.
    pub(super) fn add(&self, descriptor: impl AsFd, source: Source) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, source.to_token());
        Ok(self.epoll.add(descriptor, event)?)
    }

    /// Stops watching a descriptor.
    pub(super) fn remove(&self, descriptor: BorrowedFd<'_>) {
        let _ = self.epoll.delete(descriptor);
    }

    /// Sets the timer only when the deadline changed: no system call per turn.
    pub(super) fn arm(&mut self, deadline: Option<Uptime>) -> io::Result<()> {
        if deadline == self.armed {
            return Ok(());
        }
        match deadline {
            Some(at) => {
                // Zero would disarm it.
                let nanos = i64::try_from(at.as_nanos().max(1)).unwrap_or(i64::MAX);
                let at = Expiration::OneShot(TimeSpec::nanoseconds(nanos));
                self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            }
            None => self.timer.unset()?,
        }
        self.armed = deadline;
        Ok(())
    }

    /// Waits until something is ready or the armed deadline has come.
    pub(super) fn wait(&self) -> io::Result<Vec<Source>> {
        let mut events = [EpollEvent::empty(); BATCH];
        match self.epoll.wait(&mut events, EpollTimeout::NONE) {
            Ok(count) => Ok(events[..count]
                .iter()
                .map(|event| Source::from_token(event.data()))
                .collect()),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the expiry in; the next deadline arms it again.
    pub(super) fn clear_timer(&mut self) {
        let mut count = [0; 8];
        let _ = nix::unistd::read(&self.timer, &mut count);
        self.armed = None;
    }

    /// The signals that came since the last call.
    pub(super) fn signals(&mut self) -> Vec<Signal> {
        let mut signals = Vec::new();
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            signals.extend(Signal::try_from(number));
        }
        signals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_has_a_token_of_its_own() {
        let sources = [
            Source::Signals,
            Source::Timer,
            Source::Inbox,
            Source::Listener,
            Source::Connection(7),
            Source::Notify(7),
            Source::Process(7),
            Source::Process(i32::MAX),
        ];
        for source in sources {
            assert_eq!(Source::from_token(source.to_token()), source);
        }
    }

    #[test]
    fn a_deadline_in_the_past_wakes_at_once() {
        let mut poller = Poller::new().expect("epoll");
        poller.arm(Some(Uptime::ZERO)).expect("armed");
        let ready = poller.wait().expect("waited");
        assert_eq!(ready, [Source::Timer]);
        poller.clear_timer();
    }
}
