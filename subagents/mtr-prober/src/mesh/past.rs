//! A peer's path as it is normally: its last sweeps, each of which asked every TTL once.
//!
//! Four bytes an answer, so that thousands of peers have one: ten sweeps of a path of ten hops take less than a kilobyte.
//! Who answered is kept once, and what he said besides (labels, refusals) only where he did, the newest.
//!
//! The one rule: all sweeps that are held are of one path, as long as the newest on which the target answered.

use std::net::IpAddr;
use std::time::Duration;

use crate::moment::{Moment, Wall};
use crate::report::{Hop, Mpls, Part, PartName, Responder, Unreachable};

/// Sweeps that are held.
pub const SWEEPS: usize = 10;

/// From one sweep of a peer's to its next, and while there are fewer than are held.
const SAME_PEER: Duration = Duration::from_secs(60);
const NEW_PEER: Duration = Duration::from_secs(5);
/// From any peer's to any other's, at least: routers near us are on all paths, and many answer once a second.
const NEXT_PEER: Duration = Duration::from_secs(1);
/// Probes of a long sweep, and the share of the budget that sweeps may take.
const PROBES: u32 = 16;
const BUDGET_SHARE: u32 = 20;

/// How long after the beginning of one peer's sweep that of another may begin.
#[must_use]
pub fn next_peer(budget: u32) -> Duration {
    let of_budget = Duration::from_secs(1) * PROBES * BUDGET_SHARE / budget.max(1);
    of_budget.max(NEXT_PEER)
}

/// An answer in 32 bits: above, who gave it; below, its round trip in microseconds.
const TIME_BITS: u32 = 26;
const TIME: u32 = (1 << TIME_BITS) - 1;
/// Instead of who: nobody, and nobody was asked.
const SILENT: u32 = 62;
const NOT_ASKED: u32 = 63;
/// Instead of a round trip: it is not known.
const UNTIMED: u32 = TIME;

/// The sweeps of one peer.
#[derive(Debug, Default)]
pub struct Past {
    sweeps: Vec<Sweep>,
    /// Rows of all sweeps, the oldest sweep's first; `width` of each.
    rows: Vec<u32>,
    width: usize,
    /// Whether the target is the last hop.
    reached: bool,
    routers: Vec<IpAddr>,
    remarks: Vec<(u32, Remark)>,
}

#[derive(Debug, Clone, Copy)]
struct Sweep {
    began: Moment,
    ended: Moment,
}

/// What an answer said besides.
#[derive(Debug, PartialEq)]
struct Remark {
    mpls: Box<[Mpls]>,
    unreachable: Option<Unreachable>,
}

impl Past {
    /// How many sweeps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sweeps.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sweeps.is_empty()
    }

    /// How long after its last sweep the next may begin.
    #[must_use]
    pub fn next(&self) -> Duration {
        match self.len() < SWEEPS {
            true => NEW_PEER,
            false => SAME_PEER,
        }
    }

    /// Takes in a sweep that ended just now.
    pub fn add(&mut self, sweep: &Part, now: Moment) {
        let hops = sweep.hops.len();
        let is_another = sweep.reached && (!self.reached || hops != self.width);
        if is_another || self.routers.len() + hops > SILENT as usize {
            *self = Self::default();
        }
        self.reached |= sweep.reached;
        self.sweeps.reserve_exact(SWEEPS - self.len().min(SWEEPS));
        if !self.reached || self.is_empty() {
            self.widen(self.width.max(hops));
        }
        if self.len() >= SWEEPS {
            self.sweeps.remove(0);
            self.rows.drain(..self.width);
        }
        let millis = sweep.ended_at.unix_ms - sweep.started_at.unix_ms;
        let lasted = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        let lasted = u64::try_from(lasted.as_nanos()).unwrap_or(0);
        self.sweeps.push(Sweep {
            began: Moment(now.0.saturating_sub(lasted)),
            ended: now,
        });
        for at in 0..self.width {
            let row = sweep.hops.get(at).map(|hop| self.row(hop));
            self.rows.push(row.unwrap_or(NOT_ASKED << TIME_BITS));
        }
    }

    /// What the sweeps that ended by then found, in one; `None` without any.
    #[must_use]
    pub fn part(&self, by: Moment, wall: Wall) -> Option<Part> {
        let taken = self.sweeps.partition_point(|it| it.ended <= by);
        let (first, last) = (self.sweeps.first()?, self.sweeps[..taken].last()?);
        let hops = (1..).zip(0..self.width).map(|(ttl, at)| {
            let rows = self.rows.iter().skip(at).step_by(self.width);
            self.hop(ttl, rows.take(taken).copied())
        });
        Some(Part {
            name: PartName::Before,
            started_at: wall.instant(first.began),
            ended_at: wall.instant(last.ended),
            rounds: u32::try_from(taken).unwrap_or(u32::MAX),
            reached: self.reached,
            hops: hops.collect(),
        })
    }

    /// Rows have so many hops from now on.
    fn widen(&mut self, width: usize) {
        if width == self.width {
            return;
        }
        let mut rows = Vec::with_capacity(SWEEPS * width);
        for sweep in self.rows.chunks(self.width.max(1)) {
            rows.extend_from_slice(sweep);
            rows.resize(rows.len() + width - sweep.len(), NOT_ASKED << TIME_BITS);
        }
        (self.rows, self.width) = (rows, width);
    }

    fn row(&mut self, hop: &Hop) -> u32 {
        let (who, micros) = match hop.responders.first() {
            _ if hop.own.sent == 0 => (NOT_ASKED, 0),
            Some(it) if it.statistics.timed > 0 => (self.who(it), it.statistics.last.min(TIME - 1)),
            Some(it) => (self.who(it), UNTIMED),
            None => (SILENT, 0),
        };
        who << TIME_BITS | micros
    }

    /// The number of who answered.
    fn who(&mut self, responder: &Responder) -> u32 {
        let known = self
            .routers
            .iter()
            .position(|it| *it == responder.address)
            .unwrap_or_else(|| {
                self.routers.push(responder.address);
                self.routers.len() - 1
            });
        let who = u32::try_from(known).unwrap_or(SILENT);
        self.remarks.retain(|it| it.0 != who);
        if !responder.mpls.is_empty() || responder.unreachable.is_some() {
            let remark = Remark {
                mpls: responder.mpls.clone().into_boxed_slice(),
                unreachable: responder.unreachable,
            };
            self.remarks.push((who, remark));
        }
        who
    }

    fn hop(&self, ttl: u8, rows: impl Iterator<Item = u32>) -> Hop {
        let mut hop = Hop {
            ttl,
            ..Hop::default()
        };
        for row in rows {
            let (who, micros) = (row >> TIME_BITS, row & TIME);
            let answered = match who {
                NOT_ASKED => continue,
                SILENT => None,
                who => self.routers.get(who as usize),
            };
            hop.own.sent += 1;
            let Some(&address) = answered else {
                continue;
            };
            hop.own.received += 1;
            let known = hop.responders.iter().position(|it| it.address == address);
            let at = known.unwrap_or_else(|| {
                hop.responders.push(self.responder(who, address));
                hop.responders.len() - 1
            });
            hop.responders[at].received += 1;
            if micros != UNTIMED {
                hop.statistics.add(micros);
                hop.responders[at].statistics.add(micros);
            }
        }
        hop.responders
            .sort_by_key(|it| std::cmp::Reverse(it.received));
        hop
    }

    fn responder(&self, who: u32, address: IpAddr) -> Responder {
        let remark = self.remarks.iter().find(|it| it.0 == who);
        let remark = remark.map(|it| &it.1);
        Responder {
            address,
            received: 0,
            statistics: Default::default(),
            mpls: remark.map(|it| it.mpls.to_vec()).unwrap_or_default(),
            unreachable: remark.and_then(|it| it.unreachable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tests::{hop, report};

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    /// A sweep in which these answered after so many microseconds; the last of them is the target.
    fn sweep(answers: &[(&str, u32)]) -> Part {
        let hops = (1..).zip(answers).map(|(ttl, (who, micros))| match *who {
            "" => hop(ttl, None, 1, &[]),
            "-" => hop(ttl, None, 0, &[]),
            who => hop(ttl, Some(who), 1, &[*micros]),
        });
        let reached = answers.last().is_some_and(|it| it.0.ends_with(".9"));
        let part = report(hops.collect()).parts.remove(0);
        Part { reached, ..part }
    }

    fn past(sweeps: &[&[(&str, u32)]]) -> Past {
        let mut past = Past::default();
        for (second, answers) in (1..).zip(sweeps) {
            past.add(&sweep(answers), at(second * 60));
        }
        past
    }

    fn shown(past: &Past, by: u64) -> (u32, Vec<(u32, u32, u32)>) {
        let part = past.part(at(by), Wall::default()).expect("a part");
        let row = |it: &Hop| (it.own.sent, it.own.received, it.statistics.worst);
        (part.rounds, part.hops.iter().map(row).collect())
    }

    #[test]
    fn sweeps_are_one_part_whose_hops_have_their_own_numbers() {
        const CLEAN: &[(&str, u32)] = &[("10.0.0.1", 100), ("10.0.0.2", 200), ("10.0.0.9", 300)];
        let past = past(&[
            CLEAN,
            // A limited router, one that was left out, and a lost target behind which nobody can be.
            &[("", 0), ("-", 0), ("", 0), ("", 0), ("", 0)],
            &[("10.0.0.1", 700), ("10.0.0.3", 400), ("10.0.0.9", 350)],
        ]);
        let whole = [(3, 2, 700), (2, 2, 400), (3, 2, 350)];
        assert_eq!(shown(&past, 999), (3, whole.to_vec()));
        // What ended later than asked for may be part of the trouble.
        let first_two = [(2, 1, 100), (1, 1, 200), (2, 1, 300)];
        assert_eq!(shown(&past, 179), (2, first_two.to_vec()));
        assert_eq!(past.part(at(59), Wall::default()), None);
        let part = past.part(at(999), Wall::default()).expect("a part");
        assert!(part.reached);
        let second: Vec<_> = part.hops[1]
            .responders
            .iter()
            .map(|it| it.received)
            .collect();
        assert_eq!(second, [1, 1], "both who answered are there");
    }

    #[test]
    fn only_the_newest_sweeps_are_held_and_those_of_a_path_of_another_length_are_not() {
        const LONG: &[(&str, u32)] = &[("10.0.0.1", 100), ("10.0.0.2", 200), ("10.0.0.9", 300)];
        const SHORT: &[(&str, u32)] = &[("10.0.0.1", 100), ("10.0.0.9", 250)];
        const CUT: &[(&str, u32)] = &[("10.0.0.1", 100), ("", 0), ("", 0)];
        let mut many = past(&[LONG; SWEEPS + 5]);
        assert_eq!(shown(&many, 9_999).0, 10);
        assert_eq!(many.rows.len(), SWEEPS * 3);
        many.add(&sweep(SHORT), at(9_000));
        assert_eq!(shown(&many, 9_999), (1, vec![(1, 1, 100), (1, 1, 250)]));
        // Where the target never answered, as far as anybody was asked.
        let silent = past(&[&CUT[..2], CUT]);
        let rows = vec![(2, 2, 100), (2, 0, 0), (1, 0, 0)];
        assert_eq!(shown(&silent, 9_999), (2, rows));
    }

    #[test]
    fn ten_sweeps_of_ten_hops_take_less_than_a_kilobyte() {
        let names: Vec<String> = (0..10).map(|it| format!("10.0.0.{it}")).collect();
        let answers: Vec<_> = names.iter().map(|it| (it.as_str(), 999_999)).collect();
        let past = past(&vec![&answers[..]; 3 * SWEEPS]);
        let bytes = size_of::<Past>()
            + past.sweeps.capacity() * size_of::<Sweep>()
            + past.rows.capacity() * 4
            + past.routers.capacity() * size_of::<IpAddr>()
            + past.remarks.capacity() * size_of::<(u32, Remark)>();
        assert!(bytes < 1_024, "{bytes}");
        assert_eq!(shown(&past, 9_999).1[9], (10, 10, 999_999));
    }

    #[test]
    fn sweeps_take_a_twentieth_of_the_budget_and_never_ask_more_than_once_a_second() {
        assert_eq!(next_peer(2_000), Duration::from_secs(1));
        assert_eq!(next_peer(10_000), Duration::from_secs(1));
        assert_eq!(next_peer(40), Duration::from_secs(8));
        const ONE: &[(&str, u32)] = &[("10.0.0.9", 5)];
        let until_next = [9, 10].map(|held| past(&vec![ONE; held]).next().as_secs());
        assert_eq!(until_next, [5, 60]);
    }
}
