//! The engine on networks nobody has at home: 30 hops, delays, lines that part, labels, routers that
//! answer seldom.
//!
//! Needs root and /dev/net/tun; says aloud when it cannot run.

#[path = "support/quota.rs"]
mod quota;
#[path = "support/responder.rs"]
mod responder;
#[path = "support/sys.rs"]
mod sys;
#[path = "support/world.rs"]
#[expect(dead_code, reason = "chain.rs uses what this does not")]
mod world;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use mtr_prober::engine::{Engine, Event, Results, Settings, Spec, Urgency};
use mtr_prober::report::{Fault, Report};
use mtr_prober::socket::Source;
use mtr_prober::trace::{Keep, Plan};
use responder::{Fate, Probe, Reply, Responder};
use world::{Node, cannot_run};

const SOON: Duration = Duration::from_secs(60);

/// Where lines part, and how many there are behind it.
const PARTING: u8 = 10;
const LINES: u8 = 4;

/// Hops with labels.
const LABELLED: std::ops::RangeInclusive<u8> = 5..=7;

fn target(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    [172, 16, high, low].into()
}

fn spec(target: Ipv4Addr, rounds: u32) -> Spec {
    Spec {
        plan: Plan {
            target: target.into(),
            first_ttl: 1,
            last_ttl: 30,
            rounds: Some(rounds),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(4),
            keep: Keep::Timeline,
        },
        source: Source::default(),
        size: 64,
        urgency: Urgency::Usual,
    }
}

/// A budget, and nobody shares.
fn alone(budget: u32) -> Settings {
    Settings {
        budget,
        responder_rate: None,
        ..Settings::default()
    }
}

/// Measures the way to so many targets at once.
fn measure(node: &Node, settings: Settings, count: u16, rounds: u32) -> BTreeMap<u16, Results> {
    node.within(|| {
        let (engine, events) = Engine::start(settings).expect("root");
        let mut begun = BTreeMap::new();
        for number in 0..count {
            let handle = engine.begin(spec(target(number), rounds)).expect("a place");
            begun.insert(handle, number);
        }
        let until = Instant::now() + SOON;
        let mut ended = BTreeMap::new();
        while ended.len() < begun.len() {
            let left = until.saturating_duration_since(Instant::now());
            if let Event::Ended {
                handle, results, ..
            } = events.recv_timeout(left).expect("they end")
            {
                ended.insert(begun[&handle], *results);
            }
        }
        ended
    })
}

/// 30 hops. Behind the parting each hop has a responder for each line, and the line is chosen by the bytes
/// that routers hash.
fn parting(probe: &Probe) -> Fate {
    let hash = probe
        .first
        .iter()
        .chain(&probe.to.octets())
        .fold(7_u32, |hash, &byte| {
            hash.wrapping_mul(31).wrapping_add(byte.into())
        });
    let line = u8::try_from(hash / 8 % u32::from(LINES)).expect("few");
    let after = Duration::from_millis(20);
    match probe.ttl {
        30.. => Some((probe.to, Reply::Echo, after)),
        ttl @ 0..PARTING => {
            let labels = LABELLED
                .contains(&ttl)
                .then_some([0x0001_0001, 0x0002_01fe]);
            let labels = labels.map(Vec::from).unwrap_or_default();
            Some(([10, 1, ttl, 0].into(), Reply::Exceeded(labels), after))
        }
        ttl => Some((
            [10, 1, ttl, line].into(),
            Reply::Exceeded(Vec::new()),
            after,
        )),
    }
}

#[test]
fn one_trace_goes_one_line_and_no_row_names_another() {
    if cannot_run() {
        return;
    }
    let node = Node::new();
    let _responder = Responder::start(&node, parting);
    let mut lines = BTreeMap::new();
    for (number, results) in measure(&node, alone(50_000), 250, 3) {
        let part = results.part.expect("something was measured");
        assert_eq!(part.hops.len(), 30, "{number}: {part:#?}");
        let mut line = None;
        for hop in &part.hops {
            // On a machine that stands still the far end is found in the second round.
            assert!((1..=3).contains(&hop.own.sent), "{number}: {hop:#?}");
            assert_eq!(hop.own.lost(), 0, "{number}: {hop:#?}");
            let [only] = &hop.responders[..] else {
                panic!("{number}: {hop:#?}");
            };
            let IpAddr::V4(address) = only.address else {
                panic!("{only:?}")
            };
            let expected = match hop.ttl {
                30 => target(number),
                ttl @ 0..PARTING => [10, 1, ttl, 0].into(),
                ttl => [10, 1, ttl, *line.get_or_insert(address.octets()[3])].into(),
            };
            assert_eq!(address, expected);
            let labels: Vec<_> = only
                .mpls
                .iter()
                .map(|entry| (entry.label, entry.ttl))
                .collect();
            match LABELLED.contains(&hop.ttl) {
                true => assert_eq!(labels, [(16, 1), (32, 254)]),
                false => assert_eq!(labels, []),
            }
            // When it left is known to a millisecond, or not shown.
            assert!(
                hop.statistics.timed == 0 || hop.statistics.best >= 19_000,
                "{hop:#?}"
            );
        }
        *lines.entry(line).or_insert(0) += 1;
    }
    // Each trace is a flow of its own: all lines are used.
    assert_eq!(lines.len(), usize::from(LINES), "{lines:?}");
}

#[test]
fn above_the_budget_rounds_stretch_and_nobody_waits_to_begin() {
    if cannot_run() {
        return;
    }
    let node = Node::new();
    let _responder = Responder::start(&node, |probe| match probe.ttl {
        10.. => Some((probe.to, Reply::Echo, Duration::ZERO)),
        ttl => Some((
            [10, 1, ttl, 0].into(),
            Reply::Exceeded(Vec::new()),
            Duration::ZERO,
        )),
    });
    // 60 * 10 probes a second are wanted.
    let found = measure(&node, alone(300), 60, 4);
    let begins = found.values().filter_map(|results| results.part.as_ref());
    let begins: Vec<_> = begins.map(|part| part.started_at.unix_ms).collect();
    let spread = begins.iter().max().expect("some") - begins.iter().min().expect("some");
    assert!(spread < 10_000, "{spread} ms");
    let mut stretched = 0;
    for results in found.values() {
        let part = results.part.as_ref().expect("something was measured");
        assert!(
            part.hops
                .iter()
                .all(|hop| hop.own.lost() == 0 && hop.own.sent > 0)
        );
        let mut faults = results.faults.iter();
        stretched += u32::from(faults.any(|fault| matches!(fault, Fault::Stretched { .. })));
    }
    assert!(stretched > 50, "{stretched}");
}

#[test]
fn a_crowd_that_the_budget_is_too_small_for_has_its_first_round_all_the_same() {
    if cannot_run() {
        return;
    }
    let node = Node::new();
    let _responder = Responder::start(&node, |probe| {
        let after = Duration::from_millis(30);
        match probe.ttl {
            10.. => Some((probe.to, Reply::Echo, after)),
            ttl => Some(([10, 1, ttl, 0].into(), Reply::Exceeded(Vec::new()), after)),
        }
    });
    let began = Instant::now();
    let found = measure(&node, alone(800), 600, 1);
    let took = began.elapsed();
    let parts = found.values().filter_map(|results| results.part.as_ref());
    let parts: Vec<_> = parts.collect();
    assert_eq!(parts.iter().filter(|part| part.reached).count(), 600);
    let hops = parts.iter().flat_map(|part| &part.hops);
    let sent: u32 = hops.map(|hop| hop.own.sent).sum();
    // Whole rounds would be 6,000 probes and more.
    assert!(sent <= 1_600, "{sent}");
    // Two seconds, on a machine that has time.
    assert!(took < Duration::from_secs(20), "{took:?}");
}

/// How many routers there are at each TTL of the tree; each target has its own way down.
const TREE: [u16; 4] = [1, 5, 25, 100];

/// Who answers at this TTL on the way to a target.
fn branch(ttl: u8, target: Ipv4Addr) -> Ipv4Addr {
    let [.., high, low] = target.octets();
    match TREE.get(usize::from(ttl) - 1) {
        Some(width) => {
            let [_, number] = (u16::from_be_bytes([high, low]) % width).to_be_bytes();
            [10, 1, ttl, number].into()
        }
        None => target,
    }
}

#[test]
fn routers_of_a_tree_are_shared_and_nobody_names_one_that_is_not_on_the_way() {
    if cannot_run() {
        return;
    }
    let node = Node::new();
    // As Linux: one answer a second, six saved up.
    let mut answered: BTreeMap<Ipv4Addr, (f64, Instant)> = BTreeMap::new();
    let _responder = Responder::start(&node, move |probe| {
        let from = branch(probe.ttl, probe.to);
        let after = Duration::from_millis(5);
        if from == probe.to {
            return Some((from, Reply::Echo, after));
        }
        let now = Instant::now();
        let (left, last) = answered.entry(from).or_insert((6.0, now));
        *left = (*left + now.duration_since(*last).as_secs_f64()).min(6.0);
        *last = now;
        if *left < 1.0 {
            return None;
        }
        *left -= 1.0;
        Some((from, Reply::Exceeded(Vec::new()), after))
    });
    let settings = Settings {
        responder_rate: Some(1),
        ..alone(50_000)
    };
    let (mut asked, mut lost, mut joint) = (0, 0, 0);
    for (number, results) in measure(&node, settings, 300, 8) {
        let part = results.part.expect("something was measured");
        assert!(part.reached, "{part:#?}");
        for hop in &part.hops {
            for responder in &hop.responders {
                // Where the hop before the target was left out so far, the target stands one row lower.
                let right = branch(hop.ttl, target(number));
                assert_eq!(responder.address, right, "{number}: {hop:#?}");
            }
            if hop.ttl < 5 {
                asked += hop.own.sent;
                lost += hop.own.lost();
                joint += u32::from(hop.group.is_some());
            }
        }
        let last = part.hops.last().expect("the target");
        assert_eq!((last.own.sent > 0, last.own.lost()), (true, 0));
    }
    eprintln!("{asked} asked, {lost} lost, {joint} rows of 1200 are joint");
    // 2 of 100 on a machine that has time; without turns it would be most.
    assert!(lost * 2 < asked, "{lost} of {asked}");
}

#[test]
fn what_came_while_the_program_stood_still_is_not_lost() {
    if cannot_run() {
        return;
    }
    let node = Node::new();
    let _responder = Responder::start(&node, |probe| {
        let after = Duration::from_secs(1);
        match probe.ttl {
            20.. => Some((probe.to, Reply::Echo, after)),
            ttl => Some(([10, 1, ttl, 0].into(), Reply::Exceeded(Vec::new()), after)),
        }
    });
    let mut command = node.command(env!("CARGO_BIN_EXE_mtr-prober"));
    let words = [
        "trace",
        "172.16.0.1",
        "--count",
        "40",
        "--interval",
        "0.2",
        "--json",
    ];
    let mut child = command
        .args(words)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    let signal = |signal| nix::sys::signal::kill(pid, signal).expect("not reaped");
    // A hundred answers are on their way then; it stands still for longer than it waits for them.
    std::thread::sleep(Duration::from_secs(6));
    signal(nix::sys::signal::Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(6));
    signal(nix::sys::signal::Signal::SIGCONT);
    let output = std::io::read_to_string(child.stdout.take().expect("piped")).expect("text");
    assert!(child.wait().expect("it ends").success());
    let report: Report = serde_json::from_str(&output).expect("a report");
    let lost = report.parts[0].hops.iter().map(|hop| hop.own.lost());
    assert_eq!(lost.collect::<Vec<_>>(), vec![0; 20]);
}

#[test]
fn a_quota_of_cpu_that_is_used_up_marks_the_report() {
    if cannot_run() {
        return;
    }
    let node = Node::new();
    let _responder = Responder::start(&node, |probe| {
        let router = Ipv4Addr::new(10, 1, probe.ttl, 0);
        Some((router, Reply::Exceeded(Vec::new()), Duration::ZERO))
    });
    let Some(quota) = quota::Quota::of_one_percent() else {
        return;
    };
    let mut command = node.command("sh");
    command.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]);
    command.arg(quota.processes());
    command.arg(env!("CARGO_BIN_EXE_mtr-prober"));
    command.args(["trace", "172.16.0.1", "--count", "10", "--interval", "0.2"]);
    let output = command.arg("--json").output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let report: Report = serde_json::from_slice(&output.stdout).expect("a report");
    let mut faults = report.faults.iter();
    let is_marked = faults.any(|fault| matches!(fault, Fault::Throttled { throttled_ms: 1.. }));
    assert!(is_marked, "{:?}", report.faults);
}
