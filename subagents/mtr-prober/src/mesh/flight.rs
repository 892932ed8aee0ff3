//! Pings to one peer that are under way, and their outcomes in the order in which they left.
//!
//! A ping is lost when its patience ends. An answer that overtakes an older ping waits until it is
//! known what became of that one, because what is looked for are losses in a row.
//!
//! The one rule: each ping has one outcome.

use std::collections::VecDeque;
use std::time::Duration;

use super::detect::Outcome;
use crate::moment::Moment;

/// Most pings under way; with ten a second and a second of patience there are ten.
const MOST: usize = 64;

/// The pings under way.
#[derive(Debug, Clone, Default)]
pub struct Flight {
    /// The number of the oldest.
    first: u32,
    pings: VecDeque<Ping>,
}

#[derive(Debug, Clone, Copy)]
struct Ping {
    /// When it is lost.
    until: Moment,
    answer: Option<Outcome>,
}

impl Flight {
    /// One leaves and is waited for so long; its number. None while too many are under way.
    pub fn sent(&mut self, now: Moment, patience: Duration) -> Option<u32> {
        if self.pings.len() >= MOST {
            return None;
        }
        self.pings.push_back(Ping {
            until: now + patience,
            answer: None,
        });
        let ahead = u32::try_from(self.pings.len() - 1).ok()?;
        Some(self.first.wrapping_add(ahead))
    }

    /// One was answered at `now`, after so many microseconds where that is known. An answer too late, or
    /// a second one, is nothing.
    pub fn answered(&mut self, number: u32, micros: Option<u32>, now: Moment) {
        let index = number.wrapping_sub(self.first) as usize;
        if let Some(ping) = self.pings.get_mut(index)
            && ping.answer.is_none()
            && now < ping.until
        {
            ping.answer = Some(Outcome::Answered(micros));
        }
    }

    /// The outcome of the oldest ping, once it is known. To be called until there is none.
    pub fn outcome(&mut self, now: Moment) -> Option<Outcome> {
        let oldest = self.pings.front()?;
        let outcome = match oldest.answer {
            Some(answer) => answer,
            None if now >= oldest.until => Outcome::Lost,
            None => return None,
        };
        self.pings.pop_front();
        self.first = self.first.wrapping_add(1);
        Some(outcome)
    }

    /// When the oldest is lost at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.pings.front().map(|it| it.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(300);

    fn at(millis: u64) -> Moment {
        Moment(millis * 1_000_000)
    }

    #[test]
    fn outcomes_come_in_the_order_of_their_pings() {
        let mut flight = Flight::default();
        let numbers: Vec<Option<u32>> = (0..4)
            .map(|it| flight.sent(at(it * 100), PATIENCE))
            .collect();
        assert_eq!(numbers, [Some(0), Some(1), Some(2), Some(3)]);
        flight.answered(1, Some(30_000), at(130));
        flight.answered(1, Some(99_000), at(140));
        assert_eq!(
            flight.outcome(at(299)),
            None,
            "the first may still be answered"
        );
        assert_eq!(flight.deadline(), Some(at(300)));
        flight.answered(0, Some(300_000), at(300));
        assert_eq!(
            flight.outcome(at(300)),
            Some(Outcome::Lost),
            "too late is lost"
        );
        assert_eq!(
            flight.outcome(at(300)),
            Some(Outcome::Answered(Some(30_000)))
        );
        assert_eq!(flight.outcome(at(300)), None);
        flight.answered(3, None, at(320));
        assert_eq!(flight.outcome(at(500)), Some(Outcome::Lost));
        assert_eq!(flight.outcome(at(500)), Some(Outcome::Answered(None)));
        assert_eq!((flight.outcome(at(500)), flight.deadline()), (None, None));
        flight.answered(9, None, at(500));
        assert_eq!(flight.sent(at(500), PATIENCE), Some(4));
    }

    #[test]
    fn pings_under_way_have_a_bound() {
        let mut flight = Flight::default();
        for _ in 0..MOST {
            assert!(flight.sent(at(0), PATIENCE).is_some());
        }
        assert_eq!(flight.sent(at(0), PATIENCE), None);
        assert_eq!(flight.outcome(at(300)), Some(Outcome::Lost));
        assert!(flight.sent(at(300), PATIENCE).is_some());
    }
}
