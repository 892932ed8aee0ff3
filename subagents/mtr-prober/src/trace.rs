//! One measurement: which probe comes next, and what an answer or its absence means.
//!
//! A trace goes through rounds. A round sends a probe to each hop, nearest first, up to where the path is
//! known to end, or to `GAP` hops beyond the last that answered. A ping is a trace of one hop. It holds no
//! clock and no socket: the engine asks it when it is due, takes its probe, and tells it what came.
//!
//! The one rule: each probe the kernel took is counted once, as answered or as lost, and a probe that is
//! still on its way is neither.

mod hop;
mod hurry;
mod joint;
mod path;
mod view;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::moment::{Moment, Wall, nanos};
use crate::packet::{Kind, Sequence};
use crate::report::{Mpls, Second};
use crate::share::{Before, Turn};

use hop::Hop;
use path::End;

/// Hops beyond the last that answered to which probes are sent.
pub const GAP: u8 = 5;

/// Rounds in which a target that had answered may be silent before the path may be longer than it was.
const SILENT_ROUNDS: u32 = 3;

/// Between the probes of a first round: all of them within 300 ms, and no burst.
const FIRST_ROUND_SPACING: Duration = Duration::from_millis(10);

/// No probes of one trace are nearer to each other.
const LEAST_SPACING: Duration = Duration::from_millis(1);

/// What is to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// To where.
    pub target: IpAddr,
    /// TTL of the first hop.
    pub first_ttl: u8,
    /// TTL of the last hop there may be; [`crate::packet::MAX_HOPS`] hops at most.
    pub last_ttl: u8,
    /// How many rounds; without end when absent.
    pub rounds: Option<u32>,
    /// From one round to the next.
    pub interval: Duration,
    /// After this long without an answer a probe is lost.
    pub timeout: Duration,
    /// What is kept besides the sums of each hop.
    pub keep: Keep,
}

/// What a trace keeps besides the sums of each hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Probes to the target and losses by the second.
    Timeline,
    /// Nothing: who asked is told of each probe.
    Sums,
}

/// A measurement that runs.
#[derive(Debug)]
pub struct Trace {
    plan: Plan,
    begin: Moment,
    /// Rounds that have begun; the current one is the last of them.
    rounds: u32,
    round_began: Moment,
    /// The hop that this round's next probe goes to.
    next_hop: u8,
    /// To which hops this round has sent, a bit for each: here, for a hop itself is in memory that is far away.
    taken: u32,
    last_taken: Moment,
    hops: Vec<Hop>,
    /// Hops up to the farthest router that answered.
    known: u8,
    end: End,
    /// The hop at which the target last answered.
    target_hop: Option<u8>,
    /// In the order they were taken.
    flights: VecDeque<Flight>,
    stop: Stop,
    first_sent: Option<Moment>,
    last_event: Moment,
    timeline: VecDeque<Second>,
    /// Probes to where the target answers that were lost.
    target_lost: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    Asked,
}

/// A probe that was taken.
#[derive(Debug, Clone, Copy)]
struct Flight {
    sent: Moment,
    round: u32,
    sequence: Sequence,
    state: FlightState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlightState {
    Flying,
    /// Nobody knows well enough when it left.
    Untimed,
    Over,
}

/// An answer, after the engine found it to be one to this trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// To which probe.
    pub sequence: Sequence,
    /// Who answered.
    pub from: IpAddr,
    /// Of what kind.
    pub kind: Kind,
    /// The labels quoted in it.
    pub mpls: Vec<Mpls>,
    /// When it came; `None` when that is not to be believed.
    pub received: Option<Moment>,
}

/// A probe that is next, for whoever decides whether it is its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// To which TTL.
    pub ttl: u8,
    /// The one router that answered there before.
    pub responder: Option<IpAddr>,
    /// What became of this round's probe to the hop before.
    pub before: Before,
}

/// What an answer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The first to a probe on its way, of this round, after so many microseconds if that is known.
    Counted {
        /// The probe's round.
        round: u32,
        /// The round trip.
        micros: Option<u32>,
    },
    /// A second one to the same probe.
    Duplicate,
    /// To a probe that was given up, or never sent.
    Late,
}

impl Trace {
    /// A trace whose first probe is due at `begin`.
    #[must_use]
    pub fn new(plan: Plan, begin: Moment) -> Self {
        Self {
            plan,
            begin,
            rounds: 0,
            round_began: begin,
            next_hop: 0,
            taken: 0,
            last_taken: Moment::default(),
            hops: Vec::new(),
            known: 0,
            end: End::Open,
            target_hop: None,
            flights: VecDeque::new(),
            stop: Stop::No,
            first_sent: None,
            last_event: begin,
            timeline: VecDeque::new(),
            target_lost: 0,
        }
    }

    /// What was asked for, prolongations included.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Rounds that have begun.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Lets it go on until it has had this many rounds; never fewer than before.
    pub fn prolong(&mut self, rounds: u32) {
        self.plan.rounds = self.plan.rounds.map(|planned| planned.max(rounds));
    }

    /// Sends nothing more and waits for nothing: probes on their way are forgotten.
    pub fn stop(&mut self) {
        self.stop = Stop::Asked;
        self.flights.clear();
    }

    /// When the next probe is due; `None` while nothing is to be sent.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        if self.stop == Stop::Asked {
            return None;
        }
        if self.rounds == 0 {
            return Some(self.begin);
        }
        if self.next_hop < self.limit() {
            // Hops may be left out of a first round: its probes follow one another.
            if self.rounds == 1 {
                return Some(self.last_taken + self.spacing(1).max(LEAST_SPACING));
            }
            let planned = self.round_began + self.spacing(self.next_hop);
            return Some(planned.max(self.last_taken + LEAST_SPACING));
        }
        let more = self.plan.rounds.is_none_or(|rounds| self.rounds < rounds);
        more.then(|| self.round_began + self.plan.interval)
    }

    /// When it wants to be looked at again: a probe is due or one is to be given up.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let given_up = self
            .flights
            .front()
            .map(|flight| flight.sent + self.plan.timeout);
        match (self.due(), given_up) {
            (Some(due), Some(given_up)) => Some(due.min(given_up)),
            (due, given_up) => due.or(given_up),
        }
    }

    /// Whether nothing more will happen: all rounds are over, or it was stopped.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.due().is_none() && self.flights.is_empty()
    }

    /// Whether its next probe goes to where the target answers.
    #[must_use]
    pub fn is_target_next(&self) -> bool {
        matches!(self.end, End::Target { hop, .. } if hop == self.next_hop)
    }

    /// Takes the probe that is due, with its TTL. It is on its way from now on.
    pub fn take(&mut self, now: Moment) -> Option<(Sequence, u8)> {
        self.take_turn(now, |_| Turn::Send)
    }

    /// The same, if it is its turn; else it is left out of this round and `None` is the answer. Probes to where the
    /// target answers are never left out.
    pub fn take_turn(
        &mut self,
        now: Moment,
        turn: impl FnOnce(&Self) -> Turn,
    ) -> Option<(Sequence, u8)> {
        if self.due()? > now {
            return None;
        }
        if self.rounds == 0 {
            // Not from its beginning where hops are left out for the budget.
            let first = self.next_hop;
            self.begin_round(now);
            self.next_hop = first;
        } else if self.next_hop >= self.limit() {
            self.begin_round(now);
        }
        let (hop, round) = (self.next_hop, self.rounds - 1);
        let ttl = self.plan.first_ttl + hop;
        // Asked first: who answered there is known in memory that is far away.
        let left_out = !self.is_target_next() && turn(self) == Turn::LeaveOut;
        self.next_hop += 1;
        self.last_taken = now;
        if usize::from(hop) >= self.hops.len() {
            self.hops.resize_with(usize::from(hop) + 1, Hop::default);
        }
        if left_out {
            return None;
        }
        self.taken |= 1 << hop;
        let sequence = Sequence::new(round, hop);
        self.flights.push_back(Flight {
            sent: now,
            round,
            sequence,
            state: FlightState::Flying,
        });
        Some((sequence, ttl))
    }

    /// Says when a probe that was taken really left; `None` when nobody knows well enough.
    pub fn stamp(&mut self, sequence: Sequence, sent: Option<Moment>) {
        let moment = sent.unwrap_or(self.last_taken);
        if let Some(flight) = self.flight(sequence) {
            match sent {
                Some(sent) => flight.sent = sent,
                None => flight.state = FlightState::Untimed,
            }
        }
        self.first_sent.get_or_insert(moment);
    }

    /// Says that the kernel did not take a probe: it is neither sent nor lost.
    pub fn unsent(&mut self, sequence: Sequence) {
        if let Some(flight) = self.flight(sequence) {
            flight.state = FlightState::Over;
            self.hops[usize::from(sequence.hop())].counts.unsent += 1;
        }
        self.drop_finished();
    }

    /// Takes an answer in.
    pub fn answer(&mut self, heard: &Heard, now: Moment, wall: Wall) -> Taken {
        let hop = heard.sequence.hop();
        let Some(flight) = self.flight(heard.sequence) else {
            let age = heard.sequence.age(self.rounds.saturating_sub(1));
            let round = self.rounds.saturating_sub(1).checked_sub(age);
            return match (self.hops.get_mut(usize::from(hop)), round) {
                (Some(hop), Some(round)) if hop.was_answered(round) => {
                    hop.counts.duplicates += 1;
                    Taken::Duplicate
                }
                _ => Taken::Late,
            };
        };
        let Flight { sent, round, .. } = *flight;
        let timed = heard
            .received
            .filter(|_| flight.state == FlightState::Flying);
        let micros = timed.map(|received| micros(received.since(sent)));
        flight.state = FlightState::Over;
        self.learn(heard, round);
        self.hops[usize::from(hop)].answered(heard, round, micros);
        // A router's "time exceeded" says that this was no probe to the target after all.
        let of_target = self.is_by_target(heard);
        if self.is_timed(hop) && (of_target || heard.kind != Kind::TimeExceeded) {
            self.count_second(wall.second(sent), u32::from(!of_target));
        }
        self.last_event = now;
        self.drop_finished();
        Taken::Counted { round, micros }
    }

    /// Gives up the probes whose time is over and tells round and hop of each.
    pub fn expire(&mut self, now: Moment, wall: Wall, mut lost: impl FnMut(u32, u8)) {
        while let Some(flight) = self.flights.front().copied() {
            let over = flight.state == FlightState::Over;
            if !over && flight.sent + self.plan.timeout > now {
                break;
            }
            self.flights.pop_front();
            if !over {
                let hop = flight.sequence.hop();
                self.hops[usize::from(hop)].counts.sent += 1;
                self.target_lost += u32::from(self.target_hop == Some(hop));
                if self.is_timed(hop) {
                    self.count_second(wall.second(flight.sent), 1);
                }
                self.last_event = now;
                lost(flight.round, hop);
            }
        }
    }

    /// What the next probe is.
    #[must_use]
    pub fn next(&self) -> Next {
        Next {
            ttl: self.plan.first_ttl + self.next_hop,
            responder: self.responder(self.next_hop),
            before: match self.next_hop.checked_sub(1) {
                None => Before::None,
                Some(hop) if self.taken & (1 << hop) != 0 => Before::Sent,
                Some(_) => Before::LeftOut,
            },
        }
    }

    /// From a probe of this round to the one so many hops farther.
    fn spacing(&self, hops: u8) -> Duration {
        let even = nanos(self.plan.interval) / u64::from(self.limit().max(1));
        let gap = match self.rounds {
            0 | 1 => even.min(nanos(FIRST_ROUND_SPACING)),
            _ => even,
        };
        Duration::from_nanos(gap.saturating_mul(hops.into()))
    }

    /// Rounds are on a grid of the interval; one that is much too late begins a new grid, so that nothing
    /// is made up for in a burst.
    fn begin_round(&mut self, now: Moment) {
        if self.rounds > 0 {
            let planned = self.round_began + self.plan.interval;
            let late = now.since(planned) > self.plan.interval / 4;
            self.round_began = if late { now } else { planned };
        } else {
            self.round_began = now;
        }
        let round = self.rounds;
        self.rounds += 1;
        self.next_hop = 0;
        self.taken = 0;
        if let End::Target { hop, round: last } = self.end {
            let worst = Duration::from_micros(self.hops[usize::from(hop)].worst().into());
            let on_their_way = (2 * worst).as_nanos() / self.plan.interval.as_nanos().max(1) + 1;
            let silent = u128::from(round.saturating_sub(last + 1));
            if silent >= u128::from(SILENT_ROUNDS) + on_their_way {
                self.open(hop);
            }
        }
    }

    /// Whether outcomes at this hop belong on the timeline.
    fn is_timed(&self, hop: u8) -> bool {
        let of_target = match self.end {
            End::Target { hop: end, .. } => end == hop,
            End::Open | End::Refused { .. } => self.target_hop == Some(hop),
        };
        self.plan.keep == Keep::Timeline && of_target
    }

    fn count_second(&mut self, unix: i64, lost: u32) {
        let at = self.timeline.partition_point(|second| second.unix < unix);
        match self.timeline.get_mut(at) {
            Some(second) if second.unix == unix => {
                second.sent += 1;
                second.lost += lost;
            }
            _ => self.timeline.insert(
                at,
                Second {
                    unix,
                    sent: 1,
                    lost,
                },
            ),
        }
    }

    fn flight(&mut self, sequence: Sequence) -> Option<&mut Flight> {
        let mut flights = self.flights.iter_mut().rev();
        flights.find(|flight| flight.sequence == sequence && flight.state != FlightState::Over)
    }

    fn drop_finished(&mut self) {
        while let Some(flight) = self.flights.front()
            && flight.state == FlightState::Over
        {
            self.flights.pop_front();
        }
    }
}

fn micros(duration: Duration) -> u32 {
    // Rounded: a stamp has nanoseconds.
    u32::try_from((duration.as_nanos() + 500) / 1_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
