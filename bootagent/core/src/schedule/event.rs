//! What the schedule is told, and what it asks for.
//!
//! The rule: these are values; the daemon does the calls.

use core::time::Duration;

/// The numbers of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How far two turns are apart; less than 1 s counts as 1 s.
    pub step: Duration,
    /// Within which a start is followed by the first call; a random part of
    /// it, so that hosts which lost their power together do not call together.
    pub first_within: Duration,
    /// The least time between the beginnings of a call and of an urgent one.
    pub gap: Duration,
}

impl Default for Timing {
    /// 600 s, 10 s, 1 s.
    fn default() -> Self {
        Self {
            step: Duration::from_secs(600),
            first_within: Duration::from_secs(10),
            gap: Duration::from_secs(1),
        }
    }
}

/// What a call says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// POST /agent/register.
    Register,
    /// POST /agent/status.
    Status,
}

/// Whether the server knows us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// No registration was confirmed yet.
    Unregistered,
    /// One was.
    Registered,
}

/// Whether an enrolment token is configured, with which a host that is not
/// known any more may register again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Enrolment {
    /// There is one.
    Present,
    /// There is none.
    Absent,
}

/// What a schedule is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The first call after a start, a new server list or an order to
    /// register again.
    First,
    /// The status that follows a registration.
    Status,
    /// The host's turn in its step.
    Turn,
    /// The time the server named in its reply.
    Next,
    /// Urgent news, held back by the gap.
    News,
    /// The backoff after a failed round.
    Failure,
    /// The time the server named when it refused.
    RetryAfter,
    /// The slow retry after a 401.
    Unauthorized,
}

/// Something the schedule has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The deadline may have passed.
    Tick,
    /// A job finished or something happened: tell the server.
    Urgent,
    /// Another step, from a `config` job or the configuration.
    Step(Duration),
    /// The servers, the token or the trust in them changed: what failed
    /// before says nothing about what comes.
    Changed,
    /// Outcome: the registration was accepted.
    Registered,
    /// Outcome: the status was answered.
    Answered {
        /// The reply's `next`.
        next: Option<Duration>,
    },
    /// Outcome: the status was answered with `register: true`.
    RegisterAgain,
    /// Outcome: no server answered, or the registration was not accepted.
    Failed,
    /// Outcome: 429 or 503 with `Retry-After`.
    RetryAfter(Duration),
    /// Outcome: 401.
    Unauthorized(Enrolment),
}
