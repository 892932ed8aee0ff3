//! The program without CAP_NET_RAW, with it as its only capability, and with nothing at all.
//!
//! Needs root, to become somebody else; says aloud when it cannot run.

#[path = "support/daemon.rs"]
#[expect(dead_code, reason = "daemon.rs uses what this does not")]
mod daemon;
#[path = "support/world.rs"]
#[expect(dead_code, reason = "chain.rs uses what this does not")]
mod world;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use daemon::{FAR, Fixture};
use serde_json::Value;
use world::{Chain, Limits, Node, cable, cannot_run};

/// A user and group that own nothing.
const NOBODY: u32 = 65_534;

/// What `setpriv` is to leave us besides.
const NOTHING: &[&str] = &["--bounding-set=-all"];
/// As BootAgent and a unit do with `capabilities` of the manifest.
const NET_RAW: &[&str] = &[
    "--inh-caps=+net_raw",
    "--ambient-caps=+net_raw",
    "--bounding-set=-all,+net_raw",
];

/// Everybody's group may have ping sockets here.
fn allow_pings(node: &Node) {
    node.sh("echo 0 65534 >/proc/sys/net/ipv4/ping_group_range");
}

/// A folder that is nobody's, with a program he may run.
fn fixture() -> Fixture {
    let fixture = Fixture::new("node = \"node-7\"\n[lines.second]\nsource = \"other\"");
    fixture.program_for_all();
    let state = fixture.dir.join("state");
    std::fs::create_dir(&state).expect("made");
    for path in [&fixture.dir, &state, &fixture.dir.join("notify")] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("root");
    }
    fixture
}

/// The program in a namespace as nobody, with these rights and no way to more.
fn command(node: &Node, fixture: &Fixture, rights: &[&str]) -> Command {
    let mut command = node.command("setpriv");
    command
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--no-new-privs",
        ])
        .args(rights)
        .arg(fixture.program_for_all());
    command
}

/// A trace by an engine of its own.
fn trace(node: &Node, fixture: &Fixture, rights: &[&str], words: &[&str]) -> Output {
    let mut command = command(node, fixture, rights);
    command
        .args([
            "trace",
            "--own",
            "--count",
            "3",
            "--interval",
            "0.2",
            "--json",
        ])
        .args(words)
        .env("CONFIGURATION_DIRECTORY", &fixture.dir);
    command.output().expect("it runs")
}

/// Faults and path of a trace that lost nothing.
fn measured(output: &Output) -> (Vec<String>, Vec<String>) {
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    found(&report)
}

fn found(report: &Value) -> (Vec<String>, Vec<String>) {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let faults = list(&report["faults"]).into_iter();
    // That the machine is busy says nothing of privileges.
    let busy = ["starved", "throttled", "stretched"];
    let faults = faults.map(|fault| text(&fault["fault"]));
    let faults = faults.filter(|fault| !busy.contains(&fault.as_str()));
    let mut path = Vec::new();
    for hop in list(&report["parts"][0]["hops"]) {
        assert_eq!(hop["own"]["sent"], hop["own"]["received"], "{report}");
        if hop["own"]["sent"] == 0 {
            continue;
        }
        assert_eq!(
            hop["responders"].as_array().map(Vec::len),
            Some(1),
            "{report}"
        );
        path.push(text(&hop["responders"][0]["address"]));
    }
    (faults.collect(), path)
}

/// What `-T` says without any capability.
fn tested(node: &Node, fixture: &Fixture) -> Output {
    let mut test = fixture.dress(command(node, fixture, NOTHING));
    test.arg("-T")
        .stdout(Stdio::piped())
        .output()
        .expect("it runs")
}

#[test]
fn without_any_capability_the_same_routers_are_found_and_the_report_says_so() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(4, Limits::Lifted);
    let source = chain.source();
    allow_pings(source);
    let fixture = fixture();
    for target in ["10.0.4.2", "fd00:4::2"] {
        let (faults, path) = measured(&trace(source, &fixture, NET_RAW, &[target]));
        assert_eq!(faults, [] as [&str; 0]);
        assert_eq!(path.len(), 5, "{path:?}");
        let plain = measured(&trace(source, &fixture, NOTHING, &[target]));
        assert_eq!(plain, (vec!["unprivileged".to_owned()], path));
    }
}

#[test]
fn without_any_capability_the_source_chooses_the_line_too() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(2, Limits::Lifted);
    let (source, second) = (chain.source(), &chain.nodes[2]);
    allow_pings(source);
    cable(source, "other", second, "back", "7.0", "700");
    source.sh(
        "ip route add default via 10.7.0.2 table 100; ip rule add from 10.7.0.1 lookup 100; \
         ip rule add oif other lookup 100; \
         ip -6 route add default via fd00:700::2 table 100; ip -6 rule add from fd00:700::1 lookup 100; \
         ip -6 rule add oif other lookup 100",
    );
    chain.nodes[3]
        .sh("ip route add 10.7.0.0/24 via 10.0.2.1; ip -6 route add fd00:700::/64 via fd00:2::1");
    let fixture = fixture();
    let by = |which: &str, target: &str| {
        let output = trace(source, &fixture, NOTHING, &["--source", which, target]);
        measured(&output).1.join(" ")
    };
    let usual = "10.0.0.2 10.0.1.2 10.0.2.2";
    assert_eq!(by("10.0.0.1", "10.0.2.2"), usual);
    assert_eq!(by("right", "10.0.2.2"), usual);
    for which in ["10.7.0.1", "other", "second"] {
        assert_eq!(by(which, "10.0.2.2"), "10.7.0.2 10.0.2.2", "{which}");
    }
    for which in ["fd00:700::1", "other"] {
        assert_eq!(by(which, "fd00:2::2"), "fd00:700::2 fd00:2::2", "{which}");
    }
}

#[test]
fn without_any_capability_fifty_are_measured_at_once_and_the_next_is_told_why_not() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(2, Limits::Lifted);
    let source = chain.source();
    allow_pings(source);
    let fixture = fixture();
    let program = fixture.start_with(fixture.dress(command(source, &fixture, NOTHING)));
    assert!(
        fixture.log().contains("without CAP_NET_RAW: 50"),
        "{}",
        fixture.log()
    );
    let order = |last: u32| format!("/api/mtr?count=2&interval=20&ip=10.99.0.{last}");
    let ids: Vec<String> = (1..=50)
        .map(|last| {
            let reply = fixture.get(&order(last));
            assert_eq!(reply.status, 202, "{reply:?}");
            reply.json()["id"].as_str().expect("an id").to_owned()
        })
        .collect();
    let refused = fixture.get(&order(51));
    let detail = refused.json()["detail"].to_string();
    assert_eq!(refused.status, 503, "{detail}");
    assert!(detail.contains("CAP_NET_RAW"), "{detail}");
    assert!(refused.head.contains("Retry-After: "), "{refused:?}");

    // A round of each has gone through, and a place that is given back is had by the next. Rows they share may
    // be left out.
    for id in &ids {
        let report =
            fixture.report_where(id, |it| it["parts"][0]["hops"][2]["own"]["received"] == 1);
        let target = report["target"]["address"].as_str().expect("an address");
        let (faults, path) = found(&report);
        assert_eq!(faults, ["unprivileged"]);
        let expected = ["10.0.0.2", "10.0.1.2", target];
        assert_eq!(path.last().map(String::as_str), Some(target));
        assert!(
            path.iter().all(|it| expected.contains(&it.as_str())),
            "{path:?}"
        );
    }
    let metrics = fixture.get("/metrics").body;
    assert!(
        metrics.contains("\nmtr_prober_unprivileged 1\n"),
        "{metrics}"
    );
    assert_eq!(
        fixture
            .ask("DELETE", &format!("/api/mtr/{}", ids[0]))
            .status,
        204
    );
    let deadline = Instant::now() + FAR;
    while fixture.get(&order(51)).status != 202 {
        assert!(Instant::now() < deadline, "no place");
        std::thread::sleep(Duration::from_millis(20));
    }
    program.stop();
}

#[test]
fn without_the_capability_no_peer_is_pinged_and_everybody_is_told() {
    if cannot_run() {
        return;
    }
    let node = Node::new();
    allow_pings(&node);
    node.sh("ip link set lo up");
    let fixture = fixture();
    let peers = fixture.dir.join("peers");
    std::fs::write(&peers, "127.0.0.2\n").expect("written");
    let (socket, remedy) = (fixture.socket(), "CAP_NET_RAW");
    fixture.configure(&format!(
        "listen = [{socket:?}]\n[mesh]\npeers_file = {peers:?}"
    ));
    let program = fixture.start_with(fixture.dress(command(&node, &fixture, NOTHING)));
    // It measures all the same, so it is well.
    assert_eq!(fixture.get("/healthz").status, 200);
    assert!(
        fixture.log().contains("no peer is pinged"),
        "{}",
        fixture.log()
    );
    let mesh = fixture.get("/api/mesh").json();
    assert_eq!(mesh["counts"]["peers"], 0, "{mesh}");
    assert!(mesh["problem"].to_string().contains(remedy), "{mesh}");
    let report = fixture.ended(&fixture.order("ip=127.0.0.1&count=1"));
    assert_eq!(report["state"], "finished", "{report}");
    program.stop();

    let output = tested(&node, &fixture);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("no peer is pinged"), "{said}");
}

#[test]
fn without_ping_sockets_either_it_runs_and_says_what_it_needs() {
    if cannot_run() {
        return;
    }
    // No group may have them in a namespace that is new.
    let node = Node::new();
    node.sh("ip link set lo up");
    let fixture = fixture();
    let remedies = ["CAP_NET_RAW", "setcap", "net.ipv4.ping_group_range"];
    let says = |text: &str| {
        for remedy in remedies {
            assert!(text.contains(remedy), "{remedy}: {text}");
        }
    };
    let program = fixture.start_with(fixture.dress(command(&node, &fixture, NOTHING)));
    says(&fixture.log());
    let report = fixture.ended(&fixture.order("ip=127.0.0.1"));
    assert_eq!(report["state"], "failed", "{report}");
    says(&report["problem"].to_string());
    let health = fixture.get("/healthz");
    assert_eq!(health.status, 503, "{health:?}");
    says(&health.body);
    program.stop();

    let output = trace(&node, &fixture, NOTHING, &["127.0.0.1"]);
    assert!(!output.status.success(), "{output:?}");
    says(&String::from_utf8_lossy(&output.stderr));
    let output = tested(&node, &fixture);
    assert!(output.status.success(), "{output:?}");
    says(&String::from_utf8_lossy(&output.stdout));
}
