//! A config job without a name is BootAgent's own: servers and step, kept in
//! the metafile and acted upon. And what becomes of its file at a SIGHUP.

use e2e::agent::{Agent, Settings};
use e2e::fake_server::FakeServer;
use e2e::server::Server;
use e2e::wait;
use nix::sys::signal::Signal;
use serde_json::json;

#[test]
fn a_new_step_is_kept_and_kept_to() {
    let server = Server::start();
    let mut host = Agent::of(&server);
    let sn = host.agentsn();
    server.succeed(&sn, json!({ "action": "config", "step": 3600 }));
    assert_eq!(host.metafile()["step"], 3600);
    wait::until_true("a status with the new step", || {
        server.host(&sn)["step"] == 3600
    });
    let next = host.status().and_then(|status| status["next_in"].as_u64());
    assert!(next.is_some_and(|next| next > 1), "{next:?}");

    // It outlives the daemon, and bootagent.toml's step is for new hosts only.
    host.stop();
    host.run();
    wait::until_true("the daemon", || {
        host.status().is_some_and(|s| s["step"] == 3600)
    });
}

#[test]
fn other_servers_are_kept_and_asked_before_any_other() {
    let server = Server::start();
    let elsewhere = FakeServer::start();
    let mut host = Agent::of(&server);
    let sn = host.agentsn();
    // As document 002 writes a list, with a comma at its end.
    let list = format!("{},", elsewhere.address());
    let job = server.order(&sn, json!({ "action": "config", "svrlist": list }));
    // The result goes to the new server, which is the one that is asked now.
    let result = elsewhere.result(&job);
    assert_eq!(result["errcode"], 0, "{result}");
    assert_eq!(host.metafile()["svrlist"], list);
    let status = elsewhere.next_status();
    assert_eq!(status.body["agentsn"], sn);

    host.stop();
    let before = elsewhere.statuses().len();
    host.run();
    wait::until_true("a status after the restart", || {
        elsewhere.statuses().len() > before
    });
}

#[test]
fn a_config_with_values_that_cannot_be_is_refused_and_changes_nothing() {
    let fake = FakeServer::start();
    fake.hurry();
    let settings = Settings {
        push: "step = 60\nmin_step = 60\n".into(),
        ..Settings::new(&fake.address())
    };
    let host = Agent::start(&settings);
    host.until_confirmed();
    let before = host.metafile();
    for (id, key, value, names) in [
        (
            "step-too-short",
            "step",
            json!(59),
            &["step", "60 to 3600"][..],
        ),
        (
            "list-of-nonsense",
            "svrlist",
            json!("a b:c"),
            &["svrlist", "HOST:PORT"],
        ),
        (
            "list-without-port",
            "svrlist",
            json!("host:"),
            &["svrlist", "host"],
        ),
        (
            "list-with-far-port",
            "svrlist",
            json!("host:70000"),
            &["svrlist", "70000"],
        ),
    ] {
        let mut job = json!({ "id": id, "action": "config" });
        job[key] = value;
        let message = fake.fail(job, 6001);
        for name in names {
            assert!(message.contains(name), "{id}: {message}");
        }
    }
    assert_eq!(host.metafile(), before);
    fake.succeed(json!({ "id": "fine", "action": "config", "step": 61 }));
    assert_eq!(host.metafile()["step"], 61);
}

#[test]
fn a_configuration_that_is_gone_empty_or_wrong_at_a_reload_is_not_taken_and_every_status_says_so() {
    let server = Server::start();
    let host = Agent::of(&server);
    let sn = host.agentsn();
    let whole = std::fs::read(host.config()).expect("a configuration");
    let notices = || server.host(&sn)["notices"].to_string();
    let reload = |content: Option<&[u8]>| {
        match content {
            Some(content) => std::fs::write(host.config(), content).expect("writable"),
            None => std::fs::remove_file(host.config()).expect("removable"),
        }
        host.signal(Signal::SIGHUP);
    };
    for (content, told) in [
        (Some(&b""[..]), "sets nothing"),
        (Some(b"# root = \"/\"\n"), "sets nothing"),
        (Some(b"[push]\nstep = 0\n"), "push.step"),
        (None, "is missing"),
    ] {
        reload(content);
        wait::until_true("the notice", || notices().contains(told));
        assert!(notices().contains("stays as it was"), "{}", notices());
        reload(Some(&whole));
        wait::until_true("a server that knows that it is remedied", || {
            !notices().contains("stays as it was")
        });
    }
}
