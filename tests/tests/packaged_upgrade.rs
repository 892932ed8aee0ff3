//! Promise: an rpm or deb of a sub-agent that fails is put back by the host's
//! package manager, whatever happens meanwhile, and a package manager that
//! hangs, waits or fills the disk ends the job with its code.
//!
//! The machines are those of the packaging tests; the programs in them are
//! those of this build. The one rule: a scenario that cannot run here says
//! `SKIPPED` and why.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::binaries;
use e2e::fake_server::FakeServer;
use e2e::native::{CHILD, Kind, Native};
use e2e::tree::{First, Machine, obstacle};
use serde_json::{Value, json};

/// The agent all of them are about.
const NAME: &str = "mover";
const JOURNAL: &str = "/var/lib/bootagent/journal/journal";
/// How long something in a machine may take.
const LIMIT: Duration = Duration::from_secs(120);

/// A machine with a BootAgent, and a server in its network.
struct Scene<'a> {
    machine: &'a Machine,
    fake: FakeServer,
    kind: Kind,
    folder: tempfile::TempDir,
}

/// Runs `work` in a machine, or says why it cannot.
fn on_a_machine(kind: Kind, jobs: &str, work: impl FnOnce(&Scene<'_>) + Send) {
    let programs: &[&str] = match kind {
        Kind::Rpm => &["rpmbuild", "cp"],
        Kind::Deb => &["dpkg-deb"],
    };
    let missing = programs.iter().find(|program| {
        let found = Command::new(program).arg("--version").output();
        found.is_err()
    });
    let why = obstacle().or_else(|| missing.map(|program| format!("there is no {program}")));
    if let Some(why) = why {
        println!("SKIPPED: {why}");
        return;
    }
    let machine = Machine::start(First::Shell).expect("a machine starts");
    for (program, place) in [
        (binaries::bootagent(), "/usr/sbin/bootagent"),
        (binaries::bootctl(), "/usr/bin/bootctl"),
        (binaries::child(), CHILD),
    ] {
        machine.put(&program, place).expect("copied");
        machine
            .succeed(&format!("chmod 755 {place}"))
            .expect("ours");
    }
    let runs = machine.run("/usr/sbin/bootagent -V").expect("a shell");
    if runs.code != 0 {
        println!(
            "SKIPPED: what is built here does not run there: {}",
            runs.output
        );
        return;
    }
    machine.inside(|| {
        let scene = Scene {
            machine: &machine,
            fake: FakeServer::start(),
            kind,
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        scene.run(&format!(
            "mkdir -p /etc/bootagent && cat > /etc/bootagent/bootagent.toml <<'END'
agent_user = \"root\"
[push]
step = 1
min_step = 1
[jobs]
{jobs}
END"
        ));
        work(&scene);
        scene.run("bootctl stop --all || true; kill -9 $(cat /root/pid) || true");
    });
}

impl Scene<'_> {
    #[track_caller]
    fn run(&self, script: &str) -> String {
        match self.machine.succeed(script) {
            Ok(output) => output,
            Err(error) => panic!("{error:#}\n{}", self.log()),
        }
    }

    fn log(&self) -> String {
        let log = self
            .machine
            .run("tail -60 /root/output; ls -l /var/lib/bootagent/packages");
        log.map_or_else(|error| error.to_string(), |outcome| outcome.output)
    }

    fn start_bootagent(&self) {
        self.run(&format!(
            "setsid /usr/sbin/bootagent -S {} </dev/null >>/root/output 2>&1 & echo $! >/root/pid",
            self.fake.address()
        ));
    }

    /// Puts a package into the machine; returns its path there.
    fn put(&self, package: &Native) -> String {
        let file = package.build(self.kind, self.folder.path());
        let name = file.file_name().and_then(|name| name.to_str());
        let place = format!("/root/{}", name.expect("a name"));
        self.machine.put(&file, &place).expect("copied");
        place
    }

    /// Orders `package` and waits for the job's result.
    fn upgrade(&self, id: &str, package: &Native, terms: &Value) -> Value {
        self.offer(id, &self.put(package), terms);
        self.result(id)
    }

    fn offer(&self, id: &str, place: &str, terms: &Value) {
        let mut job = json!({
            "id": id, "action": "upgrade", "name": NAME, "url": format!("file://{place}"),
        });
        let terms = terms.as_object().cloned().unwrap_or_default();
        for (key, value) in terms {
            job[key] = value;
        }
        self.fake.offer(job);
    }

    #[track_caller]
    fn result(&self, id: &str) -> Value {
        let begun = Instant::now();
        loop {
            if let Some(result) = self.fake.results(id).first() {
                return result.clone();
            }
            assert!(begun.elapsed() < LIMIT, "no result of {id}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The version the package manager has.
    fn installed(&self) -> String {
        self.run(match self.kind {
            Kind::Rpm => "rpm -q --qf '%{VERSION}-%{RELEASE}' mover",
            Kind::Deb => "dpkg-query -W -f '${db:Status-Abbrev}${Version}' mover | sed 's/^ii *//'",
        })
    }

    /// The pids of processes of `version`.
    fn running(&self, version: &str) -> Vec<String> {
        let script = format!("pgrep -f '^{CHILD} --marker {version}( |$)' || true");
        self.run(&script).lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn assert_only(&self, version: &str) -> String {
        assert_eq!(self.installed(), version);
        let running = self.running(version);
        let all = self.run(&format!("pgrep -f '^{CHILD} --marker ' || true"));
        assert_eq!(running.len(), 1, "{all}\n{}", self.log());
        assert_eq!(all.trim(), running[0]);
        let manifest = self.run("cat /usr/lib/bootagent/agents/mover/agent.json");
        assert!(manifest.contains(&format!("\"{version}\"")), "{manifest}");
        running[0].clone()
    }
}

#[track_caller]
fn assert_result(result: &Value, code: u16, tried: &str, running: Option<&str>) {
    assert_eq!(result["errcode"], code, "{result}");
    assert_eq!(result["tried"], tried, "{result}");
    let running = running.map(Value::from);
    assert_eq!(result.get("running"), running.as_ref(), "{result}");
}

fn good(version: &str) -> Native {
    Native::new(NAME, version, &["--lock", "held", "--ready"])
}

/// Comes up, and ends.
fn failing(version: &str) -> Native {
    let flags = [
        "--lock",
        "held",
        "--ready",
        "--print",
        "no such line",
        "--after",
        "100",
    ];
    Native::new(NAME, version, &[&flags[..], &["--exit", "3"]].concat())
}

#[test]
fn an_rpm_that_fails_is_put_back() {
    a_package_that_fails_is_put_back(Kind::Rpm);
}

#[test]
fn a_deb_that_fails_is_put_back() {
    a_package_that_fails_is_put_back(Kind::Deb);
}

fn a_package_that_fails_is_put_back(kind: Kind) {
    on_a_machine(kind, "installer_timeout = 60", |scene| {
        // Installed by hand: there is nothing to put back, and that is said.
        let by_hand = scene.put(&good("1.0"));
        scene.run(match kind {
            Kind::Rpm => "rpm -i /root/mover-*.rpm",
            Kind::Deb => "dpkg -i /root/mover_*.deb",
        });
        scene.start_bootagent();
        scene.fake.next_status();
        let result = scene.upgrade("by-hand", &failing("1.1"), &json!({ "watch": 600 }));
        assert_result(&result, 5001, "1.1-1", None);
        let cause = e2e::server::text(&result, "cause");
        for words in [
            "exit code 3",
            "no such line",
            "1.0-1 was not installed by a job",
        ] {
            assert!(cause.contains(words), "{words:?} is not in {cause}");
        }
        assert_eq!(scene.installed(), "1.1-1");
        // Given once more by a job, it is kept from now on.
        scene.offer("first", &by_hand, &json!({ "downgrade": true }));
        assert_result(&scene.result("first"), 0, "1.0-1", Some("1.0-1"));
        let first = scene.assert_only("1.0-1");

        // Its own check fails: what runs does not notice.
        let refused = good("2.0").key("check", json!([CHILD, "--print", "no", "--exit", "2"]));
        let result = scene.upgrade("check", &refused, &json!({ "watch": 600 }));
        assert_result(&result, 4005, "2.0-1", Some("1.0-1"));
        assert_eq!(scene.assert_only("1.0-1"), first);

        // It ends in its window.
        let result = scene.upgrade("window", &failing("2.1"), &json!({ "watch": 600 }));
        assert_result(&result, 4006, "2.1-1", Some("1.0-1"));
        let cause = e2e::server::text(&result, "cause");
        assert!(
            cause.contains("exit code 3") && cause.contains("no such line"),
            "{cause}"
        );
        assert_ne!(scene.assert_only("1.0-1"), first);

        // One that is good stays, and is what the next one goes back to.
        let result = scene.upgrade("good", &good("3.0"), &json!({ "watch": 1 }));
        assert_result(&result, 0, "3.0-1", Some("3.0-1"));
        scene.assert_only("3.0-1");
        let result = scene.upgrade("again", &failing("3.1"), &json!({ "watch": 600 }));
        assert_result(&result, 4006, "3.1-1", Some("3.0-1"));
        scene.assert_only("3.0-1");

        // A bundle of the same name would be a second manifest.
        let bundle = e2e::bundle::Bundle::new(NAME, "9.0", &["--ready"])
            .notify()
            .build();
        let file = scene.folder.path().join("bundle");
        std::fs::write(&file, bundle).expect("written");
        scene.machine.put(&file, "/root/bundle").expect("copied");
        scene.offer("bundle", "/root/bundle", &json!({}));
        let result = scene.result("bundle");
        assert_eq!(result["errcode"], 4004, "{result}");
        scene.assert_only("3.0-1");
    });
}

#[test]
fn an_rpm_is_put_back_whatever_step_a_crash_interrupts() {
    a_crash_at_each_step(Kind::Rpm);
}

#[test]
fn a_deb_is_put_back_whatever_step_a_crash_interrupts() {
    a_crash_at_each_step(Kind::Deb);
}

fn a_crash_at_each_step(kind: Kind) {
    on_a_machine(kind, "installer_timeout = 60", |scene| {
        scene.start_bootagent();
        let result = scene.upgrade("first", &good("1.0"), &json!({}));
        assert_result(&result, 0, "1.0-1", Some("1.0-1"));
        let place = scene.put(&failing("2.0"));
        for step in [
            "begun",
            "before",
            "fetched",
            "installer",
            "up",
            "back",
            "outcome",
        ] {
            for pause in ["0", "0.15"] {
                let id = format!("{step}-{pause}");
                scene.offer(&id, &place, &json!({ "watch": 600 }));
                let word = match step {
                    "outcome" => format!("\"outcome\".*\"id\":\"{id}\""),
                    step => format!("\"id\":\"{id}\",\"step\":\"{step}"),
                };
                // Nothing slower than a loop in the machine meets a step.
                scene.run(&format!(
                    "n=0; until grep -q '{word}' {JOURNAL}; do n=$((n + 1)); [ $n -lt 20000 ] || exit 1;
                     sleep 0.002; done; sleep {pause}; kill -9 $(cat /root/pid)
                     until flock -n /run/bootagent/lock true; do sleep 0.01; done"
                ));
                scene.start_bootagent();
                let result = scene.result(&id);
                assert_result(&result, 4006, "2.0-1", Some("1.0-1"));
                scene.assert_only("1.0-1");
                let outcomes = format!("grep -c '\"outcome\".*\"id\":\"{id}\"' {JOURNAL}");
                assert_eq!(scene.run(&outcomes).trim(), "1", "{id}");
                let left = scene.run("ls /var/lib/bootagent/packages");
                assert!(!left.contains(".new"), "{left}");
            }
        }
    });
}

#[test]
fn an_rpm_that_hangs_or_is_kept_waiting_ends_in_time() {
    a_package_manager_that_hangs(Kind::Rpm, "rpm --eval '%{_rpmlock_path}'");
}

#[test]
fn a_deb_that_hangs_or_is_kept_waiting_ends_in_time() {
    a_package_manager_that_hangs(Kind::Deb, "echo /var/lib/dpkg/lock-frontend");
}

fn a_package_manager_that_hangs(kind: Kind, lock: &str) {
    on_a_machine(kind, "installer_timeout = 15", |scene| {
        scene.start_bootagent();
        let result = scene.upgrade("first", &good("1.0"), &json!({}));
        assert_result(&result, 0, "1.0-1", Some("1.0-1"));
        let first = scene.assert_only("1.0-1");

        // A scriptlet and its own child hang and do not mind being asked to end.
        let hangs = good("2.0").after_install(
            "trap '' TERM INT HUP\n(trap '' TERM; setsid sleep 3611) & while :; do sleep 3612; done",
        );
        let result = scene.upgrade("hangs", &hangs, &json!({}));
        assert_result(&result, 4002, "2.0-1", Some("1.0-1"));
        assert_eq!(scene.assert_only("1.0-1"), first, "what ran runs on");
        assert_eq!(scene.run("pgrep -f '^sleep 361[12]' || true"), "");

        // A daemon that keeps the scriptlet's output open costs no time.
        let daemon = good("3.0").after_install("setsid sleep 3613 &");
        let begun = Instant::now();
        let result = scene.upgrade("daemon", &daemon, &json!({}));
        assert_result(&result, 0, "3.0-1", Some("3.0-1"));
        assert!(
            begun.elapsed() < Duration::from_secs(3600),
            "it was waited for"
        );
        let daemon = scene.run("pgrep -f '^sleep 3613'");
        let leftover = || {
            let events = scene.fake.events();
            events
                .into_iter()
                .find(|event| event["category"] == "leftover")
        };
        let event = e2e::wait::until("the event", leftover);
        let message = e2e::server::text(&event, "message");
        assert!(message.contains(daemon.trim()), "{message}");
        scene.run("pkill -f '^sleep 3613'");

        // Another package manager works.
        let held = hold_lock(scene, lock);
        let result = scene.upgrade("locked", &good("4.0"), &json!({}));
        assert_eq!(result["errcode"], 4003, "{result}");
        drop(held);
        scene.assert_only("3.0-1");

        // No room for it.
        scene.run("mount -t tmpfs -o size=1m,mode=755 tmpfs /mnt");
        scene.run("cp -a /usr/lib/bootagent/agents/. /mnt/");
        scene.run("mount --bind /mnt /usr/lib/bootagent/agents");
        let result = scene.upgrade("full", &good("5.0").filler(4 << 20), &json!({}));
        assert_eq!(result["errcode"], 2004, "{result}");
        scene.assert_only("3.0-1");
        let result = scene.upgrade("small", &good("6.0"), &json!({}));
        assert_result(&result, 0, "6.0-1", Some("6.0-1"));
    });
}

/// Holds the lock of the machine's package manager, whose path `script` prints,
/// until it is dropped.
fn hold_lock(scene: &Scene<'_>, script: &str) -> File {
    let path = scene.run(script);
    let path = path.trim().trim_start_matches('/');
    let path = scene.machine.path(Path::new(path));
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .expect("the lock file");
    let lock = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETLK(&lock)).expect("locked");
    file
}
