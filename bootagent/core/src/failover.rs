//! Which of its servers BootAgent asks.
//!
//! The list is the metafile's, then the compiled-in one, exactly as they are
//! written: an address that stands there twice is tried twice (document 002
//! says so; it is how an operator gives one server two chances). Servers are
//! indices into that list here; addresses, sockets and the time to wait are
//! somebody else's ([`crate::schedule`]). The rules:
//!
//! 1. A round begins with the server that answered last, and tries each entry
//!    of the list at most once, in order, around the end.
//! 2. Refused, timed out, garbage, a bare 5xx: the next one.
//! 3. 429, or 503 with `Retry-After`: the same one, later. A busy server is a
//!    server; asking its neighbour would only move the load.
//! 4. Any other answer ends the round: this server speaks for the platform,
//!    also when it says no.
//! 5. A round in which nobody answered has failed; the next one begins where
//!    it began.

use alloc::vec::Vec;
use core::time::Duration;

/// The order in which servers are asked: metafile first, then compiled in,
/// never de-duplicated.
pub fn order<T>(metafile: Vec<T>, compiled: Vec<T>) -> Vec<T> {
    let mut servers = metafile;
    servers.extend(compiled);
    servers
}

/// What came of asking one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx with a body that makes sense.
    Answered,
    /// 401: it does not know our secret. (A 403 is what proxies and portals say.)
    Unauthorized,
    /// It has too much to do; after how long to come back, if it said so.
    Busy(Option<Duration>),
    /// Name not found, no route, connection refused, TLS refused.
    Refused,
    /// No answer in time.
    TimedOut,
    /// Something that is no answer of ours: another status, a body that is
    /// none, a portal's page.
    Garbage,
    /// A 5xx without `Retry-After`.
    ServerError,
}

/// Whether a body is one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// It could be read.
    Valid,
    /// It could not: not JSON, too long, cut off.
    Garbage,
}

impl Outcome {
    /// What an HTTP answer means. `retry_after` is the header's value as a
    /// delay; an HTTP date is the caller's to convert.
    pub const fn of(status: u16, retry_after: Option<Duration>, body: Body) -> Self {
        match (status, retry_after, body) {
            (200..=299, _, Body::Valid) => Self::Answered,
            (401, _, _) => Self::Unauthorized,
            (429, delay, _) | (503, delay @ Some(_), _) => Self::Busy(delay),
            (500..=599, _, _) => Self::ServerError,
            _ => Self::Garbage,
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The round is over, with an answer.
    Done,
    /// Ask this server now.
    Try(usize),
    /// The round is over; come back later to the same server, after this long
    /// if it said so.
    Later(Option<Duration>),
    /// The round is over and has failed.
    Failed,
}

/// The place in a list of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failover {
    servers: usize,
    /// Less than `servers`, unless there are none.
    current: usize,
    /// Servers of this round that did not answer.
    tried: usize,
}

impl Failover {
    /// A list of this many servers, of which none has answered yet.
    pub const fn new(servers: usize) -> Self {
        Self {
            servers,
            current: 0,
            tried: 0,
        }
    }

    /// The server to ask; none when the list is empty.
    pub const fn current(&self) -> Option<usize> {
        if self.servers == 0 {
            None
        } else {
            Some(self.current)
        }
    }

    /// Decides what follows from asking [`Failover::current`].
    pub const fn handle(&mut self, outcome: Outcome) -> Step {
        match outcome {
            Outcome::Answered | Outcome::Unauthorized => {
                self.tried = 0;
                Step::Done
            }
            Outcome::Busy(delay) => {
                self.tried = 0;
                Step::Later(delay)
            }
            Outcome::Refused | Outcome::TimedOut | Outcome::Garbage | Outcome::ServerError => {
                self.next()
            }
        }
    }

    /// Another list, of this many servers. `current` is where the server that
    /// answered last stands in it; none, and the first one is next. A list
    /// that was ordered by an operator begins at the front: who names servers
    /// wants them asked, not the compiled-in one that happened to answer.
    pub const fn replace(&mut self, servers: usize, current: Option<usize>) {
        self.servers = servers;
        self.tried = 0;
        self.current = match current {
            Some(index) if index < servers => index,
            Some(_) | None => 0,
        };
    }

    const fn next(&mut self) -> Step {
        self.tried += 1;
        if self.servers != 0 {
            self.current = (self.current + 1) % self.servers;
        }
        if self.tried < self.servers {
            Step::Try(self.current)
        } else {
            self.tried = 0;
            Step::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn the_metafiles_servers_come_first_and_doubles_stay() {
        assert_eq!(
            order(vec!["b:80", "a:80"], vec!["a:80", "c:80", "c:80"]),
            ["b:80", "a:80", "a:80", "c:80", "c:80"]
        );
        assert_eq!(order(vec![], vec!["a:80"]), ["a:80"]);
    }

    #[test]
    fn an_http_answer_means() {
        let soon = Some(Duration::from_secs(5));
        for (status, retry_after, body, outcome) in [
            (200, None, Body::Valid, Outcome::Answered),
            (204, soon, Body::Valid, Outcome::Answered),
            (200, None, Body::Garbage, Outcome::Garbage),
            (401, soon, Body::Garbage, Outcome::Unauthorized),
            (403, None, Body::Valid, Outcome::Garbage),
            (429, None, Body::Garbage, Outcome::Busy(None)),
            (429, soon, Body::Garbage, Outcome::Busy(soon)),
            (503, soon, Body::Garbage, Outcome::Busy(soon)),
            (503, None, Body::Garbage, Outcome::ServerError),
            (500, soon, Body::Valid, Outcome::ServerError),
            (302, None, Body::Valid, Outcome::Garbage),
            (404, None, Body::Valid, Outcome::Garbage),
            (0, None, Body::Valid, Outcome::Garbage),
            (999, None, Body::Valid, Outcome::Garbage),
        ] {
            assert_eq!(Outcome::of(status, retry_after, body), outcome, "{status}");
        }
    }

    #[test]
    fn an_empty_list_fails_each_round_and_has_nobody_to_ask() {
        let mut failover = Failover::new(0);
        assert_eq!(failover.current(), None);
        assert_eq!(failover.handle(Outcome::Refused), Step::Failed);
    }
}
