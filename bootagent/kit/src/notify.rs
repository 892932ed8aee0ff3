//! Says to whoever started us how we are: `sd_notify` without a library.
//!
//! The messages are datagrams to the socket named by `NOTIFY_SOCKET`, a path
//! or, with a leading `@`, an abstract name. Without that variable nothing is
//! said, so a program behaves alike under systemd, BootAgent and a shell.
//!
//! The one rule: never wait for the listener.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the socket.
const VARIABLE: &str = "NOTIFY_SOCKET";
/// Longest status text, in bytes; a longer one is cut.
const MAX_STATUS_BYTES: usize = 512;

/// We are up.
pub fn ready() -> io::Result<()> {
    Notifier::from_env().send("READY=1")
}

/// One line about how we are, for `systemctl status` and the console. Line
/// breaks become blanks, and what is longer than 512 bytes is cut.
pub fn status(text: &str) -> io::Result<()> {
    Notifier::from_env().status(text)
}

/// We are alive.
pub fn watchdog() -> io::Result<()> {
    Notifier::from_env().send("WATCHDOG=1")
}

/// We change in place and say [`ready`] again afterwards. The watchdog begins
/// anew meanwhile.
pub fn reloading() -> io::Result<()> {
    Notifier::from_env().send("RELOADING=1\nWATCHDOG=1")
}

/// We are about to end.
pub fn stopping() -> io::Result<()> {
    Notifier::from_env().send("STOPPING=1")
}

/// The way to one listener; without one, a way to nobody.
#[derive(Debug, Clone, Default)]
pub struct Notifier {
    socket: Option<OsString>,
}

impl Notifier {
    /// The listener of `NOTIFY_SOCKET`.
    pub fn from_env() -> Self {
        Self::new(std::env::var_os(VARIABLE))
    }

    /// The listener at a path or an abstract name (`@name`).
    pub fn new(socket: Option<OsString>) -> Self {
        Self {
            socket: socket.filter(|name| !name.is_empty()),
        }
    }

    /// Whether anybody listens.
    pub fn is_wanted(&self) -> bool {
        self.socket.is_some()
    }

    /// As [`status`] of the module.
    pub fn status(&self, text: &str) -> io::Result<()> {
        let cut = bootagent_protocol::truncate(text, MAX_STATUS_BYTES);
        let line: String = cut
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        self.send(&format!("STATUS={line}"))
    }

    /// Sends assignments, one per line, such as `READY=1`.
    pub fn send(&self, message: &str) -> io::Result<()> {
        let Some(name) = &self.socket else {
            return Ok(());
        };
        let socket = UnixDatagram::unbound()?;
        // A listener that does not read must not stop us: the queue of a
        // datagram socket is short and a blocking send would wait.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(message.as_bytes(), &address_of(name)?)?;
        Ok(())
    }
}

fn address_of(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        _ => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let count = socket.recv(&mut buffer).expect("received");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[test]
    fn messages_reach_a_socket_at_a_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        let notifier = Notifier::new(Some(path.into_os_string()));
        notifier.send("READY=1").expect("sent");
        notifier.status("two\nlines\tand a tab").expect("sent");
        assert_eq!(receive(&socket), "READY=1");
        assert_eq!(receive(&socket), "STATUS=two lines and a tab");
    }

    #[test]
    fn messages_reach_an_abstract_socket() {
        let name = format!("bootagent-kit-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("bound");
        let notifier = Notifier::new(Some(format!("@{name}").into()));
        notifier.send("STOPPING=1").expect("sent");
        assert_eq!(receive(&socket), "STOPPING=1");
    }

    #[test]
    fn nobody_listening_is_no_error_and_a_missing_socket_is_one() {
        assert!(!Notifier::new(None).is_wanted());
        Notifier::new(Some("".into()))
            .send("READY=1")
            .expect("nothing to do");
        let gone = Notifier::new(Some("/nonexistent/notify".into()));
        assert!(gone.send("READY=1").is_err());
    }

    #[test]
    fn a_listener_that_does_not_read_does_not_stop_us() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let _unread = UnixDatagram::bind(&path).expect("bound");
        let notifier = Notifier::new(Some(path.into_os_string()));
        // Ends with an error once the queue is full; a blocking send would hang.
        let refused = (0..100_000).find_map(|_| notifier.send("WATCHDOG=1").err());
        assert_eq!(refused.map(|e| e.kind()), Some(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn a_long_status_is_cut_between_characters() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        let notifier = Notifier::new(Some(path.into_os_string()));
        notifier.status(&"点".repeat(400)).expect("sent");
        let text = receive(&socket);
        assert!(
            text.len() <= MAX_STATUS_BYTES + 7 && text.ends_with('点'),
            "{text}"
        );
    }
}
