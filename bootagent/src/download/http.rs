//! `http://` and `https://`: redirects, the token, resuming by range.
//!
//! The client of the kit speaks; here is decided what a status means and who
//! may see the token. Two rules: the token goes to the host's own servers
//! only, looked at anew at every redirect; and a redirect never leads from
//! https to http or out of HTTP.

use std::collections::HashSet;
use std::io::{self, Read};
use std::time::Duration;

use bootagent_kit::http::{Client, ClientOptions, Download, GetOptions, HttpError, HttpErrorKind};
use bootagent_protocol::ErrorCode;

use super::source::{Ask, Opened, Source, Trouble, fail};
use super::url::{Login, Scheme, Url};

/// Most redirects followed.
const MAX_REDIRECTS: usize = 5;
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Shortest and longest wait a busy server is granted at once.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

struct Body(Download);

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Source for Body {
    fn finish(self: Box<Self>) -> Result<(), Trouble> {
        Ok(())
    }
}

/// Asks for `url`, following redirects.
pub(super) fn open(url: &Url, ask: &Ask<'_>) -> Result<Opened, Trouble> {
    let options = ClientOptions {
        ca_file: ask.ca_file.map(std::path::Path::to_path_buf),
        connect_timeout: CONNECT_TIMEOUT.min(ask.left()),
        total_timeout: ask.left(),
        ..ClientOptions::default()
    };
    let client = Client::new(&options).map_err(|error| no_answer(url, error))?;
    let mut seen = HashSet::from([url.without_login()]);
    let mut place = url.clone();
    loop {
        let answer = get(&client, &place, ask)?;
        if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
            return judge(&place, ask, answer);
        }
        let next = redirected(&place, answer.header("location"))?;
        if !seen.insert(next.without_login()) {
            let what = format!("redirects in a loop, again to {next}; correct the server");
            return Err(Trouble::Final(fail(ErrorCode::DOWNLOAD_FAILED, url, what)));
        }
        if seen.len() > MAX_REDIRECTS + 1 {
            let what = format!(
                "redirects more than {MAX_REDIRECTS} times; name the last place in the job"
            );
            return Err(Trouble::Final(fail(ErrorCode::DOWNLOAD_FAILED, url, what)));
        }
        place = next;
    }
}

fn get(client: &Client, place: &Url, ask: &Ask<'_>) -> Result<Download, Trouble> {
    let own = ask.own_servers.iter().any(|server| place.is_on(server));
    let token = ask.token.filter(|_| own);
    let range = format!("bytes={}-", ask.offset);
    let mut headers = vec![("Accept-Encoding", "identity")];
    if ask.offset > 0 {
        headers.push(("Range", &range));
        if let Some(validator) = ask.validator {
            headers.push(("If-Range", validator));
        }
    }
    let basic = place.login.as_ref().map(basic_credentials);
    if let (None, Some(basic)) = (token, &basic) {
        headers.push(("Authorization", basic));
    }
    let options = GetOptions {
        total_timeout: ask.left(),
        idle_timeout: ask.stall.min(ask.left()),
        max_bytes: ask.max_bytes,
    };
    let answer = client.get(&place.without_login(), token, &headers, &options);
    answer.map_err(|error| no_answer(place, error))
}

/// Where an answer at `place` leads; the text of its `Location` decides.
fn redirected(place: &Url, location: Option<&str>) -> Result<Url, Trouble> {
    let refuse = |what: &str| Trouble::Final(fail(ErrorCode::DOWNLOAD_FAILED, place, what));
    let location =
        location.ok_or_else(|| refuse("redirects without saying where to; correct the server"))?;
    let next = place.join(location).map_err(|error| {
        let failure = fail(
            ErrorCode::DOWNLOAD_FAILED,
            place,
            "redirects to no usable place",
        );
        Trouble::Final(failure.because(error))
    })?;
    match (place.scheme, next.scheme) {
        (Scheme::Https, Scheme::Http) => Err(refuse(
            "redirects from https to http, which is refused; name an https place",
        )),
        (_, Scheme::Http | Scheme::Https) => Ok(next),
        _ => Err(refuse(
            "redirects out of http, which is refused; name that place in the job",
        )),
    }
}

/// What the last answer means.
fn judge(place: &Url, ask: &Ask<'_>, answer: Download) -> Result<Opened, Trouble> {
    let status = answer.status;
    let failure = |code, what: String| fail(code, place, what);
    let asked_to_wait = answer.retry_after();
    match status {
        200 => Ok(Opened {
            starts_at: 0,
            total: answer.content_length(),
            validator: strong_etag(&answer),
            reader: Box::new(Body(answer)),
        }),
        206 => resumed(place, ask, answer),
        404 | 410 => Err(Trouble::Final(failure(
            ErrorCode::NOT_FOUND,
            format!("is not there (status {status}); correct the job's url or upload the package"),
        ))),
        416 if ask.offset > 0 => {
            let what = format!("has no byte {} (status 416)", ask.offset);
            Err(Trouble::Afresh(failure(ErrorCode::DOWNLOAD_FAILED, what)))
        }
        401 | 403 => Err(Trouble::Final(failure(
            ErrorCode::DOWNLOAD_FAILED,
            format!(
                "may not be read by this host (status {status}); its token is sent to its own servers only"
            ),
        ))),
        429 | 503 => {
            let what = format!("is busy (status {status})");
            let failure = failure(ErrorCode::DOWNLOAD_FAILED, what);
            Err(match asked_to_wait {
                Some(wait) => Trouble::Busy(wait.max(SHORTEST_WAIT), failure),
                None => Trouble::Again(failure),
            })
        }
        408 | 425 | 500..=599 => Err(Trouble::Again(failure(
            ErrorCode::DOWNLOAD_FAILED,
            format!("cannot be served now (status {status}); look at the server"),
        ))),
        _ => Err(Trouble::Final(failure(
            ErrorCode::DOWNLOAD_FAILED,
            format!("answers with status {status}; correct the job's url"),
        ))),
    }
}

/// A partial answer must be the part that was asked for, of the same content.
fn resumed(place: &Url, ask: &Ask<'_>, answer: Download) -> Result<Opened, Trouble> {
    let range = answer.header("content-range").and_then(parse_content_range);
    let validator = strong_etag(&answer);
    let same = match (ask.validator, validator.as_deref()) {
        (Some(wanted), Some(is)) => wanted == is,
        _ => true,
    };
    match range {
        Some((start, total)) if start == ask.offset && start > 0 && same => Ok(Opened {
            starts_at: start,
            total,
            validator,
            reader: Box::new(Body(answer)),
        }),
        _ => Err(Trouble::Afresh(fail(
            ErrorCode::DOWNLOAD_FAILED,
            place,
            "answers with another part than the one asked for; correct the server",
        ))),
    }
}

/// First byte and total size of `bytes FIRST-LAST/TOTAL`.
fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split_once('-')?.0.trim().parse().ok()?;
    match total.trim() {
        "*" => Some((first, None)),
        total => Some((first, Some(total.parse().ok()?))),
    }
}

/// A weak one promises the same meaning, not the same bytes.
fn strong_etag(answer: &Download) -> Option<String> {
    let etag = answer.header("etag")?.trim();
    let strong = etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"');
    (strong && etag.len() <= 200).then(|| etag.to_owned())
}

fn no_answer(place: &Url, error: HttpError) -> Trouble {
    let (code, what) = match error.kind {
        HttpErrorKind::Timeout => (ErrorCode::DOWNLOAD_TIMED_OUT, "did not answer in time"),
        HttpErrorKind::Resolve => (
            ErrorCode::DOWNLOAD_FAILED,
            "cannot be reached; look at the host's DNS",
        ),
        HttpErrorKind::Tls => (
            ErrorCode::DOWNLOAD_FAILED,
            "is not trusted; look at ca_file and the host's clock",
        ),
        _ => (ErrorCode::DOWNLOAD_FAILED, "cannot be reached"),
    };
    let wrong_request = error.kind == HttpErrorKind::Request;
    let failure = fail(code, place, what).because(error);
    match wrong_request {
        true => Trouble::Final(failure),
        false => Trouble::Again(failure),
    }
}

/// The value of `Authorization` for a user and password in a URL.
fn basic_credentials(login: &Login) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let plain = format!("{}:{}", login.user.expose(), login.password.expose());
    let mut text = "Basic ".to_owned();
    for group in plain.as_bytes().chunks(3) {
        let bits = group
            .iter()
            .fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for index in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index > group.len() {
                '='
            } else {
                char::from(letter)
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_becomes_basic_credentials() {
        for (login, text) in [
            (
                "Aladdin:open%20sesame",
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            ),
            ("ab:c", "Basic YWI6Yw=="),
            ("ab:cd", "Basic YWI6Y2Q="),
            ("ab:cde", "Basic YWI6Y2Rl"),
        ] {
            let url = Url::parse(&format!("http://{login}@host/"), None).expect("a url");
            assert_eq!(basic_credentials(&url.login.expect("a login")), text);
        }
    }

    #[test]
    fn a_redirect_may_become_safer_but_never_less_safe() {
        let lead = |from: &str, to: &str| {
            let from = Url::parse(from, None).expect("a url");
            redirected(&from, Some(to)).map(|url| url.to_string())
        };
        assert_eq!(
            lead("http://a/x", "https://b/y").ok().as_deref(),
            Some("https://b/y")
        );
        assert_eq!(
            lead("https://a/x", "//b/y").ok().as_deref(),
            Some("https://b/y")
        );
        for (to, words) in [
            ("http://a/x", "from https to http"),
            ("HTTP://a/x", "from https to http"),
            ("ftp://a/x", "out of http"),
            ("file:///etc/shadow", "out of http"),
            ("gopher://a/x", "no usable place"),
        ] {
            match lead("https://a/x", to) {
                Err(Trouble::Final(failure)) => {
                    assert!(failure.message.contains(words), "{to}: {failure}");
                }
                other => panic!("{to}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_content_range_is_read_with_and_without_a_total() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, None)));
        for bad in [
            "",
            "bytes */10",
            "5-9/10",
            "bytes 5/10",
            "bytes x-9/10",
            "bytes 5-9/-1",
        ] {
            assert_eq!(parse_content_range(bad), None, "{bad:?}");
        }
    }
}
