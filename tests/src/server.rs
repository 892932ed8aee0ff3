//! A real bootserver on a free port, and what operators ask of it.
//!
//! The one rule: it listens on loopback, keeps everything in a folder of its
//! own, and is gone when it is dropped.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{self, Reply};
use crate::{binaries, wait};

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    folder: TempDir,
    /// What it was started with, beside its folder and its address.
    options: Vec<OsString>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it speaks TLS, if it was told to.
    pub tls_address: Option<SocketAddr>,
    /// What operators say.
    pub api_token: String,
    /// What new hosts say.
    pub enrolment_token: String,
}

impl Server {
    /// Starts one on an empty folder.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one that also speaks TLS, on an address of its own.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_with_tls(certificate: &Path, key: &Path) -> Self {
        let [certificate, key] = [certificate, key].map(Path::as_os_str);
        let flag = OsStr::new;
        Self::start_with(&[
            flag("--tls-cert"),
            certificate,
            flag("--tls-key"),
            key,
            flag("--listen"),
            flag("https://127.0.0.1:0"),
        ])
    }

    /// Starts one on a new PostgreSQL database, with the configuration in a file.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_on(database: &str, configuration: &Path) -> Self {
        Self::start_with(&[
            OsStr::new("-c"),
            configuration.as_os_str(),
            OsStr::new("--database"),
            OsStr::new(database),
        ])
    }

    /// Starts another one on the database of `self`.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn replica(&self) -> Self {
        let folder = empty_folder();
        std::fs::create_dir(folder.path().join("data")).expect("a folder");
        let name = "data/first-start.txt";
        // It is not the first start, so there are no tokens of its own.
        std::fs::copy(self.folder.path().join(name), folder.path().join(name)).expect("a copy");
        Self::start_in(folder, &self.options)
    }

    fn start_with(more: &[&OsStr]) -> Self {
        let options: Vec<_> = more.iter().map(OsString::from).collect();
        Self::start_in(empty_folder(), &options)
    }

    fn start_in(folder: TempDir, options: &[OsString]) -> Self {
        let mut child = spawn(folder.path(), "http://127.0.0.1:0", options);
        let addresses = wait::until("the server's addresses", || {
            assert_running(&mut child, folder.path());
            addresses(folder.path())
        });
        let tokens = std::fs::read_to_string(folder.path().join("data/first-start.txt"))
            .expect("the tokens of a first start");
        let token = |key: &str| {
            let line = tokens.lines().find_map(|line| line.strip_prefix(key));
            line.expect("the token").to_owned()
        };
        Self {
            child,
            address: addresses[0],
            tls_address: addresses.get(1).copied(),
            api_token: token("api_token="),
            enrolment_token: token("enrolment_token="),
            folder,
            options: options.to_vec(),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, as losing its machine would.
    ///
    /// # Panics
    /// When it is not there.
    pub fn kill(&mut self) {
        self.child.kill().expect("the child is ours");
        self.child.wait().expect("the child is ours");
    }

    /// The same, and starts it again on its address, without TLS.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn kill_and_start_again(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Ends it in order and starts it again on its address, without TLS.
    ///
    /// # Panics
    /// When it does not end or come up.
    pub fn restart(&mut self) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("the child is ours");
        let ended = wait::until("the server's end", || {
            self.child.try_wait().expect("the child is ours")
        });
        assert!(ended.success(), "{ended}");
        self.start_again();
    }

    fn start_again(&mut self) {
        let options: Vec<_> = match self.tls_address {
            Some(_) => Vec::new(),
            None => self.options.clone(),
        };
        let folder = self.folder.path().to_owned();
        let _ = std::fs::remove_file(folder.join("address"));
        let listen = self.address.to_string();
        self.child = spawn(&folder, &listen, &options);
        wait::until("the server's address", || {
            // Somebody's outgoing connection may have the port for a moment.
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                self.child = spawn(&folder, &listen, &options);
            }
            addresses(&folder)
        });
    }

    /// Stops it for a while, as a disk that hangs would, and lets it go on.
    ///
    /// # Panics
    /// When it is not there.
    pub fn stall(&self, how_long: Duration) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        let signal = |signal| kill(Pid::from_raw(pid), signal).expect("the child is ours");
        signal(Signal::SIGSTOP);
        std::thread::sleep(how_long);
        signal(Signal::SIGCONT);
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its folder of data.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn call(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Reply {
        let headers = [
            format!("Authorization: Bearer {}", self.api_token),
            format!("Content-Type: {kind}"),
        ];
        http::exchange(self.address, method, path, &headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error:#}"))
    }

    /// GET `path` below /api/v1.
    ///
    /// # Panics
    /// When the answer is not 200.
    pub fn get(&self, path: &str) -> Value {
        let path = format!("/api/v1{path}");
        http::json(&path, 200, &self.call("GET", &path, "text/plain", b""))
    }

    /// POST `body` to `path` below /api/v1 and return what it says.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        let bytes = body.to_string();
        let path = format!("/api/v1{path}");
        self.call("POST", &path, "application/json", bytes.as_bytes())
    }

    /// PATCH `path` below /api/v1, whatever its revision.
    ///
    /// # Panics
    /// When the answer is not 200.
    pub fn patch(&self, path: &str, body: &Value) -> Value {
        let headers = [
            format!("Authorization: Bearer {}", self.api_token),
            "Content-Type: application/json".to_owned(),
            "If-Match: *".to_owned(),
        ];
        let (path, body) = (format!("/api/v1{path}"), body.to_string());
        let reply = http::exchange(self.address, "PATCH", &path, &headers, body.as_bytes())
            .unwrap_or_else(|error| panic!("PATCH {path}: {error:#}"));
        http::json(&path, 200, &reply)
    }

    /// Uploads a package; returns its id.
    ///
    /// # Panics
    /// When it is refused.
    pub fn upload(&self, package: &[u8]) -> String {
        let reply = self.try_upload(package, "");
        assert!([200, 201].contains(&reply.status), "{}", reply.text());
        let package = http::json("upload", reply.status, &reply);
        text(&package, "id")
    }

    /// Uploads a package with its signature, if it is not empty.
    pub fn try_upload(&self, package: &[u8], signature: &str) -> Reply {
        let signature: String = signature
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let path = format!("/api/v1/packages?signature={signature}");
        self.call("POST", &path, "application/octet-stream", package)
    }

    /// Orders `order` of one host; returns the job's id. Only who says
    /// `watch` waits for the end of a new version's trial.
    ///
    /// # Panics
    /// When it is refused.
    pub fn order(&self, agentsn: &str, mut order: Value) -> String {
        without_watch(&mut order);
        order["hosts"] = json!([agentsn]);
        let reply = self.post("/jobs", &order);
        let made = http::json("order", 201, &reply);
        text(&made["jobs"][0], "id")
    }

    /// A job as the server knows it.
    pub fn job(&self, id: &str) -> Value {
        self.get(&format!("/jobs/{id}"))
    }

    /// Waits until a job has its result, and returns the job.
    pub fn finished(&self, id: &str) -> Value {
        let what = format!("the result of job {id}");
        wait::until(&what, || {
            let job = self.job(id);
            job["finished"].is_i64().then_some(job)
        })
    }

    /// Orders something and waits until it is done well.
    ///
    /// # Panics
    /// When it fails.
    pub fn succeed(&self, agentsn: &str, order: Value) -> Value {
        let id = self.order(agentsn, order);
        let job = self.finished(&id);
        assert_eq!(job["errcode"], 0, "{}", job["message"]);
        job
    }

    /// Orders something and waits until it has failed with `code`; returns
    /// the message.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub fn fail(&self, agentsn: &str, order: Value, code: u16) -> String {
        let id = self.order(agentsn, order);
        let job = self.finished(&id);
        assert_eq!(job["errcode"], code, "{}", job["message"]);
        text(&job, "message")
    }

    /// A host as the server knows it.
    pub fn host(&self, agentsn: &str) -> Value {
        self.get(&format!("/hosts/{agentsn}"))
    }

    /// What a host reports of one of its agents.
    pub fn agent(&self, agentsn: &str, name: &str) -> Option<Value> {
        let host = self.host(agentsn);
        let mut agents = host["agents"].as_array().into_iter().flatten();
        agents.find(|agent| agent["name"] == name).cloned()
    }

    /// Events of one host, in order of arrival.
    pub fn events(&self, agentsn: &str) -> Vec<Value> {
        let list = self.get(&format!("/events?host={agentsn}&limit=500"));
        list["items"].as_array().cloned().unwrap_or_default()
    }
}

fn empty_folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Runs the program on the data below `folder`.
fn spawn(folder: &Path, listen: &str, more: &[OsString]) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .expect("a log");
    Command::new(binaries::bootserver())
        .args(["serve", "--listen", listen])
        .args(more)
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--address-file")
        .arg(folder.join("address"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("bootserver can be run")
}

fn addresses(folder: &Path) -> Option<Vec<SocketAddr>> {
    let text = std::fs::read_to_string(folder.join("address")).ok()?;
    text.lines().map(|line| line.parse().ok()).collect()
}

fn assert_running(child: &mut Child, folder: &Path) {
    if let Ok(Some(status)) = child.try_wait() {
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        panic!("bootserver ended with {status}: {log}");
    }
}

/// Makes a job that brings a package and does not say how long the new version
/// is watched one that says 0: most tests wait for something else.
pub fn without_watch(job: &mut Value) {
    let brings_package = job["action"] == "install" || job["action"] == "upgrade";
    if brings_package && job.get("watch").is_none() {
        job["watch"] = json!(0);
    }
}

/// A key of `value` that must be text.
///
/// # Panics
/// When it is none.
pub fn text(value: &Value, key: &str) -> String {
    let found = value[key].as_str();
    found
        .unwrap_or_else(|| panic!("no {key} in {value}"))
        .to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}
