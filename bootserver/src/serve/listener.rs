//! What is listened on: an address of the network, or a Unix socket for root
//! of this machine.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use crate::caller::{Peer, Standing};
use crate::config::{Listen, Scheme};

/// Connections the kernel keeps for us: a fleet that comes back all at once.
const BACKLOG: u32 = 4096;

/// Something that is listened on.
pub(super) enum Listener {
    /// An address.
    Tcp(TcpListener, Scheme),
    /// A Unix socket, whose file goes with it.
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

/// A connection as it was accepted.
pub(super) enum Stream {
    /// From the network.
    Tcp(TcpStream),
    /// From this machine.
    Unix(UnixStream),
}

/// Removed when it is dropped.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Listens on an address; tells which, because port 0 takes a free one.
    pub(super) fn tcp(listen: Listen) -> anyhow::Result<(Self, SocketAddr)> {
        let listener =
            bind(listen.address).with_context(|| format!("listening on {}", listen.address))?;
        let address = listener
            .local_addr()
            .context("asking which port was bound")?;
        Ok((Self::Tcp(listener, listen.scheme), address))
    }

    /// Listens on a Unix socket. One that nobody listens on any more is
    /// replaced.
    pub(super) fn unix(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                bail!("socket: {shown} is there and no socket");
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                bail!("socket: another program listens on {shown}");
            }
            Ok(_) => {
                std::fs::remove_file(path).with_context(|| format!("socket: removing {shown}"))?;
            }
            Err(_) => {}
        }
        let listener =
            UnixListener::bind(path).with_context(|| format!("socket: listening on {shown}"))?;
        // The umask has kept others out so far.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("socket: giving {shown} to its owner alone"))?;
        Ok(Self::Unix {
            listener,
            _file: SocketFile(path.to_owned()),
        })
    }

    /// The next connection. Errors are the other side's, or we are out of
    /// files: then a short pause lets some be closed.
    pub(super) async fn accept(&self) -> (Stream, Peer) {
        loop {
            match self.try_accept().await {
                Ok(Some(accepted)) => return accepted,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Nothing, when a stranger came to the Unix socket.
    async fn try_accept(&self) -> io::Result<Option<(Stream, Peer)>> {
        match self {
            Self::Tcp(listener, scheme) => {
                let (stream, address) = listener.accept().await?;
                // Replies are small and hosts wait for them.
                let _ = stream.set_nodelay(true);
                let peer = Peer {
                    address: Some(address.ip().to_canonical()),
                    scheme: *scheme,
                    standing: Standing::Anybody,
                };
                Ok(Some((Stream::Tcp(stream), peer)))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let uid = stream.peer_cred()?.uid();
                if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
                    tracing::warn!(uid, "a stranger came to the socket of local root");
                    return Ok(None);
                }
                let peer = Peer {
                    address: None,
                    scheme: Scheme::Http,
                    standing: Standing::LocalAdmin,
                };
                Ok(Some((Stream::Unix(stream), peer)))
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
