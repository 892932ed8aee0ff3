//! Runs the real program and watches it from outside.
//!
//! The one rule: only processes started here are signalled, and each is
//! reaped.
#![allow(
    dead_code,
    reason = "each test program uses its own part of the harness"
)]

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use flux_push::series::Point;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything here takes: reached only by a program that hangs.
pub(crate) const FAR: Duration = Duration::from_secs(30);

/// A state directory and whoever listens.
pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) notify: UnixDatagram,
}

impl Fixture {
    /// A state directory, a notify socket and this configuration.
    pub(crate) fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let notify = UnixDatagram::bind(dir.path().join("notify")).expect("bound");
        notify.set_read_timeout(Some(FAR)).expect("set");
        std::fs::write(dir.path().join("flux-push.toml"), config).expect("written");
        Self { dir, notify }
    }

    /// The program with this state and configuration.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flux-push"));
        command
            .env_clear()
            .env("NOTIFY_SOCKET", self.dir.path().join("notify"))
            .env("STATE_DIRECTORY", self.dir.path().join("state"))
            .arg("-c")
            .arg(self.dir.path().join("flux-push.toml"))
            .stderr(Stdio::piped())
            .stdout(Stdio::piped());
        command
    }

    /// Starts it.
    pub(crate) fn start(&self) -> Running {
        Running::spawn(&mut self.command())
    }

    /// Waits for a message that begins so, and gives it.
    pub(crate) fn message(&self, beginning: &str) -> String {
        let deadline = Instant::now() + FAR;
        while Instant::now() < deadline {
            let mut buffer = [0; 1024];
            let count = match self.notify.recv(&mut buffer) {
                // A receive with a timeout is not taken up again by itself.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                received => received.expect("a message in time"),
            };
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if text.starts_with(beginning) {
                return text;
            }
        }
        panic!("{beginning} did not come");
    }

    /// Waits for a point that is so, and gives the first one.
    pub(crate) fn point_where(&self, is_so: impl Fn(&Point) -> bool) -> Point {
        let deadline = Instant::now() + FAR;
        loop {
            if let Some(point) = self.points().into_iter().find(&is_so) {
                return point;
            }
            assert!(
                Instant::now() < deadline,
                "no such point: {:#?}",
                self.points()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Every whole point on the disk, in order.
    pub(crate) fn points(&self) -> Vec<Point> {
        let directory = self.dir.path().join("state/points");
        let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
            .expect("listed")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|e| e == "points"))
            .collect();
        files.sort();
        let text: String = files
            .iter()
            .map(|file| std::fs::read_to_string(file).expect("text"))
            .collect();
        text.lines()
            // The last line may be on its way.
            .filter_map(|line| serde_json::from_str(line.get(9..)?).ok())
            .collect()
    }
}

/// A started program; killed should a test end early.
pub(crate) struct Running(Option<Child>);

impl Running {
    /// Starts a command.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(Some(command.spawn().expect("started")))
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        let child = self.0.as_ref().expect("running");
        i32::try_from(child.id()).expect("a pid")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("signalled");
    }

    /// Waits for the end and gives what was printed.
    pub(crate) fn end(mut self) -> Output {
        let mut child = self.0.take().expect("running");
        let deadline = Instant::now() + FAR;
        while child.try_wait().expect("waited").is_none() {
            if Instant::now() > deadline {
                child.kill().expect("killed");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait_with_output().expect("reaped")
    }

    /// Asks it to end and waits for that.
    pub(crate) fn stop(self) -> Output {
        self.signal(Signal::SIGTERM);
        self.end()
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
