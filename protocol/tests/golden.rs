//! Each golden file reads into its type and writes back to the same JSON: no
//! key is lost, none is misspelt. Files ending in `_002` are document 002's
//! samples, with comments and trailing commas removed and the second job
//! given an id of its own.

use std::path::Path;

use bootagent_protocol::{
    AgentReport, AgentState, Job, Manifest, RegisterReply, RegisterRequest, StatusReply,
    StatusRequest, Uplink,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The one place that touches the types.
fn check<T: Serialize + DeserializeOwned>(name: &str) -> T {
    let text = read(name);
    let expected: Value = serde_json::from_str(&text).expect("golden files are JSON");
    let read: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = serde_json::to_value(&read).expect("messages are serialisable");
    assert_eq!(written, expected, "{name}: written back differently");
    read
}

#[test]
fn every_golden_file_reads_and_writes_back_the_same() {
    check::<RegisterRequest>("register_request_002.json");
    check::<RegisterReply>("register_reply_002.json");
    check::<StatusRequest>("status_request_002.json");
    check::<StatusReply>("status_reply_002.json");
    check::<RegisterRequest>("register_request.json");
    check::<RegisterReply>("register_reply.json");
    check::<StatusRequest>("status_request.json");
    check::<StatusReply>("status_reply.json");
    check::<Uplink>("uplink.json");
    check::<Manifest>("manifest.json");
}

#[test]
fn no_golden_file_is_left_unchecked() {
    let source = include_str!("golden.rs");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    for entry in std::fs::read_dir(folder).expect("the golden folder is there") {
        let name = entry
            .expect("readable")
            .file_name()
            .into_string()
            .expect("ASCII names");
        assert!(source.contains(&name), "{name} has no check");
    }
}

#[test]
fn every_job_of_the_golden_replies_is_valid_and_writes_back_the_same() {
    for name in ["status_reply_002.json", "status_reply.json"] {
        for value in check::<StatusReply>(name).jobs {
            let job = Job::parse(&value).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(serde_json::to_value(&job).ok(), Some(value), "{name}");
        }
    }
}

#[test]
fn a_status_written_by_us_has_every_key_of_document_002() {
    let report = AgentReport {
        name: "a".into(),
        version: "1".into(),
        status: AgentState::Stoped,
        uptime: 0,
        wanted: None,
        detail: None,
        retry_in: None,
        anomalies: None,
        message: None,
        pid: None,
        limits: None,
    };
    let result =
        bootagent_protocol::JobResult::new("1", bootagent_protocol::ErrorCode::SUCCESS, "");
    let ours = StatusRequest {
        agents: vec![report],
        jobs: vec![result],
        ..StatusRequest::default()
    };
    let ours = serde_json::to_value(&ours).expect("serialisable");
    let theirs: Value = serde_json::from_str(&read("status_request_002.json")).expect("JSON");
    assert_keys(&ours, &theirs, "status");
}

fn assert_keys(ours: &Value, theirs: &Value, at: &str) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (key, value) in theirs {
                let mine = ours
                    .get(key)
                    .unwrap_or_else(|| panic!("{at}.{key} is missing"));
                assert_keys(mine, value, &format!("{at}.{key}"));
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_keys(&ours[0], &theirs[0], &format!("{at}[0]"));
        }
        _ => assert_eq!(
            std::mem::discriminant(ours),
            std::mem::discriminant(theirs),
            "{at} has another type"
        ),
    }
}
