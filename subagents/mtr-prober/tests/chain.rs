//! The engine on real networks: what it reports is what happened, packet by packet.
//!
//! Needs root, `unshare`, `nsenter`, `ip` and `nft`; says aloud when it cannot run.

#[path = "support/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mtr_prober::engine::{
    Counters, Engine, Event, Fate, Handle, News, Ping, Results, Settings, Spec, Urgency,
};
use mtr_prober::packet;
use mtr_prober::report::{Fault, Part, Report};
use mtr_prober::socket::Source;
use mtr_prober::trace::{Keep, Plan};
use mtr_prober::verdict::{self, Loss};
use world::{Chain, Limits, cable, cannot_run};

/// For what takes milliseconds where the machine does nothing else.
const SOON: Duration = Duration::from_secs(60);

const SECOND: Duration = Duration::from_secs(1);

fn spec(target: &str, rounds: u32, interval_ms: u64) -> Spec {
    Spec {
        plan: Plan {
            target: target.parse().expect("an address"),
            first_ttl: 1,
            last_ttl: 30,
            rounds: Some(rounds),
            interval: Duration::from_millis(interval_ms),
            timeout: Duration::from_secs(3),
            keep: Keep::Timeline,
        },
        source: Source::default(),
        size: 64,
        urgency: Urgency::Usual,
    }
}

fn wide() -> Settings {
    Settings {
        budget: 50_000,
        responder_rate: None,
        ..Settings::default()
    }
}

/// Waits until all have ended.
fn ends(events: &Receiver<Event>, handles: &[Handle]) -> BTreeMap<Handle, Results> {
    let mut ended = BTreeMap::new();
    let until = Instant::now() + SOON;
    while ended.len() < handles.len() {
        let left = until.saturating_duration_since(Instant::now());
        match events.recv_timeout(left).expect("they end in time") {
            Event::Ended {
                handle, results, ..
            } => {
                ended.insert(handle, *results);
            }
            Event::Pings { .. } => {}
        }
    }
    ended
}

/// Measures one after it was begun on a namespace's engine; `meanwhile` runs beside it.
fn measure(chain: &Chain, spec: Spec, meanwhile: impl FnOnce() + Send) -> (Results, Counters) {
    chain.source().within(move || {
        let (engine, events) = Engine::start(wide()).expect("root");
        let handle = engine.begin(spec).expect("a place");
        meanwhile();
        let results = ends(&events, &[handle]).remove(&handle).expect("it ended");
        (results, engine.counters().expect("it lives"))
    })
}

fn part(results: &Results) -> &Part {
    results.part.as_ref().expect("something was measured")
}

/// Who answered in each row, the most frequent alone.
fn path(part: &Part) -> Vec<String> {
    let rows = part.hops.iter().map(|hop| hop.responders.first());
    rows.map(|first| first.map_or("???".into(), |responder| responder.address.to_string()))
        .collect()
}

fn losses(part: &Part) -> Vec<u32> {
    part.hops.iter().map(|hop| hop.own.lost()).collect()
}

/// Faults that the network or we would be to blame for; that the machine was busy is not one.
fn own_faults(results: &Results) -> Vec<&Fault> {
    let faults = results.faults.iter();
    faults
        .filter(|fault| {
            !matches!(
                fault,
                Fault::Starved { .. } | Fault::Throttled { .. } | Fault::Stretched { .. }
            )
        })
        .collect()
}

#[test]
fn a_clean_chain_is_reported_clean_by_both_families() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(5, Limits::Lifted);
    let (results, counters) = measure(&chain, spec(&chain.target(), 10, 200), || {});
    assert_eq!(path(part(&results)), chain.path());
    assert_eq!(losses(part(&results)), [0; 6]);
    assert_eq!(own_faults(&results), [] as [&Fault; 0]);
    assert!(part(&results).reached);
    assert_eq!((counters.sent, counters.foreign), (counters.received, 0));

    let (results, counters) = measure(&chain, spec("fd00:5::2", 10, 200), || {});
    let expected: Vec<_> = (0..6)
        .map(|at| format!("fd00:{at}::2").replace(":0::", "::"))
        .collect();
    assert_eq!(path(part(&results)), expected);
    assert_eq!(losses(part(&results)), [0; 6]);
    assert_eq!((counters.sent, counters.foreign), (counters.received, 0));
}

#[test]
fn loss_on_the_way_out_is_what_nft_dropped_row_by_row() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(5, Limits::Lifted);
    // The third router has taken 3 from the TTL where it forwards.
    let rules: String = (1..=3)
        .map(|ttl| {
            format!(
                "add counter ip t row{row}\n\
                 add rule ip t f ip daddr 10.0.5.2 ip ttl {ttl} numgen random mod 100 < 30 counter name row{row} drop\n",
                row = ttl + 3
            )
        })
        .collect();
    let router = &chain.nodes[3];
    router.nft(&format!(
        "add table ip t\nadd chain ip t f {{ type filter hook forward priority 0; }}\n{rules}"
    ));
    let (results, _) = measure(&chain, spec("10.0.5.2", 40, 50), || {});
    let dropped: Vec<u64> = (4..=6)
        .map(|row| router.counted(&format!("row{row}")))
        .collect();
    // Rows beyond the target had probes in the first round only.
    let lost: Vec<u64> = losses(part(&results)).into_iter().map(u64::from).collect();
    assert_eq!(lost[..3], [0; 3]);
    assert_eq!(lost[3..], dropped);
    assert!(dropped.iter().sum::<u64>() > 10, "{dropped:?}");
    let timeline: u32 = results.timeline.iter().map(|second| second.lost).sum();
    assert_eq!(u64::from(timeline), dropped[2]);
}

#[test]
fn loss_on_the_way_back_is_what_nft_dropped_row_by_row() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(5, Limits::Lifted);
    let rules: String = (3..=6)
        .map(|row| {
            format!(
                "add counter ip t row{row}\n\
                 add rule ip t f ip saddr 10.0.{cable}.2 numgen random mod 100 < 30 counter name row{row} drop\n",
                cable = row - 1
            )
        })
        .collect();
    let router = &chain.nodes[2];
    router.nft(&format!(
        "add table ip t\nadd chain ip t f {{ type filter hook forward priority 0; }}\n{rules}"
    ));
    let (results, _) = measure(&chain, spec("10.0.5.2", 40, 50), || {});
    let lost: Vec<u64> = losses(part(&results)).into_iter().map(u64::from).collect();
    assert_eq!(lost[..2], [0; 2]);
    // The target also answers probes that went too far, before it is known to be the sixth.
    let dropped: Vec<u64> = (3..=6)
        .map(|row| router.counted(&format!("row{row}")))
        .collect();
    assert_eq!(lost[2..5], dropped[..3]);
    assert!(
        lost[5] <= dropped[3] && dropped[3] <= lost[5] + 5,
        "{lost:?} {dropped:?}"
    );
}

#[test]
fn what_routers_do_is_what_the_verdict_says() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(5, Limits::Lifted);
    let measured = || measure(&chain, spec("10.0.5.2", 40, 50), || {}).0;
    // That the machine was busy is no part of this.
    let decided = |results: &Results, before| verdict::decide(part(results), before, &[], None);

    chain.nodes[2].sh("echo 1000 >/proc/sys/net/ipv4/icmp_ratelimit");
    let limited = measured();
    let verdict = decided(&limited, None);
    assert!(
        matches!(verdict.loss, Some(Loss::None { .. })),
        "{verdict:?}"
    );
    let places: Vec<u8> = verdict.limited.iter().map(|it| it.place.ttl).collect();
    assert_eq!(places, [2]);

    let drops = |what: &str| {
        let chain = "chain ip t f { type filter hook forward priority 0; }";
        format!("add table ip t\nadd {chain}\nflush chain ip t f\nadd rule ip t f {what} drop\n")
    };
    let router = &chain.nodes[3];
    router.nft(&drops("ip daddr 10.0.5.2 numgen random mod 100 < 60"));
    let lossy = decided(&measured(), None);
    let Some(Loss::From { after, by, .. }) = lossy.loss else {
        panic!("{lossy:?}");
    };
    assert_eq!((after.ttl, by.ttl), (3, 4), "{lossy:?}");

    router.nft(&drops("ip daddr 10.0.5.2"));
    let black = decided(&measured(), Some(part(&limited)));
    let Some(Loss::Silent { after, before, .. }) = black.loss else {
        panic!("{black:?}");
    };
    assert_eq!(after.ttl, 3, "{black:?}");
    assert!(before.is_some(), "{black:?}");
}

#[test]
fn a_route_that_changes_in_mid_run_is_no_loss() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(5, Limits::Lifted);
    let (second, fifth) = (&chain.nodes[2], &chain.nodes[5]);
    cable(second, "short", fifth, "cut", "1.0", "100");
    let (results, _) = measure(&chain, spec("10.0.5.2", 30, 100), || {
        std::thread::sleep(Duration::from_secs(1));
        second.sh("ip route replace default via 10.1.0.2");
        std::thread::sleep(Duration::from_secs(1));
        second.sh("ip route replace default via 10.0.2.2");
    });
    let part = part(&results);
    assert_eq!(losses(part), [0; 6], "{part:#?}");
    let thirds: Vec<_> = part.hops[2].responders.iter().collect();
    assert_eq!(thirds.len(), 2, "{thirds:?}");
    assert!(part.reached);
    assert!(results.timeline.iter().all(|second| second.lost == 0));
}

#[test]
fn a_line_that_is_cut_is_told_from_loss_and_measured_again_once_it_is_back() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(2, Limits::Lifted);
    let source = chain.source();
    let (results, _) = measure(&chain, spec(&chain.target(), 100, 100), || {
        std::thread::sleep(Duration::from_secs(1));
        source.sh("ip link set right down");
        std::thread::sleep(Duration::from_secs(1));
        source.sh("ip link set right up; ip route add default via 10.0.0.2");
    });
    let part = part(&results);
    assert!(part.reached, "{part:#?}");
    let target = part.hops.last().expect("rows");
    assert!(
        target.own.unsent > 0 && target.own.received > 20,
        "{target:#?}"
    );
    // What the kernel did not take was not lost; what was on its way just then may be.
    assert!(losses(part).iter().sum::<u32>() <= 6, "{part:#?}");
    let mut faults = results.faults.iter();
    let is_told = faults.any(|fault| matches!(fault, Fault::Unsent { probes: 1.., .. }));
    assert!(is_told, "{:?}", results.faults);
    let last = results.timeline.last().expect("seconds");
    assert!(last.sent > 0 && last.lost == 0, "{:?}", results.timeline);
}

#[test]
fn a_translator_on_the_way_mixes_nothing_up() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(5, Limits::Lifted);
    chain.nodes[1].nft(
        "add table ip t\nadd chain ip t n { type nat hook postrouting priority 100; }\n\
         add rule ip t n oifname right masquerade fully-random\n",
    );
    for (at, node) in chain.nodes.iter().enumerate().skip(3) {
        node.sh(&format!("ip route add 10.0.1.0/24 via 10.0.{}.1", at - 1));
    }
    let results = many(&chain, wide(), 20, 3);
    for (target, results) in &results {
        let mut expected = chain.path();
        expected[5] = target.to_string();
        assert_eq!(path(part(results)), expected);
        assert_eq!(losses(part(results)), [0; 6]);
    }
}

/// Measures the way to so many of the target's addresses at once.
fn many(chain: &Chain, settings: Settings, count: u16, rounds: u32) -> Vec<(IpAddr, Results)> {
    chain.source().within(|| {
        let (engine, events) = Engine::start(settings).expect("root");
        let targets =
            (0..count).map(|at| IpAddr::from([10, 99, (at / 250) as u8, (at % 250) as u8 + 1]));
        let begun: Vec<_> = targets
            .map(|target| {
                let handle = engine.begin(spec(&target.to_string(), rounds, 1_000));
                (target, handle.expect("a place"))
            })
            .collect();
        let handles: Vec<_> = begun.iter().map(|(_, handle)| *handle).collect();
        let mut ended = ends(&events, &handles);
        let counters = engine.counters().expect("it lives");
        assert_eq!(
            (counters.foreign, counters.dropped, counters.live),
            (0, 0, 0)
        );
        let begun = begun.into_iter();
        begun
            .map(|(target, handle)| (target, ended.remove(&handle).expect("it ended")))
            .collect()
    })
}

#[test]
fn six_hundred_at_once_lose_nothing_and_mix_nothing_up() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(5, Limits::Lifted);
    for (target, results) in many(&chain, wide(), 600, 4) {
        let mut expected = chain.path();
        expected[5] = target.to_string();
        assert_eq!(path(part(&results)), expected);
        assert_eq!(losses(part(&results)), [0; 6]);
        assert_eq!(own_faults(&results), [] as [&Fault; 0]);
        assert_eq!(part(&results).rounds, 4);
    }
}

#[test]
fn the_source_chooses_the_line() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(2, Limits::Lifted);
    let (source, second) = (chain.source(), &chain.nodes[2]);
    cable(source, "other", second, "back", "7.0", "700");
    source.sh(
        "ip route add default via 10.7.0.2 table 100; ip rule add from 10.7.0.1 lookup 100; \
         ip rule add oif other lookup 100",
    );
    chain.nodes[3].sh("ip route add 10.7.0.0/24 via 10.0.2.1");
    let by = |which: &str| {
        let mut spec = spec("10.0.2.2", 2, 200);
        spec.source = source.within(|| Source::parse(which).expect("it is there"));
        let address = source.within(|| spec.source.address_to(spec.plan.target));
        let (results, _) = measure(&chain, spec, || {});
        assert_eq!(losses(part(&results)), vec![0; part(&results).hops.len()]);
        (path(part(&results)), address.expect("a route").to_string())
    };
    let usual: Vec<String> = ["10.0.0.2", "10.0.1.2", "10.0.2.2"]
        .map(String::from)
        .into();
    let other: Vec<String> = ["10.7.0.2", "10.0.2.2"].map(String::from).into();
    assert_eq!(by("10.0.0.1"), (usual.clone(), "10.0.0.1".into()));
    assert_eq!(by("right"), (usual, "10.0.0.1".into()));
    assert_eq!(by("10.7.0.1"), (other.clone(), "10.7.0.1".into()));
    assert_eq!(by("other"), (other, "10.7.0.1".into()));
}

/// A program beside us, ended with its test.
struct Beside(Child);

impl Beside {
    fn start(command: &mut Command) -> Self {
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .stdin(Stdio::null());
        Self(command.spawn().expect("it is installed"))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn other_programs_neither_wake_us_nor_are_taken_for_ours() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(5, Limits::Lifted);
    let source = chain.source();
    let _beside = [
        Beside::start(
            source
                .command("mtr")
                .args(["-n", "-r", "-c", "100", "-i", "0.1", "10.0.5.2"]),
        ),
        Beside::start(source.command("ping").args(["-i", "0.01", "10.0.5.2"])),
        Beside::start(
            source
                .command("fping")
                .args(["-l", "-p", "10", "10.0.5.2", "10.99.0.1"]),
        ),
    ];
    let (results, counters) = measure(&chain, spec("10.0.5.2", 20, 100), || {});
    assert_eq!(path(part(&results)), chain.path());
    assert_eq!(losses(part(&results)), [0; 6]);
    // A quote of mtr's is all zeros, as one that was cut off and filled up: one in eight processes has
    // identifiers in our range, and of these we see the quotes. They are told apart by their sum.
    assert_eq!(counters.received - counters.foreign, counters.sent);
}

#[test]
fn a_full_receive_buffer_marks_the_report() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(5, Limits::Lifted);
    let found = chain.source().within(|| {
        let settings = Settings {
            budget: 200_000,
            responder_rate: None,
            receive_buffer: 2_048,
        };
        let (engine, events) = Engine::start(settings).expect("root");
        let handles: Vec<_> = (1..=250)
            .map(|last| {
                let mut spec = spec(&format!("10.99.0.{last}"), 3, 200);
                spec.urgency = Urgency::Urgent;
                engine.begin(spec).expect("a place")
            })
            .collect();
        let ended = ends(&events, &handles);
        assert!(engine.counters().expect("it lives").dropped > 0);
        ended
    });
    let marked = |results: &&Results| {
        let mut faults = results.faults.iter();
        faults.any(|fault| matches!(fault, Fault::SocketOverflow { dropped: 1.. }))
    };
    for results in found.values() {
        let lost: u32 = losses(part(results)).iter().sum();
        assert!(lost == 0 || marked(&results), "{results:#?}");
    }
    assert!(found.values().any(|results| marked(&results)));
}

#[test]
fn what_the_kernel_refuses_is_neither_sent_nor_lost() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(2, Limits::Lifted);
    chain.source().nft(
        "add table ip t\nadd chain ip t o { type filter hook output priority 0; }\n\
         add rule ip t o ip daddr 10.0.2.2 ip ttl 2 drop\n",
    );
    let (results, _) = measure(&chain, spec("10.0.2.2", 5, 200), || {});
    let part = part(&results);
    assert_eq!(losses(part), [0; 3]);
    assert_eq!((part.hops[1].own.sent, part.hops[1].own.unsent), (0, 5));
    let unsent = results.faults.iter().find_map(|fault| match fault {
        Fault::Unsent { probes, reason } => Some((*probes, reason.contains("permitted"))),
        _ => None,
    });
    assert_eq!(unsent, Some((5, true)), "{:?}", results.faults);
}

#[test]
fn a_probe_too_large_for_a_line_goes_in_pieces_beside_small_ones() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(1, Limits::Lifted);
    for (node, end) in chain.nodes.iter().zip(["right", "left"]) {
        node.sh(&format!("ip link set {end} mtu 1000"));
    }
    let large = Spec {
        size: 1_400,
        ..spec("10.0.1.2", 3, 200)
    };
    chain.source().within(|| {
        let (engine, events) = Engine::start(wide()).expect("root");
        // The small ones are there before, beside and after.
        let small = engine.begin(spec("10.0.1.2", 20, 200)).expect("a place");
        for _ in 0..2 {
            let handle = engine.begin(large.clone()).expect("a place");
            let results = &ends(&events, &[handle])[&handle];
            assert_eq!(losses(part(results)), [0; 2]);
            assert_eq!(part(results).hops[1].own.received, 3);
            assert_eq!(own_faults(results), Vec::<&Fault>::new());
        }
        let results = &ends(&events, &[small])[&small];
        assert_eq!(losses(part(results)), [0; 2]);
        assert_eq!(own_faults(results), Vec::<&Fault>::new());
    });
}

#[test]
fn each_ping_has_one_fate_and_what_it_says_is_heard_by_the_other_engine() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(2, Limits::Lifted);
    let mut said = [7; packet::SAID];
    said[..4].copy_from_slice(&packet::SAYS);
    let ping = |peer: u16, target: &str, tag| Ping {
        peer,
        target: target.parse().expect("an address"),
        source: Source::default(),
        patience: SECOND,
        tag,
        said: Some(said),
    };
    let fates = |events: &Receiver<Event>, count: usize| {
        let (mut fates, until) = (BTreeMap::new(), Instant::now() + SOON);
        while fates.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            let Event::Pings { news, .. } = events.recv_timeout(left).expect("told") else {
                continue;
            };
            for it in news {
                if let News::Fate {
                    peer, tag, fate, ..
                } = it
                {
                    assert_eq!(fates.insert((peer, tag), fate), None, "told once");
                }
            }
        }
        fates
    };
    let target = &chain.nodes[3];
    let (other, _events) = target.within(|| Engine::start(wide()).expect("root"));
    let (to, heard) = channel();
    other
        .listen(Arc::new(move |it| drop(to.send(it))))
        .expect("it takes it");
    chain.source().within(|| {
        let (engine, _events) = Engine::start(wide()).expect("root");
        let (to, events) = channel();
        engine
            .listen(Arc::new(move |it| drop(to.send(it))))
            .expect("it takes it");
        engine.ping(vec![ping(3, "10.0.2.2", 1)]).expect("taken");
        let found = fates(&events, 1);
        // When it left is not known where the machine stood still just then.
        assert!(matches!(found[&(3, 1)], Fate::Answered(_)), "{found:?}");
        // IPv6 looks for its neighbours for seconds.
        let known = (1..60).find(|&tag| {
            let pinged = engine.ping(vec![ping(8_000, "fd00:2::2", tag)]);
            pinged.expect("taken");
            fates(&events, 1)[&(8_000, tag)] != Fate::Lost
        });
        assert!(known.is_some(), "IPv6 is not answered");
        target.nft(
            "add table ip t\nadd chain ip t i { type filter hook input priority 0; }\n\
             add rule ip t i icmp type echo-request drop\n",
        );
        engine.ping(vec![ping(3, "10.0.2.2", 2)]).expect("taken");
        assert_eq!(fates(&events, 1)[&(3, 2)], Fate::Lost);
        // What a rule of our own refuses is not lost; what has no way is.
        chain.source().nft(
            "add table ip t\nadd chain ip t o { type filter hook output priority 0; }\n\
             add rule ip t o icmp type echo-request drop\n",
        );
        engine.ping(vec![ping(3, "10.0.2.2", 3)]).expect("taken");
        assert_eq!(fates(&events, 1)[&(3, 3)], Fate::Unsent);
        chain.source().sh("ip link set right down");
        engine.ping(vec![ping(3, "10.0.2.2", 4)]).expect("taken");
        assert_eq!(fates(&events, 1)[&(3, 4)], Fate::Lost);
        assert_eq!(engine.backlog(), 0);
    });
    let mut words = 0;
    while words < 2 {
        let Event::Pings { news, .. } = heard.recv_timeout(SOON).expect("heard") else {
            continue;
        };
        for it in news {
            assert!(matches!(it, News::Said(it) if *it == said));
            words += 1;
        }
    }
}

#[test]
fn an_idle_engine_sleeps() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(1, Limits::Lifted);
    let (_, before) = measure(&chain, spec("10.0.1.2", 1, 200), || {});
    assert!(before.wakes > 0);
    chain.source().within(|| {
        let (engine, _events) = Engine::start(wide()).expect("root");
        let first = engine.counters().expect("it lives").wakes;
        std::thread::sleep(Duration::from_secs(2));
        let second = engine.counters().expect("it lives").wakes;
        // Each question wakes it once or twice.
        assert!(second - first <= 3, "{first} {second}");
    });
}

#[test]
fn the_command_prints_what_it_measured_also_when_it_is_stopped() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(2, Limits::Lifted);
    let program = env!("CARGO_BIN_EXE_mtr-prober");
    let trace = |words: &[&str]| {
        let mut command = chain.source().command(program);
        command.arg("trace").args(words);
        command
    };
    let output = trace(&["10.0.2.2", "--count", "3", "--interval", "0.2"])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows: Vec<_> = text
        .lines()
        .skip(2)
        .filter_map(|row| row.get(..40))
        .collect();
    assert_eq!(rows.len(), 3, "{text}");
    assert!(
        rows[2].starts_with("  3.|-- 10.0.2.2 ") && rows[2].trim_end().ends_with("0.0%"),
        "{text}"
    );

    // As from a terminal's Ctrl-C.
    let mut child = trace(&["10.0.2.2", "--count", "1000", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    std::thread::sleep(Duration::from_secs(1));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it runs");
    let output = std::io::read_to_string(child.stdout.take().expect("piped")).expect("text");
    assert!(child.wait().expect("it ends").success());
    let report: Report = serde_json::from_str(&output).expect("a report");
    assert_eq!(serde_json::to_value(report.state).expect("text"), "stopped");
    assert_eq!(losses(&report.parts[0]), [0; 3]);

    let refused = trace(&["10.0.2.2", "--source", "nowhere"])
        .output()
        .expect("it runs");
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("no interface \"nowhere\""), "{error}");
    chain.source().sh("ip route del default");
    let refused = trace(&["192.0.2.1"]).output().expect("it runs");
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("no route to 192.0.2.1"), "{error}");
}

#[test]
fn a_program_that_is_not_run_says_so() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(1, Limits::Lifted);
    let mut command = chain.source().command(env!("CARGO_BIN_EXE_mtr-prober"));
    let words = [
        "trace",
        "10.0.1.2",
        "--count",
        "12",
        "--interval",
        "0.2",
        "--json",
    ];
    let mut child = command
        .args(words)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    std::thread::sleep(Duration::from_millis(500));
    for signal in [
        nix::sys::signal::Signal::SIGSTOP,
        nix::sys::signal::Signal::SIGCONT,
    ] {
        nix::sys::signal::kill(pid, signal).expect("it runs");
        std::thread::sleep(Duration::from_millis(700));
    }
    let output = std::io::read_to_string(child.stdout.take().expect("piped")).expect("text");
    assert!(child.wait().expect("it ends").success());
    let report: Report = serde_json::from_str(&output).expect("a report");
    let mut faults = report.faults.iter();
    let starved = faults.any(|fault| matches!(fault, Fault::Starved { longest_ms: 300.. }));
    assert!(starved, "{:?}", report.faults);
    assert_eq!(losses(&report.parts[0]), [0; 2]);
}

#[test]
fn routers_that_answer_once_a_second_are_shared_and_lose_nothing() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(5, Limits::Usual);
    let settings = Settings {
        responder_rate: Some(1),
        ..wide()
    };
    let (traces, seconds) = (100, 8);
    let path = chain.path();
    let mut routers = [(0, 0); 5];
    let mut joint = 0;
    for (target, results) in many(&chain, settings, traces, seconds) {
        let part = part(&results);
        assert!(part.reached, "{part:#?}");
        assert_eq!(part.hops.len(), 6);
        let last = &part.hops[5];
        assert_eq!(
            (last.own.sent > 0, last.own.lost(), last.group),
            (true, 0, None)
        );
        assert_eq!(last.responders[0].address, target);
        for (at, hop) in part.hops[..5].iter().enumerate() {
            routers[at].0 += hop.own.sent;
            routers[at].1 += hop.own.lost();
            for responder in &hop.responders {
                assert_eq!(responder.address.to_string(), path[at]);
            }
            if let Some(group) = hop.group {
                joint += 1;
                assert!(hop.own.received > 0 && group.sent >= hop.own.sent);
                let timed = hop.group_statistics.expect("with its times").timed;
                assert!(timed <= group.received);
            }
        }
    }
    let asked: u32 = routers.iter().map(|(sent, _)| sent).sum();
    let lost: u32 = routers.iter().map(|(_, lost)| lost).sum();
    eprintln!(
        "{routers:?}, {joint} rows of {} are joint",
        u32::from(traces) * 5
    );
    // None on a machine that has time, a few where it stood still at the beginning; without turns it would be 80 of 100.
    assert!(lost * 2 < asked, "{routers:?}");
    for (sent, lost) in routers {
        // 0.8 a second.
        assert!(sent - lost >= seconds * 8 / 10, "{routers:?}");
    }
    assert!(joint > 0);
}
