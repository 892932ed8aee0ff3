//! Our formats beside what Debian's `mtr` prints on a chain of namespaces.
//!
//! A report is made of the numbers that `mtr` printed, and must come out as the same
//! bytes: whatever is not a number can then not differ either.

use std::net::IpAddr;
use std::process::Command;

use mtr_prober::format::text::{Labels, Width};
use mtr_prober::format::{Numbers, csv, mtr_json, text};
use mtr_prober::report::{
    Cause, Counts, Hop, Instant, Parameters, Part, PartName, Report, Responder, Source, State,
    Target,
};
use mtr_prober::statistics::Statistics;

/// The chain: one router that answers, one that is silent, the target; and a target that is not
/// there. All of it is gone with the shell: names of namespaces are mounts of its own.
const CHAIN: &str = r#"
set -e
mount -t tmpfs tmpfs /run/netns
ip link set lo up
for name in one two end; do
    ip netns add $name
    ip -n $name link set lo up
    ip netns exec $name sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/icmp_ratelimit'
done
ip link add name far type veth peer name near netns one
ip -n one link add name far type veth peer name near netns two
ip -n two link add name far type veth peer name near netns end
ip addr add 10.9.1.1/24 dev far; ip link set far up
for it in "one 1 2" "two 2 3" "end 3 4"; do
    set -- $it
    ip -n $1 addr add 10.9.$2.2/24 dev near; ip -n $1 link set near up
    [ $1 = end ] || { ip -n $1 addr add 10.9.$3.1/24 dev far; ip -n $1 link set far up; }
    ip -n $1 route add default via 10.9.$2.1
done
ip route add default via 10.9.1.2
ip -n one route add 10.9.3.0/24 via 10.9.2.2
# The second router knows the way back for what it forwards only: what it says itself never leaves it.
ip -n two route del default
ip -n two route add default via 10.9.2.1 table 7
ip -n two rule add iif far lookup 7
for format in --report --report-wide --csv --json; do
    echo "== $format"
    mtr $format -n -c 2 -i 0.2 -G 0.5 10.9.3.2
done
"#;

#[test]
fn our_formats_have_the_bytes_of_mtr() {
    let allowed = Command::new("unshare")
        .args(["--net", "--mount", "true"])
        .output();
    if !allowed.is_ok_and(|it| it.status.success()) {
        return println!("SKIPPED: no network namespace can be made here");
    }
    if Command::new("mtr").arg("--version").output().is_err() {
        return println!("SKIPPED: mtr is not installed");
    }
    std::fs::create_dir_all("/run/netns").expect("root may");
    let run = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", CHAIN])
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    let printed = String::from_utf8(run.stdout).expect("text");
    let of = |format: &str| {
        let section = printed
            .split("== ")
            .find_map(|it| it.strip_prefix(&format!("{format}\n")));
        section.unwrap_or_else(|| panic!("no {format} in {printed}"))
    };
    assert!(
        of("--report").contains("2.|-- ???                       100.0     2"),
        "{printed}"
    );

    for (format, width) in [("--report", Width::Narrow), ("--report-wide", Width::Wide)] {
        let report = from_table(of(format));
        let part = report.parts.first();
        let start = report.started_at;
        let ours = text::table(
            &report.node,
            start,
            part,
            Numbers::Own,
            width,
            Labels::Hidden,
        );
        assert_eq!(ours, of(format));
    }
    let report = from_csv(of("--csv"));
    assert_eq!(
        csv::table(&report, report.parts.first(), Numbers::Own),
        of("--csv")
    );
    let report = from_json(of("--json"));
    let ours = mtr_json::document(&report, report.parts.first(), Numbers::Own);
    // The one thing in which our probes differ from those of mtr.
    assert_eq!(ours.replace("rand(0x00-FF)", "0x00"), of("--json"));
}

/// A row as it was printed: host, percent lost, sent, and five times in milliseconds.
struct Printed {
    host: String,
    loss: f64,
    sent: u32,
    times: [f64; 5],
}

fn from_table(table: &str) -> Report {
    let mut lines = table.lines();
    let start = lines
        .next()
        .and_then(|it| it.strip_prefix("Start: "))
        .expect("a start");
    let heading = lines.next().expect("a heading");
    let rows = lines.map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| {
            words[index]
                .trim_end_matches('%')
                .parse()
                .expect("a number")
        };
        Printed {
            host: words[1].to_owned(),
            loss: number(2),
            sent: words[3].parse().expect("a number"),
            times: [4, 5, 6, 7, 8].map(number),
        }
    });
    let mut report = report(rows.collect());
    report.node = heading
        .split_whitespace()
        .nth(1)
        .expect("a host")
        .to_owned();
    report.started_at = Some(moment(start));
    report
}

fn from_csv(table: &str) -> Report {
    let mut start = 0;
    let rows = table.lines().skip(1).map(|line| {
        let words: Vec<&str> = line.split(',').collect();
        start = words[1].parse().expect("seconds");
        Printed {
            host: words[5].to_owned(),
            loss: words[6].parse().expect("a number"),
            sent: words[7].parse().expect("a number"),
            times: [9, 10, 11, 12, 13].map(|index| words[index].parse().expect("a number")),
        }
    });
    let rows = rows.collect();
    let mut report = report(rows);
    report.parts[0].started_at.unix_ms = start * 1000;
    report
}

fn from_json(document: &str) -> Report {
    let document: serde_json::Value = serde_json::from_str(document).expect("JSON");
    let hubs = document["report"]["hubs"].as_array().expect("a list");
    let rows = hubs.iter().map(|hub| Printed {
        host: hub["host"].as_str().expect("text").to_owned(),
        loss: hub["Loss%"].as_f64().expect("a number"),
        sent: u32::try_from(hub["Snt"].as_u64().expect("a number")).expect("few"),
        times: ["Last", "Avg", "Best", "Wrst", "StDev"]
            .map(|it| hub[it].as_f64().expect("a number")),
    });
    let mut report = report(rows.collect());
    report.node = document["report"]["mtr"]["src"]
        .as_str()
        .expect("text")
        .to_owned();
    report
}

fn report(rows: Vec<Printed>) -> Report {
    let hops = rows
        .into_iter()
        .zip(1..)
        .map(|(row, ttl)| hop(ttl, &row))
        .collect();
    let moment = Instant {
        unix_ms: 0,
        offset: 0,
    };
    let part = Part {
        name: PartName::Run,
        started_at: moment,
        ended_at: moment,
        rounds: 2,
        reached: true,
        hops,
    };
    Report {
        id: uuid::Uuid::nil(),
        state: State::Finished,
        cause: Cause::Command,
        reference: None,
        tool: "mtr-prober".into(),
        node: String::new(),
        target: Target {
            asked: "10.9.3.2".into(),
            address: None,
        },
        source: Source::default(),
        parameters: Parameters {
            count: 2,
            interval_ms: 200,
            size: 64,
        },
        accepted_at: moment,
        started_at: None,
        ended_at: None,
        parts: vec![part],
        timeline: Vec::new(),
        faults: Vec::new(),
        incident: None,
        problem: None,
    }
}

fn hop(ttl: u8, row: &Printed) -> Hop {
    let [last, mean, best, worst, deviation] = row.times.map(|it| (it * 1000.0).round());
    let lost = (f64::from(row.sent) * row.loss / 100.0).round();
    let received = row.sent - lost as u32;
    // Half a microsecond more than was printed, against what the root rounds off.
    let squares = (deviation + 0.5).powi(2) * f64::from(received.saturating_sub(1));
    let statistics = Statistics {
        timed: received,
        last: last as u32,
        best: best as u32,
        worst: worst as u32,
        mean,
        squares,
        ..Statistics::default()
    };
    let responder = |address: IpAddr| Responder {
        address,
        received,
        statistics,
        mpls: Vec::new(),
        unreachable: None,
    };
    Hop {
        ttl,
        own: Counts {
            sent: row.sent,
            received,
            ..Counts::default()
        },
        responders: row.host.parse().ok().map(responder).into_iter().collect(),
        statistics,
        ..Hop::default()
    }
}

/// `2026-11-22T05:42:28+0000` read back.
fn moment(text: &str) -> Instant {
    let date: bootagent_kit::date::Date = text[..10].parse().expect("a date");
    let number = |range: std::ops::Range<usize>| -> i64 { text[range].parse().expect("a number") };
    let seconds = number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
    let east = number(20..22) * 3600 + number(22..24) * 60;
    let offset = if &text[19..20] == "-" { -east } else { east };
    Instant {
        unix_ms: (date.unix() + seconds - offset) * 1000,
        offset: i32::try_from(offset).expect("less than a day"),
    }
}
