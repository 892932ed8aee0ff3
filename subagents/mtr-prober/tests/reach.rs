//! The program as others reach it: from another machine, through a mounted socket, by Zabbix.
//!
//! Needs root and network namespaces; says aloud when it cannot run.

#[path = "support/daemon.rs"]
#[expect(dead_code, reason = "daemon.rs uses what this does not")]
mod daemon;
#[path = "support/world.rs"]
#[expect(dead_code, reason = "chain.rs uses what this does not")]
mod world;

use std::collections::BTreeSet;
use std::process::Command;

use daemon::Fixture;
use serde_json::Value;
use world::{Node, cable, cannot_run};

const TOKEN: &str = "a-token-nobody-guesses";

/// What curl is answered in a namespace: status and body.
fn curl(node: &Node, words: &[&str]) -> (u16, String) {
    let mut command = node.command("curl");
    let output = command
        .args(["-sS", "-g", "-m", "30", "-w", "\n%{http_code}"])
        .args(words)
        .output()
        .expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').expect("a status");
    assert_ne!(status, "000", "{output:?}");
    (status.parse().expect("a number"), body.to_owned())
}

#[test]
fn another_machine_needs_the_token_or_a_prefix_and_a_name_that_is_ours() {
    if cannot_run() {
        return;
    }
    let (here, there, listed) = (Node::new(), Node::new(), Node::new());
    cable(&here, "near", &there, "far", "5.1", "501");
    cable(&here, "second", &listed, "far", "5.2", "502");
    here.sh("ip link set lo up");
    let fixture = Fixture::new("listen = []");
    let token = fixture.dir.join("token");
    std::fs::write(&token, format!("{TOKEN}\n")).expect("written");
    let socket = fixture.socket();
    fixture.configure(&format!(
        "listen = [\"[::]:8081\", {socket:?}]\ntoken_file = {token:?}\n\
         allow = [\"10.5.2.0/24\", \"fd00:502::/64\"]"
    ));
    let mut command = here.command(env!("CARGO_BIN_EXE_mtr-prober"));
    command.current_dir(&fixture.dir);
    let program = fixture.start_with(fixture.dress(command));

    let from_there = "http://10.5.1.1:8081/api/mtr?ip=127.0.0.1&count=1";
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let (status, body) = curl(&there, &[from_there]);
    assert_eq!(status, 401, "{body} {}", fixture.log());
    assert!(body.contains("Bearer"), "{body}");
    let wrong = "Authorization: Bearer a-token-nobody-guesseS";
    assert_eq!(curl(&there, &["-H", wrong, from_there]).0, 401);
    assert_eq!(curl(&there, &["-H", &bearer, from_there]).0, 202);
    assert_eq!(curl(&there, &["http://[fd00:501::1]:8081/healthz"]).0, 401);

    let from_listed = "http://10.5.2.1:8081/api/mtr?ip=127.0.0.1&count=1";
    assert_eq!(curl(&listed, &[from_listed]).0, 202);
    assert_eq!(curl(&listed, &["http://[fd00:502::1]:8081/healthz"]).0, 200);
    // Who may ask is who sends, not where he is answered.
    there.sh("ip route add 10.5.2.0/24 via 10.5.1.1");
    assert_eq!(curl(&there, &[from_listed]).0, 401);

    // A page whose name was made to lead here, and one of another site.
    for foreign in [
        "Host: evil.example:8081",
        "Origin: http://evil.example",
        "Sec-Fetch-Site: cross-site",
    ] {
        for (node, url) in [
            (&listed, from_listed),
            (&here, "http://127.0.0.1:8081/healthz"),
        ] {
            let (status, body) = curl(node, &["-H", foreign, url]);
            assert_eq!(status, 403, "{foreign}: {body}");
        }
    }
    let accepted = curl(&here, &["http://127.0.0.1:8081/metrics"]).1;
    let counted = "\nmtr_prober_measurements_accepted_total 2\n";
    assert!(
        accepted.contains(counted),
        "what was refused was done: {accepted}"
    );
    program.stop();
}

#[test]
fn a_container_with_its_own_network_and_files_orders_through_a_mounted_socket() {
    if cannot_run() {
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let fixture = Fixture::new(&format!(
        "listen = [{:?}]",
        folder.path().join("s/api.sock")
    ));
    std::fs::create_dir(folder.path().join("s")).expect("made");
    let program = fixture.start();
    // As a container sees it: a network of its own without any way out, and the folder at another place.
    let script = "mkdir \"$1/inside\" && mount --bind \"$1/s\" \"$1/inside\" && mount -t tmpfs none \"$1/s\" && \
        MTR_PROBER_SOCKET=$1/inside/api.sock setpriv --reuid=65534 --regid=65534 --clear-groups sh \"$2\" 127.0.0.1 4711";
    let action = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../contrib/zabbix/mtr-on-event.sh"
    );
    let copy = folder.path().join("mtr-on-event.sh");
    std::fs::copy(action, &copy).expect("copied");
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), all).expect("set");
    let output = Command::new("unshare")
        .args([
            "-n",
            "-m",
            "--propagation",
            "private",
            "sh",
            "-ec",
            script,
            "-",
        ])
        .args([folder.path(), &copy])
        .output()
        .expect("unshare runs");
    assert!(output.status.success(), "{output:?}");
    let accepted: Value = serde_json::from_slice(&output.stdout).expect("an answer");
    assert_eq!(accepted["state"], "accepted", "{accepted}");
    program.stop();
}

#[test]
fn the_zabbix_template_asks_for_numbers_that_there_are() {
    if !daemon::is_root() {
        return;
    }
    let text = include_str!("../../../contrib/zabbix/template.json");
    let document: Value = serde_json::from_str(text).expect("JSON");
    let export = &document["zabbix_export"];
    // The form of 6.0, which later ones import too.
    assert_eq!(export["version"], "6.0");
    let template = &export["templates"][0];
    assert_eq!(export["groups"][0]["name"], template["groups"][0]["name"]);
    let name = template["template"].as_str().expect("a name");
    let items = template["items"].as_array().expect("items");

    let mut ids = BTreeSet::new();
    let mut keys = BTreeSet::new();
    let mut asked = BTreeSet::new();
    let mut triggers = Vec::new();
    let mut note_id = |of: &Value| {
        let id = of["uuid"].as_str().unwrap_or_default().to_owned();
        let parsed = uuid::Uuid::try_parse(&id).expect("a UUID");
        // Zabbix refuses others, and dashes in them.
        assert_eq!((parsed.get_version_num(), id.len()), (4, 32), "{of}");
        assert!(ids.insert(id), "two have this: {of}");
    };
    note_id(template);
    for item in items {
        note_id(item);
        let key = item["key"].as_str().expect("a key");
        assert!(keys.insert(key), "{key} is there twice");
        for trigger in item["triggers"].as_array().into_iter().flatten() {
            note_id(trigger);
            triggers.push(trigger["expression"].as_str().expect("one").to_owned());
        }
        if item["type"] == "DEPENDENT" {
            assert_eq!(item["master_item"]["key"], "mtr_prober.metrics", "{item}");
            let step = &item["preprocessing"][0];
            assert_eq!(step["type"], "PROMETHEUS_PATTERN", "{item}");
            let metric = step["parameters"][0].as_str().expect("a metric").to_owned();
            let rate = item["preprocessing"][1]["type"] == "CHANGE_PER_SECOND";
            asked.insert((metric, rate));
        }
    }
    assert!(keys.contains("mtr_prober.metrics"));
    assert!(triggers.len() >= 5, "{triggers:?}");
    for expression in &triggers {
        let named = keys.iter().any(|key| {
            let path = format!("/{name}/{key}");
            let behind = expression.split_once(&path).map(|(_, rest)| rest);
            behind.is_some_and(|rest| rest.starts_with([')', ',']))
        });
        assert!(named, "{expression} is about no item of the template");
    }

    let fixture = Fixture::new("");
    let program = fixture.start();
    let metrics = fixture.get("/metrics").body;
    let kinds = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let printed: BTreeSet<(String, bool)> = kinds
        .filter_map(|line| line.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind == "counter"))
        .collect();
    let unknown: Vec<_> = asked.difference(&printed).collect();
    assert!(asked.len() > 10 && unknown.is_empty(), "{unknown:?}");
    assert_eq!(fixture.get("/healthz").json()["status"], "ok");
    program.stop();
}
