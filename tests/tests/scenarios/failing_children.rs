//! An agent that does not come up, does not stop, or whose wishes cannot be
//! kept, is reported with its code (5001 to 5003, 6002); others are undisturbed.

use e2e::agent::is_root;
use e2e::bundle::Bundle;
use e2e::wait;
use serde_json::{Value, json};

use super::stage::{NAME, Stage};

fn named(id: &str, action: &str, name: &str) -> Value {
    json!({ "id": id, "action": action, "name": name })
}

#[test]
fn an_agent_that_does_not_come_up_is_reported_with_how_it_ended() {
    let stage = Stage::new("");
    let exits = Bundle::new(
        "exits",
        "1.0.0",
        &["--print", "no such interface eth7", "--exit", "3"],
    );
    let never = Bundle::new("never", "1.0.0", &[])
        .notify()
        .key("start_timeout", json!(1));
    let aborts = Bundle::new("aborts", "1.0.0", &["--abort"]).notify();
    let absent = Bundle::new("absent", "1.0.0", &[]).key("exec", json!(["/nonexistent/program"]));
    for (name, bundle, words) in [
        ("exits", exits, &["exits", "3"][..]),
        ("never", never, &["never", "ready"]),
        ("aborts", aborts, &["aborts", "signal"]),
        ("absent", absent, &["absent", "/nonexistent/program"]),
    ] {
        let message = stage
            .fake
            .fail(stage.install(name, name, &bundle.build()), 5001);
        for word in words {
            assert!(
                message.to_lowercase().contains(word),
                "{word:?} is not in {message}"
            );
        }
        // It is wanted all the same: an operator looks, and starts it again.
        let child = stage.host.child(name).expect("it is installed");
        assert_eq!(
            (&child["wanted"], &child["detail"]),
            (&json!("running"), &json!("hold-off"))
        );
        stage
            .fake
            .succeed(named(&format!("remove-{name}"), "uninstall", name));
    }
    // The event has what it printed last.
    let crash = stage
        .fake
        .events()
        .into_iter()
        .find(|event| event["subject"] == "exits" && event["category"] == "crash");
    let crash = crash.expect("a crash is an event");
    assert_eq!(crash["tail"], json!(["no such interface eth7"]), "{crash}");
    stage.assert_undisturbed();
}

#[test]
fn an_agent_that_does_not_stop_in_time_is_killed_and_that_is_said() {
    let stage = Stage::new("");
    let stubborn = Bundle::new("stubborn", "1.0.0", &["--ignore-term", "--ready"])
        .notify()
        .key("stop_timeout", json!(1));
    stage
        .fake
        .succeed(stage.install("install", "stubborn", &stubborn.build()));
    let first = stage.host.process("stubborn").expect("it runs");
    let message = stage.fake.fail(named("stop", "stop", "stubborn"), 5002);
    assert!(
        message.contains("stubborn") && message.contains("killed"),
        "{message}"
    );
    assert!(!first.is_alive());
    // An operator's stop is a stop, whatever it took.
    let child = stage.host.child("stubborn").expect("it is known");
    assert_eq!(
        (&child["status"], &child["anomalies"]),
        (&json!("stoped"), &json!(0))
    );

    // A restart and an upgrade do what they must.
    stage.fake.succeed(named("start", "start", "stubborn"));
    let second = stage.host.process("stubborn").expect("it runs");
    stage.fake.succeed(named("restart", "restart", "stubborn"));
    let third = stage.host.process("stubborn").expect("it runs");
    assert!(!second.is_alive() && third != second);
    stage.fake.succeed(named("remove", "uninstall", "stubborn"));
    assert!(!third.is_alive());
    stage.assert_undisturbed();
}

#[test]
fn an_agent_whose_limit_the_kernel_refuses_runs_and_that_is_said() {
    if !is_root() {
        println!("SKIPPED: a limit the kernel refuses, because cgroups need root");
        return;
    }
    let stage = Stage::new("");
    // More processes than Linux can have: both kinds of cgroups refuse it.
    let greedy = Bundle::new("greedy", "1.0.0", &["--ready"])
        .notify()
        .key("limits", json!({ "memory": "64M", "pids": 5_000_000 }));
    let job = stage.install("install", "greedy", &greedy.build());
    let message = stage.fake.fail(job, 5003);
    for word in ["greedy runs", "limit pids", "pids.max"] {
        assert!(message.contains(word), "{word:?} is not in {message}");
    }
    assert!(stage.host.process("greedy").is_some());
    let notices = stage.fake.next_status().body["notices"].to_string();
    assert!(notices.contains("greedy: limit pids"), "{notices}");
    // One that can be kept, and all is well.
    let limits = json!({ "memory": "64M", "pids": 50 });
    stage
        .fake
        .succeed(json!({ "id": "c", "action": "config", "name": "greedy", "limits": limits }));
    stage.fake.succeed(named("remove", "uninstall", "greedy"));
    stage.assert_undisturbed();
}

#[test]
fn a_job_that_waits_for_an_agent_ends_when_somebody_stops_that_agent() {
    let stage = Stage::new("");
    let slow = Bundle::new("slow", "1.0.0", &[]).notify();
    stage
        .fake
        .offer(stage.install("install", "slow", &slow.build()));
    wait::until_true("its process", || stage.host.process("slow").is_some());
    stage.host.ask(&["stop", "slow"]);
    let result = stage.fake.result("install");
    assert_eq!(result["errcode"], 5001, "{result}");
    let message = result["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("slow") && message.contains("stop"),
        "{message}"
    );
    stage.fake.succeed(named("remove", "uninstall", "slow"));
    stage.assert_undisturbed();
}

#[test]
fn what_cannot_be_written_down_is_not_said_to_be_done() {
    let stage = Stage::new("");
    let metafile = stage.host.path("var/lib/bootagent/metafile.json");
    let kept = stage.host.path("kept.json");
    std::fs::rename(&metafile, &kept).expect("moved");
    std::fs::create_dir_all(metafile.join("in the way")).expect("made");
    let job = json!({ "id": "step", "action": "config", "step": 7 });
    let message = stage.fake.fail(job, 6002);
    assert!(message.contains("metafile.json"), "{message}");
    std::fs::remove_dir_all(&metafile).expect("removed");
    std::fs::rename(&kept, &metafile).expect("moved back");
    stage
        .fake
        .succeed(json!({ "id": "again", "action": "config", "step": 7 }));
    assert_eq!(stage.host.metafile()["step"], 7);
    assert!(stage.host.process(NAME).is_some());
}
