//! The program that runs, asked over its Unix socket as any client would.
//!
//! The one rule: only processes started here are signalled, and each is reaped.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mtr_prober::archive::Archive;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Longer than anything here takes: reached only by a program that hangs.
pub(crate) const FAR: Duration = Duration::from_secs(60);

/// A state directory, a configuration and whoever listens to the program.
pub(crate) struct Fixture {
    pub(crate) dir: PathBuf,
    notify: UnixDatagram,
    _owned: Option<tempfile::TempDir>,
}

impl Fixture {
    /// With this beside the usual configuration.
    pub(crate) fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut fixture = Self::in_folder(dir.path(), config);
        fixture._owned = Some(dir);
        fixture
    }

    pub(crate) fn in_folder(dir: &Path, config: &str) -> Self {
        // Some tests have more connections than a process usually may.
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("read");
        setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(8_192)), hard).expect("set");
        let notify = UnixDatagram::bind(dir.join("notify")).expect("bound");
        notify.set_read_timeout(Some(FAR)).expect("set");
        let fixture = Self {
            dir: dir.to_owned(),
            notify,
            _owned: None,
        };
        let config = match config.contains("listen") {
            true => config.to_owned(),
            false => format!("listen = [{:?}]\n{config}", fixture.socket()),
        };
        fixture.configure(&config);
        fixture
    }

    pub(crate) fn configure(&self, config: &str) {
        std::fs::write(self.dir.join("mtr-prober.toml"), config).expect("written");
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("api.sock")
    }

    /// The program with this state and configuration.
    pub(crate) fn command(&self) -> Command {
        self.dress(Command::new(env!("CARGO_BIN_EXE_mtr-prober")))
    }

    /// The same with another resolver than the machine's.
    pub(crate) fn command_with_resolver(&self, address: &str) -> Command {
        let file = self.dir.join("resolv.conf");
        std::fs::write(&file, format!("nameserver {address}\n")).expect("written");
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        command.args(["-m", "sh", "-c", script]).arg(file);
        command.arg(env!("CARGO_BIN_EXE_mtr-prober"));
        self.dress(command)
    }

    /// A copy of the program that every user may run.
    pub(crate) fn program_for_all(&self) -> PathBuf {
        let copy = self.dir.join("mtr-prober");
        if !copy.exists() {
            // Written by ourselves it would be busy while another test forks.
            let mut cp = Command::new("cp");
            cp.arg(env!("CARGO_BIN_EXE_mtr-prober")).arg(&copy);
            assert!(cp.status().expect("cp runs").success());
        }
        copy
    }

    /// Any command with our state and configuration.
    pub(crate) fn dress(&self, mut command: Command) -> Command {
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NOTIFY_SOCKET", self.dir.join("notify"))
            .env("STATE_DIRECTORY", self.dir.join("state"))
            .arg("-c")
            .arg(self.dir.join("mtr-prober.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(
                std::fs::File::create(self.dir.join("stderr")).expect("a file"),
            ));
        command
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(&self) -> Running {
        self.start_with(self.command())
    }

    pub(crate) fn start_with(&self, mut command: Command) -> Running {
        let running = Running(Some(command.spawn().expect("started")));
        self.message("READY=1");
        running
    }

    /// Waits for a message with this in it, and gives it.
    pub(crate) fn message(&self, part: &str) -> String {
        let deadline = Instant::now() + FAR;
        while Instant::now() < deadline {
            let mut buffer = [0; 1024];
            let count = match self.notify.recv(&mut buffer) {
                // A receive with a timeout is not taken up again by itself.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => panic!("{part} did not come: {error}: {}", self.log()),
                Ok(count) => count,
            };
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if text.contains(part) {
                return text;
            }
        }
        panic!("{part} did not come: {}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("stderr")).unwrap_or_default()
    }

    /// A request on a connection of its own.
    pub(crate) fn ask(&self, method: &str, path: &str) -> Reply {
        let mut stream = self.connect();
        let text =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).expect("sent");
        read_reply(&mut stream)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask("GET", path)
    }

    /// Puts a report into the archive that is three days old, and gives its id.
    pub(crate) fn report_of_three_days_ago(&self) -> String {
        let mut then = mtr_prober::clock::instant();
        then.unix_ms -= 3 * 86_400_000;
        let state = self.dir.join("state");
        let options = mtr_prober::archive::Options::default();
        let (mut archive, _) = Archive::open(&state, options, then).expect("it opens");
        let since = Duration::from_millis(u64::try_from(then.unix_ms).expect("after 1970"));
        let stamp =
            uuid::Timestamp::from_unix(uuid::NoContext, since.as_secs(), since.subsec_nanos());
        let id = uuid::Uuid::new_v7(stamp).to_string();
        let instant = serde_json::to_value(then).expect("JSON");
        let report = serde_json::json!({
            "id": id, "state": "finished", "cause": "api", "tool": "mtr-prober", "node": "here",
            "target": {"asked": "192.0.2.1"}, "source": {}, "accepted_at": instant, "ended_at": instant,
            "parameters": {"count": 1, "interval_ms": 1000, "size": 64}, "parts": [], "timeline": [], "faults": []
        });
        let report = serde_json::from_value(report).expect("a report");
        let write = mtr_prober::archive::Write::Ended(&report);
        archive.commit(&[write], then.unix_ms).expect("written");
        id
    }

    /// One of the numbers for Prometheus.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").body;
        let prefix = format!("mtr_prober_{name} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        let value = value.unwrap_or_else(|| panic!("no {name} in {text}"));
        value.parse().expect("a number")
    }

    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("connected");
        stream.set_read_timeout(Some(FAR)).expect("set");
        stream
    }

    /// Orders a measurement and gives its id.
    pub(crate) fn order(&self, query: &str) -> String {
        let reply = self.get(&format!("/api/mtr?{query}"));
        assert_eq!(reply.status, 202, "{reply:?}");
        reply.json()["id"].as_str().expect("an id").to_owned()
    }

    /// The report of an id that ends soon.
    pub(crate) fn ended(&self, id: &str) -> Value {
        let deadline = Instant::now() + FAR;
        loop {
            let report = self.get(&format!("/api/mtr/{id}?wait=20")).json();
            if !["accepted", "running"].contains(&report["state"].as_str().unwrap_or("?")) {
                return report;
            }
            assert!(Instant::now() < deadline, "{report}");
        }
    }

    /// The report of an id once it is so.
    pub(crate) fn report_where(&self, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + FAR;
        loop {
            let report = self.get(&format!("/api/mtr/{id}")).json();
            if is_so(&report) {
                return report;
            }
            assert!(Instant::now() < deadline, "{report}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Reads one reply.
pub(crate) fn read_reply(stream: &mut impl Read) -> Reply {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).expect("text");
    let status = head[9..12].parse().expect("a status");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let length = length.map_or(0, |length| length.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    let body = String::from_utf8(body).expect("text");
    Reply { status, head, body }
}

/// A started program; killed should a test end early.
pub(crate) struct Running(Option<Child>);

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.0.as_ref().expect("running").id()
    }

    /// How many raw sockets it has open.
    pub(crate) fn raw_sockets(&self) -> usize {
        let process = format!("/proc/{}", self.pid());
        let tables = ["raw", "raw6"].map(|name| {
            std::fs::read_to_string(format!("{process}/net/{name}")).expect("a table of sockets")
        });
        let raw: Vec<String> = tables
            .iter()
            .flat_map(|table| table.lines().skip(1))
            .filter_map(|line| line.split_whitespace().nth(9))
            .map(|inode| format!("socket:[{inode}]"))
            .collect();
        let open = std::fs::read_dir(format!("{process}/fd")).expect("its files");
        open.flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .filter(|file| raw.iter().any(|socket| file.as_os_str() == socket.as_str()))
            .count()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.pid();
        kill(Pid::from_raw(i32::try_from(id).expect("a pid")), signal).expect("signalled");
    }

    fn end(mut self) -> ExitStatus {
        let mut child = self.0.take().expect("running");
        let deadline = Instant::now() + FAR;
        loop {
            if let Some(status) = child.try_wait().expect("waited") {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().expect("killed");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end and waits for that.
    pub(crate) fn stop(self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.end()
    }

    pub(crate) fn kill(self) {
        self.signal(Signal::SIGKILL);
        self.end();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether raw sockets and mounts can be had; says aloud when not.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIPPED: raw sockets need root");
    }
    root
}
