//! What a service manager is told: that requests are served, that we end.
//!
//! The one rule: nobody waits for it. Without `NOTIFY_SOCKET`, or when it does
//! not take the words, the server goes on.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says it, if there is somebody to hear it.
pub fn tell(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let said = (|| {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address)
    })();
    if let Err(error) = said {
        tracing::warn!(%error, "the service manager was not told {state}");
    }
}
