use super::*;
use crate::chance::Chance;
use crate::report::{Instant, PartName, Responder};
use crate::statistics::Statistics;

const NOW: Instant = Instant {
    unix_ms: 0,
    offset: 0,
};

fn address(ttl: u8) -> IpAddr {
    IpAddr::from([10, 0, ttl, 1])
}

/// A hop that was sent `sent` and lost `lost`, with these round trips; silent when it lost all.
fn hop(ttl: u8, lost: u32, sent: u32, times: &[u32]) -> Hop {
    let mut statistics = Statistics::default();
    times.iter().for_each(|&it| statistics.add(it));
    let received = sent - lost;
    let responder = Responder {
        address: address(ttl),
        received,
        statistics,
        mpls: Vec::new(),
        unreachable: None,
    };
    Hop {
        ttl,
        own: Counts {
            sent,
            received,
            ..Counts::default()
        },
        responders: Some(responder)
            .filter(|_| received > 0)
            .into_iter()
            .collect(),
        statistics,
        ..Hop::default()
    }
}

fn part(reached: bool, hops: Vec<Hop>) -> Part {
    Part {
        name: PartName::Run,
        started_at: NOW,
        ended_at: NOW,
        rounds: 1,
        reached,
        hops,
    }
}

/// `lost/sent` for each hop from the first on; the target last.
fn path(reached: bool, counts: &[(u32, u32)]) -> Part {
    let hops = counts
        .iter()
        .zip(1..)
        .map(|(&(lost, sent), ttl)| hop(ttl, lost, sent, &[]));
    part(reached, hops.collect())
}

fn place(ttl: u8) -> Place {
    Place {
        ttl,
        address: Some(address(ttl)),
    }
}

fn english(part: &Part, baseline: Option<&Part>, faults: &[Fault]) -> String {
    decide(part, baseline, faults, None).sentence(Language::English)
}

#[test]
fn each_picture_has_its_sentence() {
    let clean = path(true, &[(0, 60), (0, 60), (0, 60), (0, 60)]);
    for (counts, reached, baseline, sentence) in [
        (
            vec![(0, 100), (0, 100), (0, 100)],
            true,
            None,
            "No loss at the target (0 of 100 lost, 95 % CI of the loss 0–3.7 %).",
        ),
        (
            vec![(0, 100), (0, 100), (19, 100), (12, 100), (17, 100)],
            true,
            None,
            "Loss of 17 % (17 of 100, 95 % CI of the loss 11–26 %), beginning between hop 2 (10.0.2.1) and hop 3 (10.0.3.1) \
             and continuing to the target; direction unknown from one end.",
        ),
        (
            vec![(0, 100), (0, 100), (55, 100), (0, 100), (0, 100)],
            true,
            None,
            "No loss at the target (0 of 100 lost, 95 % CI of the loss 0–3.7 %); hop 3 (10.0.3.1) only limits its own \
             ICMP answers (55 of 100 missing, fewer behind it), which is no loss of the path.",
        ),
        (
            vec![(0, 10), (0, 10), (0, 10), (1, 10)],
            true,
            None,
            "Loss of 10 % (1 of 10, 95 % CI of the loss 1.8–40 %); too few packets to say from which hop on; \
             direction unknown from one end.",
        ),
        (
            vec![
                (0, 100),
                (100, 100),
                (0, 100),
                (100, 100),
                (30, 100),
                (31, 100),
            ],
            true,
            None,
            "Loss of 31 % (31 of 100, 95 % CI of the loss 23–41 %), beginning between hop 3 (10.0.3.1) and hop 5 (10.0.5.1) \
             and continuing to the target; direction unknown from one end.",
        ),
        (
            vec![(0, 10), (0, 10), (10, 10), (10, 10)],
            false,
            None,
            "Silent from hop 3 on (0 of 10 probes answered, 95 % CI of the loss 72–100 %); the last that answers is \
             hop 2 (10.0.2.1).",
        ),
        (
            vec![(0, 10), (0, 10), (10, 10), (10, 10)],
            false,
            Some(&clean),
            "Blackhole after hop 2 (10.0.2.1): 0 of 10 probes answered behind it (95 % CI of the loss 72–100 %), while \
             the target had answered 60 of 60 before.",
        ),
        (
            vec![(10, 10), (10, 10)],
            false,
            Some(&clean),
            "Blackhole after this machine: 0 of 10 probes answered behind it (95 % CI of the loss 72–100 %), while \
             the target had answered 60 of 60 before.",
        ),
        (
            vec![(0, 1), (0, 1), (1, 1), (1, 1)],
            false,
            None,
            "Loss of 100 % (1 of 1, 95 % CI of the loss 21–100 %); too few packets to say from which hop on; \
             direction unknown from one end.",
        ),
        (
            vec![(0, 100), (0, 100), (0, 100), (40, 100)],
            true,
            None,
            "Loss of 40 % (40 of 100, 95 % CI of the loss 31–50 %), beginning between hop 3 (10.0.3.1) and hop 4 (10.0.4.1), \
             the target, which may also limit its own answers; direction unknown from one end.",
        ),
        (Vec::new(), false, None, "No probe went to the target."),
    ] {
        assert_eq!(english(&path(reached, &counts), baseline, &[]), sentence);
    }
}

#[test]
fn the_chinese_sentence_says_the_same() {
    let lossy = path(true, &[(0, 100), (0, 100), (19, 100), (12, 100), (17, 100)]);
    let verdict = decide(&lossy, None, &[], None);
    assert_eq!(
        verdict.sentence(Language::Chinese),
        "丢包率 17%（100 个丢 17 个，丢包率 95% 置信区间 11–26%），始于第 2 跳（10.0.2.1）与第 3 跳（10.0.3.1）之间，并持续到目标；\
         单端测量无法判断方向。"
    );
    let limited = path(true, &[(0, 100), (55, 100), (0, 100)]);
    assert_eq!(
        decide(&limited, None, &[], None).sentence(Language::Chinese),
        "目标无丢包（100 个探测包全部应答，丢包率 95% 置信区间 0–3.7%）；第 2 跳（10.0.2.1）仅限制自身 ICMP 应答\
         （100 个缺 55 个，其后各跳更少），并非链路丢包。"
    );
}

#[test]
fn what_this_machine_may_have_lost_is_not_blamed_on_the_network() {
    let lossy = path(true, &[(0, 100), (20, 100), (20, 100)]);
    let overflow = [Fault::SocketOverflow { dropped: 7 }];
    let verdict = decide(&lossy, None, &overflow, None);
    assert_eq!(
        (verdict.loss.as_ref(), verdict.doubted.as_slice()),
        (None, &overflow[..])
    );
    assert_eq!(
        verdict.sentence(Language::English),
        "No verdict on the network: this machine may have made the loss itself (the receive buffer overflowed, \
         7 answers were thrown away); measure again."
    );
    // A fault that cannot lose anything takes nothing away, nor does one where nothing was lost.
    let refused = [Fault::Unsent {
        probes: 3,
        reason: "no buffer space".into(),
    }];
    assert!(matches!(
        decide(&lossy, None, &refused, None).loss,
        Some(Loss::From { .. })
    ));
    let clean = path(true, &[(0, 100), (0, 100)]);
    assert!(matches!(
        decide(&clean, None, &overflow, None).loss,
        Some(Loss::None { .. })
    ));
}

#[test]
fn a_router_that_refuses_is_named_with_what_it_says() {
    let mut refused = path(false, &[(0, 10), (0, 10), (10, 10)]);
    refused.hops[1].responders[0].unreachable = Some(Unreachable::Host);
    assert_eq!(
        english(&refused, None, &[]),
        "Refused: hop 2 (10.0.2.1) answers that the host is unreachable and goes no further."
    );
}

#[test]
fn numbers_of_a_group_decide_nothing() {
    let mut joint = path(true, &[(0, 10), (0, 10), (0, 10)]);
    joint.hops[0].group = Some(Counts {
        sent: 1000,
        received: 100,
        ..Counts::default()
    });
    assert!(decide(&joint, None, &[], None).limited.is_empty());
}

#[test]
fn a_direction_needs_the_counts_of_both_ends() {
    let lossy = path(true, &[(0, 100), (20, 100), (20, 100)]);
    let tally = |lost| Tally { lost, sent: 100 };
    for (forward, back, direction) in [
        (20, 0, Some(Direction::Forward)),
        (1, 20, Some(Direction::Back)),
        (11, 12, Some(Direction::Both)),
        (1, 0, None),
    ] {
        let both_ends = BothEnds {
            forward: tally(forward),
            back: tally(back),
        };
        let verdict = decide(&lossy, None, &[], Some(both_ends));
        assert_eq!(verdict.direction, direction, "{forward} and {back}");
    }
    assert_eq!(decide(&lossy, None, &[], None).direction, None);
    // Also where nothing answers any more.
    let silent = path(false, &[(0, 10), (10, 10), (10, 10)]);
    let both_ends = BothEnds {
        forward: tally(100),
        back: tally(0),
    };
    let verdict = decide(&silent, None, &[], Some(both_ends));
    assert_eq!(verdict.direction, Some(Direction::Forward));
    assert!(
        verdict
            .sentence(Language::English)
            .ends_with("; the counts of both ends show it on the way to the target.")
    );
    let verdict = decide(&silent, None, &[], None);
    assert!(!verdict.sentence(Language::English).contains("direction"));
}

/// Round trips around `millis`, one below and one above in turn.
fn around(millis: u32, count: u32) -> Vec<u32> {
    (0..count).map(|it| millis * 1000 + it % 2 * 1000).collect()
}

#[test]
fn latency_is_placed_where_it_begins_and_stays() {
    let timed = |millis: [u32; 4]| {
        let hops = millis
            .iter()
            .zip(1..)
            .map(|(&millis, ttl)| hop(ttl, 0, 20, &around(millis, 20)));
        part(true, hops.collect())
    };
    let before = timed([1, 5, 10, 20]);
    let of = |part: &Part, faults: &[Fault]| decide(part, Some(&before), faults, None).latency;
    let rise = of(&timed([1, 5, 60, 71]), &[]).expect("it is found");
    assert_eq!(
        (rise.after, rise.by, rise.against),
        (place(2), place(3), Against::Baseline)
    );
    assert!((rise.excess - 51_000.0).abs() < 1.0);
    // One hop alone is slow to answer; that is nothing.
    assert_eq!(of(&timed([1, 90, 10, 20]), &[]), None);
    assert_eq!(
        of(&timed([1, 90, 60, 70]), &[]).map(|it| it.after),
        Some(place(1))
    );
    assert_eq!(of(&timed([1, 5, 10, 29]), &[]), None, "below the bound");
    let starved = [Fault::Starved { longest_ms: 80 }];
    assert_eq!(of(&timed([1, 5, 60, 70]), &starved), None);
    // Without a baseline only what varies counts: a long line is no fault.
    assert_eq!(
        decide(&timed([1, 5, 150, 160]), None, &[], None).latency,
        None
    );
    let queue: Vec<u32> = (0..40).map(|it| 20_000 + it % 8 * 10_000).collect();
    let queued = part(
        true,
        vec![hop(1, 0, 40, &around(1, 40)), hop(2, 0, 40, &queue)],
    );
    let found = decide(&queued, None, &[], None)
        .latency
        .expect("it is found");
    assert_eq!(
        (found.after, found.by, found.against),
        (place(1), place(2), Against::Best)
    );
}

fn lost(chance: &mut Chance, share: f64, sent: u32) -> u32 {
    let lost = (0..sent).filter(|_| chance.share() < share).count();
    u32::try_from(lost).expect("at most what was sent")
}

#[test]
fn the_onset_is_found_or_left_open_and_rarely_wrong() {
    const HOPS: u8 = 8;
    const TIMES: u32 = 100;
    let mut chance = Chance(6);
    let (mut said, mut wrong) = (0, 0);
    for sent in [10, 30, 100, 300] {
        for share in [0.03, 0.1, 0.2, 0.5] {
            let (mut exact, mut wrong_here, mut said_here) = (0, 0, 0);
            for time in 0..TIMES {
                let onset = u8::try_from(time).expect("small") % HOPS + 1;
                // Every other path has a router in it that limits its answers.
                let limited = (time % 2 == 0).then_some(onset % (HOPS - 1) + 1);
                let counts: Vec<(u32, u32)> = (1..=HOPS)
                    .map(|ttl| {
                        let carried = if ttl >= onset { share } else { 0.0 };
                        let own = if limited == Some(ttl) { 0.6 } else { 0.0 };
                        (
                            lost(&mut chance, 1.0 - (1.0 - carried) * (1.0 - own), sent),
                            sent,
                        )
                    })
                    .collect();
                if let Some(Loss::From {
                    after,
                    by,
                    exact: is_exact,
                    ..
                }) = decide(&path(true, &counts), None, &[], None).loss
                {
                    said_here += 1;
                    wrong_here +=
                        u32::from(after.ttl >= onset || by.ttl < onset && Some(onset) != limited);
                    exact += u32::from(is_exact);
                }
            }
            println!(
                "{sent} probes, loss {share}: placed {said_here}, exactly {exact}, wrong {wrong_here} of {TIMES}"
            );
            assert!(wrong_here <= TIMES / 10, "{sent} probes, loss {share}");
            if f64::from(sent) * share >= 20.0 {
                assert!(
                    exact >= TIMES * 9 / 10,
                    "{sent} probes, loss {share}: {exact}"
                );
            }
            said += said_here;
            wrong += wrong_here;
        }
    }
    assert!(
        wrong * 100 <= said * 4,
        "{wrong} of {said} onsets are wrong"
    );
}
