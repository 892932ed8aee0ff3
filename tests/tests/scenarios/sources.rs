//! A package comes from wherever a job says: the server itself, another web
//! server, an FTP server, a file of the host.

use e2e::agent::Agent;
use e2e::bundle::{Bundle, checksum};
use e2e::ftp::{self, Vsftpd};
use e2e::server::Server;
use serde_json::json;

const NAME: &str = "worker";

/// Installs version 1 and upgrades to version 2, each from the url that
/// `publish` gives its bundle.
fn install_and_upgrade(mut publish: impl FnMut(&str, &[u8], &Server) -> String) {
    let server = Server::start();
    let host = Agent::of(&server);
    let sn = host.agentsn();
    let mut before = None;
    for (action, version) in [("install", "1.0.0"), ("upgrade", "2.0.0")] {
        let bundle = Bundle::new(NAME, version, &["--lock", "alone", "--ready"])
            .notify()
            .build();
        let url = publish(&format!("{NAME}-{version}.bundle.tar.gz"), &bundle, &server);
        let job = server.succeed(
            &sn,
            json!({
                "action": action, "name": NAME, "version": version, "url": url,
                "checksum": checksum(&bundle),
            }),
        );
        assert_eq!(job["result"]["running"], version, "{url}");
        let process = host.process(NAME).expect("it runs");
        assert!(process.arguments().contains(&version.to_owned()), "{url}");
        assert!(
            before.replace(process).is_none_or(|old| !old.is_alive()),
            "{url}"
        );
    }
    assert_eq!(host.child_file(NAME, "alone.conflict"), None);
    assert_eq!(host.temporary_files(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn over_http_by_a_path_of_the_server_that_gave_the_job() {
    install_and_upgrade(|_, bundle, server| {
        let id = server.upload(bundle);
        let package = server.get(&format!("/packages/{id}"));
        e2e::server::text(&package, "url")
    });
}

#[test]
fn over_ftp_as_document_002_has_it() {
    if let Some(reason) = ftp::obstacle() {
        println!("SKIPPED: install and upgrade over ftp: {reason}");
        return;
    }
    let vsftpd = Vsftpd::start();
    install_and_upgrade(|name, bundle, _| vsftpd.publish(name, bundle));
    let log = vsftpd.log();
    assert!(log.matches("RETR").count() >= 2, "{log}");
}

#[test]
fn from_a_file_of_the_host() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    install_and_upgrade(|name, bundle, _| {
        let path = folder.path().join(name);
        std::fs::write(&path, bundle).expect("written");
        format!("file://{}", path.display())
    });
}
