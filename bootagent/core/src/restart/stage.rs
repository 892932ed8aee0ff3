//! The states of one child, and how they are shown.
//!
//! The rule: a variant carries exactly its data; what is wanted is not among
//! it.

use crate::time::Uptime;

use super::patience::Patience;

/// What the operator wants of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// It shall run.
    Running,
    /// It shall not run.
    Stopped,
}

/// What a child is, in the words of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing of it runs. Document 002's spelling.
    Stoped,
    /// Something of it runs, from exec on.
    Running,
    /// Given up.
    Fatal,
    /// Ended by a limit, and not yet started again.
    Killed,
}

impl State {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stoped => "stoped",
            Self::Running => "running",
            Self::Fatal => "fatal",
            Self::Killed => "killed",
        }
    }
}

/// What [`State`] does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Detail {
    /// It is being started and does not count as up yet.
    Starting,
    /// It is being stopped, or what it left behind is.
    Stopping,
    /// It ended abnormally and is not started before `holdoff` is over.
    HoldOff,
    /// A oneshot that ended normally.
    Done,
}

impl Detail {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::HoldOff => "hold-off",
            Self::Done => "done",
        }
    }
}

/// The manner of an end, as far as the policy cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Manner {
    /// As it should.
    Normal,
    /// Not as it should.
    Abnormal,
    /// By a limit, which is abnormal too.
    Limit,
}

/// Where a child is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing runs and nothing is due.
    Idle,
    /// A oneshot that ended normally.
    Done,
    /// Given up.
    Fatal,
    /// It ended by itself and is started at a look.
    Waiting { since: Uptime, manner: Manner },
    /// `Effect::Start` is out and not answered.
    Spawning { order: Order },
    /// It runs and does not count as up.
    Starting { started_at: Uptime, coming: Coming },
    /// It runs and counts as up.
    Up {
        started_at: Uptime,
        watchdog: Option<Patience>,
    },
    /// It is on its way out, or what is left of it is.
    Leaving {
        started_at: Uptime,
        main: Main,
        phase: Phase,
        then: Then,
    },
}

/// Whether a start that is out is still what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// It is.
    Current,
    /// A restart was asked for meanwhile; it may have started the old thing.
    Outdated,
}

/// How a starting child becomes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coming {
    /// By living until then.
    Alive { up_at: Uptime },
    /// By saying so, in time.
    Ready { limit: Patience },
}

/// What is known of the main process of a run that is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Main {
    /// Its end was not seen yet.
    Alive,
    /// It has ended.
    Ended,
}

/// How far the removal of a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The stop signal was sent.
    Asked { limit: Patience },
    /// Everything was killed once.
    Killed { again_at: Uptime },
    /// Everything was killed, more than once; that was reported.
    Stuck { again_at: Uptime },
}

/// What follows when everything is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// What is wanted, at once: we were asked to end the run.
    Obey,
    /// A start by the policy: it ended by itself, or was condemned.
    Await { since: Uptime, manner: Manner },
    /// Nothing: a oneshot ended normally.
    Rest,
    /// Nothing: it is given up.
    GiveUp,
}
