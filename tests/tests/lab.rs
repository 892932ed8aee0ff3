//! Scenarios in the lab: a Debian guest with our package, real systemd and
//! cgroup v2.
//!
//! `tests/lab/NAME.sh` is a scenario; those of [`scenario`] share one boot and
//! run one after the other. The one rule: a scenario cleans up before itself,
//! not behind, so that one that failed does not fail the next.

use std::sync::{Mutex, PoisonError};

use e2e::lab::{Disk, Guest, obstacle};
use e2e::tree::repository;

#[path = "lab/power.rs"]
mod power;

/// The guest the scenarios share, one at a time.
static SHARED: Mutex<Option<Guest>> = Mutex::new(None);

/// Runs `tests/lab/NAME.sh` in the shared guest.
#[track_caller]
fn scenario(name: &str) {
    if let Some(reason) = obstacle() {
        println!("SKIPPED: {reason}");
        return;
    }
    let path = repository().join(format!("tests/lab/{name}.sh"));
    let script = std::fs::read_to_string(&path).expect("a scenario");
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    // Taken out: a guest that does not answer is not given to the next one.
    let mut guest = match shared.take() {
        Some(guest) => guest,
        None => Guest::boot(Disk::Throwaway).unwrap_or_else(|error| panic!("{error:#}")),
    };
    let verdict = guest
        .run(name, &script)
        .unwrap_or_else(|error| panic!("{error:#}"));
    *shared = Some(guest);
    assert_eq!(verdict.code, 0, "{name}:\n{}", verdict.log);
    println!("{}", verdict.log);
}

#[test]
fn vlans_netem_and_pppoe_with_chap_work_in_the_guest() {
    scenario("network");
}

#[test]
fn a_child_outlives_whatever_systemd_or_a_kill_does_to_bootagent() {
    scenario("service");
}

#[test]
fn limits_of_cgroup_v2_are_enforced() {
    scenario("limits");
}

#[test]
fn a_clock_that_is_set_restarts_and_stalls_nothing() {
    scenario("clock");
}

#[test]
fn a_clock_that_is_set_spoils_no_measurement() {
    scenario("probe_clock");
}

#[test]
fn a_full_disk_stops_no_supervision_and_is_made_good() {
    scenario("disk_full");
}

#[test]
fn a_root_that_becomes_read_only_stops_no_supervision_and_is_made_good() {
    scenario("read_only");
}

#[test]
fn without_a_scope_children_live_at_the_top_after_three_tries() {
    scenario("no_scope");
}

#[test]
fn every_scenario_is_run() {
    let tests = include_str!("lab.rs");
    let folder = repository().join("tests/lab");
    for entry in std::fs::read_dir(folder).expect("scenarios").flatten() {
        let file = entry.file_name().into_string().expect("UTF-8");
        let name = file.strip_suffix(".sh").expect("scripts only");
        let call = format!("scenario(\"{name}\")");
        assert!(name == "lib" || tests.contains(&call), "nobody runs {file}");
    }
}
