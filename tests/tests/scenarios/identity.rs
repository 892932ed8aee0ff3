//! Promise: a host keeps its identity and loses its secret only to an operator;
//! two machines that share an identity are told apart.

use std::path::Path;
use std::process::Command;

use e2e::agent::{Agent, Settings, is_root};
use e2e::server::Server;
use e2e::{http, wait};
use serde_json::json;

/// Statuses every second, so that a copy shows itself soon.
const OFTEN: &str = "step = 1\nmin_step = 1\n";

fn settings(server: &Server) -> Settings {
    Settings {
        push: OFTEN.into(),
        ..Settings::of(server)
    }
}

/// Another host with the disk of `host`, started as if `file` of its machine
/// had another content.
fn copy(host: &Agent, settings: &Settings, file: &str, content: &str) -> Agent {
    // It sees the file in a mount namespace of its own.
    let other = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(other.path(), content).expect("written");
    let (_, path) = other.keep().expect("kept");
    let script = "mount --bind \"$0\" \"$1\" && rm \"$0\" && shift && exec \"$@\"";
    let launcher = ["unshare", "-m", "sh", "-c", script];
    let launcher = launcher.iter().map(|word| (*word).to_owned());
    let arguments = [path.display().to_string(), file.to_owned()];
    let settings = Settings {
        launcher: launcher.chain(arguments).collect(),
        servers: settings.servers.clone(),
        enrolment_token: None,
        keys: Vec::new(),
        push: settings.push.clone(),
        tables: String::new(),
    };
    let mut copy = Agent::prepare(&settings);
    let state = copy.path("var/lib");
    std::fs::create_dir_all(&state).expect("a folder");
    let copied = Command::new("cp")
        .arg("-a")
        .arg(host.path("var/lib/bootagent"))
        .arg(&state)
        .status();
    assert!(copied.expect("cp can be run").success());
    copy.run();
    copy
}

/// Both go on as two hosts, and the original is the one it was.
fn are_told_apart(file: &str, content: &str) {
    if !is_root() || !Path::new("/usr/bin/unshare").exists() {
        println!("SKIPPED: a copied disk, because another {file} needs root and unshare");
        return;
    }
    let server = Server::start();
    let settings = settings(&server);
    let mut host = Agent::start(&settings);
    let sn = host.until_confirmed();
    let secret = host.metafile()["token"].clone();
    host.stop();
    let copy = copy(&host, &settings, file, content);
    host.run();
    // Both wait up to 10 s with their first call, and the copy again with its
    // registration.
    wait::within(
        wait::PATIENCE * 3,
        "an identity of its own for the copy",
        || (copy.agentsn() != sn).then_some(()),
    );
    let other = copy.agentsn();
    let online = |sn: &str| server.host(sn)["state"] == "online";
    wait::until_true("both to be there", || online(&sn) && online(&other));
    let seen = server.host(&sn)["seen"].clone();
    wait::until_true("another status of the original", || {
        server.host(&sn)["seen"] != seen
    });
    assert_eq!(host.agentsn(), sn);
    assert_eq!(host.metafile()["token"], secret, "it was not disturbed");
    assert_ne!(copy.metafile()["token"], secret);
    assert!(server.log().contains("two machines share this identity"));
}

#[test]
fn a_copied_disk_in_another_machine_gets_an_identity_of_its_own() {
    are_told_apart("/etc/machine-id", "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f\n");
}

#[test]
fn a_copied_disk_with_the_same_machine_id_is_told_by_its_boot() {
    let boot_id = "/proc/sys/kernel/random/boot_id";
    are_told_apart(boot_id, "3a1e9a52-7f3b-4f63-9a52-0c9a1f2b7d11\n");
}

#[test]
fn a_secret_an_operator_replaces_is_taken_over_and_the_old_one_is_dead() {
    let server = Server::start();
    let mut host = Agent::start(&settings(&server));
    let sn = host.until_confirmed();
    let secret = host.metafile()["token"].clone();
    let ordered = server.post(&format!("/hosts/{sn}/rotate-secret"), &json!({}));
    assert_eq!(ordered.status, 202);
    wait::until_true("a new secret", || host.metafile()["token"] != secret);
    let another_status = || {
        let seen = server.host(&sn)["seen"].clone();
        wait::until_true("another status", || server.host(&sn)["seen"] != seen);
    };
    another_status();
    another_status();
    let secret = secret.as_str().expect("a secret");
    let bearer = format!("Authorization: Bearer {secret}");
    let status = json!({
        "hostname": "h", "agentsn": sn, "version": "v", "uptime": 1, "timestamp": 1, "step": 600,
        "agents": [], "jobs": [],
    });
    let body = status.to_string();
    let path = "/agent/status";
    let refused = http::exchange(server.address, "POST", path, &[bearer], body.as_bytes());
    assert_eq!(refused.expect("an answer").status, 401);
    // The next BootAgent finds the new one.
    host.stop();
    host.run();
    another_status();
    assert_eq!(host.agentsn(), sn);
}
