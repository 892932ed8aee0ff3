//! What this process may do for children of other accounts.
//!
//! The one rule: only what would keep a child from starting is a failure.

use caps::{CapSet, Capability};
use nix::unistd::geteuid;

use super::{Check, Subject};
use crate::spawn::Privilege;

/// Without these no child can be given its account.
const NEEDED: [Capability; 3] = [
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
];
/// Without these it works only in part: what each is for.
const USEFUL: [(Capability, &str); 4] = [
    (Capability::CAP_KILL, "stopping children of other users"),
    (Capability::CAP_CHOWN, "giving children their folders"),
    (Capability::CAP_DAC_OVERRIDE, "reading what children wrote"),
    (
        Capability::CAP_SYS_RESOURCE,
        "raising a child's limit of open files",
    ),
];

/// The rights of this process, as the daemon would have them.
pub(super) fn privilege(subject: &Subject<'_>) -> Vec<Check> {
    match &subject.privilege {
        Privilege::Ourselves => {
            let text = format!(
                "uid {}: every child runs as this user without capabilities, and no rpm or deb can \
                 be installed; run as root",
                geteuid()
            );
            vec![Check::warn("privilege", text)]
        }
        Privilege::Root { has_ambient, .. } => {
            let held = caps::read(None, CapSet::Effective).unwrap_or_default();
            let mut checks = judge(&|capability| held.contains(&capability));
            if !has_ambient {
                let text = "the kernel has no ambient capabilities: children with capabilities run \
                            as uid 0 with a reduced set";
                checks.push(Check::warn("privilege", text));
            }
            checks
        }
    }
}

fn judge(has: &dyn Fn(Capability) -> bool) -> Vec<Check> {
    let lacking: Vec<_> = NEEDED
        .iter()
        .filter(|needed| !has(**needed))
        .map(|c| c.to_string())
        .collect();
    let mut checks = Vec::new();
    if !lacking.is_empty() {
        let text = format!(
            "root without {}: no child can be given its account; start it with them",
            lacking.join(", ")
        );
        checks.push(Check::fail("privilege", text));
    }
    for (capability, purpose) in USEFUL.iter().filter(|(capability, _)| !has(*capability)) {
        let text = format!("root without {capability}: it is needed for {purpose}");
        checks.push(Check::warn("privilege", text));
    }
    if checks.is_empty() {
        checks.push(Check::ok(
            "privilege",
            "root, children get users and capabilities of their own",
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_needed_capability_fails_and_a_useful_one_warns() {
        let levels = |lacking: &[Capability]| -> Vec<Level> {
            let checks = judge(&|capability| !lacking.contains(&capability));
            checks.iter().map(|check| check.level).collect()
        };
        assert_eq!(levels(&[]), [Level::Ok]);
        assert_eq!(levels(&[Capability::CAP_SETUID]), [Level::Fail]);
        assert_eq!(levels(&[Capability::CAP_KILL]), [Level::Warn]);
        assert_eq!(levels(&[Capability::CAP_NET_RAW]), [Level::Ok]);
    }
}
