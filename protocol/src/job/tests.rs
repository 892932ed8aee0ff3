use serde_json::json;

use super::*;

fn code_of(value: &Value) -> ErrorCode {
    Job::parse(value).expect_err("refused").code
}

#[test]
fn a_job_of_document_002_is_valid_as_it_stands() {
    let job = Job::parse(&json!({
        "id": "ddc8a9b9", "action": "install", "name": "BasicAgent",
        "url": "ftp://server:21/BasicAgent/BasicAgent-0.1.0-0.x86_64.rpm",
        "envs": {"PATH": "/usr/bin;/usr/local/bin"},
        "limits": {"CPU": "10%", "memory": "20M"}, "a field of tomorrow": [1]
    }))
    .expect("valid");
    let envs = job.terms.envs.expect("envs");
    assert_eq!(envs["PATH"], "/usr/bin;/usr/local/bin");
}

#[test]
fn each_malformed_job_is_1001_and_names_its_field() {
    for (value, field) in [
        (json!(7), "object"),
        (json!({"action": "stop", "name": "a"}), "id"),
        (json!({"id": "a b", "action": "stop", "name": "a"}), "id"),
        (
            json!({"id": "x".repeat(128), "action": "stop", "name": "a"}),
            "id",
        ),
        (json!({"id": "1", "name": "a"}), "action"),
        (json!({"id": "1", "action": 3}), "action"),
        (json!({"id": "1", "action": "install", "name": "a"}), "url"),
        (json!({"id": "1", "action": "start"}), "name"),
        (
            json!({"id": "1", "action": "start", "name": "../a"}),
            "name",
        ),
        (json!({"id": "1", "action": "start", "name": "a/b"}), "name"),
        (
            json!({"id": "1", "action": "install", "name": "a", "url": "gopher://x"}),
            "url",
        ),
        (
            json!({"id": "1", "action": "install", "name": "a", "url": "//x/y"}),
            "url",
        ),
        (
            json!({"id": "1", "action": "install", "name": "a", "url": "/p", "version": "../1"}),
            "version",
        ),
        (
            json!({"id": "1", "action": "install", "name": "a", "url": "/p", "checksum": "x"}),
            "checksum",
        ),
        (json!({"id": "1", "action": "config"}), "svrlist"),
        (json!({"id": "1", "action": "config", "step": 0}), "step"),
        (json!({"id": "1", "action": "config", "step": 3601}), "step"),
        (json!({"id": "1", "action": "config", "name": "a"}), "envs"),
        (
            json!({"id": "1", "action": "config", "name": "a", "envs": {"A=B": "1"}}),
            "envs",
        ),
        (
            json!({"id": "1", "action": "config", "name": "a", "limits": {"CPU": "x"}}),
            "CPU",
        ),
        (json!({"id": "1", "action": "cancel"}), "cancels"),
    ] {
        let error = Job::parse(&value).expect_err("refused");
        assert_eq!(error.code, ErrorCode::MALFORMED_JOB, "{value}");
        assert!(
            error.message.contains(field),
            "{field} is not named in {:?}",
            error.message
        );
    }
}

#[test]
fn an_unknown_action_is_1002_and_an_overlong_job_1001() {
    assert_eq!(
        code_of(&json!({"id": "1", "action": "explode"})),
        ErrorCode::UNKNOWN_ACTION
    );
    let long =
        json!({"id": "1", "action": "stop", "name": "a", "signature": "x".repeat(MAX_JOB_BYTES)});
    assert_eq!(code_of(&long), ErrorCode::MALFORMED_JOB);
}

#[test]
fn a_refused_job_keeps_its_id_so_that_it_can_be_answered() {
    let error = Job::parse(&json!({"id": "1", "action": "start"})).expect_err("refused");
    assert_eq!(error.id.as_deref(), Some("1"));
}

#[test]
fn the_digest_ignores_key_order_and_sees_every_value() {
    let digest = |text: &str| Job::digest(&serde_json::from_str(text).expect("json"));
    assert_eq!(
        digest(r#"{"a":1,"b":{"c":2,"d":3}}"#),
        digest(r#"{"b":{"d":3,"c":2},"a":1}"#)
    );
    assert_ne!(digest(r#"{"a":1}"#), digest(r#"{"a":2}"#));
}
