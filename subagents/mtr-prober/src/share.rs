//! Hop sharing: routers answer about once a second, however many traces ask.
//!
//! Whoever asks more often hears nothing and takes it for loss. So each responder has a budget. While no more is
//! wanted of it, nothing is different; above it, traces take turns and a probe whose turn it is not is left out.
//! Traces that were answered by the same responder at the same TTL, behind the same one before it, are a
//! group: each is told what came of the others' probes there. A trace that has lost probes to its target or that
//! somebody waits for leaves the group and is served first.
//!
//! Who will answer a probe is known once the trace was answered there; until then it is taken to be one of those that
//! answered others at that TTL.
//!
//! The one rule: what a trace says of a row is by a responder that answered it there itself.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::moment::Moment;
use crate::pace::Key;
use crate::packet::Family;
use crate::socket::Source;

/// What is wanted of a responder is counted over this long.
const WINDOW: Duration = Duration::from_secs(4);

/// Above this share of the budget there are turns: a single trace's rounds are not all in their second.
const SLACK: f64 = 1.25;

/// What may be saved up of a responder's budget.
const SAVED: f64 = 2.0;

/// How far what is sent anyway may overdraw it.
const OVERDRAWN: f64 = -4.0;

/// Who was sent to the hop before in this round goes on with little; whoever was not lets these go first. So traces
/// get whole paths one after the other, and not single rows of each.
const NEEDED_TO_GO_ON: f64 = 0.5;
const NEEDED_TO_BEGIN: f64 = 1.0;
const NEEDED_ELSE: f64 = 1.5;

/// A responder of which nothing was wanted for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// Of so many responders at a place the best is chosen.
const LOOKED_AT: usize = 8;

/// Guesses on their way from one place, at most.
const GUESSES: usize = 256;

/// What a trace wants to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Its line.
    pub source: Source,
    /// Its target's.
    pub family: Family,
    /// To which TTL.
    pub ttl: u8,
    /// Who answered it there before.
    pub responder: Option<IpAddr>,
    /// What became of this round's probe to the hop before.
    pub before: Before,
    /// Whether it may be left out.
    pub rank: Rank,
}

/// What became of this round's probe to the hop before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// There is no hop before.
    None,
    /// It was sent.
    Sent,
    /// It was left out.
    LeftOut,
}

/// How a trace stands to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// It takes turns.
    Member,
    /// It is served first and shares nothing.
    First,
}

/// What to do with a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Send it.
    Send,
    /// Send it, and hear what comes before the next: nobody knows yet who answers.
    Try,
    /// Leave it out in this round.
    LeaveOut,
}

/// Those who share a row: by which line, at which TTL, who answers, behind whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Group {
    /// The line.
    pub source: Source,
    /// The row.
    pub ttl: u8,
    /// Who answers.
    pub responder: IpAddr,
    /// Who answers before it; `None` at the first TTL.
    pub previous: Option<IpAddr>,
}

type Place = (Source, Family, u8);

/// All responders, and who shares what.
#[derive(Debug)]
pub struct Share {
    /// Probes per second for each responder.
    rate: f64,
    chance: u64,
    responders: HashMap<(Source, IpAddr), Responder>,
    places: HashMap<Place, Known>,
    groups: HashMap<Group, HashSet<Key>>,
    cleaned: Moment,
}

#[derive(Debug)]
struct Responder {
    tokens: f64,
    counted: Moment,
    window: Moment,
    wanted: u32,
    wanted_before: u32,
}

/// Who is known to answer at a place.
#[derive(Debug, Default)]
struct Known {
    responders: Vec<IpAddr>,
    /// Whom the probes on their way were taken to be for, oldest first.
    guesses: VecDeque<IpAddr>,
    /// Probes that left while nobody was known.
    blind: u32,
}

impl Share {
    /// With a budget for each responder; `chance` is any number.
    #[must_use]
    pub fn new(per_second: u32, chance: u64) -> Self {
        Self {
            rate: f64::from(per_second.max(1)),
            chance: chance | 1,
            responders: HashMap::new(),
            places: HashMap::new(),
            groups: HashMap::new(),
            cleaned: Moment::default(),
        }
    }

    /// Decides about a probe that is due:
    ///
    /// 1. Where nobody is known to answer, it is tried.
    /// 2. While no more is wanted of the responder than its budget, it is sent.
    /// 3. Who is served first is sent, and the others make up for it.
    /// 4. Else it is sent when enough of the budget is left for one like it.
    pub fn turn(&mut self, wish: &Wish, now: Moment) -> Turn {
        self.clean(now);
        let guess = wish.responder.or_else(|| self.guess(wish, now));
        let Some(address) = guess else {
            self.places.entry(place(wish)).or_default().blind += 1;
            return Turn::Try;
        };
        let (needed, cost) = match wish.before {
            // Not one to the other in the same order in each second.
            Before::None => (NEEDED_TO_BEGIN, 0.5 + self.dice()),
            Before::Sent => (NEEDED_TO_GO_ON, 1.0),
            Before::LeftOut => (NEEDED_ELSE, 1.0),
        };
        let rate = self.rate;
        let responder = self.responder(wish.source, address, now);
        responder.wanted += 1;
        let turn = if !responder.is_over(rate) || wish.rank == Rank::First {
            responder.charge(1);
            Turn::Send
        } else if responder.tokens >= needed {
            responder.tokens -= cost;
            Turn::Send
        } else {
            Turn::LeaveOut
        };
        if turn == Turn::Send && wish.responder.is_none() {
            let known = self.places.entry(place(wish)).or_default();
            known.guesses.truncate(GUESSES - 1);
            known.guesses.push_back(address);
        }
        turn
    }

    /// A router answered; `known` says whether it had answered this trace there before.
    pub fn heard(&mut self, wish: &Wish, from: IpAddr, now: Moment) {
        let known = self.places.entry(place(wish)).or_default();
        if !known.responders.contains(&from) {
            known.responders.push(from);
        }
        let guess = match wish.responder {
            Some(_) => None,
            None => known.guesses.pop_front().filter(|guess| *guess != from),
        };
        // Most of these were for the first that answers.
        let blind = std::mem::take(&mut known.blind);
        let responder = self.responder(wish.source, from, now);
        responder.wanted += blind;
        responder.charge(blind);
        if let Some(guess) = guess {
            responder.charge(1);
            let mistaken = self.responder(wish.source, guess, now);
            mistaken.tokens = (mistaken.tokens + 1.0).min(SAVED);
        }
    }

    /// Whether more is wanted of a responder than its budget.
    #[must_use]
    pub fn is_over(&self, source: Source, responder: IpAddr) -> bool {
        let responder = self.responders.get(&(source, responder));
        responder.is_some_and(|responder| responder.is_over(self.rate))
    }

    /// Makes a trace a member; tells whether it is new there.
    pub fn join(&mut self, group: Group, key: Key) -> bool {
        self.groups.entry(group).or_default().insert(key)
    }

    /// Takes a trace out of a group.
    pub fn leave(&mut self, group: &Group, key: Key) {
        if let Some(members) = self.groups.get_mut(group) {
            members.remove(&key);
            if members.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// Those in a group.
    pub fn members(&self, group: &Group) -> impl Iterator<Item = Key> {
        self.groups.get(group).into_iter().flatten().copied()
    }

    /// Of some responders at this place, the one with the most of its budget left.
    fn guess(&mut self, wish: &Wish, now: Moment) -> Option<IpAddr> {
        let dice = self.dice();
        let known = &self.places.get(&place(wish))?.responders;
        let start = (dice * known.len() as f64) as usize;
        let some = known
            .iter()
            .cycle()
            .skip(start)
            .take(known.len().min(LOOKED_AT));
        let left = |address: &IpAddr| {
            let responder = self.responders.get(&(wish.source, *address));
            responder.map_or(SAVED, |responder| responder.tokens_at(self.rate, now))
        };
        let best = some.max_by(|one, other| left(one).total_cmp(&left(other)));
        best.copied()
    }

    fn responder(&mut self, source: Source, address: IpAddr, now: Moment) -> &mut Responder {
        let responder = self
            .responders
            .entry((source, address))
            .or_insert(Responder {
                tokens: SAVED,
                counted: now,
                window: now,
                wanted: 0,
                wanted_before: 0,
            });
        responder.count(self.rate, now);
        responder
    }

    fn clean(&mut self, now: Moment) {
        if now.since(self.cleaned) < FORGOTTEN {
            return;
        }
        self.cleaned = now;
        self.responders
            .retain(|_, responder| now.since(responder.window) < FORGOTTEN);
        let responders = &self.responders;
        self.places.retain(|(source, ..), known| {
            known
                .responders
                .retain(|address| responders.contains_key(&(*source, *address)));
            !known.responders.is_empty()
        });
    }

    /// Evenly from 0 to 1 (xorshift).
    fn dice(&mut self) -> f64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let high = u32::try_from(self.chance >> 32).unwrap_or(0);
        f64::from(high) / f64::from(u32::MAX)
    }
}

fn place(wish: &Wish) -> Place {
    (wish.source, wish.family, wish.ttl)
}

impl Responder {
    fn count(&mut self, rate: f64, now: Moment) {
        self.tokens = self.tokens_at(rate, now);
        self.counted = self.counted.max(now);
        let passed = now.since(self.window);
        if passed >= WINDOW {
            let next = passed < 2 * WINDOW;
            self.wanted_before = if next { self.wanted } else { 0 };
            self.wanted = 0;
            self.window = now;
        }
    }

    fn tokens_at(&self, rate: f64, now: Moment) -> f64 {
        let earned = now.since(self.counted).as_secs_f64() * rate;
        (self.tokens + earned).min(SAVED)
    }

    /// Takes from the budget what was sent anyway.
    fn charge(&mut self, probes: u32) {
        self.tokens = (self.tokens - f64::from(probes)).max(OVERDRAWN);
    }

    fn is_over(&self, rate: f64) -> bool {
        let wanted = f64::from(self.wanted.max(self.wanted_before));
        wanted > rate * WINDOW.as_secs_f64() * SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn wish(responder: Option<IpAddr>, rank: Rank) -> Wish {
        Wish {
            source: Source::default(),
            family: Family::V4,
            ttl: 1,
            responder,
            before: Before::None,
            rank,
        }
    }

    /// Lets so many traces ask once a second for so long and tells when each was sent.
    fn ask(traces: u64, seconds: u64, rank: Rank) -> Vec<(u64, Moment)> {
        let mut share = Share::new(1, 7);
        share.heard(&wish(None, rank), ROUTER, Moment::default());
        let mut sent = Vec::new();
        for second in 0..seconds {
            for trace in 0..traces {
                let now = Moment(second * 1_000_000_000 + trace * 1_000_000_000 / traces);
                if share.turn(&wish(Some(ROUTER), rank), now) == Turn::Send {
                    sent.push((trace, now));
                }
            }
        }
        sent
    }

    #[test]
    fn one_trace_never_waits_for_a_turn() {
        assert_eq!(ask(1, 100, Rank::Member).len(), 100);
    }

    #[test]
    fn many_take_turns_at_the_rate_of_the_responder() {
        for traces in [2, 3, 10, 500] {
            let sent = ask(traces, 100, Rank::Member);
            // A few before it is seen that there are many.
            assert!((90..=110).contains(&sent.len()), "{traces}: {}", sent.len());
            let served: HashSet<u64> = sent.iter().map(|(trace, _)| *trace).collect();
            let expected = usize::try_from(traces.min(50)).unwrap_or(0);
            assert!(
                served.len() >= expected,
                "{traces}: only {} were served",
                served.len()
            );
        }
    }

    #[test]
    fn who_is_served_first_is_never_left_out_and_the_others_make_up_for_it() {
        assert_eq!(ask(5, 20, Rank::First).len(), 100);
        let mut share = Share::new(1, 7);
        let (mut first, mut others) = (0, 0);
        for millis in 0..20_000 {
            let now = Moment(millis * 1_000_000);
            let mut send = |rank| share.turn(&wish(Some(ROUTER), rank), now) == Turn::Send;
            if millis % 1_000 == 0 {
                first += u32::from(send(Rank::First));
            }
            if millis % 100 == 50 {
                others += u32::from(send(Rank::Member));
            }
        }
        assert_eq!(first, 20);
        assert!(others <= 10, "{others}");
    }

    #[test]
    fn a_hop_that_nobody_answered_is_tried_and_one_that_others_know_is_taken_in_turns() {
        let mut share = Share::new(1, 7);
        let unknown = wish(None, Rank::Member);
        let tries = (0..50).filter(|_| share.turn(&unknown, Moment::default()) == Turn::Try);
        assert_eq!(tries.count(), 50);
        share.heard(&unknown, ROUTER, Moment::default());
        let tries = (0..50).filter(|_| share.turn(&unknown, Moment::default()) == Turn::Send);
        assert!(tries.count() <= 8);
        assert!(share.is_over(Source::default(), ROUTER));
    }

    #[test]
    fn responders_nobody_wants_are_forgotten() {
        let mut share = Share::new(1, 7);
        share.heard(&wish(None, Rank::Member), ROUTER, Moment::default());
        let later = Moment::default() + FORGOTTEN * 2;
        share.turn(&wish(None, Rank::Member), later);
        assert!(share.responders.is_empty());
        assert!(
            share
                .places
                .values()
                .all(|known| known.responders.is_empty())
        );
    }
}
