//! The mesh of the program that runs: nodes in namespaces that ping each other, and what one does to their ways.
//!
//! Needs root, `unshare`, `nsenter`, `ip` and `nft`; says aloud when it cannot run.

#[path = "support/daemon.rs"]
#[expect(dead_code, reason = "other tests use what this does not")]
mod daemon;
#[path = "support/responder.rs"]
#[expect(dead_code, reason = "other tests use what this does not")]
mod responder;
#[path = "support/sys.rs"]
mod sys;
#[path = "support/world.rs"]
#[expect(dead_code, reason = "other tests use what this does not")]
mod world;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use daemon::{FAR, Fixture, Running};
use nix::sys::signal::Signal;
use responder::{Reply, Responder};
use serde_json::Value;
use world::{Chain, Limits, Node, cannot_run};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A node's state and configuration, with its list and, unless it is empty, the group's key.
fn node(name: &str, peers: &str, key: &str) -> Fixture {
    let fixture = Fixture::new("");
    let mut config = format!(
        "listen = [{:?}]\nnode = {name:?}\n[mesh]\npeers_file = {:?}\n",
        fixture.socket(),
        fixture.dir.join("peers"),
    );
    if !key.is_empty() {
        let path = fixture.dir.join("key");
        std::fs::write(&path, key).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("set");
        config += &format!("key_file = {path:?}\n");
    }
    std::fs::write(fixture.dir.join("peers"), peers).expect("written");
    fixture.configure(&config);
    fixture
}

fn start_in(fixture: &Fixture, node: &Node) -> Running {
    let command = node.command(env!("CARGO_BIN_EXE_mtr-prober"));
    fixture.start_with(fixture.dress(command))
}

/// How the mesh stands once it is so.
fn stands(fixture: &Fixture, is_so: impl Fn(&Value) -> bool) -> Value {
    // What is usual takes a minute of plain pings, on a machine that has time.
    let deadline = Instant::now() + 3 * FAR;
    loop {
        let standing = fixture.get("/api/mesh").json();
        if is_so(&standing) {
            return standing;
        }
        assert!(Instant::now() < deadline, "{standing}: {}", fixture.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether all of its peers were pinged so often and answered.
fn are_well(standing: &Value, pings: u64) -> bool {
    let peers = standing["peers"].as_array().expect("a list");
    let is_well = |it: &Value| it["state"] == "well" && it["pings"].as_u64() >= Some(pings);
    !peers.is_empty() && peers.iter().all(is_well)
}

fn names_of_parts(report: &Value) -> Vec<&str> {
    let parts = report["parts"].as_array().expect("parts").iter();
    parts
        .map(|it| it["name"].as_str().expect("named"))
        .collect()
}

const FILTER: &str = "table ip t {}\ndelete table ip t\nadd table ip t\n\
    add chain ip t f { type filter hook forward priority 0; }\n";

#[test]
fn loss_on_the_way_out_is_caught_and_both_ends_know_which_way_it_was() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(2, Limits::Lifted);
    let here = node("here", "10.0.2.2 name=there\n", KEY);
    let there = node("there", "10.0.0.1 name=here\n", KEY);
    let (program, _other) = (
        start_in(&here, chain.source()),
        start_in(&there, &chain.nodes[3]),
    );
    // Its path is known too, long before anything happens: one sweep each five seconds.
    let before = |it: &Value| {
        let sweeps = it["peers"][0]["path_rounds"].as_u64();
        are_well(it, 4) && it["counts"]["heard"].as_u64() > Some(3) && sweeps >= Some(4)
    };
    stands(&here, before);
    chain.nodes[1].nft(&format!(
        "{FILTER}add rule ip t f iifname left icmp type echo-request numgen random mod 100 < 60 drop\n"
    ));
    let standing = stands(&here, |it| {
        it["events"][0]["incident"]["direction"] == "forward"
    });
    let event = &standing["events"][0];
    assert_eq!(event["cause"], "mesh", "{event}");
    assert_eq!(event["incident"]["peer"]["trouble"], "loss", "{event}");
    stands(&here, |it| {
        names_of_parts(&it["events"][0]).contains(&"snapshot")
    });
    chain.nodes[1].nft("delete table ip t\n");
    let id = event["id"].as_str().expect("an id");
    let deadline = Instant::now() + 2 * FAR;
    let report = loop {
        let reply = here.get(&format!("/api/mtr/{id}"));
        if reply.status == 200 {
            break reply.json();
        }
        assert!(Instant::now() < deadline, "{}", here.log());
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(report["state"], "finished", "{report}");
    let names = names_of_parts(&report);
    assert_eq!(names[..3], ["before", "snapshot", "during"], "{report}");
    assert_eq!(names.last(), Some(&"after"), "{report}");
    for part in report["parts"].as_array().expect("parts") {
        let target = &part["hops"].as_array().expect("hops")[0];
        let (sent, rounds) = (&target["own"]["sent"], &part["rounds"]);
        assert!(
            sent.as_u64() >= Some(1) && rounds.as_u64() >= Some(1),
            "{part}"
        );
    }
    let before = &report["parts"][0];
    assert!(before["rounds"].as_u64() >= Some(2), "{before}");
    for hop in before["hops"].as_array().expect("hops") {
        let own = &hop["own"];
        let counts = (&own["sent"], &own["received"], &hop["statistics"]["timed"]);
        let rounds = &before["rounds"];
        assert_eq!(counts, (rounds, rounds, rounds), "{before}");
    }
    let timeline = report["timeline"].as_array().expect("seconds");
    let lost: u64 = timeline.iter().filter_map(|it| it["lost"].as_u64()).sum();
    assert!(timeline.len() > 20 && lost > 3, "{report}");
    assert!(
        report["incident"]["lasted_ms"].as_u64() > Some(1_000),
        "{report}"
    );
    assert_eq!(
        report["incident"]["both_ends"]["back"]["lost"], 0,
        "{report}"
    );
    let listed = here.get("/api/reports?cause=mesh").json();
    assert_eq!(listed["items"][0]["id"], id, "{listed}");
    let metrics = here.get("/metrics").body;
    assert!(
        metrics.contains("\nmtr_prober_mesh_events_total 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("\nmtr_prober_archive_pending 1\n"),
        "{metrics}"
    );
    assert!(here.get("/").body.contains("peers 1"));
    assert!(!here.log().contains(KEY));
    assert!(program.stop().success());
}

#[test]
fn after_a_full_loss_the_last_probe_of_the_snapshot_leaves_within_four_and_a_half_seconds() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(2, Limits::Lifted);
    let target = &chain.nodes[3];
    let here = node("here", "10.99.0.1\n10.99.0.2 name=there\n", KEY);
    // The other has another key: what it says is not believed.
    let there = node(
        "there",
        "10.0.0.1 name=here\n",
        "another key of some length",
    );
    let program = start_in(&here, chain.source());
    let other = start_in(&there, target);
    stands(&here, |it| {
        are_well(it, 12) && it["counts"]["disbelieved"].as_u64() > Some(3)
    });
    drop(other);
    let began = |address: &str| {
        target.nft(&format!(
            "table ip t {{}}\ndelete table ip t\nadd table ip t\n\
             add chain ip t i {{ type filter hook input priority 0; }}\n\
             add rule ip t i ip daddr {address} icmp type echo-request drop\n"
        ));
        let onset = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let onset = onset.expect("after 1970").as_millis();
        let part_of = |standing: &Value| {
            let events = standing["events"].as_array().expect("a list").iter();
            let mut of_it = events.filter(|it| it["target"]["address"] == address);
            let parts = of_it.next()?["parts"].as_array()?.clone();
            parts.into_iter().find(|it| it["name"] == "snapshot")
        };
        let standing = stands(&here, |it| part_of(it).is_some());
        let ended = part_of(&standing).expect("there")["ended_at"]["unix_ms"].clone();
        assert_eq!(standing["counts"]["heard"], 0, "{standing}");
        // The last probe was given up two seconds after it left.
        u128::from(ended.as_u64().expect("a time")) - 2_000 - onset
    };
    // A machine that does not run us for seconds may be late once.
    let took = ["10.99.0.1", "10.99.0.2"].map(began);
    assert!(took.iter().any(|it| *it <= 4_500), "{took:?}");

    // Killed in the middle of it, both are interrupted ones afterwards.
    program.kill();
    let _program = start_in(&here, chain.source());
    let listed = here.get("/api/reports?cause=mesh").json();
    let states: Vec<_> = listed["items"].as_array().expect("a list").iter().collect();
    assert_eq!(states.len(), 2, "{listed}");
    assert!(
        states.iter().all(|it| it["state"] == "interrupted"),
        "{listed}"
    );
}

#[test]
fn a_cut_of_the_uplink_is_one_event_and_without_a_key_no_direction_is_known() {
    if cannot_run() {
        return;
    }
    let chain = Chain::new(1, Limits::Lifted);
    let peers: String = (1..=50)
        .map(|it| format!("10.99.0.{it} name=n{it}\n"))
        .collect();
    let here = node("here", &peers, "");
    let _program = start_in(&here, chain.source());
    stands(&here, |it| are_well(it, 5));
    chain.source().sh("ip link set right down");
    let standing = stands(&here, |it| !it["events"][0]["incident"]["line"].is_null());
    let event = standing["events"][0].clone();
    assert!(
        event["incident"]["line"]["of"].as_u64() >= Some(40),
        "{event}"
    );
    // All have fallen into trouble by then.
    let standing = stands(&here, |it| it["counts"]["troubled"] == 50);
    assert_eq!(standing["counts"]["events"], 1, "{standing}");
    assert_eq!(standing["has_key"], false);
    assert!(
        standing["events"][0]["incident"]["direction"].is_null(),
        "{standing}"
    );
    assert!(here.message("STATUS=").contains("50 peers"));
}

#[test]
fn a_broken_list_keeps_the_last_good_one_and_says_so_and_a_new_one_is_taken() {
    if !daemon::is_root() {
        return;
    }
    let here = node("here", "127.0.0.1\n127.0.0.2 silent\n", "");
    let write = |peers: &str| std::fs::write(here.dir.join("peers"), peers).expect("written");
    let test = |part: &str| {
        let mut command = here.command();
        command.arg("-T").stdout(std::process::Stdio::piped());
        let said = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains(part), "{said}");
    };
    test("has 2 peers");
    let few = std::fs::read_to_string(here.dir.join("mtr-prober.toml")).expect("written");
    let many: String = (0..25).map(|it| format!("127.0.1.{it}\n")).collect();
    here.configure(&format!("budget = 10\n{few}"));
    write(&many);
    test("pinged every 2.5 s");
    let program = here.start();
    here.message("pinged every 2.5 s");
    assert!(program.stop().success());
    here.configure(&few);
    write("127.0.0.1\n127.0.0.2 silent\n");
    let program = here.start();
    stands(&here, |it| are_well(it, 2));
    write("127.0.0.1\nnonsense\n");
    test("line 2");
    let broken = |it: &Value| {
        it["problem"]
            .as_str()
            .is_some_and(|it| it.contains("line 2"))
    };
    let standing = stands(&here, broken);
    assert!(are_well(&standing, 2), "{standing}");
    assert!(here.message("last good list").contains("line 2"));
    // Also over a restart.
    assert!(program.stop().success());
    let program = here.start();
    let standing = stands(&here, |it| are_well(it, 1));
    assert!(
        broken(&standing) && standing["counts"]["peers"] == 2,
        "{standing}"
    );
    write("127.0.0.3\n127.0.0.1\n127.0.0.4 line=no-such0\n");
    program.signal(Signal::SIGHUP);
    let standing = stands(&here, |it| it["counts"]["peers"] == 3);
    assert!(standing["problem"].is_null(), "{standing}");
    assert_eq!(standing["peers"][2]["state"], "no_source", "{standing}");
}

/// Drops what the target is sent: all to some, three of ten to others.
fn drops(all: &str, some: &str) -> String {
    format!(
        "table ip t {{}}\ndelete table ip t\nadd table ip t\n\
         add chain ip t i {{ type filter hook prerouting priority 0; }}\n\
         add rule ip t i icmp type echo-request ip daddr {{ {all} }} drop\n\
         add rule ip t i icmp type echo-request ip daddr {some} numgen random mod 100 < 30 drop\n"
    )
}

#[test]
fn what_nobody_wants_to_hear_of_is_not_raised_and_a_late_answer_and_a_loss_of_ten_seconds_are() {
    if cannot_run() {
        return;
    }
    const LOSSY: &str = "10.99.0.1-10.99.0.20";
    const NOBODY: &str = "10.99.255.255";
    const NEVER: &str = "10.99.1.4";
    const WANTED: u64 = 8;
    let chain = Chain::new(1, Limits::Lifted);
    let target = &chain.nodes[2];
    target.sh("ip route add local 100.64.0.0/24 dev lo");
    let delay = Arc::new(AtomicU64::new(330));
    let late = delay.clone();
    let _responder = Responder::start(target, move |probe| {
        let after = Duration::from_millis(late.load(Ordering::Relaxed));
        Some((probe.to, Reply::Echo, after))
    });
    target.nft(&drops(NEVER, NOBODY));
    // So many that twenty of them are no line in trouble.
    let mut peers: String = (1..=150).map(|it| format!("10.99.0.{it}\n")).collect();
    peers += &format!(
        "10.99.1.1 name=maintained\n10.99.1.2 silent\n100.64.0.3\n{NEVER}\n172.16.0.1 name=late\n"
    );
    let here = node("here", &peers, "");
    let config = |maintenance: &str| {
        here.configure(&format!(
            "listen = [{:?}]\nnode = \"here\"\n[mesh]\npeers_file = {:?}\nevents_per_hour = {WANTED}\n{maintenance}\n",
            here.socket(),
            here.dir.join("peers"),
        ));
    };
    config(
        "maintenance = [{ from = \"2020-01-01T00:00Z\", to = \"2099-01-01T00:00Z\", peer = \"maintained\" }]",
    );
    let program = start_in(&here, chain.source());
    let peer = |standing: &Value, address: &str| {
        let peers = standing["peers"].as_array().expect("a list").iter();
        let mut found = peers.filter(|it| it["address"] == address);
        found.next().expect("on the list").clone()
    };
    let pings = |standing: &Value, least: u64| {
        let peers = standing["peers"].as_array().expect("a list");
        peers.iter().all(|it| it["pings"].as_u64() >= Some(least))
    };
    stands(&here, |it| pings(it, 12));

    let quiet = ["10.99.1.1", "10.99.1.2", "100.64.0.3"];
    target.nft(&drops(&format!("{}, {NEVER}", quiet.join(", ")), NOBODY));
    let standing = stands(&here, |it| {
        quiet.iter().all(|of| peer(it, of)["state"] == "troubled")
    });
    assert_eq!(standing["counts"]["events"], 0, "{standing}");
    assert_eq!(peer(&standing, NEVER)["state"], "silent");
    // What outlasts its maintenance is raised, and the others still are not.
    config("");
    program.signal(Signal::SIGHUP);
    let standing = stands(&here, |it| it["counts"]["events"] == 1);
    assert_eq!(standing["events"][0]["target"]["asked"], "maintained");

    // What is usual is known after a minute.
    let standing = stands(&here, |it| peer(it, "172.16.0.1")["usual_ms"].is_number());
    let usual = peer(&standing, "172.16.0.1")["usual_ms"].as_f64();
    let longer = Duration::from_secs_f64(usual.expect("a number") * 1.3 / 1_000.0);
    let longer = longer + Duration::from_millis(60);
    delay.store(longer.as_millis() as u64, Ordering::Relaxed);
    let standing = stands(&here, |it| it["counts"]["events"] == 2);
    let event = &standing["events"][1];
    assert_eq!(event["target"]["asked"], "late", "{event}");
    assert_eq!(event["incident"]["peer"]["trouble"], "latency", "{event}");

    // More than the cap are caught; it is said how many.
    target.nft(&drops(NEVER, LOSSY));
    std::thread::sleep(Duration::from_secs(10));
    target.nft(&drops(NEVER, NOBODY));
    let caught = |it: &Value| {
        it["counts"]["events"].as_u64().expect("a number") - 2
            + it["counts"]["capped"].as_u64().expect("a number")
    };
    let standing = stands(&here, |it| caught(it) >= 14);
    assert_eq!(standing["counts"]["events"], WANTED, "{standing}");
    here.message("events above the cap");
    assert!(here.metric("mesh_events_capped") >= 8, "{}", here.log());
    assert!(here.log().contains("8 events were raised within an hour"));
}
