#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;
use crate::report::{Part, PartName, Unreachable};

const TARGET: [u8; 4] = [192, 0, 2, 1];
const WALL: Wall = Wall {
    ahead: 1_000_000_000_000,
    zone: 0,
};

fn plan(rounds: u32) -> Plan {
    Plan {
        target: TARGET.into(),
        first_ttl: 1,
        last_ttl: 30,
        rounds: Some(rounds),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(5),
        keep: Keep::Timeline,
    }
}

/// What a network does with a probe: who answers how after how long.
type Fate = Option<(IpAddr, Kind, Duration)>;

fn router(hop: u8) -> IpAddr {
    [10, 0, 0, hop + 1].into()
}

fn far(hop: u8) -> Duration {
    Duration::from_millis(2) * u32::from(hop + 1)
}

/// A path of `length` hops, the last of them the target.
fn path(length: u8, hop: u8) -> Fate {
    if hop + 1 < length {
        Some((router(hop), Kind::TimeExceeded, far(hop)))
    } else {
        Some((TARGET.into(), Kind::Reply, far(length - 1)))
    }
}

/// Lets a trace run to its end; the network is told round, hop, and the moment of sending.
fn run(
    trace: &mut Trace,
    mut network: impl FnMut(u32, u8, Moment) -> Fate,
) -> Vec<(u32, u8, Moment)> {
    let mut now = Moment::default();
    let mut coming: Vec<(Moment, Heard)> = Vec::new();
    let mut sent = Vec::new();
    for _ in 0..1_000_000 {
        if trace.is_over() {
            return sent;
        }
        coming.sort_by_key(|(at, _)| *at);
        let next = coming.first().map(|(at, _)| *at);
        now = now.max(trace.deadline().into_iter().chain(next).min().unwrap());
        while coming.first().is_some_and(|(at, _)| *at <= now) {
            let (_, heard) = coming.remove(0);
            trace.answer(&heard, now, WALL);
        }
        trace.expire(now, WALL, |_, _| {});
        while let Some((sequence, ttl)) = trace.take(now) {
            assert_eq!(ttl, sequence.hop() + trace.plan().first_ttl);
            trace.stamp(sequence, Some(now));
            let round = trace.rounds() - 1;
            sent.push((round, sequence.hop(), now));
            if let Some((from, kind, after)) = network(round, sequence.hop(), now) {
                let received = now + after;
                let heard = Heard {
                    sequence,
                    from,
                    kind,
                    mpls: Vec::new(),
                    received: Some(received),
                };
                coming.push((received, heard));
            }
        }
    }
    panic!("it never ends");
}

fn part(trace: &Trace) -> Part {
    trace.part(PartName::Run, WALL).unwrap()
}

/// Sent, received and who answered, of each row.
fn rows(part: &Part) -> Vec<(u32, u32, Vec<IpAddr>)> {
    let rows = part.hops.iter().map(|hop| {
        let responders = hop.responders.iter().map(|responder| responder.address);
        (hop.own.sent, hop.own.received, responders.collect())
    });
    rows.collect()
}

#[test]
fn a_clean_path_is_reported_clean_and_ends_at_the_target() {
    let mut trace = Trace::new(plan(10), Moment::default());
    let sent = run(&mut trace, |_, hop, _| path(6, hop));
    let part = part(&trace);
    let mut expected: Vec<_> = (0..5).map(|hop| (10, 10, vec![router(hop)])).collect();
    expected.push((10, 10, vec![TARGET.into()]));
    assert_eq!(rows(&part), expected);
    assert!(part.reached);
    assert_eq!(part.rounds, 10);
    assert_eq!(part.hops[2].statistics.best, 6_000);
    let beyond = sent.iter().filter(|(round, hop, _)| *round > 0 && *hop > 5);
    assert_eq!(beyond.count(), 0);
    let whole: u32 = trace.timeline().iter().map(|second| second.sent).sum();
    assert_eq!((whole, trace.timeline().len()), (10, 10));
}

#[test]
fn a_round_is_spread_over_its_interval_and_the_first_is_over_within_300_ms() {
    let mut trace = Trace::new(plan(3), Moment::default());
    let sent = run(&mut trace, |_, hop, _| path(30, hop));
    let moments = |wanted: u32| {
        let of_round = sent.iter().filter(|(round, ..)| *round == wanted);
        of_round
            .map(|(.., at)| at.0 / 1_000_000)
            .collect::<Vec<_>>()
    };
    assert_eq!(moments(0).len(), 30);
    assert!(*moments(0).last().unwrap() <= 300 + 60, "{:?}", moments(0));
    let second = moments(1);
    assert!(
        second
            .windows(2)
            .all(|pair| (30..=40).contains(&(pair[1] - pair[0]))),
        "{second:?}"
    );
}

#[test]
fn no_probe_goes_farther_than_the_gap_beyond_the_last_answer() {
    let mut trace = Trace::new(plan(4), Moment::default());
    let sent = run(&mut trace, |_, hop, _| path(30, hop).filter(|_| hop < 3));
    assert_eq!(sent.iter().map(|(_, hop, _)| *hop).max(), Some(7));
    let part = part(&trace);
    assert!(!part.reached);
    assert_eq!(part.hops.len(), 8);
    assert_eq!(part.hops[7].own.lost(), 4);
}

#[test]
fn a_path_that_grows_or_shrinks_in_mid_run_shows_no_false_loss() {
    for (before, after) in [(5, 8), (8, 5), (5, 6), (6, 5)] {
        let mut trace = Trace::new(plan(20), Moment::default());
        run(&mut trace, |round, hop, _| {
            path(if round < 10 { before } else { after }, hop)
        });
        let part = part(&trace);
        assert!(part.reached);
        assert_eq!(part.hops.len(), usize::from(after), "{before} -> {after}");
        assert!(part.hops.iter().all(|hop| hop.own.lost() == 0), "{part:?}");
        assert!(trace.timeline().iter().all(|second| second.lost == 0));
    }
}

#[test]
fn a_path_that_grows_by_silent_hops_is_found_after_three_silent_rounds() {
    let mut trace = Trace::new(plan(20), Moment::default());
    run(&mut trace, |round, hop, _| match round {
        0..10 => path(5, hop),
        _ => path(7, hop).filter(|_| hop != 4 && hop != 5),
    });
    let part = part(&trace);
    assert_eq!((part.reached, part.hops.len()), (true, 7));
    assert!(part.hops[6].own.received >= 5, "{part:?}");
    assert_eq!(part.hops[6].own.lost(), 0);
}

#[test]
fn a_target_that_falls_silent_is_lost_at_its_own_row() {
    let mut trace = Trace::new(plan(20), Moment::default());
    run(&mut trace, |round, hop, _| {
        path(5, hop).filter(|_| hop < 4 || round < 10)
    });
    let part = part(&trace);
    assert_eq!((part.reached, part.hops.len()), (true, 5));
    assert_eq!((part.hops[4].own.sent, part.hops[4].own.lost()), (20, 10));
    let lost: u32 = trace.timeline().iter().map(|second| second.lost).sum();
    assert_eq!(lost, 10);
}

#[test]
fn a_router_that_refuses_is_the_end_until_it_lets_through() {
    let refused = Kind::Unreachable(Unreachable::Host);
    let mut trace = Trace::new(plan(10), Moment::default());
    let sent = run(&mut trace, |round, hop, _| match (round, hop) {
        (0..5, 3..) => Some((router(2), refused, far(2))),
        _ => path(6, hop),
    });
    let beyond = sent
        .iter()
        .filter(|(round, hop, _)| (1..5).contains(round) && *hop > 3);
    assert_eq!(beyond.count(), 0);
    let part = part(&trace);
    assert!(part.reached);
    let row = &part.hops[3];
    assert_eq!(row.responders.len(), 2);
    assert_eq!(row.responders[0].unreachable, Some(Unreachable::Host));
}

#[test]
fn a_target_that_answers_from_another_address_is_reached() {
    let mut trace = Trace::new(plan(5), Moment::default());
    let other: IpAddr = [192, 0, 2, 99].into();
    run(&mut trace, |_, hop, _| {
        let (from, kind, after) = path(4, hop)?;
        let from = if kind == Kind::Reply { other } else { from };
        Some((from, kind, after))
    });
    let part = part(&trace);
    assert_eq!((part.reached, part.hops.len()), (true, 4));
    assert_eq!(rows(&part)[3], (5, 5, vec![other]));
    assert_eq!(trace.responder(3), None);
    assert!(trace.timeline().iter().all(|second| second.lost == 0));
}

#[test]
fn a_second_answer_is_a_duplicate_and_a_late_one_counts_nothing() {
    let mut trace = Trace::new(plan(2), Moment::default());
    let (sequence, _) = trace.take(Moment::default()).unwrap();
    trace.stamp(sequence, Some(Moment(1_000)));
    let heard = Heard {
        sequence,
        from: router(0),
        kind: Kind::TimeExceeded,
        mpls: Vec::new(),
        received: Some(Moment(51_000)),
    };
    let counted = Taken::Counted {
        round: 0,
        micros: Some(50),
    };
    assert_eq!(trace.answer(&heard, Moment(60_000), WALL), counted);
    assert_eq!(trace.answer(&heard, Moment(60_000), WALL), Taken::Duplicate);
    let later = Moment::default() + Duration::from_secs(1);
    let (sequence, _) = trace.take(later).unwrap();
    let mut lost = Vec::new();
    trace.expire(later + Duration::from_secs(6), WALL, |round, _| {
        lost.push(round);
    });
    assert_eq!(lost, [0]);
    let late = Heard { sequence, ..heard };
    assert_eq!(
        trace.answer(&late, later + Duration::from_secs(7), WALL),
        Taken::Late
    );
    let never = Sequence::new(1_900, 3);
    let stray = Heard {
        sequence: never,
        from: router(0),
        kind: Kind::Reply,
        mpls: Vec::new(),
        received: None,
    };
    assert_eq!(trace.answer(&stray, later, WALL), Taken::Late);
    assert_eq!(part(&trace).hops[0].own.duplicates, 1);
}

#[test]
fn an_answer_whose_time_is_not_known_counts_without_one() {
    let mut trace = Trace::new(plan(1), Moment::default());
    let (sequence, _) = trace.take(Moment::default()).unwrap();
    trace.stamp(sequence, None);
    let heard = Heard {
        sequence,
        from: router(0),
        kind: Kind::TimeExceeded,
        mpls: Vec::new(),
        received: Some(Moment(9)),
    };
    let taken = trace.answer(&heard, Moment(10), WALL);
    assert_eq!(
        taken,
        Taken::Counted {
            round: 0,
            micros: None
        }
    );
    let hop = &part(&trace).hops[0];
    assert_eq!((hop.own.received, hop.statistics.timed), (1, 0));
}

#[test]
fn a_ping_is_a_trace_of_one_hop_and_tells_each_loss() {
    let ping = Plan {
        first_ttl: 64,
        last_ttl: 64,
        rounds: None,
        keep: Keep::Sums,
        ..plan(0)
    };
    let mut trace = Trace::new(ping, Moment::default());
    let mut lost = Vec::new();
    for second in 0..3_000 {
        let now = Moment::default() + Duration::from_secs(second);
        trace.expire(now, WALL, |round, _| lost.push(round));
        let (sequence, ttl) = trace.take(now).unwrap();
        assert_eq!((ttl, sequence.hop()), (64, 0));
        trace.stamp(sequence, Some(now));
        if second % 1_000 != 999 {
            let heard = Heard {
                sequence,
                from: TARGET.into(),
                kind: Kind::Reply,
                mpls: Vec::new(),
                received: Some(now),
            };
            trace.answer(&heard, now, WALL);
        }
    }
    assert_eq!(lost, [999, 1_999]);
    assert!(!trace.is_over());
    assert_eq!(trace.timeline(), []);
    trace.stop();
    assert!(trace.is_over());
}

proptest! {
    #[test]
    fn each_probe_is_counted_once_whatever_the_network_does(
        rounds in 1_u32..12, length in 1_u8..30, fates in prop::collection::vec(0_u8..20, 400),
    ) {
        let mut trace = Trace::new(plan(rounds), Moment::default());
        let mut at = 0;
        let mut per_hop = [(0_u32, 0_u32); 32];
        run(&mut trace, |_, hop, _| {
            at += 1;
            let row = &mut per_hop[usize::from(hop)];
            row.0 += 1;
            let fate = match fates[at % fates.len()] {
                0..4 => None,
                4 => Some((router(29), Kind::TimeExceeded, far(hop))),
                5 => Some((TARGET.into(), Kind::Reply, Duration::from_millis(1_500))),
                6 => Some((router(hop), Kind::Unreachable(Unreachable::Network), far(hop))),
                _ => path(length, hop),
            };
            row.1 += u32::from(fate.is_some());
            fate
        });
        let part = part(&trace);
        prop_assert_eq!(part.rounds, rounds);
        for (hop, (sent, answered)) in part.hops.iter().zip(per_hop) {
            prop_assert_eq!((hop.own.sent, hop.own.received, hop.own.duplicates), (sent, answered, 0));
            let by_responder: u32 = hop.responders.iter().map(|responder| responder.received).sum();
            prop_assert_eq!(by_responder, answered);
        }
        let timeline = trace.timeline();
        prop_assert!(timeline.windows(2).all(|pair| pair[0].unix < pair[1].unix));
    }
}
