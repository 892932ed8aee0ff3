//! Pings to one peer that are under way, and what became of them in the order in which they left.
//!
//! A ping is lost when its patience ends. An answer that overtakes an older ping waits until it is
//! known what became of that one, because what is looked for are losses in a row.
//!
//! The one rule: each ping has one fate.

use std::collections::VecDeque;
use std::time::Duration;

use super::Fate;
use crate::moment::Moment;

/// Most pings under way; with ten a second and a second of patience there are ten.
const MOST: usize = 64;

/// The pings under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Flight {
    /// The number of the oldest.
    first: u16,
    pings: VecDeque<Ping>,
}

#[derive(Debug, Clone, Copy)]
struct Ping {
    tag: u32,
    left: Moment,
    /// Whether `left` is when it really left.
    is_timed: bool,
    patience: Duration,
    fate: Option<Fate>,
}

impl Ping {
    /// When it is lost.
    fn until(&self) -> Moment {
        self.left + self.patience
    }
}

/// A ping that is not under way any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone {
    /// What its owner calls it.
    pub(super) tag: u32,
    /// When it left.
    pub(super) left: Moment,
    /// What became of it.
    pub(super) fate: Fate,
}

impl Flight {
    /// One leaves and is waited for so long; its number. None while too many are under way.
    pub(super) fn sent(&mut self, now: Moment, patience: Duration, tag: u32) -> Option<u16> {
        if self.pings.len() >= MOST {
            return None;
        }
        let ahead = u16::try_from(self.pings.len()).ok()?;
        self.pings.push_back(Ping {
            tag,
            left: now,
            is_timed: false,
            patience,
            fate: None,
        });
        Some(self.first.wrapping_add(ahead))
    }

    /// When one really left, where that is known.
    pub(super) fn stamp(&mut self, number: u16, left: Option<Moment>) {
        if let (Some(ping), Some(left)) = (self.ping(number), left) {
            ping.left = left;
            ping.is_timed = true;
        }
    }

    /// One was not sent.
    pub(super) fn refused(&mut self, number: u16) {
        if let Some(ping) = self.ping(number) {
            ping.fate = Some(Fate::Unsent);
        }
    }

    /// One was answered; the answer came at `received` where that is to be believed, and is read `now`. An
    /// answer too late, or a second one, is nothing.
    pub(super) fn answered(&mut self, number: u16, received: Option<Moment>, now: Moment) {
        let Some(ping) = self.ping(number) else {
            return;
        };
        if ping.fate.is_none() && received.unwrap_or(now) < ping.until() {
            let timed = received.filter(|_| ping.is_timed);
            let micros = timed.map(|it| (it.since(ping.left).as_nanos() + 500) / 1_000);
            let micros = micros.map(|it| u32::try_from(it).unwrap_or(u32::MAX));
            ping.fate = Some(Fate::Answered(micros));
        }
    }

    /// The fate of the oldest ping, once it is known; everything that came before `heard` was read. To be called
    /// until there is none.
    pub(super) fn gone(&mut self, heard: Moment) -> Option<Gone> {
        let oldest = *self.pings.front()?;
        let fate = match oldest.fate {
            Some(fate) => fate,
            None if heard >= oldest.until() => Fate::Lost,
            None => return None,
        };
        self.pings.pop_front();
        self.first = self.first.wrapping_add(1);
        Some(Gone {
            tag: oldest.tag,
            left: oldest.left,
            fate,
        })
    }

    /// When the oldest is lost at the latest.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.pings.front().map(Ping::until)
    }

    fn ping(&mut self, number: u16) -> Option<&mut Ping> {
        self.pings
            .get_mut(usize::from(number.wrapping_sub(self.first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(300);

    fn at(millis: u64) -> Moment {
        Moment(millis * 1_000_000)
    }

    fn fate(flight: &mut Flight, millis: u64) -> Option<(u32, Fate)> {
        flight.gone(at(millis)).map(|it| (it.tag, it.fate))
    }

    #[test]
    fn fates_come_in_the_order_of_their_pings() {
        let mut flight = Flight {
            first: u16::MAX,
            ..Flight::default()
        };
        let numbers: Vec<Option<u16>> = (0..4)
            .map(|it| {
                let number = flight.sent(at(u64::from(it) * 100), PATIENCE, it)?;
                flight.stamp(number, Some(at(u64::from(it) * 100)));
                Some(number)
            })
            .collect();
        assert_eq!(numbers, [Some(u16::MAX), Some(0), Some(1), Some(2)]);
        flight.answered(0, Some(at(130)), at(131));
        flight.answered(0, Some(at(140)), at(141));
        assert_eq!(fate(&mut flight, 299), None, "the first may still come");
        assert_eq!(flight.deadline(), Some(at(300)));
        flight.answered(u16::MAX, Some(at(300)), at(301));
        assert_eq!(fate(&mut flight, 300), Some((0, Fate::Lost)), "too late");
        let answered = Some((1, Fate::Answered(Some(30_000))));
        assert_eq!(fate(&mut flight, 300), answered);
        assert_eq!(fate(&mut flight, 300), None);
        // Read late, but it came in time.
        flight.answered(1, Some(at(450)), at(900));
        flight.answered(2, None, at(420));
        let answered = Some((2, Fate::Answered(Some(250_000))));
        assert_eq!(fate(&mut flight, 900), answered);
        assert_eq!(fate(&mut flight, 900), Some((3, Fate::Answered(None))));
        assert_eq!((fate(&mut flight, 900), flight.deadline()), (None, None));
        flight.answered(9, None, at(500));
        assert_eq!(flight.sent(at(500), PATIENCE, 4), Some(3));
        flight.refused(3);
        assert_eq!(fate(&mut flight, 500), Some((4, Fate::Unsent)));
    }

    #[test]
    fn a_ping_that_left_at_nobody_knows_when_has_no_round_trip() {
        let mut flight = Flight::default();
        flight.sent(at(0), PATIENCE, 7);
        flight.stamp(0, None);
        flight.answered(0, Some(at(20)), at(20));
        assert_eq!(fate(&mut flight, 20), Some((7, Fate::Answered(None))));
    }

    #[test]
    fn pings_under_way_have_a_bound() {
        let mut flight = Flight::default();
        for tag in 0..MOST {
            let tag = u32::try_from(tag).expect("few");
            assert!(flight.sent(at(0), PATIENCE, tag).is_some());
        }
        assert_eq!(flight.sent(at(0), PATIENCE, 99), None);
        assert_eq!(fate(&mut flight, 300), Some((0, Fate::Lost)));
        assert!(flight.sent(at(300), PATIENCE, 99).is_some());
    }
}
