use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// A parent of its own for each test; removed even when the test fails.
struct Parent(Cgroups);

impl Parent {
    fn new(test: &str) -> Option<Self> {
        let cgroups = Cgroups::open(&format!("bootagent-test-{test}-{}", std::process::id()));
        if let Cgroups::Unavailable(reason) = &cgroups {
            println!("SKIPPED: cgroup test {test}: {reason}");
            return None;
        }
        Some(Self(cgroups))
    }

    fn group(&self) -> Group {
        self.0
            .group("child")
            .expect("a group can be made")
            .expect("cgroups are there")
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        for name in self.0.names() {
            if let Ok(Some(group)) = self.0.group(&name) {
                group.kill();
                let _ = wait_until(|| group.processes().is_empty());
                let _ = group.remove();
            }
        }
        self.0.remove_if_empty();
    }
}

fn wait_until(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

fn limits(text: &str) -> Limits {
    serde_json::from_str(text).expect("valid limits")
}

#[test]
fn limits_are_taken_and_lifted_again() {
    let Some(parent) = Parent::new("limits") else {
        return;
    };
    let group = parent.group();
    let wanted = limits(r#"{"CPU":"10%","memory":"20M","pids":7}"#);
    assert!(group.limit(&wanted).is_empty());
    assert!(
        group
            .limit(&limits(r#"{"CPU":"250%","memory":"4M"}"#))
            .is_empty()
    );
    assert!(group.limit(&Limits::default()).is_empty());
}

#[test]
fn a_session_leader_that_ignores_term_is_killed_with_its_group() {
    let Some(parent) = Parent::new("kill") else {
        return;
    };
    let group = parent.group();
    let script = "trap '' TERM; setsid sleep 300 & read line; setsid sleep 300 & wait";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::piped())
        .spawn()
        .expect("sh is there");
    group
        .attach(i32::try_from(child.id()).expect("pids fit"))
        .expect("attached");
    drop(child.stdin.take());
    assert!(
        wait_until(|| group.processes().len() >= 2),
        "{:?}",
        group.processes()
    );
    group.kill();
    child.wait().expect("our child");
    assert!(wait_until(|| group.is_empty()));
}

#[test]
fn an_out_of_memory_kill_is_counted() {
    let Some(parent) = Parent::new("oom") else {
        return;
    };
    let group = parent.group();
    assert!(group.limit(&limits(r#"{"memory":"8M"}"#)).is_empty());
    let mut child = Command::new("sh")
        .args([
            "-c",
            "read line; exec dd if=/dev/zero of=/dev/null bs=100M count=1",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("sh is there");
    group
        .attach(i32::try_from(child.id()).expect("pids fit"))
        .expect("attached");
    drop(child.stdin.take());
    let status = child.wait().expect("our child");
    assert!(!status.success());
    assert!(
        group.usage().oom_kills.is_none_or(|count| count >= 1),
        "{:?}",
        group.usage()
    );
}

#[test]
fn a_group_that_was_left_frozen_runs_again_once_it_is_opened() {
    let Some(parent) = Parent::new("frozen") else {
        return;
    };
    let Group::Version1(hierarchies) = parent.group() else {
        // On version 2 nothing is ever frozen: cgroup.kill is one write.
        return;
    };
    let state = |state: &str| {
        let folder = mounts::read().version1["freezer"].join(format!(
            "bootagent-test-frozen-{}/child/freezer.state",
            std::process::id()
        ));
        if !state.is_empty() {
            write(&folder, state).expect("writable");
        }
        read(&folder).expect("readable")
    };
    assert_ne!(state("FROZEN"), "THAWED");
    drop(hierarchies);
    drop(parent.group());
    assert_eq!(state(""), "THAWED");
}
