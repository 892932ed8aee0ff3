//! In which direction a peer's pings are lost, from what both ends count.
//!
//! We know how many we sent and how many came back. The peer tells, in his own pings, how many of ours
//! reached him. What did not reach him was lost on the way there; what did, and was not heard of again,
//! on the way back. His word is of one of our pings and takes a while to arrive, so that both counts
//! are taken up to the same ping, and only after its answer had time to come.
//!
//! The one rule: a count that cannot be is dropped, never bent.

use std::collections::VecDeque;
use std::time::Duration;

use super::message::{Message, Seen};
use crate::moment::Moment;
use crate::verdict::{BothEnds, Tally};

/// How long an answer to a ping may still come after the peer told of it.
const SETTLED: Duration = Duration::from_secs(2);
/// How far apart what is remembered is, and how much of it.
const APART: Duration = Duration::from_secs(2);
const POINTS: usize = 32;
/// The peer's words that have not settled; at ten pings a second there are twenty.
const MAX_WAITING: usize = 32;
/// Answers are remembered ping by ping for so many pings.
const REMEMBERED: u32 = 256;
/// A ping this much older than the newest is not counted any more.
const REORDERED: u32 = 64;

/// What came from a peer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrived {
    epoch: u32,
    highest: u32,
    /// Of the newest numbers, downwards from the highest.
    bits: u64,
    count: u32,
}

impl Arrived {
    /// Takes in a message; whether it is new. One that was seen, or is of a time before the sender began
    /// to count anew, is somebody's copy.
    pub fn note(&mut self, message: &Message) -> bool {
        if message.epoch < self.epoch || message.sequence == 0 {
            return false;
        }
        if message.epoch > self.epoch {
            *self = Self {
                epoch: message.epoch,
                // What was sent before the first that came is not known to be lost.
                highest: message.sequence,
                // It is counted, so that one of them that comes late is not counted again.
                bits: u64::MAX,
                count: message.sequence,
            };
            return true;
        }
        if message.sequence > self.highest {
            let ahead = message.sequence - self.highest;
            self.bits = self.bits.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = message.sequence;
        } else {
            let behind = self.highest - message.sequence;
            if behind >= REORDERED || self.bits >> behind & 1 == 1 {
                return false;
            }
            self.bits |= 1 << behind;
        }
        self.count += 1;
        true
    }

    /// What to tell the sender of it.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        (self.highest > 0).then_some(Seen {
            epoch: self.epoch,
            sequence: self.highest,
            count: self.count,
        })
    }
}

/// What was sent to a peer, and what became of it.
#[derive(Debug, Clone)]
pub struct Sent {
    epoch: u32,
    last: u32,
    /// Which of the newest were answered, by number.
    bits: [u64; 4],
    answered: u32,
    waiting: VecDeque<(Moment, Seen)>,
    points: VecDeque<Point>,
}

/// All counts up to one ping.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: Moment,
    sent: u32,
    arrived: u32,
    answered: u32,
}

impl Sent {
    /// Begins to count at this unix second.
    #[must_use]
    pub fn new(epoch: u32) -> Self {
        Self {
            epoch,
            last: 0,
            bits: [0; 4],
            answered: 0,
            waiting: VecDeque::new(),
            points: VecDeque::new(),
        }
    }

    /// When it began to count, and the number of the next ping.
    pub fn number(&mut self) -> (u32, u32) {
        self.last += 1;
        let (word, bit) = place(self.last);
        self.bits[word] &= !bit;
        (self.epoch, self.last)
    }

    /// One of ours came back; a second time it does not count.
    pub fn answered(&mut self, sequence: u32) {
        let is_remembered =
            sequence > 0 && sequence <= self.last && self.last - sequence < REMEMBERED;
        let (word, bit) = place(sequence);
        if is_remembered && self.bits[word] & bit == 0 {
            self.bits[word] |= bit;
            self.answered += 1;
        }
    }

    /// The peer told what he has seen of ours.
    pub fn told(&mut self, seen: Seen, now: Moment) {
        self.settle(now);
        let is_ours = seen.epoch == self.epoch && seen.sequence <= self.last;
        let is_newer = self
            .waiting
            .back()
            .is_none_or(|it| seen.sequence > it.1.sequence);
        if is_ours && is_newer && seen.count <= seen.sequence && self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((now, seen));
        }
    }

    /// What both ends count from `since` on; none where the peer told too little.
    pub fn split(&mut self, since: Moment, now: Moment) -> Option<BothEnds> {
        self.settle(now);
        let last = self.points.back()?;
        let before = self.points.iter().rev().find(|it| it.at <= since);
        let first = before.or(self.points.front())?;
        let sent = last.sent.checked_sub(first.sent).filter(|it| *it > 0)?;
        let arrived = last.arrived.checked_sub(first.arrived)?;
        let answered = last.answered.checked_sub(first.answered)?;
        Some(BothEnds {
            forward: Tally {
                lost: sent.checked_sub(arrived)?,
                sent,
            },
            back: Tally {
                lost: arrived.checked_sub(answered)?,
                sent: arrived,
            },
        })
    }

    /// Makes points of what has had time to settle.
    fn settle(&mut self, now: Moment) {
        while let Some((told, seen)) = self.waiting.front().copied() {
            if now.since(told) < SETTLED {
                return;
            }
            self.waiting.pop_front();
            let is_apart = self
                .points
                .back()
                .is_none_or(|it| told.since(it.at) >= APART);
            if !is_apart || self.last - seen.sequence >= REMEMBERED {
                continue;
            }
            let later = (seen.sequence + 1..=self.last).filter(|number| {
                let (word, bit) = place(*number);
                self.bits[word] & bit != 0
            });
            let later = u32::try_from(later.count()).unwrap_or(u32::MAX);
            if self.points.len() >= POINTS {
                self.points.pop_front();
            }
            self.points.push_back(Point {
                at: told,
                sent: seen.sequence,
                arrived: seen.count,
                answered: self.answered.saturating_sub(later),
            });
        }
    }
}

fn place(sequence: u32) -> (usize, u64) {
    let index = sequence % REMEMBERED;
    ((index / 64) as usize, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::super::message::NodeId;
    use super::*;
    use crate::chance::Chance;
    use crate::verdict::{Direction, direction};

    fn message(epoch: u32, sequence: u32) -> Message {
        Message {
            from: NodeId(1),
            to: NodeId(2),
            line: 0,
            epoch,
            sequence,
            seen: None,
        }
    }

    #[test]
    fn each_ping_counts_once_in_whatever_order_it_comes() {
        let mut arrived = Arrived::default();
        assert_eq!(arrived.seen(), None);
        for (sequence, is_new) in [
            (5, true),
            (4, false),
            (6, true),
            (6, false),
            (9, true),
            (8, true),
            (8, false),
            (5, false),
            (200, true),
            (9, false),
            (137, true),
            (136, false),
            (0, false),
        ] {
            assert_eq!(arrived.note(&message(10, sequence)), is_new, "{sequence}");
        }
        let seen = arrived.seen().expect("known");
        assert_eq!((seen.sequence, seen.count), (200, 10));
        assert!(!arrived.note(&message(9, 300)), "of a former count");
        assert!(arrived.note(&message(11, 1)), "it counts anew");
        assert_eq!(
            arrived.seen().map(|it| (it.epoch, it.sequence, it.count)),
            Some((11, 1, 1))
        );
    }

    /// Two nodes ping each other five times a second for a minute, and lose from the twentieth second
    /// to the fortieth. What the first finds out.
    fn found(seed: u64, there: f64, back: f64) -> BothEnds {
        let mut chance = Chance(seed);
        let (mut here, mut arrived, mut arrived_here) =
            (Sent::new(7), Arrived::default(), Arrived::default());
        let mut peer = Sent::new(9);
        let at = |tick: u64| Moment(tick * 200_000_000);
        let mut coming: VecDeque<u32> = VecDeque::new();
        for tick in 0..300 {
            // Answers of the tick before come only now.
            coming
                .drain(..)
                .for_each(|sequence| here.answered(sequence));
            let is_bad = (100..200).contains(&tick);
            let mut passes = |loss: f64| !is_bad || chance.share() >= loss;
            let (epoch, sequence) = here.number();
            if passes(there) {
                arrived.note(&message(epoch, sequence));
                if passes(back) {
                    coming.push_back(sequence);
                }
            }
            let (epoch, sequence) = peer.number();
            if passes(back)
                && arrived_here.note(&message(epoch, sequence))
                && let Some(seen) = arrived.seen()
            {
                here.told(seen, at(tick));
            }
        }
        here.split(at(95), at(320)).expect("he told")
    }

    #[test]
    fn both_ends_know_which_way_it_was_lost() {
        let mut right = 0;
        for seed in 0..100 {
            let forward = found(seed, 0.2, 0.0);
            assert_eq!(forward.back.lost, 0, "{forward:?}");
            assert!((5..45).contains(&forward.forward.lost), "{forward:?}");
            right += u32::from(direction(forward) == Some(Direction::Forward));
            let back = found(seed, 0.0, 0.2);
            assert_eq!(back.forward.lost, 0, "{back:?}");
            right += u32::from(direction(back) == Some(Direction::Back));
            let both = found(seed, 0.3, 0.3);
            assert!(both.forward.lost > 10 && both.back.lost > 5, "{both:?}");
            assert_eq!(direction(found(seed, 0.0, 0.0)), None);
        }
        assert!(right >= 198, "{right} of 200");
    }

    #[test]
    fn a_word_that_cannot_be_true_is_dropped() {
        let mut sent = Sent::new(7);
        for number in 1..=10 {
            assert_eq!(sent.number(), (7, number));
        }
        let told = |epoch, sequence, count| Seen {
            epoch,
            sequence,
            count,
        };
        let later = Moment(60_000_000_000);
        for seen in [told(6, 5, 5), told(7, 11, 5), told(7, 5, 6)] {
            sent.told(seen, Moment(0));
        }
        assert_eq!(sent.split(Moment(0), later), None);
        sent.told(told(7, 2, 2), Moment(0));
        assert_eq!(sent.split(Moment(0), later), None, "one is no difference");
    }
}
