use std::net::IpAddr;

use uuid::Uuid;

use super::text::{Labels, Width};
use super::*;
use crate::report::*;

pub(crate) fn statistics(values: &[u32]) -> Statistics {
    let mut statistics = Statistics::default();
    values.iter().for_each(|&value| statistics.add(value));
    statistics
}

pub(crate) fn hop(ttl: u8, address: Option<&str>, sent: u32, times: &[u32]) -> Hop {
    let received = u32::try_from(times.len()).expect("few");
    let of = |address: &str| Responder {
        address: address.parse().expect("an address"),
        received,
        statistics: statistics(times),
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
        responders: address.into_iter().map(of).collect(),
        statistics: statistics(times),
        ..Hop::default()
    }
}

pub(crate) fn report(hops: Vec<Hop>) -> Report {
    let moment = Instant {
        unix_ms: 1_795_326_148_000,
        offset: 8 * 3600,
    };
    let part = Part {
        name: PartName::Run,
        started_at: moment,
        ended_at: moment,
        rounds: 4,
        reached: true,
        hops,
    };
    Report {
        id: Uuid::nil(),
        state: State::Finished,
        cause: Cause::Api,
        reference: None,
        tool: "mtr-prober 0.1.0".into(),
        node: "cn-gz-3".into(),
        target: Target {
            asked: "192.0.2.9".into(),
            address: "192.0.2.9".parse().ok(),
        },
        source: Source::default(),
        parameters: Parameters {
            count: 4,
            interval_ms: 1000,
            size: 64,
        },
        accepted_at: moment,
        started_at: Some(moment),
        ended_at: Some(moment),
        parts: vec![part],
        timeline: Vec::new(),
        faults: Vec::new(),
        incident: None,
        problem: None,
    }
}

fn narrow(report: &Report, numbers: Numbers, labels: Labels) -> String {
    let part = main_part(report);
    text::table(
        &report.node,
        report.started_at,
        part,
        numbers,
        Width::Narrow,
        labels,
    )
}

#[test]
fn the_table_has_the_columns_and_the_cuts_of_mtr() {
    let mut further = hop(2, Some("10.8.2.1"), 4, &[300, 200, 200, 1_234_567]);
    let mut second = further.responders[0].clone();
    second.address = IpAddr::from([10, 8, 2, 2]);
    further.responders.push(second);
    further.responders[0].mpls = vec![Mpls {
        label: 16_021,
        class: 3,
        bottom: true,
        ttl: 7,
    }];
    let report = report(vec![
        hop(1, Some("10.8.1.1"), 4, &[200, 400, 700, 200]),
        further,
        hop(3, None, 4, &[]),
        hop(
            4,
            Some("2001:db8:1234:5678:9abc:def0:1234:5678"),
            4,
            &[70, 70],
        ),
    ]);
    assert_eq!(
        narrow(&report, Numbers::Own, Labels::Shown),
        "Start: 2026-11-22T13:42:28+0800\n\
         HOST: cn-gz-3                     Loss%   Snt   Last   Avg  Best  Wrst StDev\n\
         \x20 1.|-- 10.8.1.1                   0.0%     4    0.2   0.4   0.2   0.7   0.2\n\
         \x20 2.|-- 10.8.2.1                   0.0%     4  1234. 308.8   0.2 1234. 617.2\n\
         \x20       10.8.2.2                         \n\
         \x20      [MPLS: Lbl 16021 TC 3 S 1 TTL 7]\n\
         \x20 3.|-- ???                       100.0     4    0.0   0.0   0.0   0.0   0.0\n\
         \x20 4.|-- 2001:db8:1234:5678:9abc:d 50.0%     4    0.1   0.1   0.1   0.1   0.0\n"
    );
    assert!(text::is_cut(&report.parts[0]));
}

#[test]
fn what_is_not_known_is_not_a_number() {
    let mut untimed = hop(1, Some("10.8.1.1"), 3, &[]);
    untimed.own.received = 3;
    let report = report(vec![
        untimed,
        hop(2, None, 0, &[]),
        hop(3, Some("10.8.3.1"), 1, &[5]),
    ]);
    assert_eq!(
        narrow(&report, Numbers::Own, Labels::Hidden)
            .lines()
            .skip(2)
            .collect::<Vec<_>>(),
        [
            "  1.|-- 10.8.1.1                   0.0%     3      -     -     -     -     -",
            "  2.|-- ???                           -     0      -     -     -     -     -",
            "  3.|-- 10.8.3.1                   0.0%     1    0.0   0.0   0.0   0.0   0.0",
        ]
    );
    let part = main_part(&report);
    let csv = csv::table(&report, part, Numbers::Own);
    let rows: Vec<&str> = csv.lines().skip(1).collect();
    assert_eq!(
        rows[0],
        "MTR.0.95,1795326148,OK,192.0.2.9,1,10.8.1.1,0.00,3,0,,,,,"
    );
    assert_eq!(rows[1], "MTR.0.95,1795326148,OK,192.0.2.9,2,???,,0,0,,,,,");
    let json = mtr_json::document(&report, part, Numbers::Own);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(json["report"]["hubs"][0]["Avg"].is_null());
    assert!(json["report"]["hubs"][1]["Loss%"].is_null());
    assert_eq!(json["report"]["hubs"][2]["Avg"], 0.005);
}

#[test]
fn a_joint_row_shows_the_group_or_this_trace_alone() {
    let mut joint = hop(1, Some("10.8.1.1"), 1, &[100]);
    joint.group = Some(Counts {
        sent: 10,
        received: 9,
        ..Counts::default()
    });
    joint.group_statistics = Some(statistics(&[300; 9]));
    let report = report(vec![joint]);
    let row = |numbers| {
        let table = narrow(&report, numbers, Labels::Hidden);
        table.lines().last().map(str::to_owned)
    };
    assert_eq!(
        row(Numbers::Joint).as_deref(),
        Some("  1.|-- 10.8.1.1                  10.0%    10    0.3   0.3   0.3   0.3   0.0")
    );
    assert_eq!(
        row(Numbers::Own).as_deref(),
        Some("  1.|-- 10.8.1.1                   0.0%     1    0.1   0.1   0.1   0.1   0.0")
    );
}

#[test]
fn nothing_measured_is_a_heading_without_rows() {
    let mut report = report(Vec::new());
    report.started_at = None;
    assert_eq!(main_part(&report), None);
    assert_eq!(
        narrow(&report, Numbers::Own, Labels::Hidden),
        "Start: -\nHOST: cn-gz-3                     Loss%   Snt   Last   Avg  Best  Wrst StDev\n"
    );
    assert_eq!(csv::table(&report, None, Numbers::Own), "");
    let json = mtr_json::document(&report, None, Numbers::Own);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["report"]["hubs"], serde_json::json!([]));
}

#[test]
fn what_was_measured_during_the_trouble_speaks_for_a_triggered_report() {
    let mut report = report(vec![hop(1, Some("10.8.1.1"), 1, &[100])]);
    let of = |name| Part {
        name,
        ..report.parts[0].clone()
    };
    report.parts = [PartName::Before, PartName::Snapshot, PartName::During]
        .map(of)
        .to_vec();
    assert_eq!(
        main_part(&report).map(|part| part.name),
        Some(PartName::During)
    );
    report.parts[2].hops.clear();
    assert_eq!(
        main_part(&report).map(|part| part.name),
        Some(PartName::Snapshot)
    );
}

#[test]
fn a_target_cannot_make_columns_or_break_the_json() {
    let mut report = report(vec![hop(1, Some("10.8.1.1"), 1, &[100])]);
    report.target.asked = "a\",b\n".into();
    let part = main_part(&report);
    let csv = csv::table(&report, part, Numbers::Own);
    assert!(csv.contains(",OK,\"a\"\",b\n\",1,"), "{csv}");
    let json = mtr_json::document(&report, part, Numbers::Own);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["report"]["mtr"]["dst"], "a\",b\n");
}
