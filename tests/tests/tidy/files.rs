//! The shape of source files: a heading, a length, and where unsafe code is.

use std::path::Path;

use crate::{assert_none, files_ending_in, read, shown};

/// More than this is two files.
const MAX_LINES: usize = 500;

/// Whether the file holds tests only. These may be longer, and `tests.rs` is
/// the lower half of the file beside it, which has the heading.
fn is_test(path: &Path) -> bool {
    is_lower_half(path) || path.components().any(|part| part.as_os_str() == "tests")
}

fn is_lower_half(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let mut wrong = Vec::new();
    for path in files_ending_in(".rs") {
        if !is_lower_half(&path) && !read(&path).starts_with("//! ") {
            wrong.push(shown(&path));
        }
    }
    assert_none(&wrong, "files that do not begin with //!");
}

#[test]
fn no_file_is_longer_than_one_can_keep_in_mind() {
    let mut wrong = Vec::new();
    for path in files_ending_in(".rs").iter().filter(|path| !is_test(path)) {
        let text = read(path);
        // Unit tests at the end do not count.
        let product = text.lines().take_while(|line| *line != "#[cfg(test)]");
        let lines = product.count();
        if lines > MAX_LINES {
            wrong.push(format!("{}: {lines} lines", shown(path)));
        }
    }
    assert_none(&wrong, "files with more than 500 lines");
}

#[test]
fn unsafe_code_has_one_file_per_crate() {
    // Put together, so that this file does not find itself.
    let lint = ["unsafe", "code"].join("_");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in files_ending_in(".rs") {
        let permits = ["allow", "expect", "warn"].map(|level| format!("{level}({lint}"));
        let text = read(&path);
        // The attribute may stand on one line or on several.
        let joined: String = text.split_whitespace().collect();
        if permits.iter().any(|permit| joined.contains(permit)) {
            seen += 1;
            let home = path.file_name().is_some_and(|name| name == "sys.rs");
            if !home || !text.contains("// SAFETY:") {
                wrong.push(shown(&path));
            }
        }
    }
    assert_none(
        &wrong,
        "unsafe code belongs into sys.rs, each block with // SAFETY:",
    );
    assert!(
        seen > 0,
        "no file permits unsafe code; this test looks for the wrong words"
    );
}
