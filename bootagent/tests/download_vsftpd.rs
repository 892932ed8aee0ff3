//! Downloads over FTP from a real vsftpd: the url of document 002, IPv6,
//! sessions that die and are resumed.

#[path = "support/web.rs"]
mod web;

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bootagent::download::{Control, Downloaded, Failure, Limits, Progress, fetch};
use bootagent_protocol::{Checksum, ErrorCode};
use web::{checksum, get, noise, quick, request};

fn get_watched(
    url: &str,
    folder: &Path,
    checksum: Option<Checksum>,
    limits: &Limits,
    control: &dyn Fn(Progress) -> Control,
) -> Result<Downloaded, Failure> {
    fetch(&request(url, folder, checksum), limits, control)
}

/// A real vsftpd on a loopback port, with its files and its log.
struct Vsftpd {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Vsftpd {
    /// None, said aloud, where it cannot run.
    fn start(extra: &str) -> Option<Self> {
        Self::start_on(IpAddr::V4(Ipv4Addr::LOCALHOST), extra)
    }

    fn start_on(address: IpAddr, extra: &str) -> Option<Self> {
        let program = Path::new("/usr/sbin/vsftpd");
        if !program.exists() {
            println!("SKIPPED: /usr/sbin/vsftpd is missing, install the package vsftpd");
            return None;
        }
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: vsftpd needs root");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().display();
        for name in ["files/BasicAgent", "empty"] {
            fs::create_dir_all(folder.path().join(name)).expect("made");
        }
        // The server's own user must be able to enter.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opened");
        let Ok(listener) = TcpListener::bind((address, 0)) else {
            println!("SKIPPED: there is no address {address} here");
            return None;
        };
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let listen = match address {
            IpAddr::V4(address) => format!("listen=YES\nlisten_address={address}"),
            IpAddr::V6(address) => {
                format!("listen=NO\nlisten_ipv6=YES\nlisten_address6={address}")
            }
        };
        let config = format!(
            "{listen}\nlisten_port={port}\nbackground=NO\n\
             anonymous_enable=YES\nlocal_enable=NO\nanon_root={root}/files\n\
             secure_chroot_dir={root}/empty\nseccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\n\
             log_ftp_protocol=YES\nxferlog_enable=YES\nxferlog_std_format=NO\n\
             vsftpd_log_file={root}/log\npasv_address=10.255.255.1\n{extra}\n"
        );
        let path = folder.path().join("config");
        fs::write(&path, config).expect("written");
        let child = Command::new(program)
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let server = Self {
            child,
            port,
            folder,
        };
        let begun = Instant::now();
        while TcpStream::connect((address, port)).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "vsftpd does not listen"
            );
            thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    fn publish(&self, body: &[u8]) -> PathBuf {
        let path = self
            .folder
            .path()
            .join("files/BasicAgent/BasicAgent-0.1.0-0.x86_64.rpm");
        fs::write(&path, body).expect("published");
        path
    }

    fn url(&self) -> String {
        format!(
            "ftp://127.0.0.1:{}/BasicAgent/BasicAgent-0.1.0-0.x86_64.rpm",
            self.port
        )
    }

    /// The commands clients sent so far.
    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Ends the sessions like a crash does; the listener stays.
    fn kill_sessions(&self) {
        let mut sessions = children_of(self.child.id());
        let grandchildren: Vec<u32> = sessions.iter().flat_map(|pid| children_of(*pid)).collect();
        sessions.extend(grandchildren);
        assert!(!sessions.is_empty(), "there is a session to kill");
        for pid in sessions {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
            // One of the two may take the other along.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

impl Drop for Vsftpd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("listed").flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if fields.split_ascii_whitespace().nth(1) == Some(&parent.to_string()) {
            found.extend(entry.file_name().to_string_lossy().parse::<u32>().ok());
        }
    }
    found
}

#[test]
fn vsftpd_serves_the_url_of_document_002() {
    let Some(server) = Vsftpd::start("") else {
        return;
    };
    // Every byte value, so that a transfer in ASCII mode would be noticed.
    let body = noise(300_000);
    server.publish(&body);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let done = get(
        &server.url(),
        folder.path(),
        Some(checksum(&body)),
        &quick(),
    )
    .expect("fetched");
    assert_eq!(fs::read(&done.path).expect("there"), body);
    // The address it announces for data is unreachable: it was not used.
    assert!(server.log().contains("10,255,255,1"), "{}", server.log());

    let missing = format!("ftp://127.0.0.1:{}/BasicAgent/none.rpm", server.port);
    let failure = get(&missing, folder.path(), None, &quick()).expect_err("not there");
    assert_eq!(failure.code, ErrorCode::NOT_FOUND, "{}", failure.describe());

    let login = format!("ftp://nobody:hunter2@127.0.0.1:{}/x", server.port);
    let failure = get(&login, folder.path(), None, &quick()).expect_err("no such user");
    let text = failure.describe();
    assert_eq!(failure.code, ErrorCode::DOWNLOAD_FAILED, "{text}");
    assert!(
        text.contains("login") && !text.contains("hunter2") && !text.contains("nobody"),
        "{text}"
    );
}

#[test]
fn vsftpd_is_reached_by_ipv6_too() {
    let Some(server) = Vsftpd::start_on(IpAddr::V6(Ipv6Addr::LOCALHOST), "") else {
        return;
    };
    let body = noise(100_000);
    server.publish(&body);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = server.url().replace("127.0.0.1", "[::1]");
    let done = get(&url, folder.path(), Some(checksum(&body)), &quick()).expect("fetched");
    assert_eq!(fs::read(&done.path).expect("there"), body);
    assert!(server.log().contains("\"EPSV\""), "{}", server.log());
}

#[test]
fn a_session_of_vsftpd_that_dies_is_resumed_by_rest() {
    let Some(server) = Vsftpd::start("anon_max_rate=2000000") else {
        return;
    };
    let body = noise(3_000_000);
    server.publish(&body);
    // With a checksum, and by size and time of the file alone.
    for wanted in [Some(checksum(&body)), None] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let before = server.log().matches("\"REST ").count();
        let killed = Cell::new(false);
        let done = get_watched(
            &server.url(),
            folder.path(),
            wanted,
            &quick(),
            &|progress| {
                if progress.received > 1_000_000 && !killed.replace(true) {
                    server.kill_sessions();
                }
                Control::Continue
            },
        )
        .expect("fetched");
        assert!(killed.get());
        assert_eq!(done.checksum, checksum(&body));
        assert_eq!(fs::read(&done.path).expect("there"), body);
        let log = server.log();
        assert_eq!(log.matches("\"REST ").count(), before + 1, "{log}");
        let offset = log
            .rsplit_once("\"REST ")
            .map(|(_, rest)| rest.split('"').next());
        let offset = offset.flatten().and_then(|text| text.parse::<u64>().ok());
        assert!(
            offset.is_some_and(|offset| offset > 1_000_000),
            "{offset:?}"
        );
    }
}

#[test]
fn a_stopped_download_from_vsftpd_ends_at_once_and_goes_on_later() {
    let Some(server) = Vsftpd::start("anon_max_rate=1000000") else {
        return;
    };
    let body = noise(2_000_000);
    let file = server.publish(&body);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stop = |progress: Progress| match progress.received {
        0..500_000 => Control::Continue,
        _ => Control::Cancel,
    };
    let stopped_at = Cell::new(Instant::now());
    let failure = get_watched(
        &server.url(),
        folder.path(),
        Some(checksum(&body)),
        &quick(),
        &|at| {
            stopped_at.set(Instant::now());
            stop(at)
        },
    )
    .expect_err("stopped");
    assert_eq!(failure.code, ErrorCode::CANCELLED);
    assert!(
        stopped_at.get().elapsed() < Duration::from_secs(2),
        "{:?}",
        stopped_at.get().elapsed()
    );
    let done = get(
        &server.url(),
        folder.path(),
        Some(checksum(&body)),
        &quick(),
    )
    .expect("fetched");
    assert_eq!(fs::read(&done.path).expect("there"), body);
    assert_eq!(
        server.log().matches("\"REST ").count(),
        1,
        "{}",
        server.log()
    );

    // Stopped again, and this time the file is another one: never mixed.
    get_watched(&server.url(), folder.path(), None, &quick(), &stop).expect_err("stopped");
    let mut changed = body.clone();
    changed[7] ^= 1;
    fs::write(&file, &changed).expect("published");
    let done = get(&server.url(), folder.path(), None, &quick()).expect("fetched");
    assert_eq!(done.checksum, checksum(&changed));
}
