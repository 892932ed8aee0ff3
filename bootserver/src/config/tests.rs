//! What a configuration may say, and what holds without one.

use super::*;

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
    let file: Settings =
        toml::from_str("listen = \"127.0.0.1:1\"\nrequest_timeout = 5").expect("valid");
    let flags = Settings {
        listen: Some(OneOrMany::One("127.0.0.1:2".into())),
        ..Settings::default()
    };
    let config = flags.or(file).into_config().expect("valid");
    assert_eq!(config.listen[0].address.port(), 2);
    assert_eq!(config.bounds.request_timeout, Duration::from_secs(5));
    assert_eq!(
        config.database.to_string(),
        "/var/lib/bootserver/bootserver.db"
    );
}

#[test]
fn nothing_is_kept_for_no_days_and_zero_is_for_ever() {
    let settings: Settings = toml::from_str("[retention]\nevents = 0").expect("valid");
    let retention = settings.into_config().expect("valid").retention;
    assert_eq!(retention.events, None);
    assert_eq!(retention.jobs, Some(Duration::from_secs(365 * 24 * 3600)));
}

#[test]
fn a_database_is_said_in_one_of_two_ways_and_a_flag_wins_over_both() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let path = directory.path().join("address");
    std::fs::write(&path, "postgres://boot:geheim@db/fleet\nmore\n").expect("a file");
    let file = Settings {
        database_file: Some(path.clone()),
        ..Settings::default()
    };
    let config = file.clone().into_config().expect("valid");
    assert_eq!(config.database.to_string(), "fleet at db:5432");
    assert!(!format!("{config:?}").contains("geheim"));
    let flags = Settings {
        database: Some(AddressText::argument("a.db").expect("a file")),
        ..Settings::default()
    };
    let config = flags.clone().or(file.clone()).into_config().expect("valid");
    assert_eq!(config.database.to_string(), "a.db");
    let both = Settings {
        database: flags.database,
        ..file.clone()
    };
    let error = both.into_config().expect_err("two");
    assert!(error.to_string().contains("only one"), "{error}");
    std::fs::write(&path, "postgres://boot:geheim@db:port/fleet").expect("a file");
    let error = format!("{:#}", file.into_config().expect_err("no port"));
    assert!(error.contains("database_file"), "{error}");
    assert!(!error.contains("geheim"), "{error}");
}

/// The keys a table takes, as the parser names them to who says another one.
fn keys(table: &str) -> Vec<String> {
    let wrong = toml::from_str::<Settings>(&format!("{table}\nwrong = 1"));
    let error = wrong.expect_err("no such key").to_string();
    let (_, known) = error.split_once("expected ").expect("what is expected");
    let names = known.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn the_packaged_example_shows_every_key_with_its_default() {
    // Where the address goes is for tests.
    let left_out = ["address_file"];
    let example = include_str!("../../../packaging/bootserver/config.toml");
    let shown: Vec<&str> = example
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once(" = "))
        .map(|(key, _)| key)
        .collect();
    for table in ["", "[retention]", "[budget]"] {
        let known = keys(table);
        assert!(known.len() > 3, "{table}: {known:?}");
        for key in known {
            let is_table = example.contains(&format!("\n#[{key}]\n"));
            let is_shown = is_table || shown.contains(&key.as_str());
            assert!(
                is_shown || left_out.contains(&key.as_str()),
                "{table} {key}"
            );
        }
    }
    // What is commented out in the tables is what holds without it.
    let (_, tables) = example.split_once("\n#[retention]").expect("the tables");
    let settings = tables.lines().filter_map(|line| line.strip_prefix('#'));
    let settings = settings.filter(|line| !line.starts_with(' '));
    let settings = settings.collect::<Vec<_>>().join("\n");
    let settings: Settings = toml::from_str(&format!("[retention]\n{settings}")).expect("valid");
    let (said, unsaid) = (settings.into_config(), Settings::default().into_config());
    let (said, unsaid) = (said.expect("valid"), unsaid.expect("valid"));
    assert_eq!(said.budget, unsaid.budget);
    assert_eq!(said.retention, unsaid.retention);
}

#[test]
fn what_cannot_be_is_named() {
    assert!(toml::from_str::<Settings>("liste = \"x\"").is_err());
    for (settings, word) in [
        (
            Settings {
                listen: Some(OneOrMany::One("here".into())),
                ..Settings::default()
            },
            "listen",
        ),
        (
            Settings {
                request_timeout: Some(0),
                ..Settings::default()
            },
            "request_timeout",
        ),
        (
            Settings {
                tls_cert: Some("cert.pem".into()),
                ..Settings::default()
            },
            "tls_key",
        ),
        (
            Settings {
                trusted_proxy: Some(OneOrMany::One("everybody".into())),
                ..Settings::default()
            },
            "trusted_proxy",
        ),
        (
            Settings {
                metrics_listen: Some("9100".into()),
                ..Settings::default()
            },
            "metrics_listen",
        ),
        (
            Settings {
                max_connections: Some(0),
                ..Settings::default()
            },
            "max_connections",
        ),
        (
            Settings {
                retention: Some(RetentionSettings {
                    events: Some(36_501),
                    jobs: None,
                    ..RetentionSettings::default()
                }),
                ..Settings::default()
            },
            "retention.events",
        ),
    ] {
        let error = settings.into_config().expect_err("not valid");
        assert!(format!("{error:#}").contains(word), "{error:#}");
    }
}
