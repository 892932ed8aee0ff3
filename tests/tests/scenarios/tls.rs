//! A host that knows the server's root certificate speaks TLS with it, for
//! everything; one that does not says so and speaks with nobody.

use std::path::{Path, PathBuf};

use e2e::agent::{Agent, Settings};
use e2e::bundle::Bundle;
use e2e::server::Server;
use e2e::wait;
use serde_json::json;

/// The certificates of the server's own tests.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../bootserver/tests/data")
        .join(name)
}

/// A host that knows the server by TLS alone, with this root.
fn host(server: &Server, root: &Path) -> Agent {
    let address = server.tls_address.expect("an address for TLS");
    let settings = Settings {
        servers: format!("https://{address}"),
        ..Settings::of(server)
    };
    let mut host = Agent::prepare(&settings);
    let config = std::fs::read_to_string(host.config()).expect("a configuration");
    let config = format!("ca_file = {root:?}\n{config}");
    std::fs::write(host.config(), config).expect("written");
    host.run();
    host
}

#[test]
fn a_host_with_the_root_certificate_does_everything_by_tls() {
    let server = Server::start_with_tls(&data("first.pem"), &data("first-key.pem"));
    let host = host(&server, &data("root.pem"));
    host.until_confirmed();
    let package = server.upload(
        &Bundle::new("worker", "1.0.0", &["--ready"])
            .notify()
            .build(),
    );
    // Its url is below the server's own, so that the package comes by TLS too.
    let order = json!({ "action": "install", "package": package });
    server.succeed(&host.agentsn(), order);
    assert!(host.process("worker").is_some());
}

#[test]
fn a_host_with_another_root_does_not_speak_with_the_server() {
    let server = Server::start_with_tls(&data("first.pem"), &data("first-key.pem"));
    let stranger = data("second.pem");
    let host = host(&server, &stranger);
    wait::until("a word about TLS", || {
        host.log().contains("certificate").then_some(())
    });
    assert_eq!(server.get("/hosts")["items"], json!([]));
}
