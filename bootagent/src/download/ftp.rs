//! `ftp://user:password@host:port/path`: passive, binary, resumed by REST.
//!
//! A path is below the folder the login leads to; `%2F` at its front makes it
//! absolute, as everywhere. The one rule: a file is complete only when the
//! server says so, and never made of two.

mod reply;
mod session;

use std::io::{self, Read};

use bootagent_protocol::ErrorCode;

use super::source::{Ask, Opened, Source, Trouble, fail};
use super::url::Url;
use reply::Reply;
use session::{Patience, Session, SessionError, Timed};

/// Who we are where the URL does not say.
const ANONYMOUS: (&str, &str) = ("anonymous", "bootagent@");

/// Opens the file at `url` at the offset that is asked for.
pub(super) fn open(url: &Url, ask: &Ask<'_>) -> Result<Opened, Trouble> {
    let path = url.decoded_path().map_err(|error| {
        Trouble::Final(fail(ErrorCode::DOWNLOAD_FAILED, url, "cannot be asked for").because(error))
    })?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    if path.is_empty() {
        let what = "names no file";
        return Err(Trouble::Final(fail(ErrorCode::DOWNLOAD_FAILED, url, what)));
    }
    let afresh = |what| Trouble::Afresh(fail(ErrorCode::DOWNLOAD_FAILED, url, what));
    let step = |what| move |error| refused(url, what, error);

    let patience = Patience {
        deadline: ask.deadline,
        stall: ask.stall,
    };
    let mut session = Session::connect(&url.host, url.port, patience)
        .map_err(|error| no_connection(url, error))?;
    session.expect(2).map_err(step("greeting"))?;
    let (user, password) = match &url.login {
        Some(login) => (login.user.expose(), login.password.expose()),
        None => ANONYMOUS,
    };
    session.login(user, password).map_err(step("login"))?;
    let binary = session.command("TYPE", Some("I"), 2);
    binary.map_err(step("binary mode"))?;
    let size = optional(session.command("SIZE", Some(path), 2), url)?;
    let total = size.and_then(|size| size.size());
    let time = optional(session.command("MDTM", Some(path), 2), url)?;
    let modified = time.as_ref().and_then(Reply::modified);
    let validator = total
        .zip(modified)
        .map(|(size, modified)| format!("{size} {modified}"));

    let starts_at = match total {
        Some(total) if ask.offset <= total => ask.offset,
        _ => 0,
    };
    let is_same = ask
        .validator
        .is_none_or(|is| Some(is) == validator.as_deref());
    if ask.offset > 0 && (starts_at == 0 || !is_same) {
        return Err(afresh("changed on the server"));
    }
    let data = session.open_data().map_err(step("data connection"))?;
    if starts_at > 0 {
        let offset = starts_at.to_string();
        match session.command("REST", Some(&offset), 3) {
            Err(SessionError::Refused(500..)) => return Err(afresh("cannot be resumed there")),
            other => other.map_err(step("resume"))?,
        };
    }
    let coming = session.command("RETR", Some(path), 1);
    coming.map_err(step("download"))?;
    let reader = Transfer {
        data,
        session,
        url: url.clone(),
    };
    Ok(Opened {
        reader: Box::new(reader),
        starts_at,
        total,
        validator,
    })
}

struct Transfer {
    data: Timed,
    session: Session,
    url: Url,
}

impl Read for Transfer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.data.read(buffer)
    }
}

impl Source for Transfer {
    /// Only the server's 226 tells the end of the file from a cut connection.
    fn finish(self: Box<Self>) -> Result<(), Trouble> {
        let Self {
            data,
            mut session,
            url,
        } = *self;
        drop(data);
        session
            .expect(2)
            .map_err(|error| refused(&url, "end of the download", error))?;
        // The file is here; how the server says goodbye does not matter.
        let _ = session.send("QUIT", None);
        Ok(())
    }
}

/// A question a server need not understand: none then. One that goes away
/// instead of an answer says so with 421.
fn optional(answer: Result<Reply, SessionError>, url: &Url) -> Result<Option<Reply>, Trouble> {
    match answer {
        Ok(reply) => Ok(Some(reply)),
        Err(SessionError::Refused(code)) if code != 421 => Ok(None),
        Err(error) => Err(refused(url, "question", error)),
    }
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
fn refused(url: &Url, step: &str, error: SessionError) -> Trouble {
    let code = match error {
        SessionError::Connection(error) => return no_connection(url, error),
        SessionError::NotFtp => {
            let what = format!("answers no FTP (at the {step}); correct the job's url");
            return Trouble::Again(fail(ErrorCode::DOWNLOAD_FAILED, url, what));
        }
        SessionError::Refused(code) => code,
    };
    match code {
        550 => Trouble::Final(fail(
            ErrorCode::NOT_FOUND,
            url,
            "is not there or may not be read (status 550); correct the job's url",
        )),
        // Not signed in, wrong user or password, an account is wanted.
        530 | 430 | 332 => Trouble::Final(fail(
            ErrorCode::DOWNLOAD_FAILED,
            url,
            format!(
                "refuses the login (status {code}); correct user and password in the job's url"
            ),
        )),
        // Try again, or ready in some minutes (120); anything else will be the
        // same next time.
        100..200 | 400..500 => Trouble::Again(fail(
            ErrorCode::DOWNLOAD_FAILED,
            url,
            format!("cannot be served now (status {code} at the {step})"),
        )),
        _ => Trouble::Final(fail(
            ErrorCode::DOWNLOAD_FAILED,
            url,
            format!("refuses the {step} (status {code}); look at the server's log"),
        )),
    }
}
