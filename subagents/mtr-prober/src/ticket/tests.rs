use super::*;
use crate::format::tests::{hop, report};
use crate::report::{Fault, Mpls, Second, Source};

fn lossy() -> Report {
    let mut report = report(vec![
        hop(1, Some("10.8.1.1"), 60, &[200; 60]),
        hop(2, Some("10.8.2.1"), 60, &[300; 40]),
        hop(3, Some("192.0.2.9"), 60, &[400; 42]),
    ]);
    report.source = Source {
        asked: Some("telecom".into()),
        address: "203.0.113.7".parse().ok(),
        interface: Some("eth1".into()),
        line: Some("telecom".into()),
        circuit: Some("GZ-1234".into()),
    };
    report.parts[0].rounds = 60;
    report.ended_at = report.started_at.map(|it| Instant {
        unix_ms: it.unix_ms + 60_000,
        ..it
    });
    let mut further = report.parts[0].hops[1].responders[0].clone();
    further.address = "10.8.2.2".parse().expect("an address");
    further.received = 7;
    report.parts[0].hops[1].responders.push(further);
    report.parts[0].hops[1].responders[0].mpls = vec![Mpls {
        label: 16_021,
        class: 0,
        bottom: true,
        ttl: 3,
    }];
    report.faults = vec![Fault::Unprivileged];
    report.reference = Some("event-77".into());
    report
}

const TABLE: &str = "
Start: 2026-11-22T13:42:28+0800
HOST: cn-gz-3                     Loss%   Snt   Last   Avg  Best  Wrst StDev
  1.|-- 10.8.1.1                   0.0%    60    0.2   0.2   0.2   0.2   0.0
  2.|-- 10.8.2.1                  33.3%    60    0.3   0.3   0.3   0.3   0.0
        10.8.2.2                         
  3.|-- 192.0.2.9                 30.0%    60    0.4   0.4   0.4   0.4   0.0

";

#[test]
fn a_ticket_has_the_table_unchanged_between_what_it_lacks_and_what_it_means() {
    let english = ticket(&lossy(), None, Language::English);
    let (above, below) = english.split_once(TABLE).expect("the table is in it");
    assert_eq!(
        above,
        "Time: 2026-11-22 13:42:28 – 13:43:28 UTC+08:00\n\
         In UTC: 2026-11-22 05:42:28 – 05:43:28 UTC+00:00\n\
         Source: 203.0.113.7, interface eth1, line telecom, circuit id GZ-1234\n\
         Target: 192.0.2.9\n\
         Probes: 60 ICMP echo per hop, every 1 s, 64 bytes\n\
         Tool: mtr-prober 0.1.0 @ cn-gz-3\n\
         Report: 00000000-0000-0000-0000-000000000000\n\
         Reference: event-77\n"
    );
    assert_eq!(
        below,
        "* Verdict: Loss of 30 % (18 of 60, 95 % CI of the loss 20–43 %), beginning between hop 1 (10.8.1.1) and \
         hop 2 (10.8.2.1) and continuing to the target; direction unknown from one end.\n\
         * This machine: measured without CAP_NET_RAW\n\
         * Hop 2 has several addresses (answers): 10.8.2.1 (40), 10.8.2.2 (7)\n\
         * Hop 2 has MPLS labels: 16021 (TTL 3)\n"
    );
    let chinese = ticket(&lossy(), None, Language::Chinese);
    let (above, below) = chinese.split_once(TABLE).expect("the table is in it");
    assert!(
        above.starts_with("时间：2026-11-22 13:42:28 – 13:43:28 UTC+08:00\n"),
        "{above}"
    );
    assert!(
        above.contains("203.0.113.7, 接口 eth1, 线路 telecom, 电路编号 GZ-1234\n"),
        "{above}"
    );
    assert!(below.starts_with("* 结论：丢包率 30%"), "{below}");
}

#[test]
fn each_part_of_a_triggered_report_has_a_table_and_its_own_count() {
    let mut report = lossy();
    let of = |name, rounds| Part {
        name,
        rounds,
        ..report.parts[0].clone()
    };
    report.parts = vec![of(PartName::Before, 20), of(PartName::During, 60)];
    let english = ticket(&report, None, Language::English);
    let during = "\n[During the trouble] 2026-11-22 13:42:28 – 13:42:28 UTC+08:00, N = 60\nStart: ";
    assert!(english.contains(during), "{english}");
    assert!(
        english.contains("\n[Before] 2026-11-22 13:42:28 – 13:42:28 UTC+08:00, N = 20\n"),
        "{english}"
    );
}

#[test]
fn the_seconds_of_the_loss_are_named() {
    let mut report = lossy();
    let of = |after: i64, lost| Second {
        unix: 1_795_326_148 + after,
        sent: 5,
        lost,
    };
    report.timeline = vec![of(0, 0), of(2, 3), of(3, 0), of(9, 4), of(10, 0)];
    let note = "* Lost in 2 seconds of 2026-11-22 13:42:30 – 13:42:37 UTC+08:00 (7 of the 15 probes to the target in that time)\n";
    assert!(ticket(&report, None, Language::English).contains(note));
    assert!(
        ticket(&report, None, Language::Chinese)
            .contains("13:42:37 UTC+08:00 之间的 2 秒内（期间发 15 个丢 7 个）\n")
    );
}

#[test]
fn a_table_that_would_cut_an_address_is_the_wide_one() {
    let mut report = lossy();
    let long = "2001:db8:1234:5678:9abc:def0:1234:5678";
    report.parts[0].hops[0].responders[0].address = long.parse().expect("an address");
    let english = ticket(&report, None, Language::English);
    assert!(
        english.contains(&format!("  1.|-- {long}  0.0%    60")),
        "{english}"
    );
}

#[test]
fn what_was_not_measured_is_said_with_its_reason() {
    let mut report = lossy();
    report.parts.clear();
    report.faults.clear();
    report.problem = Some("no address for nowhere.example; check the name".into());
    let english = ticket(&report, None, Language::English);
    assert!(
        english.ends_with("StDev\n\n* no address for nowhere.example; check the name\n"),
        "{english}"
    );
}

#[test]
fn a_span_over_midnight_has_both_dates() {
    let moment = |unix_ms, offset| Instant { unix_ms, offset };
    assert_eq!(
        span(moment(1_795_391_990_000, 0), moment(1_795_392_010_000, 0)),
        "2026-11-22 23:59:50 – 2026-11-23 00:00:10 UTC+00:00"
    );
}
