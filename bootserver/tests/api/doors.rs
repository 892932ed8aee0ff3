//! How callers reach the server: TLS and its certificates, proxies, the socket
//! of local root, and how doors close.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::signal::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{PATIENCE, Server, command, wait_for};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// A folder with the pair called `name`, and the configuration that names it.
fn pair(folder: &Path, name: &str, header_timeout: u32) -> String {
    replace_pair(folder, name, name);
    let path = |file: &str| folder.join(file).display().to_string();
    format!(
        "tls_cert = {:?}\ntls_key = {:?}\nheader_timeout = {header_timeout}\n",
        path("cert.pem"),
        path("key.pem")
    )
}

/// Puts another pair in place, as a renewal does.
fn replace_pair(folder: &Path, certificate: &str, key: &str) {
    for (from, to) in [
        (format!("{certificate}.pem"), "cert.pem"),
        (format!("{key}-key.pem"), "key.pem"),
    ] {
        let new = folder.join("new");
        std::fs::copy(data(&from), &new).expect("copied");
        std::fs::rename(&new, folder.join(to)).expect("renamed");
    }
}

type Tls = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// A connection with TLS, its handshake done.
fn try_tls(server: &Server, alpn: &[&[u8]]) -> std::io::Result<Tls> {
    let mut roots = rustls::RootCertStore::empty();
    let root = CertificateDer::from_pem_file(data("root.pem")).expect("PEM");
    roots.add(root).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut stream = TcpStream::connect(server.address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(rustls::StreamOwned::new(session, stream))
}

fn tls(server: &Server) -> Tls {
    try_tls(server, &[b"http/1.1"]).expect("a handshake")
}

/// Which of the pairs a connection was begun with.
fn shown(stream: &Tls) -> &'static str {
    let seen = &stream.conn.peer_certificates().expect("a certificate")[0];
    let names = ["first", "second"].into_iter();
    let mut known = names.filter(|name| {
        let file = data(&format!("{name}.pem"));
        CertificateDer::from_pem_file(file).expect("PEM") == *seen
    });
    known.next().expect("one of ours")
}

/// Sends a request and reads one reply, whose length the head tells.
fn ask(stream: &mut (impl Read + Write), head: &str) -> (u16, String) {
    write!(stream, "{head}\r\nHost: test\r\n\r\n").expect("the head goes out");
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).expect("a head in ASCII");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let text = String::from_utf8(body).expect("text");
    (status.expect("a status"), format!("{head}{text}"))
}

#[test]
fn tls_is_spoken_and_nothing_else_on_that_address() {
    let folder = TempDir::new().expect("a folder");
    let server = Server::start_with(&pair(folder.path(), "first", 2));
    let mut stream = tls(&server);
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    let head = format!(
        "GET /api/v1/hosts HTTP/1.1\r\nAuthorization: Bearer {}",
        server.api_token
    );
    assert_eq!(ask(&mut stream, &head).0, 200);
    try_tls(&server, &[b"h2"]).expect_err("only HTTP/1.1 is spoken");

    // In plain text there is no answer in HTTP, and the next one is served.
    let mut plain = TcpStream::connect(server.address).expect("the server listens");
    plain.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let _ = plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // Who says nothing at all is not waited for.
    let mut silent = TcpStream::connect(server.address).expect("the server listens");
    silent.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let _ = silent.read_to_end(&mut answer);
    assert_eq!(ask(&mut tls(&server), "GET /healthz HTTP/1.1").0, 200);
}

#[test]
fn a_new_certificate_is_used_without_a_restart_and_a_bad_one_is_not() {
    let folder = TempDir::new().expect("a folder");
    let server = Server::start_with(&pair(folder.path(), "first", 600));
    let mut old = tls(&server);
    assert_eq!(shown(&old), "first");

    // The key of another one; SIGHUP asks at once.
    replace_pair(folder.path(), "second", "first");
    server.signal(Signal::SIGHUP);
    wait_for("the complaint", || {
        server.log().contains("the old one is kept").then_some(())
    });
    assert_eq!(shown(&tls(&server)), "first");

    // Nobody asks: the change is seen.
    replace_pair(folder.path(), "second", "second");
    wait_for("the new certificate", || {
        (shown(&tls(&server)) == "second").then_some(())
    });
    // What was begun with the old one goes on.
    assert_eq!(ask(&mut old, "GET /healthz HTTP/1.1").0, 200);

    std::fs::remove_file(folder.path().join("key.pem")).expect("removed");
    server.signal(Signal::SIGHUP);
    wait_for("the complaint", || {
        server.log().contains("tls_key: reading").then_some(())
    });
    assert_eq!(shown(&tls(&server)), "second");
    let key = std::fs::read_to_string(data("first-key.pem")).expect("a key");
    let secret = key.lines().nth(1).expect("its first line");
    assert!(!server.log().contains(secret));
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_at_the_start() {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| data(name).display().to_string();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").expect("written");
    let empty = empty.display().to_string();
    for (certificate, key, word) in [
        (path("first.pem"), path("second-key.pem"), "belong together"),
        (empty.clone(), path("first-key.pem"), "empty.pem"),
        (path("first.pem"), empty, "private key"),
        (path("nowhere.pem"), path("first-key.pem"), "nowhere.pem"),
    ] {
        let data = folder.path().join("data").display().to_string();
        let output = command()
            .args(["serve", "--listen", "127.0.0.1:0", "--data", &data])
            .args(["--tls-cert", &certificate, "--tls-key", &key])
            .output()
            .expect("the program runs");
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn only_a_trusted_proxy_says_for_whom_it_asks() {
    for (config, logged) in [
        ("", "address=127.0.0.1"),
        ("trusted_proxy = \"127.0.0.0/8\"", "address=192.0.2.9"),
    ] {
        let server = Server::start_with(config);
        server
            .api("POST", "/api/v1/enrolment-tokens")
            .header("X-Forwarded-For", "6.6.6.6, 192.0.2.9")
            .json(&json!({}))
            .expect(201);
        let log = server.log();
        let mut lines = log.lines();
        let line = lines.find(|line| line.contains("/api/v1/enrolment-tokens"));
        assert!(line.is_some_and(|line| line.contains(logged)), "{log}");
    }
}

#[test]
fn root_of_this_machine_needs_no_token_on_the_socket() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("api.sock");
    // One of an earlier run is in the way of nobody.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    let config = format!("socket = {:?}", path.display().to_string());
    let mut server = Server::start_with(&config);
    let mode = std::fs::metadata(&path).expect("a socket").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let connect = || UnixStream::connect(&path).expect("the server listens");
    assert_eq!(ask(&mut connect(), "GET /api/v1/hosts HTTP/1.1").0, 200);
    // Who shows a token is taken by it, and a host's routes want a host's.
    let wrong = "GET /api/v1/hosts HTTP/1.1\r\nAuthorization: Bearer wrong";
    assert_eq!(ask(&mut connect(), wrong).0, 401);
    let status = "POST /agent/status HTTP/1.1\r\nContent-Length: 0";
    assert_eq!(ask(&mut connect(), status).0, 401);
    // On the network there is no root.
    server.call("GET", "/api/v1/hosts").problem(401);

    let data = folder.path().join("other").display().to_string();
    let second = command()
        .args(["serve", "--listen", "127.0.0.1:0", "--data", &data])
        .arg("--socket")
        .arg(&path)
        .output()
        .expect("the program runs");
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another program listens"), "{said}");
    assert_eq!(ask(&mut connect(), "GET /healthz HTTP/1.1").0, 200);
    assert!(server.stop().success());
    assert!(!path.exists());
}

#[test]
fn several_addresses_serve_the_same() {
    let folder = TempDir::new().expect("a folder");
    let address_file = folder.path().join("address");
    let mut child = command()
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(["--listen", "http://127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"))
        .arg("--address-file")
        .arg(&address_file)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the program starts");
    let addresses = wait_for("the addresses", || {
        std::fs::read_to_string(&address_file).ok()
    });
    assert_eq!(addresses.lines().count(), 2, "{addresses}");
    for address in addresses.lines() {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        assert_eq!(ask(&mut stream, "GET /healthz HTTP/1.1").0, 200);
    }
    child.kill().expect("the child is ours");
    child.wait().expect("the child is ours");
}

#[test]
fn readiness_ends_before_the_doors_close() {
    let mut server = Server::start_with("drain_delay = 600\nheader_timeout = 600");
    let mut kept = TcpStream::connect(server.address).expect("the server listens");
    kept.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    assert_eq!(ask(&mut kept, "GET /readyz HTTP/1.1").0, 200);
    server.signal(Signal::SIGTERM);
    wait_for("the end of readiness", || {
        let reply = server.call("GET", "/readyz").send();
        (reply.status == 503).then_some(())
    });
    // New connections are still served, and kept ones end with their reply.
    server.call("GET", "/healthz").expect(200);
    let (status, reply) = ask(&mut kept, "GET /healthz HTTP/1.1");
    assert_eq!(status, 200);
    assert!(reply.contains("connection: close"), "{reply}");
    assert_eq!(kept.read(&mut [0]).expect("closed"), 0);
    // The second signal does not wait.
    let status = server.stop();
    assert_eq!(status.code(), Some(1), "{}", server.log());
}

#[test]
fn idle_connections_hold_others_up_no_longer_than_a_head_may_take() {
    let server = Server::start_with("max_connections = 4\nheader_timeout = 1");
    let idle: Vec<TcpStream> = (0..12)
        .map(|_| TcpStream::connect(server.address).expect("the server listens"))
        .collect();
    server.call("GET", "/healthz").expect(200);
    drop(idle);
}
