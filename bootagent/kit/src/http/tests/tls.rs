//! Servers with TLS, with the wrong one, and without any.

use std::path::Path;
use std::sync::Arc;

use super::*;

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// A TLS server for one connection that answers 200 where the client goes on.
fn tls_server() -> u16 {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_file(data("test-server.pem")).expect("PEM");
    let key = PrivateKeyDer::from_pem_file(data("test-server-key.pem")).expect("PEM");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate and its key");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("accepted");
        stream.set_read_timeout(Some(FAR)).expect("set");
        let session = rustls::ServerConnection::new(Arc::new(config)).expect("a session");
        let mut stream = rustls::StreamOwned::new(session, stream);
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure");
    });
    port
}

fn tls_client(ca_file: Option<std::path::PathBuf>) -> Client {
    let options = ClientOptions {
        ca_file,
        ..ClientOptions::default()
    };
    Client::new(&options).expect("valid options")
}

#[test]
fn tls_works_with_the_servers_root_and_only_for_its_name() {
    let client = tls_client(Some(data("test-root.pem")));
    let url = format!("https://localhost:{}/", tls_server());
    let reply = client
        .post_json(&url, None, b"{}", MAX_REPLY)
        .expect("a reply");
    assert_eq!(reply.body, b"secure");
    let mut text = String::new();
    let url = format!("https://localhost:{}/", tls_server());
    let download = client.get(&url, None, &[], &get_options());
    download
        .expect("an answer")
        .read_to_string(&mut text)
        .expect("the body");
    assert_eq!(text, "secure");
    // The same certificate under a name it is not for.
    let url = format!("https://127.0.0.1:{}/", tls_server());
    let error = client
        .post_json(&url, None, b"{}", MAX_REPLY)
        .expect_err("wrong name");
    assert_eq!(error.kind, HttpErrorKind::Tls, "{error:?}");
}

#[test]
fn tls_is_refused_with_an_unknown_root_or_a_server_without_tls() {
    // The server's own certificate is a root of nothing.
    let stranger = tls_client(Some(data("test-server.pem")));
    let url = format!("https://localhost:{}/", tls_server());
    let error = stranger.post_json(&url, None, b"{}", MAX_REPLY);
    assert_eq!(error.expect_err("unknown").kind, HttpErrorKind::Tls);
    // A server without TLS answers the handshake in plain text, and at once.
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepted");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let url = format!("https://localhost:{port}/");
    let client = tls_client(Some(data("test-root.pem")));
    let error = client
        .post_json(&url, None, b"{}", MAX_REPLY)
        .expect_err("no TLS");
    assert_eq!(error.kind, HttpErrorKind::Tls, "{error:?}");
}

#[test]
fn a_ca_file_that_is_missing_or_empty_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "no certificate here\n").expect("written");
    for path in [empty, "/nonexistent/ca.pem".into()] {
        let client = tls_client(Some(path.clone()));
        let error = client
            .post_json("https://localhost:1/", None, b"{}", MAX_REPLY)
            .expect_err("no roots");
        assert_eq!(error.kind, HttpErrorKind::Tls);
        assert!(
            shown(&error).contains(&path.display().to_string()),
            "{}",
            shown(&error)
        );
    }
}
