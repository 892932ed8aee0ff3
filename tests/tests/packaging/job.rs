//! The packaged daemon, under systemd, orders its package manager: a
//! sub-agent's rpm, deb and bundle installed, upgraded and removed by jobs.

use std::fs;

use e2e::fake_server::{Answer, FakeServer};
use serde_json::{Value, json};

use super::*;

/// What says how the package manager sees the sub-agent.
struct Kind {
    /// Which of `package.sh`'s packages.
    index: usize,
    /// Prints the installed version, nothing when there is none.
    query: &'static str,
    /// Where the manifest lies.
    manifest: &'static str,
}

const RPM: Kind = Kind {
    index: 0,
    query: "rpm -q --qf '%{VERSION}-%{RELEASE}' flux-push || true",
    manifest: "/usr/lib/bootagent/agents/flux-push/agent.json",
};

const DEB: Kind = Kind {
    index: 1,
    query: "dpkg-query -W -f '${Version}' flux-push || true",
    manifest: "/usr/lib/bootagent/agents/flux-push/agent.json",
};

const BUNDLE: Kind = Kind {
    index: 2,
    query: "grep -o '0[.]1[.][01]-1' /var/lib/bootagent/bundles/flux-push/current/agent.json | tr -d '\\n'",
    manifest: "/var/lib/bootagent/bundles/flux-push/current/agent.json",
};

#[test]
fn a_job_installs_upgrades_and_removes_an_rpm() {
    jobs_move_a_package(&RPM);
}

#[test]
fn a_job_installs_upgrades_and_removes_a_deb() {
    jobs_move_a_package(&DEB);
}

#[test]
fn a_job_installs_upgrades_and_removes_a_bundle() {
    jobs_move_a_package(&BUNDLE);
}

fn jobs_move_a_package(kind: &Kind) {
    let Some(machine) = machine(First::Systemd) else {
        return;
    };
    // The sub-agent measures the interface of the default route.
    run(
        &machine,
        "ip link add lan0 type veth peer name lan1 && ip addr add 192.0.2.2/24 dev lan0
         ip link set lan0 up && ip link set lan1 up && ip route add default via 192.0.2.1",
    );
    machine.inside(|| {
        let server = FakeServer::start_with(|asked| {
            let name = asked.path().strip_prefix("/packages/")?;
            let made = made();
            let package = made
                .agent
                .iter()
                .chain(&made.new_agent)
                .find(|path| file_name(path) == name)?;
            Some(Answer::of(200, &[], &fs::read(package).expect("made")))
        });
        server.hurry();
        run(
            &machine,
            &format!(
                "mkdir -p /etc/bootagent
                 echo 'BOOTAGENT_OPTIONS=\"-S {}\"' > /etc/bootagent/options
                 rpm -U /root/bootagent-{OLD}.x86_64.rpm",
                server.address()
            ),
        );
        let made = made();
        server.succeed(order("install", "1", &made.agent[kind.index], AGENT));
        the_agent_runs(&machine, &server, kind, AGENT);
        server.succeed(order(
            "upgrade",
            "2",
            &made.new_agent[kind.index],
            NEW_AGENT,
        ));
        the_agent_runs(&machine, &server, kind, NEW_AGENT);
        server.succeed(json!({ "id": "3", "action": "uninstall", "name": "flux-push" }));
        assert_eq!(
            run(
                &machine,
                &format!("test ! -e {}; pgrep -x flux-push || true", kind.manifest)
            ),
            ""
        );
    });
}

fn order(action: &str, id: &str, package: &Path, version: &str) -> Value {
    let sum = succeed(Command::new("sha256sum").arg(package));
    let sum = sum.split(' ').next().expect("a sum");
    json!({
        "id": id,
        "action": action,
        "name": "flux-push",
        "version": version,
        "url": format!("/packages/{}", file_name(package)),
        "checksum": format!("SHA256:{sum}"),
    })
}

/// Whether package manager, process table and the next status agree.
fn the_agent_runs(machine: &Machine, server: &FakeServer, kind: &Kind, version: &str) {
    assert_eq!(run(machine, kind.query), version);
    let user = run(machine, "ps -o user= -p $(pgrep -x flux-push)");
    assert_eq!(user, "bootagent\n");
    let status = server.next_status();
    let agents = status.body["agents"].as_array().expect("a list").clone();
    let agent = agents.iter().find(|agent| agent["name"] == "flux-push");
    let agent = agent.unwrap_or_else(|| panic!("not in the status: {agents:?}"));
    assert_eq!(agent["version"], version);
    assert_eq!(agent["status"], "running");
}
