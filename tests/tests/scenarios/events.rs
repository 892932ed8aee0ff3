//! What happens on a host is told at once, with the last words of whom it
//! happened to, and is kept until a server has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::agent::{Agent, Settings};
use e2e::binaries;
use e2e::bundle::Bundle;
use e2e::fake_server::{Answer, FakeServer};
use e2e::wait;
use serde_json::{Value, json};

use super::stage::Stage;

/// An agent that runs this shell script and then aborts.
fn prints(name: &str, script: &str) -> Bundle {
    let manifest = json!({ "name": name, "version": "1.0.0", "exec": ["./run"] });
    let script = format!(
        "#!/bin/sh\n{script}\nexec '{}' --abort\n",
        binaries::child().display()
    );
    Bundle::of_manifest(manifest).file("run", script.as_bytes(), 0o755)
}

fn crash_of(fake: &FakeServer, name: &str) -> Value {
    wait::until("the event of its end", || {
        let mut events = fake.events().into_iter();
        events.find(|event| event["category"] == "crash" && event["subject"] == name)
    })
}

fn tail(event: &Value) -> Vec<&str> {
    let lines = event["tail"].as_array().expect("a tail");
    lines.iter().filter_map(Value::as_str).collect()
}

#[test]
fn the_last_words_of_a_child_come_whatever_it_printed() {
    let stage = Stage::new("");
    let many = prints("many", "seq 1 500");
    let odd = prints("odd", r"printf 'caf\351 \000 \033[1mend\n\377\376'");
    let endless = prints(
        "endless",
        "echo before; head -c 100000 /dev/zero | tr '\\0' x; printf 'the end'",
    );
    for (name, bundle) in [("many", many), ("odd", odd), ("endless", endless)] {
        let job = stage.install(name, name, &bundle.build());
        stage.fake.fail(job, 5001);
    }

    let many = crash_of(&stage.fake, "many");
    let numbers: Vec<String> = (481..=500).map(|number| number.to_string()).collect();
    assert_eq!(tail(&many), numbers);
    let message = many["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("signal") && many["version"] == "1.0.0",
        "{many}"
    );

    let odd = crash_of(&stage.fake, "odd");
    assert_eq!(
        tail(&odd),
        ["caf\u{fffd} \u{fffd} \u{1b}[1mend", "\u{fffd}\u{fffd}"]
    );

    let endless = crash_of(&stage.fake, "endless");
    let lines = tail(&endless);
    let last = lines.last().expect("its end is there");
    assert!(last.ends_with("the end"), "{endless}");
    assert!(lines.iter().all(|line| line.len() <= 400), "{endless}");
}

#[test]
fn a_crash_is_told_at_once_whatever_the_step() {
    let fake = FakeServer::start();
    let mut settings = Settings::new(&fake.address());
    settings.push = settings.push.replace("step = 1\nmin", "step = 3600\nmin");
    let files = tempfile::tempdir().expect("a temporary folder");
    let flags = [
        "--ready",
        "--print",
        "so far so good",
        "--after",
        "3000",
        "--abort",
    ];
    let package = files.path().join("package");
    let bundle = Bundle::new("frail", "1.0.0", &flags).notify().build();
    std::fs::write(&package, &bundle).expect("writable");
    fake.offer(json!({
        "id": "install", "action": "install", "name": "frail",
        "url": format!("file://{}", package.display()),
        "checksum": e2e::bundle::checksum(&bundle),
    }));
    let _host = Agent::start(&settings);
    // An hour would pass until the next status.
    let crash = crash_of(&fake, "frail");
    assert_eq!(tail(&crash), ["so far so good"]);
}

#[test]
fn an_event_of_a_time_without_servers_comes_later_once_also_after_a_crash() {
    let is_away = Arc::new(AtomicBool::new(false));
    let away = Arc::clone(&is_away);
    let mut stage = Stage::with_script("", move |_| {
        let is_away = away.load(Ordering::Relaxed);
        is_away.then(|| Answer::of(500, &[], b"away"))
    });
    let flags = [
        "--ready",
        "--print",
        "last words",
        "--after",
        "3000",
        "--exit",
        "9",
    ];
    let frail = Bundle::new("frail", "1.0.0", &flags).notify().build();
    stage.fake.succeed(stage.install("frail", "frail", &frail));
    is_away.store(true, Ordering::Relaxed);
    let waiting = |host: &Agent| -> Vec<Value> {
        let said: Value = serde_json::from_str(&host.ask(&["--json", "events"])).expect("JSON");
        let events = said["events"].as_array().cloned().unwrap_or_default();
        let own = events
            .into_iter()
            .filter(|event| event["subject"] == "frail");
        own.collect()
    };
    wait::until_true("the event, on disk", || !waiting(&stage.host).is_empty());
    let told = |stage: &Stage| {
        let statuses = stage.fake.statuses();
        statuses.len()
    };
    let before = told(&stage);
    wait::until_true("a try to tell it", || told(&stage) > before);
    stage.host.kill();
    stage.host.run();
    wait::until_true("the daemon", || stage.host.status().is_some());
    let kept = waiting(&stage.host);
    assert_eq!(tail(&kept[0]), ["last words"]);

    let refused = told(&stage);
    is_away.store(false, Ordering::Relaxed);
    wait::until_true("an acknowledged event", || waiting(&stage.host).is_empty());
    stage.fake.next_status();
    let brought = stage.fake.statuses().into_iter().skip(refused);
    let brought: Vec<Value> = brought
        .flat_map(|asked| asked.body["events"].as_array().cloned().unwrap_or_default())
        .filter(|event| event["seq"] == kept[0]["seq"] && event["subject"] == "frail")
        .collect();
    // A status that was on its way when the server came back may be one more.
    assert!((1..=2).contains(&brought.len()), "{brought:?}");
}
