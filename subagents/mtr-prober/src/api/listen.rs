//! The places where requests come in, also when somebody else has them now.
//!
//! The one rule: a place that cannot be had is said with who has it, and tried again.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::config::Listen;

/// A stream of either kind.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl io::Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A place.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) listen: Listen,
    socket: Option<Socket>,
    /// Why there is none.
    problem: Option<String>,
}

impl Place {
    pub(super) fn new(listen: Listen) -> Self {
        Self {
            listen,
            socket: None,
            problem: None,
        }
    }

    /// Takes the place, if it is free; tells whether it is ours now.
    pub(super) fn open(&mut self) -> bool {
        match open(&self.listen) {
            Ok(socket) => {
                self.socket = Some(socket);
                self.problem = None;
            }
            // Once: looking at every process costs more than trying again.
            Err(error) if self.problem.is_none() => {
                let said = match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        let holder = holder(&self.listen);
                        let holder = holder.unwrap_or_else(|| "another program".to_owned());
                        format!(
                            "{} is taken by {holder}: end it, or change `listen`",
                            self.listen
                        )
                    }
                    _ => format!("{} cannot be listened at: {error}", self.listen),
                };
                log::warn!("{said}");
                self.problem = Some(said);
            }
            Err(_) => {}
        }
        self.socket.is_some()
    }

    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self.socket.as_ref()? {
            Socket::Tcp(socket) => Some(socket.as_fd()),
            Socket::Unix(socket) => Some(socket.as_fd()),
        }
    }

    /// The next connection, and from where it is; from nowhere on a Unix socket.
    pub(super) fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match &self.socket {
            Some(Socket::Tcp(socket)) => {
                let (stream, peer) = socket.accept()?;
                stream.set_nonblocking(true)?;
                // Answers are small and whole.
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Some(peer.ip())))
            }
            Some(Socket::Unix(socket)) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(true)?;
                Ok((Stream::Unix(stream), None))
            }
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let (Listen::Unix(path), Some(_)) = (&self.listen, &self.socket) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn open(listen: &Listen) -> io::Result<Socket> {
    match listen {
        Listen::Tcp(address) => {
            let socket = TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(Socket::Tcp(socket))
        }
        Listen::Unix(path) => {
            remove_stale(path)?;
            let socket = UnixListener::bind(path)?;
            // As open as a port of loopback is; the folder may be closed to others.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
            socket.set_nonblocking(true)?;
            Ok(Socket::Unix(socket))
        }
    }
}

/// A socket nobody listens at is what a killed process left.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    match is_socket.then(|| UnixStream::connect(path)) {
        Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        _ => Ok(()),
    }
}

/// The program that has a place, and its pid, as far as we may see it.
pub fn holder(listen: &Listen) -> Option<String> {
    let inodes = match listen {
        Listen::Tcp(address) => listening_inodes(*address),
        Listen::Unix(path) => {
            let table = std::fs::read_to_string("/proc/net/unix").ok()?;
            let path = path.to_str()?;
            let of_path = table.lines().filter(|line| line.ends_with(path));
            let inode = |line: &str| line.split_whitespace().nth(6).map(str::to_owned);
            of_path.filter_map(inode).collect()
        }
    };
    let links: Vec<String> = inodes.iter().map(|it| format!("socket:[{it}]")).collect();
    let has_it = |process: &std::fs::DirEntry| {
        let Ok(fds) = std::fs::read_dir(process.path().join("fd")) else {
            return false;
        };
        fds.flatten().any(|fd| {
            let link = std::fs::read_link(fd.path());
            link.is_ok_and(|link| links.iter().any(|it| link.as_os_str() == it.as_str()))
        })
    };
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut processes =
        processes.filter(|it| it.file_name().to_string_lossy().parse::<u32>().is_ok());
    let process = processes.find(has_it)?;
    let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
    Some(format!(
        "{} (pid {})",
        name.trim(),
        process.file_name().to_string_lossy()
    ))
}

/// Of sockets that listen at this port; one on all addresses keeps us from each.
fn listening_inodes(address: SocketAddr) -> Vec<String> {
    let mut found = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(text) = std::fs::read_to_string(table) else {
            continue;
        };
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, _, _, _, _, _, inode, ..] = fields[..] else {
                continue;
            };
            let port = local
                .rsplit_once(':')
                .and_then(|it| u16::from_str_radix(it.1, 16).ok());
            if state == "0A" && port == Some(address.port()) {
                found.push(inode.to_owned());
            }
        }
    }
    found
}
