//! An HTTP server in this process that answers as a test tells it, and what
//! the tests of downloads share.

#![allow(dead_code, reason = "each test program uses another part of it")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bootagent::download::{Control, Downloaded, Failure, Limits, Request, fetch};
use bootagent_kit::servers::Server;
use bootagent_protocol::{Checksum, ErrorCode};
use sha2::{Digest, Sha256};

/// A request as the server saw it: its head in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Seen(String);

impl Seen {
    pub(crate) fn path(&self) -> &str {
        self.0.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let start = format!("{name}: ");
        self.0.lines().find_map(|line| line.strip_prefix(&start))
    }

    /// The first byte of `Range: bytes=N-`.
    pub(crate) fn offset(&self) -> usize {
        let range = self
            .header("range")
            .and_then(|range| range.strip_prefix("bytes="));
        range.map_or(0, |range| {
            range.trim_end_matches('-').parse().expect("a number")
        })
    }
}

pub(crate) type Answer = dyn Fn(usize, &Seen, &mut TcpStream) -> std::io::Result<()> + Send + Sync;

/// A server on a free port; `answer` gets the number of the request, from 0.
pub(crate) struct Web {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Web {
    pub(crate) fn new(
        answer: impl Fn(usize, &Seen, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, answer): (_, Arc<Answer>) = (Arc::clone(&seen), Arc::new(answer));
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { port, seen }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn server(&self) -> Server {
        format!("127.0.0.1:{}", self.port)
            .parse()
            .expect("a server")
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }
}

pub(crate) fn serve(mut stream: TcpStream, log: &Mutex<Vec<Seen>>, answer: &Answer) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let text = String::from_utf8(head).expect("ASCII");
    let (first, rest) = text.split_once("\r\n").expect("a request line");
    let names = rest.lines().map(|line| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}\n", name.to_ascii_lowercase()),
        None => String::new(),
    });
    let seen = Seen(format!("{first}\n{}", names.collect::<String>()));
    let number = {
        let mut log = log.lock().expect("no panic");
        log.push(seen.clone());
        log.len() - 1
    };
    // A client that went away is no failure of the test.
    let _ = answer(number, &seen, &mut stream);
}

pub(crate) fn head(stream: &mut TcpStream, status: &str, headers: &str) -> std::io::Result<()> {
    stream.write_all(format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n").as_bytes())
}

/// Answers as a good server does, with ranges and an ETag.
pub(crate) fn good(
    seen: &Seen,
    stream: &mut TcpStream,
    body: &[u8],
    etag: &str,
) -> std::io::Result<()> {
    good_until(seen, stream, body, etag, body.len())
}

/// The same, but the connection ends before byte `end`.
pub(crate) fn good_until(
    seen: &Seen,
    stream: &mut TcpStream,
    body: &[u8],
    etag: &str,
    end: usize,
) -> std::io::Result<()> {
    let unchanged = seen.header("if-range").is_none_or(|range| range == etag);
    let offset = if unchanged { seen.offset() } else { 0 };
    let length = body.len() - offset;
    let headers = format!("ETag: {etag}\r\nContent-Length: {length}\r\n");
    if offset > 0 {
        let last = body.len() - 1;
        let range = format!("Content-Range: bytes {offset}-{last}/{}\r\n", body.len());
        head(stream, "206 Partial Content", &format!("{headers}{range}"))?;
    } else {
        head(stream, "200 OK", &headers)?;
    }
    stream.write_all(&body[offset..end.max(offset)])
}

pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

pub(crate) fn checksum(body: &[u8]) -> Checksum {
    Checksum(Sha256::digest(body).into())
}

pub(crate) fn quick() -> Limits {
    Limits {
        deadline: Duration::from_secs(20),
        stall: Duration::from_secs(5),
        pause: Duration::from_millis(1),
        tries: 3,
        ..Limits::default()
    }
}

pub(crate) fn request<'a>(
    url: &'a str,
    folder: &'a Path,
    checksum: Option<Checksum>,
) -> Request<'a> {
    Request {
        url,
        base: None,
        own_servers: &[],
        token: None,
        checksum,
        directory: folder,
        ca_file: None,
    }
}

pub(crate) fn get(
    url: &str,
    folder: &Path,
    checksum: Option<Checksum>,
    limits: &Limits,
) -> Result<Downloaded, Failure> {
    fetch(&request(url, folder, checksum), limits, &|_| {
        Control::Continue
    })
}

pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("listed");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("listed")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// Fails with `code`, saying `words`, in bounded time, and gives no name
/// without `.part` to anything.
pub(crate) fn refused(
    result: Result<Downloaded, Failure>,
    folder: &Path,
    code: ErrorCode,
    words: &str,
) {
    let failure = result.expect_err(words);
    let text = failure.describe();
    assert_eq!(failure.code, code, "{text}");
    assert!(text.contains(words), "{words:?} is not said by {text:?}");
    assert!(
        names(folder).iter().all(|name| !name.ends_with(".package")),
        "{:?}",
        names(folder)
    );
}
