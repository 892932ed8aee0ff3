//! What a trace keeps of one hop.
//!
//! The one rule: statistics of a hop with one responder are kept once.

use std::net::IpAddr;

use super::Heard;
use crate::packet::Kind;
use crate::report::{self, Counts, Mpls, Responder, Unreachable};
use crate::statistics::Statistics;

/// Responders of one hop that are told apart. More than these are somebody's mischief; their answers count
/// for the hop alone.
const MAX_RESPONDERS: usize = 16;

/// One hop.
#[derive(Debug, Default)]
pub(super) struct Hop {
    pub(super) counts: Counts,
    /// Which of the 64 rounds up to `newest` were answered, that one in the lowest bit: to know a second answer.
    answered: u64,
    /// The latest round that was answered.
    newest: u32,
    /// The first that answered, mostly the only one, here and not elsewhere: each packet looks at it, and memory is slow.
    first: Option<Seen>,
    others: Vec<Seen>,
    /// Over all responders, once there are several.
    all: Option<Box<Statistics>>,
    /// Answers that were no echo replies.
    by_routers: u32,
    /// Of the group that shares this row.
    joint: Option<Box<(Counts, Statistics)>>,
}

#[derive(Debug)]
struct Seen {
    address: IpAddr,
    received: u32,
    unreachable: Option<Unreachable>,
    mpls: Box<[Mpls]>,
    statistics: Statistics,
}

impl Hop {
    /// The one that answered, if there was only one.
    pub(super) fn only(&self) -> Option<IpAddr> {
        let first = self.first.as_ref().filter(|_| self.others.is_empty());
        first.map(|only| only.address)
    }

    /// From now on it is told of the group's probes; own ones so far are among them.
    pub(super) fn begin_joint(&mut self) {
        self.joint = Some(Box::new((self.counts, self.statistics())));
    }

    pub(super) fn end_joint(&mut self) {
        self.joint = None;
    }

    pub(super) fn count_joint(&mut self, outcome: Option<Option<u32>>) {
        let Some(joint) = &mut self.joint else {
            return;
        };
        joint.0.sent += 1;
        if let Some(micros) = outcome {
            joint.0.received += 1;
            micros.into_iter().for_each(|micros| joint.1.add(micros));
        }
    }

    pub(super) fn was_answered(&self, round: u32) -> bool {
        let age = self.newest.checked_sub(round);
        age.is_some_and(|age| self.answered & bit(age) != 0)
    }

    fn mark_answered(&mut self, round: u32) {
        if let Some(ahead) = round.checked_sub(self.newest) {
            self.answered = self.answered.checked_shl(ahead).unwrap_or(0);
            self.newest = round;
        }
        self.answered |= bit(self.newest - round);
    }

    /// Counts an answer and its round trip.
    pub(super) fn answered(&mut self, heard: &Heard, round: u32, micros: Option<u32>) {
        self.counts.sent += 1;
        self.counts.received += 1;
        self.mark_answered(round);
        self.by_routers += u32::from(heard.kind != Kind::Reply);
        self.meet(heard.from);
        if let (Some(all), Some(micros)) = (&mut self.all, micros) {
            all.add(micros);
        }
        let mut seen = self.first.iter_mut().chain(&mut self.others);
        let Some(seen) = seen.find(|seen| seen.address == heard.from) else {
            return;
        };
        seen.received += 1;
        seen.unreachable = match heard.kind {
            Kind::Unreachable(reason) => Some(reason),
            Kind::Reply | Kind::TimeExceeded => None,
        };
        if *seen.mpls != *heard.mpls {
            seen.mpls = heard.mpls.clone().into_boxed_slice();
        }
        if let Some(micros) = micros {
            seen.statistics.add(micros);
        }
    }

    /// Makes a place for a responder not met before, unless there are too many.
    fn meet(&mut self, address: IpAddr) {
        let Some(first) = &self.first else {
            self.first = Some(Seen::new(address));
            return;
        };
        if first.address == address || self.others.iter().any(|it| it.address == address) {
            return;
        }
        if self.others.is_empty() {
            self.all = Some(Box::new(first.statistics));
        }
        if self.others.len() + 1 < MAX_RESPONDERS {
            self.others.push(Seen::new(address));
        }
    }

    /// Reads what an answer changes.
    pub(super) fn touch(&self) -> u64 {
        let seen = self.first.as_ref().map_or(0, |first| {
            u64::from(first.received) ^ u64::from(first.statistics.jitter_worst)
        });
        seen ^ self.answered ^ u64::from(self.counts.sent)
    }

    /// Over all answers.
    pub(super) fn statistics(&self) -> Statistics {
        match (&self.all, &self.first) {
            (Some(all), _) => **all,
            (None, Some(only)) => only.statistics,
            (None, None) => Statistics::default(),
        }
    }

    /// The longest round trip, microseconds.
    pub(super) fn worst(&self) -> u32 {
        self.statistics().worst
    }

    /// Whether a router answered here, and not only the target.
    pub(super) fn has_router(&self) -> bool {
        self.by_routers > 0
    }

    /// As a report has it.
    pub(super) fn view(&self, ttl: u8) -> report::Hop {
        let mut responders: Vec<_> = self
            .first
            .iter()
            .chain(&self.others)
            .map(Seen::view)
            .collect();
        responders.sort_by_key(|responder| std::cmp::Reverse(responder.received));
        report::Hop {
            ttl,
            own: self.counts,
            group: self.joint.as_ref().map(|joint| joint.0),
            responders,
            group_statistics: self.joint.as_ref().map(|joint| joint.1),
            statistics: self.statistics(),
        }
    }
}

impl Seen {
    fn new(address: IpAddr) -> Self {
        Self {
            address,
            received: 0,
            unreachable: None,
            mpls: Box::default(),
            statistics: Statistics::default(),
        }
    }

    fn view(&self) -> Responder {
        Responder {
            address: self.address,
            received: self.received,
            statistics: self.statistics,
            mpls: self.mpls.to_vec(),
            unreachable: self.unreachable,
        }
    }
}

fn bit(age: u32) -> u64 {
    1_u64.checked_shl(age).unwrap_or(0)
}
