//! What the host offers: a package manager, limits, the time.
//!
//! The one rule: what is missing here only takes something away from jobs or
//! children; the daemon runs without, so it is never a failure.

use std::path::Path;

use bootagent_kit::clock;

use super::{Check, Subject};
use crate::cgroup;
use crate::package::Kind;
use crate::spawn::Privilege;

/// 2024-01-01: no build is older, so no host's clock may be.
const PLAUSIBLE_UNIX_SECONDS: u64 = 1_704_067_200;

/// Which kinds of packages a job may order.
pub(super) fn package_manager(subject: &Subject<'_>) -> Vec<Check> {
    let root = subject.paths.root();
    let mut kinds = Vec::new();
    let mut reason = String::new();
    for kind in [Kind::Rpm, Kind::Deb] {
        match kind.check_supported(root) {
            Ok(()) => kinds.push(kind.to_string()),
            Err(failure) => reason = failure.to_string(),
        }
    }
    vec![match kinds.as_slice() {
        [] if !subject.paths.is_system() => {
            let text = format!(
                "root is {}: only bundles can be installed (3005)",
                root.display()
            );
            Check::warn("packages", text)
        }
        [] => Check::warn(
            "packages",
            format!("only bundles can be installed: {reason}"),
        ),
        kinds => Check::ok(
            "packages",
            format!("{} and bundles can be installed", kinds.join(", ")),
        ),
    }]
}

/// Whether packages need a signature. Both are right for somebody, so neither
/// is a warning.
pub(super) fn signatures(subject: &Subject<'_>) -> Vec<Check> {
    let text = match subject.config.trusted_keys.len() {
        0 => "not needed: trusted_keys is empty, every package a job names is taken".to_owned(),
        1 => "needed, of the 1 trusted key".to_owned(),
        keys => format!("needed, of one of {keys} trusted keys"),
    };
    vec![Check::ok("signatures", text)]
}

/// Whether limits of children can be enforced.
pub(super) fn limits(subject: &Subject<'_>) -> Vec<Check> {
    let in_scope = subject.paths.is_system()
        && subject.privilege != Privilege::Ourselves
        && cgroup::scope::is_used();
    let folders = ["/usr/bin", "/bin"];
    let has_systemd_run = folders
        .iter()
        .any(|folder| Path::new(folder).join("systemd-run").exists());
    vec![match cgroup::probe::probe(&subject.config.cgroup_name()) {
        Err(reason) => Check::warn(
            "limits",
            format!("CPU and memory limits are not possible: {reason}"),
        ),
        Ok(_) if in_scope && !has_systemd_run => Check::warn(
            "limits",
            "there is no systemd-run to make a scope with; install systemd whole",
        ),
        Ok(found) if in_scope => {
            Check::ok("limits", format!("{found}, in {}", cgroup::scope::SCOPE))
        }
        Ok(found) => Check::ok("limits", found),
    }]
}

/// Whether the time can be right. Nothing is decided by it here, but
/// certificates are, and people read it.
pub(super) fn clock() -> Vec<Check> {
    vec![judge_clock(clock::unix_seconds())]
}

fn judge_clock(seconds: u64) -> Check {
    let stamp = clock::Stamp::from_unix(seconds);
    if seconds < PLAUSIBLE_UNIX_SECONDS {
        let text = format!(
            "{stamp} cannot be right: no certificate will be valid; set the clock, for instance with chrony"
        );
        return Check::warn("clock", text);
    }
    Check::ok("clock", stamp.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_clock_before_this_program_is_wrong() {
        assert_eq!(judge_clock(PLAUSIBLE_UNIX_SECONDS).level, Level::Ok);
        let check = judge_clock(0);
        assert_eq!(check.level, Level::Warn);
        assert!(check.message.contains("set the clock"), "{}", check.message);
    }
}
