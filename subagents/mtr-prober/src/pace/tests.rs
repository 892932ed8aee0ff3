#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use super::*;
use crate::trace::{Keep, Plan, Trace};

fn at(micros: u64) -> Moment {
    Moment(micros * 1_000)
}

#[test]
fn no_more_leaves_than_the_budget_allows() {
    let mut pace = Pace::new(2_000, at(0));
    (0..10_000).for_each(|id| pace.wait((id, 0), Class::Hop));
    let mut sent = Vec::new();
    for micros in (0..1_000_000).step_by(500) {
        while pace.next(at(micros)).is_some() {
            pace.spent();
            sent.push(micros);
        }
    }
    assert!((1_990..=2_010).contains(&sent.len()), "{}", sent.len());
    let burst = sent.windows(12).find(|window| window[11] - window[0] < 500);
    assert_eq!(burst, None);
}

#[test]
fn above_the_budget_targets_come_before_hops_and_hops_still_come() {
    let mut pace = Pace::new(1_000, at(0));
    let mut sent = BTreeMap::new();
    for micros in (0..1_000_000).step_by(1_000) {
        for (id, class) in [(0, Class::Hop), (1, Class::Target), (2, Class::Urgent)] {
            pace.wait((id, 0), class);
        }
        while let Some((id, _)) = pace.next(at(micros)) {
            pace.spent();
            *sent.entry(id).or_insert(0) += 1;
        }
    }
    let [hops, targets, urgent] = [0, 1, 2].map(|id| sent.get(&id).copied().unwrap_or(0));
    assert!(urgent > 800 && hops > 80, "{sent:?}");
    assert_eq!(
        targets, 0,
        "as many urgent ones as the budget allows came first"
    );
}

#[test]
fn alarms_ring_in_order_and_the_deadline_is_the_next() {
    let mut pace = Pace::new(1_000, at(0));
    for (id, micros) in [(1, 50), (2, 20), (3, 90)] {
        pace.alarm((id, 7), at(micros));
    }
    assert_eq!(pace.deadline(at(0)), Some(at(20)));
    assert_eq!(pace.ring(at(10)), None);
    assert_eq!(pace.ring(at(60)).unwrap().0, (2, 7));
    assert_eq!(pace.ring(at(60)).unwrap().0, (1, 7));
    assert_eq!(pace.deadline(at(60)), Some(at(90)));
}

#[test]
fn one_begins_at_once_and_many_are_spread() {
    let mut pace = Pace::new(1_000, at(0));
    let second = Duration::from_secs(1);
    let phases: Vec<_> = (0..500).map(|_| pace.phase(at(0), second)).collect();
    assert_eq!(phases[..4], [Duration::ZERO; 4]);
    let mut tenths = [0; 6];
    for phase in &phases {
        tenths[usize::try_from(phase.as_millis() / 100).unwrap()] += 1;
    }
    assert!(
        tenths.iter().all(|&count| (65..=125).contains(&count)),
        "{tenths:?}"
    );
}

/// What a crowd of traces does that all begin at once: who was sent his first round by when, who never was.
fn crowd(count: u16, budget: u32, urgent: bool, live: u16) -> Vec<Duration> {
    let class = |trace: &Trace| match (urgent, trace.is_in_first_round()) {
        (true, true) => Class::Snapshot,
        (true, false) => Class::Urgent,
        (false, true) => Class::First,
        (false, false) if trace.is_target_next() => Class::Target,
        (false, false) => Class::Hop,
    };
    let mut pace = Pace::new(budget, at(0));
    let plan = Plan {
        target: [192, 0, 2, 1].into(),
        first_ttl: 1,
        last_ttl: 30,
        rounds: Some(3),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(3),
        keep: Keep::Sums,
    };
    let mut traces: Vec<Trace> = (0..count)
        .map(|_| Trace::new(plan, at(0) + pace.phase(at(0), plan.interval)))
        .collect();
    for (id, trace) in traces.iter().enumerate() {
        pace.alarm((u16::try_from(id).unwrap(), 0), trace.due().unwrap());
    }
    let opening = if urgent {
        Class::Snapshot
    } else {
        Class::First
    };
    (0..count).for_each(|_| pace.begins(opening));
    let mut firsts = vec![None; traces.len()];
    // Of those before, there is always one that waits, of each class.
    for other in 0..live {
        let class = [Class::Urgent, Class::Target, Class::Hop][usize::from(other % 3)];
        pace.wait((other, 1), class);
    }
    for millis in 0..4_000 {
        let now = at(millis * 1_000);
        while let Some((key, _)) = pace.ring(now) {
            pace.wait(key, class(&traces[usize::from(key.0)]));
        }
        while let Some((id, kind)) = pace.next(now) {
            if kind == 1 {
                pace.spent();
                pace.wait(
                    (id, 1),
                    [Class::Urgent, Class::Target, Class::Hop][usize::from(id % 3)],
                );
                continue;
            }
            let trace = &mut traces[usize::from(id)];
            trace.hurry(now, pace.wait_to_begin(class(trace)));
            if trace.take(now).is_some() {
                pace.spent();
            }
            if !trace.is_in_first_round() && firsts[usize::from(id)].is_none() {
                firsts[usize::from(id)] = Some(now.since(at(0)));
                pace.began(opening);
            }
            if let Some(due) = trace.due() {
                pace.alarm((id, 0), due);
            }
        }
    }
    firsts.into_iter().map(Option::unwrap).collect()
}

#[test]
fn every_first_round_is_over_within_two_seconds_whatever_else_is_wanted() {
    for (count, budget) in [(1, 10), (7, 10), (600, 800), (600, 2_000), (1_500, 2_000)] {
        for urgent in [false, true] {
            for live in [0, 2_000] {
                let firsts = crowd(count, budget, urgent, live);
                let last = firsts.iter().max().unwrap();
                assert!(
                    *last <= Duration::from_secs(2),
                    "{count} with {budget} a second, urgent {urgent}, {live} live: {last:?}"
                );
            }
        }
    }
}
