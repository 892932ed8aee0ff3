//! The enrolment token a new host registers with.
//!
//! The one rule: the token itself is never shown.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bootagent_kit::fs::read_limited;

use super::{Check, Subject, chain};

const NAME: &str = "token";
/// Longest token file, in bytes.
const MAX_BYTES: u64 = 4096;

/// Whether the host could enrol, if it still has to.
pub(super) fn enrolment_token(subject: &Subject<'_>) -> Vec<Check> {
    let metafile = subject.metafile.as_ref();
    let is_enrolled = metafile.is_some_and(|found| found.confirmed || found.token.is_some());
    let option = subject.args.enrolment_token.as_deref();
    match option.or(subject.config.enrolment_token_file.as_deref()) {
        _ if option == Some(Path::new("-")) => {
            vec![Check::ok(
                NAME,
                "the enrolment token is read from standard input at the start",
            )]
        }
        Some(path) => file(path, is_enrolled),
        None if is_enrolled => vec![Check::ok(NAME, "none is needed, the host is enrolled")],
        None => {
            let text = "there is no enrolment token: a bootserver refuses a new host; name a file \
                        with -E or enrolment_token_file";
            vec![Check::warn(NAME, text)]
        }
    }
}

fn file(path: &Path, is_enrolled: bool) -> Vec<Check> {
    let shown = path.display();
    let bytes = match read_limited(path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() && is_enrolled => {
            return vec![Check::ok(
                NAME,
                format!("{shown} is gone, the host is enrolled without it"),
            )];
        }
        Err(error) if error.is_not_found() => {
            let text = format!(
                "there is no {shown}: a bootserver refuses a new host; put the token there"
            );
            return vec![Check::warn(NAME, text)];
        }
        Err(error) => {
            let text = format!("{}; the daemon does not start without it", chain(error));
            return vec![Check::fail(NAME, text)];
        }
    };
    let mut checks = Vec::new();
    let token = bytes.trim_ascii();
    if token.is_empty() {
        checks.push(Check::warn(
            NAME,
            format!("{shown} is empty; put the enrolment token there"),
        ));
    } else if !token.iter().all(u8::is_ascii_graphic) {
        let text = format!("{shown} holds more than one word; put only the token there");
        checks.push(Check::fail(NAME, text));
    }
    let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
    if mode & 0o004 != 0 {
        let text = format!("{shown} can be read by everybody on this host; chmod 600 {shown}");
        checks.push(Check::warn(NAME, text));
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, format!("{shown} holds one")));
    }
    checks
}
