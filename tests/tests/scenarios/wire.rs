//! What a server sees of a host: document 002 to the letter, one request per
//! connection, and a secret that is said to nobody else.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use e2e::agent::{Agent, Settings};
use e2e::bundle::{Bundle, checksum};
use e2e::fake_server::{Answer, FakeServer};
use e2e::process::Process;
use e2e::wait;
use serde_json::{Value, json};

/// The keys of document 002.
const REGISTER_KEYS: [&str; 2] = ["hostname", "agentsn"];
const STATUS_KEYS: [&str; 8] = [
    "hostname",
    "agentsn",
    "version",
    "uptime",
    "timestamp",
    "step",
    "agents",
    "jobs",
];
const AGENT_KEYS: [&str; 4] = ["name", "version", "status", "uptime"];
const JOB_KEYS: [&str; 3] = ["id", "errcode", "message"];

const SECRET: &str = "host-secret-8f2c1d";
const NEXT_SECRET: &str = "host-secret-b7a904";

/// A server that gives each registration this reply.
fn registering(reply: Value) -> FakeServer {
    FakeServer::start_with(move |asked| asked.is_register().then(|| Answer::Json(reply.clone())))
}

fn bearer(token: &str) -> Option<String> {
    Some(format!("Bearer {token}"))
}

#[test]
fn every_request_is_http_1_1_on_a_connection_of_its_own_with_all_keys_of_002() {
    let fake = FakeServer::start();
    let host = Agent::start(&Settings::new(&fake.address()));
    host.until_confirmed();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("bundle");
    let bundle = Bundle::new("BasicAgent", "1.2.3", &["--ready"])
        .notify()
        .build();
    std::fs::write(&path, &bundle).expect("written");
    let id = "ddc8a9b9-55bd-4ddd-b53d-47095ee19466";
    fake.succeed(json!({
        "id": id, "action": "install", "name": "BasicAgent", "checksum": checksum(&bundle),
        "url": format!("file://{}", path.display()),
        "envs": { "PATH": "/usr/bin;/usr/local/bin" }, "limits": { "CPU": "10%", "memory": "20M" },
    }));

    let asked = fake.asked();
    for request in &asked {
        assert!(
            request.line.starts_with("POST /agent/") && request.line.ends_with(" HTTP/1.1"),
            "{request:?}"
        );
        assert_eq!(request.header("connection"), Some("close"), "{request:?}");
        assert_eq!(
            request.header("content-type"),
            Some("application/json"),
            "{request:?}"
        );
        assert_eq!(
            request.header("host"),
            Some(&*fake.address()),
            "{request:?}"
        );
        assert_eq!(request.earlier, 0, "one request per connection");
        let keys = if request.is_register() {
            &REGISTER_KEYS[..]
        } else {
            &STATUS_KEYS[..]
        };
        for key in keys {
            assert!(
                request.body.get(key).is_some(),
                "{key} is not in {}",
                request.body
            );
        }
    }
    // A registration, and a status at once: not a step later.
    assert!(asked[0].is_register() && asked[1].is_status());
    let first = &asked[1].body;
    assert_eq!(first["agents"], json!([]));
    let version = first["version"].as_str().unwrap_or_default();
    assert!(
        version.starts_with("bootagent-") && version.ends_with(std::env::consts::ARCH),
        "{version}"
    );
    assert_eq!(first["step"], 1);
    assert!(
        first["timestamp"]
            .as_i64()
            .is_some_and(|at| at > 1_700_000_000),
        "{first}"
    );

    let last = fake.statuses().pop().expect("a status").body;
    let (agent, result) = (&last["agents"][0], &fake.result(id));
    for key in AGENT_KEYS {
        assert!(agent.get(key).is_some(), "{key} is not in {agent}");
    }
    assert_eq!(
        (&agent["name"], &agent["version"]),
        (&json!("BasicAgent"), &json!("1.2.3"))
    );
    for key in JOB_KEYS {
        assert!(result.get(key).is_some(), "{key} is not in {result}");
    }
    assert_eq!(
        (&result["errcode"], &result["message"]),
        (&json!(0), &json!("success"))
    );
}

#[test]
fn the_enrolment_token_is_said_once_and_the_secret_to_the_server_alone() {
    let fake = registering(json!({ "status": 0, "token": SECRET, "tags": "svc=ecs,cmpt=DB" }));
    let host = Agent::start(&Settings::new(&fake.address()));
    host.until_confirmed();
    let enrolment = "a-token-to-enrol-with";
    let registers = fake.registers();
    assert_eq!(registers.len(), 1);
    assert_eq!(
        registers[0].header("authorization"),
        bearer(enrolment).as_deref()
    );
    // Something happens: a job that fails is an event.
    fake.fail(
        json!({ "id": "j", "action": "stop", "name": "nobody" }),
        1003,
    );
    wait::until_true("its event", || !fake.events().is_empty());
    for status in fake.statuses() {
        assert_eq!(status.header("authorization"), bearer(SECRET).as_deref());
        let said = status.body.to_string();
        assert!(
            !said.contains(SECRET) && !said.contains(enrolment),
            "{said}"
        );
    }

    let daemon = Process::of(host.pid()).expect("it runs");
    let arguments = daemon.arguments().join(" ");
    let words = [
        &["status"][..],
        &["--json", "status"],
        &["jobs"],
        &["events"],
    ];
    let printed = words.map(|words| host.ask(words)).concat();
    assert!(printed.contains("svc=ecs,cmpt=DB"), "{printed}");
    let environment = std::fs::read(format!("/proc/{}/environ", host.pid())).expect("ours");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    let log = host.log();
    for place in [&arguments, &printed, &environment, &log] {
        assert!(
            !place.contains(SECRET) && !place.contains(enrolment),
            "{place}"
        );
    }
    // On disk it is where it must be, and nobody else may read it.
    let may_read = |path: &str| {
        let metadata = std::fs::metadata(host.path(path)).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(host.metafile()["token"], SECRET);
    assert_eq!(may_read("var/lib/bootagent/metafile.json"), 0o600);
    assert_eq!(may_read("var/lib/bootagent/metafile.json.previous"), 0o600);
    assert_eq!(may_read("run/bootagent/uplink.json"), 0o640);
    let holders: Vec<_> = e2e::agent::files_below(&host.root())
        .into_iter()
        .filter(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains(SECRET)))
        .map(|path| {
            path.strip_prefix(host.root())
                .expect("below")
                .display()
                .to_string()
        })
        .collect();
    let allowed = ["metafile.json", "metafile.json.previous", "uplink.json"];
    assert!(
        holders
            .iter()
            .all(|holder| allowed.iter().any(|name| holder.ends_with(name))),
        "{holders:?}"
    );
}

#[test]
fn a_server_that_gives_no_token_is_served_without_one() {
    let fake = FakeServer::start();
    let settings = Settings {
        enrolment_token: None,
        ..Settings::new(&fake.address())
    };
    let host = Agent::start(&settings);
    let sn = host.until_confirmed();
    fake.succeed(json!({ "id": "j", "action": "config", "step": 2 }));
    for request in fake.asked() {
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.body["agentsn"], sn);
    }
    assert_eq!(host.metafile().get("token"), None);
}

#[test]
fn a_new_host_makes_its_own_identity_and_keeps_it_unless_it_gets_another() {
    let other = "dcb886e9-04ed-41bb-9c12-4d2de12cd59b";
    let replies = [
        (json!({ "status": 0 }), true),
        (json!({ "status": 0, "agentsn": "" }), true),
        (json!({ "status": 0, "agentsn": "no uuid" }), true),
        (
            json!({ "status": 0, "agentsn": other, "tags": "svc=ecs,cmpt=DB", "more": [1] }),
            false,
        ),
    ];
    std::thread::scope(|scope| {
        for (reply, is_kept) in replies {
            scope.spawn(move || {
                let said = reply.to_string();
                let (own, sn) = identity_after(reply);
                assert_eq!(sn, if is_kept { own } else { other.to_owned() }, "{said}");
            });
        }
    });
}

/// The identity a new host registered with, and the one it has after `reply`
/// and a restart.
fn identity_after(reply: Value) -> (String, String) {
    let fake = registering(reply);
    let mut host = Agent::start(&Settings::new(&fake.address()));
    let sn = host.until_confirmed();
    let own = e2e::server::text(&fake.registers()[0].body, "agentsn");
    assert_eq!(own.len(), 36, "{own}");
    // Over a restart too, and without another registration.
    host.stop();
    let before = fake.statuses().len();
    host.run();
    wait::until_true("a status", || fake.statuses().len() > before);
    assert!(
        fake.statuses()
            .iter()
            .all(|status| status.body["agentsn"] == sn)
    );
    assert_eq!(host.agentsn(), sn);
    assert_eq!(fake.registers().len(), 1);
    (own, sn)
}

#[test]
fn a_host_that_shall_register_again_does_so_with_its_old_secret_and_identity() {
    let other = "dcb886e9-04ed-41bb-9c12-4d2de12cd59b";
    let mut registered = 0;
    let mut told = false;
    let fake = FakeServer::start_with(move |asked| {
        if asked.is_register() {
            registered += 1;
            let reply = match registered {
                1 => json!({ "status": 0, "token": SECRET }),
                _ => json!({ "status": 0, "token": NEXT_SECRET, "agentsn": other }),
            };
            return Some(Answer::Json(reply));
        }
        (!std::mem::replace(&mut told, true))
            .then(|| Answer::Json(json!({ "status": 0, "register": true })))
    });
    let host = Agent::start(&Settings::new(&fake.address()));
    wait::until_true("the other identity", || {
        let statuses = fake.statuses();
        statuses
            .last()
            .is_some_and(|last| last.body["agentsn"] == other)
    });
    let registers = fake.registers();
    assert_eq!(registers.len(), 2);
    // Not the enrolment token, which may be used up by now.
    assert_eq!(
        registers[1].header("authorization"),
        bearer(SECRET).as_deref()
    );
    assert_eq!(
        registers[1].body["agentsn"], registers[0].body["agentsn"],
        "a hint"
    );
    let status = fake.next_status();
    assert_eq!(
        status.header("authorization"),
        bearer(NEXT_SECRET).as_deref()
    );
    assert_eq!(
        (&status.body["agentsn"], &host.metafile()["agentsn"]),
        (&json!(other), &json!(other))
    );
}

#[test]
fn a_secret_that_is_replaced_in_a_reply_is_used_from_then_on() {
    let mut statuses = 0;
    let fake = FakeServer::start_with(move |asked| {
        if asked.is_register() {
            return Some(Answer::Json(json!({ "status": 0, "token": SECRET })));
        }
        statuses += 1;
        (statuses == 2).then(|| Answer::Json(json!({ "status": 0, "token": NEXT_SECRET })))
    });
    let host = Agent::start(&Settings::new(&fake.address()));
    let third = wait::until("the third status", || fake.statuses().get(2).cloned());
    assert_eq!(
        third.header("authorization"),
        bearer(NEXT_SECRET).as_deref()
    );
    assert_eq!(host.metafile()["token"], NEXT_SECRET);
    let uplink = std::fs::read_to_string(host.path("run/bootagent/uplink.json")).expect("there");
    assert!(uplink.contains(NEXT_SECRET) && !uplink.contains(SECRET));
}

#[test]
fn a_new_secret_is_used_only_once_it_is_on_disk() {
    let offers = Arc::new(AtomicBool::new(false));
    let metafile = Arc::new(OnceLock::<PathBuf>::new());
    let early = Arc::new(AtomicBool::new(false));
    let script = (offers.clone(), metafile.clone(), early.clone());
    let fake = FakeServer::start_with(move |asked| {
        let (offers, metafile, early) = &script;
        if asked.is_register() {
            return Some(Answer::Json(json!({ "status": 0, "token": SECRET })));
        }
        if asked.header("authorization") == bearer(NEXT_SECRET).as_deref() {
            let path = metafile.get().expect("set before it is offered");
            let on_disk = std::fs::read_to_string(path).expect("a metafile");
            early.fetch_or(!on_disk.contains(NEXT_SECRET), Ordering::SeqCst);
        }
        let reply = json!({ "status": 0, "token": NEXT_SECRET });
        (asked.is_status() && offers.swap(false, Ordering::SeqCst)).then_some(Answer::Json(reply))
    });
    let host = Agent::start(&Settings::new(&fake.address()));
    host.until_confirmed();
    let path = host.path("var/lib/bootagent/metafile.json");
    metafile.set(path.clone()).expect("set once");

    // Nothing can replace a folder that is not empty: the metafile is not written.
    let previous = path.with_extension("json.previous");
    let _ = std::fs::remove_file(&previous);
    std::fs::create_dir_all(previous.join("in the way")).expect("a folder");
    offers.store(true, Ordering::SeqCst);
    wait::until_true("the new secret to be given up", || {
        host.log().contains("the new secret is not taken")
    });
    let status = fake.next_status();
    assert_eq!(status.header("authorization"), bearer(SECRET).as_deref());
    assert_eq!(host.metafile()["token"], SECRET);

    std::fs::remove_dir_all(&previous).expect("ours");
    offers.store(true, Ordering::SeqCst);
    wait::until_true("a status with the new secret", || {
        fake.next_status().header("authorization") == bearer(NEXT_SECRET).as_deref()
    });
    assert_eq!(host.metafile()["token"], NEXT_SECRET);
    assert!(!early.load(Ordering::SeqCst), "a crash would have lost it");
}

#[test]
fn results_and_events_are_said_until_a_2xx_and_not_again() {
    let mut refused = 0;
    let fake = FakeServer::start_with(move |asked| {
        let has_result = asked.body["jobs"]
            .as_array()
            .is_some_and(|jobs| !jobs.is_empty());
        if !asked.is_status() || !has_result || refused == 2 {
            return None;
        }
        refused += 1;
        // Busy and back after a second, twice: nothing is acknowledged.
        Some(Answer::of(503, &["Retry-After: 1"], b""))
    });
    let host = Agent::start(&Settings::new(&fake.address()));
    host.until_confirmed();
    fake.offer(json!({ "id": "j", "action": "stop", "name": "nobody" }));
    wait::until_true("the third time", || fake.results("j").len() == 3);
    let events = fake.events();
    assert_eq!(events.len(), 3, "{events:?}");
    assert!(events.iter().all(|event| event["seq"] == events[0]["seq"]));
    let next = [fake.next_status(), fake.next_status()];
    for status in next {
        assert_eq!(status.body["jobs"], json!([]));
        assert_eq!(status.body.get("events"), None);
    }
    assert_eq!(fake.results("j").len(), 3);
}

#[test]
fn a_result_is_said_at_once_however_long_the_step_is() {
    let fake = FakeServer::start();
    let settings = Settings {
        push: "step = 3600\nconnect_timeout = 2\ntimeout = 5\n".into(),
        ..Settings::new(&fake.address())
    };
    fake.offer(json!({ "id": "j", "action": "stop", "name": "nobody" }));
    let host = Agent::start(&settings);
    host.until_confirmed();
    // It came with the first status; its result must not wait an hour.
    let result = fake.result("j");
    assert_eq!(result["errcode"], 1003);
    // And then there is quiet: the next one is due within the step.
    wait::until_true("a turn within the step", || {
        let next = host.status().and_then(|status| status["next_in"].as_u64());
        next.is_some_and(|next| (11..=3600).contains(&next))
    });
}
