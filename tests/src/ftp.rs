//! A real vsftpd on a loopback port.
//!
//! The one rule: it serves one folder of its own, and is gone when dropped.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::wait;

/// Where Debian puts it.
const PROGRAM: &str = "/usr/sbin/vsftpd";

/// A running vsftpd.
#[derive(Debug)]
pub struct Vsftpd {
    child: Child,
    port: u16,
    folder: TempDir,
}

/// Why vsftpd cannot run here, if it cannot.
pub fn obstacle() -> Option<String> {
    if !Path::new(PROGRAM).exists() {
        return Some(format!("{PROGRAM} is missing, install the package vsftpd"));
    }
    (!crate::agent::is_root()).then(|| "vsftpd needs root".to_owned())
}

impl Vsftpd {
    /// Starts one; look at [`obstacle`] first.
    ///
    /// # Panics
    /// When it does not listen.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["files", "empty"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        // The server's own user must be able to enter.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("opened");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let root = folder.path().display();
        let config = format!(
            "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\n\
             anonymous_enable=YES\nlocal_enable=NO\nanon_root={root}/files\n\
             secure_chroot_dir={root}/empty\nseccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\n\
             xferlog_enable=YES\nlog_ftp_protocol=YES\nxferlog_std_format=NO\n\
             vsftpd_log_file={root}/log\n"
        );
        let path = folder.path().join("config");
        std::fs::write(&path, config).expect("a configuration");
        let child = Command::new(PROGRAM)
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("vsftpd can be run");
        let server = Self {
            child,
            port,
            folder,
        };
        wait::until("vsftpd", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
        server
    }

    /// Serves `content` under `name`; returns its url.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn publish(&self, name: &str, content: &[u8]) -> String {
        let path = self.folder.path().join("files").join(name);
        std::fs::write(path, content).expect("published");
        format!("ftp://127.0.0.1:{}/{name}", self.port)
    }

    /// The commands clients sent so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Vsftpd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
