//! One fault, one line, the right level.

use nix::fcntl::{Flock, FlockArg};

use super::*;

#[test]
fn a_configuration_that_does_not_parse_names_its_key_and_ends_the_test() {
    let (mut host, _nobody) = TestHost::new();
    host.configure("[restart]\nholdof = 1\n");
    let report = host.report();
    report
        .has_verdict(Verdict::Failed)
        .says("fail", "configuration", &["holdof", "line 3"]);
    assert!(!report.text.contains("folders"), "{}", report.text);
    host.args.servers = Some("a:0".into());
    host.report().says("fail", "servers", &["-S", "a:0"]);
}

#[test]
fn a_configuration_that_is_missing_or_open_to_everybody_is_a_warning() {
    let (mut host, _nobody) = TestHost::new();
    set_mode(&host.folder.path().join("bootagent.toml"), 0o666);
    host.report().says("warn", "configuration", &["chmod o-w"]);
    host.args.config = Some("/nonexistent/bootagent.toml".into());
    host.report().says(
        "warn",
        "configuration",
        &["/nonexistent/bootagent.toml", "-c"],
    );
}

#[test]
fn a_bad_list_fails_where_it_was_typed_and_warns_where_it_is_left_out() {
    let (mut host, _nobody) = TestHost::new();
    host.args.servers = Some("a:1,b:port".into());
    let report = host.report();
    report
        .has_verdict(Verdict::Failed)
        .says("fail", "servers", &["-S", "b:port", "HOST:PORT"]);
    let stored = Metafile {
        svrlist: "gopher://x".into(),
        ..metafile()
    };
    store(&host, &stored);
    host.args.servers = None;
    host.report()
        .says("warn", "servers", &["metafile", "gopher://x"]);
}

#[test]
fn a_name_nobody_knows_is_a_warning() {
    let (mut host, nobody) = TestHost::new();
    host.args.servers = Some(format!("no-such-host.invalid:8080,{}", nobody.address()));
    host.report().has_verdict(Verdict::Passed).says(
        "warn",
        "names",
        &["no-such-host.invalid", "/etc/resolv.conf"],
    );
    host.args.servers = Some(format!("localhost:{}", port(&nobody)));
    host.report().says("ok", "names", &["localhost is "]);
}

fn port(nobody: &Nobody) -> String {
    nobody
        .address()
        .rsplit(':')
        .next()
        .expect("a port")
        .to_owned()
}

#[test]
fn a_server_that_does_not_answer_is_a_warning_and_another_that_does_helps() {
    let (mut host, nobody) = TestHost::new();
    host.report()
        .has_verdict(Verdict::Passed)
        .says(
            "warn",
            "answers",
            &["cannot connect", &nobody.address(), "check that bootserver"],
        )
        .says("warn", "answers", &["no server answers"]);
    let busy = answering("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
    let other = answering("HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n");
    host.args.servers = Some(format!("{},{busy},{other}", nobody.address()));
    let report = host.report();
    report
        .says("warn", "answers", &[&nobody.address()])
        .says("warn", "answers", &[&busy, "503"])
        .says("ok", "answers", &[&other, "404"]);
    assert!(
        !report.text.contains("no server answers"),
        "{}",
        report.text
    );
}

#[test]
fn a_server_that_keeps_silent_or_talks_nonsense_costs_the_deadline_only() {
    let (mut host, _nobody) = TestHost::new();
    host.configure("[push]\nconnect_timeout = 1\ntimeout = 1\n");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("an address").to_string();
    let strange = answering("220 mail.example ESMTP\r\n");
    host.args.servers = Some(format!("{address},{strange}"));
    let begun = std::time::Instant::now();
    host.report()
        .has_verdict(Verdict::Passed)
        .says("warn", "answers", &["no answer from", &address, "firewall"])
        .says("warn", "answers", &[&strange, "is not HTTP", "port"]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn trouble_with_tls_is_named_as_such() {
    let (mut host, _nobody) = TestHost::new();
    let plain = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    host.args.servers = Some(format!("https://{plain}"));
    host.report()
        .says("warn", "answers", &["TLS", &plain, "ca_file"]);
    let empty = host.folder.path().join("ca.pem");
    std::fs::write(&empty, "no certificate\n").expect("writable");
    host.configure(&format!("ca_file = {empty:?}\n"));
    let report = host.report();
    report
        .has_verdict(Verdict::Failed)
        .says("fail", "certificates", &["ca.pem", "PEM"]);
}

#[test]
fn no_server_at_all_is_a_warning_that_says_where_to_name_one() {
    if !crate::host::COMPILED_SERVERS.is_empty() {
        skip("this build has servers compiled in, so there is always one");
        return;
    }
    let (mut host, _nobody) = TestHost::new();
    host.args.servers = None;
    let report = host.report();
    report
        .has_verdict(Verdict::Passed)
        .says("warn", "servers", &["-S HOST:PORT"]);
}

#[test]
fn a_file_in_place_of_a_folder_fails_once_for_all_it_stops() {
    let (host, _nobody) = TestHost::new();
    let var = host.root().join("var");
    std::fs::create_dir_all(&var).expect("writable");
    std::fs::write(var.join("lib"), "").expect("writable");
    let report = host.report();
    report.has_verdict(Verdict::Failed).says(
        "fail",
        "folders",
        &["var/lib is no folder", "and 5 more", "move that file away"],
    );
}

#[test]
fn a_pid_file_needs_a_folder() {
    let (mut host, _nobody) = TestHost::new();
    host.args.pid_file = Some(host.root().join("run/x/pid"));
    host.report()
        .has_verdict(Verdict::Failed)
        .says("fail", "pid file", &["create it"]);
    host.args.pid_file = Some(host.root().join("pid"));
    host.report()
        .has_verdict(Verdict::Passed)
        .says("ok", "pid file", &["can be written"]);
}

#[test]
fn a_root_too_deep_for_sockets_is_named() {
    let (host, _nobody) = TestHost::new();
    // Long enough for the longest name not to fit, short enough for ours.
    let deep = host.root();
    let padding = 60usize.saturating_sub(deep.as_os_str().len() + 1).max(1);
    let deep = deep.join("x".repeat(padding));
    let text = format!("root = {deep:?}\n");
    std::fs::write(host.folder.path().join("bootagent.toml"), text).expect("writable");
    host.report()
        .says("warn", "sockets", &["107 bytes", "shorter root"]);
}

#[test]
fn a_metafile_is_first_good_restored_newer_or_lost() {
    let (host, _nobody) = TestHost::new();
    let path = host.paths().metafile();
    let good = metafile();
    store(&host, &good);
    store(&host, &good);
    let whole = good.to_bytes();
    for cut in [&b""[..], &whole[..whole.len() / 2]] {
        std::fs::write(&path, cut).expect("writable");
        host.report().has_verdict(Verdict::Passed).says(
            "warn",
            "metafile",
            &["previous copy is good", "identity and token are kept"],
        );
    }
    std::fs::write(&path, r#"{"format": 99}"#).expect("writable");
    host.report().has_verdict(Verdict::Failed).says(
        "fail",
        "metafile",
        &["format 99", "install the BootAgent"],
    );
    std::fs::remove_file(bootagent_kit::fs::previous_path(&path)).expect("there");
    std::fs::write(&path, "").expect("writable");
    host.report().has_verdict(Verdict::Failed).says(
        "fail",
        "metafile",
        &["it is empty", "restore"],
    );
    std::fs::write(&path, whole).expect("writable");
    set_mode(&path, 0o644);
    let report = host.report();
    report
        .has_verdict(Verdict::Passed)
        .says("warn", "metafile", &["chmod 600"]);
    assert!(!report.text.contains("host-secret"), "{}", report.text);
}

#[test]
fn a_journal_that_is_no_file_fails() {
    let (host, _nobody) = TestHost::new();
    std::fs::create_dir_all(host.paths().journal().join("journal")).expect("writable");
    host.report()
        .has_verdict(Verdict::Failed)
        .says("fail", "journal", &["not a regular file"]);
}

#[test]
fn manifests_that_are_wrong_or_share_a_name_fail_and_the_good_one_is_told() {
    let (host, _nobody) = TestHost::new();
    host.install("good", &manifest("good", ""));
    host.install("same", &manifest("good", ""));
    host.install("wrong", &manifest("wrong", r#","limit":{}"#));
    host.report()
        .has_verdict(Verdict::Failed)
        .says("ok", "agents", &["good 1.0"])
        .says("fail", "agents", &["same/agent.json", "(4004)"])
        .says("fail", "agents", &["wrong/agent.json", "limit"]);
}

#[test]
fn an_agent_that_cannot_be_executed_or_asks_for_what_is_not_there_fails() {
    let (host, _nobody) = TestHost::new();
    host.install("gone", &manifest("gone", r#","check":["./check"]"#));
    host.install("still", &manifest("still", ""));
    host.install(
        "mighty",
        &manifest("mighty", r#","capabilities":["CAP_FLY"]"#),
    );
    set_mode(&host.paths().packaged_agents().join("still/run"), 0o644);
    std::fs::remove_file(host.paths().packaged_agents().join("gone/run")).expect("there");
    host.report()
        .has_verdict(Verdict::Failed)
        .says("fail", "agents", &["gone: exec", "install it again"])
        .says("fail", "agents", &["gone: check"])
        .says("fail", "agents", &["still: exec", "chmod +x"])
        .says("fail", "agents", &["mighty: capabilities", "CAP_FLY"]);
}

#[test]
fn an_account_that_is_missing_or_shut_out_is_named() {
    if !nix::unistd::geteuid().is_root() {
        skip("only root gives children accounts of their own");
        return;
    }
    let (host, _nobody) = TestHost::new();
    let text = manifest("a", "").replace(r#""user":"root""#, r#""user":"nobody-at-all""#);
    host.install("a", &text);
    // The temporary folder is root's own, 0700.
    host.install(
        "b",
        &text
            .replace("nobody-at-all", "nobody")
            .replace(r#""a""#, r#""b""#),
    );
    host.report()
        .has_verdict(Verdict::Failed)
        .says("fail", "agents", &["a: user", "nobody-at-all", "create it"])
        .says("warn", "agents", &["b: exec", "may not enter", "chmod o+x"]);
}

#[test]
fn a_path_with_semicolons_and_overrides_that_do_not_count_are_warnings() {
    let (host, _nobody) = TestHost::new();
    let envs = r#","envs":{"PATH":"/usr/bin;/usr/local/bin","OTHER":"a;b"}"#;
    host.install("a", &manifest("a", envs));
    let mut stored = metafile();
    let intent = crate::metafile::ChildIntent {
        wanted_running: true,
        envs: Some([("PATH".to_owned(), "/bin;/sbin".to_owned())].into()),
        ..Default::default()
    };
    stored.children.insert(
        bootagent_protocol::AgentName::parse("gone").expect("valid"),
        intent,
    );
    store(&host, &stored);
    host.install("b", &manifest("b", r#","restart":{"max_anomalies":2000}"#));
    let report = host.report();
    let overrides = ["b: restart.max_anomalies", "0 to 1000"];
    report
        .has_verdict(Verdict::Passed)
        .says("warn", "agents", &overrides)
        .says(
            "warn",
            "agents",
            &["a: PATH", "/usr/bin;/usr/local/bin", "':'"],
        )
        .says("warn", "agents", &["gone (envs of a job)", "/bin;/sbin"])
        .says("warn", "agents", &["gone is wanted running"]);
    assert!(!report.text.contains("OTHER"), "{}", report.text);
}

#[test]
fn a_bootagent_that_runs_is_told_with_its_pid_and_its_lock_stays_its_own() {
    let (host, _nobody) = TestHost::new();
    host.paths().ensure().expect("created");
    let file = std::fs::File::create(host.paths().lock()).expect("writable");
    let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).expect("free");
    writeln!(lock, "{}", std::process::id()).expect("writable");
    let pid = format!("pid {}", std::process::id());
    host.report().has_verdict(Verdict::Passed).says(
        "ok",
        "instance",
        &["runs with this root", &pid],
    );
    drop(lock);
    host.report().says("ok", "instance", &["no bootagent runs"]);
}

#[test]
fn a_token_file_is_judged_and_never_shown() {
    let (mut host, _nobody) = TestHost::new();
    let path = host.folder.path().join("token");
    host.configure(&format!("enrolment_token_file = {path:?}\n"));
    host.report()
        .has_verdict(Verdict::Passed)
        .says("warn", "token", &["there is no", "token"]);
    std::fs::write(&path, "hunter2\n").expect("writable");
    set_mode(&path, 0o600);
    host.report().says("ok", "token", &["holds one"]);
    set_mode(&path, 0o644);
    let report = host.report();
    report
        .has_verdict(Verdict::Passed)
        .says("warn", "token", &["chmod 600"]);
    assert!(!report.text.contains("hunter2"), "{}", report.text);
    std::fs::write(&path, "hunter2 and more\n").expect("writable");
    host.report()
        .has_verdict(Verdict::Failed)
        .says("fail", "token", &["more than one word"]);
    std::fs::write(&path, "\n").expect("writable");
    host.report().says("warn", "token", &["is empty"]);
    host.args.enrolment_token = Some(host.root());
    host.report()
        .has_verdict(Verdict::Failed)
        .says("fail", "token", &["not a regular file"]);
    host.args.enrolment_token = Some("-".into());
    host.report()
        .has_verdict(Verdict::Passed)
        .says("ok", "token", &["standard input"]);
}
