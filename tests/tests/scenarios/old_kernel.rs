//! Promise: a host with the kernel of CentOS 7 does what every host does. No
//! pidfd tells the end of a process there, no close_range closes descriptors,
//! and what is random comes from a file.

use e2e::agent::{Agent, Settings, is_root};
use e2e::bundle::Bundle;
use e2e::fake_server::FakeServer;
use e2e::process::{self, Process};
use e2e::{binaries, control_group, wait};
use nix::sys::signal::Signal;
use serde_json::json;

use super::stage::package_job;

const POLICY: &str = "[restart]\ncheck = 1\nholdoff = 1\nstable = 3600\nmax_anomalies = 9\n";

#[test]
fn on_an_old_kernel_children_are_installed_restarted_stopped_and_taken_over() {
    let fake = FakeServer::start();
    let mut settings = Settings::new(&fake.address()).with(POLICY);
    let launcher = binaries::old_kernel();
    settings.launcher = vec![launcher.display().to_string()];
    let mut host = Agent::start(&settings);
    host.until_confirmed();
    let seccomp = std::fs::read_to_string(format!("/proc/{}/status", host.pid()));
    let seccomp = seccomp.expect("it runs");
    assert!(seccomp.contains("Seccomp:\t2"), "no filter: {seccomp}");

    let orphan = format!("{}-orphan", host.cgroup());
    let daemon = format!("--marker {orphan} --ignore-term");
    let flags = [
        "--lock", "held", "--print", "here", "--daemon", &daemon, "--ready",
    ];
    let bundle = Bundle::new("old", "1.0.0", &flags)
        .notify()
        .key("stop_timeout", json!(1))
        .key(
            "limits",
            json!({ "CPU": "200%", "memory": "64M", "pids": 50 }),
        );
    let files = tempfile::tempdir().expect("a temporary folder");
    fake.succeed(package_job(&files, "install", "old", &bundle.build()));
    let first = host.process("old").expect("it runs");
    wait::until_true("its line", || host.child_log("old").contains("here"));
    // Nothing of ours is open in it.
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", first.pid)).expect("it runs");
    let open: Vec<String> = descriptors
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|number| number.parse::<u32>().is_ok_and(|number| number > 2))
        .collect();
    // Its lock, and what it takes signals with.
    assert!(open.len() <= 4, "{open:?}");

    // A crash is noticed, and followed by another run.
    first.signal(Signal::SIGKILL);
    let second = another(&host, first);

    // A BootAgent that was killed takes it over; its end is looked for.
    host.kill();
    host.run();
    host.until_confirmed();
    assert_eq!(host.process("old"), Some(second));
    assert_eq!(host.child_file("old", "held.conflict"), None);
    second.signal(Signal::SIGKILL);
    let third = another(&host, second);

    // Stopped with all it started; one of them does not care for the signal.
    if is_root() && !control_group::folders(host.cgroup()).is_empty() {
        wait::until_true("its orphan, alone", || {
            process::with_argument(&orphan).len() == 1
        });
        fake.fail(
            json!({ "id": "stop", "action": "stop", "name": "old" }),
            5002,
        );
        assert_eq!(process::with_argument(&orphan), []);
    } else {
        println!("SKIPPED: an old kernel with cgroups, because there are none here");
    }
    fake.offer(json!({ "id": "gone", "action": "uninstall", "name": "old" }));
    fake.result("gone");
    assert!(!third.is_alive());
    assert!(!host.log().contains("panicked"), "{}", host.log());
}

/// Waits for the run after `former`.
fn another(host: &Agent, former: Process) -> Process {
    wait::until("another run", || {
        host.process("old").filter(|next| *next != former)
    })
}
