//! BootAgent's own upgrade by a job where no systemd runs: under another init,
//! started by hand, and as the first process of a container.

use e2e::fake_server::FakeServer;
use e2e::own_package::CRASHES;

use super::own_upgrade::{BAD, CHILD, CONFIG, HANGS, Kind, PATIENCE};
use super::own_upgrade::{bad_package, order, result, server};
use super::*;

/// What an init does for a service: it starts it again when it has ended.
const INIT: &str = "cd /etc/bootagent; setsid sh -c 'while :; do /usr/sbin/bootagent $0; sleep 1; done' \"$OPTIONS\" \
    >/dev/null 2>&1 & echo $! > /root/init";

fn prepare(machine: &Machine, server: &FakeServer) -> String {
    server.hurry();
    run(
        machine,
        &format!(
            "mkdir -p /etc/bootagent /usr/lib/bootagent/agents/sleeper
             printf '{CONFIG}' > /etc/bootagent/bootagent.toml
             echo '{CHILD}' > /usr/lib/bootagent/agents/sleeper/agent.json
             {}",
            Kind::Deb.install(OLD)
        ),
    );
    format!("OPTIONS='{}'\n", words(server))
}

/// What BootAgent is started with; one of its files has a relative path.
fn words(server: &FakeServer) -> String {
    format!("-c bootagent.toml -S {}", server.address())
}

#[track_caller]
fn answers(machine: &Machine, version: &str) {
    let asked = format!("bootctl status | grep -q '^bootagent-{version}-'");
    let came = machine.wait_until(&asked, PATIENCE);
    came.unwrap_or_else(|error| panic!("{error:#}"));
}

#[track_caller]
fn no_watcher_is_left(machine: &Machine) {
    let came = machine.wait_until("! pgrep -f '[b]ootagent.saved'", PATIENCE);
    came.unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn without_systemd_a_bad_version_is_taken_back_whoever_starts_bootagent() {
    let Some(machine) = machine(First::Shell) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let bad = bad_package(Kind::Deb, &folder.path().join("crashes"), CRASHES);
    let hangs = folder.path().join("hangs.deb");
    let made_hangs = bad_package(Kind::Deb, &folder.path().join("hangs"), HANGS);
    std::fs::rename(made_hangs, &hangs).expect("renamed");
    let good = Kind::Deb.of(&made().new).to_path_buf();
    machine.inside(|| {
        let packages = vec![bad.clone(), hangs.clone(), good.clone()];
        let server = server(packages, || None);
        let options = prepare(&machine, &server);
        run(&machine, &format!("{options}{INIT}"));
        answers(&machine, OLD);
        machine
            .wait_until("pgrep -xf '/bin/sleep 100000'", PATIENCE)
            .expect("the child runs");
        let child = run(&machine, "pgrep -xf '/bin/sleep 100000'");
        let daemon = run(&machine, "cat /run/bootagent/lock");

        server.offer(order("1", &good, NEW));
        let done = result(&server, "1");
        assert_eq!(done["errcode"], 0, "{done}");
        answers(&machine, NEW);
        assert_eq!(run(&machine, "cat /run/bootagent/lock"), daemon);
        no_watcher_is_left(&machine);

        // The files are put back, and the init starts the old version again.
        server.offer(order("2", &bad, BAD));
        let done = result(&server, "2");
        assert_eq!(done["errcode"], 4006, "{done}");
        assert_eq!(done["running"], NEW, "{done}");
        answers(&machine, NEW);
        no_watcher_is_left(&machine);
        assert_eq!(run(&machine, "pgrep -xf '/bin/sleep 100000'"), child);

        // One that hangs ends by the watcher, which is the only one to start the
        // old version again, as it was started.
        run(&machine, "kill -9 $(cat /root/init)");
        server.offer(order("3", &hangs, BAD));
        let done = result(&server, "3");
        assert_eq!(done["errcode"], 4006, "{done}");
        assert_eq!(done["running"], NEW, "{done}");
        let cause = done["cause"].as_str().unwrap_or_default();
        assert!(cause.contains("did not answer"), "{done}");
        no_watcher_is_left(&machine);
        answers(&machine, NEW);
        assert_eq!(run(&machine, "pgrep -xf '/bin/sleep 100000'"), child);
        assert!(run(&machine, "pgrep -xf 'sleep 100000000' || true").is_empty());
        let said = run(&machine, "cat /var/log/bootagent/watcher.log");
        assert!(said.contains("gets SIGKILL"), "{said}");
        let typed = run(
            &machine,
            "tr '\\0' ' ' < /proc/$(cat /run/bootagent/lock)/cmdline",
        );
        assert_eq!(typed, format!("/usr/sbin/bootagent {} ", words(&server)));
        let folder = run(&machine, "readlink /proc/$(cat /run/bootagent/lock)/cwd");
        assert_eq!(folder, "/etc/bootagent\n");
        // Neither it nor anybody else was left in the group of a job.
        let place = run(&machine, "cat /proc/$(cat /run/bootagent/lock)/cgroup");
        assert!(!place.contains("/bootagent/"), "{place}");
        let leftovers = |event: &serde_json::Value| event["category"] == "leftover";
        assert!(
            !server.events().iter().any(leftovers),
            "{:?}",
            server.events()
        );
        // And it goes on when the watcher has ended.
        run(&machine, "bootctl restart sleeper");
    });
}

#[test]
fn the_first_process_of_a_container_does_not_upgrade_itself() {
    let Some(machine) = machine(First::Shell) else {
        return;
    };
    machine.inside(|| {
        let good = Kind::Deb.of(&made().new).to_path_buf();
        let server = server(vec![good.clone()], || None);
        let options = prepare(&machine, &server);
        run(
            &machine,
            &format!(
                "{options}cd /etc/bootagent; setsid unshare --pid --fork --mount-proc \
                 sh -c 'exec /usr/sbin/bootagent '\"$OPTIONS\" >/dev/null 2>&1 &"
            ),
        );
        answers(&machine, OLD);
        server.offer(order("1", &good, NEW));
        let done = result(&server, "1");
        assert_eq!(done["errcode"], 3005, "{done}");
        assert!(done["message"].to_string().contains("image"), "{done}");
        answers(&machine, OLD);
        assert!(run(&machine, "/usr/sbin/bootagent -V").contains(OLD));
        no_watcher_is_left(&machine);
    });
}
