//! HAProxy as `contrib/haproxy` configures it, before servers of a test.
//!
//! The one rule: of that configuration nothing is changed but addresses, folders and
//! how many connections there may be.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::tree::repository;
use crate::wait;

/// A running HAProxy.
#[derive(Debug)]
pub struct Haproxy {
    child: Child,
    folder: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Haproxy {
    /// Starts one before two servers.
    ///
    /// # Errors
    /// Why it cannot be run here.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(servers: [SocketAddr; 2]) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        // A copy that the program inherits.
        let inherited: OwnedFd = nix::unistd::dup(&listener).expect("a descriptor");
        drop(listener);
        let path = repository().join("contrib/haproxy/haproxy.cfg");
        let mut text = std::fs::read_to_string(path).expect("the configuration");
        let shown = folder.path().display();
        for (written, here) in [
            ("bind :8080", format!("bind fd@{}", inherited.as_raw_fd())),
            ("10.0.0.11:8080", servers[0].to_string()),
            ("10.0.0.12:8080", servers[1].to_string()),
            ("/run/haproxy/admin.sock", format!("{shown}/admin.sock")),
            // Each takes two descriptors, which not every machine has so many of.
            ("maxconn 20000", "maxconn 400".into()),
            ("log /dev/log local0", "log stderr format raw local0".into()),
        ] {
            assert_eq!(text.matches(written).count(), 1, "{written}");
            text = text.replace(written, &here);
        }
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, text).expect("a configuration");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log)
            .spawn()
            .map_err(|error| format!("haproxy cannot be run: {error}"))?;
        let proxy = Self {
            child,
            folder,
            address,
        };
        for server in ["one", "two"] {
            proxy.until_up(server);
        }
        Ok(proxy)
    }

    /// Waits until it has seen that a server is ready.
    ///
    /// # Panics
    /// When it does not.
    pub fn until_up(&self, server: &str) {
        self.until(server, "UP", "L7OK");
    }

    /// Waits until it has seen that a server is not.
    ///
    /// # Panics
    /// When it does not.
    pub fn until_down(&self, server: &str) {
        self.until(server, "DOWN", "");
    }

    fn until(&self, server: &str, state: &str, check: &str) {
        let what = format!("{server} is {state}");
        wait::until_true(&what, || {
            let columns = self.columns(server).unwrap_or_default();
            let column = |number: usize| columns.get(number).map_or("", String::as_str);
            // `status` and `check_status`, by the order HAProxy documents.
            column(17) == state && column(36).starts_with(check)
        });
    }

    /// A server's line of `show stat`.
    fn columns(&self, server: &str) -> Option<Vec<String>> {
        let mut stream = UnixStream::connect(self.folder.path().join("admin.sock")).ok()?;
        stream.set_read_timeout(Some(wait::PATIENCE)).ok()?;
        stream.write_all(b"show stat\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let start = format!("replicas,{server},");
        let line = text.lines().find(|line| line.starts_with(&start))?;
        Some(line.split(',').map(str::to_owned).collect())
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            eprintln!("HAProxy's log:\n{}", log.unwrap_or_default());
        }
    }
}
