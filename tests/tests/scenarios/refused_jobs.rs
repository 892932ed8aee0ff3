//! A job that cannot be done says why (1001 to 1006) and disturbs nothing.

use e2e::agent::{Agent, Settings};
use e2e::fake_server::{Answer, FakeServer};
use e2e::wait;
use serde_json::{Value, json};

use super::stage::{NAME, Stage};

#[test]
fn a_malformed_job_is_refused_with_the_field_and_what_is_expected() {
    let stage = Stage::new("");
    let job = |id: &str, fields: Value| {
        let mut job = json!({ "id": id, "action": "install", "name": "other", "url": "/x" });
        for (key, value) in fields.as_object().expect("an object") {
            job[key] = value.clone();
        }
        job
    };
    let long = "x".repeat(70_000);
    stage.refuses(&[
        (
            json!({ "id": "no-url", "action": "install", "name": "other" }),
            1001,
            &["url", "install"],
        ),
        (
            json!({ "id": "no-name", "action": "stop" }),
            1001,
            &["name", "stop"],
        ),
        (json!({ "id": "no-action" }), 1001, &["action"]),
        (
            job("name-up", json!({ "name": "../worker" })),
            1001,
            &["name", "A-Z"],
        ),
        (
            job("name-slash", json!({ "name": "a/b" })),
            1001,
            &["name", "A-Z"],
        ),
        (
            job("name-long", json!({ "name": "x".repeat(51) })),
            1001,
            &["name", "50"],
        ),
        (
            job("version-up", json!({ "version": "../../etc" })),
            1001,
            &["version"],
        ),
        (
            job("scheme", json!({ "url": "gopher://host/x" })),
            1001,
            &["url", "ftp://"],
        ),
        (
            job("checksum", json!({ "checksum": "MD5:00" })),
            1001,
            &["SHA256"],
        ),
        (
            job("limits", json!({ "limits": { "memory": "1T" } })),
            1001,
            &["1T"],
        ),
        (
            job("envs", json!({ "envs": { "A=B": "" } })),
            1001,
            &["envs", "A=B"],
        ),
        (
            json!({ "id": "step", "action": "config", "step": 0 }),
            1001,
            &["step", "3600"],
        ),
        (
            job("long", json!({ "envs": { "LONG": long } })),
            1001,
            &["65536"],
        ),
        (
            json!({ "id": "to-nothing", "action": "config", "name": NAME }),
            1001,
            &["envs or limits"],
        ),
    ]);
    // Without an id there is no result, and its neighbours are done.
    stage.fake.offer(json!("no object"));
    stage.fake.offer(json!({ "action": "stop", "name": NAME }));
    stage
        .fake
        .offer(json!({ "id": "a\nb", "action": "stop", "name": NAME }));
    stage
        .fake
        .succeed(json!({ "id": "neighbour", "action": "start", "name": NAME }));
    stage.assert_undisturbed();
}

#[test]
fn an_unknown_action_or_agent_is_refused_with_what_is_known() {
    let stage = Stage::new("");
    let of = |action: &str| {
        let id = format!("{action}-nobody");
        json!({ "id": id, "action": action, "name": "nobody", "envs": {} })
    };
    stage.refuses(&[
        (
            json!({ "id": "explode", "action": "explode", "name": NAME }),
            1002,
            &["explode", "install", "cancel"],
        ),
        // Case is spelling, and spelling is the document's.
        (
            json!({ "id": "Stop", "action": "Stop", "name": NAME }),
            1002,
            &["Stop"],
        ),
        (of("start"), 1003, &["nobody"]),
        (of("stop"), 1003, &["nobody"]),
        (of("restart"), 1003, &["nobody"]),
        (of("config"), 1003, &["nobody"]),
        (of("uninstall"), 1003, &["nobody"]),
    ]);
}

#[test]
fn an_id_stands_for_one_job_and_one_result() {
    let stage = Stage::new("");
    let job = json!({ "id": "once", "action": "config", "name": NAME, "envs": { "A": "1" } });
    stage.fake.succeed(job.clone());
    let process = stage.host.process(NAME);

    // The same job again, its keys in another order: the same answer, and
    // nothing is done.
    let before = stage.fake.results("once").len();
    stage
        .fake
        .offer(json!({ "name": NAME, "envs": { "A": "1" }, "action": "config", "id": "once" }));
    let again = wait::until("the result again", || {
        stage.fake.results("once").get(before).cloned()
    });
    assert_eq!(again["errcode"], 0);
    assert_eq!(stage.host.process(NAME), process, "it was not started anew");

    // Another job under that id: refused, and the first result stands.
    let before = stage.fake.results("once").len();
    stage
        .fake
        .offer(json!({ "id": "once", "action": "stop", "name": NAME }));
    let reused = wait::until("the refusal", || {
        stage.fake.results("once").get(before).cloned()
    });
    assert_eq!(reused["errcode"], 1004);
    let message = reused["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("once") && message.contains("another body"),
        "{message}"
    );
    assert_eq!(stage.host.process(NAME), process, "it was not stopped");
    let before = stage.fake.results("once").len();
    stage.fake.offer(job);
    let stands = wait::until("the first result", || {
        stage.fake.results("once").get(before).cloned()
    });
    assert_eq!(stands["errcode"], 0);
}

#[test]
fn an_expired_job_does_not_begin_and_a_cancelled_one_neither() {
    // A download that takes its time holds up what comes after it.
    let stage = Stage::with_script("[download]\ntimeout = 4\nstall_timeout = 4\n", |asked| {
        (asked.path() == "/slow").then_some(Answer::Silence)
    });
    stage.refuses(&[(
        json!({ "id": "late", "action": "stop", "name": NAME, "expires": 1 }),
        1005,
        &["expired"],
    )]);
    stage
        .fake
        .offer(json!({ "id": "slow", "action": "install", "name": "other", "url": "/slow" }));
    stage
        .fake
        .offer(json!({ "id": "waits", "action": "stop", "name": NAME }));
    wait::until_true("the slow job to be accepted", || {
        let statuses = stage.fake.statuses();
        statuses
            .last()
            .is_some_and(|last| last.body["accepted"] == json!(["slow", "waits"]))
    });
    stage.refuses(&[(
        json!({ "id": "cancel-none", "action": "cancel", "cancels": "no such job" }),
        1005,
        &["no such job"],
    )]);
    stage
        .fake
        .succeed(json!({ "id": "cancel-it", "action": "cancel", "cancels": "waits" }));
    let cancelled = stage.fake.result("waits");
    assert_eq!(cancelled["errcode"], 1006, "{cancelled}");
    // What has begun is not torn away; it ends by itself.
    stage.refuses(&[(
        json!({ "id": "cancel-slow", "action": "cancel", "cancels": "slow" }),
        1005,
        &["slow", "begun"],
    )]);
    assert_eq!(stage.fake.result("slow")["errcode"], 2005);
    stage.assert_undisturbed();
    assert!(
        stage
            .fake
            .results("waits")
            .iter()
            .all(|result| result["errcode"] == 1006)
    );
}

#[test]
fn the_result_of_a_refused_job_does_not_wait_for_the_next_step() {
    let fake = FakeServer::start();
    fake.offer(json!({ "id": "first", "action": "dance" }));
    let settings = Settings {
        push: "step = 3600\nmin_step = 1\n".into(),
        ..Settings::new(&fake.address())
    };
    let _host = Agent::start(&settings);
    let result = wait::until("its result", || fake.results("first").first().cloned());
    assert_eq!(result["errcode"], 1002, "{result}");
}
