//! Interfaces that come, go and are replaced, in a network namespace.
//!
//! Needs root, `unshare`, `nsenter` and `ip`; says aloud when it cannot run.
//! The one rule: nothing outside the namespace is touched.

#[path = "support/harness.rs"]
mod harness;

use std::io::Write;
use std::process::{Command, Stdio};

use flux_push::series::{Mark, Point};
use harness::{Fixture, Running};

/// Makes a namespace with two ends of a cable, `a0` and `b0`, the default
/// route through `a0`, and becomes flux-push there.
const INSIDE: &str = "mount -t sysfs sysfs /sys && \
    ip link add a0 address 02:00:00:00:00:0a type veth peer name b0 address 02:00:00:00:00:0b && \
    ip link set a0 up && ip link set b0 up && \
    ip route add default dev a0 && \
    exec \"$0\" \"$@\"";

/// Starts flux-push in a namespace of its own.
fn start(fixture: &Fixture) -> Running {
    let plain = fixture.command();
    let mut command = Command::new("unshare");
    command
        .args(["-mn", "sh", "-c", INSIDE])
        .arg(plain.get_program())
        .args(plain.get_args())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, value) in plain.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    Running::spawn(&mut command)
}

fn inside(running: &Running, script: &str) {
    let pid = running.pid().to_string();
    let output = Command::new("nsenter")
        .args(["-t", &pid, "-m", "-n", "sh", "-ec", script])
        .output()
        .expect("nsenter runs");
    assert!(output.status.success(), "{script}: {output:?}");
}

fn cannot_run() -> bool {
    let probe = Command::new("unshare")
        .args([
            "-mn",
            "sh",
            "-c",
            "mount -t sysfs sysfs /sys && ip link add a0 type veth",
        ])
        .output();
    let reason = match probe {
        Ok(output) if output.status.success() => return false,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    // Past the capture of the test harness: a skip must be seen.
    let reason = reason.trim();
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED: no network namespace with veth here: {reason}"
    );
    true
}

fn is_changed(point: &Point) -> bool {
    point.marks.contains(&Mark::InterfaceChanged)
}

#[test]
fn a_replaced_interface_and_a_moved_route_are_marked_and_never_subtracted() {
    if cannot_run() {
        return;
    }
    let fixture = Fixture::new("interval = 1\n");
    let running = start(&fixture);
    fixture.message("READY=1");
    let point = fixture.point_where(|point| point.grid.is_some());
    assert_eq!(point.interface.name, "a0");
    assert_eq!(point.interface.mac, "02:00:00:00:00:0a");

    // Made anew under the same name and address: its counters begin at 0.
    inside(
        &running,
        "ip link del a0; \
         ip link add a0 address 02:00:00:00:00:0a type veth peer name b0 address 02:00:00:00:00:0b; \
         ip link set a0 up; ip link set b0 up; ip route add default dev a0",
    );
    let replaced = fixture.point_where(is_changed);
    assert_eq!((replaced.rx_delta, replaced.tx_delta), (None, None));
    assert_ne!(replaced.interface.index, point.interface.index);
    assert_eq!(replaced.interface.name, "a0");

    // The default route moves to the other interface.
    inside(&running, "ip route replace default dev b0");
    let moved = fixture.point_where(|point| point.interface.name == "b0");
    assert!(is_changed(&moved), "{moved:?}");
    assert_eq!((moved.rx_delta, moved.tx_delta), (None, None));

    // Without a default route the last interface still counts.
    inside(&running, "ip route del default");
    let kept = fixture.point_where(|point| point.number >= moved.number + 2);
    assert_eq!(kept.interface.name, "b0");
    assert!(kept.tx_delta.is_some(), "{kept:?}");

    // Gone altogether: said, waited for, and gone on with.
    inside(&running, "ip link del a0");
    let status = fixture.message("STATUS=no point");
    assert!(status.contains("b0"), "{status}");
    inside(
        &running,
        "ip link add b0 type veth peer name a0; ip link set b0 up",
    );
    let back = fixture.point_where(|point| point.number > kept.number && is_changed(point));
    assert_eq!(back.interface.name, "b0");
    assert_eq!(running.stop().status.code(), Some(0));
}
