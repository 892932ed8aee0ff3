//! The self test as an operator sees it: a root in a folder, one fault at a
//! time, and the line that fault gives.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::args::Mode;

mod elsewhere;
mod faults;

/// A host in a folder, and the words it is tested with.
struct TestHost {
    folder: TempDir,
    args: Args,
}

impl TestHost {
    /// One that has a configuration and nothing else, and a server nobody is.
    fn new() -> (Self, Nobody) {
        let nobody = Nobody::new();
        let folder = tempfile::tempdir().expect("a temporary folder");
        set_mode(folder.path(), 0o700);
        let host = Self::at(folder, &nobody.address());
        (host, nobody)
    }

    fn at(folder: TempDir, servers: &str) -> Self {
        let config = folder.path().join("bootagent.toml");
        let args = Args {
            mode: Mode::Test,
            config: Some(config),
            servers: Some(servers.to_owned()),
            enrolment_token: None,
            log_file: None,
            level: log::LevelFilter::Info,
            pid_file: None,
        };
        let host = Self { folder, args };
        std::fs::create_dir_all(host.root()).expect("writable");
        host.configure("");
        host
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn paths(&self) -> Paths {
        Paths::new(&self.root())
    }

    fn configure(&self, more: &str) {
        let text = format!("root = {:?}\n{more}", self.root());
        std::fs::write(self.folder.path().join("bootagent.toml"), text).expect("writable");
    }

    /// Puts a sub-agent that can run into the place of packages.
    fn install(&self, folder: &str, manifest: &str) {
        let folder = self.paths().packaged_agents().join(folder);
        std::fs::create_dir_all(&folder).expect("writable");
        std::fs::write(folder.join("agent.json"), manifest).expect("writable");
        let program = folder.join("run");
        std::fs::write(&program, "#!/bin/sh\n").expect("writable");
        set_mode(&program, 0o755);
    }

    fn report(&self) -> Report {
        let mut out = Vec::new();
        let verdict = run(&self.args, &mut out);
        let text = String::from_utf8(out).expect("text");
        Report { verdict, text }
    }
}

/// What an operator gets.
struct Report {
    verdict: Verdict,
    text: String,
}

impl Report {
    /// There is a line of this level and name that holds every part.
    #[track_caller]
    fn says(&self, level: &str, name: &str, parts: &[&str]) -> &Self {
        let start = format!("{level:<5} {name:<14} ");
        let is_it =
            |line: &str| line.starts_with(&start) && parts.iter().all(|part| line.contains(part));
        let text = &self.text;
        assert!(
            text.lines().any(is_it),
            "no line {start:?} with {parts:?} in\n{text}"
        );
        self
    }

    #[track_caller]
    fn has_verdict(&self, verdict: Verdict) -> &Self {
        assert_eq!(self.verdict, verdict, "{}", self.text);
        let failures = self
            .text
            .lines()
            .filter(|line| line.starts_with("fail"))
            .count();
        let summary = self.text.lines().last().expect("a summary");
        assert!(
            summary.ends_with(&format!(", {failures} failures")),
            "{}",
            self.text
        );
        assert_eq!(failures > 0, verdict == Verdict::Failed, "{}", self.text);
        self
    }
}

/// An address that refuses connections: bound, so that nobody else can take
/// it, and not listened on.
struct Nobody(OwnedFd);

impl Nobody {
    fn new() -> Self {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).expect("a socket");
        bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("bound");
        Self(socket)
    }

    fn address(&self) -> String {
        use nix::sys::socket::{SockaddrIn, getsockname};
        getsockname::<SockaddrIn>(self.0.as_raw_fd())
            .expect("an address")
            .to_string()
    }
}

/// A server that gives `answer` to the first connection.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(answer.as_bytes());
    });
    address
}

/// Says on the terminal, past the test program's capture, what was not shown.
fn skip(reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

fn set_mode(path: &Path, mode: u32) {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).expect("it is ours");
}

fn manifest(name: &str, more: &str) -> String {
    // An account every host has; as an ordinary user it does not matter.
    format!(r#"{{"name":{name:?},"version":"1.0","exec":["./run"],"user":"root"{more}}}"#)
}

/// A registered host's metafile.
fn metafile() -> Metafile {
    let mut metafile = Metafile::first(uuid::Uuid::new_v4().to_string(), String::new(), 600);
    metafile.confirmed = true;
    metafile.token = Some("host-secret".into());
    metafile
}

fn store(host: &TestHost, metafile: &Metafile) {
    let path = host.paths().metafile();
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
    bootagent_kit::fs::write_atomic_keeping(&path, &metafile.to_bytes(), 0o600).expect("writable");
}

#[test]
fn a_fresh_root_passes_and_every_check_has_its_line() {
    let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let host = TestHost::at(folder, &address);
    let report = host.report();
    report
        .has_verdict(Verdict::Passed)
        .says("ok", "configuration", &["bootagent.toml is valid"])
        .says("ok", "clock", &["20"])
        .says("ok", "instance", &["no bootagent runs"])
        .says("ok", "metafile", &["first start"])
        .says(
            "ok",
            "folders",
            &[&format!(
                "{} are missing and would be created below",
                host.paths().folders().len()
            )],
        )
        .says("ok", "sockets", &["short enough"])
        .says("ok", "one mount", &["var/lib/bootagent/tmp"])
        .says("ok", "space", &["MiB"])
        .says("ok", "journal", &["there is none"])
        .says("ok", "agents", &["none is installed"])
        .says("warn", "packages", &["3005"])
        .says("warn", "token", &["-E"])
        .says("ok", "servers", &["1 from -S"])
        .says("ok", "answers", &[&address]);
    assert!(
        ["limits", "privilege"]
            .iter()
            .all(|name| report.text.contains(name))
    );
}

#[test]
fn a_root_in_use_passes_and_is_told_apart_from_a_fresh_one() {
    let (host, _nobody) = TestHost::new();
    host.paths().ensure().expect("created");
    store(&host, &metafile());
    host.install(
        "a",
        &manifest(
            "a",
            r#","check":["./run","-T"],"capabilities":["CAP_NET_RAW"]"#,
        ),
    );
    drop(crate::journal::Journal::open(&host.paths().journal(), "boot").expect("begun"));
    host.report()
        .has_verdict(Verdict::Passed)
        .says("ok", "metafile", &["registered", "0 children", "600 s"])
        .says(
            "ok",
            "folders",
            &[&format!(
                "{} exist and are writable",
                host.paths().folders().len()
            )],
        )
        .says("ok", "journal", &["0 records"])
        .says("ok", "agents", &["a 1.0 (simple) can be started"])
        .says("ok", "token", &["enrolled"]);
}

#[test]
fn the_report_goes_to_the_log_file_too_behind_what_is_there() {
    let (mut host, _nobody) = TestHost::new();
    let log = host.folder.path().join("test.log");
    std::fs::write(&log, "an old line\n").expect("writable");
    host.args.log_file = Some(log.clone());
    let report = host.report();
    report.says("ok", "log", &["test.log"]);
    let logged = std::fs::read_to_string(&log).expect("readable");
    assert!(logged.starts_with("an old line\n"), "{logged}");
    assert!(logged.contains("[WARN] warn: answers "), "{logged}");
    assert_eq!(
        logged.lines().count(),
        1 + report.text.lines().count(),
        "{logged}"
    );
    host.args.log_file = Some("/nonexistent/test.log".into());
    host.report()
        .has_verdict(Verdict::Failed)
        .says("fail", "log", &["/nonexistent/test.log"]);
}

/// Everything of a tree that a write would change.
fn snapshot(folder: &Path) -> Vec<(PathBuf, [i64; 6])> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let metadata = std::fs::symlink_metadata(&path).expect("there");
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).expect("readable");
            waiting.extend(entries.map(|entry| entry.expect("readable").path()));
        }
        let (seconds, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
        let inode = i64::try_from(metadata.ino()).expect("small");
        let size = i64::try_from(metadata.len()).expect("small");
        let times = [
            metadata.mtime(),
            metadata.mtime_nsec(),
            seconds,
            nanoseconds,
            inode,
            size,
        ];
        found.push((path, times));
    }
    found.sort();
    found
}

#[test]
fn nothing_is_changed_however_broken_the_host_is() {
    let (mut host, _nobody) = TestHost::new();
    host.args.pid_file = Some(host.root().join("pid"));
    let fresh = snapshot(host.folder.path());
    host.report();
    assert_eq!(snapshot(host.folder.path()), fresh);

    host.paths().ensure().expect("created");
    store(&host, &metafile());
    store(&host, &metafile());
    std::fs::write(host.paths().metafile(), b"{").expect("writable");
    std::fs::write(host.paths().journal().join("journal"), b"damaged").expect("writable");
    std::fs::write(host.paths().lock(), b"1\n").expect("writable");
    host.install("a", &manifest("a", ""));
    host.install("b", "{");
    let before = snapshot(host.folder.path());
    host.report()
        .says("warn", "journal", &["7 bytes are damaged"])
        .says("warn", "metafile", &["previous copy"]);
    assert_eq!(snapshot(host.folder.path()), before);
    let group = Config {
        root: host.root(),
        ..Config::default()
    }
    .cgroup_name();
    for folder in ["", "unified", "cpu", "memory"] {
        assert!(
            !Path::new("/sys/fs/cgroup")
                .join(folder)
                .join(&group)
                .exists()
        );
    }
}
