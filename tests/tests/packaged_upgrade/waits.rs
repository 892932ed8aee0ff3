//! Promise: a package manager that hangs or waits ends its job in time and with
//! its code; meanwhile children are supervised and statuses go out.

use std::fs::File;
use std::path::Path;

use e2e::native::Kind;
use serde_json::{Value, json};

use super::stage::{JOURNAL, LIMIT, Scene, assert_result, good, on_a_machine};

/// Command line of the child that runs beside the one that is upgraded.
const OTHER: &str = "/bin/sleep 986543";

#[test]
fn an_rpm_that_hangs_or_is_kept_waiting_ends_in_time() {
    a_package_manager_that_hangs(Kind::Rpm);
}

#[test]
fn a_deb_that_hangs_or_is_kept_waiting_ends_in_time() {
    a_package_manager_that_hangs(Kind::Deb);
}

fn a_package_manager_that_hangs(kind: Kind) {
    on_a_machine(kind, "[jobs]\ninstaller_timeout = 25", |scene| {
        scene.start_bootagent();
        let result = scene.upgrade("first", &good("1.0"), &json!({}));
        assert_result(&result, 0, "1.0-1", Some("1.0-1"));
        let first = scene.assert_only("1.0-1");

        // A scriptlet and its own child hang and do not mind being asked to end.
        let hangs = good("2.0").after_install(
            "trap '' TERM INT HUP\n(trap '' TERM; setsid sleep 3611) & while :; do sleep 3612; done",
        );
        let result = scene.upgrade("hangs", &hangs, &json!({}));
        assert_result(&result, 4002, "2.0-1", Some("1.0-1"));
        assert_eq!(scene.assert_only("1.0-1"), first, "what ran runs on");
        assert_eq!(scene.run("pgrep -f '^sleep 361[12]' || true"), "");

        // A daemon that keeps the scriptlet's output open costs no time.
        let daemon = good("3.0").after_install("setsid sleep 3613 &");
        // Waited for, it would be 4002.
        let result = scene.upgrade("daemon", &daemon, &json!({}));
        assert_result(&result, 0, "3.0-1", Some("3.0-1"));
        let daemon = scene.run("pgrep -f '^sleep 3613'");
        let output = scene.run(&format!("readlink /proc/{}/fd/1", daemon.trim()));
        assert_ne!(output, "/dev/null\n", "it has it open");
        let leftover = || {
            let events = scene.fake.events();
            events
                .into_iter()
                .find(|event| event["category"] == "leftover")
        };
        let event = e2e::wait::until("the event", leftover);
        let message = e2e::server::text(&event, "message");
        assert!(message.contains(daemon.trim()), "{message}");
        scene.run("pkill -f '^sleep 3613'");

        // Another package manager works.
        let held = hold_lock(scene);
        let result = scene.upgrade("locked", &good("4.0"), &json!({}));
        assert_eq!(result["errcode"], 4003, "{result}");
        drop(held);
        scene.assert_only("3.0-1");
    });
}

#[test]
fn while_an_rpm_hangs_or_waits_children_are_supervised_and_statuses_go_out() {
    others_go_on(Kind::Rpm);
}

#[test]
fn while_a_deb_hangs_or_waits_children_are_supervised_and_statuses_go_out() {
    others_go_on(Kind::Deb);
}

fn others_go_on(kind: Kind) {
    // Nothing ends by its deadline here, which is far away by default.
    let config = "[restart]\ncheck = 1\nholdoff = 1\nmax_anomalies = 99";
    on_a_machine(kind, config, |scene| {
        let exec: Vec<&str> = OTHER.split(' ').collect();
        let manifest = json!({ "name": "other", "version": "1", "exec": exec });
        scene.run(&format!(
            "mkdir -p /usr/lib/bootagent/agents/other
             echo '{manifest}' >/usr/lib/bootagent/agents/other/agent.json"
        ));
        scene.start_bootagent();
        let result = scene.upgrade("first", &good("1.0"), &json!({}));
        assert_result(&result, 0, "1.0-1", Some("1.0-1"));

        let waits = "touch /root/hangs; until [ -e /root/go ]; do sleep 0.1; done";
        let place = scene.put(&good("2.0").after_install(waits));
        scene.offer("hangs", &place, &json!({}));
        scene.until("[ -e /root/hangs ]");
        scene.assert_others_go_on("hangs");
        scene.run("touch /root/go");
        assert_result(&scene.result("hangs"), 0, "2.0-1", Some("2.0-1"));

        let held = hold_lock(scene);
        let place = scene.put(&good("3.0"));
        scene.offer("locked", &place, &json!({}));
        scene.until(&format!(
            "grep -q '\"id\":\"locked\",\"step\":\"installer' {JOURNAL}"
        ));
        scene.assert_others_go_on("locked");
        drop(held);
        assert_result(&scene.result("locked"), 0, "3.0-1", Some("3.0-1"));
        scene.assert_only("3.0-1");
    });
}

impl Scene<'_> {
    /// A child that is killed now is started again, and a server hears of it,
    /// before job `id` has its result.
    #[track_caller]
    fn assert_others_go_on(&self, id: &str) {
        let crashes = || {
            let is_crash =
                |event: &&Value| event["category"] == "crash" && event["subject"] == "other";
            self.fake.events().iter().filter(is_crash).count()
        };
        let before = crashes();
        self.until(&format!("pgrep -f '^{OTHER}$' >/root/other"));
        self.run("kill -9 $(cat /root/other)");
        self.until(&format!(
            "new=$(pgrep -f '^{OTHER}$') && [ \"$new\" != \"$(cat /root/other)\" ]"
        ));
        e2e::wait::within(LIMIT, "the event", || (crashes() > before).then_some(()));
        for _ in 0..3 {
            self.fake.next_status();
        }
        self.run("bootctl status");
        assert_eq!(self.fake.results(id), Vec::<Value>::new(), "still at work");
    }
}

/// Holds the lock of the machine's package manager until it is dropped.
fn hold_lock(scene: &Scene<'_>) -> File {
    let path = scene.run(match scene.kind {
        Kind::Rpm => "rpm --eval '%{_rpmlock_path}'",
        Kind::Deb => "echo /var/lib/dpkg/lock-frontend",
    });
    let path = path.trim().trim_start_matches('/');
    let path = scene.machine.path(Path::new(path));
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .expect("the lock file");
    let lock = nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_SETLK(&lock)).expect("locked");
    file
}
