//! What of all peers' trouble a person is told.
//!
//! 1. When half of a line's peers lose their last ping, or a fifth of them fell into trouble within
//!    ten seconds, it is the line: one event, and theirs are part of it.
//! 2. In maintenance and of silenced peers nothing is raised; what is still wrong afterwards is.
//! 3. So many events an hour are raised, and that there were more is said, with their number.
//!
//! The one rule: each event that is raised is said to have ended, and nothing else is.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use super::detect::{Change, Detector, Outcome, Trouble};
use super::quiet::{self, Quiet};
use crate::moment::Moment;

/// Peers without which a line cannot be told from a peer.
const FEWEST: usize = 3;
/// Trouble that began within so long began at once.
const AT_ONCE: Duration = Duration::from_secs(10);
/// How long a line must be well to be over.
const WELL: Duration = Duration::from_secs(30);
/// What is wrong so long after its line was well again is wrong by itself.
const OF_THE_LINE: Duration = Duration::from_secs(60);
/// How often a line in trouble is looked at.
const LOOK: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// What is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// A peer is in trouble: trace it.
    Began {
        /// Which.
        peer: usize,
        /// What is wrong.
        trouble: Trouble,
    },
    /// It is over.
    Ended {
        /// Which.
        peer: usize,
        /// For how long it lasted.
        lasted: Duration,
    },
    /// A line is in trouble, and with it all that is behind it.
    LineBegan {
        /// Which.
        line: usize,
        /// Peers whose last ping was lost.
        suspects: usize,
        /// Of so many that answer normally.
        of: usize,
    },
    /// It is over.
    LineEnded {
        /// Which.
        line: usize,
        /// For how long it lasted.
        lasted: Duration,
        /// Peers whose trouble was part of it.
        peers: usize,
    },
    /// There are more events than are raised in an hour.
    CapReached {
        /// So many are.
        per_hour: usize,
    },
    /// There is room again: this many were not raised.
    CapOver {
        /// So many.
        withheld: usize,
    },
}

/// What became of a peer's trouble.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Held {
    #[default]
    Nothing,
    Raised,
    /// Part of its line's.
    Folded,
    /// Nobody wants to hear of it now.
    Quiet(Trouble),
    /// Too many before it, or never worth raising.
    Withheld,
}

/// Whether a peer's trouble is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// It is.
    Raised,
    /// Somebody does not want to hear of it.
    Silent,
}

#[derive(Debug, Clone, Default)]
struct Peer {
    line: usize,
    raises: bool,
    detector: Detector,
    held: Held,
}

#[derive(Debug, Clone, Default)]
struct Line {
    /// When peers fell into trouble.
    began: VecDeque<Moment>,
    trouble: Option<LineTrouble>,
    ended: Moment,
}

#[derive(Debug, Clone, Copy)]
struct LineTrouble {
    began: Moment,
    well_from: Moment,
    looked: Moment,
    peers: usize,
    is_raised: bool,
}

/// All peers of this node.
#[derive(Debug, Default)]
pub struct Guard {
    peers: Vec<Peer>,
    lines: Vec<Line>,
    /// When nothing is to be raised.
    pub quiet: Quiet,
    per_hour: usize,
    raised: VecDeque<Moment>,
    withheld: usize,
}

impl Guard {
    /// Without peers; at most `per_hour` events are raised in an hour.
    #[must_use]
    pub fn new(per_hour: usize) -> Self {
        Self {
            per_hour: per_hour.max(1),
            ..Self::default()
        }
    }

    /// Puts a peer behind a line; both are known by their numbers, from 0. Who had the number before is forgotten.
    pub fn put(&mut self, peer: usize, address: IpAddr, line: usize, voice: Voice) {
        if self.lines.len() <= line {
            self.lines.resize_with(line + 1, Line::default);
        }
        if self.peers.len() <= peer {
            self.peers.resize_with(peer + 1, Peer::default);
        }
        self.peers[peer] = Peer {
            line,
            raises: voice == Voice::Raised && quiet::raises(address),
            ..Peer::default()
        };
    }

    /// Forgets a peer; nothing of it is told any more.
    pub fn remove(&mut self, peer: usize) {
        if let Some(it) = self.peers.get_mut(peer) {
            *it = Peer::default();
        }
        self.quiet.lift(peer);
    }

    /// So many events are raised in an hour from now on.
    pub fn cap(&mut self, per_hour: usize) {
        self.per_hour = per_hour.max(1);
    }

    /// Events that were not raised because there were too many, since the cap was reached.
    #[must_use]
    pub fn withheld(&self) -> usize {
        self.withheld
    }

    /// For how long a line in trouble has been well.
    #[must_use]
    pub fn line_well(&self, line: usize, now: Moment) -> Option<Duration> {
        let trouble = self.lines.get(line)?.trouble.as_ref()?;
        Some(now.since(trouble.well_from))
    }

    /// What is known of a peer.
    #[must_use]
    pub fn detector(&self, peer: usize) -> Option<&Detector> {
        self.peers.get(peer).map(|it| &it.detector)
    }

    /// Takes in what became of a ping; `unix` is the second on the wall clock, for maintenance only.
    pub fn heard(&mut self, peer: usize, outcome: Outcome, now: Moment, unix: i64) -> Vec<Notice> {
        let mut notices = Vec::new();
        let Some(it) = self.peers.get_mut(peer) else {
            return notices;
        };
        let line = it.line;
        match it.detector.heard(outcome, now) {
            Some(Change::Began(trouble)) => self.begin(peer, trouble, now, unix, &mut notices),
            Some(Change::Ended { lasted }) => {
                if it.held == Held::Raised {
                    notices.push(Notice::Ended { peer, lasted });
                }
                it.held = Held::Nothing;
            }
            None => self.again(peer, now, unix, &mut notices),
        }
        self.look_at_line(line, now, &mut notices);
        notices
    }

    fn begin(
        &mut self,
        peer: usize,
        trouble: Trouble,
        now: Moment,
        unix: i64,
        notices: &mut Vec<Notice>,
    ) {
        let it = &self.peers[peer];
        let number = it.line;
        self.peers[peer].held = if !it.raises {
            Held::Withheld
        } else if self.is_of_line(number, now, unix, notices) {
            Held::Folded
        } else if self.quiet.is_quiet(Some(peer), unix) {
            Held::Quiet(trouble)
        } else if self.has_room(now, notices) {
            notices.push(Notice::Began { peer, trouble });
            Held::Raised
        } else {
            Held::Withheld
        };
    }

    /// Raises what could not be raised before and is still wrong.
    fn again(&mut self, peer: usize, now: Moment, unix: i64, notices: &mut Vec<Notice>) {
        let it = &self.peers[peer];
        match it.held {
            Held::Quiet(trouble) if !self.quiet.is_quiet(Some(peer), unix) => {
                self.begin(peer, trouble, now, unix, notices);
            }
            Held::Folded => {
                let line = &self.lines[it.line];
                let is_its_own = line.trouble.is_none() && now.since(line.ended) > OF_THE_LINE;
                if let (true, Some(trouble)) = (is_its_own, it.detector.trouble()) {
                    self.begin(peer, trouble, now, unix, notices);
                }
            }
            Held::Quiet(_) | Held::Nothing | Held::Raised | Held::Withheld => {}
        }
    }

    /// Whether trouble that begins now is its line's, which then is in trouble itself.
    fn is_of_line(
        &mut self,
        number: usize,
        now: Moment,
        unix: i64,
        notices: &mut Vec<Notice>,
    ) -> bool {
        if let Some(trouble) = &mut self.lines[number].trouble {
            trouble.peers += 1;
            return true;
        }
        let (suspects, of) = self.suspects(number, now);
        let line = &mut self.lines[number];
        line.began.retain(|began| now.since(*began) <= AT_ONCE);
        line.began.push_back(now);
        let at_once = line.began.len();
        if of < FEWEST || (suspects * 2 < of && at_once < FEWEST.max(of.div_ceil(5))) {
            return false;
        }
        let is_raised = !self.quiet.is_quiet(None, unix) && self.has_room(now, notices);
        if is_raised {
            notices.push(Notice::LineBegan {
                line: number,
                suspects,
                of,
            });
        }
        self.lines[number].trouble = Some(LineTrouble {
            began: now,
            well_from: now,
            looked: now,
            peers: 1,
            is_raised,
        });
        true
    }

    /// Ends a line's trouble once a tenth of its peers at most has been suspect for long enough.
    fn look_at_line(&mut self, number: usize, now: Moment, notices: &mut Vec<Notice>) {
        let due = |it: &LineTrouble| now.since(it.looked) >= LOOK;
        if !self.lines[number].trouble.as_ref().is_some_and(due) {
            return;
        }
        let (suspects, of) = self.suspects(number, now);
        let line = &mut self.lines[number];
        let Some(trouble) = &mut line.trouble else {
            return;
        };
        trouble.looked = now;
        if suspects * 10 > of {
            trouble.well_from = now;
        }
        if now.since(trouble.well_from) < WELL {
            return;
        }
        let ended = *trouble;
        line.trouble = None;
        line.began.clear();
        line.ended = now;
        if ended.is_raised {
            notices.push(Notice::LineEnded {
                line: number,
                lasted: ended.well_from.since(ended.began),
                peers: ended.peers,
            });
        }
    }

    /// Peers of a line whose last ping was lost, and how many answer normally. What has been in
    /// trouble by itself for a while does neither.
    fn suspects(&self, line: usize, now: Moment) -> (usize, usize) {
        let is_old = |peer: &Peer| {
            let since = peer.detector.troubled_since();
            peer.held != Held::Folded && since.is_some_and(|since| now.since(since) > AT_ONCE)
        };
        let peers = self.peers.iter().filter(|it| it.line == line && it.raises);
        let answering = peers.filter(|it| it.detector.has_answered() && !is_old(it));
        answering.fold((0, 0), |(suspects, of), it| {
            (suspects + usize::from(it.detector.is_suspect()), of + 1)
        })
    }

    fn has_room(&mut self, now: Moment, notices: &mut Vec<Notice>) -> bool {
        self.raised.retain(|raised| now.since(*raised) < HOUR);
        if self.raised.len() >= self.per_hour {
            if self.withheld == 0 {
                notices.push(Notice::CapReached {
                    per_hour: self.per_hour,
                });
            }
            self.withheld += 1;
            return false;
        }
        if self.withheld > 0 {
            notices.push(Notice::CapOver {
                withheld: std::mem::take(&mut self.withheld),
            });
        }
        self.raised.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests;
