//! A BootAgent changes to the program that is installed now without its
//! children noticing, and goes on as it is when that is none.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::agent::{Agent, Settings, copy_executable};
use e2e::bundle::{Bundle, checksum};
use e2e::fake_server::FakeServer;
use e2e::process::Process;
use e2e::{binaries, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A host whose program is a file of its own, with one child.
struct Scene {
    fake: FakeServer,
    host: Agent,
    program: PathBuf,
    child: Process,
    files: TempDir,
}

impl Scene {
    fn new(tables: &str) -> Self {
        let fake = FakeServer::start();
        let mut host = Agent::prepare(&Settings::new(&fake.address()).with(tables));
        let program = host.copy_program();
        host.run();
        host.until_confirmed();
        let files = tempfile::tempdir().expect("a folder");
        let mut scene = Self {
            fake,
            host,
            program,
            child: Process {
                pid: 0,
                start_ticks: 0,
            },
            files,
        };
        let bundle = Bundle::new("worker", "1", &["--lock", "alone", "--ready"]).notify();
        scene.fake.succeed(scene.install("install", &bundle));
        scene.child = scene.host.process("worker").expect("it runs");
        scene
    }

    fn install(&self, id: &str, bundle: &Bundle) -> Value {
        let package = bundle.build();
        let path = self.files.path().join(id);
        fs::write(&path, &package).expect("written");
        json!({
            "id": id, "action": "install", "name": "worker", "checksum": checksum(&package),
            "url": format!("file://{}", path.display()),
        })
    }

    /// Another file at the program's path, as a package manager puts it there.
    fn replace(&self, content: &[u8]) {
        let content_file = self.files.path().join("content");
        fs::write(&content_file, content).expect("written");
        let new = self.program.with_extension("new");
        copy_executable(&content_file, &new);
        fs::rename(&new, &self.program).expect("renamed");
    }

    fn replace_by_itself(&self) {
        self.replace(&fs::read(binaries::bootagent()).expect("readable"));
    }

    /// What the kernel says the daemon executes.
    fn executed(&self) -> PathBuf {
        fs::read_link(format!("/proc/{}/exe", self.host.pid())).expect("it runs")
    }

    /// What a change to `content` is refused with; everything goes on.
    fn refused(&self, content: &[u8]) -> String {
        let running = self.executed();
        self.replace(content);
        let output = self.host.bootctl(&["reexec"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("goes on"), "{said}");
        // The file was replaced, the process was not.
        let still = self.executed();
        assert_eq!(strip(&still), strip(&running));
        assert_eq!(self.host.process("worker"), Some(self.child));
        // It still works: the refusal is an event, and a server gets it.
        wait::until_true("the event of the refusal", || {
            let events = self.fake.events();
            events.iter().any(|event| {
                event["category"] == "reexec"
                    && event["message"]
                        .as_str()
                        .is_some_and(|text| said.contains(text))
            })
        });
        said
    }
}

fn strip(path: &Path) -> String {
    path.display().to_string().replace(" (deleted)", "")
}

#[test]
fn a_new_program_takes_over_in_place() {
    let mut scene = Scene::new("");
    let daemon = scene.host.pid();
    scene.replace_by_itself();
    assert!(
        scene
            .executed()
            .display()
            .to_string()
            .ends_with(" (deleted)")
    );
    let said = scene.host.ask(&["reexec"]);
    assert!(said.contains("was executed anew"), "{said}");
    // The same process, the new file, the same child, which is still its own.
    assert!(scene.host.is_running());
    assert_eq!(scene.host.pid(), daemon);
    assert_eq!(scene.executed(), scene.program);
    assert_eq!(scene.host.process("worker"), Some(scene.child));
    let stat = fs::read_to_string(format!("/proc/{}/stat", scene.child.pid)).expect("it runs");
    let (_, rest) = stat.rsplit_once(')').expect("a stat");
    assert_eq!(
        rest.split_whitespace().nth(1),
        Some(daemon.to_string().as_str())
    );
    // The lock was held all the time, and is.
    let second = scene.host.run_to_its_end();
    assert!(!second.status.success());
    // Nothing of the handover stays open for those that are started later.
    scene.host.ask(&["restart", "worker"]);
    let child = scene.host.process("worker").expect("it runs");
    let open = fs::read_dir(format!("/proc/{}/fd", child.pid)).expect("it runs");
    let strange: Vec<_> = open
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|path| path.to_string_lossy().contains("run/bootagent/lock"))
        .collect();
    assert_eq!(strange, Vec::<PathBuf>::new());
    let environment = fs::read(format!("/proc/{}/environ", child.pid)).expect("it runs");
    assert!(!String::from_utf8_lossy(&environment).contains("HANDOVER"));
}

#[test]
fn how_a_child_ends_is_known_over_a_reexec() {
    const ROUNDS: usize = 12;
    let scene = Scene::new("[restart]\ncheck = 1\nholdoff = 1\nstable = 1\nmax_anomalies = 1000\n");
    let mut child = scene.child;
    for round in 0..ROUNDS {
        // Before, at, and after the moment of the exec.
        if round % 2 == 0 {
            child.signal(Signal::SIGUSR1);
            scene.host.ask(&["reexec"]);
        } else {
            scene.host.ask(&["reexec"]);
            child.signal(Signal::SIGUSR1);
        }
        child = wait::until("the next run of the child", || {
            scene.host.process("worker").filter(|next| *next != child)
        });
    }
    let crashes = || -> Vec<String> {
        let events = scene.fake.events().into_iter();
        let crashes = events.filter(|event| event["category"] == "crash");
        let mut crashes: Vec<_> = crashes
            .map(|event| format!("{} {}", event["seq"], event["message"]))
            .collect();
        crashes.sort();
        crashes.dedup();
        crashes
    };
    wait::until_true("an event of every crash", || crashes().len() >= ROUNDS);
    let crashes = crashes();
    assert_eq!(crashes.len(), ROUNDS, "{crashes:?}");
    for crash in &crashes {
        assert!(crash.contains("signal 10"), "{crash}");
    }
}

#[test]
fn a_program_that_is_none_is_not_executed() {
    let scene = Scene::new("");
    let whole = fs::read(binaries::bootagent()).expect("readable");
    scene.refused(&whole[..100_000]);
    let said = scene.refused(b"#!/bin/sh\necho another program 1.0\n");
    assert!(said.contains("is no bootagent"), "{said}");
    let said = scene.refused(b"#!/bin/sh\necho broken >&2; exit 3\n");
    assert!(said.contains("exit code 3 broken"), "{said}");
    // One that is gone when it is to be executed.
    let said = scene.refused(b"#!/bin/sh\n[ $1 != -T ] || rm \"$0\"; echo bootagent 9.9.9\n");
    assert!(said.contains("executing"), "{said}");
    scene.replace_by_itself();
    scene.host.ask(&["reexec"]);
    assert_eq!(scene.executed(), scene.program);
    assert_eq!(scene.host.process("worker"), Some(scene.child));
}

/// A script that says it is a new version, and whose test ends so.
fn program_whose_test(does: &str) -> Vec<u8> {
    format!("#!/bin/sh\n[ $1 = -V ] && echo bootagent 9.9.9 && exit\n{does}\n").into_bytes()
}

#[test]
fn a_program_that_does_not_pass_its_own_test_is_not_executed() {
    let scene = Scene::new("");
    // It does not know a key of the configuration, or an option.
    let said = scene.refused(&program_whose_test(
        "echo 'fail  configuration  unknown key: restart'; exit 1",
    ));
    assert!(said.contains("configuration: unknown key"), "{said}");
    let said = scene.refused(&program_whose_test("echo unknown option >&2; exit 2"));
    assert!(said.contains("exit code 2 unknown option"), "{said}");
    let said = scene.refused(&program_whose_test("kill -SEGV $$"));
    assert!(said.contains("-T: signal 11"), "{said}");
    // What is wrong with the host keeps nobody from a new version.
    // Nor does a test of which more than 64 KiB are told.
    let agents = scene.host.path("usr/lib/bootagent/agents");
    for number in 0..500 {
        let broken = agents.join(format!("broken-and-with-a-very-long-name-{number:03}"));
        fs::create_dir_all(&broken).expect("a folder");
        fs::write(broken.join("agent.json"), "{").expect("written");
    }
    scene.replace_by_itself();
    let said = scene.host.ask(&["reexec"]);
    assert!(said.contains("was executed anew"), "{said}");
    assert_eq!(scene.host.process("worker"), Some(scene.child));
    // With this configuration no version would start: what runs goes on.
    let configuration = scene.host.config();
    let good = fs::read(&configuration).expect("readable");
    fs::write(&configuration, "what = is this").expect("written");
    let whole = fs::read(binaries::bootagent()).expect("readable");
    let said = scene.refused(&whole);
    assert!(said.contains("-T: configuration:"), "{said}");
    // What a SIGHUP does not take does not come by a change of the program.
    fs::write(&configuration, "# nothing is left\n").expect("written");
    let said = scene.refused(&whole);
    assert!(said.contains("is missing or sets nothing"), "{said}");
    let elsewhere = format!("root = {:?}\n", scene.files.path());
    fs::write(&configuration, elsewhere).expect("written");
    let said = scene.refused(&whole);
    assert!(said.contains("restart bootagent to change it"), "{said}");
    fs::write(&configuration, good).expect("written");
    scene.host.ask(&["reexec"]);
}

#[test]
fn a_job_that_runs_over_a_reexec_ends_once_and_well() {
    let scene = Scene::new("");
    let slow = |version: &str| {
        Bundle::new("worker", version, &["--lock", "alone", "--ready"])
            .notify()
            .key("check", json!(["./run", "--after", "400", "--exit", "0"]))
    };
    for round in 2..6 {
        let (id, version) = (format!("upgrade-{round}"), round.to_string());
        let mut job = scene.install(&id, &slow(&version));
        job["action"] = json!("upgrade");
        scene.fake.offer(job);
        wait::until_true("the check of the new version", || {
            let record = scene.host.path("run/bootagent/children/job.check.json");
            record.exists()
        });
        scene.host.ask(&["reexec"]);
        let result = scene.fake.result(&id);
        assert_eq!(result["errcode"], 0, "{result}");
        let child = scene.host.child("worker").expect("it is known");
        assert_eq!(child["version"], version);
        assert_eq!(scene.host.child_file("worker", "alone.conflict"), None);
    }
}

#[test]
fn bootagent_itself_is_no_bundle() {
    let scene = Scene::new("");
    let mut job = scene.install("own", &Bundle::new("bootagent", "9.9.9", &[]));
    job["name"] = json!("BootAgent");
    let said = scene.fake.fail(job, 3005);
    assert!(said.contains("order its rpm or deb"), "{said}");
    assert_eq!(scene.host.process("worker"), Some(scene.child));
    assert!(!scene.host.path("var/lib/bootagent/takeover").exists());
}
