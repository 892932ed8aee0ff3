//! `ftp://user:password@host:port/path`: passive, binary, resumed by REST.
//!
//! A path is below the folder the login leads to; `%2F` at its front makes it
//! absolute, as everywhere. The one rule: whatever the server does, a socket
//! times out after the longest silence and is cut at the deadline, also when
//! the server keeps dripping bytes.

use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bootagent_protocol::ErrorCode;
use suppaftp::types::FileType;
use suppaftp::{FtpError, FtpStream, Mode, Status, TlsStream, TransferStream};

use super::source::{Ask, Opened, Source, Trouble, fail};
use super::url::Url;

/// Longest wait for one address of a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Who we are where the URL does not say.
const ANONYMOUS: (&str, &str) = ("anonymous", "bootagent@");

/// Opens the file at `url` at the offset that is asked for.
pub(super) fn open(url: &Url, ask: &Ask<'_>) -> Result<Opened, Trouble> {
    let path = url.decoded_path().map_err(|error| {
        Trouble::Final(fail(ErrorCode::DOWNLOAD_FAILED, url, "cannot be asked for").because(error))
    })?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    if path.is_empty() {
        return Err(Trouble::Final(fail(
            ErrorCode::DOWNLOAD_FAILED,
            url,
            "names no file",
        )));
    }
    let sockets = Sockets::cut_at(ask.deadline).map_err(|error| no_connection(url, error))?;
    let control = connect(url, ask).map_err(|error| no_connection(url, error))?;
    sockets
        .watch(&control, ask.stall)
        .map_err(|error| no_connection(url, error))?;
    let is_v6 = control
        .peer_addr()
        .is_ok_and(|address| address.ip().to_canonical().is_ipv6());
    let step = |what| move |error| refused(url, what, error);

    let mut session = FtpStream::connect_with_stream(control).map_err(step("greeting"))?;
    // The data connection goes to the server we spoke to, whatever address
    // it names: behind a NAT that is wrong, and from an attacker it is a probe.
    session.set_passive_nat_workaround(true);
    session.set_mode(if is_v6 {
        Mode::ExtendedPassive
    } else {
        Mode::Passive
    });
    let (watched, stall) = (sockets.clone(), ask.stall);
    let mut session = session.passive_stream_builder(move |address| {
        TcpStream::connect_timeout(&address, CONNECT_TIMEOUT.min(stall))
            .and_then(|stream| watched.watch(&stream, stall).map(|()| stream))
            .map_err(FtpError::ConnectionError)
    });
    let (user, password) = match &url.login {
        Some(login) => (login.user.expose(), login.password.expose()),
        None => ANONYMOUS,
    };
    session.login(user, password).map_err(step("login"))?;
    session
        .transfer_type(FileType::Image)
        .map_err(step("binary mode"))?;
    let total = optional(session.size(path), url)?.map(|size| size as u64);
    let modified = optional(session.mdtm(path), url)?;
    let validator = total
        .zip(modified)
        .map(|(size, modified)| format!("{size} {modified}"));

    let starts_at = match total {
        Some(total) if ask.offset <= total => ask.offset,
        _ => 0,
    };
    if ask.offset > 0
        && (starts_at == 0
            || ask
                .validator
                .is_some_and(|is| Some(is) != validator.as_deref()))
    {
        return Err(Trouble::Afresh(fail(
            ErrorCode::DOWNLOAD_FAILED,
            url,
            "changed on the server",
        )));
    }
    if let (true, Ok(offset)) = (starts_at > 0, usize::try_from(starts_at)) {
        session.resume_transfer(offset).map_err(step("resume"))?;
    }
    let transfer = session
        .retr_as_stream(path)
        .map_err(|error| match (&error, starts_at) {
            (FtpError::UnexpectedResponse(response), 1..) if is_no_restart(response.status) => {
                Trouble::Afresh(fail(
                    ErrorCode::DOWNLOAD_FAILED,
                    url,
                    "cannot be resumed there",
                ))
            }
            _ => refused(url, "download", error),
        })?;
    let reader = Transfer {
        data: Some(Box::new(transfer)),
        session,
        sockets,
        url: url.clone(),
    };
    Ok(Opened {
        reader: Box::new(reader),
        starts_at,
        total,
        validator,
    })
}

/// Connects to the first address that answers.
fn connect(url: &Url, ask: &Ask<'_>) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in resolve(&url.host, url.port, CONNECT_TIMEOUT.min(ask.left()))? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT.min(ask.left())) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The system's resolver cannot be interrupted, so it runs in a thread that
/// is left behind when it takes too long; it ends by its own timeout.
fn resolve(host: &str, port: u16, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let name = host.to_owned();
    bootagent_kit::thread::spawn("ftp-resolve", move || {
        let found = (name.as_str(), port).to_socket_addrs();
        // Nobody listens any more when it took too long.
        let _ = sender.send(found.map(Vec::from_iter));
    })?;
    match receiver.recv_timeout(timeout) {
        Ok(found) => found,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the name server does not answer",
        )),
    }
}

/// The sockets of one transfer. They are cut when their time is over: a
/// socket's own timeout counts from the last byte, and a server that drips
/// would never reach it.
#[derive(Clone)]
struct Sockets {
    open: Arc<Mutex<Vec<TcpStream>>>,
    /// Dropped with the last clone, which ends the thread.
    _alive: mpsc::Sender<()>,
}

impl Sockets {
    fn cut_at(deadline: Instant) -> io::Result<Self> {
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let watched = Arc::clone(&open);
        let (sender, receiver) = mpsc::channel();
        bootagent_kit::thread::spawn("ftp-deadline", move || {
            let left = deadline.saturating_duration_since(Instant::now());
            if receiver.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                cut(&watched);
            }
        })?;
        Ok(Self {
            open,
            _alive: sender,
        })
    }

    fn watch(&self, stream: &TcpStream, stall: Duration) -> io::Result<()> {
        stream.set_read_timeout(Some(stall))?;
        stream.set_write_timeout(Some(stall))?;
        let clone = stream.try_clone()?;
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(clone);
        Ok(())
    }
}

fn cut(sockets: &Mutex<Vec<TcpStream>>) {
    for socket in sockets
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        // A connection that is already gone is as good as cut.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// suppaftp's transfer without its type parameter, which has no public name.
trait Data: Read {
    fn finish(self: Box<Self>) -> Result<(), FtpError>;
}

impl<Tls: TlsStream> Data for TransferStream<Tls> {
    fn finish(self: Box<Self>) -> Result<(), FtpError> {
        TransferStream::finish(*self)
    }
}

struct Transfer {
    /// There until it is finished.
    data: Option<Box<dyn Data>>,
    session: FtpStream,
    sockets: Sockets,
    url: Url,
}

impl Read for Transfer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.data {
            Some(data) => data.read(buffer),
            None => Ok(0),
        }
    }
}

impl Source for Transfer {
    /// Only the server's 226 tells the end of the file from a cut connection.
    fn finish(mut self: Box<Self>) -> Result<(), Trouble> {
        if let Some(data) = self.data.take() {
            // The data socket is closed for the server only when the watched
            // copy is closed too.
            cut_data(&self.sockets);
            data.finish()
                .map_err(|error| refused(&self.url, "end of the download", error))?;
        }
        // The file is here; how the server says goodbye does not matter.
        let _ = self.session.quit();
        Ok(())
    }
}

/// Forgets every socket but the control connection, which came first.
fn cut_data(sockets: &Sockets) {
    sockets
        .open
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .truncate(1);
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if self.data.is_some() {
            // Given up in the middle: without this, suppaftp waits here for
            // the server to say what it thinks of that.
            cut(&self.sockets.open);
        }
    }
}

/// A question a server need not understand: none then.
fn optional<T>(answer: Result<T, FtpError>, url: &Url) -> Result<Option<T>, Trouble> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(FtpError::UnexpectedResponse(response)) if response.status == Status::NotAvailable => {
            Err(refused(
                url,
                "question",
                FtpError::UnexpectedResponse(response),
            ))
        }
        Err(FtpError::UnexpectedResponse(_) | FtpError::BadResponse) => Ok(None),
        Err(error) => Err(refused(url, "question", error)),
    }
}

fn is_no_restart(status: Status) -> bool {
    use Status::{BadArguments, BadCommand, BadSequence, NotImplemented, NotImplementedParameter};
    [
        BadArguments,
        BadCommand,
        BadSequence,
        NotImplemented,
        NotImplementedParameter,
    ]
    .contains(&status)
}

fn no_connection(url: &Url, error: io::Error) -> Trouble {
    let code = match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ErrorCode::DOWNLOAD_TIMED_OUT,
        _ => ErrorCode::DOWNLOAD_FAILED,
    };
    Trouble::Again(fail(code, url, "cannot be reached").because(error))
}

/// What an answer means. The server's own words stay out: they may repeat
/// the user.
fn refused(url: &Url, step: &str, error: FtpError) -> Trouble {
    let response = match error {
        FtpError::ConnectionError(error) => return no_connection(url, error),
        FtpError::UnexpectedResponse(response) => response,
        _ => {
            let what = format!("answers no FTP (at the {step}); correct the job's url");
            return Trouble::Again(fail(ErrorCode::DOWNLOAD_FAILED, url, what));
        }
    };
    let status = response.status;
    let code = status.code();
    match status {
        Status::FileUnavailable => Trouble::Final(fail(
            ErrorCode::NOT_FOUND,
            url,
            "is not there or may not be read (status 550); correct the job's url",
        )),
        Status::NotLoggedIn | Status::InvalidCredentials | Status::LoginNeedAccount => {
            Trouble::Final(fail(
                ErrorCode::DOWNLOAD_FAILED,
                url,
                format!(
                    "refuses the login (status {code}); correct user and password in the job's url"
                ),
            ))
        }
        // 4xx: try again; anything else will be the same next time.
        _ if (400..500).contains(&code) => Trouble::Again(fail(
            ErrorCode::DOWNLOAD_FAILED,
            url,
            format!("cannot be served now (status {code} at the {step})"),
        )),
        _ => Trouble::Final(fail(
            ErrorCode::DOWNLOAD_FAILED,
            url,
            format!("refuses the {step} (status {code}: {status})"),
        )),
    }
}
