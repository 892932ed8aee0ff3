use super::*;
use crate::chance::Chance;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: f64) -> Moment {
    Moment((seconds * SECOND as f64) as u64)
}

/// A peer and the way to it, in simulated time.
struct Way {
    detector: Detector,
    chance: Chance,
    /// When the next ping leaves.
    next: Moment,
    /// Pings whose outcome is not known yet: when it will be, and what it is.
    flying: std::collections::VecDeque<(Moment, Outcome)>,
}

impl Way {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        Self {
            next: at(chance.share()),
            detector: Detector::default(),
            chance,
            flying: std::collections::VecDeque::new(),
        }
    }

    /// Lets time pass up to `until`. `loss` and `micros` say what a ping that leaves then meets.
    fn run(
        &mut self,
        until: Moment,
        loss: impl Fn(Moment) -> f64,
        micros: impl Fn(Moment) -> u32,
    ) -> Vec<(Moment, Change)> {
        let mut changes = Vec::new();
        loop {
            let known = self.flying.front().map(|it| it.0);
            if known.is_some_and(|known| known <= self.next && known < until) {
                let (now, outcome) = self.flying.pop_front().expect("there is one");
                if let Some(change) = self.detector.heard(outcome, now) {
                    changes.push((now, change));
                }
                // A burst begins at once, not with the next plain ping.
                let hastened = now + self.detector.interval(now);
                self.next = self.next.min(hastened);
            } else if self.next < until {
                let sent = self.next;
                let jitter = (self.chance.share() * 2000.0) as u32;
                let (known, outcome) = match self.chance.share() < loss(sent) {
                    true => (sent + self.detector.patience(), Outcome::Lost),
                    false => {
                        let micros = micros(sent) + jitter;
                        let known = sent + Duration::from_micros(u64::from(micros));
                        (known, Outcome::Answered(Some(micros)))
                    }
                };
                // In the order of their pings: an answer waits for the verdict on the ping before.
                let last = self.flying.back().map_or(known, |it| it.0.max(known));
                self.flying.push_back((last, outcome));
                self.next = sent + self.detector.interval(sent);
            } else {
                return changes;
            }
        }
    }
}

fn began(changes: &[(Moment, Change)]) -> Vec<Moment> {
    let began = changes.iter().filter(|it| matches!(it.1, Change::Began(_)));
    began.map(|it| it.0).collect()
}

/// An hour of a clean peer, after which the threshold is that of a clean one.
fn known(seed: u64) -> Way {
    let mut way = Way::new(seed);
    let changes = way.run(at(3600.0), |_| 0.0, |_| 30_000);
    assert_eq!(changes, []);
    assert_eq!(way.detector.threshold, FEWEST);
    way
}

/// How many of a thousand episodes of ten seconds are caught, by a ping that left in them.
fn caught(loss: f64) -> u32 {
    let clean = known(1).detector;
    let mut caught = 0;
    for seed in 0..1000 {
        let mut way = Way::new(seed * 7 + 3);
        way.detector = clean.clone();
        way.next = at(3600.0 + way.chance.share());
        let (from, to) = (at(3610.0), at(3620.0));
        let during = |now: Moment| if (from..to).contains(&now) { loss } else { 0.0 };
        let changes = way.run(at(3625.0), during, |_| 30_000);
        caught += u32::from(!changes.is_empty());
    }
    println!("a loss of {loss} for 10 s is caught {caught} times of 1000");
    caught
}

#[test]
fn a_loss_of_ten_seconds_is_caught() {
    assert!(caught(0.2) >= 800);
    assert!(caught(0.3) >= 940);
    assert!(caught(1.0) == 1000);
}

#[test]
fn steady_loss_is_normal_and_raises_next_to_nothing() {
    for (loss, most, peers) in [(0.001, 0.1, 3), (0.01, 0.1, 10), (0.05, 0.34, 3)] {
        let (mut events, mut days) = (0, 0.0);
        for seed in 0..peers {
            let mut way = Way::new(seed);
            // What is normal is known after an hour.
            way.run(at(3600.0), |_| loss, |_| 30_000);
            let day = 86_400.0;
            let changes = way.run(at(3600.0 + day), |_| loss, |_| 30_000);
            events += began(&changes).len();
            days += 1.0;
        }
        println!("{loss} of loss: {events} events in {days} days");
        assert!(
            events as f64 <= most * days,
            "{loss}: {events} in {days} days"
        );
    }
}

#[test]
fn a_peer_that_goes_away_is_noticed_within_four_seconds() {
    let clean = known(1).detector;
    for (seed, usual) in (0..20).map(|seed| (seed, if seed % 2 == 0 { 30_000 } else { 400_000 })) {
        let mut way = Way::new(seed);
        way.detector = clean.clone();
        way.run(at(3600.0), |_| 0.0, |_| usual);
        way.next = at(3600.0 + way.chance.share());
        let onset = at(3603.0 + way.chance.share());
        let gone = |now: Moment| if now >= onset { 1.0 } else { 0.0 };
        let changes = way.run(at(3620.0), gone, |_| usual);
        let noticed = began(&changes)[0].since(onset);
        assert!(noticed <= Duration::from_millis(3500), "{noticed:?}");
    }
}

#[test]
fn trouble_is_one_however_it_flickers_and_ends_when_it_is_well() {
    let mut way = known(2);
    // A minute in which every third second is bad.
    let flickers = |now: Moment| {
        let second = now.0 / SECOND;
        if (3610..3670).contains(&second) && second.is_multiple_of(3) {
            0.8
        } else {
            0.0
        }
    };
    let changes = way.run(at(3800.0), flickers, |_| 30_000);
    let [
        (_, Change::Began(Trouble::Loss { .. })),
        (ended, Change::Ended { lasted }),
    ] = changes[..]
    else {
        panic!("{changes:?}");
    };
    assert!((40..62).contains(&lasted.as_secs()), "{lasted:?}");
    assert!((at(3695.0)..at(3705.0)).contains(&ended), "{ended:?}");
    assert!(!way.detector.is_troubled());
}

#[test]
fn longer_round_trips_are_noticed_and_jitter_is_not() {
    let mut way = known(3);
    let rises = |now: Moment| {
        if (at(3700.0)..at(3800.0)).contains(&now) {
            50_000
        } else {
            30_000
        }
    };
    let changes = way.run(at(4000.0), |_| 0.0, rises);
    let [
        (noticed, Change::Began(Trouble::Latency { median, usual })),
        (_, Change::Ended { lasted }),
    ] = changes[..]
    else {
        panic!("{changes:?}");
    };
    assert!(
        noticed.since(at(3700.0)) < Duration::from_secs(4),
        "{noticed:?}"
    );
    assert!((50_000..52_500).contains(&median) && (31_000..37_000).contains(&usual));
    assert!((95..110).contains(&lasted.as_secs()), "{lasted:?}");

    // One answer in twenty-five takes twice as long, for an hour.
    let mut way = known(4);
    let spikes = |now: Moment| {
        if now.0.is_multiple_of(25) {
            60_000
        } else {
            30_000
        }
    };
    assert_eq!(way.run(at(7200.0), |_| 0.0, spikes), []);
}

#[test]
fn a_peer_that_never_answered_shows_nothing() {
    let mut way = Way::new(5);
    assert_eq!(way.run(at(600.0), |_| 1.0, |_| 30_000), []);
    assert!(!way.detector.is_suspect());
    assert_eq!(way.detector.interval(at(600.0)), PLAIN);
}

#[test]
fn trouble_that_stays_becomes_normal() {
    let mut way = known(6);
    let day = 86_400.0;
    let changes = way.run(
        at(3600.0 + day),
        |now| if now > at(3700.0) { 0.1 } else { 0.0 },
        |_| 30_000,
    );
    assert!(matches!(changes[0].1, Change::Began(_)), "{changes:?}");
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(!way.detector.is_troubled());
}

#[test]
fn what_is_usual_is_known_as_soon_as_enough_round_trips_are() {
    let mut detector = Detector::default();
    // The times of three answers nobody knows.
    for second in 0..63_u32 {
        let micros = (second >= 3).then_some(30_000);
        detector.heard(Outcome::Answered(micros), at(second.into()));
    }
    let late = |it: f64| (Outcome::Answered(Some(90_000)), at(63.0 + it / 10.0));
    let mut outcomes = (0..10).map(|it| late(f64::from(it)));
    let change = outcomes.find_map(|(outcome, now)| detector.heard(outcome, now));
    let is_latency = matches!(change, Some(Change::Began(Trouble::Latency { .. })));
    assert!(is_latency, "{change:?}");
}
