//! A crash at any moment of an upgrade that fails: one result, and the version
//! before runs, once.

use super::*;

/// The steps of an upgrade that is rolled back, as the journal names them.
const STEPS: [&str; 7] = [
    "begun",
    "before",
    "fetched",
    "switching",
    "up",
    "back",
    "outcome",
];
/// How long after a step the kills come, in milliseconds.
const DELAYS: [u64; 3] = [0, 8, 40];

/// A version that comes up and then ends.
fn failing(marker: &str) -> Vec<u8> {
    let flags = [
        "--marker", marker, "--lock", "held", "--ready", "--after", "60", "--exit", "3",
    ];
    Bundle::new("mover", "2.0", &flags).notify().build()
}

fn has_step(host: &Agent, id: &str, step: &str) -> bool {
    if step == "outcome" {
        return outcomes(host, id) > 0;
    }
    journal(host).iter().any(|record| {
        let said = record["step"]["step"].as_str().unwrap_or_default();
        record["step"]["id"] == id && said.split(' ').next() == Some(step)
    })
}

#[test]
fn an_upgrade_that_fails_is_rolled_back_once_whatever_step_a_crash_interrupts() {
    let server = Server::start();
    let mut host = Agent::of(&server);
    let sn = host.agentsn();
    let (old, new) = (format!("{sn}-old"), format!("{sn}-new"));
    let first = server.upload(&package("mover", "1.0", &old));
    server.succeed(
        &sn,
        json!({ "action": "install", "package": first, "envs": { "MODE": "old" } }),
    );
    let second = server.upload(&failing(&new));
    for step in STEPS {
        for delay in DELAYS {
            let id = server.order(
                &sn,
                json!({ "action": "upgrade", "package": second, "watch": 600,
                    "envs": { "MODE": "new" } }),
            );
            as_soon_as(step, || has_step(&host, &id, step));
            std::thread::sleep(Duration::from_millis(delay));
            host.kill();
            host.run();
            let job = server.finished(&id);
            let at = format!("{step} + {delay} ms: {job}");
            assert_eq!(job["errcode"], 4006, "{at}");
            assert_eq!(
                (&job["result"]["tried"], &job["result"]["running"]),
                (&json!("2.0"), &json!("1.0")),
                "{at}"
            );
            assert_eq!(outcomes(&host, &id), 1, "{at}");
            assert_one_process(&host, "mover", &old);
            assert_eq!(process::with_argument(&new), [], "{at}");
            let envs = &host.metafile()["children"]["mover"]["envs"];
            assert_eq!(*envs, json!({ "MODE": "old" }), "{at}");
            assert_nothing_left(&host, "mover");
            let folder = host.path("var/lib/bootagent/bundles/mover");
            let entries = fs::read_dir(folder).expect("its bundles").flatten();
            let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
            names.sort();
            assert_eq!(names, ["1.0", "current"], "{at}");
        }
    }
}

#[test]
fn an_upgrade_that_is_good_passes_its_window_whatever_step_a_crash_interrupts() {
    let server = Server::start();
    let mut host = Agent::of(&server);
    let sn = host.agentsn();
    let mut former = format!("{sn}-first");
    let first = server.upload(&package("mover", "1.0", &former));
    server.succeed(&sn, json!({ "action": "install", "package": first }));
    for (number, step) in STEPS.iter().filter(|step| **step != "back").enumerate() {
        let (version, marker) = (format!("2.{number}"), format!("{sn}-{number}"));
        let package = server.upload(&package("mover", &version, &marker));
        let id = server.order(
            &sn,
            json!({ "action": "upgrade", "package": package, "watch": 1 }),
        );
        as_soon_as(step, || has_step(&host, &id, step));
        host.kill();
        host.run();
        assert_done_once(&server, &host, &id, "mover", &marker);
        assert_eq!(process::with_argument(&former), [], "{step}");
        assert_nothing_left(&host, "mover");
        former = marker;
    }
}
