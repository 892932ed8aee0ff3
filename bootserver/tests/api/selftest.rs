//! `-T`: what it finds, that a failure is one, and that it leaves no trace.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::{Server, command};

fn test(config: &Path, more: &[&str]) -> (bool, String) {
    let mut command = command();
    command.args(["-T", "-c"]).arg(config).args(more);
    let output = command.output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    (output.status.success(), text)
}

fn written(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("config.toml");
    let data = folder.join("data").display().to_string();
    std::fs::write(&path, format!("data = {data:?}\n{text}")).expect("written");
    path
}

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry").path())
        .collect()
}

#[test]
fn a_machine_without_a_server_is_tested_and_left_as_it_is() {
    let folder = TempDir::new().expect("a folder");
    let config = written(folder.path(), "listen = \"127.0.0.1:0\"\n");
    let before = files(folder.path());
    let (passed, text) = test(&config, &[]);
    assert!(passed, "{text}");
    assert!(text.contains("ok    data          "), "{text}");
    assert!(text.contains("its tables will be made"), "{text}");
    assert_eq!(files(folder.path()), before);
}

#[test]
fn what_keeps_a_server_from_starting_fails_with_its_name() {
    let folder = TempDir::new().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    for (text, word) in [
        ("liste = 1\n".to_owned(), "fail  configuration "),
        (format!("listen = \"{address}\"\n"), "fail  listen "),
        (
            format!(
                "listen = \"127.0.0.1:0\"\ntls_cert = \"{data}/first.pem\"\ntls_key = \"{data}/second-key.pem\"\n"
            ),
            "fail  certificate ",
        ),
        (
            "listen = \"127.0.0.1:0\"\ndatabase = \"/dev/null/x.db\"\ndata = \"/dev/null\"\n"
                .to_owned(),
            "fail  data ",
        ),
        (
            "listen = \"127.0.0.1:0\"\ndatabase = \"postgres://boot@127.0.0.1:1/none\"\n"
                .to_owned(),
            "fail  database ",
        ),
        (
            "listen = \"127.0.0.1:0\"\nsocket = \"/nowhere/at/all\"\n".to_owned(),
            "fail  socket ",
        ),
    ] {
        let path = written(folder.path(), &text);
        if text.contains("data = \"/dev/null\"") {
            std::fs::write(&path, &text).expect("written");
        }
        let (passed, report) = test(&path, &[]);
        assert!(!passed && report.contains(word), "{text}: {report}");
    }
}

#[test]
fn a_running_server_is_seen_and_not_disturbed() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let mut server = Server::start_with(&format!(
        "tls_cert = \"{data}/first.pem\"\ntls_key = \"{data}/first-key.pem\"\n"
    ));
    let config = server.directory.join("bootserver.toml");
    let (listen, folder) = (server.address.to_string(), server.data(""));
    let folder = folder.to_str().expect("text");
    let more = ["--listen", &listen, "--data", folder];
    let (passed, text) = test(&config, &more);
    assert!(passed, "{text}");
    assert_eq!(text.matches("a server runs").count(), 2, "{text}");
    assert!(text.contains("days to go"), "{text}");
    assert!(server.stop().success());
    let before = files(Path::new(folder));
    let (passed, text) = test(&config, &more);
    assert!(passed && !text.contains("a server runs"), "{text}");
    assert_eq!(files(Path::new(folder)), before);
    // One that a newer version has added to, and one that needs it.
    let database = Path::new(folder).join("bootserver.db");
    change(&database, ADDED);
    let (passed, text) = test(&config, &more);
    assert!(passed && text.contains("has added to its tables"), "{text}");
    change(&database, NEEDED);
    let (passed, text) = test(&config, &more);
    assert!(!passed && text.contains("has changed its tables"), "{text}");
}

/// Notes a migration nobody knows yet.
const ADDED: &str =
    "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
     VALUES (99990101000000, 'later', TRUE, x'00', 0)";
/// Says that nobody works with the tables who does not know it.
const NEEDED: &str =
    "INSERT INTO setting (key, value) VALUES ('needs_migration', '99990101000000')";

fn change(database: &Path, statement: &'static str) {
    use sqlx::Connection;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let url = format!("sqlite://{}", database.display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.expect("opened");
        sqlx::query(statement)
            .execute(&mut connection)
            .await
            .expect("changed");
        connection.close().await.expect("closed");
    });
}

#[test]
fn a_postgresql_server_is_asked_and_left_as_it_is() {
    let Some(database) = crate::postgres::configuration() else {
        return;
    };
    let folder = TempDir::new().expect("a folder");
    let config = written(
        folder.path(),
        &format!("listen = \"127.0.0.1:0\"\n{database}"),
    );
    for _ in 0..2 {
        // What the first look had made, the second one would find.
        let (passed, text) = test(&config, &[]);
        assert!(passed && text.contains("its tables will be made"), "{text}");
    }
    let mut server = Server::start_with(&database);
    assert!(server.stop().success());
    let (passed, text) = test(&config, &[]);
    assert!(
        passed && !text.contains("will be made\nok    listen"),
        "{text}"
    );
    assert!(text.contains("ok    database"), "{text}");
}
