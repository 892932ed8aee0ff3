//! No token and no password is in a log, an event, a result, an argument or
//! in what bootctl prints, whatever goes wrong with it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::agent::{Agent, Settings};
use e2e::bundle::{Bundle, checksum};
use e2e::fake_server::{Answer, FakeServer};
use serde_json::{Value, json};

/// What the host enrols with.
const ENROLMENT: &str = "enrolment-2c9b17";
/// What the server gives it at its registration.
const TOKEN: &str = "host-secret-88ab41";
/// The password in urls and server lists.
const PASSWORD: &str = "url-password-5d20e6";
/// A value of an agent's environment.
const VALUE: &str = "environment-value-f01c93";

const SECRETS: [&str; 4] = [ENROLMENT, TOKEN, PASSWORD, VALUE];

fn assert_clean(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is in {what}: {text}");
    }
}

/// The arguments of every process below `root`'s daemon, seen until `done`.
fn arguments_until(daemon: i32, done: &AtomicBool) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    while !done.load(Ordering::Relaxed) {
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let folder = entry.path();
            if is_below(daemon, &folder)
                && let Ok(words) = std::fs::read(folder.join("cmdline"))
            {
                seen.insert(String::from_utf8_lossy(&words).replace('\0', " "));
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    seen
}

/// Whether the process of `folder` is `daemon` or one of its children.
fn is_below(daemon: i32, folder: &Path) -> bool {
    let is_pid = |text: &str| text.parse() == Ok(daemon);
    if folder
        .file_name()
        .is_some_and(|name| is_pid(&name.to_string_lossy()))
    {
        return true;
    }
    let stat = std::fs::read_to_string(folder.join("stat")).unwrap_or_default();
    let parent = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.split(' ').nth(1));
    parent.is_some_and(is_pid)
}

#[test]
fn no_secret_is_logged_reported_shown_or_given_as_an_argument() {
    let fake = FakeServer::start_with(|asked| match asked.path() {
        "/agent/register" => {
            let agentsn = asked.body["agentsn"].clone();
            Some(Answer::Json(
                json!({ "status": 0, "agentsn": agentsn, "tags": "", "token": TOKEN }),
            ))
        }
        // An answer that is none, with a secret in its address.
        "/away" => {
            let to = format!("Location: http://user:{PASSWORD}@127.0.0.1:1/x");
            Some(Answer::of(302, &[&to], b""))
        }
        _ => None,
    });
    let mut settings = Settings::new(&fake.address());
    settings.enrolment_token = Some(ENROLMENT.into());
    let host = Agent::start(&settings);
    host.until_confirmed();
    let registered = &fake.registers()[0];
    assert_eq!(
        registered.header("authorization"),
        Some(&*format!("Bearer {ENROLMENT}")),
        "the secrets of this test are really used"
    );
    let done = AtomicBool::new(false);
    let arguments = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| arguments_until(host.pid(), &done));
        go_wrong(&fake, &host);
        done.store(true, Ordering::Relaxed);
        watcher.join().expect("the watcher ends")
    });
    assert!(
        arguments.iter().any(|line| line.contains("--marker 1.0.0")),
        "{arguments:?}"
    );
    assert_clean("arguments", &format!("{arguments:?}"));
    assert_clean("the log", &host.log());
    for words in [
        &["status"][..],
        &["--json", "status"],
        &["jobs"],
        &["--json", "events"],
        &["doctor"],
        &["--json", "doctor"],
    ] {
        let output = host.bootctl(words);
        for bytes in [&output.stdout, &output.stderr] {
            assert_clean(&format!("{words:?}"), &String::from_utf8_lossy(bytes));
        }
    }
    for status in fake.statuses() {
        assert_eq!(
            status.header("authorization"),
            Some(&*format!("Bearer {TOKEN}"))
        );
        assert_clean("a status", &status.body.to_string());
    }
}

/// Jobs that fail at every step at which an address or a value is at hand.
fn go_wrong(fake: &FakeServer, host: &Agent) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("worker");
    let bundle = Bundle::new("worker", "1.0.0", &["--ready"])
        .notify()
        .build();
    std::fs::write(&file, &bundle).expect("written");
    let package = |id: &str, url: &str| -> Value {
        json!({
            "id": id, "action": "install", "name": "worker", "url": url,
            "checksum": checksum(&bundle), "envs": { "SECRET": VALUE },
        })
    };
    let server = fake.address();
    for (id, url, code) in [
        ("ftp", format!("ftp://user:{PASSWORD}@127.0.0.1:1/x"), 2001),
        (
            "http",
            format!("http://user:{PASSWORD}@{server}/none"),
            2002,
        ),
        (
            "query",
            format!("http://{server}/none?key={PASSWORD}"),
            2002,
        ),
        ("file", format!("file://user:{PASSWORD}@host/x"), 2001),
        ("away", "/away".into(), 2001),
    ] {
        fake.fail(package(id, &url), code);
    }
    let list = format!("http://user:{PASSWORD}@127.0.0.1:1");
    fake.fail(
        json!({ "id": "list", "action": "config", "svrlist": list }),
        6001,
    );
    // An environment that cannot be, and one that can.
    let envs = json!({ "BAD=NAME": VALUE });
    fake.fail(
        json!({ "id": "envs", "action": "config", "name": "worker", "envs": envs }),
        1001,
    );
    fake.succeed(package("good", &format!("file://{}", file.display())));
    fake.next_status();
    let worker = host.process("worker").expect("it runs");
    worker.signal(nix::sys::signal::Signal::SIGKILL);
    e2e::wait::until("the event of its end", || {
        fake.statuses()
            .iter()
            .any(|status| status.body["events"].to_string().contains("crash"))
            .then_some(())
    });
}
