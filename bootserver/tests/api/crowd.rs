//! Callers that only sit there, and callers that hardly move: thousands of
//! them cost memory within a bound, and nobody else any time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use crate::harness::{PATIENCE, Reply, Server};

/// Connections that are held open.
const CROWD: usize = 10_000;
/// Files the other tests of this program may have open meanwhile.
const OTHERS: usize = 4_000;
/// What one of them may cost the server, in bytes, in a debug build too.
const BYTES_EACH: usize = 40 * 1024;

/// The most connections this process may hold.
fn crowd() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit can be raised");
    let hard = usize::try_from(hard).unwrap_or(usize::MAX);
    let crowd = CROWD.min(hard.saturating_sub(OTHERS));
    if crowd < CROWD {
        println!("{crowd} connections instead of {CROWD}: only {hard} files may be open");
    }
    assert!(crowd >= 1000, "{hard} files are too few");
    crowd
}

fn memory(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()));
    let status = status.expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kilobytes.expect("a figure") * 1024
}

#[test]
fn ten_thousand_idle_connections_keep_nobody_waiting() {
    let crowd = crowd();
    let server = Server::start_with("max_connections = 16384\nheader_timeout = 600");
    let host = server.register("h1");
    let before = memory(&server);
    // Half of them say nothing, half have been answered and stay.
    let mut idle = Vec::with_capacity(crowd);
    for number in 0..crowd {
        let mut stream = TcpStream::connect(server.address).expect("there is room");
        if number % 2 == 0 {
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                .expect("it is taken");
            let read = stream.read(&mut [0; 1024]).expect("it is answered");
            assert!(read > 0, "connection {number} was closed");
        }
        idle.push(stream);
    }
    for _ in 0..20 {
        server.api("GET", "/api/v1/hosts").expect(200);
        server.push(&host, json!({}));
    }
    let each = memory(&server).saturating_sub(before) / crowd;
    println!("{crowd} idle connections, {each} bytes of memory each");
    assert!(each < BYTES_EACH, "{each} bytes each");
    // They were there all the time.
    let stays = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).expect("a mode");
        let told = stream.read(&mut [0]).map_err(|error| error.kind());
        told == Err(std::io::ErrorKind::WouldBlock)
    };
    assert!(idle.iter_mut().all(stays), "some were closed");
}

/// Sends a byte at a time until the other side has had enough. A deadline that
/// each byte puts off would let it go on for ever.
fn drip(mut stream: TcpStream, byte: &[u8]) -> TcpStream {
    let begun = Instant::now();
    stream.set_nodelay(true).expect("a mode");
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a timeout");
    loop {
        assert!(begun.elapsed() < PATIENCE, "it was listened to for ever");
        let sent = stream.write_all(byte);
        let ended = match stream.peek(&mut [0]) {
            Ok(_) => true,
            Err(error) => !matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ),
        };
        if sent.is_err() || ended {
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            return stream;
        }
    }
}

#[test]
fn who_sends_a_byte_now_and_then_is_not_waited_for() {
    let server = Server::start_with("header_timeout = 1\nrequest_timeout = 1");
    let mut head = TcpStream::connect(server.address).expect("the server listens");
    head.write_all(b"GET /healthz HTTP/1.1\r\nX-Long: ")
        .expect("a part goes out");
    let mut head = drip(head, b"a");
    let mut said = Vec::new();
    // Closed with a word or without; what was still sent may turn it into a reset.
    let _ = head.read_to_end(&mut said);
    assert!(
        said.is_empty() || said.starts_with(b"HTTP/1.1 408"),
        "{said:?}"
    );

    let mut body = TcpStream::connect(server.address).expect("the server listens");
    write!(
        body,
        "POST /agent/register HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Length: 100000\r\nAuthorization: Bearer {}\r\n\r\n",
        server.enrolment_token
    )
    .expect("a head goes out");
    assert_eq!(Reply::read(&mut drip(body, b" ")).status, 408);
    server.call("GET", "/healthz").expect(200);
}
