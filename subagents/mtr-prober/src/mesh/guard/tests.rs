use super::super::quiet::Window;
use super::*;
use crate::chance::Chance;

/// Peers and the ways to them, in simulated time of a hundredth of a second.
struct World {
    guard: Guard,
    next: Vec<Moment>,
    flying: Vec<VecDeque<(Moment, Outcome)>>,
    chance: Chance,
    now: Moment,
}

const STEP: Duration = Duration::from_millis(10);
const ROUND_TRIP: Duration = Duration::from_millis(30);

fn second(second: u64) -> Moment {
    Moment(second * 1_000_000_000)
}

impl World {
    fn new(peers: usize, per_hour: usize) -> Self {
        let mut guard = Guard::new(per_hour);
        let mut chance = Chance(4);
        for number in 0..peers {
            let [high, low] = u16::try_from(number).expect("few").to_be_bytes();
            guard.put(number, IpAddr::from([192, 0, high, low]), 0, Voice::Raised);
        }
        let next = (0..peers).map(|_| Moment((chance.share() * 1e9) as u64));
        Self {
            next: next.collect(),
            flying: vec![VecDeque::new(); peers],
            guard,
            chance,
            now: Moment(0),
        }
    }

    /// Lets time pass; `loss` says what a ping to a peer meets that leaves at a second.
    fn run(&mut self, until: u64, loss: impl Fn(usize, u64) -> f64) -> Vec<(u64, Notice)> {
        let mut told = Vec::new();
        while self.now < second(until) {
            let unix = self.now.0 / 1_000_000_000;
            for peer in 0..self.next.len() {
                while self.flying[peer].front().is_some_and(|it| it.0 <= self.now) {
                    let (_, outcome) = self.flying[peer].pop_front().expect("there is one");
                    let notices = self
                        .guard
                        .heard(peer, outcome, self.now, unix.cast_signed());
                    told.extend(notices.into_iter().map(|it| (unix, it)));
                    let detector = self.guard.detector(peer).expect("known");
                    self.next[peer] = self.next[peer].min(self.now + detector.interval(self.now));
                }
                if self.next[peer] <= self.now {
                    let detector = self.guard.detector(peer).expect("known");
                    let (known, outcome) = match self.chance.share() < loss(peer, unix) {
                        true => (detector.patience(), Outcome::Lost),
                        false => (ROUND_TRIP, Outcome::Answered(Some(30_000))),
                    };
                    let last = self.flying[peer].back().map_or(self.now, |it| it.0);
                    self.flying[peer].push_back(((self.now + known).max(last), outcome));
                    self.next[peer] = self.next[peer] + detector.interval(self.now);
                }
            }
            self.now = self.now + STEP;
        }
        told
    }
}

#[test]
fn a_cut_of_the_line_is_one_event() {
    let mut world = World::new(60, 100);
    assert_eq!(world.run(120, |_, _| 0.0), []);
    let cut = |_: usize, second: u64| {
        if (120..150).contains(&second) {
            1.0
        } else {
            0.0
        }
    };
    let told = world.run(300, cut);
    let [
        (
            began,
            Notice::LineBegan {
                line: 0,
                suspects,
                of: 60,
            },
        ),
        (ended, Notice::LineEnded { lasted, peers, .. }),
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert!(*began <= 123 && *suspects >= 30, "{told:?}");
    assert!(
        (25..=32).contains(&lasted.as_secs()) && (178..=185).contains(ended),
        "{told:?}"
    );
    assert_eq!(*peers, 60);
}

#[test]
fn loss_on_the_line_is_hardly_more_than_one_event() {
    let mut world = World::new(60, 100);
    world.run(120, |_, _| 0.0);
    let loses = |_: usize, second: u64| {
        if (120..150).contains(&second) {
            0.2
        } else {
            0.0
        }
    };
    let told = world.run(400, loses);
    let of_line = told
        .iter()
        .filter(|it| matches!(it.1, Notice::LineBegan { .. }))
        .count();
    let of_peers = told
        .iter()
        .filter(|it| matches!(it.1, Notice::Began { .. }))
        .count();
    let ended = told
        .iter()
        .filter(|it| matches!(it.1, Notice::Ended { .. }))
        .count();
    assert_eq!((of_line, of_peers), (1, ended), "{told:?}");
    assert!(of_peers <= 12, "a fifth of them: {of_peers}");
}

#[test]
fn one_peer_in_trouble_is_that_peer() {
    let mut world = World::new(20, 100);
    world.run(120, |_, _| 0.0);
    let one = |peer: usize, second: u64| if peer == 7 && second < 150 { 1.0 } else { 0.0 };
    let told = world.run(300, one);
    assert!(
        matches!(
            &told[..],
            [
                (_, Notice::Began { peer: 7, .. }),
                (_, Notice::Ended { peer: 7, .. })
            ]
        ),
        "{told:?}"
    );
}

#[test]
fn what_stays_wrong_when_the_line_is_well_is_raised_then() {
    let mut world = World::new(20, 100);
    world.run(120, |_, _| 0.0);
    let stays = |peer: usize, second: u64| if peer == 3 || second < 140 { 1.0 } else { 0.0 };
    let told = world.run(400, stays);
    let kinds: Vec<&Notice> = told.iter().map(|it| &it.1).collect();
    assert!(
        matches!(
            kinds[..],
            [
                Notice::LineBegan { .. },
                Notice::LineEnded { .. },
                Notice::Began { peer: 3, .. }
            ]
        ),
        "{told:?}"
    );
}

#[test]
fn maintenance_is_silent_and_what_outlasts_it_is_told() {
    let mut world = World::new(20, 100);
    for (from, to, peer) in [(100, 200, None), (300, 400, Some(5))] {
        world.guard.quiet.add(Window { from, to, peer }, 0);
    }
    assert_eq!(world.run(110, |_, _| 0.0), []);
    let bad = |peer: usize, second: u64| match (peer, second) {
        // In the maintenance of all: over before it is.
        (2, 110..140) => 1.0,
        // In its own silence, and longer than that.
        (5, 320..450) => 1.0,
        _ => 0.0,
    };
    let told = world.run(600, bad);
    let [
        (began, Notice::Began { peer: 5, .. }),
        (_, Notice::Ended { peer: 5, .. }),
    ] = told[..]
    else {
        panic!("{told:?}");
    };
    assert!((400..=402).contains(&began), "{told:?}");
}

#[test]
fn more_events_than_the_cap_are_counted_and_told() {
    let mut world = World::new(40, 3);
    world.run(60, |_, _| 0.0);
    // One after the other, so that it is not the line.
    let in_turn = |peer: usize, second: u64| {
        let from = 60 + peer as u64 * 60;
        if peer < 6 && (from..from + 10).contains(&second) {
            1.0
        } else {
            0.0
        }
    };
    let told = world.run(600, in_turn);
    let count = |which: fn(&Notice) -> bool| told.iter().filter(|it| which(&it.1)).count();
    assert_eq!(
        count(|it| matches!(it, Notice::Began { .. })),
        3,
        "{told:?}"
    );
    assert_eq!(count(|it| matches!(it, Notice::Ended { .. })), 3);
    assert_eq!(
        count(|it| matches!(it, Notice::CapReached { per_hour: 3 })),
        1
    );
    // An hour later there is room, and what was withheld is said.
    let later = |peer: usize, second: u64| {
        if peer == 9 && second >= 4300 {
            1.0
        } else {
            0.0
        }
    };
    world.now = second(4290);
    world.next.iter_mut().for_each(|it| *it = second(4290));
    let told = world.run(4310, later);
    assert!(
        matches!(
            &told[..],
            [
                (_, Notice::CapOver { withheld: 3 }),
                (_, Notice::Began { peer: 9, .. })
            ]
        ),
        "{told:?}"
    );
}

#[test]
fn translated_addresses_and_silent_peers_raise_nothing() {
    let mut guard = Guard::new(10);
    let (translated, silent) = (0, 1);
    guard.put(translated, IpAddr::from([100, 64, 0, 1]), 0, Voice::Raised);
    guard.put(silent, IpAddr::from([192, 0, 2, 1]), 0, Voice::Raised);
    for number in 0..200 {
        let outcome = if number < 100 {
            Outcome::Answered(Some(1000))
        } else {
            Outcome::Lost
        };
        assert_eq!(guard.heard(translated, outcome, second(number), 0), []);
        assert_eq!(guard.heard(silent, Outcome::Lost, second(number), 0), []);
    }
    assert!(
        guard
            .detector(translated)
            .is_some_and(Detector::is_troubled)
    );
}

#[test]
fn five_thousand_peers_fit_into_three_megabytes() {
    assert!(
        size_of::<Peer>() * 5000 < 3_000_000,
        "{} bytes each",
        size_of::<Peer>()
    );
}
