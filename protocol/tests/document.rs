//! PROTOCOL.md tells of the types as they are: each error code, each field of
//! each golden message, and its examples to the letter.

use std::collections::BTreeSet;
use std::path::Path;

use bootagent_protocol::{Action, AgentState, ErrorCode};
use serde_json::Value;

const DOCUMENT: &str = include_str!("../PROTOCOL.md");

fn golden_folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// What stands between backticks on one line.
fn code_spans() -> BTreeSet<&'static str> {
    let lines = DOCUMENT.lines();
    let spans = lines.flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.collect()
}

#[test]
fn every_error_code_has_its_row_and_no_row_is_made_up() {
    let (_, section) = DOCUMENT
        .split_once("\n## Error codes\n")
        .expect("the section is there");
    let (section, _) = section.split_once("\n## ").expect("others follow");
    let rows: Vec<(String, String)> = section
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let (code, meaning) = (cells.next()?, cells.next()?);
            code.parse::<u16>().ok()?;
            Some((code.to_owned(), meaning.to_owned()))
        })
        .collect();
    let table: Vec<(String, String)> = ErrorCode::TABLE
        .iter()
        .map(|row| (row.code.to_string(), row.meaning.to_owned()))
        .collect();
    assert_eq!(rows, table);
}

/// Every key of a message, but none of the names that are free: those of
/// environment variables.
fn keys<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                found.insert(key);
                if key != "envs" {
                    keys(value, found);
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_field_of_every_golden_message_is_described() {
    let spans = code_spans();
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(golden_folder()).expect("the golden folder is there") {
        let path = entry.expect("readable").path();
        let text = std::fs::read_to_string(&path).expect("readable");
        let message: Value = serde_json::from_str(&text).expect("golden files are JSON");
        let mut found = BTreeSet::new();
        keys(&message, &mut found);
        assert!(!found.is_empty(), "{} has no field", path.display());
        let missing = found.into_iter().filter(|key| !spans.contains(key));
        wrong.extend(missing.map(|key| format!("{key} of {}", path.display())));
    }
    assert_eq!(wrong, Vec::<String>::new(), "PROTOCOL.md does not tell of");
}

#[test]
fn every_action_and_state_is_described() {
    let spans = code_spans();
    for action in Action::ALL {
        assert!(spans.contains(action.as_str()), "{}", action.as_str());
    }
    for state in [
        AgentState::Stoped,
        AgentState::Running,
        AgentState::Fatal,
        AgentState::Killed,
    ] {
        assert!(spans.contains(state.as_str()), "{}", state.as_str());
    }
}

#[test]
fn every_example_is_a_golden_file_to_the_letter() {
    let mut blocks = DOCUMENT.split("```json\n");
    let mut before = blocks.next().expect("split gives at least one part");
    let mut seen = 0;
    for block in blocks {
        let (example, after) = block.split_once("```").expect("the block is closed");
        let line = before.trim_end().lines().last().unwrap_or_default();
        let name = line
            .strip_prefix("`golden/")
            .and_then(|rest| rest.strip_suffix("`:"))
            .unwrap_or_else(|| panic!("{line:?} before an example names no golden file"));
        let golden = std::fs::read_to_string(golden_folder().join(name)).expect("it is there");
        assert_eq!(example, golden, "{name}");
        seen += 1;
        before = after;
    }
    assert!(seen >= 3, "only {seen} examples were found");
}
