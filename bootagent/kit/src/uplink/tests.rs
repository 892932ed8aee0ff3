use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver};

use super::*;
use crate::http::tests::Nobody;

/// A server that answers one request and hands over what it got.
fn server(answer: &'static str) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepted");
        let mut request = Vec::new();
        let mut byte = [0];
        let is_whole = |request: &[u8]| {
            let body: &[u8] = if request.starts_with(b"POST") {
                b"{}"
            } else {
                b""
            };
            request.ends_with(&[b"\r\n\r\n", body].concat())
        };
        while !is_whole(&request) && stream.read(&mut byte).is_ok_and(|n| n == 1) {
            request.push(byte[0]);
        }
        let _ = sender.send(String::from_utf8_lossy(&request).into_owned());
        let _ = stream.write_all(answer.as_bytes());
    });
    (address, receiver)
}

struct Fixture {
    dir: tempfile::TempDir,
    uplink: Uplink,
}

fn fixture(svrlist: &str, token: Option<&str>) -> Fixture {
    let dir = tempfile::tempdir().expect("a directory");
    let uplink = Uplink::new(&dir.path().join("uplink.json"), "sample/1");
    let fixture = Fixture { dir, uplink };
    fixture.write(svrlist, token);
    fixture
}

impl Fixture {
    fn write(&self, svrlist: &str, token: Option<&str>) {
        let contents = Contents {
            agentsn: "33c5b8b4-5a2c-43c5-ab90-96721451b4ec".to_owned(),
            svrlist: svrlist.to_owned(),
            token: token.map(str::to_owned),
            ca_file: None,
        };
        let json = serde_json::to_vec(&contents).expect("serializable");
        fs::write_atomic(&self.dir.path().join("uplink.json"), &json, 0o640).expect("written");
    }

    fn request(&self) -> Result<Reply, UplinkError> {
        self.uplink.request("/agent/mtr/", b"{}", 1000)
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn the_first_server_that_answers_is_taken() {
    let (garbage, _) = server("garbage\r\n\r\n");
    let (broken, _) = server("HTTP/1.1 502 Bad Gateway\r\n\r\n");
    let (good, request) = server(OK);
    let nobody = Nobody::new();
    let list = format!("{},{garbage},{broken},{good}", nobody.address());
    let fixture = fixture(&list, Some("t0ken"));
    let reply = fixture.request().expect("a reply");
    assert_eq!(
        (reply.status, reply.body.as_slice()),
        (200, b"ok".as_slice())
    );
    let request = request.recv().expect("a request");
    assert!(
        request.starts_with("POST /agent/mtr/ HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request
            .to_ascii_lowercase()
            .contains("authorization: bearer t0ken"),
        "{request}"
    );
}

#[test]
fn a_fetch_fails_over_like_a_post() {
    let (good, request) = server(OK);
    let nobody = Nobody::new();
    let list = format!("{},{good}", nobody.address());
    let fixture = fixture(&list, Some("t0ken"));
    let reply = fixture.uplink.fetch("/agent/peers/?version=3", 1000);
    assert_eq!(reply.expect("a reply").status, 200);
    let request = request.recv().expect("a request");
    assert!(
        request.starts_with("GET /agent/peers/?version=3 HTTP/1.1\r\n"),
        "{request}"
    );
}

#[test]
fn a_refusal_and_a_busy_server_are_answers() {
    for (answer, status) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", 404),
        ("HTTP/1.1 429 Busy\r\nRetry-After: 9\r\n\r\n", 429),
        ("HTTP/1.1 503 Busy\r\nRetry-After: 9\r\n\r\n", 503),
    ] {
        let (first, _) = server(answer);
        let (second, untouched) = server(OK);
        let reply = fixture(&format!("{first},{second}"), None)
            .request()
            .expect("a reply");
        assert_eq!(reply.status, status);
        assert!(
            untouched.try_recv().is_err(),
            "the second server was asked too"
        );
    }
}

#[test]
fn the_file_is_read_again_for_each_request() {
    let nobody = Nobody::new();
    let fixture = fixture(&nobody.address(), None);
    assert!(matches!(
        fixture.request(),
        Err(UplinkError::NoAnswer { tried: 1, .. })
    ));
    let (good, _) = server(OK);
    fixture.write(&good, None);
    assert_eq!(fixture.request().expect("a reply").status, 200);
}

#[test]
fn a_file_that_is_missing_cut_or_without_servers_says_what_to_do() {
    let fixture = fixture(" , ", Some("hunter2"));
    assert!(matches!(fixture.request(), Err(UplinkError::NoServer)));
    let path = fixture.dir.path().join("uplink.json");
    let whole = std::fs::read(&path).expect("read");
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).expect("written");
        let error = fixture.request().expect_err("cut");
        assert!(error.to_string().contains("restart bootagent"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    std::fs::remove_file(&path).expect("removed");
    let error = fixture.request().expect_err("missing");
    assert!(
        error.to_string().contains("is bootagent running"),
        "{error}"
    );
}
