//! The running service through the life of its package, under systemd: what
//! the scriptlets do to the daemon and, above all, what they do not do to a
//! child.

use std::time::Duration;

use super::*;

/// The daemon's start, and a child's.
const START: Duration = Duration::from_secs(60);
/// What is printed of the service's log when it does not come up.
const LOG: &str = "journalctl -u bootagent --no-pager -n 20";

/// A sub-agent that the operator put there: it only lives.
const CHILD: &str = r#"
mkdir -p /usr/lib/bootagent/agents/sleeper
cat > /usr/lib/bootagent/agents/sleeper/agent.json <<'JSON'
{"name": "sleeper", "version": "1", "exec": ["/bin/sleep", "987654"], "type": "simple", "autostart": true}
JSON
"#;

/// The kinds of packages, with what each manager is told.
struct Manager {
    install: &'static str,
    remove: &'static str,
    file: fn(&str) -> String,
}

const RPM: Manager = Manager {
    install: "rpm -U",
    remove: "rpm -e bootagent",
    file: |version| format!("/root/bootagent-{version}.x86_64.rpm"),
};

const DEB: Manager = Manager {
    install: "dpkg -i",
    remove: "dpkg -r bootagent",
    file: |version| format!("/root/bootagent_{version}_amd64.deb"),
};

impl Manager {
    fn install(&self, machine: &Machine, version: &str) -> String {
        run(
            machine,
            &format!("{} {}", self.install, (self.file)(version)),
        )
    }
}

#[test]
fn an_rpms_scriptlets_start_keep_and_end_the_service() {
    the_life_of_a_service(&RPM);
}

#[test]
fn a_debs_scriptlets_start_keep_and_end_the_service() {
    the_life_of_a_service(&DEB);
}

fn the_life_of_a_service(manager: &Manager) {
    let Some(machine) = machine(First::Systemd) else {
        return;
    };
    run(&machine, CHILD);
    manager.install(&machine, OLD);
    run(&machine, "systemctl is-enabled bootagent");
    wait(&machine, "systemctl is-active bootagent");
    wait(&machine, "pgrep -f '^/bin/sleep 987654'");
    let child = child(&machine);
    let daemon = daemon(&machine);

    // An upgrade stops and restarts nothing: not the daemon, not the child.
    manager.install(&machine, NEW);
    assert_eq!(self::daemon(&machine), daemon);
    assert_eq!(self::child(&machine), child);

    // Neither a restart nor a crash of the daemon ends the child.
    run(&machine, "systemctl restart bootagent");
    wait(&machine, "systemctl is-active bootagent");
    assert_eq!(self::child(&machine), child);
    let restarted = self::daemon(&machine);
    assert_ne!(restarted, daemon);
    run(&machine, &format!("kill -9 {restarted}"));
    wait(
        &machine,
        &format!(
            "systemctl is-active bootagent && test \"$(systemctl show -p MainPID --value bootagent)\" != {restarted}"
        ),
    );
    assert_eq!(self::child(&machine), child);

    // What an operator has stopped stays stopped over an upgrade.
    run(&machine, "systemctl stop bootagent");
    assert_eq!(self::child(&machine), child);
    run(
        &machine,
        &format!("{} {}", manager.install, reinstall(manager)),
    );
    run(
        &machine,
        "test \"$(systemctl is-active bootagent)\" = inactive",
    );
    assert_eq!(self::child(&machine), child);
    run(&machine, "systemctl start bootagent");
    wait(&machine, "systemctl is-active bootagent");

    // A removal ends both, and leaves what the host knows.
    run(&machine, manager.remove);
    run(&machine, "! pgrep -f '^/bin/sleep 987654'");
    run(&machine, "! pgrep -x bootagent");
    run(&machine, "test ! -e /run/bootagent");
    run(&machine, "test -s /var/lib/bootagent/metafile.json");
    run(
        &machine,
        "test \"$(systemctl is-active bootagent)\" = inactive",
    );
    run(
        &machine,
        "systemctl --failed --no-legend | grep bootagent && exit 1 || true",
    );
}

/// The same version again, which takes the way of an upgrade.
fn reinstall(manager: &Manager) -> String {
    let force = if manager.install.starts_with("rpm") {
        "--replacepkgs "
    } else {
        ""
    };
    format!("{force}{}", (manager.file)(NEW))
}

#[test]
fn a_removal_ends_the_children_of_a_stopped_daemon_too() {
    let Some(machine) = machine(First::Systemd) else {
        return;
    };
    run(&machine, CHILD);
    DEB.install(&machine, OLD);
    wait(&machine, "pgrep -f '^/bin/sleep 987654'");
    run(&machine, "systemctl stop bootagent");
    child(&machine);
    run(&machine, DEB.remove);
    run(&machine, "! pgrep -f '^/bin/sleep 987654'");
    run(&machine, "! pgrep -x bootagent");
}

#[track_caller]
fn wait(machine: &Machine, condition: &str) {
    if let Err(error) = machine.wait_until(condition, START) {
        let log = machine.run(LOG).map(|log| log.output).unwrap_or_default();
        panic!("{error:#}\n{log}");
    }
}

/// The process id of the child: exactly one.
#[track_caller]
fn child(machine: &Machine) -> u32 {
    let found = run(machine, "pgrep -f '^/bin/sleep 987654'");
    found
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("not one child: {found:?}"))
}

#[track_caller]
fn daemon(machine: &Machine) -> u32 {
    let found = run(machine, "systemctl show -p MainPID --value bootagent");
    found
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("no daemon: {found:?}"))
}
