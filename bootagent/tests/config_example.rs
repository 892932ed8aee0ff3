//! packaging/bootagent.toml, which is installed as documentation, has every
//! key there is, and the defaults it names are the defaults.

use std::path::{Path, PathBuf};

use bootagent::config::{
    Config, DownloadConfig, JobsConfig, LogsConfig, PushConfig, RestartConfig,
};

/// The example with its keys taken out of their comments; its tables stand
/// there plainly, so that an operator uncomments one line only.
fn uncommented() -> String {
    let text = include_str!("../../packaging/bootagent.toml");
    let is_setting = |line: &str| line.starts_with('[') || line.contains(" = ");
    let lines = text
        .lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line));
    let settings = lines.filter(|line| !line.starts_with(' ') && is_setting(line));
    settings.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_example_names_every_key_and_its_default() {
    let text = uncommented();
    // A key that is added to the configuration fails to compile here, until
    // it has its line.
    let Config {
        root: _,
        ca_file: _,
        enrolment_token_file: _,
        trusted_keys: _,
        agent_user: _,
        cgroup: _,
        restart:
            RestartConfig {
                check: _,
                holdoff: _,
                stable: _,
                max_anomalies: _,
            },
        push:
            PushConfig {
                step: _,
                min_step: _,
                connect_timeout: _,
                timeout: _,
            },
        download:
            DownloadConfig {
                max_bytes: _,
                rate: _,
                timeout: _,
                stall_timeout: _,
            },
        logs:
            LogsConfig {
                max_bytes: _,
                keep: _,
                rate: _,
            },
        jobs:
            JobsConfig {
                installer_timeout: _,
                check_timeout: _,
                confirm_timeout: _,
            },
    } = Config::default();
    for key in [
        "root",
        "ca_file",
        "enrolment_token_file",
        "trusted_keys",
        "agent_user",
        "cgroup",
        "[restart]",
        "check",
        "holdoff",
        "stable",
        "max_anomalies",
        "[push]",
        "step",
        "min_step",
        "connect_timeout",
        "timeout",
        "[download]",
        "max_bytes",
        "rate",
        "stall_timeout",
        "[logs]",
        "keep",
        "[jobs]",
        "installer_timeout",
        "check_timeout",
        "confirm_timeout",
    ] {
        let is_there = |line: &str| line == key || line.starts_with(&format!("{key} = "));
        assert!(text.lines().any(is_there), "{key} is not in the example");
    }

    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("bootagent.toml");
    std::fs::write(&path, &text).expect("writable");
    let example = Config::load(&path).expect("the example is valid");
    let expected = Config {
        // Those three have no default that could be written down.
        ca_file: Some(PathBuf::from("/etc/bootagent/ca.pem")),
        enrolment_token_file: Some(PathBuf::from("/etc/bootagent/enrolment-token")),
        cgroup: Some(Config::default().cgroup_name()),
        ..Config::default()
    };
    assert_eq!(example, expected);
}

#[test]
fn the_example_as_it_is_installed_sets_nothing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/bootagent.toml");
    let example = Config::load(&path).expect("it is valid");
    assert_eq!(example, Config::default());
}
