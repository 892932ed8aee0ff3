//! The real program on a free port, and a client small enough to say anything
//! to it, also what no library would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// No condition takes longer; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server with a data directory of its own.
pub(crate) struct Server {
    child: Child,
    pub(crate) directory: PathBuf,
    pub(crate) address: SocketAddr,
    /// Where metrics are served, if it is configured.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) api_token: String,
    pub(crate) enrolment_token: String,
    pub(crate) admin_password: String,
    /// Dropped last, and only by the server that made it.
    _temporary: Option<TempDir>,
}

impl Server {
    /// Starts one on an empty directory.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// The same with lines of configuration.
    pub(crate) fn start_with(config: &str) -> Self {
        let temporary = TempDir::new().expect("a temporary directory");
        let directory = temporary.path().to_owned();
        let mut server = Self::start_in(&directory, config);
        server._temporary = Some(temporary);
        server
    }

    /// Starts one on a directory that may have been used before.
    pub(crate) fn start_in(directory: &Path, config: &str) -> Self {
        let config_file = directory.join("bootserver.toml");
        std::fs::write(&config_file, config).expect("a configuration");
        let address_file = directory.join("address");
        // That of an earlier run is not this one's.
        let _ = std::fs::remove_file(&address_file);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(directory.join("log"))
            .expect("a log");
        let child = command()
            .arg("serve")
            .args(["--listen", "127.0.0.1:0", "-l", "debug"])
            .arg("-c")
            .arg(&config_file)
            .arg("--data")
            .arg(directory.join("data"))
            .arg("--address-file")
            .arg(&address_file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the server starts");
        let mut server = Self {
            child,
            directory: directory.to_owned(),
            address: ([127, 0, 0, 1], 0).into(),
            metrics: None,
            api_token: String::new(),
            enrolment_token: String::new(),
            admin_password: String::new(),
            _temporary: None,
        };
        let addresses = wait_for("the address file", || {
            server.assert_running();
            std::fs::read_to_string(&address_file).ok()
        });
        let mut lines = addresses.lines();
        let address = lines.next().and_then(|line| line.parse().ok());
        server.address = address.expect("an address");
        server.metrics = lines
            .find_map(|line| line.strip_prefix("metrics "))
            .and_then(|address| address.parse().ok());
        let tokens = std::fs::read_to_string(directory.join("data/first-start.txt"))
            .expect("the tokens of the first start");
        let token = |key: &str| {
            let line = tokens.lines().find_map(|line| line.strip_prefix(key));
            line.expect("a token").to_owned()
        };
        server.api_token = token("api_token=");
        server.enrolment_token = token("enrolment_token=");
        server.admin_password = token("admin_password=");
        server
    }

    fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("the child is ours") {
            panic!("the server ended with {status}:\n{}", self.log());
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.directory.join("data").join(name)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        self.signal(Signal::SIGTERM);
        self.end()
    }

    /// Waits for its end, which something else brings about.
    pub(crate) fn end(&mut self) -> std::process::ExitStatus {
        wait_for("the end of the server", || {
            self.child.try_wait().expect("the child is ours")
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("the child is ours");
    }

    /// A call by an operator.
    pub(crate) fn api(&self, method: &str, path: &str) -> Request {
        Request::new(self, method, path).bearer(&self.api_token)
    }

    /// A new API token; with a selector one for some hosts.
    pub(crate) fn token(&self, role: &str, selector: Option<&str>) -> String {
        let scope: Vec<_> = selector
            .map(|tags| json!({ "tags": tags }))
            .into_iter()
            .collect();
        let token = json!({ "name": "test", "role": role, "scope": scope });
        let made = self
            .api("POST", "/api/v1/api-tokens")
            .json(&token)
            .expect(201);
        made["token"].as_str().expect("a token").to_owned()
    }

    /// Signs a user in and returns the session's token.
    pub(crate) fn sign_in(&self, name: &str, password: &str) -> String {
        let who = json!({ "name": name, "password": password });
        let begun = self.call("POST", "/api/v1/session").json(&who).expect(201);
        begun["token"].as_str().expect("a token").to_owned()
    }

    /// Makes a user, who has chosen their own password; returns the id.
    pub(crate) fn user(&self, name: &str, role: &str, password: &str) -> String {
        let user = json!({ "name": name, "role": role });
        let made = self.api("POST", "/api/v1/users").json(&user).expect(201);
        let once = made["one_time_password"].as_str().expect("a password");
        let session = self.sign_in(name, once);
        self.call("PUT", "/api/v1/session/password")
            .bearer(&session)
            .json(&json!({ "current": once, "new": password }))
            .expect(204);
        made["id"].as_str().expect("an id").to_owned()
    }

    /// A call without a token.
    pub(crate) fn call(&self, method: &str, path: &str) -> Request {
        Request::new(self, method, path)
    }

    /// Registers a host and returns it.
    pub(crate) fn register(&self, hostname: &str) -> TestHost {
        self.register_as(json!({
            "hostname": hostname, "agentsn": uuid::Uuid::new_v4().to_string(),
            "os": "debian 12", "arch": "x86_64", "machine_id": format!("machine of {hostname}"),
        }))
    }

    pub(crate) fn register_as(&self, request: Value) -> TestHost {
        let reply = self
            .call("POST", "/agent/register")
            .bearer(&self.enrolment_token)
            .json(&request)
            .expect(200);
        TestHost {
            agentsn: reply["agentsn"].as_str().expect("an agentsn").to_owned(),
            token: reply["token"].as_str().expect("a token").to_owned(),
        }
    }

    /// Pushes a status with these fields more.
    pub(crate) fn push(&self, host: &TestHost, more: Value) -> Value {
        self.call("POST", "/agent/status")
            .bearer(&host.token)
            .json(&host.status(more))
            .expect(200)
    }

    /// Orders something; returns the ids of the jobs.
    pub(crate) fn order(&self, order: Value) -> Vec<String> {
        let reply = self.api("POST", "/api/v1/jobs").json(&order).expect(201);
        let jobs = reply["jobs"].as_array().expect("jobs").iter();
        jobs.map(|job| job["id"].as_str().expect("an id").to_owned())
            .collect()
    }

    /// Uploads a file; returns what the server says of it.
    pub(crate) fn upload(&self, query: &str, bytes: &[u8]) -> Value {
        self.api("POST", &format!("/api/v1/packages?{query}"))
            .body(bytes)
            .expect(201)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().expect("the child is ours").is_none() {
            self.child.kill().expect("the child is ours");
            self.child.wait().expect("the child is ours");
        }
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

/// A host as the tests know it.
#[derive(Clone)]
pub(crate) struct TestHost {
    pub(crate) agentsn: String,
    pub(crate) token: String,
}

impl TestHost {
    /// Its status, with these fields more.
    pub(crate) fn status(&self, more: Value) -> Value {
        let mut status = json!({
            "hostname": "host", "agentsn": self.agentsn, "version": "bootagent-0.1.0-x86_64",
            "uptime": 12, "timestamp": 1_700_000_000, "step": 600, "agents": [], "jobs": [],
        });
        let fields = status.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        status
    }
}

/// A request being put together.
pub(crate) struct Request {
    address: SocketAddr,
    head: String,
    body: Vec<u8>,
}

impl Request {
    fn new(server: &Server, method: &str, path: &str) -> Self {
        Self::at(server.address, method, path)
    }

    /// To an address, whoever serves it.
    pub(crate) fn at(address: SocketAddr, method: &str, path: &str) -> Self {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        Self {
            address,
            head,
            body: Vec::new(),
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn json(self, value: &Value) -> Self {
        self.header("Content-Type", "application/json")
            .body(value.to_string().as_bytes())
    }

    pub(crate) fn text(self, json: &str) -> Self {
        self.header("Content-Type", "application/json")
            .body(json.as_bytes())
    }

    pub(crate) fn body(mut self, bytes: &[u8]) -> Self {
        self.body = bytes.to_vec();
        let length = bytes.len();
        self.header("Content-Length", &length.to_string())
    }

    /// A body that says its length itself, or lies about it.
    pub(crate) fn raw_body(mut self, bytes: &[u8]) -> Self {
        self.body = bytes.to_vec();
        self
    }

    /// Says it up to its body.
    pub(crate) fn write(&self, stream: &mut TcpStream) {
        stream
            .write_all(format!("{}\r\n", self.head).as_bytes())
            .expect("the head goes out");
    }

    /// Sends it and reads the whole reply.
    pub(crate) fn send(self) -> Reply {
        let mut stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        self.write(&mut stream);
        // A refusal may come before the body was read.
        let _ = stream.write_all(&self.body);
        Reply::read(&mut stream)
    }

    /// Sends it to a server that may end meanwhile, and waits for whatever comes.
    pub(crate) fn try_send(self) {
        let Ok(mut stream) = TcpStream::connect(self.address) else {
            return;
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let _ = stream.write_all(format!("{}\r\n", self.head).as_bytes());
        let _ = stream.write_all(&self.body);
        let _ = stream.read_to_end(&mut Vec::new());
    }

    /// Sends it and reads no more than the status: a stream does not end.
    pub(crate) fn status(self) -> u16 {
        let mut stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        self.write(&mut stream);
        // A refusal may come before the body was read.
        let _ = stream.write_all(&self.body);
        let mut line = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut line).expect("a status line");
        let word = std::str::from_utf8(&line[9..]).expect("digits");
        word.parse().expect("a status")
    }

    /// Sends it; the reply has this status and is JSON or nothing.
    pub(crate) fn expect(self, status: u16) -> Value {
        let what = self.head.lines().next().unwrap_or_default().to_owned();
        let reply = self.send();
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        reply.json()
    }

    /// Sends it; the reply is a problem of this status. Returns its detail.
    pub(crate) fn problem(self, status: u16) -> String {
        let what = self.head.lines().next().unwrap_or_default().to_owned();
        let reply = self.send();
        assert_eq!(reply.status, status, "{what}: {}", reply.text());
        assert_eq!(
            reply.header("content-type"),
            Some("application/problem+json"),
            "{what}"
        );
        let problem = reply.json();
        assert_eq!(problem["status"], status, "{what}");
        let kind = problem["type"].as_str().expect("a type");
        assert!(kind.starts_with("urn:bootagent:problem:"), "{what}: {kind}");
        problem["detail"].as_str().expect("a detail").to_owned()
    }
}

/// A reply as it came.
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A refused body makes the server close with data unread, which the
        // kernel may turn into a reset after the reply.
        let end = stream.read_to_end(&mut bytes);
        let split = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let split = split.unwrap_or_else(|| panic!("no head in {} bytes: {end:?}", bytes.len()));
        let head = String::from_utf8(bytes[..split].to_vec()).expect("a head in ASCII");
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Self {
            status: status.expect("a status"),
            head,
            body: bytes[split + 4..].to_vec(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// The program under test.
pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_bootserver"))
}

/// Looks until there is something, and not for ever.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A bundle of an agent; `filler` makes it as large and as different as needed.
pub(crate) fn bundle(name: &str, version: &str, filler: &[u8]) -> Vec<u8> {
    let manifest = json!({ "name": name, "version": version, "exec": ["./run"] }).to_string();
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let mut archive = tar::Builder::new(gzip);
    for (path, bytes) in [("agent.json", manifest.as_bytes()), ("run", filler)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        archive
            .append_data(&mut header, path, bytes)
            .expect("a valid entry");
    }
    archive
        .into_inner()
        .and_then(|gzip| gzip.finish())
        .expect("writing to memory")
}
