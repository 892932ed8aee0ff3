//! What a server answers: a registration, a status with jobs.
#![no_main]

use bootagent::download::Url;
use bootagent_kit::servers::{Server, ServerList};
use bootagent_protocol::{ErrorCode, Job, RegisterReply, StatusReply};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Whether a number in it is not exactly kept when it is written and read
/// again. A job has none; a field that nobody knows may.
fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(reply) = serde_json::from_slice::<RegisterReply>(data)
        && let Some(token) = reply.token
    {
        assert!(!token.contains(char::is_control), "it goes into a header");
    }
    let Ok(reply) = serde_json::from_slice::<StatusReply>(data) else {
        return;
    };
    let server: Server = "http://[::1]:8080".parse().expect("a server");
    for value in &reply.jobs {
        if !has_fraction(value) {
            let again = serde_json::from_str(&value.to_string()).expect("JSON");
            assert_eq!(
                Job::digest(value),
                Job::digest(&again),
                "as another server says it"
            );
        }
        match Job::parse(value) {
            Ok(job) => {
                // As the journal keeps it.
                let text = serde_json::to_string(&job).expect("keys are strings");
                let kept: Job = serde_json::from_str(&text).expect("it reads back");
                assert!(kept == job, "{text}");
                if let Some(url) = &job.terms.url {
                    let _ = Url::parse(url, Some(&server));
                }
                if let Some(list) = &job.terms.svrlist {
                    let _ = ServerList::parse(list);
                }
            }
            Err(error) => {
                let refused = [ErrorCode::MALFORMED_JOB, ErrorCode::UNKNOWN_ACTION];
                assert!(refused.contains(&error.code), "{}", error.message);
                assert!(!error.message.contains('\0'), "a result takes no U+0000");
            }
        }
    }
});
