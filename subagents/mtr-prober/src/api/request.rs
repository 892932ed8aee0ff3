//! The bytes of a request.
//!
//! The one rule: whatever bytes come, they are a request, the beginning of one, or a problem.

use bootagent_kit::Secret;

use crate::problem::Problem;

/// Longest head of a request.
pub(super) const MAX_HEAD: usize = 8 * 1024;
/// Most header lines.
const MAX_HEADERS: usize = 64;
/// Most parameters of a query.
const MAX_PARAMETERS: usize = 32;

/// What is to be done with the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Delete,
    Other,
}

/// Whether another request may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    KeepAlive,
    Close,
}

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) after: After,
    pub(super) host: Option<String>,
    pub(super) origin: Option<String>,
    pub(super) fetch_site: Option<String>,
    pub(super) authorization: Option<Secret>,
}

/// What bytes are.
#[derive(Debug)]
pub(super) enum Parsed {
    /// The beginning of a request.
    Partial,
    /// A request of so many bytes.
    Request(Box<Request>, usize),
    /// None, and nothing behind it can be trusted.
    Bad(Problem),
}

/// Reads the first request.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Parsed::Partial,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            let detail =
                format!("a request has at most {MAX_HEAD} bytes and {MAX_HEADERS} header lines");
            return Parsed::Bad(Problem::new(431, "Request too large", detail));
        }
        Err(error) => {
            let detail = format!("this is no HTTP/1.1 request: {error}");
            return Parsed::Bad(Problem::new(400, "Bad request", detail));
        }
    };
    match read(&head) {
        Ok(request) => Parsed::Request(Box::new(request), length),
        Err(problem) => Parsed::Bad(problem),
    }
}

fn read(head: &httparse::Request<'_, '_>) -> Result<Request, Problem> {
    let bad = |detail: &str| Problem::new(400, "Bad request", detail);
    let one = |name: &str| {
        let mut found = head
            .headers
            .iter()
            .filter(|it| it.name.eq_ignore_ascii_case(name));
        let value = found
            .next()
            .map(|it| String::from_utf8_lossy(it.value).into_owned());
        match found.next() {
            None => Ok(value),
            Some(_) => Err(bad(&format!("`{name}` is there twice"))),
        }
    };
    let has_body = one("content-length")?.is_some_and(|length| length.trim() != "0")
        || one("transfer-encoding")?.is_some();
    if has_body {
        let detail = "requests have no body here; say everything in the query";
        return Err(Problem::new(413, "Body not wanted", detail));
    }
    let is_old = head.version == Some(0);
    let connection = one("connection")?.unwrap_or_default().to_ascii_lowercase();
    let after = match (is_old, connection.as_str()) {
        (false, "close") => After::Close,
        (true, "keep-alive") | (false, _) => After::KeepAlive,
        (true, _) => After::Close,
    };
    let host = one("host")?;
    if host.is_none() && !is_old {
        return Err(bad("an HTTP/1.1 request names its host"));
    }
    let target = head.path.unwrap_or_default();
    if !target.starts_with('/') {
        return Err(bad("the path begins with a slash"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Request {
        method: match head.method {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            Some("DELETE") => Method::Delete,
            _ => Method::Other,
        },
        path: path.to_owned(),
        parameters: parameters(query)?,
        after,
        host,
        origin: one("origin")?,
        fetch_site: one("sec-fetch-site")?,
        authorization: one("authorization")?.map(Secret::new),
    })
}

/// Names and values of a query, decoded; each name once.
fn parameters(query: &str) -> Result<Vec<(String, String)>, Problem> {
    let mut all: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text| {
            decode(text).ok_or_else(|| {
                let detail = format!("{text:?} is no UTF-8 text in percent encoding");
                Problem::new(400, "Bad parameter", detail)
            })
        };
        let (name, value) = (decoded(name)?, decoded(value)?);
        if all.iter().any(|(known, _)| *known == name) {
            return Err(Problem::parameter(
                &name,
                format!("`{name}` is there twice"),
            ));
        }
        if all.len() >= MAX_PARAMETERS {
            return Err(Problem::new(
                400,
                "Bad parameter",
                "there are too many parameters",
            ));
        }
        all.push((name, value));
    }
    Ok(all)
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
                u8::try_from(value).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Request {
        match parse(text.as_bytes()) {
            Parsed::Request(request, length) => {
                assert_eq!(length, text.len());
                *request
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_request_is_read_with_its_decoded_parameters() {
        let it = request(
            "GET /api/mtr?ip=a%2Eb&ref=x+%E7%82%B9&flag HTTP/1.1\r\nHost: localhost\r\n\r\n",
        );
        assert_eq!((it.method, it.path.as_str()), (Method::Get, "/api/mtr"));
        let named = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        assert_eq!(
            it.parameters,
            [named("ip", "a.b"), named("ref", "x 点"), named("flag", "")]
        );
        assert_eq!(it.after, After::KeepAlive);
        let old = request("DELETE / HTTP/1.0\r\n\r\n");
        assert_eq!((old.method, old.after), (Method::Delete, After::Close));
    }

    #[test]
    fn half_a_request_is_waited_for_and_the_next_one_is_left() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for length in 0..text.len() {
            assert!(
                matches!(parse(&text.as_bytes()[..length]), Parsed::Partial),
                "{length}"
            );
        }
        let two = format!("{text}{text}");
        assert!(
            matches!(parse(two.as_bytes()), Parsed::Request(_, length) if length == text.len())
        );
    }

    #[test]
    fn what_is_no_request_is_a_problem() {
        let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(MAX_HEAD));
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "a: b\r\n".repeat(MAX_HEADERS + 1)
        );
        for (text, status) in [
            ("\x16\x03\x01\x02\x00\x01\x00", 400),
            ("GET / HTTP/2.0\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /?a=%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /?a=%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            ("GET /?a=1&a=2 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
                413,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                413,
            ),
            (&long, 431),
            (&many, 431),
        ] {
            let Parsed::Bad(problem) = parse(text.as_bytes()) else {
                panic!("{text:?}");
            };
            assert_eq!(problem.status, status, "{text:?}: {}", problem.detail);
        }
    }
}
