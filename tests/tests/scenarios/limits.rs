//! Promise: limits hold with cgroups and without, what an agent uses is told,
//! and an end by a limit says by which.

use e2e::agent::{Agent, Settings, is_root};
use e2e::bundle::Bundle;
use e2e::fake_server::FakeServer;
use e2e::process::{self, Process};
use e2e::{control_group, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::stage::package_job;

const POLICY: &str = "[restart]\ncheck = 1\nholdoff = 3600\nstable = 3600\nmax_anomalies = 9\n";

/// A host and what it is asked by.
struct Scene {
    host: Agent,
    fake: FakeServer,
    files: TempDir,
}

impl Scene {
    fn start(launcher: &[&str]) -> Self {
        let fake = FakeServer::start();
        let mut settings = Settings::new(&fake.address()).with(POLICY);
        settings.launcher = launcher.iter().map(|word| (*word).to_owned()).collect();
        let host = Agent::start(&settings);
        host.until_confirmed();
        let files = tempfile::tempdir().expect("a temporary folder");
        Self { host, fake, files }
    }

    /// A host that sees no cgroups.
    fn without_cgroups() -> Self {
        if !is_root() {
            return Self::start(&[]);
        }
        let script = "umount -l -a -t cgroup,cgroup2 && exec \"$0\" \"$@\"";
        Self::start(&["unshare", "--mount", "sh", "-c", script])
    }

    fn install(&self, name: &str, flags: &[&str], limits: Value) {
        let bundle = Bundle::new(name, "1.0.0", flags)
            .notify()
            .key("stop_timeout", json!(60))
            .key("limits", limits);
        let job = package_job(
            &self.files,
            &format!("install-{name}"),
            name,
            &bundle.build(),
        );
        self.fake.succeed(job);
    }

    fn limits(&self, name: &str) -> Value {
        self.host.child(name).expect("it is known")["limits"].clone()
    }

    fn event(&self, category: &str, name: &str) -> String {
        wait::until(&format!("the {category} event of {name}"), || {
            let events = self.fake.events();
            let mut events = events.iter();
            let is_it = |event: &&Value| event["category"] == category && event["subject"] == name;
            Some(events.find(is_it)?["message"].to_string())
        })
    }

    fn marker(&self, word: &str) -> String {
        format!("{}-{word}", self.host.cgroup())
    }
}

fn one(marker: &str) -> Process {
    wait::until(&format!("a process {marker}"), || {
        process::with_argument(marker).first().copied()
    })
}

#[test]
fn what_an_agent_uses_and_waits_for_is_told() {
    let scene = Scene::start(&[]);
    if control_group::folders(scene.host.cgroup()).is_empty() {
        println!("SKIPPED: throttling and usage, because there are no cgroups here");
        return;
    }
    let limits = json!({ "CPU": "10%", "memory": "64M", "pids": 50, "files": 300 });
    scene.install("busy", &["--ready", "--burn", "600000"], limits);
    let told = wait::until("the throttling", || {
        let told = scene.limits("busy");
        let has_waited = told["throttled_seconds"].as_f64()? > 0.2;
        (has_waited && told["throttled_periods"].as_u64()? > 1).then_some(told)
    });
    assert_eq!(told["CPU"], "10%");
    assert_eq!(told["memory"], "64M");
    assert_eq!((&told["pids"], &told["files"]), (&json!(50), &json!(300)));
    assert_eq!(
        (&told["pids_used"], &told["oom_kills"]),
        (&json!(1), &json!(0))
    );
    assert!(
        told["cpu_seconds"].as_f64().is_some_and(|used| used > 0.0),
        "{told}"
    );
    assert!(
        told["memory_used"].as_u64().is_some_and(|used| used > 0),
        "{told}"
    );
    let shown = scene.host.ask(&["agents"]);
    for word in ["CPU", "OOM", "PIDS", "throttled", "1/50"] {
        assert!(shown.contains(word), "{word:?} is not in {shown}");
    }
    wait::until_true("the same in a status", || {
        let status = scene.fake.next_status().body;
        status["agents"][0]["limits"]["throttled_periods"].as_u64() > Some(1)
    });
}

#[test]
fn a_helper_that_ran_out_of_memory_makes_no_later_end_one_by_the_limit() {
    let scene = Scene::start(&[]);
    if control_group::folders(scene.host.cgroup()).is_empty() {
        println!("SKIPPED: an out-of-memory kill, because there are no cgroups here");
        return;
    }
    let flags = [
        "--ready",
        "--await",
        "--allocate 256 --exit 0",
        "--print",
        "goes on",
        "--exit",
        "3",
    ];
    scene.install("parent", &flags, json!({ "memory": "48M" }));
    if scene.limits("parent")["enforced_by"] == "cgroup2" {
        // The group goes together: it is the end of all of them.
        assert!(scene.event("killed", "parent").contains("memory limit 48M"));
        return;
    }
    let told = scene.event("crash", "parent");
    assert!(told.contains("exit code 3"), "{told}");
    assert!(told.contains("out-of-memory killer took 1"), "{told}");
    assert!(scene.host.child_log("parent").contains("goes on"));
    let killed = scene.limits("parent")["oom_kills"].as_u64();
    assert!(killed.is_some_and(|kills| kills > 0), "{killed:?}");
    assert_eq!(
        scene.host.child("parent").expect("known")["status"],
        "stoped"
    );
    // Nor does what was counted then colour the next run.
    let order = json!({ "id": "again", "action": "config", "name": "parent", "limits": {} });
    scene.fake.succeed(order);
    wait::until_true("its second end", || {
        let events = scene.fake.events();
        events
            .iter()
            .filter(|event| event["category"] == "crash")
            .count()
            == 2
    });
}

#[test]
fn processes_that_are_refused_at_the_limit_are_counted_and_told_once() {
    let scene = Scene::start(&[]);
    if control_group::folders(scene.host.cgroup()).is_empty() {
        println!("SKIPPED: refused processes, because there are no cgroups here");
        return;
    }
    scene.install("bomb", &["--bomb", "--ready"], json!({ "pids": 5 }));
    let told = scene.event("forks", "bomb");
    assert!(told.contains("at its limit of 5"), "{told}");
    let refused = || scene.limits("bomb")["refused_forks"].as_u64();
    let before = refused();
    assert!(before > Some(0), "{before:?}");
    let shown = scene.host.ask(&["agents"]);
    assert!(shown.contains("refused)"), "{shown}");
    // Again in the same quarter of an hour: counted, and no more news.
    scene
        .fake
        .succeed(json!({ "id": "again", "action": "restart", "name": "bomb" }));
    wait::until_true("more of them", || refused() > before);
    wait::until_true("the same in a status", || {
        let status = scene.fake.next_status().body;
        status["agents"][0]["limits"]["refused_forks"].as_u64() > before
    });
    scene.fake.next_status();
    let events = scene.fake.events();
    let told = events.iter().filter(|event| event["category"] == "forks");
    assert_eq!(told.count(), 1);
}

#[test]
fn an_end_by_the_memory_limit_that_nobody_saw_is_told_as_one() {
    let mut scene = Scene::start(&[]);
    if control_group::folders(scene.host.cgroup()).is_empty() {
        println!("SKIPPED: an out-of-memory kill, because there are no cgroups here");
        return;
    }
    let flags = ["--ready", "--after", "3000", "--allocate", "256"];
    scene.install("greedy", &flags, json!({ "memory": "48M" }));
    let child = scene.host.process("greedy").expect("it runs");
    scene.host.kill();
    wait::until_true("its end", || !child.is_alive());
    scene.host.run();
    let told = scene.event("killed", "greedy");
    assert!(told.contains("memory limit 48M"), "{told}");
}

#[test]
fn without_cgroups_an_agent_over_its_memory_is_killed_with_all_it_started() {
    let scene = Scene::without_cgroups();
    let orphan = scene.marker("orphan");
    let words = format!("--marker {orphan} --ignore-term --allocate 128");
    let flags = ["--daemon", &words, "--ready"];
    scene.install("greedy", &flags, json!({ "CPU": "50%", "memory": "64M" }));
    assert_eq!(scene.limits("greedy")["enforced_by"], "watch");
    let told = scene.event("killed", "greedy");
    assert!(told.contains("memory limit 64M"), "{told}");
    let child = scene.host.child("greedy").expect("it is known");
    assert_eq!(
        (&child["status"], &child["detail"]),
        (&json!("killed"), &json!("hold-off")),
        "{child}"
    );
    assert_eq!(process::with_argument(&orphan), []);
    let notices = scene.host.status().expect("it answers")["notices"].to_string();
    assert!(notices.contains("CPU is not limited"), "{notices}");

    // Within its limits it runs, and what it uses is told.
    let more = json!({ "id": "more", "action": "config", "name": "greedy", "limits": { "memory": "512M", "pids": 50 } });
    scene.fake.succeed(more);
    wait::until_true("what it uses", || {
        let told = scene.limits("greedy");
        told["memory_used"].as_u64() > Some(128 << 20) && told["pids_used"] == 2
    });
    // It ignores TERM, and nobody here waits for stop_timeout.
    for left in process::with_argument(&orphan) {
        left.signal(Signal::SIGKILL);
    }
}

#[test]
fn without_cgroups_an_agent_with_too_many_processes_is_killed_with_all_of_them() {
    let scene = Scene::without_cgroups();
    let helper = scene.marker("helper");
    let spawn = format!("--marker {helper}");
    let mut flags = vec!["--ready"];
    for _ in 0..9 {
        flags.extend(["--spawn", &spawn]);
    }
    scene.install("many", &flags, json!({ "pids": 5 }));
    let told = scene.event("killed", "many");
    assert!(told.contains("limit of 5 processes"), "{told}");
    wait::until_true("the end of all", || {
        scene
            .host
            .child("many")
            .is_some_and(|child| child["status"] == "killed")
    });
    assert_eq!(process::with_argument(&helper), []);
}

#[test]
fn without_cgroups_a_stop_ends_orphans_too_also_after_a_crash_of_bootagent() {
    let mut scene = Scene::without_cgroups();
    for is_adopted in [false, true] {
        let name = if is_adopted { "adopted" } else { "own" };
        let orphan = scene.marker(name);
        let daemon = format!("--marker {orphan}");
        scene.install(name, &["--daemon", &daemon, "--ready"], json!({}));
        let main = scene.host.process(name).expect("it runs");
        let orphan = one(&orphan);
        if is_adopted {
            scene.host.kill();
            scene.host.run();
            scene.host.until_confirmed();
            assert_eq!(scene.host.process(name), Some(main));
        }
        let order = json!({ "id": format!("stop-{name}"), "action": "stop", "name": name });
        scene.fake.succeed(order);
        assert!(!main.is_alive());
        assert!(!orphan.is_alive(), "{name}");
        orphan.signal(Signal::SIGKILL);
    }
}
