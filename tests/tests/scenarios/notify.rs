//! systemd is told that the daemon is up, alive, and how it is.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use e2e::agent::{Agent, Settings};
use e2e::bundle::{Bundle, checksum};
use e2e::fake_server::FakeServer;
use e2e::wait;
use serde_json::json;

/// What systemd listens with.
struct Listener {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Listener {
    /// Waits until something like this was said.
    fn hear(&mut self, what: &str, is_it: impl Fn(&str) -> bool) {
        wait::until(what, || {
            let mut buffer = [0; 4096];
            while let Ok(count) = self.socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                self.heard.extend(text.lines().map(str::to_owned));
            }
            self.heard.iter().any(|line| is_it(line)).then_some(())
        });
    }

    fn hear_status(&mut self, words: &[&str]) {
        self.hear(&format!("STATUS= with {words:?}"), |line| {
            line.starts_with("STATUS=bootagent ") && words.iter().all(|word| line.contains(word))
        });
    }
}

#[test]
fn systemd_is_told_of_children_server_and_trouble_as_they_change() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let pause = Some(Duration::from_millis(50));
    socket.set_read_timeout(pause).expect("a timeout");
    let mut systemd = Listener {
        socket,
        heard: Vec::new(),
    };
    let fake = FakeServer::start();
    let mut settings = Settings::new(&fake.address()).with("[restart]\nmax_anomalies = 0\n");
    settings.launcher = vec![
        "env".into(),
        format!("NOTIFY_SOCKET={}", path.display()),
        "WATCHDOG_USEC=1000000".into(),
    ];
    let host = Agent::start(&settings);
    systemd.hear("READY=1", |line| line == "READY=1");
    systemd.hear_status(&["0 of 0 agents run", "reports to", &fake.address()]);
    systemd.hear("WATCHDOG=1", |line| line == "WATCHDOG=1");

    let bundle = Bundle::new("worker", "1.0.0", &["--ready"])
        .notify()
        .build();
    let file = folder.path().join("worker");
    std::fs::write(&file, &bundle).expect("written");
    fake.succeed(json!({
        "id": "install", "action": "install", "name": "worker", "checksum": checksum(&bundle),
        "url": format!("file://{}", file.display()),
    }));
    systemd.hear_status(&["1 of 1 agents run"]);
    let worker = host.process("worker").expect("it runs");
    worker.signal(nix::sys::signal::Signal::SIGKILL);
    systemd.hear_status(&["0 of 1 agents run, 1 given up"]);
    drop(fake);
    systemd.hear_status(&["cannot connect"]);
    let mut host = host;
    host.stop();
    systemd.hear("STOPPING=1", |line| line == "STOPPING=1");
}
