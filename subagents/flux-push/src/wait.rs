//! Waits for a wall-clock moment, a set clock, or the end.
//!
//! The kernel wakes us at the moment itself, also after a suspend, and at
//! once when the clock is set: no polling, and no wake-up in between.
//!
//! The one rule: SIGTERM ends a wait at once.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// The moment has come.
    Reached,
    /// The clock was set: the moment may lie elsewhere now.
    ClockSet,
    /// We are asked to end.
    Stop,
}

/// Can wait until asked to end.
#[derive(Debug)]
pub struct Waiter {
    timer: TimerFd,
    stop: UnixStream,
}

impl Waiter {
    /// From now on SIGTERM and SIGINT end a wait instead of the process.
    pub fn new() -> io::Result<Self> {
        let (stop, handler) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGTERM, handler.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGINT, handler)?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
        Ok(Self { timer, stop })
    }

    /// Waits until the wall clock shows `unix_seconds`.
    pub fn until(&self, unix_seconds: u64) -> io::Result<Wake> {
        let moment = TimeSpec::from_duration(Duration::from_secs(unix_seconds));
        let flags =
            TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        match self.timer.set(Expiration::OneShot(moment), flags) {
            // The clock was set since the timer was last armed. It is armed
            // again all the same, but for a moment planned before.
            Err(Errno::ECANCELED) => return Ok(Wake::ClockSet),
            result => result?,
        }
        if self.wait(PollTimeout::NONE)? == Some(Wake::Stop) {
            return Ok(Wake::Stop);
        }
        match self.timer.wait() {
            Ok(()) => Ok(Wake::Reached),
            // EAGAIN: woken for nothing; looking at the clock again is right.
            Err(Errno::ECANCELED | Errno::EAGAIN) => Ok(Wake::ClockSet),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits at most this long; true when asked to end.
    pub fn stopped_within(&self, pause: Duration) -> io::Result<bool> {
        self.timer.unset()?;
        let milliseconds = u16::try_from(pause.as_millis()).unwrap_or(u16::MAX);
        Ok(self.wait(milliseconds.into())? == Some(Wake::Stop))
    }

    fn wait(&self, timeout: PollTimeout) -> io::Result<Option<Wake>> {
        let mut fds = [
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
        ];
        loop {
            match poll(&mut fds, timeout) {
                // The signal itself interrupts the poll that it then wakes.
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        Ok(fds[0].any().unwrap_or(true).then_some(Wake::Stop))
    }
}
