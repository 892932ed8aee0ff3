//! Promise: what ends abnormally is told at once, with its last words, comes
//! back after the hold-off, and is given up when it keeps ending; what ends
//! at a limit says so.

use std::fs;
use std::time::{Duration, Instant};

use e2e::agent::{Agent, Settings};
use e2e::bundle::{Bundle, checksum};
use e2e::fake_server::FakeServer;
use e2e::process::Process;
use e2e::server::Server;
use e2e::{control_group, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// Numbers of the restart policy a test has the time for.
const SHORT: &str = "[restart]\ncheck = 1\nholdoff = 2\nstable = 30\nmax_anomalies = 1\n";
const HOLDOFF: Duration = Duration::from_secs(2);
/// When it would have been started again, had it been: hold-off, look, and
/// the same again.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

/// A confirmed host with this policy.
fn host(server: &Server, policy: &str) -> Agent {
    let host = Agent::start(&Settings::of(server).with(policy));
    host.until_confirmed();
    host
}

fn install(server: &Server, host: &Agent, bundle: &Bundle) -> Value {
    let package = server.upload(&bundle.build());
    let order = json!({ "action": "install", "package": package });
    server.succeed(&host.agentsn(), order)
}

/// How often a child with `--lock held` has run.
fn runs(host: &Agent, name: &str) -> usize {
    let held = host.child_file(name, "held");
    held.map_or(0, |held| held.lines().count())
}

/// Waits for the first event of this kind about `name`.
fn event(server: &Server, host: &Agent, category: &str, name: &str) -> Value {
    let sn = host.agentsn();
    wait::until(&format!("the {category} event of {name}"), || {
        let mut events = server.events(&sn).into_iter();
        events.find(|event| event["category"] == category && event["subject"] == name)
    })
}

fn events(server: &Server, host: &Agent, category: &str) -> Vec<Value> {
    let events = server.events(&host.agentsn()).into_iter();
    events
        .filter(|event| event["category"] == category)
        .collect()
}

/// What the server knows of a child once it is in this state.
fn reported(server: &Server, host: &Agent, name: &str, state: &str) -> Value {
    let sn = host.agentsn();
    wait::until(&format!("{name} {state}"), || {
        server
            .agent(&sn, name)
            .filter(|agent| agent["status"] == state)
    })
}

fn message(event: &Value) -> &str {
    event["message"].as_str().unwrap_or_default()
}

#[test]
fn a_child_that_keeps_crashing_is_told_held_off_and_given_up() {
    let server = Server::start();
    let host = host(&server, SHORT);
    let flags = [
        "--lock",
        "held",
        "--ready",
        "--print",
        "opening the pool",
        "--print",
        "pool: no such device",
        "--after",
        "400",
        "--exit",
        "3",
    ];
    let bundle = Bundle::new("weak", "1.0", &flags).notify();
    // A moment before its end: that of the last look that found it, begun.
    let mut alive = Instant::now();
    install(&server, &host, &bundle);
    wait::until_true("its first end", || {
        let looked = Instant::now();
        let is_there = host.process("weak").is_some();
        if is_there {
            alive = looked;
        }
        !is_there
    });
    let waiting = host.child("weak").expect("it is known");
    assert_eq!(waiting["status"], "stoped", "{waiting}");
    assert_eq!(
        (&waiting["wanted"], &waiting["detail"]),
        (&json!("running"), &json!("hold-off"))
    );
    assert_eq!(waiting["anomalies"], 1);
    assert!(
        waiting["retry_in"].as_u64().is_some_and(|wait| wait <= 3),
        "{waiting}"
    );
    wait::until_true("its second run", || runs(&host, "weak") == 2);
    let away = alive.elapsed();
    assert!(away >= HOLDOFF, "started again after {away:?}");

    // Its last words, and what it was.
    let crash = event(&server, &host, "crash", "weak");
    assert!(message(&crash).contains("exit code 3"), "{crash}");
    assert!(message(&crash).contains("anomalies in a row: 1"), "{crash}");
    assert_eq!(crash["version"], "1.0");
    assert_eq!(
        crash["tail"],
        json!(["opening the pool", "pool: no such device"])
    );

    // More than one anomaly in a row: given up, and told.
    let fatal = event(&server, &host, "fatal", "weak");
    assert!(message(&fatal).contains("start it"), "{fatal}");
    let given_up = reported(&server, &host, "weak", "fatal");
    assert_eq!(
        (&given_up["wanted"], &given_up["anomalies"]),
        (&json!("running"), &json!(2))
    );
    assert_eq!(events(&server, &host, "crash").len(), 2);
    let begun = Instant::now();
    while begun.elapsed() < LONG_ENOUGH {
        assert_eq!(runs(&host, "weak"), 2, "it was started again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(host.ask(&["status"]).contains("fatal"));

    // An operator may try again, and that forgets the anomalies.
    server.succeed(
        &host.agentsn(),
        json!({ "action": "start", "name": "weak" }),
    );
    assert_eq!(runs(&host, "weak"), 3);
    wait::until_true("its next run after that", || runs(&host, "weak") == 4);
    reported(&server, &host, "weak", "fatal");
    assert_eq!(events(&server, &host, "fatal").len(), 2);
}

#[test]
fn fatal_and_hold_off_survive_a_crash_of_bootagent() {
    let server = Server::start();
    let mut host = host(&server, SHORT);
    let flags = ["--lock", "held", "--ready", "--after", "300", "--abort"];
    install(&server, &host, &Bundle::new("weak", "1.0", &flags).notify());
    let crash = event(&server, &host, "crash", "weak");
    assert!(message(&crash).contains("signal 6"), "{crash}");
    host.kill();
    host.run();
    reported(&server, &host, "weak", "fatal");
    let tried = runs(&host, "weak");
    assert_eq!(tried, 2, "the anomaly before the crash was forgotten");
    host.kill();
    host.run();
    host.until_confirmed();
    let begun = Instant::now();
    while begun.elapsed() < LONG_ENOUGH {
        assert_eq!(runs(&host, "weak"), tried, "a crash of ours is no operator");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(host.child("weak").expect("known")["status"], "fatal");
}

#[test]
fn a_new_version_forgets_what_the_old_one_did() {
    let server = Server::start();
    let host = host(&server, SHORT);
    let flags = ["--lock", "held", "--ready", "--after", "200", "--exit", "9"];
    install(&server, &host, &Bundle::new("weak", "1.0", &flags).notify());
    reported(&server, &host, "weak", "fatal");
    let fixed = Bundle::new("weak", "1.1", &["--lock", "held", "--ready"]).notify();
    let package = server.upload(&fixed.build());
    let order = json!({ "action": "upgrade", "package": package });
    server.succeed(&host.agentsn(), order);
    let running = reported(&server, &host, "weak", "running");
    assert_eq!(
        (&running["version"], &running["anomalies"]),
        (&json!("1.1"), &json!(0))
    );
}

#[test]
fn a_normal_end_is_no_crash_and_is_followed_by_a_start_at_the_next_look() {
    let server = Server::start();
    // A hold-off nobody would wait for.
    let policy = "[restart]\ncheck = 1\nholdoff = 3600\nstable = 30\nmax_anomalies = 0\n";
    let host = host(&server, policy);
    let flags = ["--lock", "held", "--ready", "--after", "100", "--exit", "0"];
    install(
        &server,
        &host,
        &Bundle::new("brief", "1.0", &flags).notify(),
    );
    wait::until_true("its third run", || runs(&host, "brief") >= 3);
    assert_eq!(host.child("brief").expect("known")["anomalies"], 0);
    let told = server.events(&host.agentsn());
    assert!(
        told.iter().all(|event| event["subject"] != "brief"),
        "{told:?}"
    );
}

#[test]
fn a_crash_is_told_at_once_however_long_the_step_is() {
    let server = FakeServer::start();
    let mut settings = Settings::new(&server.address());
    settings.push = "step = 3600\nmin_step = 3600\n".into();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bundle = Bundle::new("sudden", "1.0", &["--ready", "--print", "so far so good"]);
    let bundle = bundle.notify().build();
    let path = folder.path().join("sudden.tar.gz");
    fs::write(&path, &bundle).expect("writable");
    server.offer(json!({
        "id": "b7f6d1a2-3c1e-4b52-9f9e-0c7f5e3a9d11", "action": "install", "name": "sudden",
        "url": format!("file://{}", path.display()), "checksum": checksum(&bundle),
    }));
    let host = Agent::start(&settings);
    let done = server.result("b7f6d1a2-3c1e-4b52-9f9e-0c7f5e3a9d11");
    assert_eq!(done["errcode"], 0, "{done}");
    let child: Process = host.process("sudden").expect("it runs");
    wait::until_true("its line", || host.child_log("sudden").contains("so far"));
    child.signal(Signal::SIGKILL);
    let crash = wait::within(Duration::from_secs(10), "the event", || {
        let mut events = server.events().into_iter();
        events.find(|event| event["category"] == "crash")
    });
    assert!(message(&crash).contains("signal 9"), "{crash}");
    assert_eq!(crash["tail"], json!(["so far so good"]));
    // The default hold-off: it is not simply started again.
    let waiting = host.child("sudden").expect("known");
    assert_eq!(
        (&waiting["status"], &waiting["detail"]),
        (&json!("stoped"), &json!("hold-off"))
    );
    assert!(
        waiting["retry_in"].as_u64().is_some_and(|wait| wait > 120),
        "{waiting}"
    );
}

#[test]
fn what_takes_more_memory_than_it_may_is_killed_and_says_so() {
    let server = Server::start();
    let host = host(
        &server,
        "[restart]\ncheck = 1\nholdoff = 3600\nstable = 30\nmax_anomalies = 3\n",
    );
    let flags = [
        "--lock",
        "held",
        "--ready",
        "--after",
        "500",
        "--allocate",
        "256",
    ];
    let bundle = Bundle::new("greedy", "1.0", &flags)
        .notify()
        .key("limits", json!({ "memory": "48M" }));
    if control_group::folders(host.cgroup()).is_empty() {
        println!("SKIPPED: killed at the memory limit, because there are no cgroups here");
        return;
    }
    install(&server, &host, &bundle);
    let killed = reported(&server, &host, "greedy", "killed");
    assert_eq!(
        (&killed["wanted"], &killed["detail"]),
        (&json!("running"), &json!("hold-off"))
    );
    assert_eq!(killed["anomalies"], 1);
    assert!(
        killed["limits"]["oom_kills"]
            .as_u64()
            .is_some_and(|kills| kills > 0),
        "{killed}"
    );
    let told = event(&server, &host, "killed", "greedy");
    assert!(message(&told).contains("memory limit 48M"), "{told}");
    assert_eq!(events(&server, &host, "crash").len(), 0);
    assert!(host.ask(&["status"]).contains("killed"));

    // With enough of it, it runs.
    let more = json!({ "action": "config", "name": "greedy", "limits": { "memory": "512M" } });
    server.succeed(&host.agentsn(), more);
    wait::until_true("what it takes", || {
        let used = host
            .child("greedy")
            .and_then(|child| child["limits"]["memory_used"].as_u64());
        used.is_some_and(|used| used > 256 << 20)
    });
    let running = host.child("greedy").expect("known");
    assert_eq!(
        (&running["status"], &running["anomalies"]),
        (&json!("running"), &json!(0))
    );
}

#[test]
fn an_end_by_a_real_time_signal_is_told_and_hides_no_other() {
    let server = Server::start();
    let policy = "[restart]\ncheck = 1\nholdoff = 3600\nstable = 30\nmax_anomalies = 3\n";
    let host = host(&server, policy);
    for name in ["first", "second"] {
        install(
            &server,
            &host,
            &Bundle::new(name, "1.0", &["--ready"]).notify(),
        );
    }
    let [first, second] = ["first", "second"].map(|n| host.process(n).expect("it runs"));
    // One without a name in any library of signals.
    let script = format!("kill -40 {}", first.pid);
    let sh = std::process::Command::new("/bin/sh")
        .args(["-c", &script])
        .status();
    assert!(sh.expect("a shell").success());
    let crash = event(&server, &host, "crash", "first");
    assert!(message(&crash).contains("signal 40"), "{crash}");
    second.signal(Signal::SIGKILL);
    let crash = event(&server, &host, "crash", "second");
    assert!(message(&crash).contains("signal 9"), "{crash}");
}

#[test]
fn bootagent_ends_well_while_a_job_waits_for_a_child() {
    let server = Server::start();
    let mut host = host(&server, "");
    // Never ready: its install waits for the start timeout, 60 s.
    let bundle = Bundle::new("slow", "1.0", &["--lock", "held"]).notify();
    let package = server.upload(&bundle.build());
    server.order(
        &host.agentsn(),
        json!({ "action": "install", "package": package }),
    );
    wait::until_true("its start", || runs(&host, "slow") == 1);
    let ended = host.stop();
    assert!(ended.success(), "{ended}: {}", host.log());
    assert!(!host.log().contains("panicked"), "{}", host.log());
}
