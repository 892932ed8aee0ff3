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

/// Of sockets that keep us from an address.
fn listening_inodes(address: SocketAddr) -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables.map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines());
    let inodes = lines.filter_map(|line| inode_in_the_way(line, address));
    inodes.map(str::to_owned).collect()
}

/// The inode in a line of such a table, if its socket listens there or on all addresses.
fn inode_in_the_way(line: &str, wanted: SocketAddr) -> Option<&str> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, state) = (fields.next()?, fields.nth(1)?);
    let inode = fields.nth(5)?;
    let (address, port) = local.rsplit_once(':')?;
    let same_port = u16::from_str_radix(port, 16).ok()? == wanted.port();
    // Words of 32 bits, each as this machine has them in memory.
    let words = (0..address.len()).step_by(8).map(|at| {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.concat();
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(bytes) => IpAddr::from(bytes),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).to_canonical(),
    };
    let wanted = wanted.ip().to_canonical();
    let meets = address == wanted || address.is_unspecified() || wanted.is_unspecified();
    (state == "0A" && same_port && meets).then_some(inode)
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_in_the_way_is_named() {
        let row = |local: &str, state: &str| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0"
            )
        };
        let v6 = |word: &str| format!("0000000000000000{word}:1F91");
        for (local, state, wanted, expected) in [
            ("0100007F:1F91", "0A", "127.0.0.1:8081", true),
            ("00000000:1F91", "0A", "127.0.0.1:8081", true),
            ("0100007F:1F91", "0A", "0.0.0.0:8081", true),
            ("0200007F:1F91", "0A", "127.0.0.1:8081", false),
            ("0100007F:1F90", "0A", "127.0.0.1:8081", false),
            ("0100007F:1F91", "01", "127.0.0.1:8081", false),
            (&v6("0000000001000000"), "0A", "[::1]:8081", true),
            (&v6("FFFF00000100007F"), "0A", "127.0.0.1:8081", true),
            (&v6("0000000002000000"), "0A", "[::1]:8081", false),
        ] {
            let line = row(local, state);
            let found = inode_in_the_way(&line, wanted.parse().expect(wanted));
            assert_eq!(found, expected.then_some("4711"), "{line} for {wanted}");
        }
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
        assert_eq!(
            inode_in_the_way(heading, "0.0.0.0:1".parse().expect("one")),
            None
        );
    }
}
