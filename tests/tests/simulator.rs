//! The simulator against the real server: what it counts is true, and what it
//! would miss if it waited for slow answers it does not miss.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use e2e::bundle::Bundle;
use e2e::server::Server;
use e2e::{binaries, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than any run here, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server, and a folder for what the simulator keeps.
struct Scene {
    server: Server,
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self {
            server: Server::start(),
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, line: &str) -> Run {
        let child = Command::new(binaries::bootserver_sim())
            .args(line.split_whitespace())
            .args(["--json", "--server", &self.server.address.to_string()])
            .arg("--identities")
            .arg(self.path("fleet"))
            .arg("--tokens")
            .arg(self.server.data().join("first-start.txt"))
            .stdout(Stdio::from(file(&self.path("out"))))
            .stderr(Stdio::from(file(&self.path("err"))))
            .spawn()
            .expect("the simulator can be run");
        Run { child }
    }

    /// Waits until it has ended well; returns its report.
    fn report(&self, mut run: Run) -> Value {
        let status = wait::within(PATIENCE, "the end of the simulator", || {
            run.child.try_wait().expect("it is ours")
        });
        let out = std::fs::read_to_string(self.path("out")).expect("its report");
        let err = std::fs::read_to_string(self.path("err")).expect("its messages");
        assert!(status.success(), "{status}: {err}{out}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Waits until statuses with events come in.
    fn wait_for_events(&self) {
        wait::within(PATIENCE, "the first event", || {
            let list = self.server.get("/events?limit=1");
            let some = list["items"]
                .as_array()
                .is_some_and(|list| !list.is_empty());
            some.then_some(())
        });
    }
}

/// A running simulator, which ends with its test.
struct Run {
    child: Child,
}

impl Run {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it is ours");
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn file(path: &Path) -> std::fs::File {
    std::fs::File::create(path).expect("a file")
}

fn number(report: &Value, pointer: &str) -> f64 {
    let found = report.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {pointer} in {report:#}"))
}

#[test]
fn what_a_saturating_run_counts_is_what_the_server_has() {
    let scene = Scene::new();
    let enrolled = scene.start("enrol --hosts 200 --connections 16");
    let mut enrolled = enrolled;
    let status = wait::within(PATIENCE, "the enrolment", || {
        enrolled.child.try_wait().expect("it is ours")
    });
    assert!(status.success());
    let pid = scene.server.pid();
    let line = "saturate --connections 16 --seconds 2 --events 10% --jobs 30 --twice 2%";
    let run = scene.start(&format!(
        "{line} --pids {pid} --data {}",
        scene.folder.path().display()
    ));
    let report = scene.report(run);
    assert_eq!(number(&report, "/hosts"), 200.0);
    let posts = number(&report, "/posts");
    assert!(posts > 20.0, "{report:#}");
    assert!(number(&report, "/statuses/200") >= posts);
    assert_eq!(report["broken"], serde_json::json!({}));
    assert_eq!(number(&report, "/wrong"), 0.0);
    for kind in ["events", "results"] {
        let acknowledged = number(&report, &format!("/{kind}/acknowledged"));
        assert!(acknowledged > 0.0, "{report:#}");
        for bad in ["lost", "doubled", "invented"] {
            assert_eq!(
                number(&report, &format!("/{kind}/{bad}")),
                0.0,
                "{kind} {bad}"
            );
        }
    }
    assert_eq!(
        number(&report, "/events/sent"),
        number(&report, "/events/acknowledged")
    );
    assert!(number(&report, "/server/cpu_seconds") > 0.0);
    assert!(number(&report, "/server/pss_mb") > 1.0);
    assert!(number(&report, "/sync_ms/before/p50") > 0.0);
}

#[test]
fn no_acknowledged_event_or_result_is_lost_when_the_server_is_killed_in_between() {
    let mut scene = Scene::new();
    let run = scene.start(
        "fleet --hosts 200 --step 1 --seconds 12 --events 20% --jobs 20 --twice 5% --abort 5% \
         --slow 1% --garbage 2% --reboot 1%",
    );
    scene.wait_for_events();
    scene.server.kill_and_start_again();
    let report = scene.report(run);
    assert!(number(&report, "/events/acknowledged") > 0.0);
    let broken = report["broken"].as_object().expect("a map");
    assert!(
        broken.contains_key("refused") || broken.contains_key("cut"),
        "{report:#}"
    );
    for kind in ["events", "results"] {
        for bad in ["lost", "doubled", "invented"] {
            let value = report.pointer(&format!("/{kind}/{bad}"));
            assert_eq!(value.and_then(Value::as_u64), Some(0), "{report:#}");
        }
    }
}

#[test]
fn packages_are_fetched_and_what_their_programs_do_is_told() {
    let scene = Scene::new();
    let mut enrolled = scene.start("enrol --hosts 60 --connections 16");
    let status = wait::within(PATIENCE, "the enrolment", || {
        enrolled.child.try_wait().expect("it is ours")
    });
    assert!(status.success());
    let hosts = scene.server.get("/hosts?limit=500");
    let hosts = hosts["items"].as_array().expect("a list");
    let hosts: Vec<_> = hosts.iter().map(|host| host["agentsn"].clone()).collect();
    assert_eq!(hosts.len(), 60);
    let payload: Vec<u8> = (0..1_000_000_u32).map(|it| (it % 251) as u8).collect();
    for version in ["2.0.0-1", "3.0.0-1"] {
        let bundle = Bundle::new("flux-push", version, &[]).file("payload", &payload, 0o644);
        let package = scene.server.upload(&bundle.build());
        let order = json!({"action": "upgrade", "package": package, "hosts": hosts});
        let reply = scene.server.post("/jobs", &order);
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
    let line = "fleet --step 2 --seconds 15 --bad-version 3.0.0-1 --rolls-back 30% --crashes 30%";
    let report = scene.report(scene.start(line));
    let of = |pointer: &str| number(&report, &format!("/installs{pointer}"));
    assert_eq!(of("/downloads"), 120.0, "{report:#}");
    assert!(of("/bytes") > 120_000.0);
    let rolled_back = of("/failed/4006");
    assert_eq!(of("/succeeded") + rolled_back, 120.0);
    assert!(of("/crashed") > 0.0 && rolled_back > 0.0, "{report:#}");
    assert_eq!(number(&report, "/results/acknowledged"), 120.0);
    // The server has it as the report has.
    let failed = scene.server.get("/job-results?limit=500");
    let failed = failed["items"].as_array().expect("a list").iter();
    let failed = failed.filter(|result| result["errcode"] == 4006).count();
    assert_eq!(failed as f64, rolled_back);
    let events = scene.server.get("/events?limit=500");
    let events = events["items"].as_array().expect("a list");
    assert_eq!(events.len() as f64, of("/crashed"));
    assert!(events.iter().all(|event| event["version"] == "3.0.0-1"));
    let states = hosts.iter().map(|agentsn| {
        let agent = scene
            .server
            .agent(agentsn.as_str().expect("text"), "flux-push");
        agent.expect("it is reported")
    });
    let old = states.filter(|agent| agent["version"] == "2.0.0-1").count();
    assert_eq!(old as f64, rolled_back);
}

#[test]
fn a_server_that_stalls_shows_it_in_the_latency_of_all_who_were_due_meanwhile() {
    let scene = Scene::new();
    let run = scene.start("fleet --hosts 200 --step 1 --seconds 8 --events 20%");
    scene.wait_for_events();
    let stall = Duration::from_secs(2);
    scene.server.stall(stall);
    let report = scene.report(run);
    // 200 posts a second: a client that waited for its answers would show as
    // many slow ones as it has connections.
    assert!(number(&report, "/latency_ms/max") >= 1800.0, "{report:#}");
    assert!(number(&report, "/latency_ms/p90") >= 500.0, "{report:#}");
}

#[test]
fn an_interrupt_ends_a_run_with_the_report_so_far() {
    let scene = Scene::new();
    let run = scene.start("herd --power-on --hosts 50 --step 5 --seconds 3600 --events 50%");
    scene.wait_for_events();
    run.signal(Signal::SIGINT);
    let report = scene.report(run);
    assert_eq!(report["interrupted"], true);
    assert!(number(&report, "/events/acknowledged") > 0.0);
}

#[test]
fn the_help_the_version_and_the_test_of_options_answer() {
    let scene = Scene::new();
    let sim = |words: &[&str]| -> Output {
        let command = Command::new(binaries::bootserver_sim())
            .args(words)
            .output();
        command.expect("the simulator can be run")
    };
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said(&sim(&["-h"])).contains("--identities FILE"));
    assert!(said(&sim(&["-V"])).starts_with("bootserver-sim "));
    let tokens = scene.server.data().join("first-start.txt");
    let tokens = tokens.to_str().expect("text");
    let address = scene.server.address.to_string();
    let good = sim(&["fleet", "-T", "-s", &address, "--tokens", tokens]);
    assert!(good.status.success(), "{}", said(&good));
    assert!(said(&good).contains("is ready"));
    let bad = sim(&["fleet", "-T", "-s", &address, "--tokens", "/no/such/file"]);
    assert!(!bad.status.success());
    assert!(
        said(&bad).contains("fail  --tokens: reading /no/such/file"),
        "{}",
        said(&bad)
    );
}
