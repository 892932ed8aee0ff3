//! The sub-agents that are installed: could each be started?
//!
//! The one rule: one agent's fault is told with its name and stops no other
//! check.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bootagent_core::restart::Policy;
use bootagent_protocol::{AgentType, Manifest};
use caps::{CapSet, Capability};

use super::program::obstacle;
use super::{Check, Subject};
use crate::engine::{Loaded, scan};
use crate::spawn;

const NAME: &str = "agents";
/// Longest path of a Unix socket, in bytes, without the closing zero.
const MAX_SOCKET_PATH: usize = 107;

/// Every manifest, valid or not, and what the metafile still wants.
pub(super) fn agents(subject: &Subject<'_>) -> Vec<Check> {
    let (loaded, invalid) = scan(&subject.paths);
    let mut checks: Vec<Check> = invalid
        .into_iter()
        .map(|(path, text)| Check::fail(NAME, format!("{path}: {text}")))
        .collect();
    for agent in &loaded {
        checks.extend(one(subject, agent));
    }
    for (name, intent) in subject
        .metafile
        .iter()
        .flat_map(|metafile| &metafile.children)
    {
        let manifest = loaded.iter().find(|loaded| loaded.manifest.name == *name);
        if intent.wanted_running && manifest.is_none() {
            let text =
                format!("{name} is wanted running and has no valid manifest; install it again");
            checks.push(Check::warn(NAME, text));
        }
        if let Some(envs) = &intent.envs {
            checks.extend(path_with_semicolon(
                &format!("{name} (envs of a job)"),
                envs,
            ));
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, "none is installed yet"));
    }
    checks
}

fn one(subject: &Subject<'_>, Loaded { manifest, folder }: &Loaded) -> Vec<Check> {
    let name = &manifest.name;
    let mut checks = Vec::new();
    let account = match subject.privilege.account(manifest) {
        Ok(account) => account,
        Err(text) => {
            let text = format!("{name}: {text}; create it or correct the manifest");
            checks.push(Check::fail(NAME, text));
            None
        }
    };
    let programs = [
        Some(("exec", &manifest.exec)),
        manifest.check.as_ref().map(|argv| ("check", argv)),
    ];
    for (key, argv) in programs.into_iter().flatten() {
        let words = spawn::resolve(argv, folder);
        let program = words.first().map(Path::new).unwrap_or(folder);
        if let Some(obstacle) = obstacle(program, account.as_ref()) {
            checks.push(obstacle.into_check(NAME, &format!("{name}: {key}")));
        }
    }
    checks.extend(capabilities(manifest));
    checks.extend(overrides(manifest, subject.config.policy()));
    checks.extend(path_with_semicolon(name.as_str(), &manifest.envs));
    let socket = subject.paths.notify_sockets().join(name.as_str());
    if socket.as_os_str().len() > MAX_SOCKET_PATH {
        let text = format!(
            "{name}: {} is longer than a socket's path may be ({MAX_SOCKET_PATH} bytes); choose a \
             shorter root",
            socket.display()
        );
        checks.push(Check::fail(NAME, text));
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, summary(manifest)));
    }
    checks
}

fn summary(manifest: &Manifest) -> String {
    let kind = match manifest.agent_type {
        AgentType::Simple => "simple",
        AgentType::Notify => "notify",
        AgentType::Oneshot => "oneshot",
    };
    format!(
        "{} {} ({kind}) can be started",
        manifest.name, manifest.version
    )
}

/// Overrides of the restart policy that are left out, because one of them is
/// beyond what the policy takes.
fn overrides(manifest: &Manifest, policy: Policy) -> Option<Check> {
    let restart = manifest.restart.as_ref()?;
    let seconds = |given: Option<u64>, policy| given.map_or(policy, Duration::from_secs);
    let taken = Policy::new(
        policy.check(),
        seconds(restart.holdoff, policy.holdoff()),
        seconds(restart.stable, policy.stable()),
        restart.max_anomalies.unwrap_or(policy.max_anomalies()),
    );
    let error = taken.err()?;
    let text = format!(
        "{}: restart.{}: {} is expected, so none of its overrides counts; correct the manifest",
        manifest.name, error.key, error.expected
    );
    Some(Check::warn(NAME, text))
}

/// Names nobody knows, and capabilities nobody may have here (a container).
fn capabilities(manifest: &Manifest) -> Vec<Check> {
    let name = &manifest.name;
    let bounding = caps::read(None, CapSet::Bounding).ok();
    let mut checks = Vec::new();
    for word in &manifest.capabilities {
        match (word.parse::<Capability>(), &bounding) {
            // As root the account has named it already.
            (Err(_), _) if nix::unistd::geteuid().is_root() => {}
            (Err(_), _) => {
                let text =
                    format!("{name}: capabilities: {word:?} is none, CAP_NET_RAW would be one");
                checks.push(Check::fail(NAME, text));
            }
            (Ok(capability), Some(bounding)) if !bounding.contains(&capability) => {
                let text = format!(
                    "{name}: {capability} is beyond what this process may give (its bounding set); \
                     allow it to the container or the unit"
                );
                checks.push(Check::fail(NAME, text));
            }
            _ => {}
        }
    }
    checks
}

/// Document 002's sample has a `;` in PATH, which no shell and no exec
/// understands. It is passed on to the letter all the same.
fn path_with_semicolon(who: &str, envs: &BTreeMap<String, String>) -> Option<Check> {
    let path = envs.get("PATH").filter(|path| path.contains(';'))?;
    let text = format!(
        "{who}: PATH has a ';' ({}): it is passed on as it is and nothing is found behind it; \
         separate with ':'",
        bootagent_protocol::truncate(path, 200)
    );
    Some(Check::warn(NAME, text))
}
