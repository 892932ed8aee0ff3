//! The command line as its users have it: each verb against a running server,
//! what it prints, and the exit code scripts go by.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Server, bundle, command, wait_for};

/// The program, knowing the server and a token by its environment alone.
fn client(server: &Server, words: &[&str]) -> Command {
    let mut command = bare(words);
    command.env("BOOTSERVER_URL", format!("http://{}", server.address));
    command.env("BOOTSERVER_TOKEN", &server.api_token);
    command
}

/// The program, knowing nothing.
fn bare(words: &[&str]) -> Command {
    let mut command = command();
    for name in ["URL", "TOKEN", "TOKEN_FILE", "CA_FILE"] {
        command.env_remove(format!("BOOTSERVER_{name}"));
    }
    command.args(words).stdin(Stdio::null());
    command
}

fn ended(mut command: Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

/// What it prints when all is well.
fn told(server: &Server, words: &[&str]) -> String {
    let (code, out, err) = ended(client(server, words));
    assert_eq!(code, Some(0), "{words:?}: {err}");
    out
}

/// The one document.
fn document(server: &Server, words: &[&str]) -> Value {
    let words = [words, &["--json"]].concat();
    let out = told(server, &words);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{words:?}: {error}: {out}"))
}

/// The exit code and what is said on standard error.
fn failed(server: &Server, words: &[&str]) -> (i32, String) {
    let (code, out, err) = ended(client(server, words));
    assert!(out.is_empty(), "{words:?}: {out}");
    (code.expect("an exit code"), err)
}

#[test]
fn hosts_are_listed_shown_tagged_and_deleted_by_name_or_agentsn() {
    let server = Server::start();
    let web = server.register("web");
    let evil = server.register("evil\u{202e}host");
    server.register("web-2");
    server.push(&web, json!({ "hostname": "web" }));

    let table = told(&server, &["host", "list"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(lines[0].starts_with("HOSTNAME"), "{table}");
    assert!(!table.contains('\u{202e}'), "{table:?}");
    assert!(table.contains("evil\\u{202e}host"), "{table}");
    let hosts = document(&server, &["host", "list", "--limit", "2"]);
    assert_eq!(hosts["items"].as_array().expect("items").len(), 2);
    assert!(hosts["next"].is_string(), "{hosts}");
    let (_, _, hint) = ended(client(&server, &["host", "list", "--limit", "2"]));
    assert!(hint.contains("--limit"), "{hint}");

    // A name that another one only begins with is that host alone.
    assert_eq!(
        told(&server, &["tag", "set", "web", "svc=ecs,cmpt=DB"]),
        "cmpt=DB,svc=ecs\n"
    );
    assert_eq!(
        told(&server, &["tag", "set", &web.agentsn, "svc=web"]),
        "cmpt=DB,svc=web\n"
    );
    assert_eq!(
        told(&server, &["tag", "unset", "web", "cmpt", "none"]),
        "svc=web\n"
    );
    let found = document(&server, &["host", "list", "--selector", "svc=web"]);
    assert_eq!(found["items"][0]["agentsn"], web.agentsn.as_str());
    let shown = document(&server, &["host", "show", "web"]);
    assert_eq!(shown["tags"], "svc=web");
    assert!(told(&server, &["host", "show", "web"]).contains(&web.agentsn));

    assert_eq!(told(&server, &["host", "delete", &evil.agentsn]), "");
    let (code, error) = failed(&server, &["host", "show", "none"]);
    assert!(
        code == 3 && error.contains("there is no host none"),
        "{error}"
    );
    let unknown = uuid::Uuid::new_v4().to_string();
    let (code, error) = failed(&server, &["host", "show", &unknown]);
    assert!(code == 3 && error.contains("Not found: "), "{error}");
    assert!(error.contains("(request "), "{error}");
    let (code, error) = failed(&server, &["tag", "set", "web", "no tags"]);
    assert!(code == 2 && error.contains("KEY=VALUE"), "{error}");
    server.register("web");
    let (code, error) = failed(&server, &["host", "show", "web"]);
    assert!(code == 1 && error.contains(&web.agentsn), "{error}");
}

#[test]
fn hosts_are_found_by_whatever_the_api_finds_them_by_and_are_edited() {
    let server = Server::start();
    let web = server.register_as(json!({
        "hostname": "web", "agentsn": uuid::Uuid::new_v4().to_string(), "ip": ["10.1.2.3"],
        "os": "debian 12", "arch": "x86_64", "version": "bootagent-0.1.0-x86_64",
    }));
    server.register("db");
    server.push(
        &web,
        json!({ "hostname": "web", "agents": [{
            "name": "flux-push", "version": "1.2", "status": "running", "wanted": "running",
        }] }),
    );
    let found = |words: &[&str]| {
        let words = [&["host", "list"], words].concat();
        let hosts = document(&server, &words);
        let hosts = hosts["items"].as_array().expect("items").iter();
        let names = hosts.map(|host| host["hostname"].as_str().expect("a name").to_owned());
        names.collect::<Vec<_>>()
    };
    for words in [
        &["--search", "10.1.2"][..],
        &["--agent", "flux-push", "--agent-version", "1.2"],
        &["--agent-state", "running"],
        &["--ip", "10.1.2.3"],
        &["--state", "online"],
        &["--version", "bootagent-0.1.0-x86_64", "--hostname", "w"],
    ] {
        assert_eq!(found(words), ["web"], "{words:?}");
    }
    assert_eq!(found(&["--sort", "-hostname"]), ["web", "db"]);
    assert_eq!(
        found(&["--sort=hostname", "--os", "debian 12", "--arch", "x86_64"]),
        ["db", "web"]
    );
    for (words, word) in [
        (["--ip", "10.1.2"], "ip: "),
        (["--sort", "size"], "sort: "),
        (["--search", "ab"], "search: "),
        (["--agent-version", "1.2"], "agent_version: "),
    ] {
        let (code, error) = failed(&server, &[&["host", "list"][..], &words].concat());
        assert!(code == 1 && error.contains(word), "{error}");
    }

    let edit = [
        "host",
        "edit",
        "web",
        "--display-name",
        "front",
        "--notes",
        "two\nlines",
    ];
    assert_eq!(told(&server, &edit), "");
    let shown = document(&server, &["host", "show", "web"]);
    assert_eq!(
        (&shown["display_name"], &shown["notes"]),
        (&json!("front"), &json!("two\nlines"))
    );
    let shown = document(&server, &["host", "edit", "web", "--notes", ""]);
    assert_eq!(
        (&shown["display_name"], &shown["notes"]),
        (&json!("front"), &json!(""))
    );
    let (code, error) = failed(&server, &["host", "edit", "web"]);
    assert!(code == 2 && error.contains("--notes"), "{error}");
}

#[test]
fn all_hosts_of_a_query_are_exported_and_tagged_if_they_are_as_many_as_expected() {
    let server = Server::start();
    for name in ["web-1", "web-2", "db-1"] {
        server.register(name);
    }
    told(&server, &["tag", "set", "web-1", "old=1"]);
    let tag = |words: &[&'static str]| [&["host", "tag", "--hostname", "web"], words].concat();
    let (code, said) = failed(&server, &tag(&["svc=web"]));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--expected-hosts"), "{said}");
    let (code, said) = failed(&server, &tag(&["svc=web", "--expected-hosts", "3"]));
    assert_eq!(code, 5, "{said}");
    let words = tag(&["svc=web", "--unset", "old,older", "--expected-hosts", "2"]);
    let changed = document(&server, &words);
    assert_eq!(
        (&changed["hosts"], &changed["changed"]),
        (&json!(2), &json!(2))
    );
    let csv = told(
        &server,
        &["host", "export", "--format", "csv", "--sort", "-hostname"],
    );
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 4, "{csv}");
    assert!(
        lines[1].contains("web-2") && lines[1].contains("svc=web"),
        "{csv}"
    );
    assert!(
        lines[2].contains("web-1") && !csv.contains("old=1"),
        "{csv}"
    );
    let lines = told(&server, &["host", "export", "--selector", "svc=web"]);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    for line in lines.lines() {
        let host: Value = serde_json::from_str(line).expect("a line of JSON");
        assert_eq!(host["tags"], "svc=web");
    }
}

#[test]
fn operators_who_change_tags_of_one_host_at_once_lose_nothing() {
    let server = Server::start();
    server.register("web");
    let mut children = Vec::new();
    for number in 0..4 {
        let tag = format!("k{number}={number}");
        let mut command = client(&server, &["tag", "set", "web", &tag]);
        command.stdout(Stdio::null());
        children.push(command.spawn().expect("it runs"));
    }
    for mut child in children {
        assert!(child.wait().expect("it ends").success());
    }
    let shown = document(&server, &["host", "show", "web"]);
    assert_eq!(shown["tags"], "k0=0,k1=1,k2=2,k3=3");
}

#[test]
fn groups_are_made_filled_changed_and_used_by_their_names() {
    let server = Server::start();
    let web = server.register("web");
    let db = server.register("db");
    told(&server, &["tag", "set", "db", "cmpt=DB"]);
    let all = document(
        &server,
        &["group", "create", "all", "--description", "both"],
    );
    let databases = ["group", "create", "databases", "--selector", "cmpt=DB"];
    assert!(told(&server, &databases).contains("cmpt=DB"));
    let (code, error) = failed(&server, &databases);
    assert!(code == 5 && error.contains("name"), "{error}");
    let (code, error) = failed(&server, &["group", "create", "x", "--selector", "a in ("]);
    assert!(code == 1 && error.contains("selector"), "{error}");

    assert_eq!(
        told(
            &server,
            &["group", "add", "all", "web", "--group", "databases"]
        ),
        ""
    );
    let members = |group: &str| told(&server, &["host", "list", "--group", group]);
    let table = members("all");
    assert!(
        table.contains(&web.agentsn) && table.contains(&db.agentsn),
        "{table}"
    );
    assert!(!members("databases").contains(&web.agentsn));
    assert_eq!(document(&server, &["group", "show", "all"])["named"], 1);
    let (code, error) = failed(&server, &["group", "delete", "databases"]);
    assert!(code == 5 && error.contains("all"), "{error}");
    let id = all["id"].as_str().expect("an id");
    assert_eq!(
        told(
            &server,
            &["group", "remove", id, &web.agentsn, "--group", "databases"]
        ),
        ""
    );
    assert_eq!(members(id).lines().count(), 1);
    let (code, error) = failed(&server, &["group", "add", "all"]);
    assert!(code == 2 && error.contains("--group"), "{error}");

    // What is not said stays.
    let edited = document(
        &server,
        &[
            "group",
            "edit",
            "databases",
            "--name",
            "DB",
            "--description",
            "d",
        ],
    );
    assert_eq!(
        (&edited["name"], &edited["selector"]),
        (&json!("DB"), &json!("cmpt=DB"))
    );
    let edited = document(&server, &["group", "edit", "DB", "--selector", ""]);
    assert_eq!(
        (&edited["description"], &edited["selector"]),
        (&json!("d"), &Value::Null)
    );
    let (code, error) = failed(&server, &["group", "show", "databases"]);
    assert!(code == 3 && error.contains("no group databases"), "{error}");

    told(&server, &["group", "edit", "DB", "--selector", "cmpt=DB"]);
    let order = [
        "job",
        "create",
        "start",
        "flux-push",
        "--group",
        "DB",
        "--expected-hosts",
    ];
    let (code, error) = failed(&server, &[&order[..], &["2"]].concat());
    assert!(
        code == 5 && error.contains("2 hosts were expected"),
        "{error}"
    );
    let made = document(&server, &[&order[..], &["1"]].concat());
    assert_eq!(made["jobs"][0]["agentsn"], db.agentsn.as_str());
    assert_eq!(told(&server, &["group", "delete", "DB"]), "");
    assert_eq!(told(&server, &["group", "list"]).lines().count(), 2);
}

#[test]
fn an_order_whose_answer_is_lost_is_asked_for_again_and_done_once() {
    let server = Server::start();
    let host = server.register("web");
    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join("proxy.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let address = server.address;
    // The first answer to a POST is lost on the way, when the server has given it.
    let proxy = std::thread::spawn(move || {
        let mut is_lost = false;
        loop {
            let (mut near, _) = listener.accept().expect("a connection");
            let request = read_message(&mut near);
            let mut far = TcpStream::connect(address).expect("the server listens");
            far.write_all(&request).expect("it is taken");
            let answer = read_message(&mut far);
            if request.starts_with(b"POST") && !is_lost {
                is_lost = true;
                continue;
            }
            near.write_all(&answer).expect("it is read");
            if request.starts_with(b"POST") {
                return String::from_utf8(answer).expect("text");
            }
        }
    });
    let mut command = client(&server, &["job", "create", "start", "flux-push", "--host"]);
    command.arg(&host.agentsn).env("BOOTSERVER_URL", &socket);
    let (code, out, err) = ended(command);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("asking once more"), "{err}");
    let answer = proxy.join().expect("it ends").to_lowercase();
    assert!(answer.contains("idempotency-replayed"), "{answer}");
    let jobs = document(&server, &["job", "list"]);
    let jobs = jobs["items"].as_array().expect("items");
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    assert!(
        out.contains(jobs[0]["id"].as_str().expect("an id")),
        "{out}"
    );
}

/// A whole request or answer, whose body says its length.
fn read_message(stream: &mut impl Read) -> Vec<u8> {
    let mut message = Vec::new();
    loop {
        let mut part = [0; 4096];
        let length = stream.read(&mut part).expect("a part of it");
        assert!(length > 0, "it broke off");
        message.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&message).to_lowercase();
        let Some(end) = text.find("\r\n\r\n") else {
            continue;
        };
        let body = text.split("content-length: ").nth(1);
        let body = body.and_then(|rest| rest.lines().next()?.parse().ok());
        if message.len() >= end + 4 + body.unwrap_or(0) {
            return message;
        }
    }
}

#[test]
fn packages_are_uploaded_and_jobs_ordered_shown_and_cancelled() {
    let server = Server::start();
    let host = server.register("web");
    let file = server.directory.join("flux.tar.gz");
    std::fs::write(&file, bundle("flux-push", "1.2", b"run")).expect("a bundle");
    let file = file.to_str().expect("text");
    let package = document(&server, &["package", "add", file]);
    assert_eq!(package["version"], "1.2");
    let id = package["id"].as_str().expect("an id");
    assert!(told(&server, &["package", "list", "--name", "flux-push"]).contains(id));
    let (code, error) = failed(&server, &["package", "add", "/nowhere/at/all"]);
    assert!(code == 1 && error.contains("/nowhere/at/all"), "{error}");

    let order = ["job", "create", "install", "flux-push", "--host", "web"];
    let order = [&order[..], &["--version", "1.2", "--expires-in", "1h"]].concat();
    let made = document(&server, &order);
    let job = made["jobs"][0]["id"].as_str().expect("an id");
    assert_eq!(made["jobs"][0]["agentsn"], host.agentsn.as_str());
    assert!(told(&server, &["job", "list", "--host", "web"]).contains(job));
    assert_eq!(document(&server, &["job", "show", job])["state"], "waiting");
    assert!(told(&server, &["job", "cancel", job]).contains(job));
    let (code, error) = failed(&server, &["job", "show", "none"]);
    assert!(code == 3 && error.contains("job list"), "{error}");
    let (code, error) = failed(&server, &["job", "create", "start", "flux-push"]);
    assert!(code == 2 && error.contains("--host"), "{error}");

    // What there is no option for comes as JSON, from standard input too.
    let mut child = client(
        &server,
        &["job", "create", "config", "flux-push", "-d", "-", "--json"],
    )
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .expect("it runs");
    let body = json!({ "hosts": [host.agentsn], "envs": { "A": "b" } }).to_string();
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(body.as_bytes()).expect("it is read");
    drop(pipe);
    let output = child.wait_with_output().expect("it ends");
    let made: Value = serde_json::from_slice(&output.stdout).expect("a document");
    let job = made["jobs"][0]["id"].as_str().expect("an id");
    assert_eq!(
        document(&server, &["job", "show", job])["body"]["envs"]["A"],
        "b"
    );
    assert_eq!(told(&server, &["package", "delete", id]), "");
}

#[test]
fn rollouts_are_ordered_shown_steered_and_taken_back() {
    let server = Server::start();
    let host = server.register("web");
    server.push(&host, json!({}));
    let order = [
        "rollout",
        "create",
        "upgrade",
        "flux-push",
        "--all",
        "--version",
        "2",
    ];
    let checksum = format!("SHA256:{}", "0".repeat(64));
    let from = ["--url", "http://127.0.0.1/x", "--checksum", &checksum];
    let plan = [
        "--stages",
        "1,50%,all",
        "--soak",
        "1h",
        "--parallel",
        "10%",
        "--fail-count",
        "-1",
    ];
    let order = [&order[..], &from, &plan].concat();
    let look = document(&server, &[&order[..], &["--dry-run"]].concat());
    assert_eq!(
        (&look["hosts"], &look["without_file"]),
        (&json!(1), &json!(0))
    );
    let window = json!({ "zone": "UTC", "from": "00:00", "until": "24:00" });
    let window = json!({ "plan": { "window": window } }).to_string();
    let made = document(
        &server,
        &[&order[..], &["--name", "two", "-d", &window]].concat(),
    );
    assert_eq!(
        (&made["name"], &made["plan"]["parallel"]),
        (&json!("two"), &json!("10%"))
    );
    assert_eq!(made["plan"]["fail_count"], -1);
    assert_eq!(made["plan"]["window"]["zone"], "UTC");
    let stages = json!([{ "upto": 1, "soak": 3600 }, { "upto": "50%", "soak": 3600 },
        { "upto": "100%", "soak": 0 }]);
    assert_eq!(made["plan"]["stages"], stages);
    let id = made["id"].as_str().expect("an id");
    assert!(told(&server, &["rollout", "list", "--phase", "active"]).contains(id));
    wait_for("an order", || {
        let targets = told(&server, &["rollout", "targets", id, "--state", "ordered"]);
        targets.contains("next_status").then_some(())
    });
    let (code, error) = failed(&server, &["rollout", "confirm", id]);
    assert!(code == 5 && error.contains("begun already"), "{error}");
    assert_eq!(
        document(&server, &["rollout", "pause", id])["phase"],
        "paused"
    );
    assert_eq!(
        document(&server, &["rollout", "resume", id])["phase"],
        "running"
    );
    wait_for("an order", || {
        let shown = document(&server, &["rollout", "show", id]);
        (shown["counts"]["ordered"] == 1).then_some(())
    });
    let job = server.push(&host, json!({}))["jobs"][0]["id"].clone();
    let failed_job = json!([{ "id": job, "errcode": 2001, "message": "" }]);
    server.push(&host, json!({ "jobs": failed_job }));
    assert!(told(&server, &["rollout", "abort", id]).contains("stopping"));
    wait_for("the end", || {
        let shown = document(&server, &["rollout", "show", id]);
        (shown["phase"] == "ended").then_some(())
    });
    let retry = document(&server, &["rollout", "retry", id, "--expected-hosts", "1"]);
    assert_eq!(
        (&retry["way"], &retry["plan"]["stages"]),
        (&json!("again"), &stages)
    );
    let revert = document(&server, &["rollout", "revert", id, "--parallel", "all"]);
    assert_eq!(
        (&revert["way"], &revert["plan"]["parallel"]),
        (&json!("back"), &json!("100%"))
    );
    let (code, error) = failed(&server, &["rollout", "create", "start", "flux-push"]);
    assert!(code == 2 && error.contains("--all"), "{error}");
}

#[test]
fn what_lets_a_rollout_go_on_is_said_of_the_one_that_was_seen() {
    let server = Server::start();
    // It never reports, so that nothing happens by itself.
    let host = server.register("web");
    let create = ["rollout", "create", "restart", "a", "--host"];
    let made = document(&server, &[&create[..], &[&host.agentsn]].concat());
    let id = made["id"].as_str().expect("an id").to_owned();
    wait_for("its targets", || {
        let shown = document(&server, &["rollout", "show", &id]);
        (shown["phase"] == "running").then_some(())
    });
    let paused = document(&server, &["rollout", "pause", &id]);
    let seen = paused["revision"].to_string();
    let resumed = document(&server, &["rollout", "resume", &id, "--revision", &seen]);
    assert_eq!(resumed["phase"], "running");
    // What was seen is not so any more: nothing happens, whatever is said.
    for word in ["pause", "resume", "abort", "confirm", "retry", "revert"] {
        let words = ["rollout", word, &id, "--revision", &seen];
        let (code, error) = failed(&server, &words);
        assert!(code == 5 && error.contains("read it again"), "{error}");
    }
    let shown = document(&server, &["rollout", "show", &id]);
    assert_eq!(shown["revision"], resumed["revision"]);
    let (code, error) = failed(&server, &["rollout", "abort", &id, "--revision", "x"]);
    assert!(code == 2 && error.contains("--revision"), "{error}");

    // Somebody aborts it between the look and the word.
    told(&server, &["rollout", "pause", &id]);
    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join("proxy.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let mut resume = client(&server, &["rollout", "resume", &id]);
    let resume = resume.env("BOOTSERVER_URL", &socket);
    let resume = resume.stdout(Stdio::piped()).stderr(Stdio::piped());
    let resume = resume.spawn().expect("it runs");
    for method in ["GET", "POST"] {
        let (mut near, _) = listener.accept().expect("a connection");
        let request = read_message(&mut near);
        assert!(request.starts_with(method.as_bytes()), "{method} comes now");
        if method == "POST" {
            told(&server, &["rollout", "abort", &id]);
        }
        let mut far = TcpStream::connect(server.address).expect("the server listens");
        far.write_all(&request).expect("it is taken");
        let answer = read_message(&mut far);
        near.write_all(&answer).expect("it is read");
    }
    let resume = resume.wait_with_output().expect("it ends");
    let error = String::from_utf8(resume.stderr).expect("text");
    assert_eq!(resume.status.code(), Some(5), "{error}");
    assert!(error.contains("read it again"), "{error}");
}

#[test]
fn tokens_and_users_are_made_listed_and_ended_and_secrets_stand_alone() {
    let server = Server::start();
    let token = told(
        &server,
        &[
            "token",
            "create",
            "api",
            "ci",
            "--role",
            "viewer",
            "--expires-in",
            "7d",
        ],
    );
    assert_eq!(token.lines().count(), 1, "{token}");
    let file = server.directory.join("token");
    std::fs::write(&file, &token).expect("a token");
    let url = format!("http://{}", server.address);
    let file = file.to_str().expect("text");
    let by_file = |words: &[&str]| {
        ended(bare(
            &[&["--server", &url, "--token-file", file], words].concat(),
        ))
    };
    let (code, out, err) = by_file(&["host", "list"]);
    assert!(code == Some(0) && out.starts_with("HOSTNAME"), "{err}");
    assert!(err.contains("chmod 600"), "{err}");
    let (code, _, err) = by_file(&["tag", "set", &uuid::Uuid::new_v4().to_string(), "a=b"]);
    assert!(matches!(code, Some(3 | 4)), "{err}");
    let (code, _, err) = by_file(&["user", "create", "eve", "--role", "admin"]);
    assert!(code == Some(4) && err.contains("Not allowed: "), "{err}");

    let tokens = document(&server, &["token", "list", "api"]);
    let tokens = tokens["items"].as_array().expect("items");
    let made = tokens
        .iter()
        .find(|token| token["name"] == "ci")
        .expect("ours");
    let id = made["id"].as_str().expect("an id");
    assert_eq!(told(&server, &["token", "revoke", "api", id]), "");
    let (code, _, err) = by_file(&["host", "list"]);
    assert!(code == Some(4) && err.contains("No valid token: "), "{err}");

    let words = [
        "token",
        "create",
        "enrolment",
        "site",
        "--uses",
        "1",
        "--tags",
        "site=a",
    ];
    let enrolment = told(&server, &words);
    let host = json!({ "hostname": "h", "agentsn": uuid::Uuid::new_v4().to_string() });
    let reply = server
        .call("POST", "/agent/register")
        .bearer(enrolment.trim());
    assert_eq!(reply.json(&host).expect(200)["tags"], "site=a");
    assert!(told(&server, &["token", "list", "enrolment"]).contains("site=a"));
    let (code, error) = failed(
        &server,
        &["token", "create", "enrolment", "x", "--role", "admin"],
    );
    assert!(code == 2 && error.contains("--role"), "{error}");
    let (code, error) = failed(&server, &["token", "create", "session", "x"]);
    assert!(code == 2 && error.contains("api or enrolment"), "{error}");

    let first = told(&server, &["user", "create", "Ada", "--role", "operator"]);
    server.sign_in("ada", first.trim());
    let second = told(&server, &["user", "reset", "ada"]);
    assert_ne!(first, second);
    server.sign_in("ada", second.trim());
    assert!(told(&server, &["user", "list"]).contains("ada"));
    let (code, error) = failed(&server, &["user", "create", "ada", "--role", "viewer"]);
    assert_eq!(code, 5, "{error}");
    assert_eq!(told(&server, &["user", "delete", "ada"]), "");
    let (code, error) = failed(&server, &["user", "reset", "ada"]);
    assert!(code == 3 && error.contains("no user ada"), "{error}");
}

#[test]
fn events_are_listed_and_any_call_can_be_made() {
    let server = Server::start();
    let host = server.register("web");
    let event = json!({
        "seq": 1, "timestamp": 1_700_000_000, "category": "ended", "subject": "flux-push",
        "message": "it\r\nended", "tail": [],
    });
    server.push(&host, json!({ "hostname": "web", "events": [event] }));
    let table = told(
        &server,
        &["event", "list", "--host", "web", "--since", "1h"],
    );
    assert!(table.contains("it\\r\\nended"), "{table}");

    let out = told(&server, &["api", "get", "/api/v1/hosts?limit=1"]);
    let hosts: Value = serde_json::from_str(&out).expect("as it came");
    assert_eq!(hosts["items"][0]["hostname"], "web");
    let body = server.directory.join("body");
    std::fs::write(&body, r#"{"tags":"a=b"}"#).expect("a body");
    let path = format!("/api/v1/hosts/{}/tags", host.agentsn);
    let told_tags = told(
        &server,
        &["api", "PUT", &path, "-d", &format!("@{}", body.display())],
    );
    assert!(told_tags.contains("\"a=b\""), "{told_tags}");
    // A header more, but none with a token.
    let words = [
        "api",
        "PUT",
        &path,
        "-d",
        r#"{"tags":""}"#,
        "-H",
        "If-Match: \"999\"",
    ];
    let (code, out, _) = ended(client(&server, &words));
    assert!(code == Some(5) && out.contains("\"status\":412"), "{out}");
    let words = [
        "api",
        "GET",
        "/api/v1/hosts",
        "-H",
        "Authorization: Bearer x",
    ];
    let (code, error) = failed(&server, &words);
    assert!(code == 2 && error.contains("--token-file"), "{error}");
    // The problem is the answer, and the exit code says that it is one.
    let (code, out, err) = ended(client(&server, &["api", "PUT", &path, "-d", "{"]));
    assert!(
        code == Some(1) && err.contains("Malformed request: "),
        "{err}"
    );
    assert!(out.contains("urn:bootagent:problem:malformed"), "{out}");
    let (code, out, _) = ended(client(
        &server,
        &["host", "list", "--state", "lost", "--json"],
    ));
    let problem: Value = serde_json::from_str(&out).expect("one document");
    assert!(code == Some(1) && problem["status"] == 400, "{problem}");
    // A reader that has gone is no failure.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = client(&server, &["api", "GET", "/api/v1/hosts"]);
    let status = command.stdout(writer).status().expect("it runs");
    assert!(status.success(), "{status}");
    let (code, error) = failed(&server, &["api", "GET", "api/v1/hosts"]);
    assert!(code == 2 && error.contains("PATH"), "{error}");
    let (code, error) = failed(&server, &["api", "GET", "/a b"]);
    assert_eq!(code, 2, "{error}");
}

#[test]
fn root_of_the_machine_needs_no_token_on_the_socket() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root is let in without a token");
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join("api.sock");
    let server = Server::start_with(&format!("socket = {:?}\n", socket.display().to_string()));
    server.register("web");
    let socket = socket.to_str().expect("text");
    let (code, out, err) = ended(bare(&["host", "list", "--server", socket]));
    assert!(code == Some(0) && out.contains("web"), "{err}");
    // Over the network nobody is root, and a server without TLS is told.
    let url = format!("https://{}", server.address);
    let (code, _, err) = ended(bare(&["host", "list", "--server", &url]));
    assert!(code == Some(6) && err.contains("http://"), "{err}");
    let url = format!("http://{}", server.address);
    let (code, _, err) = ended(bare(&["host", "list", "--server", &url]));
    assert_eq!(code, Some(4), "{err}");
}

#[test]
fn a_server_with_tls_is_verified() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let server = Server::start_with(&format!(
        "tls_cert = \"{data}/first.pem\"\ntls_key = \"{data}/first-key.pem\"\n"
    ));
    let ask = |more: &[&str]| {
        let mut command = client(&server, &[&["token", "list", "api"], more].concat());
        command.env("BOOTSERVER_URL", format!("https://{}", server.address));
        ended(command)
    };
    let (code, out, err) = ask(&["--ca-file", &format!("{data}/root.pem")]);
    assert!(code == Some(0) && out.starts_with("NAME"), "{err}");
    let (code, _, err) = ask(&[]);
    assert!(code == Some(6) && err.contains("--ca-file"), "{err}");
    let url = format!("http://{}", server.address);
    let (code, _, err) = ended(bare(&["host", "list", "--server", &url]));
    assert!(code == Some(6) && err.contains("https://"), "{err}");
}

#[test]
fn no_server_and_none_that_answers_is_told_and_told_apart() {
    // Nobody listens on port 1.
    let address = "127.0.0.1:1";
    let (code, _, err) = ended(bare(&["host", "list", "--server", address]));
    assert!(code == Some(6) && err.contains(address), "{err}");

    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join("api.sock");
    let path = socket.to_str().expect("text");
    let (code, _, err) = ended(bare(&["host", "list", "--server", path]));
    assert!(code == Some(6) && err.contains(path), "{err}");
    // Somebody who hangs up, and somebody who speaks another language, each once more.
    let listener = UnixListener::bind(&socket).expect("a socket");
    let other = std::thread::spawn(move || {
        for greeting in [&b""[..], b"", b"220 mail ready\r\n", b"220 mail ready\r\n"] {
            let (mut stream, _) = listener.accept().expect("a connection");
            let _ = stream.write_all(greeting);
        }
    });
    for _ in 0..2 {
        let (code, _, err) = ended(bare(&["host", "list", "--server", path]));
        assert!(code == Some(6) && err.contains("asking once more"), "{err}");
        assert_eq!(err.matches("no whole answer").count(), 2, "{err}");
    }
    other.join().expect("it ends");

    for (words, word) in [
        (&["host", "list", "--token", "x"][..], "--token-file"),
        (&["host", "list", "--server", "ftp://x"], "ftp://x"),
        (&["host"], "list, show, edit, export, tag, delete"),
        (&["--json"], "such as host list"),
        (&["--json", "hots", "list"], "\"hots\" is no verb"),
    ] {
        let (code, _, err) = ended(bare(words));
        assert!(code == Some(2) && err.contains(word), "{words:?}: {err}");
    }
    for words in [
        &["hosts", "list"][..],
        &["serve", "--frob"],
        &["migrate", "now"],
    ] {
        let (code, _, err) = ended(bare(words));
        assert!(code == Some(1) && err.contains("bootserver -h"), "{err}");
    }
    let (code, out, _) = ended(bare(&["host", "list", "-h"]));
    assert!(code == Some(0) && out.contains("host delete HOST"), "{out}");
}

#[test]
fn assignments_are_made_shown_changed_and_deleted() {
    let server = Server::start();
    server.upload("", &bundle("a", "2.0", b"two"));
    server.upload("", &bundle("a", "3.0", b"three"));
    let host = server.register("web");
    server.push(&host, json!({}));
    told(&server, &["group", "create", "edge"]);
    told(&server, &["group", "add", "edge", &host.agentsn]);
    let create = ["assignment", "create", "a", "--version", "2.0"];
    let (code, error) = failed(&server, &create);
    assert_eq!(code, 2, "{error}");
    let plan = ["--group", "edge", "--parallel", "5%", "--priority", "7"];
    let create = [&create[..], &plan].concat();
    let look = document(&server, &[&create[..], &["--dry-run"]].concat());
    assert_eq!((&look["hosts"], &look["targets"]), (&json!(1), &json!(1)));
    let made = document(&server, &create);
    assert_eq!(
        (&made["priority"], &made["group_name"]),
        (&json!(7), &json!("edge"))
    );
    let id = made["id"].as_str().expect("an id");
    assert!(told(&server, &["assignment", "list", "--host", &host.agentsn]).contains(id));
    wait_for("an order", || {
        let hosts = told(&server, &["assignment", "hosts", id, "--state", "ordered"]);
        hosts.contains(&host.agentsn).then_some(())
    });
    let paused = document(&server, &["assignment", "pause", id]);
    assert_eq!(
        (&paused["state"], &paused["reason"]),
        (&json!("paused"), &json!("operator"))
    );
    let resumed = document(&server, &["assignment", "resume", id]);
    assert_eq!(resumed["state"], "running");
    assert_eq!(
        document(&server, &["assignment", "retry", id])["state"],
        "running"
    );
    let change = [
        "assignment",
        "change",
        id,
        "--version",
        "3.0",
        "--fail-count",
        "3",
    ];
    let changed = document(&server, &change);
    assert_eq!(
        (&changed["version"], &changed["plan"]["fail_count"]),
        (&json!("3.0"), &json!(3))
    );
    assert_eq!(
        changed["plan"]["parallel"], "5%",
        "the rest of the plan stays"
    );
    assert_eq!(
        document(&server, &["assignment", "show", id])["version"],
        "3.0"
    );
    let (_, error) = failed(&server, &["assignment", "confirm", id]);
    assert!(error.contains("begun"), "{error}");
    let (code, _) = failed(&server, &["assignment", "change", id]);
    assert_eq!(code, 2);
    let stale = ["assignment", "delete", id, "--revision", "1"];
    let (code, error) = failed(&server, &stale);
    assert!(code == 5 && error.contains("read it again"), "{error}");
    told(&server, &["assignment", "delete", id]);
    assert!(!told(&server, &["assignment", "list"]).contains(id));
}
