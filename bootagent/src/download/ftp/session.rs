//! A conversation with an FTP server: commands, and the connection for data.
//!
//! What an answer means for the download is not known here. The one rule:
//! nothing waits longer than the longest silence, and nothing beyond the
//! deadline, also when the server keeps dripping bytes.

use std::io::{self, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bootagent_kit::http::{self, HttpErrorKind};

use super::reply::{self, Reply, ReplyError};

/// Longest wait for one address of a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long something may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// When all is over.
    pub(super) deadline: Instant,
    /// Longest silence.
    pub(super) stall: Duration,
}

impl Patience {
    /// For one step: at least a moment, since a timeout of zero means none.
    fn step(self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(left.min(self.stall).max(Duration::from_millis(1))),
        }
    }
}

/// A connection whose every read and write has its time.
#[derive(Debug)]
pub(super) struct Timed {
    stream: TcpStream,
    patience: Patience,
}

impl Timed {
    fn connect(address: SocketAddr, patience: Patience) -> io::Result<Self> {
        let timeout = CONNECT_TIMEOUT.min(patience.step()?);
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        Ok(Self { stream, patience })
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.patience.step()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.patience.step()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why a step failed.
#[derive(Debug)]
pub(super) enum SessionError {
    /// The connection.
    Connection(io::Error),
    /// What came is no FTP.
    NotFtp,
    /// The server answers with this code.
    Refused(u16),
}

impl From<io::Error> for SessionError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl From<ReplyError> for SessionError {
    fn from(error: ReplyError) -> Self {
        match error {
            ReplyError::Connection(error) => Self::Connection(error),
            ReplyError::NotFtp => Self::NotFtp,
        }
    }
}

/// The control connection.
#[derive(Debug)]
pub(super) struct Session {
    control: BufReader<Timed>,
    /// Where the data connection goes too: the address a server names is
    /// wrong behind a NAT, and from an attacker it is a probe.
    peer: IpAddr,
}

impl Session {
    /// Connects to the first address that answers.
    pub(super) fn connect(host: &str, port: u16, patience: Patience) -> io::Result<Self> {
        let mut last = io::Error::other("the name has no address");
        for peer in resolve(host, patience)? {
            match Timed::connect(SocketAddr::new(peer, port), patience) {
                Ok(control) => {
                    let control = BufReader::new(control);
                    return Ok(Self { control, peer });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Waits for an answer of the wanted kind: its first digit.
    pub(super) fn expect(&mut self, kind: u16) -> Result<Reply, SessionError> {
        let reply = reply::read(&mut self.control)?;
        match reply.code / 100 == kind {
            true => Ok(reply),
            false => Err(SessionError::Refused(reply.code)),
        }
    }

    /// Sends a command and waits for an answer of the wanted kind.
    pub(super) fn command(
        &mut self,
        word: &str,
        argument: Option<&str>,
        kind: u16,
    ) -> Result<Reply, SessionError> {
        self.send(word, argument)?;
        self.expect(kind)
    }

    /// Sends a command. Its argument may be the password: it goes nowhere else.
    pub(super) fn send(&mut self, word: &str, argument: Option<&str>) -> io::Result<()> {
        let argument = argument.unwrap_or_default();
        if argument.contains(char::is_control) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let blank = if argument.is_empty() { "" } else { " " };
        let line = format!("{word}{blank}{argument}\r\n");
        self.control.get_mut().write_all(line.as_bytes())
    }

    /// Signs in; some servers want no password.
    pub(super) fn login(&mut self, user: &str, password: &str) -> Result<(), SessionError> {
        match self.command("USER", Some(user), 2) {
            Err(SessionError::Refused(331)) => {}
            other => return other.map(drop),
        }
        self.command("PASS", Some(password), 2).map(drop)
    }

    /// Opens the connection for data, where the next command's bytes come.
    /// PASV is known to every server and firewall, but has no IPv6.
    pub(super) fn open_data(&mut self) -> Result<Timed, SessionError> {
        let port = match self.peer.to_canonical() {
            IpAddr::V4(_) => self.command("PASV", None, 2)?.passive_port(),
            IpAddr::V6(_) => self.command("EPSV", None, 2)?.extended_port(),
        };
        let address = SocketAddr::new(self.peer, port.ok_or(SessionError::NotFtp)?);
        Ok(Timed::connect(address, self.control.get_ref().patience)?)
    }
}

fn resolve(host: &str, patience: Patience) -> io::Result<Vec<IpAddr>> {
    let timeout = CONNECT_TIMEOUT.min(patience.step()?);
    http::addresses(host, timeout).map_err(|error| {
        let kind = match error.kind {
            HttpErrorKind::Timeout => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    })
}
