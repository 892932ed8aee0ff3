use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_minute_is_read_in_utc_and_nothing_else_is_one() {
    let read = |text: &str| Minute::try_from(text.to_owned());
    assert_eq!(read("1970-01-02T01:02Z"), Ok(Minute(90_120)));
    for wrong in [
        "2026-12-01",
        "2026-12-01T24:00Z",
        "2026-12-01T2:00Z",
        "2026-12-01T02:00+08:00",
        "2026-02-30T02:00Z",
    ] {
        assert!(
            read(wrong).is_err_and(|it| it.contains("2026-12-01T22:00Z")),
            "{wrong}"
        );
    }
}

#[test]
fn a_key_that_others_may_read_or_guess_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    let mesh = Mesh {
        key_file: Some(path.clone()),
        ..Mesh::default()
    };
    let write = |text: &str, mode| {
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("set");
    };
    assert!(matches!(mesh.keys(), Err(KeyFileError::Read(_))));
    let good = "a key of the group\n\nthe one before it\n";
    write(good, 0o640);
    assert!(matches!(mesh.keys(), Err(KeyFileError::Open(_))));
    write(good, 0o600);
    assert_eq!(mesh.keys().map(|it| it.len()).ok(), Some(2));
    for unfit in ["", "too short\n"] {
        write(unfit, 0o600);
        assert!(
            matches!(mesh.keys(), Err(KeyFileError::Unfit { .. })),
            "{unfit:?}"
        );
    }
}

fn load(text: &str) -> Result<Config, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("mtr-prober.toml");
    std::fs::write(&path, text).expect("written");
    bootagent_kit::config::load(&path, 65_536)
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)))
}

#[test]
fn the_defaults_are_local_and_valid() {
    let config = load("").expect("valid");
    assert_eq!(config, Config::default());
    let shown: Vec<String> = config.listen.iter().map(Listen::to_string).collect();
    assert_eq!(shown, ["127.0.0.1:8081", "[::1]:8081"]);
}

#[test]
fn other_machines_are_served_only_with_a_token_or_a_list() {
    let open = "listen = [\"127.0.0.1:8081\", \"192.0.2.1:8081\"]\n";
    let error = load(open).expect_err("refused");
    assert!(error.contains("192.0.2.1:8081"), "{error}");
    assert!(
        error.contains("token_file") && error.contains("allow"),
        "{error}"
    );
    assert!(load(&format!("{open}allow = [\"192.0.2.0/24\"]")).is_ok());
    assert!(load(&format!("{open}token_file = \"/x\"")).is_ok());
    for local in [
        "127.3.2.1:1",
        "[::1]:1",
        "/run/x.sock",
        "[::ffff:127.0.0.1]:1",
    ] {
        assert!(load(&format!("listen = [{local:?}]")).is_ok(), "{local}");
    }
    for open in ["0.0.0.0:1", "[::]:1"] {
        assert!(load(&format!("listen = [{open:?}]")).is_err(), "{open}");
    }
}

#[test]
fn a_mistake_is_named() {
    for (text, part) in [
        ("listne = []", "listne"),
        ("listen = [\"localhost:8081\"]", "neither an address"),
        ("allow = [\"10.0.0.0/33\"]", "no prefix"),
        ("allow = [\"ten\"]", "no prefix"),
        ("budget = 9", "budget"),
        ("archive_megabytes = 1", "archive_megabytes"),
        ("archive_days = 0", "archive_days"),
        ("node = \"\"", "node"),
        ("[lines.a]\nsource = \"\"", "lines.a"),
        ("[lines.a]\nsource = \"lo\"\ncolour = 1", "colour"),
    ] {
        let error = load(text).expect_err(text);
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_prefix_holds_its_addresses_and_no_others() {
    let prefix = |text: &str| Prefix::try_from(text.to_owned()).expect(text);
    let holds = |text, address: &str| prefix(text).holds(address.parse().expect(address));
    assert!(holds("192.0.2.0/24", "192.0.2.255"));
    assert!(!holds("192.0.2.0/24", "192.0.3.0"));
    assert!(holds("192.0.2.0/24", "::ffff:192.0.2.1"));
    assert!(holds("0.0.0.0/0", "203.0.113.1") && !holds("0.0.0.0/0", "::1"));
    assert!(holds("::/0", "2001:db8::1"));
    assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.6"));
}

#[test]
fn a_line_names_its_source_and_circuit() {
    let config = load("[lines.telecom]\nsource = \"lo\"\ncircuit = \"CT-1\"").expect("valid");
    let source = config.source(Some("telecom")).expect("known");
    assert_eq!(source.interface, Some(1));
    let (name, line) = config.line(Some("telecom")).expect("a line");
    assert_eq!(
        (name.as_str(), line.circuit.as_deref()),
        ("telecom", Some("CT-1"))
    );
    assert!(config.source(Some("unicom")).is_err());
}
