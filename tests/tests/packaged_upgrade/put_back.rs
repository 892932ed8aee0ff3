//! Promise: what fails is put back, whatever step a crash interrupts.

use e2e::native::{CHILD, Kind};
use serde_json::json;

use super::stage::{JOURNAL, NAME, assert_result, failing, good, on_a_machine};

#[test]
fn an_rpm_that_fails_is_put_back() {
    a_package_that_fails_is_put_back(Kind::Rpm);
}

#[test]
fn a_deb_that_fails_is_put_back() {
    a_package_that_fails_is_put_back(Kind::Deb);
}

fn a_package_that_fails_is_put_back(kind: Kind) {
    on_a_machine(kind, "[jobs]\ninstaller_timeout = 60", |scene| {
        // Installed by hand: there is nothing to put back, and that is said.
        let by_hand = scene.put(&good("1.0"));
        scene.run(match kind {
            Kind::Rpm => "rpm -i /root/mover-*.rpm",
            Kind::Deb => "dpkg -i /root/mover_*.deb",
        });
        scene.start_bootagent();
        scene.fake.next_status();
        let result = scene.upgrade("by-hand", &failing("1.1"), &json!({ "watch": 600 }));
        assert_result(&result, 5001, "1.1-1", None);
        let cause = e2e::server::text(&result, "cause");
        for words in [
            "exit code 3",
            "no such line",
            "1.0-1 was not installed by a job",
        ] {
            assert!(cause.contains(words), "{words:?} is not in {cause}");
        }
        assert_eq!(scene.installed(), "1.1-1");
        // Given once more by a job, it is kept from now on.
        scene.offer("first", &by_hand, &json!({ "downgrade": true }));
        assert_result(&scene.result("first"), 0, "1.0-1", Some("1.0-1"));
        let first = scene.assert_only("1.0-1");

        // Its own check fails: what runs does not notice.
        let refused = good("2.0").key("check", json!([CHILD, "--print", "no", "--exit", "2"]));
        let result = scene.upgrade("check", &refused, &json!({ "watch": 600 }));
        assert_result(&result, 4005, "2.0-1", Some("1.0-1"));
        assert_eq!(scene.assert_only("1.0-1"), first);

        // It ends in its window.
        let result = scene.upgrade("window", &failing("2.1"), &json!({ "watch": 600 }));
        assert_result(&result, 4006, "2.1-1", Some("1.0-1"));
        let cause = e2e::server::text(&result, "cause");
        assert!(
            cause.contains("exit code 3") && cause.contains("no such line"),
            "{cause}"
        );
        assert_ne!(scene.assert_only("1.0-1"), first);

        // One that is good stays, and is what the next one goes back to.
        let result = scene.upgrade("good", &good("3.0"), &json!({ "watch": 1 }));
        assert_result(&result, 0, "3.0-1", Some("3.0-1"));
        scene.assert_only("3.0-1");
        let result = scene.upgrade("again", &failing("3.1"), &json!({ "watch": 600 }));
        assert_result(&result, 4006, "3.1-1", Some("3.0-1"));
        scene.assert_only("3.0-1");

        // A bundle of the same name would be a second manifest.
        let bundle = e2e::bundle::Bundle::new(NAME, "9.0", &["--ready"])
            .notify()
            .build();
        let file = scene.folder.path().join("bundle");
        std::fs::write(&file, bundle).expect("written");
        scene.machine.put(&file, "/root/bundle").expect("copied");
        scene.offer("bundle", "/root/bundle", &json!({}));
        let result = scene.result("bundle");
        assert_eq!(result["errcode"], 4004, "{result}");
        scene.assert_only("3.0-1");
    });
}

#[test]
fn an_rpm_is_put_back_whatever_step_a_crash_interrupts() {
    a_crash_at_each_step(Kind::Rpm);
}

#[test]
fn a_deb_is_put_back_whatever_step_a_crash_interrupts() {
    a_crash_at_each_step(Kind::Deb);
}

fn a_crash_at_each_step(kind: Kind) {
    on_a_machine(kind, "[jobs]\ninstaller_timeout = 60", |scene| {
        scene.start_bootagent();
        let result = scene.upgrade("first", &good("1.0"), &json!({}));
        assert_result(&result, 0, "1.0-1", Some("1.0-1"));
        let place = scene.put(&failing("2.0"));
        for step in [
            "begun",
            "before",
            "fetched",
            "installer",
            "up",
            "back",
            "outcome",
        ] {
            for pause in ["0", "0.15"] {
                let id = format!("{step}-{pause}");
                scene.offer(&id, &place, &json!({ "watch": 600 }));
                let word = match step {
                    "outcome" => format!("\"outcome\".*\"id\":\"{id}\""),
                    step => format!("\"id\":\"{id}\",\"step\":\"{step}"),
                };
                // Nothing slower than a loop in the machine meets a step.
                scene.run(&format!(
                    "n=0; until grep -q '{word}' {JOURNAL}; do n=$((n + 1)); [ $n -lt 20000 ] || exit 1;
                     sleep 0.002; done; sleep {pause}; kill -9 $(cat /root/pid)
                     until flock -n /run/bootagent/lock true; do sleep 0.01; done"
                ));
                scene.start_bootagent();
                let result = scene.result(&id);
                assert_result(&result, 4006, "2.0-1", Some("1.0-1"));
                scene.assert_only("1.0-1");
                let outcomes = format!("grep -c '\"outcome\".*\"id\":\"{id}\"' {JOURNAL}");
                assert_eq!(scene.run(&outcomes).trim(), "1", "{id}");
                let left = scene.run("ls /var/lib/bootagent/packages");
                assert!(!left.contains(".new"), "{left}");
            }
        }
    });
}
