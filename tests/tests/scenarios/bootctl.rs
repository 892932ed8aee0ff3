//! bootctl answers a person, and says why a host is offline.

use std::process::{Command, Output};

use e2e::agent::{Agent, Settings};
use e2e::bundle::{Bundle, checksum};
use e2e::fake_server::{Answer, FakeServer};
use e2e::server::Server;
use e2e::wait;
use serde_json::{Value, json};

use super::stage::Stage;

/// A host whose next status is far away: what is seen is what was arranged.
fn settings(server: &Server) -> Settings {
    Settings {
        push: "step = 600\nmin_step = 1\nconnect_timeout = 2\ntimeout = 5\n".into(),
        ..Settings::of(server)
    }
}

fn said(output: &Output) -> String {
    let both = [&output.stdout, &output.stderr];
    both.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

/// Whether a line of the report has this level, check, and words.
fn has(report: &str, level: &str, check: &str, words: &str) -> bool {
    report.lines().any(|line| {
        let rest = line.strip_prefix(level).map(str::trim_start);
        rest.is_some_and(|rest| rest.starts_with(check) && rest.contains(words))
    })
}

/// The doctor's words, with the daemon's configuration named.
fn doctor(host: &Agent) -> Output {
    let config = host.config().display().to_string();
    host.bootctl(&["doctor", "-c", &config])
}

#[test]
fn the_doctor_finds_nothing_wrong_with_a_host_that_reports() {
    let server = Server::start();
    let host = Agent::start(&settings(&server));
    host.until_confirmed();
    // The daemon says which configuration it has.
    let output = host.bootctl(&["doctor"]);
    let report = said(&output);
    assert!(output.status.success(), "{report}");
    for (check, words) in [
        ("process", "pid"),
        ("configuration", "bootagent.toml is valid"),
        ("metafile", "registered"),
        ("contact", "a status was answered"),
        ("answers", "answers"),
        ("admission", "accepts this host's token"),
        ("journal", "can be read"),
        ("agents", "0 known"),
    ] {
        assert!(has(&report, "ok", check, words), "{check}: {report}");
    }
    let output = host.bootctl(&["--json", "doctor"]);
    let lines: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let lines = lines.as_array().expect("a list");
    let first = &lines[0];
    assert_eq!(
        (&first["level"], &first["check"]),
        (&json!("ok"), &json!("process"))
    );
}

#[test]
fn the_doctor_works_without_a_daemon_and_says_that_it_is_gone() {
    let server = Server::start();
    let mut host = Agent::start(&settings(&server));
    host.until_confirmed();
    host.stop();
    let output = doctor(&host);
    let report = said(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(
        has(&report, "fail", "process", "no bootagent runs"),
        "{report}"
    );
    for (check, words) in [
        ("answers", "answers"),
        ("admission", "accepts this host's token"),
        ("journal", "can be read"),
    ] {
        assert!(has(&report, "ok", check, words), "{check}: {report}");
    }
}

#[test]
fn the_doctor_names_a_daemon_that_hangs() {
    let server = Server::start();
    let host = Agent::start(&settings(&server));
    host.until_confirmed();
    host.signal(nix::sys::signal::Signal::SIGSTOP);
    let output = doctor(&host);
    let status = host.bootctl(&["status"]);
    host.signal(nix::sys::signal::Signal::SIGCONT);
    assert_eq!(status.status.code(), Some(1));
    assert!(said(&status).contains("does not answer within 30 s"));
    let report = said(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(
        has(&report, "fail", "process", "does not answer within"),
        "{report}"
    );
}

#[test]
fn the_doctor_says_that_no_server_answers_and_that_a_token_is_refused() {
    let server = Server::start();
    let mut host = Agent::start(&settings(&server));
    host.until_confirmed();
    host.stop();
    // The token is no longer the server's.
    let path = host.path("var/lib/bootagent/metafile.json");
    let mut metafile = host.metafile();
    metafile["token"] = json!("not-the-right-one");
    std::fs::write(&path, metafile.to_string()).expect("written");
    let report = said(&doctor(&host));
    assert!(
        has(&report, "fail", "admission", "does not accept"),
        "{report}"
    );
    assert!(!report.contains("not-the-right-one"), "{report}");
    drop(server);
    let output = doctor(&host);
    let report = said(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(
        has(&report, "fail", "answers", "cannot connect"),
        "{report}"
    );
}

#[test]
fn the_doctor_tells_what_a_daemon_sees_also_where_its_configuration_is_wrong_by_now() {
    let server = Server::start();
    let host = Agent::start(&settings(&server));
    host.until_confirmed();
    std::fs::write(host.config(), "[push]\nstpe = 3\n").expect("writable");
    host.signal(nix::sys::signal::Signal::SIGHUP);
    let report = wait::until("a daemon that says so", || {
        let report = said(&doctor(&host));
        has(&report, "warn", "notice", "stays as it was").then_some(report)
    });
    for (level, check, words) in [
        ("fail", "configuration", "stpe"),
        ("ok", "contact", "a status was answered"),
        ("ok", "agents", "0 known"),
    ] {
        assert!(has(&report, level, check, words), "{check}: {report}");
    }
}

#[test]
fn a_host_that_knows_no_server_says_so() {
    let host = Agent::start(&Settings::new(""));
    wait::until("the daemon", || host.status().filter(Value::is_object));
    let output = doctor(&host);
    let report = said(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(has(&report, "fail", "servers", "there is none"), "{report}");
    for (words, told) in [
        ("status", "there is nobody to report to"),
        ("agents", "no agent is installed"),
        ("jobs", "no job was taken yet"),
        ("events", "no event waits for a server"),
    ] {
        let said = host.ask(&[words]);
        assert!(said.contains(told), "{words}: {said}");
    }
}

#[test]
fn whoever_reads_no_further_is_told_nothing_more() {
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    drop(reader);
    let mut help = Command::new(e2e::binaries::bootctl());
    let output = help.arg("help").stdout(writer).output().expect("it runs");
    assert_eq!(said(&output), "");
    assert!(output.status.success(), "{}", output.status);
    let full = std::fs::File::create("/dev/full").expect("a full disk");
    let mut help = Command::new(e2e::binaries::bootctl());
    let output = help.arg("help").stdout(full).output().expect("it runs");
    assert!(said(&output).contains("printing"), "{}", said(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_doctor_compares_the_clock_with_that_of_the_server() {
    let fake = FakeServer::start_with(|asked| {
        let date = "Date: Sat, 01 Jan 2000 00:00:30 GMT";
        (asked.path() == "/healthz").then(|| Answer::of(200, &[date], b"ok"))
    });
    let host = Agent::start(&Settings::new(&fake.address()));
    host.until_confirmed();
    let report = said(&doctor(&host));
    assert!(
        has(&report, "warn", "clock", "s ahead of that of"),
        "{report}"
    );
}

#[test]
fn the_doctor_tells_of_children_that_do_not_run() {
    let server = Server::start();
    let host = Agent::start(&Settings::of(&server).with("[restart]\nmax_anomalies = 0\n"));
    host.until_confirmed();
    let bundle = Bundle::new("worker", "1.0.0", &["--ready", "--exit", "3"]).notify();
    let package = server.upload(&bundle.build());
    server.order(
        &host.agentsn(),
        json!({ "action": "install", "name": "worker", "package": package }),
    );
    wait::until("a child that was given up", || {
        (host.child("worker")?["status"] == "fatal").then_some(())
    });
    let report = said(&doctor(&host));
    assert!(
        has(&report, "warn", "agents", "worker is fatal"),
        "{report}"
    );
}

#[test]
fn agents_of_this_host_are_completed_by_bash() {
    let stage = Stage::new("");
    let programs = e2e::binaries::bootctl();
    let programs = programs.parent().expect("a folder").display().to_string();
    let script = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _bootagentctl
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let file = e2e::tree::repository().join("packaging/completion/bootagentctl.bash");
    let root = stage.host.root().display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .env("PATH", format!("{programs}:{path}"))
        .args(["--norc", "-c", script, "bash"])
        .arg(file)
        .args(["bootctl", "-r", &root, "restart", "w"])
        .output()
        .expect("bash can be run");
    assert_eq!(said(&output), format!("{}\n", super::stage::NAME));
}

#[test]
fn sha256_prints_what_a_job_wants() {
    let server = Server::start();
    let host = Agent::prepare(&settings(&server));
    let files = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| files.path().join(name).display().to_string();
    std::fs::write(path("a"), b"").expect("written");
    std::fs::write(path("b"), vec![7; 200_000]).expect("written");
    let output = host.bootctl(&["sha256", &path("a"), &path("b")]);
    assert!(output.status.success(), "{}", said(&output));
    let expected = format!(
        "{}  {}\n{}  {}\n",
        checksum(b""),
        path("a"),
        checksum(&[7; 200_000]),
        path("b")
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    // One that is missing is told; the others are printed all the same.
    let output = host.bootctl(&["--json", "sha256", &path("none"), &path("a")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains(&path("none")));
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        found,
        json!([{ "path": path("a"), "checksum": checksum(b"") }])
    );
}
