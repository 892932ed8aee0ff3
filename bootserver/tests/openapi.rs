//! The committed document is what the routes say, and it covers what is said
//! on the wire. `UPDATE=1` writes it anew.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

#[test]
fn the_committed_document_is_what_the_routes_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let made = bootserver::openapi::document();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &made).expect("the document can be written");
    }
    let committed = std::fs::read_to_string(&path).expect("the document is committed");
    assert!(
        committed == made,
        "openapi.json is not what the routes say; run UPDATE=1 cargo test -p bootserver --test openapi"
    );
}

#[test]
fn every_operation_has_its_own_id_and_says_how_it_fails() {
    let document: Value =
        serde_json::from_str(&bootserver::openapi::document()).expect("the document is JSON");
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let id = operation["operationId"].as_str().expect("an operation id");
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            let responses = operation["responses"].as_object().expect("responses");
            let open = operation["security"] == serde_json::json!([{}]);
            let to_all = ["healthz", "readyz", "sign_in"].contains(&id);
            assert_eq!(open, to_all, "{method} {path}");
            assert!(open || responses.contains_key("401"), "{method} {path}");
            assert!(responses.contains_key("503"), "{method} {path}");
            assert!(open || responses.contains_key("429"), "{method} {path}");
            let has_body = operation.get("requestBody").is_some();
            assert_eq!(has_body, responses.contains_key("415"), "{method} {path}");
            let names_one = path.contains('{');
            assert!(
                !names_one || responses.contains_key("404"),
                "{method} {path}"
            );
        }
    }
    assert!(ids.len() >= 20, "{ids:?}");
}

/// Every key of the golden messages is in the schema of its type, so that the
/// schemas, which are written by hand, do not fall behind.
#[test]
fn the_schemas_know_every_key_of_the_golden_messages() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/golden");
    let document: Value =
        serde_json::from_str(&bootserver::openapi::document()).expect("the document is JSON");
    let schemas = &document["components"]["schemas"];
    let mut checked = 0;
    for entry in std::fs::read_dir(&golden).expect("the golden messages") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let schema = match name {
            name if name.starts_with("register_request") => "RegisterRequest",
            name if name.starts_with("register_reply") => "RegisterReply",
            name if name.starts_with("status_request") => "StatusRequest",
            name if name.starts_with("status_reply") => "StatusReply",
            _ => continue,
        };
        let text = std::fs::read_to_string(&path).expect("a golden message");
        let message: Value = serde_json::from_str(&text).expect("JSON");
        known_keys(&message, &schemas[schema], schemas, name);
        checked += 1;
    }
    assert!(
        checked >= 4,
        "only {checked} golden messages were found in {}",
        golden.display()
    );
}

fn known_keys(message: &Value, schema: &Value, schemas: &Value, at: &str) {
    let schema = resolve(schema, schemas);
    match message {
        Value::Object(fields) => {
            if schema["properties"].is_null() && !schema["additionalProperties"].is_null() {
                return;
            }
            for (key, value) in fields {
                let property = &schema["properties"][key];
                assert!(!property.is_null(), "{at}: the schema does not know {key}");
                known_keys(value, property, schemas, &format!("{at}.{key}"));
            }
        }
        Value::Array(items) => {
            for item in items {
                known_keys(item, &schema["items"], schemas, at);
            }
        }
        _ => {}
    }
}

/// Follows a reference, also through `oneOf` with null.
fn resolve<'a>(schema: &'a Value, schemas: &'a Value) -> &'a Value {
    if let Some(choices) = schema["oneOf"].as_array() {
        let real = choices.iter().find(|choice| choice["type"] != "null");
        return real.map_or(schema, |choice| resolve(choice, schemas));
    }
    match schema["$ref"]
        .as_str()
        .and_then(|path| path.rsplit('/').next())
    {
        Some(name) => &schemas[name],
        None => schema,
    }
}
