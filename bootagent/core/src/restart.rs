//! The restart policy for one child: when it is started, stopped, killed,
//! and given up.
//!
//! Document 002 says it in one sentence: every 60 s a look; after an abnormal
//! end no restart within 3 min; an abnormal end within 15 min of the start is
//! an anomaly; more than 3 anomalies in a row are fatal. Where that sentence
//! can be read in several ways, this is ours, case by case in
//! `tests/scenarios/restart-*.txt`:
//!
//! 1. The looks lie on one grid, the multiples of `check` since boot, so that
//!    one wake-up serves every child, and none happens when nothing is due:
//!    the daemon sleeps until the earliest [`Child::deadline`] and sends
//!    [`Event::Tick`].
//! 2. After a normal end a service is started at the next look. A oneshot is
//!    done.
//! 3. After an abnormal end it is started at the first look that is at least
//!    `holdoff` after the end.
//! 4. An abnormal end less than `stable` after the start adds one anomaly.
//!    A run of `stable` or longer sets the count to 0, already while it runs.
//!    A normal end does too, because "in a row" is broken by it.
//! 5. More than `max_anomalies`: fatal, until an operator's start or restart,
//!    a new version, a new configuration, or a reboot.
//! 6. What an operator asks for happens at once and forgets the anomalies.
//! 7. A start waits until the last process of the run before is gone.
//!
//! The responsibility ends at [`Effect`]: no process is touched here. The one
//! rule: a crash never changes what is wanted.

mod child;
mod event;
mod patience;
mod record;
mod spec;
mod stage;

pub use child::Child;
pub use event::{Change, Effect, End, Event, Limit, Report, StoppedBy};
pub use record::{Found, Last, Record};
pub use spec::{Kind, Policy, PolicyError, Spec};
pub use stage::{Detail, Manner, State, Wanted};
