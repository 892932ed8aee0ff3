//! What the scenarios have in common: a machine with a BootAgent, and a server
//! in its network that may order anything.
//!
//! The one rule: a machine that cannot be made here is `SKIPPED`, aloud.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::binaries;
use e2e::fake_server::FakeServer;
use e2e::native::{CHILD, Kind, Native};
use e2e::tree::{First, Machine, obstacle};
use serde_json::{Value, json};

/// The agent all of them are about.
pub(crate) const NAME: &str = "mover";
pub(crate) const JOURNAL: &str = "/var/lib/bootagent/journal/journal";
/// How long something in a machine may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A machine with a BootAgent, and a server in its network.
pub(crate) struct Scene<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) fake: FakeServer,
    pub(crate) kind: Kind,
    pub(crate) folder: tempfile::TempDir,
}

/// Runs `work` in a machine, or says why it cannot. `config` is what
/// bootagent.toml says besides: keys, then tables.
pub(crate) fn on_a_machine(kind: Kind, config: &str, work: impl FnOnce(&Scene<'_>) + Send) {
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
{config}
[push]
step = 1
min_step = 1
END"
        ));
        work(&scene);
        scene.run("bootctl stop --all || true; kill -9 $(cat /root/pid) || true");
    });
}

impl Scene<'_> {
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> String {
        match self.machine.succeed(script) {
            Ok(output) => output,
            Err(error) => panic!("{error:#}\n{}", self.log()),
        }
    }

    pub(crate) fn log(&self) -> String {
        let log = self
            .machine
            .run("tail -60 /root/output; ls -l /var/lib/bootagent/packages");
        log.map_or_else(|error| error.to_string(), |outcome| outcome.output)
    }

    pub(crate) fn start_bootagent(&self) {
        self.run(&format!(
            "setsid /usr/sbin/bootagent -S {} </dev/null >>/root/output 2>&1 & echo $! >/root/pid",
            self.fake.address()
        ));
    }

    /// Waits until `script` succeeds in the machine.
    #[track_caller]
    pub(crate) fn until(&self, script: &str) {
        if let Err(error) = self.machine.wait_until(script, LIMIT) {
            panic!("{error:#}\n{}", self.log());
        }
    }

    /// Makes a package.
    pub(crate) fn build(&self, package: &Native) -> PathBuf {
        package.build(self.kind, self.folder.path())
    }

    /// Puts a package into the machine; returns its path there.
    pub(crate) fn put(&self, package: &Native) -> String {
        let file = self.build(package);
        let name = file.file_name().and_then(|name| name.to_str());
        let place = format!("/root/{}", name.expect("a name"));
        self.machine.put(&file, &place).expect("copied");
        place
    }

    /// Orders `package` and waits for the job's result.
    #[track_caller]
    pub(crate) fn upgrade(&self, id: &str, package: &Native, terms: &Value) -> Value {
        self.offer(id, &self.put(package), terms);
        self.result(id)
    }

    pub(crate) fn offer(&self, id: &str, place: &str, terms: &Value) {
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
    pub(crate) fn result(&self, id: &str) -> Value {
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
    pub(crate) fn installed(&self) -> String {
        self.run(match self.kind {
            Kind::Rpm => "rpm -q --qf '%{VERSION}-%{RELEASE}' mover",
            Kind::Deb => "dpkg-query -W -f '${db:Status-Abbrev}${Version}' mover | sed 's/^ii *//'",
        })
    }

    /// The pids of processes of `version`.
    pub(crate) fn running(&self, version: &str) -> Vec<String> {
        let script = format!("pgrep -f '^{CHILD} --marker {version}( |$)' || true");
        self.run(&script).lines().map(str::to_owned).collect()
    }

    /// `version` is installed, and one process of it and of no other runs;
    /// returns its pid.
    #[track_caller]
    pub(crate) fn assert_only(&self, version: &str) -> String {
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
pub(crate) fn assert_result(result: &Value, code: u16, tried: &str, running: Option<&str>) {
    assert_eq!(result["errcode"], code, "{result}");
    assert_eq!(result["tried"], tried, "{result}");
    let running = running.map(Value::from);
    assert_eq!(result.get("running"), running.as_ref(), "{result}");
}

/// Comes up and stays.
pub(crate) fn good(version: &str) -> Native {
    Native::new(NAME, version, &["--lock", "held", "--ready"])
}

/// Comes up, and ends.
pub(crate) fn failing(version: &str) -> Native {
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
